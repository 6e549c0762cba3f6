#pragma once
// What the spikes of hidden neurons add to the gradient of their weights at the events of one sample.
#include "common/block.cuh"
#include "common/fixed_point.cuh"
#include "fused/batch.cuh"
#include "fused/two.cuh"

// Up to 32 * CHUNKS events of a sample, a lane has one of every 32. The list of all events is filled up to a multiple of 32 for every
// sample, with factors 0, which add nothing, and goes on for as many as are loaded (bats/fused/event_table.py).
constexpr int CHUNKS = 6;

template <typename real>
struct EventChunks {
    real factor[CHUNKS], earliest[CHUNKS];  // the least factor of the 32
    int row[CHUNKS];  // the event's input neuron
    int n;            // chunks

    template <typename index_t>
    __device__ __forceinline__ EventChunks(const real* factors, const index_t* rows, int n_events) : n(min(CHUNKS, (n_events + 31) >> 5)) {
        const int lane = threadIdx.x & 31;
#pragma unroll
        for (int c = 0; c < CHUNKS; ++c) {
            factor[c] = factors[32 * c + lane];
            row[c] = rows[32 * c + lane];
        }
#pragma unroll
        for (int c = 0; c < CHUNKS; ++c) earliest[c] = __shfl_sync(FULL_WARP, factor[c], 0);
    }
};

// The spikes (q, G) of a pair from the last one to the first, and after that some q = 0: from the list of the block, where such a q
// stands before every pair, and from that of the sample.
template <typename two>
struct ListedTrain {
    const two* at;  // one further
    __device__ __forceinline__ two earlier() { return *--at; }
};
template <typename real>
struct StoredTrain {
    const real *q, *gains;
    int left;
    __device__ __forceinline__ typename Two<real>::type earlier() {
        if (--left < 0) return {0, 0};
        return {q[left], gains[left]};
    }
};

// Adds one neuron's spikes to its sums [n_pre]: G E (E - q) units for every event and every spike after it. A warp.
// Events and spikes are taken from the last ones to the first; a spike is looked at among the 32 events around it and then goes on in
// two sums, as in (30) of docs/theory.md.
template <typename real, typename Train>
__device__ __forceinline__ void add_pair(const EventChunks<real>& events, Train train, real units, typename FixedPoint<real>::type* sums) {
    auto spike = train.earlier();
    real strength = 0, moment = 0;
    const auto add_chunk = [&](int c) {
        const real e = events.factor[c];
        real sum = fma(strength, e, -moment);
#pragma unroll 1
        while (spike.x > events.earliest[c]) {
            const real g = spike.y * units;
            sum = fma(g, min(e - spike.x, real(0)), sum);
            strength += g;
            moment = fma(g, spike.x, moment);
            spike = train.earlier();
        }
        const auto value = FixedPoint<real>::round(sum * e);
        if (value != 0) FixedPoint<real>::add_rounded(sums + events.row[c], value);
    };
    static_assert(CHUNKS == 6, "a case for each");
    switch (events.n) {  // instead of a test per chunk
        case 6: add_chunk(5);  // and so on down to the first
        case 5: add_chunk(4);
        case 4: add_chunk(3);
        case 3: add_chunk(2);
        case 2: add_chunk(1);
        case 1: add_chunk(0);
    }
}
