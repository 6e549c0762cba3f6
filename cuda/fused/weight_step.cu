// Fused step, third kernel: backward through the hidden layer, gradients of both layers summed over the batch, and the optimizer.
//
// Most blocks own NEURONS hidden neurons for all samples, that is some columns of the first weights:
// 1. Warps take a few samples at a time, their spikes go backward through the resets (spike_gains.cuh), and every pair of a sample and a
//    neuron that fired is listed. A list that has no more room leaves the gains in global memory.
// 2. Units of a few of a sample's pairs go to whichever warp is free; it adds them to the gradient, lanes over the sample's events
//    (pair_gradient.cuh). Sums are kept in fixed point: integer addition has no order, so the result is the same every time whoever adds.
// 3. The optimizer. Weights and moments come in during all that, where there is room (box_copy.cuh).
// The blocks after these do the second weights (output_weights.cuh).
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "common/box_copy.cuh"
#include "common/constants.cuh"
#include "common/fixed_point.cuh"
#include "fused/batch.cuh"
#include "fused/dependent_launch.cuh"
#include "fused/output_weights.cuh"
#include "fused/pair_gradient.cuh"
#include "fused/spike_gains.cuh"
#include "fused/update_weight.cuh"
#include "losses/metrics.cuh"

// Nanoseconds between boxes of blocks that begin early: all at once they would keep the second kernel waiting for its instructions.
constexpr unsigned PAUSE = 1000;

// What a block of first weights works on, and what it has in shared memory. A tile: some samples, all of the batch if possible.
template <typename real>
struct FirstWeights {
    HiddenTrains<real> hidden;
    const Sample* samples;
    const Place* places;                // [batch, NEURONS]: of the block's neurons
    int n_owned, capacity;              // neurons that exist; entries of the list
    int per_unit;                       // pairs of a unit, at most
    Sample* tile_samples;               // [tile]
    Place* pairs;                       // [tile, NEURONS]: start: in the list of the sample; listed: in that of the block, or ~start
    unsigned* units;                    // [tile * NEURONS]: some of a sample's pairs that fired, sample << NEURONS | their bits; whole units
                                        // from the first place on, those with fewer pairs from the last place back
    typename Two<real>::type* list;     // [capacity]: q and G of their spikes, before each pair q = 0
    unsigned* used;                     // [USED]: entries of the list; whole units, others; units that warps have taken, and the same for
                                        // every other lane: a branch around an atomic operation takes longer
    int n_places;                       // tile * NEURONS
};
constexpr int USED = 35;

// Lists the lanes' pairs that fired. A warp; number: of the lane's pair in the tile.
template <typename real>
__device__ __forceinline__ void list_pairs(const FirstWeights<real>& task, int number, int count, int start) {
    const int lane = threadIdx.x & 31, neuron = lane % NEURONS;
    const unsigned fired = __ballot_sync(FULL_WARP, count > 0), of_sample = fired >> (lane - neuron) & ((1u << NEURONS) - 1);
    if (count > 0) task.pairs[number] = {start, count};
    // Every per_unit-th pair of a sample opens a unit.
    const unsigned from_here = of_sample >> neuron << neuron;
    const bool opens = count > 0 && __popc(of_sample ^ from_here) % task.per_unit == 0;
    unsigned others = from_here;
    for (int n = 0; n < task.per_unit; ++n) others &= others - 1;  // without the first one
    const unsigned unit = from_here ^ others;
    const bool whole = __popc(unit) == task.per_unit;
    const unsigned opening[2] = {__ballot_sync(FULL_WARP, opens && whole), __ballot_sync(FULL_WARP, opens && !whole)};
    const unsigned before = lane < 2 ? atomicAdd(&task.used[1 + lane], (unsigned)__popc(lane ? opening[1] : opening[0])) : 0u;
    const unsigned at[2] = {__shfl_sync(FULL_WARP, before, 0), __shfl_sync(FULL_WARP, before, 1)}, below = (1u << lane) - 1;
    if (!opens) return;
    const int place = whole ? at[0] + __popc(opening[0] & below) : task.n_places - 1 - at[1] - __popc(opening[1] & below);
    task.units[place] = (unsigned)(number / NEURONS) << NEURONS | unit;
}

// Where the spikes of the block's neurons begin in every sample's list, neuron by neuron, as the second kernel finds it too: from the
// numbers of spikes of every 32 neurons (list_counts) and of every neuron (counts). To pairs [batch, NEURONS].
__device__ __forceinline__ void find_places(const int* list_counts, const int* counts, int n_hidden, int first_neuron, int batch,
                                            Place* pairs) {
    constexpr int AT_ONCE = 2;  // samples
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5, n_groups = (n_hidden + 31) / 32;
    const int group = first_neuron / 32, neuron = 32 * group + lane;
#pragma unroll 1
    for (int first = warp; first < batch; first += AT_ONCE * n_warps) {
        int count[AT_ONCE], before[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u) {
            const int s = first + u * n_warps;
            count[u] = s < batch && neuron < n_hidden ? counts[(size_t)s * n_hidden + neuron] : 0;
            before[u] = 0;
            for (int g = lane; s < batch && g < group; g += 32) before[u] += list_counts[(size_t)s * n_groups + g];
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u) {
            const int s = first + u * n_warps, start = __reduce_add_sync(FULL_WARP, before[u]) + warp_inclusive_sum(count[u]) - count[u];
            const int own = neuron - first_neuron;
            if (s < batch && own >= 0 && own < NEURONS) pairs[s * NEURONS + own] = {start, count[u]};
        }
    }
}

// Visits the pairs of some samples, a warp those of 32 / NEURONS at a time: visit(number of the first lane's pair, the lane's place).
template <typename real, typename Visit>
__device__ __forceinline__ void each_pair(const FirstWeights<real>& task, const Place* places, int n_samples, Visit visit) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5, n_pairs = n_samples * NEURONS;
    const int step = 32 * n_warps;
    const bool owned = lane % NEURONS < task.n_owned;
    const auto find = [&](int pair) { return owned && pair < n_pairs ? places[pair] : Place{0, 0}; };
    Place next = find(32 * warp + lane);
#pragma unroll 1
    for (int first = 32 * warp; first < n_pairs; first += step) {
        const Place place = next;
        next = find(first + step + lane);
        visit(first, place);
    }
}

// Gains of the spikes of a tile, whose pairs are at `places`; returns the bound of the lane's neuron, lane % NEURONS. SINGLE: the batch is
// one tile, whose pairs are listed. before_loads() is called before the first spike is read, if there is one.
template <bool SINGLE, typename real, typename Before>
__device__ __forceinline__ real tile_gains(const FirstWeights<real>& task, const Place* places, int first_sample, int n_samples,
                                           int& n_bounded, Before before_loads) {
    const int lane = threadIdx.x & 31;
    real bound = 0;
    each_pair(task, places, n_samples, [&](int first, const Place& place) {
        const int sum = warp_inclusive_sum(place.count), begin = sum - place.count, n = __shfl_sync(FULL_WARP, sum, 31);
        // The list has an entry for each spike and one before each pair.
        const unsigned fired = __ballot_sync(FULL_WARP, place.count > 0);
        const int shift = __popc(fired & ((2u << lane) - 1)), n_entries = n + __popc(fired);
        int at = task.capacity;
        if (SINGLE) {
            at = lane == 0 ? (int)atomicAdd(&task.used[0], (unsigned)n_entries) : 0;
            at = __shfl_sync(FULL_WARP, at, 0);
        }
        const bool fits = SINGLE && at + n_entries <= task.capacity;
        if (fits && place.count > 0) task.list[at + begin + shift - 1] = {0, 0};
        auto* list = fits ? task.list + at : nullptr;
        bound += gains_of_pairs(task.hidden, first_sample + first / NEURONS, place, begin, n, list, shift, n_bounded, before_loads);
        if (SINGLE) list_pairs(task, first + lane, place.count, fits ? at + begin + shift : ~place.start);
    });
    return bound;
}

// Adds the listed pairs to sums [NEURONS, pitch]; warps take one unit after another, small ones last, so that all end at about the same time.
// units_of: of the fixed point, neuron lane % NEURONS.
template <typename index_t, typename real>
__device__ __forceinline__ void add_pairs(const FirstWeights<real>& task, int first_sample, const real* event_factors,
                                          const index_t* event_rows, real units_of, typename FixedPoint<real>::type* sums, int pitch) {
    const int lane = threadIdx.x & 31;
    const unsigned n_whole = task.used[1], n = n_whole + task.used[2];
    for (unsigned item = threadIdx.x >> 5; item < n;) {
        const unsigned unit = task.units[item < n_whole ? item : task.n_places - 1 - (item - n_whole)], in_tile = unit >> NEURONS;
        const Sample sample = task.tile_samples[in_tile];
        const unsigned taken = atomicAdd(&task.used[3 + lane], 1u);  // lane 0's counts
        for (int from = (sample.n_events - 1) / (32 * CHUNKS) * (32 * CHUNKS); from >= 0 && sample.n_events > 0; from -= 32 * CHUNKS) {
            const long long event = sample.first + from;
            const EventChunks<real> events(event_factors + event, event_rows + event, sample.n_events - from);
            unsigned left = unit & ((1u << NEURONS) - 1);
#pragma unroll 1
            do {  // there is one: so the compiler does not put off loading the rows
                const int neuron = __ffs(left) - 1;
                const Place pair = task.pairs[in_tile * NEURONS + neuron];
                const real units = __shfl_sync(FULL_WARP, units_of, neuron);
                auto* to = sums + neuron * pitch;
                if (pair.start >= 0) {
                    add_pair(events, ListedTrain<typename Two<real>::type>{task.list + pair.start + pair.count}, units, to);
                } else {
                    const long long at = task.hidden.worst * (first_sample + in_tile) + ~pair.start;
                    add_pair(events, StoredTrain<real>{task.hidden.q + at, task.hidden.gains + at, pair.count}, units, to);
                }
                left &= left - 1;
            } while (left);
        }
        item = __shfl_sync(FULL_WARP, taken, 0);
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
        const int* list_counts, const int* counts,  // of the first kernel
        int batch, int n_pre, int n_hidden, int in_slots, long long worst, real tau, real reset, real slope_floor,
        int tile, int capacity, int pitch,       // samples per tile, entries of the list, numbers from a neuron's sums to the next one's
        const typename Two<real>::type* out_spikes, const int* out_starts, int out_capacity, int n_out, int group, int slices,
        real scale, int mode,
        int aligned, int staged, int early,      // first weights, moments and gradient may be accessed 16 bytes at a time; rows of their
                                                 // copies, 0 if there is no room; blocks may begin while the kernel before is running
        const __grid_constant__ TensorMap box_weights1, const __grid_constant__ TensorMap box_m1, const __grid_constant__ TensorMap box_v1,
        int box_rows, int unhurried,             // of the boxes that copies are made of, 0: the threads copy; blocks that begin well before
                                                 // the kernel before has ended
        real* weights1, real* m1, real* v1, real* gradient1,  // [n_pre, n_hidden]
        real* weights2, real* m2, real* v2, real* gradient2,  // [n_hidden, n_out]
        const double* schedule, int has_moments, real beta1, real beta2, real epsilon, int nesterov,
        const real* loss, const int* predictions, const int* out_counts,
        const int* labels, double* totals, unsigned long long* bounded, int n_rows) {
    using fixed = typename FixedPoint<real>::type;
    using Numbers = Pack<real>;
    constexpr int WIDTH = Numbers::N, PACKS = NEURONS / WIDTH;  // of a row of the block's weights
    extern __shared__ __align__(128) double shared_memory[];
    __shared__ Arrival arrival;
    __shared__ real room[32 * NEURONS];
    __shared__ unsigned used[USED];
    __shared__ double rates[4];
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, n_main = (n_hidden + NEURONS - 1) / NEURONS;
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

    const int first_neuron = blockIdx.x * NEURONS;
    const bool whole = aligned && first_neuron + NEURONS <= n_hidden, copied = whole && staged && has_moments && (mode & UPDATE);
    Numbers* copies = reinterpret_cast<Numbers*>(shared_memory);  // [3, staged, PACKS]: weights and moments
    fixed* sums = reinterpret_cast<fixed*>(copies + 3 * staged * PACKS);  // [NEURONS, pitch]
    Sample* tile_samples = reinterpret_cast<Sample*>(sums + NEURONS * pitch);
    Place* pairs = reinterpret_cast<Place*>(tile_samples + tile);
    auto* list = reinterpret_cast<typename Two<real>::type*>(pairs + tile * NEURONS);
    const FirstWeights<real> task = {{spike_q, spike_errors, spike_slopes, spike_gains, worst, tau, reset, slope_floor}, samples,
                                     places + (size_t)first_neuron * batch, min(NEURONS, n_hidden - first_neuron), capacity,
                                     batch < 4 * n_warps ? 2 : 4, tile_samples, pairs,
                                     reinterpret_cast<unsigned*>(list + capacity), list, used, tile * NEURONS};

    // What only earlier kernels than the last one have written.
    const Weights<real> first = {weights1, m1, v1, gradient1};
    const auto place_of = [&](int p) { return (size_t)(p / PACKS) * n_hidden + first_neuron + p % PACKS * WIDTH; };  // of a pack
    // When threads make the copies, they keep the way to the memory busy for thousands of cycles: best while the kernel before is running,
    // else when the spikes have come in.
    const auto copy_weights = [&](int rank, int n_threads) {
        for (int p = rank; p < n_pre * PACKS; p += n_threads) {
            const size_t from = place_of(p);
            copy_16_bytes(copies + p, weights1 + from);
            copy_16_bytes(copies + staged * PACKS + p, m1 + from);
            copy_16_bytes(copies + 2 * staged * PACKS + p, v1 + from);
        }
        commit_copies();
    };
    const bool boxed = copied && box_rows > 0, hurried = !early || (int)blockIdx.x >= unhurried;
    // A thread waits while the accelerator has no room for its request. So the last warp asks, and the others go on without it.
    const bool asks = boxed && warp == n_warps - 1;
    const auto ask = [&] {
        arrival.expect(3 * staged * NEURONS * sizeof(real));
#pragma unroll 1
        for (int row = 0; row < staged; row += box_rows) {
            if (!hurried) pause(PAUSE);
            arrival.copy_box(copies + row * PACKS, box_weights1, row, first_neuron);
            arrival.copy_box(copies + (staged + row) * PACKS, box_m1, row, first_neuron);
            arrival.copy_box(copies + (2 * staged + row) * PACKS, box_v1, row, first_neuron);
        }
    };
    if (copied && !boxed && early) copy_weights(t, blockDim.x);
    const bool finds = batch <= tile && !hurried;
    if (finds) find_places(list_counts, counts, n_hidden, first_neuron, batch, pairs);
    const bool loads = t < min(tile, batch);
    const Sample own = loads ? samples[t] : Sample{0, 0, 0};
    if (t < USED) used[t] = t < 3 ? 0 : n_warps;
    for (int p = t; p < NEURONS * pitch / WIDTH; p += blockDim.x) reinterpret_cast<int4*>(sums)[p] = {0, 0, 0, 0};
    if (!boxed) {
        __syncthreads();
    } else if (asks) {
        arrive_at(1);
        if (lane == 0) ask();
        __syncwarp();
        wait_at(2);
    } else {
        arrive_at(2);
        wait_at(1);
    }
    if (loads) tile_samples[t] = own;  // others read it after the next synchronization
    bool early_yet = true;
    const auto previous_ends = [&] {
        if (early_yet) start_after_previous();
        early_yet = false;
    };

    // The bounds are needed before the first pair is added, so all spikes go through the resets first.
    int n_bounded = 0;
    real bound = 0;
    if (!finds) previous_ends();
    if (batch <= tile) {
        bound = tile_gains<true>(task, finds ? pairs : task.places, 0, batch, n_bounded, previous_ends);
        previous_ends();
    } else {
#pragma unroll 1
        for (int s = 0; s < batch; s += tile) {
            bound += tile_gains<false>(task, task.places + s * NEURONS, s, min(tile, batch - s), n_bounded, [] {});
        }
    }
    if (t < 4) rates[t] = schedule[t];
    if (n_bounded) atomicAdd(&bounded[(t % n_rows) * 4], (unsigned long long)n_bounded);
    bound = column_sum<NEURONS>(bound, room, n_warps);  // synchronizes
    const real units = fixed_units(bound * in_slots);   // as many events of one input neuron
    constexpr int COPYING = 8;  // warps, the last ones
    if (copied && !boxed && !early && warp >= n_warps - COPYING) copy_weights(t - 32 * (n_warps - COPYING), 32 * min(COPYING, n_warps));
#pragma unroll 1
    for (int s = 0; s < batch; s += tile) {
        if (batch > tile) {
            const int n_samples = min(tile, batch - s);
            __syncthreads();  // the warps are through with the tile before
            if (t < n_samples) tile_samples[t] = samples[s + t];
            if (t < USED) used[t] = t < 3 ? 0 : n_warps;
            __syncthreads();
            each_pair(task, task.places + s * NEURONS, n_samples, [&](int number, const Place& place) {
                list_pairs(task, number + lane, place.count, ~place.start);
            });
            __syncthreads();
        }
        if (event_rows.wide) add_pairs(task, s, event_factors, static_cast<const int*>(event_rows.rows), units, sums, pitch);
        else add_pairs(task, s, event_factors, static_cast<const unsigned short*>(event_rows.rows), units, sums, pitch);
    }

    // The optimizer.
    if (boxed) arrival.wait();
    else wait_for_copies();
    __syncthreads();
    const Update<real> change = update();
    const real unit = scale / units;  // of neuron lane % NEURONS
    if (whole) {
        const int column = t % PACKS * WIDTH;  // blockDim is a multiple of PACKS
        real unit_of[WIDTH];
#pragma unroll
        for (int c = 0; c < WIDTH; ++c) unit_of[c] = __shfl_sync(FULL_WARP, unit, column + c);
        const fixed* of_column[WIDTH];
#pragma unroll
        for (int c = 0; c < WIDTH; ++c) of_column[c] = sums + (column + c) * pitch;
        const size_t rows_on = (size_t)(blockDim.x / PACKS) * n_hidden;
        size_t at = place_of(t);
        for (int p = t; p < n_pre * PACKS; p += blockDim.x, at += rows_on) {
            Numbers g;
#pragma unroll
            for (int c = 0; c < WIDTH; ++c) g.x[c] = of_column[c][p / PACKS] * unit_of[c];
            if (copied) change.apply(first, at, g, copies[p], copies[staged * PACKS + p], copies[2 * staged * PACKS + p]);
            else change.load_and_apply(first, at, g);
        }
    } else if (lane % NEURONS < task.n_owned) {
        const fixed* mine = sums + (t % NEURONS) * pitch;
#pragma unroll 2
        for (int j = t / NEURONS; j < n_pre; j += blockDim.x / NEURONS) {
            change.load_and_apply(first, (size_t)j * n_hidden + first_neuron + t % NEURONS, mine[j] * unit);
        }
    }
}
