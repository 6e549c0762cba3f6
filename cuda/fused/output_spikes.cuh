#pragma once
// Forward pass of the output layer over sorted hidden spikes, a block per sample, in chunks of spikes: sums a and b (batch.cuh) after every
// spike, without resets, and the highest bound of every 32 spikes; then a warp per output jumps from spike to spike.
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

// Sums of one chunk; capacity: spikes per chunk, a multiple of SEGMENT, at most 1024. Place j of a chunk is stored at j + j / SEGMENT: threads
// that go through neighbouring segments then meet different banks.
template <typename real>
struct OutputSums {
    real *a, *b;                  // [n_out, pitch]
    real* highest;                // [n_out, n_groups]: bound of 32 spikes
    real* totals;                 // [n_out even, n_parts, 2]: of a and b over 32 segments
    real *carried_a, *carried_b;  // [n_out even]: sums over the chunks before
    int capacity, pitch, n_groups, n_parts;

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

// SEGMENT hidden spikes and two outputs, of one thread.
template <typename real>
struct Segment {
    real q[SEGMENT], part0[SEGMENT], part1[SEGMENT];  // q w
    real a0, a1, b0, b1;                              // sums over the earlier segments of the warp
};

// Loads a segment and adds up those of the warp; their totals go to the outputs' totals. Segments from n_segments on count as empty.
template <typename real>
__device__ __forceinline__ void scan_segments(Segment<real>& own, const SpikeLists<real>& lists, int n, int begin, bool exists, int pair, int part,
                                              const OutputWeights<real>& weights, const OutputSums<real>& sums) {
    const int lane = threadIdx.x & 31;
    unsigned places[SEGMENT];
    if (exists) {
        load_segment(lists.q + begin, own.q);
        load_segment(lists.place + begin, places);
    }
    real a0 = 0, a1 = 0, b0 = 0, b1 = 0;
#pragma unroll
    for (int u = 0; u < SEGMENT; ++u) {
        const bool mine = exists && begin + u < n;
        const auto w = weights.two(mine ? places[u] & 0xffffu : 0, pair);
        const real q = mine ? own.q[u] : real(0);
        own.q[u] = q;
        own.part0[u] = mine ? w.x * q : real(0), own.part1[u] = mine ? w.y * q : real(0);
        b0 += own.part0[u], b1 += own.part1[u];
        a0 = fma(own.part0[u], q, a0), a1 = fma(own.part1[u], q, a1);
    }
    const real own_a0 = a0, own_a1 = a1, own_b0 = b0, own_b1 = b1;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const real less_a0 = __shfl_up_sync(FULL_WARP, a0, distance), less_a1 = __shfl_up_sync(FULL_WARP, a1, distance);
        const real less_b0 = __shfl_up_sync(FULL_WARP, b0, distance), less_b1 = __shfl_up_sync(FULL_WARP, b1, distance);
        if (lane >= distance) a0 += less_a0, a1 += less_a1, b0 += less_b0, b1 += less_b1;
    }
    if (lane == 31) {
        real* to = sums.totals + 2 * (2 * pair * sums.n_parts + part);
        to[0] = a0, to[1] = b0;
        to += 2 * sums.n_parts;
        to[0] = a1, to[1] = b1;
    }
    const auto before = [&](real sum) {
        const real less = __shfl_up_sync(FULL_WARP, sum, 1);
        return lane ? less : real(0);
    };
    own.a0 = before(a0), own.a1 = before(a1), own.b0 = before(b0), own.b1 = before(b1);
}

// Sums after every spike of a segment, and the bounds.
template <typename real>
__device__ __forceinline__ void store_sums(const Segment<real>& own, const SpikeLists<real>& lists, int n, int begin, int segment, bool exists, int pair,
                                           int part, const OutputWeights<real>& weights, const OutputSums<real>& sums, real c, real last_factor) {
    const int lane = threadIdx.x & 31, o = 2 * pair;
    const bool both = o + 1 < weights.n_out;
    real a0 = sums.carried_a[o], a1 = sums.carried_a[o + 1], b0 = sums.carried_b[o], b1 = sums.carried_b[o + 1];
    const real* totals = sums.totals + 2 * o * sums.n_parts;
    for (int earlier = 0; earlier < part; ++earlier) {
        const real *first = totals + 2 * earlier, *second = first + 2 * sums.n_parts;
        a0 += first[0], b0 += first[1], a1 += second[0], b1 += second[1];
    }
    a0 += own.a0, a1 += own.a1, b0 += own.b0, b1 += own.b1;
    real high0 = -Constants<real>::infinity(), high1 = high0;
    const real after = exists && begin + SEGMENT < n ? lists.q[begin + SEGMENT] : last_factor;
    real *to_a = sums.a + o * sums.pitch + segment * (SEGMENT + 1), *to_b = sums.b + o * sums.pitch + segment * (SEGMENT + 1);
#pragma unroll
    for (int u = 0; u < SEGMENT; ++u) {
        if (!exists || begin + u >= n) break;
        const real q = own.q[u], q_next = u + 1 == SEGMENT ? after : begin + u + 1 < n ? own.q[(u + 1) % SEGMENT] : last_factor;
        b0 += own.part0[u], b1 += own.part1[u];
        a0 = fma(own.part0[u], q, a0), a1 = fma(own.part1[u], q, a1);
        to_a[u] = a0;
        to_b[u] = b0;
        if (both) {
            to_a[sums.pitch + u] = a1;
            to_b[sums.pitch + u] = b1;
        }
        if (q_next != q) {
            const real y_low = reciprocal(q_next), limit = crossing_limit(q, q_next, y_low, c);
            high0 = max(high0, fma(-a0, y_low, b0) - limit);
            high1 = max(high1, fma(-a1, y_low, b1) - limit);
        }
    }
#pragma unroll
    for (int distance = 1; distance < 32 / SEGMENT; distance *= 2) {
        high0 = max(high0, __shfl_xor_sync(FULL_WARP, high0, distance));
        high1 = max(high1, __shfl_xor_sync(FULL_WARP, high1, distance));
    }
    if (exists && lane % (32 / SEGMENT) == 0) {
        real* to = sums.highest + o * sums.n_groups + segment / (32 / SEGMENT);
        to[0] = high0;
        if (both) to[sums.n_groups] = high1;
    }
}

// The sums of the spikes first ... first + m - 1; m <= capacity. Warps take 32 segments ("part") of two outputs at a time, and keep the first
// ones in registers between the two halves. Synchronized before and after.
template <typename real>
__device__ __forceinline__ void add_up_chunk(const SpikeLists<real>& lists, int n, int first, int m, const OutputWeights<real>& weights,
                                             const OutputSums<real>& sums, real c, real last_factor) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    const int n_segments = (m + SEGMENT - 1) / SEGMENT, n_parts = (n_segments + 31) / 32, n_items = n_parts * ((weights.n_out + 1) / 2);
    Segment<real> own;
    const int n_rounds = (n_items - warp + n_warps - 1) / n_warps;  // of this warp
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
#pragma unroll 1
        for (int round = 0; round < n_rounds; ++round) {
            const int item = warp + (half ? round : n_rounds - 1 - round) * n_warps, pair = item / n_parts, part = item % n_parts;
            const int segment = 32 * part + lane, begin = first + segment * SEGMENT;
            const bool exists = segment < n_segments;
            if (!half || round) scan_segments(own, lists, n, begin, exists, pair, part, weights, sums);
            if (half) store_sums(own, lists, n, begin, segment, exists, pair, part, weights, sums, c, last_factor);
        }
        __syncthreads();
    }
}

// Output o walks through the chunk; a warp, a lane per hidden spike of a group of 32. q of a crossing is 2 a / (b + x): one reciprocal
// lies between a spike and the next.
template <typename real>
__device__ __forceinline__ void walk_chunk(const SpikeLists<real>& lists, int n, int first, int m, int o, const OutputSums<real>& sums,
                                           const OutputState<real>& state, real c, real reset, real last_factor, int n_slots) {
    const int lane = threadIdx.x & 31;
    const real NEVER = -Constants<real>::infinity();
    const real highest = 32 * lane < m ? sums.highest[o * sums.n_groups + lane] : NEVER;  // of group `lane`
    real fall = state.fall[o];
    int count = state.counts[o], group = -1;
    real a = 0, b = 0, q = 0, q_next = 0, y_low = 0, bound = NEVER;  // of the lane's spike and the interval after it
    while (true) {
        if (!__any_sync(FULL_WARP, bound >= fall)) {
            const unsigned groups = __ballot_sync(FULL_WARP, lane > group && highest >= fall);
            if (groups == 0) break;
            group = __ffs(groups) - 1;
            const int j = 32 * group + lane;
            bound = NEVER;
            if (j < m) {
                const int at = o * sums.pitch + sums.at(j);
                a = sums.a[at], b = sums.b[at];
                q = lists.q[first + j], q_next = first + j + 1 < n ? lists.q[first + j + 1] : last_factor;
                y_low = reciprocal(q_next);
                if (q_next != q) bound = fma(-a, y_low, b) - crossing_limit(q, q_next, y_low, c);
            }
        }
        // As crossing() of batch.cuh.
        const real b_now = b - fall, two_a = a + a, discriminant = fma(b_now, b_now, -2 * two_a * c), x = root(discriminant);
        const real q_spike = min(max(two_a * reciprocal(b_now + x), q), q_next);
        const bool closes_above = y_low * fma(-a, y_low, b_now) >= c, vertex_inside = b_now * q < two_a && b_now * q_next > two_a;
        const unsigned hits = __ballot_sync(FULL_WARP, bound != NEVER && discriminant > 0 && (closes_above || vertex_inside));
        if (hits == 0) {
            bound = NEVER;
            continue;
        }
        if (count == n_slots) {
            if (lane == 0) state.overflow[o] = 1;
            fall = Constants<real>::infinity();
            break;
        }
        const int hit = __ffs(hits) - 1;
        fall = fma(reset, __shfl_sync(FULL_WARP, q_spike, hit), fall);
        if (lane < hit) bound = NEVER;
        if (lane == hit) {
            state.q[o * n_slots + count] = q_spike;
            state.slopes[o * n_slots + count] = x * reciprocal(q_spike);
            q = q_spike;  // the rest of this interval begins at the spike
        }
        ++count;
        if (n_slots == 1) {
            fall = Constants<real>::infinity();
            break;
        }
    }
    __syncwarp();
    if (lane == 0) {
        state.fall[o] = fall;
        state.counts[o] = count;
        const int n_parts = (m + 32 * SEGMENT - 1) / (32 * SEGMENT);
        for (int part = 0; part < n_parts; ++part) {
            sums.carried_a[o] += sums.totals[2 * (o * sums.n_parts + part)];
            sums.carried_b[o] += sums.totals[2 * (o * sums.n_parts + part) + 1];
        }
    }
}
