// Spike trains to event lists: a block per sample gathers the spikes, then a bitonic network sorts them by time, neuron and
// slot. The key is unique, so the result does not depend on the network's instability. Lists that fit shared memory are
// sorted there, longer ones by the same network in place in global memory. Elements past the end count as +infinity:
// every comparator moves the larger one up, so a partner past the end is simply left alone.
//
// sort_events: a block per sample. sort_parts and merge_parts: several blocks per sample, each for a part of the neurons; then
// every spike counts the spikes of the other parts that come before it, and knows its place.
#include "common/block.cuh"
#include "events/bitonic.cuh"

// Gathers and sorts the spikes of neurons first ... first + n - 1 of a sample -> their number. The sorted list is in *list_times,
// *list_ranks: in shared memory, or, if too long, in global_times, global_ranks. A rank is neuron * n_slots + slot: it orders equal times.
template <typename real>
__device__ int gather_and_sort(const real* trains, const int* train_counts, int n_neurons, int n_slots, int first, int n,
                               int shared_capacity, real* global_times, int* global_ranks, real** list_times, int** list_ranks) {
    extern __shared__ double shared_memory[];
    real* shared_times = reinterpret_cast<real*>(shared_memory);
    int total;
    // Each thread gathers a stretch of neighbouring neurons.
    const int stretch = (n + blockDim.x - 1) / blockDim.x;
    const int begin = first + min((int)threadIdx.x * stretch, n), end = min(begin + stretch, first + n);
    int mine = 0;
    for (int i = begin; i < end; ++i) mine += train_counts[i];
    int place = block_exclusive_sum(mine, &total);
    const bool fits = total <= shared_capacity;
    real* times = fits ? shared_times : global_times;
    int* ranks = fits ? reinterpret_cast<int*>(shared_times + shared_capacity) : global_ranks;
    for (int i = begin; i < end; ++i) {
        const int count = train_counts[i];
        constexpr int AHEAD = 4;
        for (int slot = 0; slot < count; slot += AHEAD) {
            real t[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) t[u] = trains[(size_t)min(slot + u, count - 1) * n_neurons + i];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                if (slot + u >= count) break;
                times[place] = t[u];
                ranks[place] = i * n_slots + slot + u;
                ++place;
            }
        }
    }
    __syncthreads();
    bitonic_sort(times, ranks, total);
    *list_times = times;
    *list_ranks = ranks;
    return total;
}

template <typename real>
__global__ void __launch_bounds__(1024) sort_events(
        const real* __restrict__ trains,       // [B, n_slots, n_neurons]
        const int* __restrict__ train_counts,  // [B, n_neurons]
        int n_neurons, int n_slots, int shared_capacity,
        real* times,                           // [B, n_neurons * n_slots]
        int* neurons, int* positions,          // [B, n_neurons * n_slots]; the same array if n_slots is 1
        int* __restrict__ counts) {            // [B]
    const size_t b = blockIdx.x, start = b * n_neurons * n_slots;  // b in [0, B)
    real* list_times;
    int* list_ranks;
    const int total = gather_and_sort(trains + start, train_counts + b * n_neurons, n_neurons, n_slots, 0, n_neurons,
                                      shared_capacity, times + start, positions + start, &list_times, &list_ranks);
    for (int e = threadIdx.x; e < total; e += blockDim.x) {
        const int rank = list_ranks[e], neuron = rank / n_slots, slot = rank % n_slots;
        if (list_times != times + start) times[start + e] = list_times[e];
        positions[start + e] = slot * n_neurons + neuron;
        if (neurons != positions) neurons[start + e] = neuron;
    }
    if (threadIdx.x == 0) counts[b] = total;
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (B, parts): part p owns neurons p * width ... (p + 1) * width - 1; its list begins at p * width * n_slots.
template <typename real>
__global__ void __launch_bounds__(512) sort_parts(
        const real* __restrict__ trains, const int* __restrict__ train_counts, int n_neurons, int n_slots, int width, int shared_capacity,
        real* part_times, int* part_ranks,  // [B, n_neurons * n_slots]
        int* __restrict__ part_counts) {    // [B, parts]
    const size_t b = blockIdx.x, capacity = (size_t)n_neurons * n_slots;
    const int first = blockIdx.y * width, n = max(0, min(width, n_neurons - first));
    const size_t start = b * capacity + (size_t)min(first, n_neurons) * n_slots;
    real* list_times;
    int* list_ranks;
    const int total = gather_and_sort(trains + b * capacity, train_counts + b * n_neurons, n_neurons, n_slots, first, n,
                                      shared_capacity, part_times + start, part_ranks + start, &list_times, &list_ranks);
    for (int e = threadIdx.x; e < total && list_times != part_times + start; e += blockDim.x) {
        part_times[start + e] = list_times[e];
        part_ranks[start + e] = list_ranks[e];
    }
    if (threadIdx.x == 0) part_counts[b * gridDim.y + blockIdx.y] = total;
}

// blocks (any, B). All parts are searched at once: their loads do not wait for each other.
template <typename real>
__global__ void __launch_bounds__(256) merge_parts(
        const real* __restrict__ part_times, const int* __restrict__ part_ranks, const int* __restrict__ part_counts,
        int n_neurons, int n_slots, int width,
        real* __restrict__ times, int* __restrict__ neurons, int* __restrict__ positions, int* __restrict__ counts) {
    constexpr int PARTS = 8;
    const size_t b = blockIdx.y, start = b * n_neurons * n_slots;
    int n[PARTS], total = 0, longest = 0;
#pragma unroll
    for (int p = 0; p < PARTS; ++p) {
        n[p] = part_counts[b * PARTS + p];
        total += n[p];
        longest = max(longest, n[p]);
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) counts[b] = total;
    for (int item = blockIdx.x * blockDim.x + threadIdx.x; item < total; item += gridDim.x * blockDim.x) {
        int own = 0, e = item;  // the item-th spike of all parts, one after the other
#pragma unroll
        for (int p = 0; p < PARTS; ++p) {
            if (own == p && e >= n[p] && p + 1 < PARTS) {
                e -= n[p];
                ++own;
            }
        }
        const size_t part = start + (size_t)own * width * n_slots;
        const real t = part_times[part + e];
        int place = 0, low[PARTS], high[PARTS];
#pragma unroll
        for (int p = 0; p < PARTS; ++p) {
            low[p] = 0;
            high[p] = n[p];
        }
        for (int left = longest; left > 0; left >>= 1) {
#pragma unroll
            for (int p = 0; p < PARTS; ++p) {
                if (low[p] >= high[p]) continue;
                const int middle = (low[p] + high[p]) >> 1;
                const real other = part_times[start + (size_t)p * width * n_slots + middle];
                if (other < t || (other == t && p < own)) low[p] = middle + 1;  // equal times: lower neurons first
                else high[p] = middle;
            }
        }
#pragma unroll
        for (int p = 0; p < PARTS; ++p) place += p == own ? e : low[p];
        const int rank = part_ranks[part + e], neuron = rank / n_slots, slot = rank % n_slots;
        times[start + place] = t;
        positions[start + place] = slot * n_neurons + neuron;
        if (neurons != positions) neurons[start + place] = neuron;
    }
}
