// Fused step, second kernel: a block takes one sample from its hidden spikes to the gains of its output spikes and to dL/dt of its
// hidden spikes.
//
// 1. The hidden spikes are sorted (sorted_spikes.cuh).
// 2. Output forward pass (output_spikes.cuh).
// 3. Errors and backward through the outputs' resets, a warp per output; meanwhile the last warps do loss, prediction and book-keeping, and
//    the others store the hidden spikes and their slopes neuron by neuron, as the third kernel wants them.
// 4. dL/dt of the hidden spikes (spike_errors.cuh), stored in the same order.
// A block is bound by what its warps do in turn, not by memory: few instructions per warp matter more than many threads.
// A list of hidden spikes that outgrows shared memory is sorted in global memory by the same code.
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/batch.cuh"
#include "fused/dependent_launch.cuh"
#include "fused/output_loss.cuh"
#include "fused/output_results.cuh"
#include "fused/output_spikes.cuh"
#include "fused/sample_order.cuh"
#include "fused/sorted_spikes.cuh"
#include "fused/spike_errors.cuh"
#include "optim/update.cuh"

// Arrays of one sample, and what all samples share.
template <typename real>
struct OutputTask {
    int s, n_hidden, n_hidden_slots, n_out, n_slots, label, kind, training;
    real tau, c, reset, slope_floor, last_factor;           // of the output layer
    real parameter1, parameter2;                            // of the loss
    real* group_q;
    unsigned* group_place;                                  // [n_groups, 32 n_hidden_slots]
    const real* slopes;                                     // [n_hidden_slots, n_hidden]
    real* spike_errors;                                     // [worst]: of the third kernel
};

// Shared memory, in the order of bats/fused/layout.py. What is needed only for a time lies in `scratch`, one after another: room for
// sorting, the sums, the table of later spikes.
template <typename real>
struct OutputRoom {
    OutputWeights<real> weights;
    SpikeLists<real> lists;
    OutputSums<real> sums;
    OutputState<real> state;
    SortRoom<real> sorting;
    real* scratch;
    int scratch_size;  // in numbers
    int *group_starts, *neuron_starts, *out_starts;
};

template <typename real>
__device__ __forceinline__ OutputRoom<real> lay_out(double* shared_memory, int list_capacity, int chunk, int scratch_size, int n_hidden,
                                                    int n_groups, int n_out, int n_slots, const real* weights, int staged) {
    OutputRoom<real> room;
    const int even = (n_out + 1) / 2 * 2;
    real* next = reinterpret_cast<real*>(shared_memory);
    const auto take = [&](int n) {
        real* from = next;
        next += (n + 3) / 4 * 4;
        return from;
    };
    OutputSums<real>& sums = room.sums;
    sums.capacity = chunk, sums.pitch = chunk + chunk / SEGMENT;
    sums.n_groups = (chunk + 31) / 32, sums.n_parts = (chunk + 32 * SEGMENT - 1) / (32 * SEGMENT);
    room.weights = {staged ? take((n_hidden + 1) * even) : nullptr, weights, n_hidden, n_out, even};
    room.lists.q = take(list_capacity);
    sums.highest = take(even * sums.n_groups), sums.totals = take(2 * even * sums.n_parts), sums.carried = take(2 * even);
    room.state.fall = take(n_out), room.state.q = take(n_out * n_slots), room.state.roots = take(n_out * n_slots);
    room.scratch = take(scratch_size), room.scratch_size = scratch_size;
    sums.a = room.scratch, sums.b = sums.a + even * sums.pitch;
    room.sorting.starts = reinterpret_cast<int*>(room.scratch);
    room.sorting.q = reinterpret_cast<real*>(room.sorting.starts + BUCKETS * blockDim.x + 4);
    room.sorting.place = reinterpret_cast<unsigned*>(room.sorting.q + list_capacity);
    int* free_int = reinterpret_cast<int*>(next);  // at a multiple of 16 bytes, as the list that follows
    room.lists.place = room.sorting.arrivals = reinterpret_cast<unsigned*>(free_int);
    free_int += list_capacity;
    room.state.counts = free_int, room.state.overflow = free_int + n_out;
    free_int += 2 * n_out;
    room.group_starts = free_int, free_int += n_groups;
    room.neuron_starts = free_int, free_int += n_hidden;
    room.out_starts = free_int, free_int += n_out + 1;
    room.sorting.warps = free_int;  // [32]
    return room;
}

// The sum over the lanes up to this one, of which no more than n count; a warp.
template <typename real>
__device__ __forceinline__ real sum_of_first(real value, int n) {
#pragma unroll 1
    for (int distance = 1; distance < n; distance *= 2) {
        const real below = __shfl_up_sync(FULL_WARP, value, distance);
        if ((threadIdx.x & 31) >= distance) value += below;
    }
    return value;
}

// Backward through the resets of output o (docs/theory.md, (19); recurrent_gains in batch.cuh): emit(spike, q, G, S, M) for
// each of its spikes; S, M: spike_errors.cuh. A warp, a lane per spike, latest first. What later spikes add to delta, L q, changes from
// spike to spike by an affine map, L <- L (1 + reset / z) + error reset / (z q): 32 of them are composed by a scan. Returns how many slopes
// were below the floor.
template <typename real, typename Emit>
__device__ __forceinline__ int output_gains(const OutputTask<real>& task, const OutputState<real>& state, int o, real error, Emit emit) {
    const int lane = threadIdx.x & 31, count = state.counts[o];
    real later = 0, sum = 0, moment = 0, next = 0;  // of the spikes so far: L, S, M, the earliest q
    int n_bounded = 0;
#pragma unroll 1
    for (int done = 0; done < count; done += 32) {
        const int k = count - 1 - done - lane, n = min(32, count - done);
        const bool mine = k >= 0;
        const int at = o * task.n_slots + k;
        const real q = mine ? state.q[at] : real(1), y = reciprocal(q), slope = mine ? state.roots[at] * y : real(1);
        const real own_error = !mine || (task.kind == FIRST_SPIKE && k > 0) ? real(0) : error;
        n_bounded += mine && slope < task.slope_floor;
        const real flat = reciprocal(max(slope, task.slope_floor)), step = flat * task.reset;
        real factor = mine ? 1 + step : real(1), added = own_error * step * y;
#pragma unroll 1
        for (int distance = 1; distance < n; distance *= 2) {
            const real factor_before = __shfl_up_sync(FULL_WARP, factor, distance);
            const real added_before = __shfl_up_sync(FULL_WARP, added, distance);
            if (lane >= distance) {
                added = fma(factor, added_before, added);
                factor *= factor_before;
            }
        }
        const real factor_before = __shfl_up_sync(FULL_WARP, factor, 1), added_before = __shfl_up_sync(FULL_WARP, added, 1);
        const real from_later = lane ? fma(factor_before, later, added_before) : later;
        const real gain = mine ? fma(from_later, q, own_error) * flat * task.tau * y * y : real(0);
        const real sums = sum_of_first(gain, n) + sum;
        const real q_before = __shfl_up_sync(FULL_WARP, q, 1), sum_before = __shfl_up_sync(FULL_WARP, sums, 1);
        const real moments = sum_of_first(mine ? (lane ? sum_before * (q_before - q) : sum * (next - q)) : real(0), n) + moment;
        if (mine) emit(k, q, gain, sums, moments);
        if (done + 32 >= count) break;
        later = fma(__shfl_sync(FULL_WARP, factor, n - 1), later, __shfl_sync(FULL_WARP, added, n - 1));
        sum = __shfl_sync(FULL_WARP, sums, n - 1);
        moment = __shfl_sync(FULL_WARP, moments, n - 1);
        next = __shfl_sync(FULL_WARP, q, n - 1);
    }
    return __reduce_add_sync(FULL_WARP, n_bounded);
}

// Everything from the lists on; IN_SHARED: the sorted list lies in shared memory.
template <bool IN_SHARED, typename real>
__device__ __forceinline__ void output_task(const OutputTask<real>& task, const OutputRoom<real>& room, const GroupLists<real>& groups,
                                            HeldEntries<real>& held, const OutputResults<real>& results) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, s = task.s, n = held.total;
    SpikeLists<real> lists = room.lists;
    SortRoom<real> sorting = room.sorting;
    if (!IN_SHARED) {
        lists = {task.group_q, task.group_place};
        sorting.q = results.spike_q;  // these three arrays are free until the list is sorted
        sorting.place = reinterpret_cast<unsigned*>(task.spike_errors);
        sorting.arrivals = reinterpret_cast<unsigned*>(results.spike_slopes);
    }
    if (IN_SHARED) pad_list(lists, n, task.n_hidden, task.last_factor);
    sort_spikes(lists, groups, held, room.group_starts, sorting);

#pragma unroll 1
    for (int first = 0; first < n; first += room.sums.capacity) {
        const int m = min(room.sums.capacity, n - first);
        SpikeLists<real> chunk = {lists.q + first, lists.place + first};
        if (!IN_SHARED) {
            chunk = room.lists;
            for (int j = t; j < min(m + 1, n - first); j += blockDim.x) {
                chunk.q[j] = lists.q[first + j];
                chunk.place[j] = lists.place[first + j];
            }
            if (first + m == n) pad_list(chunk, m, task.n_hidden, task.last_factor);
            __syncthreads();
        }
        add_up_chunk(chunk, m, room.weights, room.sums, task.c);
#pragma unroll 1
        for (int o = warp; o < task.n_out; o += n_warps) walk_chunk(chunk, m, o, room.sums, room.state, task.c, task.reset, task.n_slots);
        if (warp == n_warps - 1) carry_sums(room.sums, m, 2 * room.weights.pitch);
        __syncthreads();
    }

    // The sums are not needed any more.
    const OutputState<real>& state = room.state;
    const LaterSpikes<real> later(room.scratch, room.scratch_size, count_before(state.counts, task.n_out, 0).y, task.n_out);
    auto* out_spikes = results.out_spikes + (size_t)s * task.n_out * task.n_slots;
    if (warp < task.n_out || warp == n_warps - 1) {  // the first ones do gains, the last ones a piece of book-keeping each
        const Loss<real> loss(task.kind, task.label, task.tau, task.parameter1, task.parameter2, state.q, state.counts, task.n_out,
                              task.n_slots);
#pragma unroll 1
        for (int o = task.training ? warp : task.n_out; o < task.n_out; o += n_warps) {
            const int start = count_before(state.counts, task.n_out, o).x;
            const int n_bounded = output_gains(task, state, o, loss.error(o), [&](int k, real q, real gain, real sum, real moment) {
                out_spikes[start + k] = {q, gain};
                if (!later.fits) return;
                later.q_of[start + k] = q;
                later.own[start + k] = {sum, moment};
            });
            if (lane == 0 && n_bounded) atomicAdd(&results.bounded[(s % results.n_rows) * 4], (unsigned long long)n_bounded);
        }
        if (warp == n_warps - 1) {
            const real value = loss.value();
            if (lane == 0) results.loss[s] = value, results.labels[s] = task.label;
        }
    }
    if (warp == n_warps - 2) keep_counts(results, s, state, room.sums.carried, task.n_out, room.out_starts);
    if (warp == n_warps - 3) {
        const int best = read_out(task.kind, state.q, state.counts, task.n_out, task.n_slots);
        if (lane == 0) results.predictions[s] = best;
    }
    if (!task.training) return;
    // The other warps; all of them if the outputs take more than half.
    const int n_taken = 2 * task.n_out <= n_warps ? task.n_out : 0, n_storing = n_warps - n_taken - (n_taken ? 3 : 0);
    if (warp >= n_taken && warp < n_taken + n_storing) {
        store_spikes(results, s, lists, n, task.slopes, room.neuron_starts, task.n_hidden, t - 32 * n_taken, 32 * n_storing);
    }
    __syncthreads();
    if (later.fits) fill_table(later, room.out_starts, task.n_out);
    __syncthreads();
    const real per_tau = reciprocal(task.tau);
#pragma unroll 1
    for (int j = t; j < n; j += blockDim.x) {
        const unsigned place = lists.place[j], neuron = place & 0xffffu;
        const real e = lists.q[j], sum = later.fits ? sum_of_later(later, room.weights, neuron, e)
                                                    : sum_of_later(out_spikes, room.out_starts, room.weights, neuron, e);
        const int to = room.neuron_starts[neuron] + (place >> 16);
        task.spike_errors[to] = sum * e * per_tau;
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks batch, or one more (upcoming), up to 1024 threads. Shared memory as bats/fused/layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) output_step(
        const Sample* samples, int batch, int n_hidden, int n_hidden_slots,
        real* group_q, unsigned* group_place,          // [batch, n_groups, 32 n_hidden_slots]: of the first kernel; may be sorted here
        const int* list_counts, const real* extremes, const int* counts,
        const real* slopes,                            // [batch, n_hidden_slots, n_hidden]
        const real* weights,                           // [n_hidden, n_out]
        int n_out, int n_slots, real tau, real c, real reset, real slope_floor, real last_factor,
        int kind, real parameter1, real parameter2,    // count: target_true, target_false; first spike: tau of the loss, silent_loss
        int training, int list_capacity, int chunk, int scratch_size, int staged,
        long long* cursor,                             // += batch
        int counts_step, double* schedule, double beta1, double beta2,  // the optimizer's, counted on for the kernel that follows
        real* spike_q, real* spike_errors, real* spike_slopes,  // [batch, worst]: of the hidden spikes, neuron by neuron; room before
        Place* places,                                 // [ceil(n_hidden / NEURONS), batch, NEURONS]
        typename Two<real>::type* out_spikes,          // [batch, n_out * n_slots]: q and G of the outputs' spikes, output by output
        int* out_starts,                               // [batch, n_out + 1]
        real* loss, int* predictions, int* out_counts, int* labels, unsigned long long* status, unsigned long long* bounded, int n_rows,
        const Sample* in_order, long long n_order,     // samples in the order of training
        Sample* upcoming, int* upcoming_places) {      // of the next batch, for the first kernel: made by a block more
    extern __shared__ __align__(16) double shared_memory[];
    const int s = blockIdx.x, t = threadIdx.x, n_groups = (n_hidden + 31) / 32;
    // The schedule is read by the third kernel only, which ended before the first one began.
    const bool keeps_count = s == gridDim.x - 1 && t == blockDim.x - 1;
    if (keeps_count && counts_step) count_step(schedule, beta1, beta2);
    if (s == batch) {
        const long long position = *cursor + batch;
        start_after_previous();  // it has read what is upcoming
        Upcoming{upcoming, upcoming_places}.prepare(in_order, n_order, position, batch);
        __syncthreads();  // all have read it
        if (keeps_count) *cursor = position;
        return;
    }
    const size_t worst = (size_t)32 * n_hidden_slots * n_groups;
    const OutputRoom<real> room =
        lay_out(shared_memory, list_capacity, chunk, scratch_size, n_hidden, n_groups, n_out, n_slots, weights, staged);
    if (staged) {
        real* rows = room.weights.staged;
        const int pitch = room.weights.pitch;
        constexpr int PER_CHUNK = 16 / sizeof(real);
        if (pitch == n_out && n_hidden * n_out % PER_CHUNK == 0) {
#pragma unroll 1
            for (int p = t * PER_CHUNK; p < n_hidden * n_out; p += blockDim.x * PER_CHUNK) copy_16_bytes(rows + p, weights + p);
        } else {
#pragma unroll 1
            for (int p = t; p < n_hidden * pitch; p += blockDim.x) {
                rows[p] = p % pitch < n_out ? weights[p / pitch * n_out + p % pitch] : real(0);
            }
        }
        commit_copies();
#pragma unroll 1
        for (int p = t; p < pitch; p += blockDim.x) rows[n_hidden * pitch + p] = 0;
    }
    reinterpret_cast<int4*>(room.sorting.starts)[t] = {0, 0, 0, 0};
    static_assert(BUCKETS == 4, "one vector per thread");
#pragma unroll 1
    for (int k = t; k < 2 * room.weights.pitch; k += blockDim.x) room.sums.carried[k] = 0;
#pragma unroll 1
    for (int o = t; o < n_out; o += blockDim.x) {
        room.state.fall[o] = 0;
        room.state.counts[o] = room.state.overflow[o] = 0;
    }
    start_after_previous();
    if (keeps_count) atomicAdd(reinterpret_cast<unsigned long long*>(cursor), (unsigned long long)batch);  // waits for nothing
    const GroupLists<real> groups = {
        group_q + worst * s, group_place + worst * s, list_counts + (size_t)s * n_groups, extremes + (size_t)2 * s * n_groups,
        counts + (size_t)s * n_hidden, n_groups, 32 * n_hidden_slots, n_hidden};
    HeldEntries<real> held;
    const int label = samples[s].label;
    load_groups(groups, held, room.group_starts, room.neuron_starts);
    const OutputTask<real> task = {
        s, n_hidden, n_hidden_slots, n_out, n_slots, label, kind, training, tau, c, reset, slope_floor, last_factor, parameter1, parameter2,
        group_q + worst * s, group_place + worst * s, slopes + (size_t)s * n_hidden_slots * n_hidden, spike_errors + worst * s};
    const OutputResults<real> results = {places, spike_q + worst * s, spike_slopes + worst * s, out_spikes, out_starts, loss, predictions,
                                         out_counts, labels, status, bounded, batch, n_rows};
    wait_for_copies();
    __syncthreads();
    if (held.total + SEGMENT <= list_capacity) output_task<true>(task, room, groups, held, results);
    else output_task<false>(task, room, groups, held, results);
}
