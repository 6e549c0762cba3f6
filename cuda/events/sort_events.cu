// Spike trains to event lists: a block per sample gathers the spikes, then a bitonic network sorts them by time, neuron and
// slot. The key is unique, so the result does not depend on the network's instability. Lists that fit shared memory are
// sorted there, longer ones by the same network in place in global memory. Elements past the end count as +infinity:
// every comparator moves the larger one up, so a partner past the end is simply left alone.
#include "common/block.cuh"

template <typename real>
__device__ __forceinline__ void order(real* times, int* ranks, int low, int high) {
    const real t = times[low], u = times[high];
    const int p = ranks[low], q = ranks[high];
    if (t > u || (t == u && p > q)) {
        times[low] = u;
        times[high] = t;
        ranks[low] = q;
        ranks[high] = p;
    }
}

template <typename real>
__device__ void bitonic_sort(real* times, int* ranks, int n) {
    int size_log = 0;
    while ((1 << size_log) < n) ++size_log;
    const int half = size_log > 0 ? 1 << (size_log - 1) : 0;
    for (int run = 1; run <= size_log; ++run) {
        // Mirror step: element i of a run of 2^run meets element 2^run - 1 - i.
        for (int pair = threadIdx.x; pair < half; pair += blockDim.x) {
            const int inside = pair & ((1 << (run - 1)) - 1);
            const int base = (pair >> (run - 1)) << run;
            const int low = base + inside, high = base + (1 << run) - 1 - inside;
            if (high < n) order(times, ranks, low, high);
        }
        __syncthreads();
        for (int step = run - 2; step >= 0; --step) {
            for (int pair = threadIdx.x; pair < half; pair += blockDim.x) {
                const int low = ((pair >> step) << (step + 1)) + (pair & ((1 << step) - 1));
                const int high = low + (1 << step);
                if (high < n) order(times, ranks, low, high);
            }
            __syncthreads();
        }
    }
}

template <typename real>
__global__ void __launch_bounds__(1024) sort_events(
        const real* __restrict__ trains,       // [B, n_slots, n_neurons]
        const int* __restrict__ train_counts,  // [B, n_neurons]
        int n_neurons, int n_slots, int shared_capacity,
        real* times,                           // [B, n_neurons * n_slots]
        int* neurons, int* positions,          // [B, n_neurons * n_slots]; the same array if n_slots is 1
        int* __restrict__ counts) {            // [B]
    extern __shared__ double shared_memory[];
    real* shared_times = reinterpret_cast<real*>(shared_memory);
    int* shared_ranks = reinterpret_cast<int*>(shared_times + shared_capacity);
    const size_t b = blockIdx.x;  // b in [0, B)
    const int capacity = n_neurons * n_slots;
    times += b * capacity;
    neurons += b * capacity;
    positions += b * capacity;

    int total;
    // Each thread gathers a stretch of neighbouring neurons.
    const int stretch = (n_neurons + blockDim.x - 1) / blockDim.x;
    const int begin = min((int)threadIdx.x * stretch, n_neurons), end = min(begin + stretch, n_neurons);
    int mine = 0;
    for (int n = begin; n < end; ++n) mine += train_counts[b * n_neurons + n];
    int place = block_exclusive_sum(mine, &total);
    const bool fits = total <= shared_capacity;
    real* list_times = fits ? shared_times : times;
    int* list_ranks = fits ? shared_ranks : positions;  // neuron * n_slots + slot: what orders equal times
    for (int n = begin; n < end; ++n) {
        const int count = train_counts[b * n_neurons + n];
        constexpr int AHEAD = 4;
        for (int first = 0; first < count; first += AHEAD) {
            real t[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) t[u] = trains[b * capacity + (size_t)min(first + u, count - 1) * n_neurons + n];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                if (first + u >= count) break;
                list_times[place] = t[u];
                list_ranks[place] = n * n_slots + first + u;
                ++place;
            }
        }
    }
    __syncthreads();
    bitonic_sort(list_times, list_ranks, total);
    for (int e = threadIdx.x; e < total; e += blockDim.x) {
        const int neuron = list_ranks[e] / n_slots, slot = list_ranks[e] % n_slots;
        if (fits) times[e] = list_times[e];
        positions[e] = slot * n_neurons + neuron;
        if (neurons != positions) neurons[e] = neuron;
    }
    if (threadIdx.x == 0) counts[b] = total;
}
