// Fused step of several hidden layers, last kernel: the gradients of all layers, summed over the batch, and the optimizer.
//
// A block owns OWN neurons of one layer for all samples: their columns of the weights. Their spikes go backwards through the resets (a
// thread per sample and neuron) into shared memory; then any warp may take 32 events of any sample, a lane each, through the
// spikes of all its neurons. Sums are kept in fixed point: integer addition has no order, so the result is the same every time
// although warps share the sums. The unit is the exact bound of a neuron's sums over 2^30 (2^61 in double precision), so they
// cannot overflow.
#include "common/constants.cuh"
#include "fused/deep.cuh"
#include "losses/metrics.cuh"
#include "optim/update.cuh"

constexpr int OWN = 8, MOST_LAYERS = 8;
constexpr int ADD = 1, STORE = 2, UPDATE = 4;  // mode: add the stored gradient, store the sum, update the weights

template <typename real>
struct Fixed;

template <>
struct Fixed<float> {
    using type = int;
    static constexpr int AHEAD = 7;  // weights of a thread that are fetched before their gradient is known
    static constexpr float LIMIT = 1 << 30;
    static __device__ __forceinline__ void add(type* sum, float value) { atomicAdd(sum, __float2int_rn(value)); }
};

template <>
struct Fixed<double> {
    using type = long long;
    static constexpr int AHEAD = 2;
    static constexpr double LIMIT = 1ll << 61;
    static __device__ __forceinline__ void add(type* sum, double value) {
        atomicAdd(reinterpret_cast<unsigned long long*>(sum), (unsigned long long)__double2ll_rn(value));
    }
};

// A layer, its events and its weights. The first layer's events are those of the images (lists null: samples say where they lie), the
// others' the sorted spikes of the layer before, [batch, list_pitch].
template <typename real>
struct Layer {
    const real* in_factors;
    const unsigned* in_rows;
    const int* in_counts;
    const real *factors, *slopes, *errors;  // [batch, n_slots, n_post]
    const int* counts;                      // [batch, n_post]
    real *weights, *m, *v, *gradient;       // [n_pre, n_post]
    unsigned long long* bounded;            // [n_rows, 4]
    long long list_pitch;
    int n_pre, n_post, n_slots, first_block;
    real tau, reset, slope_floor;
};

template <typename real>
struct Layers {
    Layer<real> layer[MOST_LAYERS];
    int n;
};

struct Rule {  // of the optimizer
    const double* schedule;
    double beta1, beta2, epsilon;
    int has_moments, nesterov, mode;
};

// Sum over the threads with the same t % OWN, in a fixed order; result[i] for all threads after it. room: [warps, OWN].
template <typename real>
__device__ __forceinline__ void sum_per_neuron(real value, real* room, real* result) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
#pragma unroll
    for (int distance = OWN; distance < 32; distance *= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    if (lane < OWN) room[warp * OWN + lane] = value;
    __syncthreads();
    if (threadIdx.x < OWN) {
        real sum = 0;
        for (int w = 0; w < n_warps; ++w) sum += room[w * OWN + threadIdx.x];
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

template <typename real>
struct Fetched {
    real weight, m, v;
};

template <typename real>
__device__ __forceinline__ Fetched<real> fetch(const Layer<real>& layer, size_t w, const Rule& rule) {
    if (!(rule.mode & UPDATE)) return {0, 0, 0};
    if (!rule.has_moments) return {layer.weights[w], 0, 0};
    return {layer.weights[w], layer.m[w], layer.v[w]};
}

template <typename real>
__device__ __forceinline__ void step_weight(const Layer<real>& layer, size_t w, Fetched<real> old, real g, const Rule& rule,
                                            const Moments<real>& moments, real rate, real correct1, real correct2) {
    if (rule.mode & ADD) g += layer.gradient[w];
    if (rule.mode & STORE) layer.gradient[w] = g;
    if (!(rule.mode & UPDATE)) return;
    if (rule.has_moments) {
        layer.weights[w] = old.weight + adam_change(g, old.m, old.v, moments, rate, correct1, correct2);
        layer.m[w] = old.m;
        layer.v[w] = old.v;
    } else {
        layer.weights[w] = old.weight - rate * g;
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks sum over layers of ceil(n_post / OWN), up to 1024 threads. Shared memory as bats/fused/deep_layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) deep_weights(
        const __grid_constant__ Layers<real> layers, const Sample* __restrict__ samples, int batch, int list_capacity, real scale,
        const __grid_constant__ Rule rule, int n_rows,
        const real* __restrict__ loss, const int* __restrict__ predictions, const int* __restrict__ out_counts,
        const int* __restrict__ labels, int n_out, double* totals) {  // totals null: another launch adds the metrics
    using fixed = typename Fixed<real>::type;
    constexpr int AHEAD = Fixed<real>::AHEAD;
    extern __shared__ double shared_memory[];
    __shared__ real bound[OWN], room[32 * OWN];
    __shared__ int most_events;
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, n_pairs = batch * OWN;
    int which = layers.n - 1;
    while (blockIdx.x < layers.layer[which].first_block) --which;
    const Layer<real>& layer = layers.layer[which];
    const int n_pre = layer.n_pre, n_post = layer.n_post, pitch = n_pre | 1;
    const int first_neuron = (blockIdx.x - layer.first_block) * OWN, i = first_neuron + t % OWN;  // thread t looks after neuron t % OWN
    fixed* sums = reinterpret_cast<fixed*>(shared_memory);          // [OWN, pitch]
    real* list_q = reinterpret_cast<real*>(sums + OWN * pitch);     // [list_capacity + n_slots] spikes of the pairs at work
    real* list_gain = list_q + list_capacity + layer.n_slots;
    int* pair_start = reinterpret_cast<int*>(list_gain + list_capacity + layer.n_slots);  // [blockDim]: a tile of pairs
    int* pair_count = pair_start + blockDim.x;

    Fetched<real> ahead[AHEAD];
    const int row_step = blockDim.x / OWN, first_row = t / OWN;
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
        const int j = first_row + u * row_step;
        ahead[u] = {0, 0, 0};
        if (i < n_post && j < n_pre) ahead[u] = fetch(layer, (size_t)j * n_post + i, rule);
    }
    if (totals && blockIdx.x == 0 && warp == n_warps - 1) add_metrics(loss, predictions, out_counts, labels, batch, n_out, totals);
    for (int p = t; p < OWN * pitch; p += blockDim.x) sums[p] = 0;

    int n_bounded = 0;
    const auto walk = [&](int pair, int count, real* q_to, real* gain_to) {
        const size_t base = (size_t)(pair / OWN) * layer.n_slots * n_post + i;
        return walk_back(
            count, layer.tau, layer.reset, layer.slope_floor, n_bounded,
            [&](int k, real& q, real& slope, real& error) {
                const size_t spike = base + (size_t)k * n_post;
                q = layer.factors[spike];
                slope = layer.slopes[spike];
                error = layer.errors[spike];
            },
            [&](int k, real q, real gain) {
                if (!q_to) return;
                q_to[k] = q;
                gain_to[k] = gain;
            });
    };
    const auto count_of = [&](int pair) { return pair < n_pairs && i < n_post ? layer.counts[(size_t)(pair / OWN) * n_post + i] : 0; };

    // Bounds; if all spikes fit the list they are put there at once, else round by round below.
    int count = count_of(t), total;
    int start = block_exclusive_sum(count, &total);
    const bool at_once = n_pairs <= (int)blockDim.x && total <= list_capacity;
    real own = 0;
    for (int pair = t; pair < n_pairs; pair += blockDim.x) {
        const int n = pair == t ? count : count_of(pair);
        if (n > 0) own += walk(pair, n, at_once ? list_q + start : nullptr, list_gain + start);
    }
    if (n_bounded) atomicAdd(&layer.bounded[(t % n_rows) * 4], (unsigned long long)n_bounded);
    sum_per_neuron(own, room, bound);

    n_bounded = 0;
    for (int first = 0; first < n_pairs; first += blockDim.x) {
        const int first_sample = first / OWN, n_samples = min(batch - first_sample, (int)blockDim.x / OWN);
        if (first > 0) {
            count = count_of(first + t);
            start = block_exclusive_sum(count, &total);
        }
        pair_start[t] = start;
        pair_count[t] = count;
        if (t == 0) most_events = 0;
        __syncthreads();
        const auto events_of = [&](int s) { return layer.in_counts ? layer.in_counts[s] : samples[s].n_events; };
        if (t < n_samples) atomicMax(&most_events, events_of(first_sample + t));
        for (int from = 0; from < total; from += list_capacity) {  // a round takes the pairs whose list starts in [from, from + capacity)
            if (!at_once && count > 0 && start >= from && start < from + list_capacity) {
                walk(first + t, count, list_q + start - from, list_gain + start - from);
            }
            __syncthreads();
            const int n_units = n_samples * ((most_events + 31) >> 5);  // 32 events of a sample each
            for (int unit = warp; unit < n_units; unit += n_warps) {
                const int local = unit % n_samples, s = first_sample + local, e = unit / n_samples * 32 + lane, n_events = events_of(s);
                if (e - lane >= n_events) continue;
                const size_t base = layer.in_counts ? (size_t)s * layer.list_pitch : (size_t)samples[s].first;
                const real factor = e < n_events ? layer.in_factors[base + e] : Constants<real>::infinity();
                const unsigned row = e < n_events ? layer.in_rows[base + e] & (layer.in_counts ? 0xffffu : 0xffffffffu) : 0u;
                const real earliest = __shfl_sync(FULL_WARP, factor, 0);
#pragma unroll 2
                for (int neuron = 0; neuron < OWN; ++neuron) {
                    const int n = pair_count[local * OWN + neuron], place = pair_start[local * OWN + neuron] - from;
                    if (n == 0 || place < 0 || place >= list_capacity) continue;
                    const real *q = list_q + place, *gain = list_gain + place;
                    if (!(earliest < q[n - 1])) continue;  // all 32 come after the last spike
                    real sum = 0;
                    for (int k = 0; k < n; ++k) sum = fma(gain[k], min(factor - q[k], real(0)), sum);
                    if (sum != 0) Fixed<real>::add(&sums[neuron * pitch + row], sum * factor * to_units(bound[neuron]));
                }
            }
            __syncthreads();
        }
        __syncthreads();
    }

    // The optimizer.
    if (i >= n_post) return;
    const Moments<real> moments = {real(rule.beta1), real(rule.beta2), real(rule.epsilon), rule.nesterov};
    const real rate = rule.schedule[0], correct1 = rule.schedule[2], correct2 = rule.schedule[3];
    const real unit = from_units(bound[t % OWN]) * scale;
    const fixed* own_sums = sums + (t % OWN) * pitch;
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
        const int j = first_row + u * row_step;
        if (j < n_pre) step_weight(layer, (size_t)j * n_post + i, ahead[u], own_sums[j] * unit, rule, moments, rate, correct1, correct2);
    }
#pragma unroll 2
    for (int j = first_row + AHEAD * row_step; j < n_pre; j += row_step) {
        const size_t w = (size_t)j * n_post + i;
        step_weight(layer, w, fetch(layer, w, rule), own_sums[j] * unit, rule, moments, rate, correct1, correct2);
    }
}
