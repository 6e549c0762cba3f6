// dL/dw of a dense layer, summed over the batch: dL/dw_ij = sum_{b, k, t_j < t_k} gain_k (r^2 - r), r = e^{-(t_k - t_j) / tau}
// (docs/theory.md, section 3).
//
// A warp owns a row of sums over all pre-neurons j for one post-neuron i and one group of samples, in shared memory where
// it fits, else in global memory. Its lanes take 32 events of a sample each; silent neurons are skipped. The rows of the
// sample groups are then added in a fixed order: no atomics on floating-point numbers, the same bits every time.
#include "common/block.cuh"
#include "common/time_grid.cuh"

template <typename real>
__device__ __forceinline__ void add_pair(
        real* row, const real* event_times, const int* event_neurons, int n_events, bool distinct,
        const real* times, const real* gains, int stride, int count, real tau, real length) {
    const int lane = threadIdx.x & 31;
    const real t_final = times[(size_t)(count - 1) * stride];
    for (int first = 0; first < n_events; first += 32) {
        const int e = first + lane;
        const bool mine = e < n_events;
        const real t = mine ? event_times[e] : t_final;
        const int j = mine ? event_neurons[e] : -1 - lane;
        const real origin = origin_of(t, length);
        const real event_factor = factor(t, origin, length, tau);
        real sum = 0;
        for (int k = count - 1; k >= 0; --k) {
            const real t_k = times[(size_t)k * stride];
            if (!(t < t_k)) break;
            const real origin_k = origin_of(t_k, length);
            real r = event_factor / factor(t_k, origin_k, length, tau);
            if (origin_k != origin) r *= shift(origin, origin_k, length, tau);
            sum += gains[(size_t)k * stride] * (r * r - r);
        }
        if (distinct) {  // one spike per pre-neuron: no two lanes share a sum
            if (mine) row[j] += sum;
        } else {
            const unsigned same = __match_any_sync(FULL_WARP, j);
            const int turn = __popc(same & ((1u << lane) - 1));
            for (int now = 0; __any_sync(FULL_WARP, turn >= now && mine); ++now) {
                if (turn == now && mine) row[j] += sum;
                __syncwarp();
            }
        }
        if (__all_sync(FULL_WARP, !(t < t_final))) break;  // the other events come after the last spike
    }
    __syncwarp();
}

// blocks (ceil(n_post / posts), groups), 32 * posts threads: warp w owns post-neuron blockIdx.x * posts + w.
template <typename real>
__global__ void __launch_bounds__(512) weight_gradient(
        const real* __restrict__ event_times, const int* __restrict__ event_neurons, const int* __restrict__ event_counts,
        int capacity, int n_slots_pre,
        const real* __restrict__ times, const real* __restrict__ gains, const int* __restrict__ counts, int n_slots,
        int batch, int n_pre, int n_post, real tau, real length, real scale, int rows_in_shared,
        real* scratch,              // [groups, n_post, n_pre] where rows do not fit shared memory
        real* __restrict__ partial) {  // [groups, n_pre, n_post]; the gradient itself if there is one group
    extern __shared__ double shared_memory[];
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, posts = blockDim.x >> 5;
    const int i = blockIdx.x * posts + warp, group = blockIdx.y, groups = gridDim.y;
    real* rows = reinterpret_cast<real*>(shared_memory);
    real* row = rows_in_shared ? rows + (size_t)warp * n_pre : scratch + ((size_t)group * n_post + i) * n_pre;
    if (i < n_post) {
        for (int j = lane; j < n_pre; j += 32) row[j] = 0;
        __syncwarp();
        for (int s = group; s < batch; s += groups) {
            const size_t unit = (size_t)s * n_post + i;
            const int count = counts[unit];
            if (count == 0) continue;
            const size_t first_spike = (size_t)s * n_slots * n_post + i;
            add_pair(row, event_times + (size_t)s * capacity, event_neurons + (size_t)s * capacity, event_counts[s],
                     n_slots_pre == 1, times + first_spike, gains + first_spike, n_post, count, tau, length);
        }
    }
    __syncthreads();
    // Written pre-neuron by pre-neuron, so that the posts of a block go out side by side.
    for (int place = threadIdx.x; place < n_pre * posts; place += blockDim.x) {
        const int j = place / posts, post = place % posts;
        if (blockIdx.x * posts + post >= n_post) continue;
        const real* source = rows_in_shared ? rows + (size_t)post * n_pre
                                            : scratch + ((size_t)group * n_post + blockIdx.x * posts + post) * n_pre;
        partial[((size_t)group * n_pre + j) * n_post + blockIdx.x * posts + post] = source[j] * scale;
    }
}

// gradient = sum of the groups' partial sums, in the order of the groups.
template <typename real>
__global__ void __launch_bounds__(256) add_groups(const real* __restrict__ partial, int groups, long long size, real* __restrict__ gradient) {
    const long long w = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (w >= size) return;
    real sum = partial[w];
    for (int group = 1; group < groups; ++group) sum += partial[group * size + w];
    gradient[w] = sum;
}
