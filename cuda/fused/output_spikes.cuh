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
    real* staged;      // [n_hidden + 1, pitch] in shared memory, the last row 0; or null
    const real* rows;  // [n_hidden, n_out]
    int n_hidden, n_out, pitch;

    __device__ __forceinline__ typename Two<real>::type two(int neuron, int pair) const {
        if (staged) return *reinterpret_cast<const typename Two<real>::type*>(staged + neuron * pitch + 2 * pair);
        if (neuron >= n_hidden) return {0, 0};
        const real* at = rows + (size_t)neuron * n_out + 2 * pair;
        return {at[0], 2 * pair + 1 < n_out ? at[1] : real(0)};
    }
    __device__ __forceinline__ real one(int neuron, int o) const {
        return staged ? staged[neuron * pitch + o] : rows[(size_t)neuron * n_out + o];
    }
};

// SEGMENT entries that begin at a multiple of SEGMENT, 16 bytes at a time.
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

// Fills the list of m spikes up to a multiple of SEGMENT and one more: with the end of the simulation, as events without a weight.
template <typename real>
__device__ __forceinline__ void pad_list(const SpikeLists<real>& list, int m, int n_hidden, real last_factor) {
    const int j = m + threadIdx.x;
    if (threadIdx.x <= SEGMENT && j <= (m + SEGMENT - 1) / SEGMENT * SEGMENT) {
        list.q[j] = last_factor;
        list.place[j] = n_hidden;
    }
}

// Sums of one chunk; capacity: spikes per chunk, a multiple of SEGMENT, at most 2048. Place j of a chunk is stored
// at j + j / SEGMENT: threads that go through neighbouring segments then meet different banks.
template <typename real>
struct OutputSums {
    real *a, *b;                  // [n_out even, pitch]
    real* highest;                // [n_out even, n_groups]: bound of 32 spikes
    real* totals;                 // [n_out even / 2, n_parts, 4]: a and b of two outputs over 32 segments
    real* carried;                // [n_out even / 2, 4]: the same over the chunks before
    int capacity, pitch, n_groups, n_parts;

    static __device__ __forceinline__ int at(int j) { return j + j / SEGMENT; }
};

// Where an output stands. [n_out] each.
template <typename real>
struct OutputState {
    real* fall;
    int* counts;
    int* overflow;
    real *q, *roots;  // [n_out, n_slots]: of the spikes, q and x of the crossing; the slope is x / q
};

// SEGMENT hidden spikes and two outputs, of one thread.
template <typename real>
struct Segment {
    real q[SEGMENT], part0[SEGMENT], part1[SEGMENT];  // q w
    real a0, b0, a1, b1;                              // sums over the earlier segments of the warp
};

// Loads a segment (of the chunk, number `segment`; from n_segments on they are empty) and adds up those of the warp; totals [4]: theirs.
template <typename real>
__device__ __forceinline__ void scan_segments(Segment<real>& own, const SpikeLists<real>& chunk, int segment, int n_segments, int pair,
                                              const OutputWeights<real>& weights, real* totals) {
    const int lane = threadIdx.x & 31;
    real a0 = 0, b0 = 0, a1 = 0, b1 = 0;
    if (segment < n_segments) {
        unsigned places[SEGMENT];
        load_segment(chunk.q + segment * SEGMENT, own.q);
        load_segment(chunk.place + segment * SEGMENT, places);
#pragma unroll
        for (int u = 0; u < SEGMENT; ++u) {
            const auto w = weights.two(places[u] & 0xffffu, pair);
            own.part0[u] = w.x * own.q[u], own.part1[u] = w.y * own.q[u];
            b0 += own.part0[u], b1 += own.part1[u];
            a0 = fma(own.part0[u], own.q[u], a0), a1 = fma(own.part1[u], own.q[u], a1);
        }
    }
#pragma unroll 1
    for (int distance = 1; distance < 32; distance *= 2) {
        const real less_a0 = __shfl_up_sync(FULL_WARP, a0, distance), less_b0 = __shfl_up_sync(FULL_WARP, b0, distance);
        const real less_a1 = __shfl_up_sync(FULL_WARP, a1, distance), less_b1 = __shfl_up_sync(FULL_WARP, b1, distance);
        if (lane >= distance) a0 += less_a0, b0 += less_b0, a1 += less_a1, b1 += less_b1;
    }
    if (lane == 31) totals[0] = a0, totals[1] = b0, totals[2] = a1, totals[3] = b1;
    const auto before = [&](real sum) {
        const real less = __shfl_up_sync(FULL_WARP, sum, 1);
        return lane ? less : real(0);
    };
    own.a0 = before(a0), own.b0 = before(b0), own.a1 = before(a1), own.b1 = before(b1);
}

// Sums after every spike of a segment, and the bounds. part: number of the warp's 32 segments.
template <typename real>
__device__ __forceinline__ void store_sums(const Segment<real>& own, const SpikeLists<real>& chunk, int segment, int n_segments, int pair,
                                           int part, const OutputSums<real>& sums, real c) {
    const int lane = threadIdx.x & 31;
    const bool exists = segment < n_segments;
    const real* earlier = sums.carried + 4 * pair;
    real a0 = earlier[0], b0 = earlier[1], a1 = earlier[2], b1 = earlier[3];
    earlier = sums.totals + 4 * pair * sums.n_parts;
#pragma unroll 1
    for (int p = 0; p < part; ++p) {
        a0 += earlier[0], b0 += earlier[1], a1 += earlier[2], b1 += earlier[3];
        earlier += 4;
    }
    a0 += own.a0, b0 += own.b0, a1 += own.a1, b1 += own.b1;
    real high0 = -Constants<real>::infinity(), high1 = high0;
    if (exists) {
        real *to_a = sums.a + 2 * pair * sums.pitch + segment * (SEGMENT + 1), *to_b = sums.b + (to_a - sums.a);
        real after = chunk.q[(segment + 1) * SEGMENT];
#pragma unroll
        for (int u = 0; u < SEGMENT; ++u) {
            const real q = own.q[u], q_next = u + 1 == SEGMENT ? after : own.q[(u + 1) % SEGMENT];
            b0 += own.part0[u], b1 += own.part1[u];
            a0 = fma(own.part0[u], q, a0), a1 = fma(own.part1[u], q, a1);
            to_a[u] = a0, to_b[u] = b0;
            to_a[sums.pitch + u] = a1, to_b[sums.pitch + u] = b1;
            const real y_low = reciprocal(q_next), limit = q_next != q ? crossing_limit(q, q_next, y_low, c) : Constants<real>::infinity();
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
        real* to = sums.highest + 2 * pair * sums.n_groups + segment / (32 / SEGMENT);
        to[0] = high0;
        to[sums.n_groups] = high1;
    }
}

// The sums of a chunk of m <= capacity spikes, padded (pad_list) or followed by another one. Warps take 32 segments ("part") of two outputs
// at a time, and keep the first ones in registers between the two halves. Synchronized before and after.
template <typename real>
__device__ __forceinline__ void add_up_chunk(const SpikeLists<real>& chunk, int m, const OutputWeights<real>& weights,
                                             const OutputSums<real>& sums, real c) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    const int n_segments = (m + SEGMENT - 1) / SEGMENT, n_items = (n_segments + 31) / 32 * (weights.pitch / 2);
    const int n_pairs = weights.pitch / 2;
    Segment<real> own;
    int pair, part;
    const auto find = [&](int item) {  // item = part n_pairs + pair; a handful of parts: subtracting takes less than to divide
#pragma unroll 1
        for (pair = item, part = 0; pair >= n_pairs; pair -= n_pairs) ++part;
    };
    const auto scan = [&] {
        scan_segments(own, chunk, 32 * part + lane, n_segments, pair, weights, sums.totals + 4 * (pair * sums.n_parts + part));
    };
#pragma unroll 1
    for (int item = warp + n_warps; warp < n_items; item += n_warps) {  // the first item last, as it stays
        const bool last = item >= n_items;
        find(last ? warp : item);
        scan();
        if (last) break;
    }
    __syncthreads();
#pragma unroll 1
    for (int item = warp; item < n_items; item += n_warps) {
        if (item > warp) {
            find(item);
            scan();
        }
        store_sums(own, chunk, 32 * part + lane, n_segments, pair, part, sums, c);
    }
    __syncthreads();
}

// Output o walks through the chunk; a warp, a lane per hidden spike of a group of 32. q of a crossing is 2 a / (b + x): one reciprocal
// lies between a spike and the next.
template <typename real>
__device__ __forceinline__ void walk_chunk(const SpikeLists<real>& chunk, int m, int o, const OutputSums<real>& sums,
                                           const OutputState<real>& state, real c, real reset, int n_slots) {
    const int lane = threadIdx.x & 31;
    const real NEVER = -Constants<real>::infinity();
    const real* of_groups = sums.highest + o * sums.n_groups + lane;
    const real highest[2] = {32 * lane < m ? of_groups[0] : NEVER, 32 * lane + 1024 < m ? of_groups[32] : NEVER};  // groups lane, lane + 32
    real fall = state.fall[o];
    int count = state.counts[o], group = -1;
    real a = 0, b = 0, q = 0, q_next = 0, y_low = 0, bound = NEVER;  // of the lane's spike and the interval after it
    while (true) {
        if (!__any_sync(FULL_WARP, bound >= fall)) {
            unsigned groups = __ballot_sync(FULL_WARP, lane > group && highest[0] >= fall);
            const int base = groups ? 0 : 32;
            if (groups == 0) groups = __ballot_sync(FULL_WARP, lane + 32 > group && highest[1] >= fall);
            if (groups == 0) break;
            group = base + __ffs(groups) - 1;
            const int j = 32 * group + lane;
            bound = NEVER;
            if (j < m) {
                const int at = o * sums.pitch + sums.at(j);
                a = sums.a[at], b = sums.b[at];
                q = chunk.q[j], q_next = chunk.q[j + 1];
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
            state.roots[o * n_slots + count] = x;
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
    }
}

// After the walks: the sums so far. Threads of one warp.
template <typename real>
__device__ __forceinline__ void carry_sums(const OutputSums<real>& sums, int m, int n_sums) {
    const int n_parts = (m + 32 * SEGMENT - 1) / (32 * SEGMENT);
#pragma unroll 1
    for (int k = threadIdx.x & 31; k < n_sums; k += 32) {
#pragma unroll 1
        for (int part = 0; part < n_parts; ++part) sums.carried[k] += sums.totals[4 * (k / 4 * sums.n_parts + part) + k % 4];
    }
}
