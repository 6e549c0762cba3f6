#pragma once
// What the spikes of hidden neurons add to the gradient of their weights at the events of one sample.
#include "common/block.cuh"
#include "common/fixed_point.cuh"
#include "fused/batch.cuh"
#include "fused/two.cuh"

// Up to 32 * CHUNKS events of a sample, a lane has one of every 32.
constexpr int CHUNKS = 6;

template <typename real>
struct EventChunks {
    real factor[CHUNKS], earliest[CHUNKS];  // 0 where there is no event, which adds nothing; the least factor of the 32
    int row[CHUNKS];
    int n;  // chunks

    template <typename index_t>
    __device__ __forceinline__ EventChunks(const real* factors, const index_t* rows, int n_events) : n(min(CHUNKS, (n_events + 31) >> 5)) {
        const int lane = threadIdx.x & 31;
#pragma unroll
        for (int c = 0; c < CHUNKS; ++c) {
            const bool exists = 32 * c + lane < n_events;
            factor[c] = exists ? factors[32 * c + lane] : real(0);
            row[c] = exists ? (int)rows[32 * c + lane] : 0;
        }
#pragma unroll
        for (int c = 0; c < CHUNKS; ++c) earliest[c] = __shfl_sync(FULL_WARP, factor[c], 0);
    }
};

// Adds one neuron's spikes to its sums [n_pre]: G E (E - q) units for every event and every spike after it. A warp. spike_of(k): (q, G).
// Events and spikes are taken from the last ones to the first; a spike is looked at among the 32 events around it and then goes on in
// two sums, as in (30) of docs/theory.md.
template <typename real, typename Spike>
__device__ __forceinline__ void add_pair(const EventChunks<real>& events, int n_spikes, Spike spike_of, real units,
                                         typename FixedPoint<real>::type* sums) {
    int left = n_spikes;
    auto spike = spike_of(left - 1);
    real strength = 0, moment = 0;
#pragma unroll
    for (int c = CHUNKS - 1; c >= 0; --c) {
        if (c >= events.n) continue;
        const real e = events.factor[c];
        real sum = fma(strength, e, -moment);
#pragma unroll 1
        while (left > 0 && spike.x > events.earliest[c]) {
            const real g = spike.y * units;
            sum = fma(g, min(e - spike.x, real(0)), sum);
            strength += g;
            moment = fma(g, spike.x, moment);
            --left;
            spike = spike_of(max(left - 1, 0));
        }
        const real value = sum * e;
        if (value != 0) FixedPoint<real>::add(&sums[events.row[c]], value);
    }
}
