#pragma once
// Forward pass of the output layer over sorted hidden spikes, a block per sample, in chunks of spikes:
// sums over segments of SEGMENT spikes (a thread per segment and two outputs), sums before each segment (a warp per output), sums after every
// spike with the highest bound of each segment, and a warp per output that jumps from spike to spike.
#include "common/block.cuh"
#include "fused/batch.cuh"
#include "fused/sorted_spikes.cuh"
#include "fused/two.cuh"

constexpr int SEGMENT = 8;

// The second weights, where they are and, if there is room, in shared memory with rows filled up to an even number of outputs.
template <typename real>
struct OutputWeights {
    real* staged;      // [n_hidden, pitch] in shared memory, or null
    const real* rows;  // [n_hidden, n_out]
    int n_out, pitch;

    __device__ __forceinline__ typename Two<real>::type two(int neuron, int pair) const {
        if (staged) return *reinterpret_cast<const typename Two<real>::type*>(staged + neuron * pitch + 2 * pair);
        const real* at = rows + (size_t)neuron * n_out + 2 * pair;
        return {at[0], 2 * pair + 1 < n_out ? at[1] : real(0)};
    }
    __device__ __forceinline__ real one(int neuron, int o) const {
        return staged ? staged[neuron * pitch + o] : rows[(size_t)neuron * n_out + o];
    }
};

// SEGMENT entries that begin at a multiple of SEGMENT, 16 bytes at a time; those past the list's end may be anything.
__device__ __forceinline__ void load_segment(const float* list, float* values) {
#pragma unroll
    for (int u = 0; u < SEGMENT; u += 4) {
        const float4 four = *reinterpret_cast<const float4*>(list + u);
        values[u] = four.x, values[u + 1] = four.y, values[u + 2] = four.z, values[u + 3] = four.w;
    }
}
__device__ __forceinline__ void load_segment(const unsigned* list, unsigned* values) {
#pragma unroll
    for (int u = 0; u < SEGMENT; u += 4) {
        const uint4 four = *reinterpret_cast<const uint4*>(list + u);
        values[u] = four.x, values[u + 1] = four.y, values[u + 2] = four.z, values[u + 3] = four.w;
    }
}
__device__ __forceinline__ void load_segment(const double* list, double* values) {
#pragma unroll
    for (int u = 0; u < SEGMENT; u += 2) {
        const double2 two = *reinterpret_cast<const double2*>(list + u);
        values[u] = two.x, values[u + 1] = two.y;
    }
}

// Sums of one chunk; capacity: spikes per chunk, a multiple of SEGMENT. Place j of a chunk is stored at j + j / SEGMENT: threads that go through
// neighbouring segments then meet different banks.
template <typename real>
struct OutputSums {
    real *a, *b;                   // [n_out, pitch]
    real *before_a, *before_b, *highest;  // [n_out even, capacity / SEGMENT]
    real *carried_a, *carried_b;   // [n_out even]: sums over the chunks before
    int capacity, pitch;

    static __device__ __forceinline__ int at(int j) { return j + j / SEGMENT; }
};

// Where an output stands. [n_out] each.
template <typename real>
struct OutputState {
    real* fall;
    int* counts;
    int* overflow;
    real *q, *slopes;  // [n_out, n_slots]
};

// The sums of the spikes first ... first + m - 1; m <= capacity.
template <typename real>
__device__ __forceinline__ void add_up_chunk(const SpikeLists<real>& lists, int n, int first, int m, const OutputWeights<real>& weights,
                                             const OutputSums<real>& sums, real c, real last_factor) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5;
    const int n_segments = (m + SEGMENT - 1) / SEGMENT, n_pairs = (weights.n_out + 1) / 2, pitch = sums.capacity / SEGMENT;
    for (int item = t; item < n_pairs * n_segments; item += blockDim.x) {
        const int pair = item / n_segments, segment = item % n_segments;
        const int begin = first + segment * SEGMENT;
        real a0 = 0, a1 = 0, b0 = 0, b1 = 0, factors[SEGMENT];
        unsigned places[SEGMENT];
        load_segment(lists.q + begin, factors);
        load_segment(lists.place + begin, places);
#pragma unroll
        for (int u = 0; u < SEGMENT; ++u) {
            const bool mine = begin + u < n;
            const real q = mine ? factors[u] : real(0);
            const auto w = weights.two(mine ? places[u] & 0xffffu : 0, pair);
            const real part0 = mine ? w.x * q : real(0), part1 = mine ? w.y * q : real(0);
            b0 += part0;
            b1 += part1;
            a0 = fma(part0, q, a0);
            a1 = fma(part1, q, a1);
        }
        const int to = 2 * pair * pitch + segment;
        sums.before_a[to] = a0;
        sums.before_b[to] = b0;
        sums.before_a[to + pitch] = a1;
        sums.before_b[to + pitch] = b1;
    }
    __syncthreads();
    for (int o = warp; o < weights.n_out; o += n_warps) {
        real a = sums.carried_a[o], b = sums.carried_b[o];
        for (int from = 0; from < n_segments; from += 32) {
            const int at = o * pitch + from + lane;
            const bool mine = from + lane < n_segments;
            const real sum_a = warp_inclusive_sum(mine ? sums.before_a[at] : real(0));
            const real sum_b = warp_inclusive_sum(mine ? sums.before_b[at] : real(0));
            const real less_a = __shfl_up_sync(FULL_WARP, sum_a, 1), less_b = __shfl_up_sync(FULL_WARP, sum_b, 1);
            if (mine) {
                sums.before_a[at] = lane ? a + less_a : a;
                sums.before_b[at] = lane ? b + less_b : b;
            }
            a += __shfl_sync(FULL_WARP, sum_a, 31);
            b += __shfl_sync(FULL_WARP, sum_b, 31);
        }
        __syncwarp();
        if (lane == 0) {
            sums.carried_a[o] = a;
            sums.carried_b[o] = b;
        }
    }
    __syncthreads();
    for (int item = t; item < n_pairs * n_segments; item += blockDim.x) {
        const int pair = item / n_segments, segment = item % n_segments, o = 2 * pair;
        const bool both = o + 1 < weights.n_out;
        const int from = o * pitch + segment;
        real a0 = sums.before_a[from], b0 = sums.before_b[from];
        real a1 = both ? sums.before_a[from + pitch] : real(0), b1 = both ? sums.before_b[from + pitch] : real(0);
        real high0 = -Constants<real>::infinity(), high1 = high0;
        const int begin = first + segment * SEGMENT;
        real factors[SEGMENT];
        unsigned places[SEGMENT];
        load_segment(lists.q + begin, factors);
        load_segment(lists.place + begin, places);
        const real after = begin + SEGMENT < n ? lists.q[begin + SEGMENT] : last_factor;
#pragma unroll
        for (int u = 0; u < SEGMENT; ++u) {
            if (begin + u >= n) break;
            const real q = factors[u], q_next = u + 1 == SEGMENT ? after : begin + u + 1 < n ? factors[(u + 1) % SEGMENT] : last_factor;
            const auto w = weights.two(places[u] & 0xffffu, pair);
            const real part0 = w.x * q, part1 = w.y * q;
            b0 += part0;
            b1 += part1;
            a0 = fma(part0, q, a0);
            a1 = fma(part1, q, a1);
            const int to = o * sums.pitch + sums.at(segment * SEGMENT + u);
            sums.a[to] = a0;
            sums.b[to] = b0;
            if (both) {
                sums.a[to + sums.pitch] = a1;
                sums.b[to + sums.pitch] = b1;
            }
            if (q_next != q) {
                const real y_low = reciprocal(q_next), limit = crossing_limit(q, q_next, y_low, c);
                high0 = max(high0, fma(-a0, y_low, b0) - limit);
                high1 = max(high1, fma(-a1, y_low, b1) - limit);
            }
        }
        sums.highest[from] = high0;
        if (both) sums.highest[from + pitch] = high1;
    }
    __syncthreads();
}

// Output o walks through the chunk; a warp.
template <typename real>
__device__ __forceinline__ void walk_chunk(const SpikeLists<real>& lists, int n, int first, int m, int o, const OutputSums<real>& sums,
                                           const OutputState<real>& state, real c, real reset, real last_factor, int n_slots) {
    const int lane = threadIdx.x & 31, n_segments = (m + SEGMENT - 1) / SEGMENT;
    const real* highest = sums.highest + (size_t)o * (sums.capacity / SEGMENT);
    real fall = state.fall[o];
    int count = state.counts[o];
    for (int segment = 0; segment < n_segments;) {
        int found = n_segments;
        for (int from = segment & ~31; from < n_segments; from += 32) {
            const int g = from + lane;
            const unsigned hits = __ballot_sync(FULL_WARP, g >= segment && g < n_segments && highest[g] >= fall);
            if (hits == 0) continue;
            found = from + __ffs(hits) - 1;
            break;
        }
        if (found >= n_segments) break;
        const int j = found * SEGMENT + lane;  // 32 spikes, of this segment and the next three
        const bool mine = j < m;
        const int at = o * sums.pitch + sums.at(mine ? j : 0);
        const real a = sums.a[at], b = sums.b[at];
        const real q = lists.q[first + (mine ? j : 0)], q_next = mine && first + j + 1 < n ? lists.q[first + j + 1] : last_factor;
        const real y_low = mine && q_next != q ? reciprocal(q_next) : Constants<real>::nan(), inverse_two_a = reciprocal(a + a);
        real y_high = reciprocal(q);
        unsigned pending = FULL_WARP;  // hidden spikes whose following interval is still to be searched
        while (true) {
            const Crossing<real> next = crossing(a, b - fall, c, inverse_two_a, y_high, y_low);
            const real q_spike = reciprocal(next.y);
            const unsigned hits = __ballot_sync(FULL_WARP, (pending >> lane & 1) && next.crosses);
            if (hits == 0) break;
            if (count == n_slots) {
                if (lane == 0) state.overflow[o] = 1;
                fall = Constants<real>::infinity();
                break;
            }
            const int hit = __ffs(hits) - 1;
            pending = ~((1u << hit) - 1);
            if (lane == hit) {
                state.q[o * n_slots + count] = q_spike;
                state.slopes[o * n_slots + count] = next.x * next.y;
                y_high = next.y;  // the rest of this interval begins at the spike
            }
            fall = fma(reset, __shfl_sync(FULL_WARP, q_spike, hit), fall);
            ++count;
            if (n_slots == 1) fall = Constants<real>::infinity();
        }
        segment = found + 32 / SEGMENT;
    }
    __syncwarp();
    if (lane == 0) {
        state.fall[o] = fall;
        state.counts[o] = count;
    }
}
