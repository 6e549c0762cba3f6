// Fast forward pass of a dense layer that receives many events, for times before one origin's reach (t_max <= 8 tau);
// spike_times.cu has the general ones.
//
// A block owns one sample and up to 32 neurons. Sums without resets do not depend on the spikes (lif/interval.cuh), so all warps make
// them at once: a lane per neuron, a stretch of events per warp. Of the running sums in a stretch, those at the start of every 32 events are
// kept, and the greatest distance to the limit among the 32. Then a warp per neuron looks for the first 32 events whose
// distance, with all stretches before, can reach the resets so far, and searches these, a lane each, spike by spike.
#include "common/block.cuh"
#include "conv/records.cuh"
#include "fused/dependent_launch.cuh"
#include "lif/event.cuh"
#include "lif/interval.cuh"
#include "lif/search.cuh"

constexpr int PITCH = 33;  // of arrays with a column per neuron

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_post / width), B), up to 1024 threads; width <= 32. Shared memory: `round` intervals (a multiple of 32 per warp), then for
// every 32 of them and every neuron three numbers, two for every warp.
template <typename real>
__global__ void __launch_bounds__(1024) dense_forward(
        const real* event_times, const int* event_neurons, const int* event_counts, int capacity,
        const real* __restrict__ weights,  // [n_pre, n_post]
        int n_post, int width, int round, real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, n_post], [B, n_post]
        unsigned long long* status,        // [B, 4]: spikes, silent, overflowing, non-finite
        SpikeList<real> spikes) {
    constexpr int UNROLL = 8;
    extern __shared__ double shared_memory[];
    __shared__ real state_a[32], state_b[32];
    __shared__ Train<real> trains[32];
    __shared__ int next_neuron;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    Interval<real>* intervals = reinterpret_cast<Interval<real>*>(shared_memory);  // [round]
    real* a_start = reinterpret_cast<real*>(intervals + round);                     // [round / 32, PITCH]
    real* b_start = a_start + round / LIST * PITCH;
    real* distance = b_start + round / LIST * PITCH;
    real* sum_a = distance + round / LIST * PITCH;                                  // [warps, PITCH]
    real* sum_b = sum_a + n_warps * PITCH;
    start_after_previous();
    const size_t s = blockIdx.y;
    const int first_neuron = blockIdx.x * width, n_here = min(width, n_post - first_neuron), i = first_neuron + min(lane, n_here - 1);
    const unsigned mine = i * sizeof(real);  // idle lanes do what the last neuron's does, and nobody asks for it
    event_times += s * capacity;
    event_neurons += s * capacity;
    const int n_events = events_before(event_times, event_counts[s], t_max);
    if (warp == 0) {
        state_a[lane] = state_b[lane] = 0;
        trains[lane] = {0, 0, 0, 0, false};
    }
    for (int first = 0; first < n_events; first += round) {
        const int n = min(round, n_events - first), stretch = (n + n_warps * LIST - 1) / (n_warps * LIST) * LIST;
        const int begin = min(warp * stretch, round), end = min(begin + stretch, round), stop = min(end, (n + LIST - 1) / LIST * LIST);
        __syncthreads();
        for (int k = threadIdx.x; k < (n + LIST - 1) / LIST * LIST; k += blockDim.x) {
            const int event = first + min(k, n - 1);
            intervals[k].e = k < n ? bounded_factor(event_times[event], tau) : real(0);
            intervals[k].offset = event_neurons[event] * n_post * (int)sizeof(real);
        }
        const real e_end = first + n < n_events ? bounded_factor(event_times[first + n], tau) : last_factor;
        if (threadIdx.x == 0) next_neuron = n_warps;
        __syncthreads();
        for (int k = threadIdx.x; k < (n + LIST - 1) / LIST * LIST; k += blockDim.x) {
            const Interval<real> made = make_interval(intervals[k].e, k + 1 < n ? intervals[k + 1].e : e_end, 0, c);
            intervals[k].y_low = k < n ? made.y_low : real(0);
            intervals[k].limit = k < n ? made.limit : Constants<real>::infinity();
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
                for (int u = 0; u < UNROLL; ++u) w[u] = weight_at(weights, intervals[base + u].offset + mine);
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
        real before_a = state_a[lane], before_b = state_b[lane];  // sums over all stretches before
#pragma unroll 4
        for (int w = 0; w < warp; ++w) {
            before_a += sum_a[w * PITCH + lane];
            before_b += sum_b[w * PITCH + lane];
        }
        for (int list = begin; list < stop; list += LIST) {
            const real e_next = list + LIST < n ? intervals[list + LIST].e : e_end;
            const Kept<real> kept = {a_start + lane, b_start + lane, distance + lane, PITCH};
            settle(kept, list / LIST, before_a, before_b, reciprocal(intervals[list].e), reciprocal(e_next));
        }
        __syncthreads();
        if (warp == n_warps - 1) {
            state_a[lane] = before_a + a;
            state_b[lane] = before_b + b;
        }
        for (int neuron = warp; neuron < n_here;) {  // whichever warp is free takes the next one: they are very uneven
            const size_t place = s * n_slots * n_post + first_neuron + neuron;
            const SpikeWriter<real> out = {tau, c, reset, t_max, n_slots, (size_t)n_post, times + place, slopes + place};
            const Kept<real> kept = {a_start + neuron, b_start + neuron, distance + neuron, PITCH};
            Train<real> train = trains[neuron];
            search(intervals, n, weights, (first_neuron + neuron) * sizeof(real), kept, out, train);
            __syncwarp();
            if (lane == 0) trains[neuron] = train;
            if (lane == 0) neuron = atomicAdd(&next_neuron, 1);
            neuron = __shfl_sync(FULL_WARP, neuron, 0);
        }
    }
    __syncthreads();
    for (int place = threadIdx.x; place < 32 * n_slots; place += blockDim.x) {
        const int neuron = place & 31, slot = place >> 5;
        const bool spiked = neuron < n_here && slot < trains[neuron].n;
        real* kept = times + (s * n_slots + slot) * n_post + first_neuron + neuron;
        const real y = spiked ? *kept : real(1);
        Reserved reserved = {};
        if (spikes.times) reserved = reserve(spikes.counts + s, spiked);
        const real time = spiked ? min(-tau * log(y), t_max) : Constants<real>::infinity();
        if (neuron < n_here) *kept = time;
        const int to = reserved.first();
        if (spiked && spikes.times) spikes.put(s, to, time, (first_neuron + neuron) * n_slots + slot);
    }
    if (warp == 0) {
        const Walk<real> walk = {state_a[lane], 0, trains[lane].n, trains[lane].overflow};
        if (lane < n_here) counts[s * n_post + i] = walk.n;
        add_status(status + s * 4, walk, lane < n_here);
    }
}
