// Images to event lists: one spike per pixel, brighter is earlier, value 0 does not spike.
// A counting sort per sample in which thread v owns pixel value v. Small images are dropped into a bucket per value, in any order, and
// each pixel counts the lower indices in its bucket; of large ones, or where a bucket is crowded, each thread
// looks through the image for pixels of its value. Either way the order is that of the index: the same every time.
#include "common/block.cuh"
#include "conv/records.cuh"
#include "fused/dependent_launch.cuh"

// Copies pixels first ... first + n - 1 into shared words, filled up with 0 (no spike); returns the number of words.
__device__ __forceinline__ int load_piece(const unsigned char* image, int first, int n, unsigned* words) {
    __syncthreads();
    const int n_words = (n + 3) / 4;
    unsigned char* pixels = reinterpret_cast<unsigned char*>(words);
    for (int p = threadIdx.x; p < 4 * n_words; p += blockDim.x) pixels[p] = p < n ? image[first + p] : 0;
    __syncthreads();
    return n_words;
}

// Where the events of a sample go; with a convolution behind, also factor and place of every event, from which it starts
// (conv/conv_forward.cu).
template <typename real>
struct EncodedList {
    real* times;
    int* neurons;
    const unsigned* place_of_neuron;  // null: no places
    real tau;
    real* factors;
    unsigned* places;
};

template <typename real>
__device__ __forceinline__ void write_event(const EncodedList<real>& list, int at, real time, int neuron) {
    list.times[at] = time;
    list.neurons[at] = neuron;
    if (!list.place_of_neuron) return;
    list.factors[at] = bounded_factor(time, list.tau);
    list.places[at] = list.place_of_neuron[neuron];
}

// Encodes one image by a block of 256 threads.
template <typename real>
__device__ __forceinline__ void encode_image(const unsigned char* image, const real* latencies, int n_pixels, const EncodedList<real>& list,
                                             int* count) {
    constexpr int PIECE = 4096, CROWDED = 256;
    __shared__ unsigned words[PIECE / 4];  // four pixels each
    __shared__ int ends[256], fullest;
    __shared__ unsigned short bucket_pixels[PIECE];
    const unsigned value = 255 - threadIdx.x;  // thread 0 owns the brightest, the earliest
    const unsigned wanted = value * 0x01010101u;
    int mine = 0;
    if (n_pixels <= PIECE) {
        ends[threadIdx.x] = 0;
        if (threadIdx.x == 0) fullest = 0;
        load_piece(image, 0, n_pixels, words);
        const unsigned char* pixels = reinterpret_cast<const unsigned char*>(words);
        for (int p = threadIdx.x; p < n_pixels; p += blockDim.x) {
            if (pixels[p] > 0) atomicAdd(&ends[255 - pixels[p]], 1);
        }
        __syncthreads();
        mine = ends[threadIdx.x];
        if (mine > CROWDED) atomicMax(&fullest, mine);
    } else {
        for (int first = 0; first < n_pixels; first += PIECE) {
            const int n_words = load_piece(image, first, min(PIECE, n_pixels - first), words);
#pragma unroll 8
            for (int w = 0; w < n_words; ++w) mine += __popc(__vcmpeq4(words[w], wanted));
        }
        mine = value == 0 ? 0 : mine / 8;  // every equal pixel set 8 bits
    }
    int total;
    const int before = block_exclusive_sum(mine, &total);  // waits for all
    if (threadIdx.x == 0) *count = total;
    if (n_pixels <= PIECE && fullest <= CROWDED) {
        const unsigned char* pixels = reinterpret_cast<const unsigned char*>(words);
        ends[threadIdx.x] = before;  // moves from the start of the bucket to its end
        __syncthreads();
        for (int p = threadIdx.x; p < n_pixels; p += blockDim.x) {
            if (pixels[p] > 0) bucket_pixels[atomicAdd(&ends[255 - pixels[p]], 1)] = p;
        }
        __syncthreads();
        for (int k = threadIdx.x; k < total; k += blockDim.x) {
            const int p = bucket_pixels[k], bucket = 255 - pixels[p], begin = bucket > 0 ? ends[bucket - 1] : 0;
            int rank = begin;
            for (int other = begin; other < ends[bucket]; ++other) rank += bucket_pixels[other] < p;
            write_event(list, rank, latencies[pixels[p]], p);
        }
        return;
    }
    int place = before;
    const real latency = latencies[value];
    for (int first = 0; first < n_pixels; first += PIECE) {
        const int n = min(PIECE, n_pixels - first);
        const int n_words = n_pixels > PIECE ? load_piece(image, first, n, words) : (n + 3) / 4;
        if (mine == 0) continue;
#pragma unroll 4
        for (int w = 0; w < n_words; ++w) {
            // One bit per equal pixel, lowest first.
            for (unsigned equal = __vcmpeq4(words[w], wanted) & 0x01010101u; equal; equal &= equal - 1) {
                write_event(list, place, latency, first + 4 * w + (__ffs(equal) - 1) / 8);
                ++place;
            }
        }
    }
}

template <typename real>
__global__ void __launch_bounds__(256) encode_latency(
        const unsigned char* __restrict__ images,  // [n, n_pixels]
        const int* __restrict__ indices,           // [B]: the images to encode
        const real* __restrict__ latencies,        // [256] seconds
        int n_pixels, int capacity,
        real* __restrict__ times,                  // [B, capacity]
        int* __restrict__ neurons,                 // [B, capacity]
        int* __restrict__ counts) {                // [B]
    const size_t b = blockIdx.x, start = b * capacity;
    const EncodedList<real> list = {times + start, neurons + start, nullptr, 1, nullptr, nullptr};
    encode_image(images + (size_t)indices[b] * n_pixels, latencies, n_pixels, list, counts + b);
}

// next_batch (below) and encode_latency in one launch. ticket: 0 before and after.
template <typename real>
__global__ void __launch_bounds__(256) encode_next(
        const unsigned char* __restrict__ images, const int* __restrict__ order, long long* cursor, const int* __restrict__ all_labels,
        int* __restrict__ indices, int* __restrict__ labels, const real* __restrict__ latencies, int n_pixels, int capacity,
        real* __restrict__ times, int* __restrict__ neurons, int* __restrict__ counts,
        const unsigned* __restrict__ place_of_neuron, int wants_places, real tau, real* __restrict__ factors, unsigned* __restrict__ places,
        unsigned* ticket) {
    __shared__ int index;
    start_after_previous();
    const size_t b = blockIdx.x, start = b * capacity;
    if (threadIdx.x == 0) {
        const long long first = *reinterpret_cast<volatile long long*>(cursor);
        index = order[first + b];
        indices[b] = index;
        labels[b] = all_labels[index];
        __threadfence();
        if (atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1) *cursor = first + gridDim.x;  // all blocks have read it
    }
    __syncthreads();
    const EncodedList<real> list = {times + start, neurons + start, wants_places ? place_of_neuron : nullptr, tau, factors + start, places + start};
    encode_image(images + (size_t)index * n_pixels, latencies, n_pixels, list, counts + b);
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
