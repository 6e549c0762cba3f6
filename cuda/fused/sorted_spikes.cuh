#pragma once
// The spikes of one sample in the order of (q, place): a bucket sort over the range of q, and a rank within each bucket. Integer atomics
// only, and every pair (q, place) is different, so the result does not depend on the order in which threads run.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "events/bitonic.cuh"
#include "fused/fast_math.cuh"

template <typename real>
struct SpikeLists {
    real* q;
    unsigned* place;  // slot << 16 | neuron
};

constexpr int BUCKETS = 4;  // per thread
constexpr int CROWD = 256;  // spikes of a bucket from which on comparing each with each takes longer than a sort of its own

// Memory that is free while the spikes are sorted.
template <typename real>
struct SortRoom {
    int* starts;         // [BUCKETS blockDim + 1]: of the buckets, at a multiple of 16 bytes; 0 before
    real* q;
    unsigned* place;
    unsigned* arrivals;  // may be the places of the sorted list unless these are what is sorted
    int* warps;          // [32]
};

// Buckets are even in the bits of q as a float: finer where q is small, as spikes crowd early in a long window.
struct Buckets {
    int low, last;
    float per_bit;

    __device__ __forceinline__ Buckets(int low, int high, int count)
        : low(low), last(count - 1), per_bit(count * reciprocal((float)max(1, high - low))) {}
    template <typename real>
    __device__ __forceinline__ int of(real q) const {
        return min(last, (int)((__float_as_int((float)q) - low) * per_bit));
    }
};

// The lists of a sample as the first kernel left them, one per 32 neurons ("group"). A warp owns the groups warp, warp + n_warps, ...
template <typename real>
struct GroupLists {
    const real* q;
    const unsigned* place;  // [n_groups, capacity]
    const int* counts;      // [n_groups]
    const real* extremes;   // [n_groups, 2]: least and greatest q, infinity and 0 if there is none
    const int* of_neurons;  // [n_hidden]: spikes
    int n_groups, capacity, n_hidden;
};

// What a warp holds of its groups in registers: lane entries, each 32 apart, of the first GROUPS of them.
template <typename real>
struct HeldEntries {
    static constexpr int GROUPS = 2, ENTRIES = 2;
    real q[GROUPS][ENTRIES];
    unsigned place[GROUPS][ENTRIES];
    int arrival[GROUPS][ENTRIES], counts[GROUPS];  // counts: of the group
    int total;                                     // spikes of the sample
    bool all;                                      // there is nothing else
    int lowest, highest;                           // bits of q as a float
};

// All that is needed of the lists is asked for at once, before it is known how long they are. Also says where the spikes of every group and
// every neuron begin in the order of neurons; a warp may read what it says of its own groups.
template <typename real>
__device__ __forceinline__ void load_groups(const GroupLists<real>& groups, HeldEntries<real>& held, int* group_starts,
                                            int* neuron_starts) {
    using Held = HeldEntries<real>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5, last = groups.n_groups - 1;
    // No branch around a load, and no use of one before all are on their way: what does not exist is taken from the last group.
    struct Group {
        int count;
        float least, greatest;
    };
    const auto load_group = [&](int g) {
        const int at = min(g, last);
        return Group{groups.counts[at], (float)groups.extremes[2 * at], (float)groups.extremes[2 * at + 1]};
    };
    int of_neuron[Held::GROUPS];
#pragma unroll
    for (int r = 0; r < Held::GROUPS; ++r) {
        held.counts[r] = of_neuron[r] = 0;
        if (r > 0 && groups.n_groups <= r * n_warps) continue;  // the same for all warps
        const int g = min(warp + r * n_warps, last);
        held.counts[r] = groups.counts[g];
        of_neuron[r] = groups.of_neurons[min(g * 32 + lane, groups.n_hidden - 1)];
#pragma unroll
        for (int u = 0; u < Held::ENTRIES; ++u) {
            const size_t from = (size_t)g * groups.capacity + min(32 * u + lane, groups.capacity - 1);
            held.q[r][u] = groups.q[from], held.place[r][u] = groups.place[from];
        }
    }
    Group group = load_group(lane);
#pragma unroll
    for (int r = 0; r < Held::GROUPS; ++r) {
        if (warp + r * n_warps > last) held.counts[r] = 0;
    }
    held.lowest = 0x7fffffff, held.highest = 0, held.total = 0;
#pragma unroll 1
    for (int first = 0;;) {
        const int g = first + lane, count = g <= last ? group.count : 0;
        held.lowest = min(held.lowest, __float_as_int(group.least));
        held.highest = max(held.highest, __float_as_int(group.greatest));
        const int sum = warp_inclusive_sum(count);
        const bool own = g == warp || g == warp + n_warps || (g >= 2 * n_warps && g % n_warps == warp);  // a remainder takes long
        if (own && g <= last) group_starts[g] = held.total + sum - count;
        held.total += __shfl_sync(FULL_WARP, sum, 31);
        first += 32;
        if (first > last) break;
        group = load_group(first + lane);
    }
    held.lowest = __reduce_min_sync(FULL_WARP, held.lowest);
    held.highest = __reduce_max_sync(FULL_WARP, held.highest);
    __syncwarp();
    held.all = groups.n_groups <= Held::GROUPS * n_warps;
#pragma unroll
    for (int r = 0; r < Held::GROUPS; ++r) {
        const int g = warp + r * n_warps, i = g * 32 + lane;
        if (g > last) continue;
        held.all = held.all && held.counts[r] <= 32 * Held::ENTRIES;
        const int sum = warp_inclusive_sum(of_neuron[r]);
        if (i < groups.n_hidden) neuron_starts[i] = group_starts[g] + sum - of_neuron[r];
    }
#pragma unroll 1
    for (int g = warp + Held::GROUPS * n_warps; g < groups.n_groups; g += n_warps) {
        const int i = g * 32 + lane, count = i < groups.n_hidden ? groups.of_neurons[i] : 0, sum = warp_inclusive_sum(count);
        if (i < groups.n_hidden) neuron_starts[i] = group_starts[g] + sum - count;
    }
}

// visit(q, place, arrival) for every entry of the warp's groups; what it makes of `arrival` is there at the next visit.
template <typename real, typename Visit>
__device__ __forceinline__ void each_entry(const GroupLists<real>& groups, HeldEntries<real>& held, const int* group_starts,
                                           unsigned* arrivals, Visit visit) {
    using Held = HeldEntries<real>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
#pragma unroll
    for (int r = 0; r < Held::GROUPS; ++r) {
#pragma unroll
        for (int u = 0; u < Held::ENTRIES; ++u) {
            if (32 * u >= held.counts[r]) break;
            if (32 * u + lane < held.counts[r]) visit(held.q[r][u], held.place[r][u], held.arrival[r][u]);
        }
    }
    if (held.all) return;
#pragma unroll 1
    for (int g = warp, r = 0; g < groups.n_groups; g += n_warps, ++r) {
        const int start = group_starts[g], count = groups.counts[g];
#pragma unroll 1
        for (int e = (r < Held::GROUPS ? 32 * Held::ENTRIES : 0) + lane; e < count; e += 32) {
            const size_t from = (size_t)g * groups.capacity + e;
            int arrival = arrivals[start + e];
            visit(groups.q[from], groups.place[from], arrival);
            arrivals[start + e] = arrival;
        }
    }
}

// Exclusive prefix sum in place over the counts of the buckets.
template <typename real>
__device__ __forceinline__ void add_up_buckets(const SortRoom<real>& room, int total) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    int4* mine = reinterpret_cast<int4*>(room.starts) + t;
    const int4 counts = *mine;
    const int own = counts.x + counts.y + counts.z + counts.w, sum = warp_inclusive_sum(own);
    if (lane == 31) room.warps[warp] = sum;
    __syncthreads();
    const int start = __reduce_add_sync(FULL_WARP, lane < warp ? room.warps[lane] : 0) + sum - own;
    *mine = {start, start + counts.x, start + counts.x + counts.y, start + counts.x + counts.y + counts.z};
    if (t == 0) room.starts[BUCKETS * blockDim.x] = total;
    __syncthreads();
}

// Sorts the buckets that hold a crowd, as neurons with the same weights make one. A block; synchronized before and after.
template <typename real>
__device__ __forceinline__ void sort_crowds(const SpikeLists<real>& lists, int n, const Buckets& buckets, const SortRoom<real>& room) {
#pragma unroll 1
    for (int j = 0; j < n;) {
        const int begin = j, bucket = buckets.of(room.q[begin]), end = room.starts[bucket + 1];
        j = end;
        if (end - begin <= CROWD) continue;
        __syncthreads();  // all know the bucket
        bitonic_sort(room.q + begin, reinterpret_cast<int*>(room.place) + begin, end - begin);
        for (int k = begin + threadIdx.x; k < end; k += blockDim.x) {
            lists.q[k] = room.q[k];
            lists.place[k] = room.place[k];
        }
    }
    __syncthreads();
}

// Sorts the spikes of all groups into lists, which may be the very memory of the groups' lists. Synchronized before and after.
template <typename real>
__device__ __forceinline__ void sort_spikes(const SpikeLists<real>& lists, const GroupLists<real>& groups, HeldEntries<real>& held,
                                            const int* group_starts, const SortRoom<real>& room) {
    const int n = held.total;
    const Buckets buckets(held.lowest, held.highest, BUCKETS * blockDim.x);
    each_entry(groups, held, group_starts, room.arrivals,
               [&](real q, unsigned, int& arrival) { arrival = atomicAdd(&room.starts[buckets.of(q)], 1); });
    __syncthreads();
    add_up_buckets(room, n);
    each_entry(groups, held, group_starts, room.arrivals, [&](real q, unsigned place, int& arrival) {
        const int to = room.starts[buckets.of(q)] + arrival;
        room.q[to] = q;
        room.place[to] = place;
    });
    int* crowded = room.warps;
    if (threadIdx.x == 0) *crowded = 0;
    __syncthreads();
#pragma unroll 1
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        const real q = room.q[j];
        const unsigned place = room.place[j];
        const int bucket = buckets.of(q), begin = room.starts[bucket], end = room.starts[bucket + 1];
        if (end - begin > CROWD) {
            *crowded = 1;
            continue;
        }
        int rank = begin;
#pragma unroll 1
        for (int other = begin; other < end; ++other) {
            const real other_q = room.q[other];
            rank += other_q < q || (other_q == q && room.place[other] < place);
        }
        lists.q[rank] = q;
        lists.place[rank] = place;
    }
    __syncthreads();
    if (*crowded) sort_crowds(lists, n, buckets, room);
}
