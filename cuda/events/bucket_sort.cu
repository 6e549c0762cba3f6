// Spike trains to sorted event lists by a bucket sort in shared memory, a block per sample; sort_events.cu is the general one.
//
// Spikes are gathered in any order, counted per bucket of time, dropped into their bucket, and ranked inside it by comparison
// with the others there: by time, neuron and slot. The rank is unique, so the list is the same every time although integer
// atomics decide the order before it. If times crowd into few buckets, a bitonic network sorts the list instead.
// With a pooling layer behind, its neurons are written, and neurons in no window are left out; with a convolution behind that, also
// factor and place of every event, which it starts from (conv/conv_forward.cu), and who sees it, where it asks for that
// (conv/conv_forward_chunks.cu).
#include "common/block.cuh"
#include "common/constants.cuh"
#include "conv/field_masks.cuh"
#include "conv/records.cuh"
#include "events/bitonic.cuh"
#include "fused/dependent_launch.cuh"

constexpr int BUCKETS_PER_THREAD = 4;
constexpr int CROWDED = 128;  // spikes of a bucket beyond which the network is faster

// ----------------------------------------------------------------------------------------------------------------------
// blocks B, up to 1024 threads; shared memory: two lists of `room` times and ranks. room >= n_neurons * n_slots.
template <typename real>
__global__ void __launch_bounds__(1024, 1) bucket_sort(
        const real* trains,       // [B, n_slots, n_neurons]
        const int* train_counts,  // [B, n_neurons]
        int n_neurons, int n_slots, int room, int out_capacity,
        const int* __restrict__ pooled, int has_pooling,         // [n_neurons]: neuron of the pooling layer, -1: none
        real* __restrict__ times, int* neurons, int* positions,  // [B, out_capacity]; the same array if n_slots is 1 and nothing is pooled
        int* __restrict__ counts,              // [B]
        const unsigned* __restrict__ place_of_neuron, int wants_places,  // of the neurons that are written
        real tau, real* __restrict__ factors, unsigned* __restrict__ places,    // [B, out_capacity]
        FieldMasks masks) {
    extern __shared__ double shared_memory[];
    __shared__ int buckets[1024 * BUCKETS_PER_THREAD + 1];
    __shared__ int n_gathered, fullest;
    __shared__ real extremes[2][32];
    real* first_times = reinterpret_cast<real*>(shared_memory);
    real* second_times = first_times + room;
    int* first_ranks = reinterpret_cast<int*>(second_times + room);  // a rank is neuron * n_slots + slot: it orders equal times
    int* second_ranks = first_ranks + room;
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, n_buckets = blockDim.x * BUCKETS_PER_THREAD;
    const size_t b = blockIdx.x;
    trains += b * n_neurons * n_slots;
    train_counts += b * n_neurons;
    if (t == 0) n_gathered = fullest = 0;
    for (int k = t; k < n_buckets; k += blockDim.x) buckets[k] = 0;
    start_after_previous();
    __syncthreads();

    real low = Constants<real>::infinity(), high = 0;
    constexpr int AHEAD = 5;
    for (int first = 0; first < n_neurons; first += AHEAD * blockDim.x) {
        int count[AHEAD], mine = 0;
        real time[AHEAD];  // of the first spike, loaded whether there is one or not
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int i = first + u * blockDim.x + t;
            count[u] = i < n_neurons ? train_counts[i] : 0;
            time[u] = i < n_neurons ? trains[i] : real(0);
            if (has_pooling && i < n_neurons && pooled[i] < 0) count[u] = 0;
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) mine += count[u];
        const int inclusive = warp_inclusive_sum(mine);
        int start = 0;
        if (lane == 31 && inclusive > 0) start = atomicAdd(&n_gathered, inclusive);
        int place = __shfl_sync(FULL_WARP, start, 31) + inclusive - mine;
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int i = first + u * blockDim.x + t;
            for (int slot = 0; slot < count[u]; ++slot) {
                if (slot > 0) time[u] = trains[(size_t)slot * n_neurons + i];
                first_times[place] = time[u];
                first_ranks[place] = i * n_slots + slot;
                low = min(low, time[u]);
                high = max(high, time[u]);
                ++place;
            }
        }
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        low = min(low, __shfl_xor_sync(FULL_WARP, low, distance));
        high = max(high, __shfl_xor_sync(FULL_WARP, high, distance));
    }
    if (lane == 0) {
        extremes[0][warp] = low;
        extremes[1][warp] = high;
    }
    __syncthreads();
    low = extremes[0][min(lane, n_warps - 1)];
    high = extremes[1][min(lane, n_warps - 1)];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        low = min(low, __shfl_xor_sync(FULL_WARP, low, distance));
        high = max(high, __shfl_xor_sync(FULL_WARP, high, distance));
    }
    const int n = n_gathered;
    const real per_time = high > low ? n_buckets / (high - low) : real(0);
    const auto bucket_of = [&](real time) { return min(n_buckets - 1, (int)((time - low) * per_time)); };
    for (int j = t; j < n; j += blockDim.x) atomicAdd(&buckets[bucket_of(first_times[j])], 1);
    __syncthreads();
    int own[BUCKETS_PER_THREAD], sum = 0, most = 0, total;
#pragma unroll
    for (int k = 0; k < BUCKETS_PER_THREAD; ++k) {
        own[k] = buckets[t * BUCKETS_PER_THREAD + k];
        sum += own[k];
        most = max(most, own[k]);
    }
    if (most > CROWDED) atomicMax(&fullest, most);
    int before = block_exclusive_sum(sum, &total);  // waits for all
#pragma unroll
    for (int k = 0; k < BUCKETS_PER_THREAD; ++k) {
        buckets[t * BUCKETS_PER_THREAD + k] = before;
        before += own[k];
    }
    __syncthreads();
    real* sorted_times = first_times;
    int* sorted_ranks = first_ranks;
    if (fullest > CROWDED) {
        bitonic_sort(first_times, first_ranks, n);
    } else {
        for (int j = t; j < n; j += blockDim.x) {  // buckets[k] moves from the start of bucket k to its end
            const real time = first_times[j];
            const int to = atomicAdd(&buckets[bucket_of(time)], 1);
            second_times[to] = time;
            second_ranks[to] = first_ranks[j];
        }
        __syncthreads();
        for (int j = t; j < n; j += blockDim.x) {
            const real time = second_times[j];
            const int rank = second_ranks[j], bucket = bucket_of(time);
            const int begin = bucket > 0 ? buckets[bucket - 1] : 0, end = buckets[bucket];
            int to = begin;
            for (int other = begin; other < end; ++other) {
                const real other_time = second_times[other];
                to += other_time < time || (other_time == time && second_ranks[other] < rank);
            }
            first_times[to] = time;
            first_ranks[to] = rank;
        }
        __syncthreads();
    }
    const size_t start = b * out_capacity;
    for (int first = warp * 32; first < n; first += blockDim.x) {
        const int e = first + lane;
        unsigned place = 0;
        if (e < n) {
            const int rank = sorted_ranks[e], neuron = n_slots == 1 ? rank : rank / n_slots, slot = rank - neuron * n_slots;
            const real time = sorted_times[e];
            times[start + e] = time;
            positions[start + e] = slot * n_neurons + neuron;
            const int new_neuron = has_pooling ? pooled[neuron] : neuron;
            if (neurons != positions) neurons[start + e] = new_neuron;
            if (wants_places) {
                factors[start + e] = bounded_factor(time, tau);
                places[start + e] = place = place_of_neuron[new_neuron];
            }
        }
        if (masks.masks) write_masks(masks, b, first / 32, e < n, place);
    }
    if (t == 0) counts[b] = n;
}
