// Event-driven forward pass of a dense LIF layer: event lists and weights to spike trains (docs/theory.md, section 2).
//
// spike_times_per_neuron: a thread per (sample, neuron) walks the events; for layers of many neurons.
// spike_times_per_warp:   a warp per (sample, neuron) takes 32 events at a time, sums them by prefix scan and jumps from
//                         spike to spike; for layers of few neurons and many events.
//
// a = sum w E^2 and b = sum w E - D sum q are relative to the origin of the last event.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "common/time_grid.cuh"
#include "lif/crossing.cuh"
#include "lif/event.cuh"

template <typename real>
struct Incoming {
    real t, t_next;  // of the event, of the next one or t_max
    int row;         // neuron; -1 past the end
};

template <typename real>
__device__ __forceinline__ Incoming<real> load_incoming(const real* times, const int* neurons, int e, int n_events, real t_max) {
    Incoming<real> incoming = {0, t_max, -1};
    if (e < n_events) {
        incoming.t = times[e];
        if (e + 1 < n_events) incoming.t_next = min(times[e + 1], t_max);
        incoming.row = neurons[e];
    }
    return incoming;
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_post / threads), B), up to 256 threads: weights [n_pre, n_post] are read row by row, coalesced over neurons.
template <typename real>
__global__ void __launch_bounds__(256) spike_times_per_neuron(
        const real* __restrict__ event_times,   // [B, capacity]
        const int* __restrict__ event_neurons,  // [B, capacity]
        const int* __restrict__ event_counts,   // [B]
        int capacity,
        const real* __restrict__ weights,       // [n_pre, n_post]
        int n_post, real tau, real c, real reset, real length, real t_max, int n_slots,
        real* times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, n_post], [B, n_post]
        unsigned long long* status) {           // [B, 4]: spikes, silent, overflowing, non-finite
    constexpr int TILE = 256, UNROLL = 8;
    __shared__ Event<real> events[TILE];
    __shared__ real tile_t[TILE], tile_next[TILE], tile_origin[TILE], tile_shift[TILE];
    const size_t s = blockIdx.y;                            // s in [0, B)
    const int i = blockIdx.x * blockDim.x + threadIdx.x;    // neuron; i >= n_post only helps to load
    const bool valid = i < n_post;
    event_times += s * capacity;
    event_neurons += s * capacity;
    const int n_events = events_before(event_times, event_counts[s], t_max);

    // Empty slots hold infinity.
    real* my_times = times + s * n_slots * n_post + i;
    real* my_slopes = slopes + s * n_slots * n_post + i;
    for (int k = 0; valid && k < n_slots; ++k) my_times[(size_t)k * n_post] = Constants<real>::infinity();

    const real* my_weights = weights + (valid ? i : 0);
    const Moment<real> moment = {tile_t, tile_next, tile_origin, tile_shift};
    Walk<real> walk = {0, 0, 0, false};

    for (int first = 0; first < n_events; first += TILE) {
        const int n_tile = min(TILE, n_events - first), n_padded = (n_tile + UNROLL - 1) / UNROLL * UNROLL;
        __syncthreads();
        for (int e = threadIdx.x; e < n_padded; e += blockDim.x) {
            if (e >= n_tile) {
                events[e] = no_event<real>();
                continue;
            }
            const Incoming<real> incoming = load_incoming(event_times, event_neurons, first + e, n_events, t_max);
            tile_t[e] = incoming.t;
            tile_next[e] = incoming.t_next;
            tile_origin[e] = origin_of(incoming.t, length);
            Event<real> event = make_event(incoming.t, incoming.t_next, tile_origin[e], incoming.row, tau, length);
            const real before = first + e > 0 ? origin_of(event_times[first + e - 1], length) : real(0);
            if (before != tile_origin[e]) {
                tile_shift[e] = shift(before, tile_origin[e], length, tau);
                event.row = ~event.row;
            }
            events[e] = event;
        }
        __syncthreads();
        if (!valid) continue;
        real next[UNROLL];
        load_weights<UNROLL>(events, 0, n_tile, my_weights, n_post, next);
        for (int base = 0; base < n_tile; base += UNROLL) {
            real w[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) w[u] = next[u];
            load_weights<UNROLL>(events, base + UNROLL, n_tile, my_weights, n_post, next);
            walk_through<UNROLL>(walk, events, base, n_tile, w, moment, my_weights, n_post, tau, c, reset, length, n_slots, my_times,
                                 my_slopes, n_post);
        }
    }
    if (valid) counts[s * n_post + i] = walk.n;
    add_status(status + s * 4, walk, valid);
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks ceil(B * n_post / 8), 256 threads = 8 warps, a (sample, neuron) each.
template <typename real>
__global__ void __launch_bounds__(256) spike_times_per_warp(
        const real* __restrict__ event_times, const int* __restrict__ event_neurons, const int* __restrict__ event_counts,
        int capacity, const real* __restrict__ weights, int batch, int n_post,
        real tau, real c, real reset, real length, real t_max, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes, unsigned long long* status) {
    const int lane = threadIdx.x & 31;
    const size_t unit = (size_t)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);  // unit in [0, B * n_post)
    if (unit >= (size_t)batch * n_post) return;
    const size_t s = unit / n_post;
    const int i = unit % n_post;
    event_times += s * capacity;
    event_neurons += s * capacity;
    times += s * n_slots * n_post + i;
    slopes += s * n_slots * n_post + i;
    const int n_events = events_before(event_times, event_counts[s], t_max);

    real carried_a = 0, carried_b = 0, carried_origin = 0;
    int n = 0;
    bool overflow = false, done = false;
    // The events of the next step, and the neurons of the one after, are on their way while one is worked on.
    Incoming<real> incoming = load_incoming(event_times, event_neurons, lane, n_events, t_max);
    real w = incoming.row >= 0 ? weights[(size_t)incoming.row * n_post + i] : real(0);
    Incoming<real> following = load_incoming(event_times, event_neurons, 32 + lane, n_events, t_max);
    for (int first = 0; first < n_events;) {
        // 32 events, of which those that share the first one's origin are taken now.
        const real next_w = following.row >= 0 ? weights[(size_t)following.row * n_post + i] : real(0);
        const Incoming<real> after = load_incoming(event_times, event_neurons, first + 64 + lane, n_events, t_max);
        real t = incoming.t;
        const real t_next = incoming.t_next, origin = incoming.row >= 0 ? origin_of(t, length) : real(-1);
        Event<real> event = {0, 0, Constants<real>::nan(), 0};
        if (incoming.row >= 0) event = make_event(t, t_next, origin, incoming.row, tau, length);
        const real first_origin = __shfl_sync(FULL_WARP, origin, 0);
        const unsigned taken = __ballot_sync(FULL_WARP, origin == first_origin);
        const int n_taken = __popc(taken);
        first += n_taken;
        const real own_w = w;
        if (n_taken == 32) {
            incoming = following;
            following = after;
            w = next_w;
        } else {  // the origin changes among them, or they are the last
            incoming = load_incoming(event_times, event_neurons, first + lane, n_events, t_max);
            w = incoming.row >= 0 ? weights[(size_t)incoming.row * n_post + i] : real(0);
            following = load_incoming(event_times, event_neurons, first + 32 + lane, n_events, t_max);
        }
        if (first_origin != carried_origin) {
            const real decay = shift(carried_origin, first_origin, length, tau);
            carried_b *= decay;
            carried_a *= decay * decay;
            carried_origin = first_origin;
        }
        const bool mine = taken >> lane & 1;
        const real a = carried_a + warp_inclusive_sum(mine ? own_w * (event.e * event.e) : real(0));
        real b = carried_b + warp_inclusive_sum(mine ? own_w * event.e : real(0));
        unsigned pending = taken;  // events whose following interval is still to be searched
        while (!done) {
            const unsigned hits = __ballot_sync(FULL_WARP, (pending >> lane & 1) && crosses(a, b, c, event.y_high, event.y_low));
            if (hits == 0) break;
            if (n == n_slots) {
                overflow = true;
                done = true;
                break;
            }
            const int hit = __ffs(hits) - 1;
            pending = taken & ~((1u << hit) - 1);
            real fall = 0;
            if (lane == hit) {
                const Spike<real> spike = first_crossing(a, b, c, event.y_high, event.y_low);
                t = min(max(first_origin * length - tau * log(spike.y), t), t_next);
                times[(size_t)n * n_post] = t;
                slopes[(size_t)n * n_post] = spike.slope;
                event.y_high = spike.y;  // the rest of this interval begins at the spike
                fall = reset / spike.y;
            }
            fall = __shfl_sync(FULL_WARP, fall, hit);
            if (lane >= hit) b -= fall;
            ++n;
            done = n_slots == 1;
        }
        carried_a = __shfl_sync(FULL_WARP, a, n_taken - 1);
        carried_b = __shfl_sync(FULL_WARP, b, n_taken - 1);
    }
    for (int slot = n + lane; slot < n_slots; slot += 32) times[(size_t)slot * n_post] = Constants<real>::infinity();
    if (lane == 0) {
        counts[unit] = n;
        if (n) atomicAdd(&status[s * 4], (unsigned long long)n);
        else atomicAdd(&status[s * 4 + 1], 1ull);
        if (overflow) atomicAdd(&status[s * 4 + 2], 1ull);
        if (!isfinite(carried_a)) atomicAdd(&status[s * 4 + 3], 1ull);
    }
}
