// Fused step, third kernel: gradients of both layers, summed over the batch, and the optimizer.
//
// A block owns NEURONS hidden neurons for all samples: their columns of the first weights, their rows of the second. Their spikes
// go backwards through the resets (a thread per sample and neuron) into shared memory; then every active (sample, neuron)
// pair is a piece of work that any warp may take, lanes over the sample's events or output spikes. Sums are kept in fixed point:
// integer addition has no order, so the result is the same every time although warps share the sums. The unit is the exact
// bound of a neuron's sums over 2^30 (2^61 in double precision), so they cannot overflow.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/batch.cuh"
#include "losses/metrics.cuh"
#include "optim/update.cuh"

constexpr int NEURONS = 8;
constexpr int ADD = 1, STORE = 2, UPDATE = 4;  // mode: add the stored gradient, store the sum, update the weights

template <typename real>
struct Fixed;

template <>
struct Fixed<float> {
    using type = int;
    static constexpr float LIMIT = 1 << 30;
    static __device__ __forceinline__ void add(type* sum, float value) { atomicAdd(sum, __float2int_rn(value)); }
};

template <>
struct Fixed<double> {
    using type = long long;
    static constexpr double LIMIT = 1ll << 61;
    static __device__ __forceinline__ void add(type* sum, double value) {
        atomicAdd(reinterpret_cast<unsigned long long*>(sum), (unsigned long long)__double2ll_rn(value));
    }
};

// Sum over the threads with the same t % NEURONS, in a fixed order; result[i] for all threads after it.
// room: [warps, NEURONS].
template <typename real>
__device__ __forceinline__ void sum_per_neuron(real value, real* room, real* result) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
#pragma unroll
    for (int distance = NEURONS; distance < 32; distance *= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    __syncthreads();
    if (lane < NEURONS) room[warp * NEURONS + lane] = value;
    __syncthreads();
    if (threadIdx.x < NEURONS) {
        real sum = 0;
        for (int w = 0; w < n_warps; ++w) sum += room[w * NEURONS + threadIdx.x];
        result[threadIdx.x] = sum;
    }
    __syncthreads();
}

// What turns a sum into fixed point and back; NaN back where the bound is not finite, as the gradient would be.
template <typename real>
__device__ __forceinline__ real to_units(real bound) {
    return bound > 0 && bound < Constants<real>::infinity() ? Fixed<real>::LIMIT / bound : real(0);
}
template <typename real>
__device__ __forceinline__ real from_units(real bound) {
    return bound < Constants<real>::infinity() ? bound / Fixed<real>::LIMIT : Constants<real>::nan();
}

// One weight: its gradient, and what the optimizer makes of it.
template <typename real>
struct Weights {
    real *weight, *m, *v, *gradient;
};

template <typename real>
__device__ __forceinline__ void step_weight(const Weights<real>& array, size_t w, real g, int mode, int has_moments,
                                            const Moments<real>& moments, real rate, real correct1, real correct2) {
    if (mode & ADD) g += array.gradient[w];
    if (mode & STORE) array.gradient[w] = g;
    if (!(mode & UPDATE)) return;
    if (has_moments) array.weight[w] += adam_change(g, array.m[w], array.v[w], moments, rate, correct1, correct2);
    else array.weight[w] -= rate * g;
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks ceil(n_hidden / NEURONS), up to 1024 threads. Shared memory as bats/fused/layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) weight_step(
        const Sample* __restrict__ samples, const real* __restrict__ event_factors, const int* __restrict__ event_rows,
        const real* __restrict__ factors, const real* __restrict__ slopes, const real* __restrict__ errors, const int* __restrict__ counts,
        int batch, int n_pre, int n_hidden, int n_slots, real tau, real reset, real slope_floor, int list_capacity,
        const real* __restrict__ out_gains, const int* __restrict__ out_neurons, const int* __restrict__ out_totals,
        const real* __restrict__ out_bounds, int out_capacity, int n_out,
        real scale, int mode,
        real* weights1, real* m1, real* v1, real* gradient1,  // [n_pre, n_hidden]
        real* weights2, real* m2, real* v2, real* gradient2,  // [n_hidden, n_out]
        const double* __restrict__ schedule, int has_moments, real beta1, real beta2, real epsilon, int nesterov,
        const real* __restrict__ loss, const int* __restrict__ predictions, const int* __restrict__ out_counts,
        const int* __restrict__ labels, double* totals, unsigned long long* bounded, int n_rows) {
    using fixed = typename Fixed<real>::type;
    extern __shared__ double shared_memory[];
    __shared__ real bound1[NEURONS], bound2[NEURONS], room[32 * NEURONS];
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5;
    const int pitch = n_pre | 1, n_pairs = batch * NEURONS;
    fixed* sums1 = reinterpret_cast<fixed*>(shared_memory);  // [NEURONS, pitch]
    fixed* sums2 = sums1 + NEURONS * pitch;                  // [NEURONS, n_out]
    real* list_q = reinterpret_cast<real*>(sums2 + NEURONS * n_out);  // [list_capacity + n_slots] spikes of the pairs at work
    real* list_gain = list_q + list_capacity + n_slots;
    int* unit_pair = reinterpret_cast<int*>(list_gain + list_capacity + n_slots);  // [blockDim]: active pairs of a tile
    int *unit_start = unit_pair + blockDim.x, *unit_count = unit_start + blockDim.x;

    if (blockIdx.x == 0 && warp == n_warps - 1) add_metrics(loss, predictions, out_counts, labels, batch, n_out, totals);
    for (int p = t; p < NEURONS * (pitch + n_out); p += blockDim.x) sums1[p] = 0;

    // Thread t looks after neuron t % NEURONS, and samples t / NEURONS, + blockDim / NEURONS, ...: one pair per tile of pairs.
    const int i = blockIdx.x * NEURONS + t % NEURONS;
    int n_bounded = 0;
    const auto walk = [&](int pair, int count, real* q_to, real* gain_to) {
        const size_t base = (size_t)(pair / NEURONS) * n_slots * n_hidden + i;
        return recurrent_gains(
            factors + base, slopes + base, n_hidden, count, tau, reset, slope_floor, n_bounded,
            [=](int k) { return errors[base + (size_t)k * n_hidden]; },
            [=](int k, real q, real gain) {
                if (!q_to) return;
                q_to[k] = q;
                gain_to[k] = gain;
            });
    };
    const auto count_of = [&](int pair) { return pair < n_pairs && i < n_hidden ? counts[(size_t)(pair / NEURONS) * n_hidden + i] : 0; };

    // Bounds; if all spikes fit the list they are put there at once, else round by round below.
    int count = count_of(t), total, n_units;
    int start = block_exclusive_sum(count, &total);
    const bool at_once = n_pairs <= (int)blockDim.x && total <= list_capacity;
    real own1 = 0, own2 = 0;
    for (int pair = t; pair < n_pairs; pair += blockDim.x) {
        const int n = pair == t ? count : count_of(pair);
        if (n == 0) continue;
        own1 += walk(pair, n, at_once ? list_q + start : nullptr, list_gain + start);
        own2 += n * out_bounds[pair / NEURONS];
    }
    if (n_bounded) atomicAdd(&bounded[(t % n_rows) * 4], (unsigned long long)n_bounded);
    sum_per_neuron(own1, room, bound1);
    sum_per_neuron(own2, room, bound2);

    for (int first = 0; first < n_pairs; first += blockDim.x) {
        const int pair = first + t;
        if (first > 0) {
            count = count_of(pair);
            start = block_exclusive_sum(count, &total);
        }
        const int unit = block_exclusive_sum(count > 0, &n_units);
        if (count > 0) {
            unit_pair[unit] = pair;
            unit_start[unit] = start;
            unit_count[unit] = count;
        }
        for (int from = 0; from < total; from += list_capacity) {  // a round takes the pairs whose list starts in [from, from + capacity)
            if (!at_once && count > 0 && start >= from && start < from + list_capacity) {
                walk(pair, count, list_q + start - from, list_gain + start - from);
            }
            __syncthreads();
            for (int u = warp; u < n_units; u += n_warps) {
                const int place = unit_start[u] - from, n = unit_count[u];
                if (place < 0 || place >= list_capacity) continue;
                const int s = unit_pair[u] / NEURONS, neuron = unit_pair[u] % NEURONS;
                const real *q = list_q + place, *gain = list_gain + place;
                const Sample sample = samples[s];
                const real units1 = to_units(bound1[neuron]), units2 = to_units(bound2[neuron]);
                // First weights: lanes over the events of the sample.
                for (int e = lane; __any_sync(FULL_WARP, e < sample.n_events); e += 32) {
                    const real factor = e < sample.n_events ? event_factors[sample.first + e] : Constants<real>::infinity();
                    real sum = 0;
                    for (int k = 0; k < n; ++k) sum = fma(gain[k], min(factor - q[k], real(0)), sum);
                    if (sum != 0) Fixed<real>::add(&sums1[neuron * pitch + event_rows[sample.first + e]], sum * factor * units1);
                    if (!__any_sync(FULL_WARP, factor < q[n - 1])) break;  // the other events come after the last spike
                }
                // Second weights: lanes over the outputs' spikes.
                const real* out_q = out_gains + (size_t)2 * out_capacity * s;
                for (int k = lane; k < out_totals[s]; k += 32) {
                    const real later = out_q[k];
                    real sum = 0;
                    for (int j = 0; j < n; ++j) sum = fma(q[j], min(q[j] - later, real(0)), sum);
                    if (sum != 0) Fixed<real>::add(&sums2[neuron * n_out + out_neurons[(size_t)out_capacity * s + k]],
                                                   sum * out_q[out_capacity + k] * units2);
                }
            }
            __syncthreads();
        }
    }

    // The optimizer.
    const Moments<real> moments = {beta1, beta2, epsilon, nesterov};
    const real rate = schedule[0], correct1 = schedule[2], correct2 = schedule[3];
    const Weights<real> first = {weights1, m1, v1, gradient1}, second = {weights2, m2, v2, gradient2};
    __syncthreads();
    if (i < n_hidden) {
        const real unit = from_units(bound1[t % NEURONS]) * scale;
#pragma unroll 4
        for (int j = t / NEURONS; j < n_pre; j += blockDim.x / NEURONS) {
            const real g = sums1[(t % NEURONS) * pitch + j] * unit;
            step_weight(first, (size_t)j * n_hidden + i, g, mode, has_moments, moments, rate, correct1, correct2);
        }
    }
    for (int p = t; p < NEURONS * n_out; p += blockDim.x) {
        const int neuron = p / n_out, row = blockIdx.x * NEURONS + neuron;
        if (row >= n_hidden) break;
        const real g = sums2[p] * (from_units(bound2[neuron]) * scale);
        step_weight(second, (size_t)row * n_out + p % n_out, g, mode, has_moments, moments, rate, correct1, correct2);
    }
}
