// Fast forward pass of a dense layer of few neurons, for times before one origin's reach (t_max <= 8 tau); dense_forward.cu has that for many.
//
// A block owns one neuron of one sample. Sums without resets do not depend on the spikes (lif/interval.cuh): its threads make those after
// every event by a prefix sum, and the greatest distance to the limit in every list of 32 events. Then a warp jumps from spike to spike:
// to the first list whose distance reaches the resets so far, and in it, a lane per event, to the first crossing.
#include "common/block.cuh"
#include "common/bounded_factor.cuh"
#include "fused/batch.cuh"
#include "fused/dependent_launch.cuh"
#include "lif/event.cuh"

constexpr int EACH = 4, MOST_THREADS = 256, MOST = MOST_THREADS * EACH;  // events of a thread; events of a round

// ----------------------------------------------------------------------------------------------------------------------
// blocks (n_post, B), whole warps, up to MOST_THREADS threads; shared memory: 2 n_slots numbers.
template <typename real>
__global__ void __launch_bounds__(MOST_THREADS) dense_forward_each(
        const real* event_times, const int* event_neurons, const int* event_counts, int capacity,
        const real* __restrict__ weights,  // [n_pre, n_post]
        int n_post, real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, n_post], [B, n_post]
        unsigned long long* status) {      // [B, 4]: spikes, silent, overflowing, non-finite
    extern __shared__ double shared_memory[];
    __shared__ real factors[MOST + 1], a_after[MOST], b_after[MOST];  // of a round's events, and the factor of the one that follows
    __shared__ real distances[MOST / 32], totals_a[MOST_THREADS / 32], totals_b[MOST_THREADS / 32];
    real* spike_y = reinterpret_cast<real*>(shared_memory);  // [n_slots]
    real* spike_slopes = spike_y + n_slots;
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, round = EACH * blockDim.x;
    start_after_previous();
    const int i = blockIdx.x;
    const size_t s = blockIdx.y;
    event_times += s * capacity;
    event_neurons += s * capacity;
    const int n_events = events_before(event_times, event_counts[s], t_max);
    real carried_a = 0, carried_b = 0;  // sums over the rounds before
    real fall = 0;                      // sum of the resets; this and the following are the first warp's
    int count = 0;
    bool overflow = false;
    for (int first = 0; first < n_events; first += round) {
        const int n = min(round, n_events - first), own = t * EACH;
        real e[EACH], a[EACH], b[EACH];
        int rows[EACH];
#pragma unroll
        for (int u = 0; u < EACH; ++u) {
            const int event = first + min(own + u, n - 1);
            e[u] = event_times[event];
            rows[u] = event_neurons[event];
        }
        const real t_end = first + n < n_events ? event_times[first + n] : real(0);
#pragma unroll
        for (int u = 0; u < EACH; ++u) a[u] = own + u < n ? weights[(size_t)rows[u] * n_post + i] : real(0);
        __syncthreads();  // the round before has been searched
        if (t == 0) factors[n] = first + n < n_events ? bounded_factor(t_end, tau) : last_factor;
#pragma unroll
        for (int u = 0; u < EACH; ++u) {
            e[u] = bounded_factor(e[u], tau);
            if (own + u < n) factors[own + u] = e[u];
            const real part = a[u] * e[u];
            b[u] = part + (u ? b[u - 1] : real(0));
            a[u] = fma(part, e[u], u ? a[u - 1] : real(0));
        }
        const real sum_a = warp_inclusive_sum(a[EACH - 1]), sum_b = warp_inclusive_sum(b[EACH - 1]);
        const real lanes_a = __shfl_up_sync(FULL_WARP, sum_a, 1), lanes_b = __shfl_up_sync(FULL_WARP, sum_b, 1);
        if (lane == 31) {
            totals_a[warp] = sum_a;
            totals_b[warp] = sum_b;
        }
        __syncthreads();
        real before_a = carried_a, before_b = carried_b;
        for (int w = 0; w < n_warps; ++w) {
            if (w == warp) {
                before_a = carried_a + (lane ? lanes_a : real(0));
                before_b = carried_b + (lane ? lanes_b : real(0));
            }
            carried_a += totals_a[w];
            carried_b += totals_b[w];
        }
        real far = -Constants<real>::infinity();
#pragma unroll
        for (int u = 0; u < EACH; ++u) {
            if (own + u >= n) break;
            const real all_a = before_a + a[u], all_b = before_b + b[u], next = factors[own + u + 1];
            a_after[own + u] = all_a;
            b_after[own + u] = all_b;
            if (next == e[u]) continue;  // no interval, no spike
            const real y_low = reciprocal(next);
            far = max(far, fma(-all_a, y_low, all_b) - crossing_limit(e[u], next, y_low, c));
        }
#pragma unroll
        for (int distance = 1; distance < 32 / EACH; distance *= 2) far = max(far, __shfl_xor_sync(FULL_WARP, far, distance));
        if (own % 32 == 0) distances[own / 32] = far;
        __syncthreads();
        if (warp > 0) continue;

        far = lane * 32 < n ? distances[lane] : -Constants<real>::infinity();
        unsigned open = FULL_WARP;  // lists that may still be searched
        while (true) {
            const unsigned candidates = __ballot_sync(FULL_WARP, far >= fall && fall < Constants<real>::infinity()) & open;
            if (candidates == 0) break;
            const int list = __ffs(candidates) - 1, k = list * 32 + lane;
            open = ~1u << list;
            const bool mine = k < n;
            const real all_a = mine ? a_after[k] : real(0), all_b = mine ? b_after[k] : real(0);
            const real q = mine ? factors[k] : last_factor, next = mine ? factors[k + 1] : q;
            const real y_low = next != q ? reciprocal(next) : Constants<real>::nan(), inverse_two_a = reciprocal(all_a + all_a);
            real y_high = reciprocal(q);
            unsigned pending = FULL_WARP;  // events whose following interval is still to be searched
            while (true) {
                const Crossing<real> found = crossing(all_a, all_b - fall, c, inverse_two_a, y_high, y_low);
                const real q_spike = reciprocal(found.y);
                const unsigned hits = __ballot_sync(FULL_WARP, (pending >> lane & 1) && found.crosses);
                if (hits == 0) break;
                if (count == n_slots) {
                    overflow = true;
                    fall = Constants<real>::infinity();
                    break;
                }
                const int hit = __ffs(hits) - 1;
                pending = FULL_WARP << hit;
                if (lane == hit) {
                    spike_y[count] = found.y;
                    spike_slopes[count] = found.x * found.y;
                    y_high = found.y;  // the rest of this interval begins at the spike
                }
                fall = fma(reset, __shfl_sync(FULL_WARP, q_spike, hit), fall);
                ++count;
                if (n_slots == 1) fall = Constants<real>::infinity();  // time to first spike: nothing overflows
            }
        }
    }
    if (warp > 0) return;
    __syncwarp();
    for (int slot = lane; slot < n_slots; slot += 32) {
        const size_t to = (s * n_slots + slot) * n_post + i;
        times[to] = slot < count ? min(-tau * log(spike_y[slot]), t_max) : Constants<real>::infinity();
        if (slot < count) slopes[to] = spike_slopes[slot];
    }
    if (lane > 0) return;
    counts[s * n_post + i] = count;
    if (count) atomicAdd(&status[s * 4], (unsigned long long)count);
    else atomicAdd(&status[s * 4 + 1], 1ull);
    if (overflow) atomicAdd(&status[s * 4 + 2], 1ull);
    if (!isfinite(carried_a)) atomicAdd(&status[s * 4 + 3], 1ull);
}
