#pragma once
// What the spikes of one hidden neuron in one sample, a pair, add to the gradient of the neuron's weights.
#include "common/block.cuh"
#include "common/fixed_point.cuh"
#include "fused/batch.cuh"
#include "fused/two.cuh"

// A pair that fired.
struct __align__(8) Pair {
    int start;                      // of its spikes in the list of the block; ~start: in that of the sample
    unsigned short number, spikes;  // number: NEURONS * sample + neuron, counted from the tile's first sample
};

// The events of one sample.
template <typename index_t, typename real>
struct EventsOf {
    const real* factors;
    const index_t* rows;
    int n;
};

// Adds a pair to the neuron's sums [n_pre]: G E (E - q) units for every event and every spike after it. A warp, a lane per event,
// 32 events at a time from the last ones to the first. spike_of(k): (q, G) of the pair's spikes, which are taken from the last one too; a spike
// is looked at among the events around it and then goes on in two sums, as in (30) of docs/theory.md.
template <typename index_t, typename real, typename Spike>
__device__ __forceinline__ void add_pair(const EventsOf<index_t, real>& events, int n_spikes, Spike spike_of, real units,
                                         typename FixedPoint<real>::type* sums) {
    constexpr int AHEAD = 4;  // times 32 events on their way
    const int lane = threadIdx.x & 31;
    real factor[AHEAD];
    int row[AHEAD];
    const auto load = [&](int chunk, int u) {
        const int event = 32 * chunk + lane;
        const bool exists = chunk >= 0 && event < events.n;
        factor[u] = exists ? events.factors[event] : real(0);  // an event at 0 adds nothing
        row[u] = exists ? (int)events.rows[event] : 0;
    };
    int top = (events.n - 1) >> 5, k = n_spikes - 1;
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) load(top - u, u);
    auto spike = spike_of(k);
    real strength = 0, moment = 0;
    for (; top >= 0; top -= AHEAD) {
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (top - u < 0) break;
            const real e = factor[u], earliest = __shfl_sync(FULL_WARP, e, 0);
            const int j = row[u];
            load(top - u - AHEAD, u);
            real sum = fma(strength, e, -moment);
#pragma unroll 1
            while (spike.x > earliest) {
                const real g = spike.y * units;
                sum = fma(g, min(e - spike.x, real(0)), sum);
                strength += g;
                moment = fma(g, spike.x, moment);
                if (--k >= 0) spike = spike_of(k);
                else spike.x = 0;  // earlier than all events
            }
            const real value = sum * e;
            if (value != 0) FixedPoint<real>::add(&sums[j], value);
        }
    }
}
