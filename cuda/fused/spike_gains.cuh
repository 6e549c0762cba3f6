#pragma once
// Hidden spikes backward through the resets of their neurons (docs/theory.md, (19)), a lane per spike. With L the sum that comes from the
// later spikes of the neuron, a spike (q, z) with the error e has delta = L q + e, and earlier ones find L (1 + D / z) + e D / (z q): an
// affine map of L, and such maps are put together in any grouping. So the recurrence is a scan over the lanes.
#include "common/block.cuh"
#include "fused/batch.cuh"
#include "fused/fast_math.cuh"
#include "fused/two.cuh"

// The hidden spikes of all samples, [batch, worst], neuron by neuron.
template <typename real>
struct HiddenTrains {
    const real *q, *errors, *slopes;
    real* gains;  // of spikes for which a block has no room
    long long worst;
    real tau, reset, slope_floor;
};

// Lane l's pair is (sample s + l / NEURONS, a neuron of the block); its spikes are at `place` of the sample's list. All pairs' spikes, pair
// by pair, go with their gains to `list`, each `shift` of its pair further on, or only the gains to hidden.gains if `list` is null.
// Returns sum |delta tau / z| / 4 over the spikes of the lane's pair, which bounds what they add to any weight's gradient, since
// |r (r - 1)| <= 1/4. A warp. begin: number of spikes of the pairs before; n: of all. before_loads() is called before the spikes are read.
template <typename real, typename Before>
__device__ __forceinline__ real gains_of_pairs(const HiddenTrains<real>& hidden, int s, const Place& place, int begin, int n,
                                               typename Two<real>::type* list, int shift, int& n_bounded, Before before_loads) {
    const int lane = threadIdx.x & 31;
    struct Spike {
        long long at;
        int k, count, shift;  // number of the spike in its pair; of that pair: spikes and shift
        real q, error, slope;
    };
    const auto fetch = [&](int from) {
        const int r = from + lane;
        int pair = 0;  // the last one whose spikes begin at r or before; silent ones begin where the next one does
#pragma unroll
        for (int step = 16; step > 0; step /= 2) {
            if (__shfl_sync(FULL_WARP, begin, pair + step) <= r) pair += step;
        }
        Spike spike = {0, r - __shfl_sync(FULL_WARP, begin, pair), __shfl_sync(FULL_WARP, place.count, pair),
                       __shfl_sync(FULL_WARP, shift, pair), 1, 0, 1};
        spike.at = hidden.worst * (s + pair / NEURONS) + __shfl_sync(FULL_WARP, place.start, pair) + spike.k;
        before_loads();
        if (r < n) {
            spike.q = hidden.q[spike.at];
            spike.error = hidden.errors[spike.at];
            spike.slope = hidden.slopes[spike.at];
        }
        return spike;
    };
    real bound = 0, carried = 0;
    int from = (n - 1) >> 5 << 5;  // negative if there are none
    Spike next = {};
    if (from >= 0) next = fetch(from);
#pragma unroll 1
    for (; from >= 0; from -= 32) {
        const int r = from + lane;
        const bool mine = r < n;
        const Spike spike = next;
        if (from > 0) next = fetch(from - 32);
        const int k = spike.k, count = spike.count;
        const int left = mine ? min(count - k, 32 - lane) : 0;  // lanes from here on with the same pair
        const bool goes_on = mine && left < count - k;          // beyond lane 31
        const real q = spike.q, error = spike.error;
        real slope = spike.slope;
        if (mine && slope < hidden.slope_floor) {
            slope = hidden.slope_floor;
            ++n_bounded;
        }
        const real y = reciprocal(q), inverse = reciprocal(slope);
        real factor = fma(hidden.reset, inverse, real(1)), term = error * inverse * hidden.reset * y;
        const int longest = __reduce_max_sync(FULL_WARP, left);
        // No term is multiplied by a factor that may have overflowed unless there is something to be multiplied.
        const auto after = [](real factor, real value, real term) { return value == 0 ? term : fma(factor, value, term); };
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            if (distance >= longest) break;
            const real other_factor = __shfl_down_sync(FULL_WARP, factor, distance);
            const real other_term = __shfl_down_sync(FULL_WARP, term, distance);
            if (distance < left) {
                term = after(factor, other_term, term);
                factor *= other_factor;
            }
        }
        if (goes_on) term = after(factor, carried, term);
        const real following = __shfl_down_sync(FULL_WARP, term, 1), later = left > 1 ? following : goes_on ? carried : real(0);
        carried = __shfl_sync(FULL_WARP, term, 0);
        const real gain = fma(later, q, error) * inverse * hidden.tau, scaled = gain * y * y;
        if (mine && list) list[r + spike.shift] = {q, scaled};
        if (mine && !list) hidden.gains[spike.at] = scaled;

        real strength = mine ? abs(gain) / 4 : real(0);
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            if (distance >= longest) break;
            const real other = __shfl_down_sync(FULL_WARP, strength, distance);
            if (distance < left) strength += other;
        }
        const real sum = __shfl_sync(FULL_WARP, strength, max(begin - from, 0) & 31);
        if (place.count > 0 && begin < from + 32 && begin + place.count > from) bound += sum;
    }
    return bound;
}
