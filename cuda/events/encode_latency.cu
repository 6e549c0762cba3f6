// Images to event lists: one spike per pixel, brighter is earlier, value 0 does not spike.
// A counting sort per sample in which thread v owns pixel value v: it counts its pixels, then writes them in the order of
// their index. No atomics, so the order is the same every time.
#include "common/block.cuh"

template <typename real>
__global__ void __launch_bounds__(256) encode_latency(
        const unsigned char* __restrict__ images,  // [n, n_pixels]
        const int* __restrict__ indices,           // [B]: the images to encode
        const real* __restrict__ latencies,        // [256] seconds
        int n_pixels, int capacity,
        real* __restrict__ times,                  // [B, capacity]
        int* __restrict__ neurons,                 // [B, capacity]
        int* __restrict__ counts) {                // [B]
    constexpr int PIECE = 4096;
    __shared__ __align__(4) unsigned char pixels[PIECE];
    const int b = blockIdx.x;              // b in [0, B)
    const int value = 255 - threadIdx.x;   // thread 0 owns the brightest, the earliest
    const unsigned char* image = images + (size_t)indices[b] * n_pixels;

    int mine = 0;
    for (int first = 0; first < n_pixels; first += PIECE) {
        const int n = min(PIECE, n_pixels - first);
        __syncthreads();
        for (int p = threadIdx.x; p < n; p += blockDim.x) pixels[p] = image[first + p];
        __syncthreads();
        for (int p = 0; p < n; ++p) mine += pixels[p] == value;
    }
    if (value == 0) mine = 0;
    int total;
    size_t place = (size_t)b * capacity + block_exclusive_sum(mine, &total);
    const real latency = latencies[value];
    for (int first = 0; first < n_pixels; first += PIECE) {
        const int n = min(PIECE, n_pixels - first);
        if (n_pixels > PIECE) {  // else the pixels are still in shared memory
            __syncthreads();
            for (int p = threadIdx.x; p < n; p += blockDim.x) pixels[p] = image[first + p];
            __syncthreads();
        }
        if (mine == 0) continue;
        for (int p = 0; p < n; ++p) {
            if (pixels[p] == value) {
                times[place] = latency;
                neurons[place] = first + p;
                ++place;
            }
        }
    }
    if (threadIdx.x == 0) counts[b] = total;
}

// The next batch of an order that stays on the device: indices = order[cursor ...], their labels, cursor += batch. One block.
// (The template parameter is unused: every kernel of the project is named by its precision.)
template <typename real>
__global__ void next_batch(const int* __restrict__ order, long long* cursor, const int* __restrict__ all_labels, int batch,
                           int* __restrict__ indices, int* __restrict__ labels) {
    const long long first = *cursor;
    __syncthreads();
    if (threadIdx.x == 0) *cursor = first + batch;
    for (int b = threadIdx.x; b < batch; b += blockDim.x) {
        const int index = order[first + b];
        indices[b] = index;
        labels[b] = all_labels[index];
    }
}

// Rows `indices` of spike trains [n, K, N], [n, N] that stay on the device.
template <typename real>
__global__ void gather_spike_trains(const real* __restrict__ times, const int* __restrict__ counts,
                                    const int* __restrict__ indices, int n_neurons, int n_slots,
                                    real* __restrict__ out_times, int* __restrict__ out_counts) {
    const size_t from = indices[blockIdx.y], to = blockIdx.y;
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < n_neurons) out_counts[to * n_neurons + n] = counts[from * n_neurons + n];
    if (n < n_neurons * n_slots) {
        out_times[to * n_neurons * n_slots + n] = times[from * n_neurons * n_slots + n];
    }
}
