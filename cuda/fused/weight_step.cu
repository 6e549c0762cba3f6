// Fused step, third kernel: backward through the hidden layer, gradients of both layers summed over the batch, and the optimizer.
//
// Most blocks own NEURONS hidden neurons for all samples, that is some columns of the first weights. A (sample, neuron) pair with spikes is
// a unit; tile by tile of pairs, dL/dt of the units' spikes is made (a thread per spike), then goes through the resets (a thread per unit), and then
// any warp may take a unit, lanes over the sample's events, and add it to the gradient; events of the warp's next unit are on their
// way meanwhile. Sums are kept in fixed point: integer addition has no order, so the result is the same every time although warps share
// the sums. The unit is the exact bound of a neuron's sums over 2^30 (2^61 in double precision), so they cannot
// overflow. Weights and moments come in during all that. The blocks after these do the second weights (output_weights.cuh).
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/batch.cuh"
#include "fused/hidden_gains.cuh"
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

constexpr int EVENTS = 5;  // of a lane at a time

// Events of a lane.
template <typename real>
struct Portion {
    real factor[EVENTS];
    int row[EVENTS];
};

template <typename real>
struct Events {
    const real* factors;
    EventRows rows;
};

template <typename index_t>
__device__ __forceinline__ void load_rows(int* row, const void* rows, long long first, int n) {
    const index_t* mine = static_cast<const index_t*>(rows) + first + (threadIdx.x & 31);
#pragma unroll
    for (int c = 0; c < EVENTS; ++c) row[c] = 32 * c + (int)(threadIdx.x & 31) < n ? mine[32 * c] : 0;
}

template <typename real>
__device__ __forceinline__ void load_events(Portion<real>& portion, const Events<real>& events, const Unit& unit, int from) {
    const real* mine = events.factors + unit.first_event + from + (threadIdx.x & 31);
    const int n = unit.n_events - from;
#pragma unroll
    for (int c = 0; c < EVENTS; ++c) portion.factor[c] = 32 * c + (int)(threadIdx.x & 31) < n ? mine[32 * c] : real(0);
    if (events.rows.wide) load_rows<int>(portion.row, events.rows.rows, unit.first_event + from, n);
    else load_rows<unsigned short>(portion.row, events.rows.rows, unit.first_event + from, n);
}

// Adds a unit's spikes (q, gain) to the sums [n_pre] of its neuron; portion holds its first events. A warp. Spikes later than all of these
// events make two sums.
template <typename real>
__device__ __forceinline__ void add_unit(Portion<real>& portion, const Events<real>& events, const Unit& unit, const real* q, const real* gain,
                                         real units, typename Fixed<real>::type* sums) {
    for (int from = 0;;) {
        const int last = min(unit.n_events - from, 32 * EVENTS) - 1;
        real latest = portion.factor[0];
#pragma unroll
        for (int c = 1; c < EVENTS; ++c) latest = last >> 5 == c ? portion.factor[c] : latest;
        latest = __shfl_sync(FULL_WARP, latest, last & 31);
        real strength = 0, moment = 0, sum[EVENTS];
        int n = unit.n_spikes;
        for (; n > 0 && q[n - 1] >= latest; --n) {
            strength += gain[n - 1];
            moment = fma(gain[n - 1], q[n - 1], moment);
        }
#pragma unroll
        for (int c = 0; c < EVENTS; ++c) sum[c] = fma(strength, portion.factor[c], -moment);
        for (int k = 0; k < n; ++k) {
            const real spike = q[k], g = gain[k];
#pragma unroll
            for (int c = 0; c < EVENTS; ++c) sum[c] = fma(g, min(portion.factor[c] - spike, real(0)), sum[c]);
        }
#pragma unroll
        for (int c = 0; c < EVENTS; ++c) {
            const real value = sum[c] * portion.factor[c];
            if (value != 0) Fixed<real>::add(&sums[portion.row[c]], value * units);
        }
        from += 32 * EVENTS;
        if (from >= unit.n_events) break;
        load_events(portion, events, unit, from);
    }
}

// What a block of first weights works on.
template <typename real>
struct Gradient {
    Events<real> events;
    OutputSpikes<real> output;
    OutputCopies<real> copies;
    HiddenNeurons<real> hidden;
    const Sample* samples;
    const Place* places;  // [batch, NEURONS]
    int batch, n_pairs, capacity, pitch;
    Unit* units;                                // [blockDim]: of a tile of pairs
    unsigned short* unit_of;                    // [capacity]
    real *list_q, *list_gain, *list_slopes;     // [capacity]: spikes of a tile
    real* bound;
};

// As many pairs as the block has threads.
struct Tile {
    int n_units, n_spikes, start;  // start: of the thread's pair among the spikes
};

template <typename real>
__device__ __forceinline__ void find_pair(const Gradient<real>& task, bool owned, int pair, Place& place, Sample& sample) {
    place = {0, 0};
    if (!owned || pair >= task.n_pairs) return;
    place = task.places[pair];
    sample = task.samples[pair / NEURONS];
}

// Lists the pairs with spikes, and whose each spike is, if there is room for that.
template <typename real>
__device__ __forceinline__ Tile open_tile(const Gradient<real>& task, const Place& place, const Sample& sample, int pair) {
    const int first_sample = (pair - (int)threadIdx.x) / NEURONS;
    copy_outputs(task.output, first_sample, min(task.batch - first_sample, (int)blockDim.x / NEURONS), task.copies);
    int n_units, n_spikes;
    const int start = block_exclusive_sum(place.count, &n_spikes);  // synchronizes
    const int u = block_exclusive_sum(place.count > 0, &n_units);
    if (place.count > 0) {
        const int s = pair / NEURONS;
        task.units[u] = {sample.first, sample.n_events, place.count, pair % NEURONS, s, place.start, start,
                         task.copies.first[s - first_sample], task.copies.total[s - first_sample]};
        for (int k = 0; n_spikes <= task.capacity && k < place.count; ++k) task.unit_of[start + k] = u;
    }
    __syncthreads();
    return {n_units, n_spikes, start};
}

// dL/dt of all spikes of a tile, then backward through the resets; returns the bound of the thread's pair. LISTED: q and gains lie in
// the list of the tile, else in those of the samples.
template <bool LISTED, typename real>
__device__ __forceinline__ real tile_gains(const Gradient<real>& task, const Tile& tile, const Place& place, int pair, int& n_bounded) {
    const HiddenNeurons<real>& hidden = task.hidden;
    const int stride = hidden.n_hidden;
    if (LISTED || tile.n_spikes <= task.capacity) {
        for (int r = threadIdx.x; r < tile.n_spikes; r += blockDim.x) {
            const Unit& unit = task.units[task.unit_of[r]];
            const int k = r - unit.start;
            const long long at = hidden.worst * unit.sample + unit.place + k;
            const real q = hidden.spike_q[at];
            const real slope = hidden.slopes_of(unit.sample, hidden.first_neuron + unit.neuron)[(size_t)k * stride];
            const real error = spike_error(hidden, task.output, task.copies, unit, q);
            if (LISTED) {
                task.list_q[r] = q;
                task.list_gain[r] = error;
            } else {
                hidden.spike_gains[at] = error;
            }
            task.list_slopes[r] = slope;
        }
    } else {
        for (int u = threadIdx.x >> 5; u < tile.n_units; u += blockDim.x >> 5) {
            const Unit& unit = task.units[u];
            for (int k = threadIdx.x & 31; k < unit.n_spikes; k += 32) {
                const long long at = hidden.worst * unit.sample + unit.place + k;
                hidden.spike_gains[at] = spike_error(hidden, task.output, task.copies, unit, hidden.spike_q[at]);
            }
        }
    }
    __syncthreads();
    if (place.count == 0) return 0;
    const int s = pair / NEURONS;
    const long long at = hidden.worst * s + place.start;
    const real* q = LISTED ? task.list_q + tile.start : hidden.spike_q + at;
    real* gain = LISTED ? task.list_gain + tile.start : hidden.spike_gains + at;
    const auto through = [&](const real* slopes, int step) {
        return recurrent_gains(
            place.count, hidden.tau, hidden.reset, hidden.slope_floor, n_bounded, [=](int k) { return slopes[(size_t)k * step]; },
            [=](int k) { return q[k]; }, [=](int k) { return gain[k]; }, [=](int k, real, real value) { gain[k] = value; });
    };
    if (LISTED || tile.n_spikes <= task.capacity) return through(task.list_slopes + tile.start, 1);
    return through(hidden.slopes_of(s, hidden.first_neuron + pair % NEURONS), stride);
}

// All units of a tile, by any warp. LISTED: as above.
template <bool LISTED, typename real>
__device__ __forceinline__ void add_units(const Gradient<real>& task, int n_units, const real* spike_q, const real* spike_gains,
                                          typename Fixed<real>::type* sums) {
    const int warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    Portion<real> next;
    if (warp < n_units) load_events(next, task.events, task.units[warp], 0);
    for (int at = warp; at < n_units; at += n_warps) {
        const Unit unit = task.units[at];
        Portion<real> portion = next;
        if (at + n_warps < n_units) load_events(next, task.events, task.units[at + n_warps], 0);
        const long long first = LISTED ? unit.start : task.hidden.worst * unit.sample + unit.place;
        add_unit(portion, task.events, unit, spike_q + first, spike_gains + first, to_units(task.bound[unit.neuron]), sums + unit.neuron * task.pitch);
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks ceil(n_hidden / NEURONS) + ceil(n_hidden / group), up to 1024 threads. Shared memory as bats/fused/layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) weight_step(
        const Sample* __restrict__ samples, const real* __restrict__ event_factors, EventRows event_rows,
        const real* __restrict__ spike_q, real* spike_gains,  // [batch, worst]; gains: room for spikes that outgrow shared memory
        const real* __restrict__ slopes,                      // [batch, n_slots, n_hidden]
        const Place* __restrict__ places,                     // [ceil(n_hidden / NEURONS), batch, NEURONS]
        int batch, int n_pre, int n_hidden, int n_slots, long long worst, real tau, real reset, real slope_floor, int capacity, int copied,
        const typename Two<real>::type* __restrict__ out_spikes, const int* __restrict__ out_neurons,
        const int* __restrict__ out_starts, int out_capacity, int n_out, int group, int slices,
        real scale, int mode, int staged,
        real* weights1, real* m1, real* v1, real* gradient1,  // [n_pre, n_hidden]
        const real* __restrict__ before2,                     // [n_hidden, n_out]: a copy of the second weights before the step
        real* weights2, real* m2, real* v2, real* gradient2,  // [n_hidden, n_out]
        const double* __restrict__ schedule, int has_moments, real beta1, real beta2, real epsilon, int nesterov,
        const real* __restrict__ loss, const int* __restrict__ predictions, const int* __restrict__ out_counts,
        const int* __restrict__ labels, double* totals, unsigned long long* bounded, int n_rows) {
    using fixed = typename Fixed<real>::type;
    extern __shared__ __align__(16) double shared_memory[];
    __shared__ real bound[NEURONS], room[32 * NEURONS];
    __shared__ int out_first[MOST_SAMPLES], out_total[MOST_SAMPLES];
    const int t = threadIdx.x, warp = t >> 5, n_warps = blockDim.x >> 5, n_main = (n_hidden + NEURONS - 1) / NEURONS;
    const Update<real> update = {{beta1, beta2, epsilon, nesterov}, real(schedule[0]), real(schedule[2]), real(schedule[3]), mode, has_moments};
    if ((int)blockIdx.x >= n_main) {
        if (blockIdx.x == gridDim.x - 1 && warp == n_warps - 1) add_metrics(loss, predictions, out_counts, labels, batch, n_out, totals);
        const HiddenSpikes<real> hidden = {spike_q, places, worst, n_hidden, batch};
        const OutputSpikes<real> output = {out_spikes, out_neurons, out_starts, out_capacity, n_out};
        const Weights<real> second = {weights2, m2, v2, gradient2};
        update_output_weights(hidden, output, (blockIdx.x - n_main) * group, group, slices, scale, second, update,
                              reinterpret_cast<real*>(shared_memory));
        return;
    }

    const int pitch = n_pre | 1, n_pairs = batch * NEURONS, first_neuron = blockIdx.x * NEURONS, i = first_neuron + t % NEURONS;
    real* copies = reinterpret_cast<real*>(shared_memory);          // [3, n_pre, NEURONS]: weights and moments, if staged
    Unit* units = reinterpret_cast<Unit*>(copies + (staged ? 3 * n_pre * NEURONS : 0));  // [blockDim]: of a tile of pairs
    fixed* sums = reinterpret_cast<fixed*>(units + blockDim.x);     // [NEURONS, pitch]
    real* rows2 = reinterpret_cast<real*>(sums + NEURONS * pitch);  // [NEURONS, n_out]: second weights
    auto* out_copies = reinterpret_cast<typename Two<real>::type*>(rows2 + NEURONS * n_out);  // [copied]
    real *list_q = reinterpret_cast<real*>(out_copies + copied), *list_gain = list_q + capacity, *list_slopes = list_gain + capacity;  // [capacity]
    unsigned short *unit_of = reinterpret_cast<unsigned short*>(list_slopes + capacity), *copied_neurons = unit_of + capacity;
    const Weights<real> first = {weights1, m1, v1, gradient1};
    const bool whole = staged && first_neuron + NEURONS <= n_hidden, owned = i < n_hidden;

    // Thread t looks after neuron t % NEURONS, and samples t / NEURONS, + blockDim / NEURONS, ...: one pair per tile of pairs.
    places += (size_t)first_neuron * batch;
    Place place = {0, 0};
    Sample sample = {0, 0, 0};
    if (owned && t < n_pairs) {
        place = places[t];
        sample = samples[t / NEURONS];
    }
    if (whole) {
        constexpr int PER_CHUNK = 16 / sizeof(real), CHUNKS = NEURONS / PER_CHUNK;
        for (int p = t; p < n_pre * CHUNKS; p += blockDim.x) {
            const size_t from = (size_t)(p / CHUNKS) * n_hidden + first_neuron + p % CHUNKS * PER_CHUNK;
            real* to = copies + p * PER_CHUNK;
            copy_16_bytes(to, weights1 + from);
            if (!has_moments) continue;
            copy_16_bytes(to + n_pre * NEURONS, m1 + from);
            copy_16_bytes(to + 2 * n_pre * NEURONS, v1 + from);
        }
        commit_copies();
    }
    for (int p = t; p < NEURONS * n_out; p += blockDim.x) {
        rows2[p] = first_neuron + p / n_out < n_hidden ? before2[(size_t)first_neuron * n_out + p] : real(0);
    }
    for (int p = t; p < NEURONS * pitch; p += blockDim.x) sums[p] = 0;

    const Gradient<real> task = {{event_factors, event_rows}, {out_spikes, out_neurons, out_starts, out_capacity, n_out},
                                 {out_copies, copied_neurons, copied, out_first, out_total},
                                 {spike_q, spike_gains, slopes, worst, n_hidden, n_slots, first_neuron, tau, reset, slope_floor, rows2},
                                 samples, places, batch, n_pairs, capacity, pitch, units, unit_of, list_q, list_gain, list_slopes, bound};
    int n_bounded = 0;
    if (n_pairs <= (int)blockDim.x) {
        const Tile tile = open_tile(task, place, sample, t);
        const bool listed = tile.n_spikes <= capacity;
        real own;
        if (listed) own = tile_gains<true>(task, tile, place, t, n_bounded);
        else own = tile_gains<false>(task, tile, place, t, n_bounded);
        sum_per_neuron(own, room, bound);  // synchronizes
        if (listed) add_units<true>(task, tile.n_units, list_q, list_gain, sums);
        else add_units<false>(task, tile.n_units, spike_q, spike_gains, sums);
    } else {
        // The bounds are needed before the first unit is added, so all spikes go through the resets first.
        real own = 0;
#pragma unroll 1
        for (int first_pair = 0; first_pair < n_pairs; first_pair += blockDim.x) {
            find_pair(task, owned, first_pair + t, place, sample);
            const Tile tile = open_tile(task, place, sample, first_pair + t);
            own += tile_gains<false>(task, tile, place, first_pair + t, n_bounded);
        }
        sum_per_neuron(own, room, bound);
#pragma unroll 1
        for (int first_pair = 0; first_pair < n_pairs; first_pair += blockDim.x) {
            find_pair(task, owned, first_pair + t, place, sample);
            const Tile tile = open_tile(task, place, sample, first_pair + t);
            add_units<false>(task, tile.n_units, spike_q, spike_gains, sums);
        }
    }
    if (n_bounded) atomicAdd(&bounded[(t % n_rows) * 4], (unsigned long long)n_bounded);

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
