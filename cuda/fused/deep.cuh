#pragma once
// What the kernels of the fused step for several hidden layers share (bats/fused/deep_step.py).
//
// As in the fused step of one hidden layer, all times lie below one origin's reach, so a spike is known by its factor q = e^{t / tau}
// and is the next layer's event factor E itself. A spike's gain is kept as G = delta tau / (z q^2): an event at E < q adds
// G E (E - q) to the gradient of its weight, and w G E (2 E - q) / tau to dL/dt of the event (docs/theory.md, (30)).
#include "common/block.cuh"
#include "common/constants.cuh"

struct __align__(16) Sample {
    long long first;  // of its events in the list of all events
    int n_events;
    int label;
};

// A copy from global to shared memory that no register waits for.
template <typename real>
__device__ __forceinline__ void copy_ahead(real* to, const real* from) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    if (sizeof(real) == 4) asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from) : "memory");
    else asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(address), "l"(from) : "memory");
}
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// A kernel may start while the one ahead of it still runs (bats/fused/overlap.py). Before wait_for_kernel_ahead it may read only what was
// complete when that one passed this line, which is all that the kernels before it wrote; and it may write nothing they read.
__device__ __forceinline__ void wait_for_kernel_ahead() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// The backward walk through the spikes of one neuron in one sample (docs/theory.md, (19)): emit(k, q, G) for every spike, latest
// first. load(k, q, slope, error) fetches a spike. Returns sum |delta tau / z| / 4, which bounds what the spikes add to any
// weight's gradient, since |r (r - 1)| <= 1/4.
template <typename real, typename Load, typename Emit>
__device__ __forceinline__ real walk_back(int count, real tau, real reset, real slope_floor, int& n_bounded, Load load, Emit emit) {
    constexpr int AHEAD = 4;  // spikes fetched together: the recurrence then waits for memory once in four spikes
    real later = 0, bound = 0;
    for (int last = count - 1; last >= 0; last -= AHEAD) {
        real q[AHEAD], slope[AHEAD], error[AHEAD], y[AHEAD], inverse[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) load(max(last - u, 0), q[u], slope[u], error[u]);
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (slope[u] < slope_floor) {
                slope[u] = slope_floor;
                n_bounded += last - u >= 0;
            }
            y[u] = 1 / q[u];
            inverse[u] = 1 / slope[u];
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (last - u < 0) break;
            const real response = fma(later, q[u], error[u]) * inverse[u], gain = response * tau;
            later = fma(response, reset * y[u], later);
            bound += abs(gain) / 4;
            emit(last - u, q[u], gain * y[u] * y[u]);
        }
    }
    return bound;
}

// ----------------------------------------------------------------------------------------------------------------------
// The spikes of one sample, sorted by (q, place), place = slot << 16 | neuron, by all threads of a block. A bucket sort: counted per
// bucket of q, dropped into the bucket in any order, ranked inside it by comparison with the others there. Integer atomics only
// decide the order before the ranking, so the result is the same every time.
template <typename real>
struct SpikeList {
    real *q, *other_q;
    unsigned *place, *other_place;
};

template <typename real>
__device__ __forceinline__ int bucket_of(real q, real q_min, real per_factor, int n_buckets) {
    return min(n_buckets - 1, (int)((q - q_min) * per_factor));
}

// Copies the spikes of a sample into list.other, neuron by neuron, and returns how many there are. factors [n_slots, n_neurons].
// extremes: room for 2 * warps. The least and the greatest factor go to all threads.
template <typename real>
__device__ __forceinline__ int gather_list(const SpikeList<real>& list, const real* factors, const int* counts, int n_neurons, int n_slots,
                                           real* extremes, real* q_min, real* q_max) {
    constexpr int AHEAD = 5;  // slots that are fetched before it is known whether they hold a spike
    real low = Constants<real>::infinity(), high = 0;
    int before = 0;
    for (int first = 0; first < n_neurons; first += blockDim.x) {
        const int i = first + threadIdx.x, count = i < n_neurons ? counts[i] : 0;
        real q[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) q[u] = i < n_neurons && u < n_slots ? factors[(size_t)u * n_neurons + i] : real(0);
        int total;
        const int start = before + block_exclusive_sum(count, &total);
        before += total;
        const auto put = [&](int slot, real own) {
            list.other_q[start + slot] = own;
            list.other_place[start + slot] = (unsigned)slot << 16 | (unsigned)i;
            low = min(low, own);
            high = max(high, own);
        };
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (u < count) put(u, q[u]);
        }
        for (int slot = AHEAD; slot < count; ++slot) put(slot, factors[(size_t)slot * n_neurons + i]);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        low = min(low, __shfl_xor_sync(FULL_WARP, low, distance));
        high = max(high, __shfl_xor_sync(FULL_WARP, high, distance));
    }
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    if (lane == 0) {
        extremes[warp] = low;
        extremes[n_warps + warp] = high;
    }
    __syncthreads();
    low = extremes[min(lane, n_warps - 1)];
    high = extremes[n_warps + min(lane, n_warps - 1)];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        low = min(low, __shfl_xor_sync(FULL_WARP, low, distance));
        high = max(high, __shfl_xor_sync(FULL_WARP, high, distance));
    }
    *q_min = low;
    *q_max = high;
    return before;
}

// Sorts list.other into list. buckets: blockDim.x integers of shared memory. (q_max of a NaN never gets here: NaN is no spike.)
template <typename real>
__device__ __forceinline__ void sort_list(const SpikeList<real>& list, int n, int* buckets, real q_min, real q_max) {
    const int n_buckets = blockDim.x, t = threadIdx.x;
    const real per_factor = q_max > q_min ? n_buckets / (q_max - q_min) : real(0);
    buckets[t] = 0;
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) atomicAdd(&buckets[bucket_of(list.other_q[j], q_min, per_factor, n_buckets)], 1);
    __syncthreads();
    int total;
    const int start = block_exclusive_sum(buckets[t], &total);
    __syncthreads();
    buckets[t] = start;
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) {  // buckets[k] moves from the start of bucket k to its end
        const real q = list.other_q[j];
        const int to = atomicAdd(&buckets[bucket_of(q, q_min, per_factor, n_buckets)], 1);
        list.q[to] = q;
        list.place[to] = list.other_place[j];
    }
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) {
        const real q = list.q[j];
        const unsigned place = list.place[j];
        const int bucket = bucket_of(q, q_min, per_factor, n_buckets);
        const int begin = bucket > 0 ? buckets[bucket - 1] : 0, end = buckets[bucket];
        int rank = begin;
        for (int other = begin; other < end; ++other) {
            const real other_q = list.q[other];
            rank += other_q < q || (other_q == q && list.place[other] < place);
        }
        list.other_q[rank] = q;
        list.other_place[rank] = place;
    }
    __syncthreads();
}
