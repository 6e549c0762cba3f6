// Fused step, second kernel: a block takes one sample from its hidden spikes to the gains of its output spikes and dL/dt of its hidden spikes.
//
// 1. The hidden spikes are sorted (sorted_spikes.cuh).
// 2. Output forward pass (output_spikes.cuh).
// 3. Loss, prediction, errors; backward through the outputs' resets, a lane per output; meanwhile the other warps store the hidden
//    spikes and their slopes neuron by neuron, as the third kernel wants them.
// 4. dL/dt of the hidden spikes (spike_errors.cuh), stored in the same order.
// A list of hidden spikes that outgrows shared memory is sorted in global memory by the same code.
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/batch.cuh"
#include "fused/dependent_launch.cuh"
#include "fused/output_loss.cuh"
#include "fused/output_spikes.cuh"
#include "fused/sorted_spikes.cuh"
#include "fused/spike_errors.cuh"
#include "optim/update.cuh"

// Arrays of one sample, and what all samples share.
template <typename real>
struct OutputTask {
    int s, n_hidden, n_groups, n_hidden_slots, n_out, n_slots, label, kind, training;
    real tau, c, reset, slope_floor, last_factor;           // of the output layer
    real parameter1, parameter2;                            // of the loss
    const int* counts;                                      // [n_hidden]
    real* group_q;
    unsigned* group_place;                                  // [n_groups, 32 n_hidden_slots]
    const real* slopes;                                     // [n_hidden_slots, n_hidden]
    real *spike_q, *spike_errors, *spike_slopes;            // [worst]: of the third kernel; free until the list is sorted
};

// Shared memory, in the order of bats/fused/layout.py.
template <typename real>
struct OutputRoom {
    SpikeLists<real> lists;
    OutputSums<real> sums;
    OutputState<real> state;
    OutputWeights<real> weights;
    real *error, *range;
    Buckets<real> buckets;
    int *group_starts, *neuron_starts, *out_starts, *room;
};

template <typename real>
__device__ __forceinline__ OutputRoom<real> lay_out(double* shared_memory, int list_capacity, int chunk, int n_hidden, int n_groups, int n_out,
                                                    int n_slots, const real* weights, int staged) {
    OutputRoom<real> room;
    const int even = (n_out + 1) / 2 * 2, n_segments = chunk / SEGMENT;
    real* next = reinterpret_cast<real*>(shared_memory);
    const auto take = [&](int n) {
        real* from = next;
        next += (n + 3) / 4 * 4;
        return from;
    };
    room.weights = {staged ? take(n_hidden * even) : nullptr, weights, n_out, even};
    room.lists.q = take(list_capacity), room.lists.other_q = take(list_capacity);
    room.sums.capacity = chunk, room.sums.pitch = chunk + n_segments;
    room.sums.a = take(n_out * room.sums.pitch), room.sums.b = take(n_out * room.sums.pitch);
    room.sums.before_a = take(even * n_segments), room.sums.before_b = take(even * n_segments), room.sums.highest = take(even * n_segments);
    room.sums.carried_a = take(even), room.sums.carried_b = take(even);
    room.state.fall = take(n_out), room.state.q = take(n_out * n_slots), room.state.slopes = take(n_out * n_slots);
    room.error = take(n_out), room.range = take(2);
    int* free_int = reinterpret_cast<int*>(next);  // at a multiple of 16 bytes, as the arrays that follow
    room.buckets.ends = free_int, room.buckets.count = 2 * blockDim.x;
    free_int += room.buckets.count;
    room.lists.place = reinterpret_cast<unsigned*>(free_int);
    room.lists.other_place = room.lists.place + list_capacity;
    free_int += 2 * list_capacity;
    room.state.counts = free_int, room.state.overflow = free_int + n_out;
    free_int += 2 * n_out;
    room.group_starts = free_int, free_int += n_groups + 1;
    room.neuron_starts = free_int, free_int += n_hidden;
    room.out_starts = free_int, free_int += n_out + 1;
    room.room = free_int;  // [32]
    return room;
}

// Backward through the outputs' resets, and the list of their spikes output by output: the first warp.
template <typename real>
__device__ __forceinline__ void output_gains(const OutputTask<real>& task, const OutputRoom<real>& room, const LaterSpikes<real>& later,
                                             typename Two<real>::type* out_spikes, unsigned long long* bounded) {
    for (int o = threadIdx.x & 31; o < task.n_out; o += 32) {
        int n_bounded = 0;
        const real e = room.error[o];
        const bool first_only = task.kind == FIRST_SPIKE;
        const real *q = room.state.q + o * task.n_slots, *slopes = room.state.slopes + o * task.n_slots;
        const int start = room.out_starts[o];
        real sum = 0, moment = 0, next = 0;  // over the spikes so far: of G, and of G (Q - the last q)
        recurrent_gains(
            room.state.counts[o], task.tau, task.reset, task.slope_floor, n_bounded, [=](int k) { return slopes[k]; },
            [=](int k) { return q[k]; }, [e, first_only](int k) { return first_only && k > 0 ? real(0) : e; },
            [&](int k, real spike, real gain) {
                out_spikes[start + k] = {spike, gain};
                moment = fma(sum, next - spike, moment);
                sum += gain;
                next = spike;
                if (!later.fits) return;
                later.own[start + k] = {sum, moment};
                later.own_q[start + k] = spike;
            });
        if (n_bounded) atomicAdd(bounded, (unsigned long long)n_bounded);
    }
}

// Results of the output layer; arrays of all samples.
template <typename real>
struct OutputResults {
    Place* places;                            // [ceil(n_hidden / NEURONS), batch, NEURONS]
    typename Two<real>::type* out_spikes;     // [batch, n_out * n_slots]
    int* out_starts;                          // [batch, n_out + 1]
    real* loss;
    int *predictions, *out_counts;
    unsigned long long *status, *bounded;
    int batch, n_rows;
};

// Everything from the lists on; IN_SHARED: the lists lie in shared memory.
template <bool IN_SHARED, typename real>
__device__ __forceinline__ void output_task(const OutputTask<real>& task, const OutputRoom<real>& room, const OutputResults<real>& results) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, s = task.s;
    const int n = room.group_starts[task.n_groups], capacity = 32 * task.n_hidden_slots;
    SpikeLists<real> lists = room.lists;
    if (!IN_SHARED) lists = {task.group_q, task.group_place, task.spike_q, reinterpret_cast<unsigned*>(task.spike_errors)};
    Buckets<real> buckets = room.buckets;
    buckets.q_min = room.range[0];
    buckets.per_factor = room.range[1] > room.range[0] ? buckets.count / (room.range[1] - room.range[0]) : real(0);
    for (int g = warp; g < task.n_groups; g += n_warps) {
        const int i = g * 32 + lane, count = i < task.n_hidden ? task.counts[i] : 0, sum = warp_inclusive_sum(count);
        if (i < task.n_hidden) room.neuron_starts[i] = room.group_starts[g] + sum - count;
    }
    sort_spikes(lists, n, task.group_q, task.group_place, capacity, room.group_starts, task.n_groups, buckets, room.room);

    wait_for_copies();
    __syncthreads();
    for (int first = 0; first < n; first += room.sums.capacity) {
        const int m = min(room.sums.capacity, n - first);
        add_up_chunk(lists, n, first, m, room.weights, room.sums, task.c, task.last_factor);
        for (int o = warp; o < task.n_out; o += n_warps) {
            walk_chunk(lists, n, first, m, o, room.sums, room.state, task.c, task.reset, task.last_factor, task.n_slots);
        }
        if (first + m < n) __syncthreads();  // the sums are overwritten
    }
    __syncthreads();

    // The sums are not needed any more.
    auto* out_spikes = results.out_spikes + (size_t)s * task.n_out * task.n_slots;
    const int room_for_later = room.sums.before_a - room.sums.a;
    if (warp == 0) {
        const real value = loss_and_errors(task.kind, room.state.q, room.state.counts, task.n_out, task.n_slots, task.label, task.tau,
                                           task.parameter1, task.parameter2, room.error);
        if (lane == 0) results.loss[s] = value;
        if (!task.training) return;
        int before = 0;
        int* starts = results.out_starts + (size_t)s * (task.n_out + 1);
        for (int first = 0; first < task.n_out; first += 32) {
            const int o = first + lane, count = o < task.n_out ? room.state.counts[o] : 0, sum = warp_inclusive_sum(count);
            if (o < task.n_out) {
                room.out_starts[o] = before + sum - count;
                starts[o + 1] = before + sum;
            }
            before += __shfl_sync(FULL_WARP, sum, 31);
        }
        if (lane == 0) {
            starts[0] = 0;
            room.out_starts[task.n_out] = before;
        }
        __syncwarp();
        const LaterSpikes<real> later(room.sums.a, room_for_later, before, task.n_out);
        output_gains(task, room, later, out_spikes, results.bounded + (s % results.n_rows) * 4);
    } else if (warp == 1) {
        const int best = read_out(task.kind, room.state.q, room.state.counts, task.n_out, task.n_slots);
        if (lane == 0) results.predictions[s] = best;
        unsigned long long* row = results.status + (s % results.n_rows) * 4;
        for (int o = lane; o < task.n_out; o += 32) {
            const int count = room.state.counts[o];
            results.out_counts[(size_t)s * task.n_out + o] = count;
            if (count) atomicAdd(&row[0], (unsigned long long)count);
            else atomicAdd(&row[1], 1ull);
            if (room.state.overflow[o]) atomicAdd(&row[2], 1ull);
            if (!isfinite(room.sums.carried_a[o])) atomicAdd(&row[3], 1ull);
        }
    } else if (task.training) {
        for (int j = t - 64; j < n; j += blockDim.x - 64) {
            const unsigned place = lists.place[j], neuron = place & 0xffffu, slot = place >> 16;
            const int to = room.neuron_starts[neuron] + slot;
            task.spike_slopes[to] = task.slopes[(size_t)slot * task.n_hidden + neuron];
            task.spike_q[to] = lists.q[j];
        }
        for (int i = t - 64; i < task.n_hidden; i += blockDim.x - 64) {
            const int start = room.neuron_starts[i], end = i + 1 < task.n_hidden ? room.neuron_starts[i + 1] : n;
            results.places[((size_t)(i / NEURONS) * results.batch + s) * NEURONS + i % NEURONS] = {start, end - start};
        }
    }
    if (!task.training) return;
    __syncthreads();

    const LaterSpikes<real> later(room.sums.a, room_for_later, room.out_starts[task.n_out], task.n_out);
    if (later.fits) fill_table(later, room.out_starts, task.n_out);
    __syncthreads();
    for (int j = t; j < n; j += blockDim.x) {
        const unsigned place = lists.place[j], neuron = place & 0xffffu;
        const real e = lists.q[j], sum = later.fits ? sum_of_later(later, room.weights, neuron, e)
                                                    : sum_of_later(out_spikes, room.out_starts, room.weights, neuron, e);
        const int to = room.neuron_starts[neuron] + (place >> 16);
        task.spike_errors[to] = sum * e / task.tau;
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks batch, up to 1024 threads. Shared memory as bats/fused/layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) output_step(
        const Sample* samples, int batch, int n_hidden, int n_hidden_slots,
        real* group_q, unsigned* group_place,          // [batch, n_groups, 32 n_hidden_slots]: as the first kernel left them; may be sorted here
        const int* list_counts, const real* extremes, const int* counts,
        const real* slopes,                            // [batch, n_hidden_slots, n_hidden]
        const real* weights,                           // [n_hidden, n_out]
        int n_out, int n_slots, real tau, real c, real reset, real slope_floor, real last_factor,
        int kind, real parameter1, real parameter2,    // count: target_true, target_false; first spike: tau of the loss, silent_loss
        int training, int list_capacity, int chunk, int staged,
        long long* cursor,                             // += batch
        int counts_step, double* schedule, double beta1, double beta2,  // the optimizer's, counted on for the kernel that follows
        real* spike_q, real* spike_errors, real* spike_slopes,  // [batch, worst]: of the hidden spikes, neuron by neuron; room before
        Place* places,                                 // [ceil(n_hidden / NEURONS), batch, NEURONS]
        typename Two<real>::type* out_spikes,          // [batch, n_out * n_slots]: q and G of the outputs' spikes, output by output
        int* out_starts,                               // [batch, n_out + 1]
        real* loss, int* predictions, int* out_counts, int* labels, unsigned long long* status, unsigned long long* bounded, int n_rows) {
    extern __shared__ __align__(16) double shared_memory[];
    const int s = blockIdx.x, t = threadIdx.x, n_groups = (n_hidden + 31) / 32;
    const size_t worst = (size_t)32 * n_hidden_slots * n_groups;
    const OutputRoom<real> room = lay_out(shared_memory, list_capacity, chunk, n_hidden, n_groups, n_out, n_slots, weights, staged);
    if (staged) {
        real* rows = room.weights.staged;
        const int pitch = room.weights.pitch;
        constexpr int PER_CHUNK = 16 / sizeof(real);
        if (pitch == n_out && n_hidden * n_out % PER_CHUNK == 0) {
            for (int p = t; p < n_hidden * n_out / PER_CHUNK; p += blockDim.x) copy_16_bytes(rows + p * PER_CHUNK, weights + p * PER_CHUNK);
        } else {
            for (int p = t; p < n_hidden * pitch; p += blockDim.x) rows[p] = p % pitch < n_out ? weights[p / pitch * n_out + p % pitch] : real(0);
        }
        commit_copies();
    }
    for (int p = t; p < room.buckets.count; p += blockDim.x) room.buckets.ends[p] = 0;
    for (int o = t; o < n_out; o += blockDim.x) {
        room.state.fall[o] = room.sums.carried_a[o] = room.sums.carried_b[o] = 0;
        room.state.counts[o] = room.state.overflow[o] = 0;
    }
    start_after_previous();
    if (t < 32) add_up_groups(list_counts + (size_t)s * n_groups, extremes + (size_t)2 * s * n_groups, n_groups, room.group_starts, room.range);
    const int label = samples[s].label;
    if (t == 0) {
        labels[s] = label;
        if (s == 0) {
            *cursor += batch;
            if (counts_step) count_step(schedule, beta1, beta2);
        }
    }
    const OutputTask<real> task = {
        s, n_hidden, n_groups, n_hidden_slots, n_out, n_slots, label, kind, training, tau, c, reset, slope_floor, last_factor, parameter1,
        parameter2, counts + (size_t)s * n_hidden, group_q + worst * s, group_place + worst * s, slopes + (size_t)s * n_hidden_slots * n_hidden,
        spike_q + worst * s, spike_errors + worst * s, spike_slopes + worst * s};
    const OutputResults<real> results = {places, out_spikes, out_starts, loss, predictions, out_counts, status, bounded, batch, n_rows};
    __syncthreads();
    if (room.group_starts[n_groups] <= list_capacity) output_task<true>(task, room, results);
    else output_task<false>(task, room, results);
}
