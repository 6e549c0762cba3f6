#pragma once
// What the kernels of the fused step for several hidden layers share (bats/fused/deep_step.py).
//
// As in the fused step of one hidden layer, all times lie below one origin's reach, so a spike is known by its factor q = e^{t / tau}
// and is the next layer's event factor E itself. A spike's gain is kept as G = delta tau / (z q^2): an event at E < q adds
// G E (E - q) to the gradient of its weight, and w G E (2 E - q) / tau to dL/dt of the event (docs/theory.md, (30)).
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/dependent_launch.cuh"
#include "fused/fast_math.cuh"

struct __align__(16) Sample {
    long long first;  // of its events in the list of all events
    int n_events;
    int label;
};

template <typename real>
struct __align__(2 * sizeof(real)) Kept {  // of a spike
    real q, gain;
};

template <typename real>
struct __align__(16) Vector {
    static constexpr int WIDTH = 16 / sizeof(real);
    real value[WIDTH];
};

// Copies n values from global to shared memory, by a group of threads of which this is number `rank`; wait_for_copies() ends it.
template <typename real>
__device__ __forceinline__ void copy_ahead(real* to, const real* from, int n, int rank, int size) {
    constexpr int WIDTH = Vector<real>::WIDTH;
    if (((size_t)from | (size_t)to | (size_t)n * sizeof(real)) % 16) {
        for (int k = rank; k < n; k += size) copy_number(to + k, from + k);
        return;
    }
    for (int k = rank * WIDTH; k < n; k += size * WIDTH) copy_16_bytes(to + k, from + k);
}

// The backward walk through the spikes of one neuron in one sample (docs/theory.md, (19)): emit(k, q, G) for every spike, latest
// first. load(k, q, slope, error) fetches a spike. Returns sum |delta tau / z| / 4, which bounds what the spikes add to any
// weight's gradient, since |r (r - 1)| <= 1/4.
template <typename real, typename Load, typename Emit>
__device__ __forceinline__ real walk_back(int count, real tau, real reset, real slope_floor, int& n_bounded, Load load, Emit emit) {
    constexpr int AHEAD = 5;  // spikes fetched together: the recurrence then waits for memory once in five spikes
    real later = 0, bound = 0;
    for (int last = count - 1; last >= 0; last -= AHEAD) {
        real q[AHEAD], slope[AHEAD], error[AHEAD], y[AHEAD], inverse_slope[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) load(max(last - u, 0), q[u], slope[u], error[u]);
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (slope[u] < slope_floor) {
                slope[u] = slope_floor;
                n_bounded += last - u >= 0;
            }
            y[u] = reciprocal(q[u]);
            inverse_slope[u] = reciprocal(slope[u]);
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (last - u < 0) break;
            const real response = fma(later, q[u], error[u]) * inverse_slope[u], gain = response * tau;
            later = fma(response, reset * y[u], later);
            bound += abs(gain) / 4;
            emit(last - u, q[u], gain * y[u] * y[u]);
        }
    }
    return bound;
}

// put(slot, neuron, q) for every spike of a sample, by all threads of a block. factors [n_slots, n_neurons].
template <typename real, typename Put>
__device__ __forceinline__ void each_spike(const real* factors, const int* counts, int n_neurons, int n_slots, Put put) {
    constexpr int AHEAD = 5;  // slots that are fetched before it is known whether they hold a spike
    for (int i = threadIdx.x; i < n_neurons; i += blockDim.x) {
        const int count = counts[i];
        real q[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) q[u] = u < n_slots ? factors[(size_t)u * n_neurons + i] : real(0);
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (u < count) put(u, i, q[u]);
        }
        for (int slot = AHEAD; slot < count; ++slot) put(slot, i, factors[(size_t)slot * n_neurons + i]);
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// The spikes of one sample, sorted by (q, place), place = slot << 16 | neuron, by all threads of a block. A bucket sort: counted per
// bucket of q, dropped into the bucket in any order, ranked inside it by comparison with the others there. Integer atomics only
// decide the order before the ranking, so the result is the same every time.
constexpr int BUCKETS = 4;  // per thread

template <typename real>
struct SpikeList {
    real *q, *other_q;
    unsigned *place, *other_place;
};

// Buckets are even in the bits of q as a float: finer where q is small, which suits spikes that crowd at the beginning of a long window.
template <typename real>
__device__ __forceinline__ int bucket_of(real q, float per_bit, int n_buckets) {
    const int bits = max(0, __float_as_int((float)q) - __float_as_int(1.0f));
    return min(n_buckets - 1, (int)(bits * per_bit));
}

// Sorts into list.other, by way of list. buckets: BUCKETS * blockDim.x integers of shared memory, aligned to 16 bytes. All q lie between
// 1 and last_factor, up to rounding. Returns how many there are.
template <typename real>
__device__ __forceinline__ int sort_spikes(const SpikeList<real>& list, const real* factors, const int* counts, int n_neurons, int n_slots,
                                           int* buckets, real last_factor) {
    const int n_buckets = BUCKETS * blockDim.x, t = threadIdx.x;
    const float per_bit = n_buckets / (float)max(1, __float_as_int((float)last_factor) - __float_as_int(1.0f));
    int4* own_buckets = reinterpret_cast<int4*>(buckets) + t;
    *own_buckets = {0, 0, 0, 0};
    __syncthreads();
    each_spike(factors, counts, n_neurons, n_slots, [&](int, int, real q) { atomicAdd(&buckets[bucket_of(q, per_bit, n_buckets)], 1); });
    __syncthreads();
    const int4 own = *own_buckets;
    int n;
    const int start = block_exclusive_sum(own.x + own.y + own.z + own.w, &n);
    *own_buckets = {start, start + own.x, start + own.x + own.y, start + own.x + own.y + own.z};
    __syncthreads();
    each_spike(factors, counts, n_neurons, n_slots, [&](int slot, int i, real q) {  // buckets[k] moves from the start of bucket k to its end
        const int to = atomicAdd(&buckets[bucket_of(q, per_bit, n_buckets)], 1);
        list.q[to] = q;
        list.place[to] = (unsigned)slot << 16 | (unsigned)i;
    });
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) {
        const real q = list.q[j];
        const unsigned place = list.place[j];
        const int bucket = bucket_of(q, per_bit, n_buckets);
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
    return n;
}
