// Fused step, second kernel: a block takes one sample from its hidden spikes to the gains of these spikes.
//
// 1. The hidden spikes are sorted (sorted_spikes.cuh).
// 2. Output forward pass (output_spikes.cuh).
// 3. Loss, prediction, errors; backward through the outputs' resets, a lane per output.
// 4. dL/dt of every hidden spike, a thread each.
// 5. Backward through the hidden neurons' resets, a thread per neuron; the spikes' gains are stored neuron by neuron.
// A list of hidden spikes that outgrows shared memory is sorted in global memory by the same code.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/batch.cuh"
#include "fused/output_loss.cuh"
#include "fused/output_spikes.cuh"
#include "fused/sorted_spikes.cuh"
#include "optim/update.cuh"

// Arrays of one sample, and what all samples share.
template <typename real>
struct OutputTask {
    int s, n_hidden, n_groups, n_hidden_slots, n_out, n_slots, label, kind, training;
    real tau, c, reset, slope_floor, last_factor;           // of the output layer; tau of both
    real parameter1, parameter2;                            // of the loss
    real hidden_reset, hidden_slope_floor;
    const int* counts;                                      // [n_hidden]
    const real* slopes;                                     // [n_hidden_slots, n_hidden]
    real* group_q;
    unsigned* group_place;                                  // [n_groups, 32 n_hidden_slots]
    real *spike_q, *spike_gains;                            // [worst]: results, neuron by neuron
};

// Shared memory, in the order of bats/fused/layout.py.
template <typename real>
struct OutputRoom {
    SpikeLists<real> lists;
    OutputSums<real> sums;
    OutputState<real> state;
    OutputWeights<real> weights;
    real *error, *range;
    typename Two<real>::type* out_spikes;  // [n_out * n_slots]: q, G output by output
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
        next += (n + 1) / 2 * 2;
        return from;
    };
    room.out_spikes = reinterpret_cast<typename Two<real>::type*>(take(2 * n_out * n_slots));
    room.weights = {staged ? take(n_hidden * even) : nullptr, weights, n_out, even};
    room.lists.q = take(list_capacity), room.lists.other_q = take(list_capacity), room.lists.other_x = take(list_capacity);
    room.sums.capacity = chunk, room.sums.pitch = chunk + n_segments;
    room.sums.a = take(n_out * room.sums.pitch), room.sums.b = take(n_out * room.sums.pitch);
    room.sums.before_a = take(even * n_segments), room.sums.before_b = take(even * n_segments), room.sums.highest = take(even * n_segments);
    room.sums.carried_a = take(even), room.sums.carried_b = take(even);
    room.state.fall = take(n_out), room.state.q = take(n_out * n_slots), room.state.slopes = take(n_out * n_slots);
    room.error = take(n_out), room.range = take(2);
    int* free_int = reinterpret_cast<int*>(next);
    room.buckets.ends = free_int, room.buckets.count = 2 * blockDim.x;
    free_int += room.buckets.count;
    room.lists.place = reinterpret_cast<unsigned*>(free_int);
    free_int += list_capacity;
    room.state.counts = free_int, room.state.overflow = free_int + n_out;
    free_int += 2 * n_out;
    room.group_starts = free_int, free_int += n_groups + 1;
    room.neuron_starts = free_int, free_int += n_hidden;
    room.out_starts = free_int, free_int += n_out + 1;
    room.room = free_int;  // [32]
    return room;
}

// Backward through the outputs' resets, and the list of their spikes: the first warp.
template <typename real>
__device__ __forceinline__ void output_gains(const OutputTask<real>& task, const OutputRoom<real>& room, unsigned long long* bounded) {
    for (int o = threadIdx.x & 31; o < task.n_out; o += 32) {
        int n_bounded = 0;
        const real e = room.error[o];
        const bool first_only = task.kind == FIRST_SPIKE;
        const real *q = room.state.q + o * task.n_slots, *slopes = room.state.slopes + o * task.n_slots;
        auto* to = room.out_spikes + room.out_starts[o];
        recurrent_gains(
            room.state.counts[o], task.tau, task.reset, task.slope_floor, n_bounded, [=](int k) { return slopes[k]; },
            [=](int k) { return q[k]; }, [e, first_only](int k) { return first_only && k > 0 ? real(0) : e; },
            [=](int k, real spike, real gain) {
                to[k].x = spike;
                to[k].y = gain;
            });
        if (n_bounded) atomicAdd(bounded, (unsigned long long)n_bounded);
    }
}

// dL/dt of the hidden spikes, stored neuron by neuron: q in lists.other_q, the error in lists.other_x.
template <typename real>
__device__ __forceinline__ void hidden_errors(const OutputTask<real>& task, const OutputRoom<real>& room, const SpikeLists<real>& lists, int n) {
    const real inverse_tau = 1 / task.tau;
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        const real e = lists.q[j];
        const int neuron = lists.place[j] & 0xffffu, slot = lists.place[j] >> 16;
        real sum = 0;
        int k = 0;
        for (int pair = 0; 2 * pair < task.n_out; ++pair) {
            const auto w = room.weights.two(neuron, pair);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int o = 2 * pair + half;
                if (o >= task.n_out) break;
                const int end = room.out_starts[o + 1];
                real part = 0;
                for (; k < end; ++k) {
                    const auto spike = room.out_spikes[k];
                    if (e < spike.x) part = fma(spike.y, 2 * e - spike.x, part);
                }
                sum = fma(half ? w.y : w.x, part, sum);
            }
        }
        const int to = room.neuron_starts[neuron] + slot;
        lists.other_q[to] = e;
        lists.other_x[to] = sum * e * inverse_tau;
    }
}

// Everything from the lists on; IN_SHARED: the lists lie in shared memory.
template <bool IN_SHARED, typename real>
__device__ __forceinline__ void output_task(const OutputTask<real>& task, const OutputRoom<real>& room, int batch, int n_rows,
                                            Place* places, real* bounds, typename Two<real>::type* out_spikes, int* out_starts, real* loss,
                                            int* predictions, int* out_counts, unsigned long long* status, unsigned long long* bounded,
                                            unsigned long long* hidden_bounded) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, s = task.s;
    const int n = room.group_starts[task.n_groups], capacity = 32 * task.n_hidden_slots;
    SpikeLists<real> lists = room.lists;
    if (!IN_SHARED) lists = {task.group_q, task.group_place, task.spike_q, task.spike_gains};
    Buckets<real> buckets = room.buckets;
    buckets.q_min = room.range[0];
    buckets.per_factor = room.range[1] > room.range[0] ? buckets.count / (room.range[1] - room.range[0]) : real(0);
    for (int g = warp; g < task.n_groups; g += n_warps) {
        const int i = g * 32 + lane, count = i < task.n_hidden ? task.counts[i] : 0, sum = warp_inclusive_sum(count);
        if (i < task.n_hidden) room.neuron_starts[i] = room.group_starts[g] + sum - count;
    }
    sort_spikes(lists, n, task.group_q, task.group_place, capacity, room.group_starts, task.n_groups, buckets, room.room);

    for (int first = 0; first < n; first += room.sums.capacity) {
        const int m = min(room.sums.capacity, n - first);
        add_up_chunk(lists, n, first, m, room.weights, room.sums, task.c, task.last_factor);
        for (int o = warp; o < task.n_out; o += n_warps) {
            walk_chunk(lists, n, first, m, o, room.sums, room.state, task.c, task.reset, task.last_factor, task.n_slots);
        }
        if (first + m < n) __syncthreads();  // the sums are overwritten
    }
    __syncthreads();

    unsigned long long* row = status + (s % n_rows) * 4;
    if (warp == 0) {
        const real value = loss_and_errors(task.kind, room.state.q, room.state.counts, task.n_out, task.n_slots, task.label, task.tau,
                                           task.parameter1, task.parameter2, room.error);
        int before = 0;
        for (int first = 0; first < task.n_out; first += 32) {
            const int o = first + lane, count = o < task.n_out ? room.state.counts[o] : 0, sum = warp_inclusive_sum(count);
            if (o < task.n_out) room.out_starts[o + 1] = before + sum;
            before += __shfl_sync(FULL_WARP, sum, 31);
        }
        if (lane == 0) {
            loss[s] = value;
            room.out_starts[0] = 0;
        }
        __syncwarp();
        if (task.training) output_gains(task, room, bounded + (s % n_rows) * 4);
    } else if (warp == 1) {
        const int best = read_out(task.kind, room.state.q, room.state.counts, task.n_out, task.n_slots);
        if (lane == 0) predictions[s] = best;
    } else if (warp == 2) {
        for (int o = lane; o < task.n_out; o += 32) {
            const int count = room.state.counts[o];
            out_counts[(size_t)s * task.n_out + o] = count;
            if (count) atomicAdd(&row[0], (unsigned long long)count);
            else atomicAdd(&row[1], 1ull);
            if (room.state.overflow[o]) atomicAdd(&row[2], 1ull);
            if (!isfinite(room.sums.carried_a[o])) atomicAdd(&row[3], 1ull);
        }
    }
    if (!task.training) return;
    __syncthreads();

    const int total = room.out_starts[task.n_out];
    for (int k = t; k < total; k += blockDim.x) out_spikes[k] = room.out_spikes[k];
    for (int o = t; o <= task.n_out; o += blockDim.x) out_starts[o] = room.out_starts[o];
    hidden_errors(task, room, lists, n);
    __syncthreads();

    int n_bounded = 0;
    for (int i = t; i < task.n_hidden; i += blockDim.x) {
        const int start = room.neuron_starts[i], count = (i + 1 < task.n_hidden ? room.neuron_starts[i + 1] : n) - start;
        const real *q = lists.other_q + start, *errors = lists.other_x + start, *slopes = task.slopes + i;
        real *to_q = task.spike_q + start, *to_gain = task.spike_gains + start;
        const int stride = task.n_hidden;
        const real bound = recurrent_gains(
            count, task.tau, task.hidden_reset, task.hidden_slope_floor, n_bounded,
            [=](int k) { return slopes[(size_t)k * stride]; }, [=](int k) { return q[k]; }, [=](int k) { return errors[k]; },
            [=](int k, real spike, real gain) {
                if (IN_SHARED) to_q[k] = spike;
                to_gain[k] = gain;
            });
        const size_t at = ((size_t)(i / NEURONS) * batch + s) * NEURONS + i % NEURONS;
        places[at] = {start, count};
        bounds[at] = bound;
    }
    if (n_bounded) atomicAdd(&hidden_bounded[(t % n_rows) * 4], (unsigned long long)n_bounded);
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks batch, up to 1024 threads. Shared memory as bats/fused/layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) output_step(
        const Sample* __restrict__ samples, int batch, int n_hidden, int n_hidden_slots,
        real* group_q, unsigned* group_place,          // [batch, n_groups, 32 n_hidden_slots]: as the first kernel left them; may be sorted here
        const int* __restrict__ list_counts, const real* __restrict__ extremes,
        const int* __restrict__ counts, const real* __restrict__ slopes,
        const real* __restrict__ weights,              // [n_hidden, n_out]
        int n_out, int n_slots, real tau, real c, real reset, real slope_floor, real last_factor,
        real hidden_reset, real hidden_slope_floor,
        int kind, real parameter1, real parameter2,    // count: target_true, target_false; first spike: tau of the loss, silent_loss
        int training, int list_capacity, int chunk, int staged,
        long long* cursor,                             // += batch
        int counts_step, double* schedule, double beta1, double beta2,  // the optimizer's, counted on for the kernel that follows
        real* spike_q, real* spike_gains,              // [batch, 32 n_hidden_slots n_groups]: q and G of the hidden spikes, neuron by neuron
        Place* places, real* bounds,                   // [ceil(n_hidden / NEURONS), batch, NEURONS]
        typename Two<real>::type* out_spikes,          // [batch, n_out * n_slots]: q and G of the outputs' spikes, output by output
        int* out_starts,                               // [batch, n_out + 1]
        real* loss, int* predictions, int* out_counts, int* labels,
        unsigned long long* status, unsigned long long* bounded, int n_rows, unsigned long long* hidden_bounded) {
    extern __shared__ __align__(16) double shared_memory[];
    const int s = blockIdx.x, t = threadIdx.x, n_groups = (n_hidden + 31) / 32;
    const size_t worst = (size_t)32 * n_hidden_slots * n_groups;
    const OutputRoom<real> room = lay_out(shared_memory, list_capacity, chunk, n_hidden, n_groups, n_out, n_slots, weights, staged);
    const OutputTask<real> task = {
        s, n_hidden, n_groups, n_hidden_slots, n_out, n_slots, samples[s].label, kind, training, tau, c, reset, slope_floor, last_factor,
        parameter1, parameter2, hidden_reset, hidden_slope_floor, counts + (size_t)s * n_hidden,
        slopes + (size_t)s * n_hidden_slots * n_hidden, group_q + worst * s, group_place + worst * s, spike_q + worst * s, spike_gains + worst * s};
    if (t < 32) add_up_groups(list_counts + (size_t)s * n_groups, extremes + (size_t)2 * s * n_groups, n_groups, room.group_starts, room.range);
    if (staged) {
        real* rows = room.weights.staged;
        const int pitch = room.weights.pitch;
        if (pitch == n_out) {
#pragma unroll 8
            for (int p = t; p < n_hidden * n_out; p += blockDim.x) rows[p] = weights[p];
        } else {
            for (int p = t; p < n_hidden * pitch; p += blockDim.x) rows[p] = p % pitch < n_out ? weights[p / pitch * n_out + p % pitch] : real(0);
        }
    }
    for (int p = t; p < room.buckets.count; p += blockDim.x) room.buckets.ends[p] = 0;
    for (int o = t; o < n_out; o += blockDim.x) {
        room.state.fall[o] = room.sums.carried_a[o] = room.sums.carried_b[o] = 0;
        room.state.counts[o] = room.state.overflow[o] = 0;
    }
    if (t == 0) {
        labels[s] = task.label;
        if (s == 0) {
            *cursor += batch;
            if (counts_step) count_step(schedule, beta1, beta2);
        }
    }
    __syncthreads();
    out_spikes += (size_t)s * n_out * n_slots;
    out_starts += (size_t)s * (n_out + 1);
    if (room.group_starts[n_groups] <= list_capacity) {
        output_task<true>(task, room, batch, n_rows, places, bounds, out_spikes, out_starts, loss, predictions, out_counts, status, bounded, hidden_bounded);
    } else {
        output_task<false>(task, room, batch, n_rows, places, bounds, out_spikes, out_starts, loss, predictions, out_counts, status, bounded, hidden_bounded);
    }
}
