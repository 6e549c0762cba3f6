// Fused step of several hidden layers: the spikes of a layer sorted for the next one, where lists are too long, or samples too many,
// for every block of the next layer to sort for itself. A block per sample, up to 1024 threads.
#include "fused/deep.cuh"

// Shared memory: buckets [BUCKETS * blockDim], then two lists of `capacity` spikes. A list that outgrows it is sorted in global memory.
template <typename real>
__global__ void __launch_bounds__(1024) deep_sort(
        const real* __restrict__ factors, const int* __restrict__ counts,  // [batch, n_slots, n_neurons], [batch, n_neurons]
        int n_neurons, int n_slots, real last_factor, int capacity,
        real* list_q, unsigned* list_places, int* list_counts,  // [batch, n_slots * n_neurons]: what comes out, and [batch]
        real* other_q, unsigned* other_places) {                // room of the same size, for lists that outgrow shared memory
    extern __shared__ double shared_memory[];
    start_after_previous();
    int* buckets = reinterpret_cast<int*>(shared_memory);
    SpikeList<real> list;
    list.q = reinterpret_cast<real*>(buckets + BUCKETS * blockDim.x), list.other_q = list.q + capacity;
    list.place = reinterpret_cast<unsigned*>(list.other_q + capacity), list.other_place = list.place + capacity;
    const size_t s = blockIdx.x, worst = (size_t)n_slots * n_neurons;
    counts += s * n_neurons;
    int mine = 0, n;
    for (int i = threadIdx.x; i < n_neurons; i += blockDim.x) mine += counts[i];
    block_exclusive_sum(mine, &n);
    const bool global = n > capacity;
    if (global) list = {other_q + s * worst, list_q + s * worst, other_places + s * worst, list_places + s * worst};
    sort_spikes(list, factors + s * worst, counts, n_neurons, n_slots, buckets, last_factor);
    if (threadIdx.x == 0) list_counts[s] = n;
    for (int j = threadIdx.x; j < n && !global; j += blockDim.x) {
        list_q[s * worst + j] = list.other_q[j];
        list_places[s * worst + j] = list.other_place[j];
    }
}
