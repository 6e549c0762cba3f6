// Fast forward pass of a dense layer that receives many events, for times before one origin's reach (t_max <= 8 tau);
// spike_times.cu has the general ones.
//
// A block owns one sample and 32 neurons. Sums without resets do not depend on the spikes (lif/interval.cuh), so all warps make them at
// once: a lane per neuron, a stretch of events per warp. Of the running sums in a stretch, those at the start of every 32 events are
// kept, and the greatest distance to the limit among the 32. Then a warp per neuron looks for the first 32 events whose
// distance, with all stretches before, can reach the resets so far, and searches these, a lane each, spike by spike.
#include "common/block.cuh"
#include "conv/records.cuh"
#include "lif/event.cuh"
#include "lif/interval.cuh"

constexpr int LIST = 32;       // events that are searched together
constexpr int PITCH = 33;      // of arrays with a column per neuron

// What a block keeps of a round of events, at a neuron's column.
template <typename real>
struct Kept {
    const real *a, *b, *distance;    // [lists, PITCH]
    const real *before_a, *before_b;  // [stretches, PITCH]: sums over all stretches before
    int stretch;                      // lists of a stretch
};

// One neuron walks through n events; a warp. e_end: factor at the end of the last interval.
template <typename real>
__device__ __forceinline__ void search(const Interval<real>* intervals, int n, real e_end, const real* weights, const Kept<real>& kept,
                                       const SpikeWriter<real>& out, real& fall, int& n_spikes, bool& overflow) {
    const int lane = threadIdx.x & 31, n_lists = (n + LIST - 1) / LIST;
    bool done = fall == Constants<real>::infinity();
    for (int base = 0; base < n_lists && !done; base += 32) {
        // Over the intervals of a list, y lies between that of its first event and that of the next list's.
        real far = -Constants<real>::infinity();
        if (base + lane < n_lists) {
            const int list = base + lane, before = list / kept.stretch * PITCH;
            const real next_e = list + 1 < n_lists ? intervals[(list + 1) * LIST].e : e_end;
            const real a = kept.before_a[before], b = kept.before_b[before];
            far = kept.distance[list * PITCH] + max(b - a / intervals[list * LIST].e, b - a / next_e);
            far += (abs(far) + abs(b) + abs(a)) * real(1e-6);  // rounding must not hide a spike
        }
        unsigned open = FULL_WARP;
        while (!done) {
            const unsigned candidates = __ballot_sync(FULL_WARP, far >= fall) & open;
            if (candidates == 0) break;
            const int found = __ffs(candidates) - 1, list = base + found;
            open = found == 31 ? 0 : FULL_WARP << (found + 1);
            const int e = list * LIST + lane;
            const Interval<real> interval = e < n ? intervals[e] : no_interval<real>(0);
            const real part = e < n ? weights[interval.offset] * interval.e : real(0);
            const int before = list / kept.stretch * PITCH;
            const real b = kept.before_b[before] + kept.b[list * PITCH] + warp_inclusive_sum(part);
            const real a = kept.before_a[before] + kept.a[list * PITCH] + warp_inclusive_sum(part * interval.e);
            const bool tested = e < n && interval.limit < Constants<real>::infinity();
            real y_high = 1 / interval.e;
            unsigned pending = FULL_WARP;  // events whose following interval is still to be searched
            while (!done) {
                const bool hit = tested && (pending >> lane & 1) && crosses(a, b - fall, out.c, y_high, interval.y_low);
                const unsigned hits = __ballot_sync(FULL_WARP, hit);
                if (hits == 0) break;
                if (n_spikes == out.n_slots) {
                    overflow = true;
                    done = true;
                    break;
                }
                const int first = __ffs(hits) - 1;
                pending = FULL_WARP << first;
                real drop = 0;
                if (lane == first) {
                    const Spike<real> spike = first_crossing(a, b - fall, out.c, y_high, interval.y_low);
                    out.times[n_spikes * out.stride] = time_of(out, spike.y);
                    out.slopes[n_spikes * out.stride] = spike.slope;
                    drop = out.reset / spike.y;
                    y_high = spike.y;  // the rest of this interval begins at the spike
                }
                fall += __shfl_sync(FULL_WARP, drop, first);
                ++n_spikes;
                done = out.n_slots == 1;
            }
        }
    }
    if (done) fall = Constants<real>::infinity();
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_post / 32), B), up to 1024 threads. Shared memory: `round` intervals (a multiple of 32 per warp), then for
// every 32 of them and every neuron three numbers, two for every warp.
template <typename real>
__global__ void __launch_bounds__(1024) dense_forward(
        const real* __restrict__ event_times, const int* __restrict__ event_neurons, const int* __restrict__ event_counts, int capacity,
        const real* __restrict__ weights,  // [n_pre, n_post]
        int n_post, int round, real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, n_post], [B, n_post]
        unsigned long long* status) {      // [B, 4]: spikes, silent, overflowing, non-finite
    constexpr int UNROLL = 8;
    extern __shared__ double shared_memory[];
    __shared__ real state_a[32], state_b[32], state_fall[32];
    __shared__ int state_n[32], state_overflow[32];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    Interval<real>* intervals = reinterpret_cast<Interval<real>*>(shared_memory);  // [round]
    real* a_start = reinterpret_cast<real*>(intervals + round);                     // [round / 32, PITCH]
    real* b_start = a_start + round / LIST * PITCH;
    real* distance = b_start + round / LIST * PITCH;
    real* sum_a = distance + round / LIST * PITCH;                                  // [warps, PITCH]
    real* sum_b = sum_a + n_warps * PITCH;
    const size_t s = blockIdx.y;
    const int first_neuron = blockIdx.x * 32, i = first_neuron + lane, n_here = min(32, n_post - first_neuron);
    const real* own_weights = weights + min(i, n_post - 1);
    event_times += s * capacity;
    event_neurons += s * capacity;
    const int n_events = events_before(event_times, event_counts[s], t_max);
    if (warp == 0) {
        state_a[lane] = state_b[lane] = state_fall[lane] = 0;
        state_n[lane] = state_overflow[lane] = 0;
    }
    for (int first = 0; first < n_events; first += round) {
        const int n = min(round, n_events - first), stretch = (n + n_warps * LIST - 1) / (n_warps * LIST) * LIST;
        const int begin = min(warp * stretch, round), end = min(begin + stretch, round), stop = min(end, (n + LIST - 1) / LIST * LIST);
        __syncthreads();
        for (int k = threadIdx.x; k < (n + LIST - 1) / LIST * LIST; k += blockDim.x) {
            const int event = first + min(k, n - 1);
            const int offset = event_neurons[event] * n_post;
            intervals[k] = no_interval<real>(offset);
            if (k < n) {
                const real next = event + 1 < n_events ? bounded_factor(event_times[event + 1], tau) : last_factor;
                intervals[k] = make_interval(bounded_factor(event_times[event], tau), next, offset, c);
            }
        }
        __syncthreads();
        // Running sums of every stretch.
        real a = 0, b = 0;
        for (int list = begin; list < stop; list += LIST) {
            a_start[list / LIST * PITCH + lane] = a;
            b_start[list / LIST * PITCH + lane] = b;
            real far = -Constants<real>::infinity();
#pragma unroll 2
            for (int base = list; base < list + LIST; base += UNROLL) {
                real w[UNROLL];
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) w[u] = own_weights[intervals[base + u].offset];
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) {
                    const Interval<real> interval = intervals[base + u];
                    const real part = w[u] * interval.e;
                    b += part;
                    a = fma(part, interval.e, a);
                    far = max(far, fma(-a, interval.y_low, b) - interval.limit);
                }
            }
            distance[list / LIST * PITCH + lane] = far;
        }
        sum_a[warp * PITCH + lane] = a;
        sum_b[warp * PITCH + lane] = b;
        __syncthreads();
        if (warp == 0) {  // sums over all stretches before
            a = state_a[lane];
            b = state_b[lane];
            for (int w = 0; w < n_warps; ++w) {
                const real own_a = sum_a[w * PITCH + lane], own_b = sum_b[w * PITCH + lane];
                sum_a[w * PITCH + lane] = a;
                sum_b[w * PITCH + lane] = b;
                a += own_a;
                b += own_b;
            }
            state_a[lane] = a;
            state_b[lane] = b;
        }
        __syncthreads();
        const real e_end = first + n < n_events ? bounded_factor(event_times[first + n], tau) : last_factor;
        for (int neuron = warp; neuron < n_here; neuron += n_warps) {
            const size_t place = s * n_slots * n_post + first_neuron + neuron;
            const SpikeWriter<real> out = {tau, c, reset, t_max, n_slots, (size_t)n_post, times + place, slopes + place};
            real fall = state_fall[neuron];
            int n_spikes = state_n[neuron];
            bool overflow = state_overflow[neuron];
            const Kept<real> kept = {a_start + neuron, b_start + neuron, distance + neuron, sum_a + neuron, sum_b + neuron, stretch / LIST};
            search(intervals, n, e_end, weights + first_neuron + neuron, kept, out, fall, n_spikes, overflow);
            __syncwarp();
            if (lane == 0) {
                state_fall[neuron] = fall;
                state_n[neuron] = n_spikes;
                state_overflow[neuron] = overflow;
            }
        }
    }
    __syncthreads();
    for (int place = threadIdx.x; place < 32 * n_slots; place += blockDim.x) {
        const int neuron = place & 31, slot = place >> 5;
        if (neuron < n_here && slot >= state_n[neuron]) {
            times[(s * n_slots + slot) * n_post + first_neuron + neuron] = Constants<real>::infinity();
        }
    }
    if (warp == 0) {
        const Walk<real> walk = {state_a[lane], 0, state_n[lane], state_overflow[lane] != 0};
        if (lane < n_here) counts[s * n_post + i] = walk.n;
        add_status(status + s * 4, walk, lane < n_here);
    }
}
