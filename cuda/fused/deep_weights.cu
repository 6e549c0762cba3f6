// Fused step of several hidden layers, last kernel: the gradients of all layers, summed over the batch, and the optimizer.
//
// A block owns OWN neurons of one layer for all samples: their columns of the weights. Their spikes go backwards through the resets (a
// thread per sample and neuron) into shared memory; then any warp may take 32 events of any sample, a lane each, through the
// spikes of all its neurons. Sums are kept in fixed point: integer addition has no order, so the result is the same every time
// although warps share the sums.
#include "common/constants.cuh"
#include "common/fixed_point.cuh"
#include "fused/deep.cuh"
#include "losses/metrics.cuh"
#include "fused/update_weight.cuh"

constexpr int OWN = 8, MOST_LAYERS = 8;

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
    int n_pre, n_post, n_slots, in_slots, first_block;  // in_slots: events of one incoming neuron, at most
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

// A spike of one neuron in one sample, with the sums over itself and all later ones: an event at E before them adds E (E Q - P).
template <typename real>
struct __align__(4 * sizeof(real)) Later {
    real q, gain, sum_gain, sum_gain_q;
};

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

// ----------------------------------------------------------------------------------------------------------------------
// blocks sum over layers of ceil(n_post / OWN), up to 1024 threads. Shared memory as bats/fused/deep_layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) deep_weights(
        const __grid_constant__ Layers<real> layers, const Sample* __restrict__ samples, int batch, int list_capacity, real scale,
        const __grid_constant__ Rule rule, int n_rows,
        const real* __restrict__ loss, const int* __restrict__ predictions, const int* __restrict__ out_counts,
        const int* __restrict__ labels, int n_out, double* totals) {  // totals null: another launch adds the metrics
    using fixed = typename FixedPoint<real>::type;
    constexpr int AHEAD = sizeof(real) == 4 ? 6 : 2, MOST_SAMPLES = 1024 / OWN, SPAN = 2, PARTS = 2;
    // AHEAD: weights of a thread that are fetched before their gradient is known; MOST_SAMPLES: of a tile of pairs
    extern __shared__ double shared_memory[];
    __shared__ real bound[OWN], units[OWN], room[32 * OWN];
    __shared__ int most_events, n_events[MOST_SAMPLES];
    __shared__ long long first_event[MOST_SAMPLES];
    __shared__ unsigned active[MOST_SAMPLES];  // a bit per neuron
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, n_pairs = batch * OWN;
    int which = layers.n - 1;
    while (blockIdx.x < layers.layer[which].first_block) --which;
    const Layer<real>& layer = layers.layer[which];
    const int n_pre = layer.n_pre, n_post = layer.n_post, n_slots = layer.n_slots, pitch = n_pre | 1;
    const int i = (blockIdx.x - layer.first_block) * OWN + t % OWN;  // thread t looks after neuron t % OWN
    const bool valid = i < n_post;
    fixed* sums = reinterpret_cast<fixed*>(shared_memory);                      // [OWN, pitch], up to an even number
    Later<real>* list = reinterpret_cast<Later<real>*>(sums + (OWN * pitch + 3) / 4 * 4);  // [list_capacity + n_slots]: the pairs at work
    real* list_slope = reinterpret_cast<real*>(list + list_capacity + n_slots);
    int* pair_start = reinterpret_cast<int*>(list_slope + list_capacity + n_slots);  // [blockDim]: a tile of pairs
    int* pair_count = pair_start + blockDim.x;
    const auto count_of = [&](int pair) { return pair < n_pairs && valid ? layer.counts[(size_t)(pair / OWN) * n_post + i] : 0; };

    // What is not the work of the kernel ahead: weights and moments, and the spikes; if all of them have room, all slots at once.
    Fetched<real> ahead[AHEAD];
    const int row_step = blockDim.x / OWN, first_row = t / OWN;
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
        const int j = first_row + u * row_step;
        ahead[u] = {0, 0, 0};
        if (valid && j < n_pre) ahead[u] = fetch(layer, (size_t)j * n_post + i, rule);
    }
    for (int p = t; p < OWN * pitch; p += blockDim.x) sums[p] = 0;
    int count = count_of(t);
    const bool dense = n_pairs <= (int)blockDim.x && n_pairs * n_slots <= list_capacity;
    for (int x = t; dense && x < n_pairs * n_slots; x += blockDim.x) {
        const int slot = x / OWN % n_slots, s = x / OWN / n_slots, place = (s * OWN + t % OWN) * n_slots + slot;
        if (!valid || slot >= layer.counts[(size_t)s * n_post + i]) continue;
        const size_t spike = ((size_t)s * n_slots + slot) * n_post + i;
        list[place] = {layer.factors[spike], 0, 0, 0};
        list_slope[place] = layer.slopes[spike];
    }
    start_after_previous();
    for (int x = t; dense && x < n_pairs * n_slots; x += blockDim.x) {
        const int slot = x / OWN % n_slots, s = x / OWN / n_slots;
        if (!valid || slot >= layer.counts[(size_t)s * n_post + i]) continue;
        list[(s * OWN + t % OWN) * n_slots + slot].gain = layer.errors[((size_t)s * n_slots + slot) * n_post + i];
    }
    if (totals && blockIdx.x == 0 && warp == n_warps - 1) add_metrics(loss, predictions, out_counts, labels, batch, n_out, totals);

    // Back through the resets; without room for all spikes this only finds the bounds, and is done again round by round.
    int n_bounded = 0, total = 0, start = t * n_slots;
    const auto walk = [&](int pair, int n, Later<real>* to) {
        const size_t base = (size_t)(pair / OWN) * n_slots * n_post + i;
        real sum_gain = 0, sum_gain_q = 0;
        return walk_back(
            n, layer.tau, layer.reset, layer.slope_floor, n_bounded,
            [&](int k, real& q, real& slope, real& error) {
                if (dense) {
                    q = to[k].q;
                    error = to[k].gain;
                    slope = list_slope[to - list + k];
                } else {
                    const size_t spike = base + (size_t)k * n_post;
                    q = layer.factors[spike];
                    slope = layer.slopes[spike];
                    error = layer.errors[spike];
                }
            },
            [&](int k, real q, real gain) {
                sum_gain += gain;
                sum_gain_q = fma(gain, q, sum_gain_q);
                if (to) to[k] = {q, gain, sum_gain, sum_gain_q};
            });
    };
    __syncthreads();
    real own = 0;
    for (int pair = t; pair < n_pairs; pair += blockDim.x) {
        const int n = pair == t ? count : count_of(pair);
        if (n > 0) own += walk(pair, n, dense ? list + start : nullptr);
    }
    if (n_bounded) atomicAdd(&layer.bounded[(t % n_rows) * 4], (unsigned long long)n_bounded);
    n_bounded = 0;
    sum_per_column<OWN>(own, room, bound, min(n_warps, (n_pairs + 31) >> 5));
    // A weight gets something from every spike of its incoming neuron.
    if (t < OWN) units[t] = fixed_units(bound[t] * layer.in_slots);

    for (int first = 0; first < n_pairs; first += blockDim.x) {
        const int first_sample = first / OWN, n_samples = min(batch - first_sample, (int)blockDim.x / OWN);
        if (first > 0) count = count_of(first + t);
        if (!dense) start = block_exclusive_sum(count, &total);
        else total = list_capacity;
        const unsigned fires = __ballot_sync(FULL_WARP, count > 0) >> (lane / OWN * OWN) & ((1u << OWN) - 1);
        pair_start[t] = start;
        pair_count[t] = count;
        if (t % OWN == 0) active[t / OWN] = fires;
        if (t == 0) most_events = 0;
        __syncthreads();
        if (t < n_samples) {
            const int s = first_sample + t;
            n_events[t] = layer.in_counts ? layer.in_counts[s] : samples[s].n_events;
            first_event[t] = layer.in_counts ? s * layer.list_pitch : samples[s].first;
            atomicMax(&most_events, n_events[t]);
        }
        for (int from = 0; from < total; from += list_capacity) {  // a round takes the pairs whose list starts in [from, from + capacity)
            if (!dense && count > 0 && start >= from && start < from + list_capacity) walk(first + t, count, list + start - from);
            __syncthreads();
            // A unit: 32 * SPAN events of a sample, and every PARTS-th of its active neurons.
            const int n_units = n_samples * PARTS * ((most_events + 32 * SPAN - 1) / (32 * SPAN));
            real next_factor[SPAN];
            unsigned next_row[SPAN];
            const auto fetch_events = [&](int unit) {  // of the next unit: they come while this one is worked on
                const int local = unit / PARTS % n_samples, e = unit / PARTS / n_samples * 32 * SPAN, n = n_events[local];
#pragma unroll
                for (int u = 0; u < SPAN; ++u) {
                    const bool exists = unit < n_units && e + u * 32 + lane < n;
                    const long long event = first_event[local] + e + u * 32 + lane;
                    next_factor[u] = exists ? layer.in_factors[event] : Constants<real>::infinity();
                    next_row[u] = exists ? layer.in_rows[event] & (layer.in_counts ? 0xffffu : 0xffffffffu) : 0;
                }
            };
            fetch_events(warp);
            for (int unit = warp; unit < n_units; unit += n_warps) {
                const int part = unit % PARTS, local = unit / PARTS % n_samples, e = unit / PARTS / n_samples * 32 * SPAN, n = n_events[local];
                real factor[SPAN];
                unsigned row[SPAN];
#pragma unroll
                for (int u = 0; u < SPAN; ++u) factor[u] = next_factor[u], row[u] = next_row[u];
                fetch_events(unit + n_warps);
                if (e >= n) continue;
                const real earliest = __shfl_sync(FULL_WARP, factor[0], 0);
                real latest = factor[0];
#pragma unroll
                for (int u = 0; u < SPAN; ++u) latest = factor[u] < Constants<real>::infinity() ? factor[u] : latest;
                latest = __shfl_sync(FULL_WARP, latest, n - 1 - e < 32 * SPAN ? (n - 1 - e) % 32 : 31);
                unsigned left = active[local];
                for (int turn = 0; left; ++turn, left &= left - 1) {
                    if (turn % PARTS != part) continue;
                    const int neuron = __ffs(left) - 1, n_spikes = pair_count[local * OWN + neuron];
                    const int place = pair_start[local * OWN + neuron] - from;
                    if (place < 0 || place >= list_capacity) continue;
                    const Later<real>* spikes = list + place;
                    // Spikes after all these events come in as two sums; only those among the events are looked at one by one.
                    int first_after = 0, first_among = 0;
                    for (int k = 0; k < n_spikes; k += 32) {
                        const real q = spikes[min(k + lane, n_spikes - 1)].q;
                        first_after += __popc(__ballot_sync(FULL_WARP, k + lane < n_spikes && !(q > latest)));
                        first_among += __popc(__ballot_sync(FULL_WARP, k + lane < n_spikes && !(q > earliest)));
                    }
                    if (first_among == n_spikes) continue;
                    real sum_gain = 0, sum_gain_q = 0, sum[SPAN];
                    if (first_after < n_spikes) sum_gain = spikes[first_after].sum_gain, sum_gain_q = spikes[first_after].sum_gain_q;
#pragma unroll
                    for (int u = 0; u < SPAN; ++u) sum[u] = factor[u] < Constants<real>::infinity() ? fma(factor[u], sum_gain, -sum_gain_q) : real(0);
                    for (int k = first_among; k < first_after; ++k) {
                        const real q = spikes[k].q, gain = spikes[k].gain;
#pragma unroll
                        for (int u = 0; u < SPAN; ++u) sum[u] = fma(gain, min(factor[u] - q, real(0)), sum[u]);
                    }
#pragma unroll
                    for (int u = 0; u < SPAN; ++u) {
                        if (sum[u] != 0) FixedPoint<real>::add(&sums[neuron * pitch + row[u]], sum[u] * factor[u] * units[neuron]);
                    }
                }
            }
            __syncthreads();
        }
        __syncthreads();
    }

    // The optimizer.
    if (!valid) return;
    const Update<real> update = {{real(rule.beta1), real(rule.beta2), real(rule.epsilon), rule.nesterov}, real(rule.schedule[0]),
                                 real(rule.schedule[2]), real(rule.schedule[3]), rule.mode, rule.has_moments};
    const Weights<real> array = {layer.weights, layer.m, layer.v, layer.gradient};
    const auto change = [&](int j, const Fetched<real>& old, real g) {
        update.apply(array, (size_t)j * n_post + i, g, old.weight, old.m, old.v);
    };
    const real unit = scale / units[t % OWN];
    const fixed* own_sums = sums + (t % OWN) * pitch;
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
        const int j = first_row + u * row_step;
        if (j < n_pre) change(j, ahead[u], own_sums[j] * unit);
    }
    for (int j = first_row + AHEAD * row_step; j < n_pre; j += row_step) {
        change(j, fetch(layer, (size_t)j * n_post + i, rule), own_sums[j] * unit);
    }
}
