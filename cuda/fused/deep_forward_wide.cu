// Fused step of several hidden layers: the spikes of a layer for many samples at once, where deep_forward would leave too few warps
// per processor. A lane owns a neuron and a warp (sample, 32 neurons); the warps of a block take different samples of the same
// neurons, so that they find each other's weights in the first-level cache. Sums and bound as in deep_forward.cu, one comparison per
// event; only a group of events in which some neuron reaches its bound is gone through again with the exact test.
#include "fused/deep.cuh"
#include "fused/deep_events.cuh"

template <typename real>
struct __align__(4 * sizeof(real)) Interval {
    real e, y_low, limit;  // factor of the event, 1 / factor of the next one, bound; infinity where both have the same time
    int row;
};

// Where a neuron stands.
template <typename real>
struct Walk {
    real a, b, fall;  // sums without resets, and the resets; infinity: it never fires again
    int n;
    bool overflow;
};

// All spikes of a neuron in one interval, whose sums are a and b.
template <typename real>
__device__ __forceinline__ void fire(Walk<real>& walk, const Interval<real>& event, real a, real b, real c, real reset, int n_slots,
                                     real* factors, real* slopes, int stride) {
    for (real y_high = 1 / event.e; crosses(a, b - walk.fall, c, y_high, event.y_low);) {
        if (walk.n == n_slots) {
            walk.overflow = true;
            walk.fall = Constants<real>::infinity();
            return;
        }
        const Spike<real> spike = first_crossing(a, b - walk.fall, c, y_high, event.y_low);
        const real q = 1 / spike.y;
        factors[(size_t)walk.n * stride] = q;
        slopes[(size_t)walk.n * stride] = spike.slope;
        ++walk.n;
        walk.fall += reset * q;
        y_high = spike.y;
        if (n_slots == 1) walk.fall = Constants<real>::infinity();  // time to first spike: nothing overflows
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_post / 32), ceil(batch / warps)), up to 16 warps; shared memory: TILE intervals per warp.
template <typename real>
__global__ void __launch_bounds__(512) deep_forward_wide(
        int kind,  // EVENTS or LIST; arguments as of deep_forward
        const Sample* __restrict__ samples, const long long* __restrict__ cursor,
        const real* __restrict__ event_factors, const unsigned* __restrict__ event_rows, Sample* __restrict__ batch_samples,
        const real* __restrict__ list_q, const unsigned* __restrict__ list_places, const int* __restrict__ list_counts, int list_pitch,
        const real* __restrict__ weights, int batch, int n_post, int n_slots, real c, real reset, real last_factor,
        real* __restrict__ factors, real* __restrict__ slopes, int* __restrict__ counts, unsigned long long* status, int n_rows) {
    constexpr int TILE = 128, UNROLL = 8;
    extern __shared__ double shared_memory[];
    start_after_previous();
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int s = blockIdx.y * (blockDim.x >> 5) + warp;  // s in [0, batch)
    if (s >= batch) return;
    Interval<real>* events = reinterpret_cast<Interval<real>*>(shared_memory) + warp * TILE;
    const int i = blockIdx.x * 32 + lane;
    const bool valid = i < n_post;
    int n_events;
    unsigned mask = 0xffffffffu;
    if (kind == EVENTS) {
        Sample sample = samples[*cursor + s];
        event_factors += sample.first;
        event_rows += sample.first;
        n_events = sample.n_events = events_before(event_factors, sample.n_events, last_factor);
        if (blockIdx.x == 0 && lane == 0) batch_samples[s] = sample;
    } else {
        event_factors = list_q + (size_t)s * list_pitch;
        event_rows = list_places + (size_t)s * list_pitch;
        n_events = list_counts[s];
        mask = 0xffffu;
    }

    const size_t base_slot = (size_t)s * n_slots * n_post + i;
    const real* my_weights = weights + (valid ? i : 0);
    Walk<real> walk = {0, 0, valid ? real(0) : Constants<real>::infinity(), 0, false};
    for (int first = 0; first < n_events; first += TILE) {
        const int n_tile = min(TILE, n_events - first), n_padded = (n_tile + UNROLL - 1) / UNROLL * UNROLL;
        __syncwarp();
        for (int j = lane; j < n_padded; j += 32) {
            const int event = first + min(j, n_tile - 1);
            const real e = event_factors[event], next = event + 1 < n_events ? event_factors[event + 1] : last_factor;
            Interval<real> interval = {e, 0, Constants<real>::infinity(), (int)(event_rows[event] & mask)};
            if (j >= n_tile) {
                interval.e = 0;
            } else if (e < next) {
                interval.y_low = 1 / next;
                interval.limit = limit_of_interval(e, next, interval.y_low, c);
            }
            events[j] = interval;
        }
        __syncwarp();
        real ahead[UNROLL];  // the weights of the next events are on their way while these are added
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) ahead[u] = my_weights[(size_t)events[u].row * n_post];
        for (int base = 0; base < n_padded; base += UNROLL) {
            real w[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) w[u] = ahead[u];
            if (base + UNROLL < n_padded) {
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) ahead[u] = my_weights[(size_t)events[base + UNROLL + u].row * n_post];
            }
            real a = walk.a, b = walk.b;
            bool near = false;
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                const Interval<real> event = events[base + u];
                const real part = w[u] * event.e;
                b += part;
                a = fma(part, event.e, a);
                near |= fma(-a, event.y_low, b) - walk.fall >= event.limit;
            }
            if (near) {
                a = walk.a;
                b = walk.b;
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) {
                    const Interval<real> event = events[base + u];
                    const real part = w[u] * event.e;
                    b += part;
                    a = fma(part, event.e, a);
                    if (fma(-a, event.y_low, b) - walk.fall >= event.limit) {
                        fire(walk, event, a, b, c, reset, n_slots, factors + base_slot, slopes + base_slot, n_post);
                    }
                }
            }
            walk.a = a;
            walk.b = b;
        }
    }
    if (valid) counts[(size_t)s * n_post + i] = walk.n;
    const int spikes = warp_sum(valid ? walk.n : 0);
    const int silent = __popc(__ballot_sync(FULL_WARP, valid && walk.n == 0));
    const int overflows = __popc(__ballot_sync(FULL_WARP, valid && walk.overflow));
    const int bad = __popc(__ballot_sync(FULL_WARP, valid && !isfinite(walk.a)));
    const int mine = lane == 0 ? spikes : lane == 1 ? silent : lane == 2 ? overflows : bad;
    if (lane < 4 && mine) atomicAdd(&status[(s % n_rows) * 4 + lane], (unsigned long long)mine);
}
