// dL/dw of a dense layer, summed over the batch: dL/dw_ij = sum_{b, k, t_j < t_k} gain_k (r^2 - r), r = e^{-(t_k - t_j) / tau}
// (docs/theory.md, section 3).
//
// A warp owns a row of sums over all pre-neurons j, for one post-neuron i and one group of samples: no two warps share a
// sum, so there are no atomics, and the rows are added in a fixed order: the same bits every time. The warp skips the
// samples in which i is silent. In the others, with E_j = e^{t_j / tau} and y_k = e^{-t_k / tau}, event j receives
// E_j^2 Q - E_j P, where P = sum g_k y_k and Q = sum g_k y_k^2 run over the spikes after it: suffix sums that the lanes hold,
// one spike each.
#include "common/block.cuh"
#include "common/time_grid.cuh"

// ----------------------------------------------------------------------------------------------------------------------
// E = e^{(t - c L) / tau} of every event, once for all neurons. blocks (ceil(capacity / 256), B).
template <typename real>
__global__ void event_factors(const real* __restrict__ event_times, const int* __restrict__ event_counts, int capacity,
                              real length, real tau, real* __restrict__ factors) {
    const size_t s = blockIdx.y;
    for (int e = blockIdx.x * blockDim.x + threadIdx.x; e < event_counts[s]; e += gridDim.x * blockDim.x) {
        const real t = event_times[s * capacity + e];
        factors[s * capacity + e] = factor(t, origin_of(t, length), length, tau);
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// Adds `sum` to row[j]; lanes may share j if a pre-neuron spikes more than once: then they take turns.
template <typename real>
__device__ __forceinline__ void add_to_row(real* row, int j, real sum, bool mine, bool distinct) {
    if (distinct) {
        if (mine) row[j] += sum;
        return;
    }
    const int lane = threadIdx.x & 31;
    const unsigned same = __match_any_sync(FULL_WARP, mine ? j : -1 - lane);
    const int turn = __popc(same & ((1u << lane) - 1));
    for (int now = 0; __any_sync(FULL_WARP, turn >= now && mine); ++now) {
        if (turn == now && mine) row[j] += sum;
        __syncwarp();
    }
}

// One sample of one neuron with at most 32 spikes, all times below L: one origin.
template <typename real>
__device__ __forceinline__ void add_short(real* row, const real* factors, const int* event_neurons, int n_events, bool distinct,
                                          const real* times, const real* gains, int stride, int count, real tau) {
    const int lane = threadIdx.x & 31;
    real y = 0, p = 0, q = 0;
    if (lane < count) {
        y = exp(-times[(size_t)lane * stride] / tau);
        p = gains[(size_t)lane * stride] * y;
        q = p * y;
    }
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {  // suffix sums: lane k holds the sum over spikes k and later
        const real later_p = __shfl_down_sync(FULL_WARP, p, distance), later_q = __shfl_down_sync(FULL_WARP, q, distance);
        if (lane + distance < 32) {
            p += later_p;
            q += later_q;
        }
    }
    for (int first = 0; first < n_events; first += 32) {
        const int e = first + lane;
        const bool mine = e < n_events;
        const real event_factor = mine ? factors[e] : real(0);
        const int j = mine ? event_neurons[e] : 0;
        int past = 0;  // spikes at or before the event
        for (int k = 0; k < count; ++k) past += event_factor * __shfl_sync(FULL_WARP, y, k) >= 1;
        const real after_p = __shfl_sync(FULL_WARP, p, past & 31), after_q = __shfl_sync(FULL_WARP, q, past & 31);
        const bool before = mine && past < count;
        add_to_row(row, j, event_factor * (event_factor * after_q - after_p), before, distinct);
        if (!__any_sync(FULL_WARP, before)) break;  // the other events come after the last spike
    }
}

// The same for any number of spikes and any duration.
template <typename real>
__device__ void add_long(real* row, const real* event_times, const real* factors, const int* event_neurons, int n_events,
                         bool distinct, const real* times, const real* gains, int stride, int count, real tau, real length) {
    const int lane = threadIdx.x & 31;
    const real t_final = times[(size_t)(count - 1) * stride];
    for (int first = 0; first < n_events; first += 32) {
        const int e = first + lane;
        const bool mine = e < n_events;
        const real t = mine ? event_times[e] : t_final;
        const real event_factor = mine ? factors[e] : real(0);
        const real origin = origin_of(t, length);
        real sum = 0;
        for (int k = count - 1; k >= 0; --k) {
            const real t_k = times[(size_t)k * stride];
            if (!(t < t_k)) break;
            const real origin_k = origin_of(t_k, length);
            const real r = event_factor / factor(t_k, origin_k, length, tau) * shift(origin, origin_k, length, tau);
            sum += gains[(size_t)k * stride] * (r * r - r);
        }
        add_to_row(row, mine ? event_neurons[e] : 0, sum, mine, distinct);
        if (__all_sync(FULL_WARP, !(t < t_final))) break;
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_post / posts), outer groups), 32 * posts * inner groups threads. Warp w owns post-neuron
// blockIdx.x * posts + w % posts and inner group w / posts; the block adds its inner groups in order.
template <typename real>
__global__ void __launch_bounds__(512) weight_gradient(
        const real* __restrict__ event_times, const real* __restrict__ factors, const int* __restrict__ event_neurons,
        const int* __restrict__ event_counts, int capacity, int n_slots_pre,
        const real* __restrict__ times, const real* __restrict__ gains, const int* __restrict__ counts, int n_slots,
        int batch, int n_pre, int n_post, real tau, real length, real scale, int posts, int rows_in_shared,
        real* scratch,                 // [outer groups, blocks, warps, n_pre] where rows do not fit shared memory
        real* __restrict__ partial) {  // [outer groups, n_pre, n_post]; the gradient itself if there is one outer group
    extern __shared__ double shared_memory[];
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, n_warps = blockDim.x >> 5;
    const int inner_groups = n_warps / posts, groups = inner_groups * gridDim.y;
    const int i = blockIdx.x * posts + warp % posts, group = blockIdx.y * inner_groups + warp / posts;
    real* rows = rows_in_shared ? reinterpret_cast<real*>(shared_memory)
                                : scratch + ((size_t)blockIdx.y * gridDim.x + blockIdx.x) * n_warps * n_pre;
    real* row = rows + (size_t)warp * n_pre;
    for (int j = lane; j < n_pre; j += 32) row[j] = 0;
    __syncwarp();
    for (int first = group; i < n_post && first < batch; first += 32 * groups) {
        // Each lane looks up one sample of the group; those in which the neuron spikes are then taken in order.
        const int own_sample = first + lane * groups;
        const int own_count = own_sample < batch ? counts[(size_t)own_sample * n_post + i] : 0;
        for (unsigned active = __ballot_sync(FULL_WARP, own_count > 0); active; active &= active - 1) {
            const int source = __ffs(active) - 1, count = __shfl_sync(FULL_WARP, own_count, source);
            const size_t s = first + source * groups, first_event = s * capacity;
            const int n_events = event_counts[s];
            if (n_events == 0) continue;
            const real* own_times = times + s * n_slots * n_post + i;
            const real* own_gains = gains + s * n_slots * n_post + i;
            const bool short_times = own_times[(size_t)(count - 1) * n_post] < length && event_times[first_event + n_events - 1] < length;
            if (short_times && count <= 32) {
                add_short(row, factors + first_event, event_neurons + first_event, n_events, n_slots_pre == 1,
                          own_times, own_gains, n_post, count, tau);
            } else {
                add_long(row, event_times + first_event, factors + first_event, event_neurons + first_event, n_events,
                         n_slots_pre == 1, own_times, own_gains, n_post, count, tau, length);
            }
            __syncwarp();
        }
    }
    __syncthreads();
    // Written pre-neuron by pre-neuron, so that the posts of a block go out side by side.
    for (int place = threadIdx.x; place < n_pre * posts; place += blockDim.x) {
        const int j = place / posts, post = place % posts;
        if (blockIdx.x * posts + post >= n_post) continue;
        real sum = 0;
        for (int g = 0; g < inner_groups; ++g) sum += rows[(size_t)(g * posts + post) * n_pre + j];
        partial[((size_t)blockIdx.y * n_pre + j) * n_post + blockIdx.x * posts + post] = sum * scale;
    }
}

// gradient = sum of the outer groups' partial sums, in order.
template <typename real>
__global__ void __launch_bounds__(256) add_groups(const real* __restrict__ partial, int groups, long long size,
                                                  real* __restrict__ gradient) {
    const long long w = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (w >= size) return;
    real sum = partial[w];
    for (int group = 1; group < groups; ++group) sum += partial[group * size + w];
    gradient[w] = sum;
}
