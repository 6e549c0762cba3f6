// A learned causal filter along the time steps, the same for all neurons of a layer, and its gradient. Arrays [B, T, N].
//
// A block takes 32 neurons of a sample, a lane each; its four warps share 32 steps (or filter entries), OWN consecutive ones
// each. Tiles of 32 steps pass through shared memory. From one step to the next a thread's OWN numbers of the sliding operand
// move by one place: they stay in registers, as a ring, and only one is read anew.
#include "common/block.cuh"

constexpr int TILE = 32, OWN = 8, WARPS = TILE / OWN;

// currents [B, T, N] += bias [N].
template <typename real>
__global__ void __launch_bounds__(256) add_bias(real* currents, long long size, int n, const real* __restrict__ bias) {
    const long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place < size) currents[place] += bias[place % n];
}

// Steps t0 ... of 32 neurons into shared memory, zeros beyond the last step or neuron. By all 128 threads.
template <typename real, int steps>
__device__ __forceinline__ void load_tile(real (&tile)[steps][TILE], const real* sample, int t0, int n_steps, int i, int n) {
#pragma unroll
    for (int row = threadIdx.y; row < steps; row += WARPS) {
        const int t = t0 + row;
        tile[row][threadIdx.x] = t < n_steps && i < n ? sample[(size_t)t * n + i] : real(0);
    }
}

// out[t] = sum_{s <= t} response[t - s] in[s], or with backward out[t] = sum_{s >= t} response[s - t] in[s]. Tiles that lie wholly
// on the other side of the diagonal are skipped.
template <bool backward, typename real>
__device__ __forceinline__ void filter_steps(int n_steps, int n, const real* __restrict__ in, const real* __restrict__ response,
                                             real* __restrict__ out) {
    __shared__ real tile[TILE][TILE];  // [step, neuron]
    __shared__ real near[2 * TILE];    // response at distance + delta, distance in (-32, 32)
    const int i = blockIdx.x * TILE + threadIdx.x, t0 = blockIdx.y * TILE, own = threadIdx.y * OWN;
    const int thread = threadIdx.y * TILE + threadIdx.x;
    in += (size_t)blockIdx.z * n_steps * n;
    out += (size_t)blockIdx.z * n_steps * n;
    real sums[OWN] = {};
    const int begin = backward ? t0 : 0, end = backward ? n_steps : t0 + 1;
    for (int s0 = begin; s0 < end; s0 += TILE) {
        const int delta = backward ? s0 - t0 : t0 - s0;  // of the tiles' first steps
        __syncthreads();
        load_tile(tile, in, s0, n_steps, i, n);
        if (thread < 2 * TILE - 1) {
            const int distance = delta + thread - (TILE - 1);
            near[thread] = distance >= 0 && distance < n_steps ? response[distance] : real(0);
        }
        __syncthreads();
        const real* zero = near + TILE - 1 + (backward ? -own : own);  // entry between the first steps of tile and warp
        real ring[OWN];  // response between step r of the warp and a row, at place r - row, or with backward row - r
#pragma unroll
        for (int r = 1; r < OWN; ++r) ring[backward ? OWN - r : r] = zero[backward ? -r : r];
#pragma unroll
        for (int row = 0; row < TILE; ++row) {
            ring[(backward ? row : -row) & (OWN - 1)] = zero[backward ? row : -row];
            const real value = tile[row][threadIdx.x];
#pragma unroll
            for (int r = 0; r < OWN; ++r) sums[r] += ring[(backward ? row - r : r - row) & (OWN - 1)] * value;
        }
    }
#pragma unroll
    for (int r = 0; r < OWN; ++r) {
        const int t = t0 + own + r;
        if (t < n_steps && i < n) out[(size_t)t * n + i] = sums[r];
    }
}

// blocks (ceil(N / 32), ceil(T / 32), B), 32 x 4 threads.
template <typename real>
__global__ void __launch_bounds__(128) temporal_filter(int n_steps, int n, const real* in, const real* response, real* out) {
    filter_steps<false>(n_steps, n, in, response, out);
}

// blocks (ceil(N / 32), ceil(T / 32), B), 32 x 4 threads.
template <typename real>
__global__ void __launch_bounds__(128) temporal_filter_backward(int n_steps, int n, const real* in, const real* response, real* out) {
    filter_steps<true>(n_steps, n, in, response, out);
}

// sums [B, T]: sums[b, d] = sum over neurons and t of errors[t + d] currents[t]. blocks (ceil(T / 32), B), 32 x 4 threads.
template <typename real>
__global__ void __launch_bounds__(128) filter_gradient(int n_steps, int n, const real* __restrict__ errors,
                                                       const real* __restrict__ currents, real* __restrict__ sums) {
    __shared__ real now[TILE][TILE], later[2 * TILE][TILE];  // [step, neuron]: currents from t0 on, errors from t0 + d0 on
    const int d0 = blockIdx.x * TILE, own = threadIdx.y * OWN, lane = threadIdx.x;
    errors += (size_t)blockIdx.y * n_steps * n;
    currents += (size_t)blockIdx.y * n_steps * n;
    real totals[OWN] = {};
    for (int i0 = 0; i0 < n; i0 += TILE) {
        for (int t0 = 0; t0 + d0 < n_steps; t0 += TILE) {
            __syncthreads();
            load_tile(now, currents, t0, n_steps, i0 + lane, n);
            load_tile(later, errors, t0 + d0, n_steps, i0 + lane, n);
            __syncthreads();
            real ring[OWN];  // errors from the warp's distance r on, at place row + r
#pragma unroll
            for (int r = 0; r < OWN - 1; ++r) ring[r] = later[own + r][lane];
#pragma unroll
            for (int row = 0; row < TILE; ++row) {
                ring[(row + OWN - 1) & (OWN - 1)] = later[own + row + OWN - 1][lane];
                const real current = now[row][lane];
#pragma unroll
                for (int r = 0; r < OWN; ++r) totals[r] += ring[(row + r) & (OWN - 1)] * current;
            }
        }
    }
#pragma unroll
    for (int r = 0; r < OWN; ++r) {
        const real total = warp_sum(totals[r]);
        const int d = d0 + own + r;
        if (lane == 0 && d < n_steps) sums[(size_t)blockIdx.y * n_steps + d] = total;
    }
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
