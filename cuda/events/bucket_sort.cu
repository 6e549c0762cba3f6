// Spike trains to sorted event lists by a bucket sort in shared memory, a block per sample; sort_events.cu is the general one.
//
// Spikes are gathered in any order, from the list that the forward kernel left (spike_list.cuh) or else from its trains, counted per bucket
// of time, dropped into their bucket, and ranked inside it by comparison with the others there: by time, neuron and slot. The rank is
// unique, so the list is the same every time although integer atomics decide the order before it. If times crowd into few buckets, a
// bitonic network sorts the list instead.
// With a pooling layer behind, its neurons are written, and neurons in no window are left out; with a convolution behind that, also
// factor and place of every event, which it starts from (conv/conv_forward.cu), and who sees it, where it asks for that
// (conv/conv_forward_chunks.cu).
#include "common/block.cuh"
#include "common/constants.cuh"
#include "conv/field_masks.cuh"
#include "conv/records.cuh"
#include "events/bitonic.cuh"
#include "events/spike_list.cuh"
#include "fused/dependent_launch.cuh"

constexpr int CROWDED = 128;  // spikes of a bucket beyond which the network is faster

// What a rank says: it is neuron * n_slots + slot, so that it orders spikes of the same time.
struct Ranks {
    int n_slots;
    float inverse;  // 1 / n_slots

    __device__ __forceinline__ int neuron(int rank) const { return (int)((rank + 0.5f) * inverse); }  // exact for ranks below 2^20
};

// What is written of a spike beside its time.
struct Origin {
    int position, neuron;
    unsigned place;
};

// Spikes in shared memory, in any order, and the earliest and the latest of those that the thread put there.
template <typename real>
struct Gathered {
    real* times;
    int* ranks;
    int* n;
    real low, high;

    __device__ __forceinline__ void put(int to, real time, int rank) {
        times[to] = time;
        ranks[to] = rank;
        low = min(low, time);
        high = max(high, time);
    }
};

// pooled, leaves_out: as of the kernel.
template <typename real>
__device__ __forceinline__ void gather_list(Gathered<real>& gathered, const SpikeList<real>& list, size_t b, const Ranks& meaning,
                                            const int* __restrict__ pooled, int leaves_out) {
    constexpr int AHEAD = 4;
    const real* times = list.times + b * list.room;
    const int* ranks = list.ranks + b * list.room;
    const int n = min(list.counts[b], list.room);
    int first = 0;
    do {
        real time[AHEAD];  // loaded whether there is a spike or not: n is still on its way
        int rank[AHEAD], mine = 0;
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int j = first + u * blockDim.x + threadIdx.x;
            time[u] = j < list.room ? times[j] : real(0);
            rank[u] = j < list.room ? ranks[j] : 0;
        }
        if (!leaves_out) {
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                const int j = first + u * blockDim.x + threadIdx.x;
                if (j < n) gathered.put(j, time[u], rank[u]);
            }
            continue;
        }
        bool kept[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            kept[u] = first + u * blockDim.x + threadIdx.x < n && pooled[meaning.neuron(rank[u])] >= 0;
            mine += kept[u];
        }
        int to = reserve(gathered.n, mine).first();
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (kept[u]) gathered.put(to++, time[u], rank[u]);
        }
    } while ((first += AHEAD * blockDim.x) < n);
    if (threadIdx.x == 0 && !leaves_out) *gathered.n = n;
}

template <typename real>
__device__ __forceinline__ void gather_trains(Gathered<real>& gathered, const real* trains, const int* train_counts, int n_neurons,
                                              int n_slots, const int* __restrict__ pooled, int leaves_out) {
    constexpr int AHEAD = 5;
    for (int first = 0; first < n_neurons; first += AHEAD * blockDim.x) {
        int count[AHEAD], mine = 0;
        real time[AHEAD];  // of the first spike, loaded whether there is one or not
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int i = first + u * blockDim.x + threadIdx.x;
            count[u] = i < n_neurons ? train_counts[i] : 0;
            time[u] = i < n_neurons ? trains[i] : real(0);
            if (leaves_out && i < n_neurons && pooled[i] < 0) count[u] = 0;
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) mine += count[u];
        int place = reserve(gathered.n, mine).first();
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int i = first + u * blockDim.x + threadIdx.x;
            for (int slot = 0; slot < count[u]; ++slot) {
                if (slot > 0) time[u] = trains[(size_t)slot * n_neurons + i];
                gathered.put(place++, time[u], i * n_slots + slot);
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks B, up to 1024 threads; shared memory: two lists of `room` times and ranks. room >= n_neurons * n_slots.
template <typename real>
__global__ void __launch_bounds__(1024, 1) bucket_sort(
        const real* trains,       // [B, n_slots, n_neurons]
        const int* train_counts,  // [B, n_neurons]
        SpikeList<real> list,     // the same spikes; its counts are 0 afterwards
        int n_neurons, int n_slots, int room, int out_capacity,
        const int* __restrict__ pooled, int has_pooling, int leaves_out,  // [n_neurons]: neuron of the pooling layer, -1: none (leaves_out)
        real* __restrict__ times, int* neurons, int* positions,  // [B, out_capacity]; the same array if n_slots is 1 and nothing is pooled
        int* __restrict__ counts,              // [B]
        const unsigned* __restrict__ place_of_neuron, int wants_places,  // of the neurons that are written
        real tau, real* __restrict__ factors, unsigned* __restrict__ places,    // [B, out_capacity]
        FieldMasks masks) {
    extern __shared__ double shared_memory[];
    __shared__ int4 quartets[1024];  // buckets, four for every thread
    __shared__ int n_gathered, fullest, sums[32];
    __shared__ real extremes[2][32];
    real* first_times = reinterpret_cast<real*>(shared_memory);
    real* second_times = first_times + room;
    int* first_ranks = reinterpret_cast<int*>(second_times + room);
    int* second_ranks = first_ranks + room;
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, n_buckets = blockDim.x * 4;
    const size_t b = blockIdx.x;
    trains += b * n_neurons * n_slots;
    train_counts += b * n_neurons;
    if (t == 0) n_gathered = fullest = 0;
    int* buckets = reinterpret_cast<int*>(quartets);
    quartets[t] = {0, 0, 0, 0};
    const Ranks meaning = {n_slots, 1.0f / n_slots};
    start_after_previous();
    __syncthreads();

    Gathered<real> gathered = {first_times, first_ranks, &n_gathered, Constants<real>::infinity(), 0};
    if (list.times) gather_list(gathered, list, b, meaning, pooled, leaves_out);
    else gather_trains(gathered, trains, train_counts, n_neurons, n_slots, pooled, leaves_out);
    real low = gathered.low, high = gathered.high;
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
    const int4 own = quartets[t];
    const int most = max(max(own.x, own.y), max(own.z, own.w));
    if (most > CROWDED) atomicMax(&fullest, most);
    int total;
    const int before = block_exclusive_sum(own.x + own.y + own.z + own.w, &total, sums);
    quartets[t] = {before, before + own.x, before + own.x + own.y, before + own.x + own.y + own.z};
    __syncthreads();

    const auto origin_of = [&](int rank) {
        const int neuron = meaning.neuron(rank), slot = rank - neuron * n_slots, written = has_pooling ? pooled[neuron] : neuron;
        return Origin{slot * n_neurons + neuron, written, wants_places ? place_of_neuron[written] : 0};
    };
    const size_t start = b * out_capacity;
    const auto write = [&](int e, real time, const Origin& origin) {
        times[start + e] = time;
        positions[start + e] = origin.position;
        if (neurons != positions) neurons[start + e] = origin.neuron;
        if (!wants_places) return;
        factors[start + e] = bounded_factor(time, tau);
        places[start + e] = origin.place;
        if (masks.masks) first_ranks[e] = origin.place;
    };
    if (fullest > CROWDED) {
        bitonic_sort(first_times, first_ranks, n);
        for (int e = t; e < n; e += blockDim.x) write(e, first_times[e], origin_of(first_ranks[e]));
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
            const Origin origin = origin_of(rank);  // on its way while the spike is ranked
            const int begin = bucket > 0 ? buckets[bucket - 1] : 0, end = buckets[bucket];
            int to = begin;
            for (int other = begin; other < end; ++other) {
                const real other_time = second_times[other];
                to += other_time < time || (other_time == time && second_ranks[other] < rank);
            }
            write(to, time, origin);
        }
    }
    if (masks.masks) {
        __syncthreads();
        for (int first = warp * 32; first < n; first += blockDim.x) {
            const int e = first + lane;
            write_masks(masks, b, first / 32, e < n, e < n ? first_ranks[e] : 0);
        }
    }
    if (t == 0) {
        counts[b] = n;
        if (list.times) list.counts[b] = 0;
    }
}
