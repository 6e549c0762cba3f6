#pragma once
// What the three kernels of the fused step share (bats/fused): the samples of a batch, and the numbers kept per spike.
//
// All times lie below one time origin's reach (t_max < 8 tau), so a spike is known by its factor q = e^{t / tau} alone: causality
// is a comparison of factors, and the next layer's E is q itself. A spike's gain is kept as G = delta tau / (z q^2): an event
// at E < q then adds G E (E - q) to the gradient of its weight, and w G E (2 E - q) / tau to dL/dt of the event (docs/theory.md, (30)).

struct __align__(16) Sample {
    long long first;  // of its events in the list of all events
    int n_events;
    int label;
};

// The backward walk through the spikes of one neuron in one sample (docs/theory.md, (19)): emit(k, q, G) for every spike,
// latest first. Returns sum |delta tau / z| / 4, which bounds what the spikes add to any weight's gradient, since |r (r - 1)| <= 1/4.
template <typename real, typename Error, typename Emit>
__device__ __forceinline__ real recurrent_gains(const real* factors, const real* slopes, int stride, int count, real tau, real reset,
                                                real slope_floor, int& n_bounded, Error error_of, Emit emit) {
    constexpr int AHEAD = 4;  // spikes loaded together: the recurrence then waits for memory once in four spikes
    real later = 0, bound = 0;
    for (int last = count - 1; last >= 0; last -= AHEAD) {
        real slope[AHEAD], q[AHEAD], error[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int k = max(last - u, 0);
            slope[u] = slopes[(size_t)k * stride];
            q[u] = factors[(size_t)k * stride];
            error[u] = error_of(k);
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (last - u < 0) break;
            if (slope[u] < slope_floor) {
                slope[u] = slope_floor;
                ++n_bounded;
            }
            const real delta = error[u] + later * q[u];
            const real response = delta / slope[u], y = 1 / q[u];
            const real gain = response * tau;
            later += response * reset * y;
            bound += abs(gain) / 4;
            emit(last - u, q[u], gain * y * y);
        }
    }
    return bound;
}
