// Fused step, third kernel: gradients of both layers, summed over the batch, and the optimizer.
//
// Most blocks own NEURONS hidden neurons for all samples, that is some columns of the first weights. Every (sample, neuron) pair with
// spikes is a piece of work that any warp may take, lanes over the sample's events; the events and spikes of the warp's next
// piece are on their way meanwhile. Sums are kept in fixed point: integer addition has no order, so the result is the same every
// time although warps share the sums. The unit is the exact bound of a neuron's sums over 2^30 (2^61 in double precision), so they
// cannot overflow. Weights and moments come in during all that. The blocks after these do the second weights (output_weights.cuh).
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/batch.cuh"
#include "fused/output_weights.cuh"
#include "fused/update_weight.cuh"
#include "losses/metrics.cuh"

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
    if (lane < NEURONS) room[warp * NEURONS + lane] = value;
    __syncthreads();
    if (threadIdx.x < NEURONS) {
        real sum = 0;
#pragma unroll 8
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

// A pair with spikes. In shared memory.
struct Unit {
    long long first_event, first_spike;
    int n_events, n_spikes, neuron, padding;
};

constexpr int EVENTS = 5;  // of a lane at a time

// Events of a lane, and the lane's spike.
template <typename real>
struct Portion {
    real factor[EVENTS];
    int row[EVENTS];
    real q, gain;
};

template <typename real>
struct Lists {
    const real* event_factors;
    EventRows event_rows;
    const real *spike_q, *spike_gains;
};

template <typename real>
__device__ __forceinline__ void load_events(Portion<real>& portion, const Lists<real>& lists, const Unit& unit, int from) {
#pragma unroll
    for (int c = 0; c < EVENTS; ++c) {
        const int e = from + 32 * c + (threadIdx.x & 31);
        const bool mine = e < unit.n_events;
        portion.factor[c] = mine ? lists.event_factors[unit.first_event + e] : Constants<real>::infinity();
        portion.row[c] = mine ? lists.event_rows.at(unit.first_event + e) : 0;
    }
}

template <typename real>
__device__ __forceinline__ void load_spikes(Portion<real>& portion, const Lists<real>& lists, const Unit& unit, int from) {
    const int k = from + (threadIdx.x & 31);
    const bool mine = k < unit.n_spikes;
    portion.q = mine ? lists.spike_q[unit.first_spike + k] : real(0);
    portion.gain = mine ? lists.spike_gains[unit.first_spike + k] : real(0);
}

// Adds a unit's spikes to the sums [n_pre] of its neuron; portion holds its first events and spikes.
template <typename real>
__device__ __forceinline__ void add_unit(Portion<real>& portion, const Lists<real>& lists, const Unit& unit, real units,
                                         typename Fixed<real>::type* sums) {
    for (int from = 0;;) {
        real sum[EVENTS];
#pragma unroll
        for (int c = 0; c < EVENTS; ++c) sum[c] = 0;
        for (int first = 0;;) {
            const int n = min(32, unit.n_spikes - first);
            for (int k = 0; k < n; ++k) {
                const real q = __shfl_sync(FULL_WARP, portion.q, k), gain = __shfl_sync(FULL_WARP, portion.gain, k);
#pragma unroll
                for (int c = 0; c < EVENTS; ++c) sum[c] = fma(gain, min(portion.factor[c] - q, real(0)), sum[c]);
            }
            first += 32;
            if (first >= unit.n_spikes) break;
            load_spikes(portion, lists, unit, first);
        }
#pragma unroll
        for (int c = 0; c < EVENTS; ++c) {
            if (sum[c] != 0) Fixed<real>::add(&sums[portion.row[c]], sum[c] * portion.factor[c] * units);
        }
        from += 32 * EVENTS;
        if (from >= unit.n_events) break;
        load_events(portion, lists, unit, from);
        if (unit.n_spikes > 32) load_spikes(portion, lists, unit, 0);
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks ceil(n_hidden / NEURONS) + ceil(n_hidden / group), up to 1024 threads. Shared memory as bats/fused/layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) weight_step(
        const Sample* __restrict__ samples, const real* __restrict__ event_factors, EventRows event_rows,
        const real* __restrict__ spike_q, const real* __restrict__ spike_gains,  // [batch, worst]
        const Place* __restrict__ places, const real* __restrict__ bounds,       // [ceil(n_hidden / NEURONS), batch, NEURONS]
        int batch, int n_pre, int n_hidden, long long worst,
        const typename Two<real>::type* __restrict__ out_spikes, const int* __restrict__ out_starts, int out_capacity, int n_out, int group,
        real scale, int mode, int staged,
        real* weights1, real* m1, real* v1, real* gradient1,  // [n_pre, n_hidden]
        real* weights2, real* m2, real* v2, real* gradient2,  // [n_hidden, n_out]
        const double* __restrict__ schedule, int has_moments, real beta1, real beta2, real epsilon, int nesterov,
        const real* __restrict__ loss, const int* __restrict__ predictions, const int* __restrict__ out_counts,
        const int* __restrict__ labels, double* totals) {
    using fixed = typename Fixed<real>::type;
    extern __shared__ __align__(16) double shared_memory[];
    __shared__ real bound[NEURONS], room[32 * NEURONS];
    const int t = threadIdx.x, warp = t >> 5, n_warps = blockDim.x >> 5, n_main = (n_hidden + NEURONS - 1) / NEURONS;
    const Update<real> update = {{beta1, beta2, epsilon, nesterov}, real(schedule[0]), real(schedule[2]), real(schedule[3]), mode, has_moments};
    if ((int)blockIdx.x >= n_main) {
        if (blockIdx.x == gridDim.x - 1 && warp == n_warps - 1) add_metrics(loss, predictions, out_counts, labels, batch, n_out, totals);
        const HiddenSpikes<real> hidden = {spike_q, places, worst};
        const Weights<real> second = {weights2, m2, v2, gradient2};
        update_output_weights(hidden, out_spikes, out_starts, out_capacity, n_out, (blockIdx.x - n_main) * group, min(group, n_hidden), n_hidden, batch,
                              scale, second, update, reinterpret_cast<real*>(shared_memory));
        return;
    }

    const int pitch = n_pre | 1, n_pairs = batch * NEURONS, first_neuron = blockIdx.x * NEURONS, i = first_neuron + t % NEURONS;
    Unit* units = reinterpret_cast<Unit*>(shared_memory);           // [blockDim]: of a tile of pairs
    real* copies = reinterpret_cast<real*>(units + blockDim.x);     // [3, n_pre, NEURONS]: weights and moments, if staged
    fixed* sums = reinterpret_cast<fixed*>(copies + (staged ? 3 * n_pre * NEURONS : 0));  // [NEURONS, pitch]
    const Weights<real> first = {weights1, m1, v1, gradient1};
    const bool whole = staged && first_neuron + NEURONS <= n_hidden;
    if (whole) {
        constexpr int PER_CHUNK = 16 / sizeof(real), CHUNKS = NEURONS / PER_CHUNK;
        const int n_copies = has_moments ? 3 : 1;
        for (int p = t; p < n_pre * CHUNKS; p += blockDim.x) {
            const size_t from = (size_t)(p / CHUNKS) * n_hidden + first_neuron + p % CHUNKS * PER_CHUNK;
            real* to = copies + p * PER_CHUNK;
            copy_16_bytes(to, weights1 + from);
            if (n_copies == 1) continue;
            copy_16_bytes(to + n_pre * NEURONS, m1 + from);
            copy_16_bytes(to + 2 * n_pre * NEURONS, v1 + from);
        }
        commit_copies();
    }
    for (int p = t; p < NEURONS * pitch; p += blockDim.x) sums[p] = 0;

    // Thread t looks after neuron t % NEURONS, and samples t / NEURONS, + blockDim / NEURONS, ...: one pair per tile of pairs.
    places += (size_t)first_neuron * batch;
    bounds += (size_t)first_neuron * batch;
    Place place = {0, 0};
    Sample sample = {0, 0, 0};
    const bool owned = i < n_hidden;
    if (owned && t < n_pairs) {
        place = places[t];
        sample = samples[t / NEURONS];
    }
    real own = 0;
    for (int pair = t; owned && pair < n_pairs; pair += blockDim.x) own += bounds[pair];
    sum_per_neuron(own, room, bound);
    const Lists<real> lists = {event_factors, event_rows, spike_q, spike_gains};
    for (int tile = 0; tile < n_pairs; tile += blockDim.x) {
        const int pair = tile + t;
        if (tile > 0) {
            place = {0, 0};
            if (owned && pair < n_pairs) {
                place = places[pair];
                sample = samples[pair / NEURONS];
            }
        }
        int n_units;
        const int u = block_exclusive_sum(place.count > 0, &n_units);  // synchronizes
        if (place.count > 0) {
            units[u] = {sample.first, worst * (pair / NEURONS) + place.start, sample.n_events, place.count, pair % NEURONS, 0};
        }
        __syncthreads();
        Unit unit;
        Portion<real> portion;
        if (warp < n_units) {
            unit = units[warp];
            load_events(portion, lists, unit, 0);
            load_spikes(portion, lists, unit, 0);
        }
        for (int at = warp; at < n_units; at += n_warps) {
            const Unit now = unit;
            Portion<real> own_portion = portion;
            if (at + n_warps < n_units) {
                unit = units[at + n_warps];
                load_events(portion, lists, unit, 0);
                load_spikes(portion, lists, unit, 0);
            }
            add_unit(own_portion, lists, now, to_units(bound[now.neuron]), sums + now.neuron * pitch);
        }
    }

    // The optimizer.
    wait_for_copies();
    __syncthreads();
    const real unit = from_units(bound[t % NEURONS]) * scale;
    const fixed* mine = sums + (t % NEURONS) * pitch;
    if (whole) {
#pragma unroll 2
        for (int p = t; p < n_pre * NEURONS; p += blockDim.x) {
            const size_t w = (size_t)(p / NEURONS) * n_hidden + i;
            update.apply(first, w, mine[p / NEURONS] * unit, copies[p], copies[n_pre * NEURONS + p], copies[2 * n_pre * NEURONS + p]);
        }
    } else if (i < n_hidden) {
#pragma unroll 2
        for (int j = t / NEURONS; j < n_pre; j += blockDim.x / NEURONS) {
            update.load_and_apply(first, (size_t)j * n_hidden + i, mine[j] * unit);
        }
    }
}
