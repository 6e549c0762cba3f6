// Fused step, third kernel: backward through the hidden layer, gradients of both layers summed over the batch, and the optimizer.
//
// Most blocks own NEURONS hidden neurons for all samples, that is some columns of the first weights. Tile by tile of (sample, neuron) pairs,
// dL/dt of the spikes goes through the resets (a thread per pair); then any warp may take a sample, or half of its pairs, lanes over the sample's
// events, and add them to the gradient; events of the warp's next sample are on their way meanwhile.
// Sums are kept in fixed point: integer addition has no order, so the result is the same every time although warps share the sums. Weights
// and moments come in during all that. The blocks after these do the second weights (output_weights.cuh).
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "common/constants.cuh"
#include "common/fixed_point.cuh"
#include "fused/batch.cuh"
#include "fused/dependent_launch.cuh"
#include "fused/hidden_gains.cuh"
#include "fused/output_weights.cuh"
#include "fused/update_weight.cuh"
#include "losses/metrics.cuh"

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
__device__ __forceinline__ void load_events(Portion<real>& portion, const Events<real>& events, const Sample& sample, int from) {
    const real* mine = events.factors + sample.first + from + (threadIdx.x & 31);
    const int n = sample.n_events - from;
#pragma unroll
    for (int c = 0; c < EVENTS; ++c) portion.factor[c] = 32 * c + (int)(threadIdx.x & 31) < n ? mine[32 * c] : real(0);
    if (events.rows.wide) load_rows<int>(portion.row, events.rows.rows, sample.first + from, n);
    else load_rows<unsigned short>(portion.row, events.rows.rows, sample.first + from, n);
}

// Adds the n spikes (q, gain) of a neuron to its sums [n_pre], at the events of a portion; latest: the last of these. A warp. Spikes that come
// after all of the events make two sums.
template <typename real>
__device__ __forceinline__ void add_spikes(const Portion<real>& portion, real latest, const real* q, const real* gain, int n, real units,
                                           typename FixedPoint<real>::type* sums) {
    real strength = 0, moment = 0, sum[EVENTS];
    for (; n > 0; --n) {
        const real spike = q[n - 1], g = gain[n - 1];
        if (spike < latest) break;
        strength += g;
        moment = fma(g, spike, moment);
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
        if (value != 0) FixedPoint<real>::add(&sums[portion.row[c]], value * units);
    }
}

// What a block of first weights works on: tiles of as many pairs as the block has threads.
template <typename real>
struct Gradient {
    Events<real> events;
    HiddenNeurons<real> hidden;
    const Sample* samples;
    const Place* places;  // [batch, NEURONS]
    int batch, n_pairs, capacity, pitch;
    // Of a tile, in shared memory:
    Sample* tile_samples;                    // [MOST_SAMPLES]
    Place* tile_places;                      // [blockDim]: in the list of the sample
    int* starts;                             // [blockDim]: in the list of the tile
    unsigned short* pair_of;                 // [capacity]: whose each spike is
    real *list_q, *list_gain, *list_slopes;  // [capacity]
    real* units;                             // [NEURONS]
    int* room;                               // [32]
};

struct Tile {
    int n_spikes, start, n_samples;  // start: of the spikes of the thread's pair
};

template <typename real>
__device__ __forceinline__ Place find_pair(const Gradient<real>& task, bool owned, int pair) {
    return owned && pair < task.n_pairs ? task.places[pair] : Place{0, 0};
}

// Lists the pairs, and whose each spike is, if there is room for that. first_pair: of the tile.
template <typename real>
__device__ __forceinline__ Tile open_tile(const Gradient<real>& task, const Place& place, int first_pair) {
    const int t = threadIdx.x, first_sample = first_pair / NEURONS, n_samples = min(task.batch - first_sample, (int)blockDim.x / NEURONS);
    Tile tile;
    tile.n_samples = n_samples;
    if (t < n_samples) task.tile_samples[t] = task.samples[first_sample + t];
    task.tile_places[t] = place;
    tile.start = block_exclusive_sum(place.count, &tile.n_spikes, task.room);  // synchronizes
    task.starts[t] = tile.start;
    for (int k = 0; tile.n_spikes <= task.capacity && k < place.count; ++k) task.pair_of[tile.start + k] = t;
    __syncthreads();
    return tile;
}

// Takes the spikes of a tile backward through the resets; returns the bound of the thread's pair. LISTED: q and gains lie in the list of the
// tile, else in those of the samples.
template <bool LISTED, typename real>
__device__ __forceinline__ real tile_gains(const Gradient<real>& task, const Tile& tile, const Place& place, int first_pair, int& n_bounded) {
    const HiddenNeurons<real>& hidden = task.hidden;
    const int t = threadIdx.x, first_sample = first_pair / NEURONS;
    const auto through = [&](const real* slopes, const real* q, const real* errors, real* gains) {
        return recurrent_gains(
            place.count, hidden.tau, hidden.reset, hidden.slope_floor, n_bounded, [=](int k) { return slopes[k]; },
            [=](int k) { return q[k]; }, [=](int k) { return errors[k]; }, [=](int k, real, real value) { gains[k] = value; });
    };
    if constexpr (LISTED) {
        for (int r = t; r < tile.n_spikes; r += blockDim.x) {
            const int pair = task.pair_of[r];
            const long long at = hidden.worst * (first_sample + pair / NEURONS) + task.tile_places[pair].start + r - task.starts[pair];
            task.list_q[r] = hidden.spike_q[at];
            task.list_gain[r] = hidden.spike_errors[at];
            task.list_slopes[r] = hidden.spike_slopes[at];
        }
        __syncthreads();
        return through(task.list_slopes + tile.start, task.list_q + tile.start, task.list_gain + tile.start, task.list_gain + tile.start);
    } else {
        const long long at = hidden.worst * (first_sample + t / NEURONS) + place.start;
        return through(hidden.spike_slopes + at, hidden.spike_q + at, hidden.spike_errors + at, hidden.spike_gains + at);
    }
}

// Adds all pairs of a tile to the gradient; warps take NEURONS / parts pairs of a sample at a time, whichever comes next: *taken, which
// starts at the number of warps. LISTED: as above.
template <bool LISTED, typename real>
__device__ __forceinline__ void add_pairs(const Gradient<real>& task, int n_samples, int first_pair, int parts, int* taken,
                                          typename FixedPoint<real>::type* sums) {
    const int lane = threadIdx.x & 31, n_items = n_samples * parts, per_item = NEURONS / parts;
    const auto take = [=] { return __shfl_sync(FULL_WARP, lane == 0 ? atomicAdd(taken, 1) : 0, 0); };
    const real *spike_q = LISTED ? task.list_q : task.hidden.spike_q, *spike_gains = LISTED ? task.list_gain : task.hidden.spike_gains;
    Portion<real> next;
    int item = threadIdx.x >> 5, after;
    if (item < n_items) load_events(next, task.events, task.tile_samples[item / parts], 0);
    for (; item < n_items; item = after) {
        after = take();
        const int in_tile = item / parts, first = item * per_item, n_events = task.tile_samples[in_tile].n_events;
        Portion<real> portion = next;
        if (after < n_items) load_events(next, task.events, task.tile_samples[after / parts], 0);
        for (int from = 0; from < n_events; from += 32 * EVENTS) {
            if (from > 0) load_events(portion, task.events, task.tile_samples[in_tile], from);
            const int last = min(n_events - from, 32 * EVENTS) - 1;
            real latest = portion.factor[0];
#pragma unroll
            for (int c = 1; c < EVENTS; ++c) latest = last >> 5 == c ? portion.factor[c] : latest;
            latest = __shfl_sync(FULL_WARP, latest, last & 31);
#pragma unroll 1
            for (int pair = first; pair < first + per_item; ++pair) {
                const Place place = task.tile_places[pair];
                if (place.count == 0) continue;
                const long long at = LISTED ? task.starts[pair] : task.hidden.worst * (first_pair / NEURONS + in_tile) + place.start;
                const int neuron = pair % NEURONS;
                add_spikes(portion, latest, spike_q + at, spike_gains + at, place.count, task.units[neuron], sums + neuron * task.pitch);
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks ceil(n_hidden / NEURONS) + ceil(n_hidden / group), up to 1024 threads. Shared memory as bats/fused/layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) weight_step(
        const Sample* samples, const real* __restrict__ event_factors, EventRows event_rows,
        const real* spike_q, const real* spike_errors, const real* spike_slopes,  // [batch, worst]: of the hidden spikes, neuron by neuron
        real* spike_gains,                       // the same: room for those that outgrow shared memory
        const Place* places,                     // [ceil(n_hidden / NEURONS), batch, NEURONS]
        int batch, int n_pre, int n_hidden, int in_slots, long long worst, real tau, real reset, real slope_floor, int capacity,
        const typename Two<real>::type* out_spikes, const int* out_starts, int out_capacity, int n_out, int group, int slices,
        real scale, int mode, int staged,
        real* weights1, real* m1, real* v1, real* gradient1,  // [n_pre, n_hidden]
        real* weights2, real* m2, real* v2, real* gradient2,  // [n_hidden, n_out]
        const double* schedule, int has_moments, real beta1, real beta2, real epsilon, int nesterov,
        const real* loss, const int* predictions, const int* out_counts,
        const int* labels, double* totals, unsigned long long* bounded, int n_rows) {
    using fixed = typename FixedPoint<real>::type;
    extern __shared__ __align__(16) double shared_memory[];
    __shared__ real bound[NEURONS], units[NEURONS], room[32 * NEURONS];
    __shared__ int scan_room[32];
    __shared__ Sample tile_samples[MOST_SAMPLES];
    __shared__ int taken;
    __shared__ double rates[4];
    const int t = threadIdx.x, warp = t >> 5, n_warps = blockDim.x >> 5, n_main = (n_hidden + NEURONS - 1) / NEURONS;
    const auto update = [&] {
        return Update<real>{{beta1, beta2, epsilon, nesterov}, real(rates[0]), real(rates[2]), real(rates[3]), mode, has_moments};
    };
    if ((int)blockIdx.x >= n_main) {
        start_after_previous();
        if (t < 4) rates[t] = schedule[t];
        __syncthreads();  // every thread needs the rates
        if (blockIdx.x == gridDim.x - 1 && warp == n_warps - 1) add_metrics(loss, predictions, out_counts, labels, batch, n_out, totals);
        const HiddenSpikes<real> hidden = {spike_q, places, worst, n_hidden, batch};
        const OutputSpikes<real> output = {out_spikes, out_starts, out_capacity, n_out};
        const Weights<real> second = {weights2, m2, v2, gradient2};
        update_output_weights(hidden, output, (blockIdx.x - n_main) * group, group, slices, scale, second, update(),
                              reinterpret_cast<real*>(shared_memory));
        return;
    }

    const int pitch = n_pre | 1, n_pairs = batch * NEURONS, first_neuron = blockIdx.x * NEURONS, i = first_neuron + t % NEURONS;
    real* copies = reinterpret_cast<real*>(shared_memory);          // [3, n_pre, NEURONS]: weights and moments, if staged
    Place* tile_places = reinterpret_cast<Place*>(copies + (staged ? 3 * n_pre * NEURONS : 0));  // [blockDim]
    int* starts = reinterpret_cast<int*>(tile_places + blockDim.x);  // [blockDim]
    fixed* sums = reinterpret_cast<fixed*>(starts + blockDim.x);    // [NEURONS, pitch]
    real* list_q = reinterpret_cast<real*>(sums + NEURONS * pitch);  // [capacity]: spikes of a tile
    real *list_gain = list_q + capacity, *list_slopes = list_gain + capacity;
    unsigned short* pair_of = reinterpret_cast<unsigned short*>(list_slopes + capacity);
    const Weights<real> first = {weights1, m1, v1, gradient1};
    const bool whole = staged && first_neuron + NEURONS <= n_hidden, owned = i < n_hidden;

    // Thread t looks after neuron t % NEURONS, and samples t / NEURONS, + blockDim / NEURONS, ...: one pair per tile of pairs.
    places += (size_t)first_neuron * batch;
    if (whole) {  // the step before is over
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
    for (int p = t; p < NEURONS * pitch; p += blockDim.x) sums[p] = 0;
    start_after_previous();

    const Place first_place = t < n_pairs && owned ? places[t] : Place{0, 0};
    if (t < 4) rates[t] = schedule[t];
    const Gradient<real> task = {{event_factors, event_rows}, {spike_q, spike_errors, spike_slopes, spike_gains, worst, tau, reset, slope_floor}, samples,
                                 places, batch, n_pairs, capacity, pitch, tile_samples, tile_places, starts, pair_of, list_q, list_gain, list_slopes,
                                 units, scan_room};
    const auto find_units = [&](real own) {
        sum_per_column<NEURONS>(own, room, bound, n_warps);  // synchronizes
        if (t < NEURONS) units[t] = fixed_units(bound[t] * in_slots);  // as many events of one input neuron
        if (t == 0) taken = n_warps;
        __syncthreads();
    };
    int n_bounded = 0;
    if (n_pairs <= (int)blockDim.x) {
        const Tile tile = open_tile(task, first_place, 0);
        const bool listed = tile.n_spikes <= capacity;
        if (listed) find_units(tile_gains<true>(task, tile, first_place, 0, n_bounded));
        else find_units(tile_gains<false>(task, tile, first_place, 0, n_bounded));
        const int parts = batch < 4 * n_warps ? 2 : 1;
        if (listed) add_pairs<true>(task, batch, 0, parts, &taken, sums);
        else add_pairs<false>(task, batch, 0, parts, &taken, sums);
    } else {
        // The bounds are needed before the first pair is added, so all spikes go through the resets first.
        real own = 0;
#pragma unroll 1
        for (int first_pair = 0; first_pair < n_pairs; first_pair += blockDim.x) {
            const Place place = find_pair(task, owned, first_pair + t);
            const Tile tile = open_tile(task, place, first_pair);
            own += tile_gains<false>(task, tile, place, first_pair, n_bounded);
            __syncthreads();
        }
        find_units(own);
#pragma unroll 1
        for (int first_pair = 0; first_pair < n_pairs; first_pair += blockDim.x) {
            const int n_samples = min(batch - first_pair / NEURONS, (int)blockDim.x / NEURONS);
            if (t < n_samples) tile_samples[t] = samples[first_pair / NEURONS + t];
            tile_places[t] = find_pair(task, owned, first_pair + t);
            if (t == 0) taken = n_warps;
            __syncthreads();
            add_pairs<false>(task, n_samples, first_pair, 1, &taken, sums);
            __syncthreads();
        }
    }
    if (n_bounded) atomicAdd(&bounded[(t % n_rows) * 4], (unsigned long long)n_bounded);

    // The optimizer.
    wait_for_copies();
    __syncthreads();
    const real unit = scale / units[t % NEURONS];
    const Update<real> change = update();
    const fixed* mine = sums + (t % NEURONS) * pitch;
    if (whole) {
#pragma unroll 2
        for (int p = t; p < n_pre * NEURONS; p += blockDim.x) {
            const size_t w = (size_t)(p / NEURONS) * n_hidden + i;
            change.apply(first, w, mine[p / NEURONS] * unit, copies[p], copies[n_pre * NEURONS + p], copies[2 * n_pre * NEURONS + p]);
        }
    } else if (i < n_hidden) {
#pragma unroll 2
        for (int j = t / NEURONS; j < n_pre; j += blockDim.x / NEURONS) {
            change.load_and_apply(first, (size_t)j * n_hidden + i, mine[j] * unit);
        }
    }
}
