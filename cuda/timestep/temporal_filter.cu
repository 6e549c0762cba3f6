// A learned causal filter along the time steps, the same for all neurons of a layer, and its gradient. Arrays [B, T, N].
//
// A block computes 32 steps of 32 neurons of a sample. Tiles of 32 input steps pass through shared memory beside the 63 filter
// entries that they meet; tiles that lie wholly on the other side of the diagonal are skipped.
#include "common/block.cuh"

constexpr int TILE = 32, ROWS = 8;  // threads: TILE neurons x ROWS, each with TILE / ROWS steps

// currents [B, T, N] += bias [N].
template <typename real>
__global__ void __launch_bounds__(256) add_bias(real* currents, long long size, int n, const real* __restrict__ bias) {
    const long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place < size) currents[place] += bias[place % n];
}

// out[t] = sum_{s <= t} response[t - s] in[s], or with backward out[t] = sum_{s >= t} response[s - t] in[s].
// blocks (ceil(N / 32), ceil(T / 32), B), 32 x 8 threads.
template <typename real>
__global__ void __launch_bounds__(256) temporal_filter(int n_steps, int n, const real* __restrict__ in,
                                                       const real* __restrict__ response, int backward, real* __restrict__ out) {
    __shared__ real tile[TILE][TILE];        // [step, neuron]
    __shared__ real near[2 * TILE];          // response at distance + delta, distance in (-32, 32)
    const int i = blockIdx.x * TILE + threadIdx.x, t0 = blockIdx.y * TILE;
    const int thread = threadIdx.y * TILE + threadIdx.x;
    const size_t sample = (size_t)blockIdx.z * n_steps * n;
    real sums[TILE / ROWS] = {};
    const int begin = backward ? t0 : 0, end = backward ? n_steps : t0 + 1;
    for (int s0 = begin; s0 < end; s0 += TILE) {
        const int delta = backward ? s0 - t0 : t0 - s0;  // of the tiles' first steps
        __syncthreads();
        for (int row = threadIdx.y; row < TILE; row += ROWS) {
            const int s = s0 + row;
            tile[row][threadIdx.x] = s < n_steps && i < n ? in[sample + (size_t)s * n + i] : real(0);
        }
        if (thread < 2 * TILE - 1) {
            const int distance = delta + thread - (TILE - 1);
            near[thread] = distance >= 0 && distance < n_steps ? response[distance] : real(0);
        }
        __syncthreads();
#pragma unroll 8
        for (int row = 0; row < TILE; ++row) {
            const real value = tile[row][threadIdx.x];
#pragma unroll
            for (int r = 0; r < TILE / ROWS; ++r) {
                const int step = threadIdx.y + r * ROWS;
                sums[r] += near[(backward ? row - step : step - row) + TILE - 1] * value;
            }
        }
    }
    for (int r = 0; r < TILE / ROWS; ++r) {
        const int t = t0 + threadIdx.y + r * ROWS;
        if (t < n_steps && i < n) out[sample + (size_t)t * n + i] = sums[r];
    }
}

// sums [B, T]: sums[b, d] = sum over neurons and t of errors[t + d] currents[t]. blocks (T, B), 128 threads.
template <typename real>
__global__ void __launch_bounds__(128) filter_gradient(int n_steps, int n, const real* __restrict__ errors,
                                                       const real* __restrict__ currents, real* __restrict__ sums) {
    __shared__ real warp_sums[4];
    const int distance = blockIdx.x;
    const size_t b = blockIdx.y, sample = b * n_steps * n, terms = (size_t)(n_steps - distance) * n;
    errors += sample + (size_t)distance * n;
    currents += sample;
    real sum = 0;
    for (size_t place = threadIdx.x; place < terms; place += blockDim.x) sum += errors[place] * currents[place];
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) warp_sums[threadIdx.x >> 5] = sum;
    __syncthreads();
    if (threadIdx.x == 0) sums[b * n_steps + distance] = warp_sums[0] + warp_sums[1] + warp_sums[2] + warp_sums[3];
}

// out [T] = scale * rows [B, T] summed over B, in order. blocks ceil(T / 128), 128 threads.
template <typename real>
__global__ void __launch_bounds__(128) sum_rows(const real* __restrict__ rows, int batch, int n_steps, real scale,
                                                real* __restrict__ out) {
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n_steps) return;
    real sum = 0;
    for (int b = 0; b < batch; ++b) sum += rows[(size_t)b * n_steps + t];
    out[t] = sum * scale;
}
