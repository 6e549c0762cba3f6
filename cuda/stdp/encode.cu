// Images -> latencies: filter bank, local normalization, rank order. Sums run over the window rows, then columns, rounded after
// every operation (no fused multiply-add), so that the CPU gives the same bits.

#include "common/block.cuh"

__device__ __forceinline__ float accumulate(float total, float a, float b) { return __fadd_rn(total, __fmul_rn(a, b)); }
__device__ __forceinline__ double accumulate(double total, double a, double b) { return __dadd_rn(total, __dmul_rn(a, b)); }

// images [n, height, width], kernels [K, window, window] -> out [n, K, rows, columns]; block per (image, kernel).
template <typename real>
__global__ void filter_maps(
    const real* images, int height, int width, const real* kernels, const int* sizes, const real* thresholds, int window, int padding,
    int absolute, real* out
) {
    const int rows = height + 2 * padding - window + 1, columns = width + 2 * padding - window + 1;
    const int size = sizes[blockIdx.y], offset = (window - size) / 2 - padding;
    const real* image = images + (size_t)blockIdx.x * height * width;
    const real* kernel = kernels + (size_t)blockIdx.y * window * window;
    out += ((size_t)blockIdx.x * gridDim.y + blockIdx.y) * rows * columns;
    for (int place = threadIdx.x; place < rows * columns; place += blockDim.x) {
        const int y = place / columns + offset, x = place % columns + offset;
        real total = 0;
        for (int dy = max(0, -y); dy < min(size, height - y); ++dy)
            for (int dx = max(0, -x); dx < min(size, width - x); ++dx)
                total = accumulate(total, image[(y + dy) * width + x + dx], kernel[dy * window + dx]);
        if (total < thresholds[blockIdx.y]) total = 0;
        out[place] = absolute ? abs(total) : total;
    }
}

// maps [n, C, height, width] -> each value over the mean of its window; block per map.
template <typename real>
__global__ void local_normalization(const real* maps, int height, int width, int radius, real* out) {
    extern __shared__ double sums[];  // [height, width], of a row of the window; then the map itself
    real* map = (real*)(sums + height * width);
    const size_t base = ((size_t)blockIdx.x * gridDim.y + blockIdx.y) * height * width;
    for (int place = threadIdx.x; place < height * width; place += blockDim.x) map[place] = maps[base + place];
    __syncthreads();
    for (int place = threadIdx.x; place < height * width; place += blockDim.x) {
        const int r = place / width, c = place % width;
        double total = 0;
        for (int x = max(0, c - radius); x < min(width, c + radius + 1); ++x) total += map[r * width + x];
        sums[place] = total;
    }
    __syncthreads();
    const double area = (2.0 * radius + 1) * (2.0 * radius + 1);
    for (int place = threadIdx.x; place < height * width; place += blockDim.x) {
        const int r = place / width, c = place % width;
        double total = 0;
        for (int y = max(0, r - radius); y < min(height, r + radius + 1); ++y) total += sums[y * width + c];
        out[base + place] = map[place] == 0 ? real(0) : (real)(map[place] / (total / area + 1e-12));
    }
}

// maps [n, size] -> latencies [n, size]; block per image. A value's rank is the number of larger ones, or equal ones before it:
// counted over the positive values, which are compacted first, in order, into shared memory or, if they do not fit, into scratch.
template <typename real>
__global__ void rank_latencies(const real* maps, int size, int n_bins, int fits, real* scratch, unsigned char* latencies) {
    extern __shared__ double room[];
    real* values = fits ? (real*)room : scratch + (size_t)blockIdx.x * 2 * size;
    int* places = (int*)(values + size);
    const real* map = maps + (size_t)blockIdx.x * size;
    unsigned char* out = latencies + (size_t)blockIdx.x * size;
    int n = 0;
    for (int i0 = 0; i0 < size; i0 += blockDim.x) {
        const int i = i0 + threadIdx.x;
        const real value = i < size ? map[i] : real(0);
        if (i < size) out[i] = n_bins;
        int total;
        const int at = n + block_exclusive_sum(value != 0, &total);
        if (value != 0) {
            values[at] = value;
            places[at] = i;
        }
        n += total;
    }
    __syncthreads();
    const int per_bin = n / n_bins;
    for (int i = threadIdx.x; i < n && per_bin > 0; i += blockDim.x) {
        const real value = values[i];
        int rank = 0;
        for (int j = 0; j < n; ++j) rank += values[j] > value || (values[j] == value && j < i);
        if (rank < per_bin * n_bins) out[places[i]] = rank / per_bin;
    }
}
