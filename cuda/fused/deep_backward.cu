// Fused step of several hidden layers, backward pass: from the errors of one layer's spikes ("upper") to those of the layer below
// ("lower"). The first launch of a step starts at the outputs: loss and errors, back through the outputs' resets, and to the
// upper layer's spikes; every block of a sample does that for itself, as waiting for another kernel would take longer.
//
// 1. (top) Outputs' spikes to shared memory, loss, gains; read-out and bookkeeping.
// 2. The upper layer's spikes as a list, neuron by neuron; their errors, made from the outputs' gains (top) or read; a thread per
//    neuron walks back through its resets.
// 3. A warp per lower neuron: lanes over the list, up to four spikes of the neuron at a time.
// A list that outgrows its room is worked on in rounds.
#include "common/constants.cuh"
#include "fused/deep.cuh"
#include "fused/deep_loss.cuh"
#include "optim/update.cuh"

template <typename real>
struct Spikes {  // of one layer; [batch, n_slots, n], counts [batch, n]
    const real *factors, *slopes;
    real* errors;
    const int* counts;
    int n, n_slots;
};

// What the outputs' part needs, and what it leaves for others.
template <typename real>
struct Top {
    const Sample* samples;
    LossRule rule;
    Spikes<real> spikes;
    const real* weights;  // [n_upper, n_out]
    real tau, reset, slope_floor;
    real* loss;
    int *predictions, *out_counts, *labels;  // [batch], [batch, n_out], [batch]
    long long* cursor;                       // *cursor += batch
    double* schedule;                        // counted on for the kernels that follow, if count_step
    double beta1, beta2;
    int count_step;
};

template <typename real>
struct OutputRoom {
    real *q, *slope, *gain, *list_q, *error;  // [n_out, n_slots] three times, the gains' list [n_out * n_slots], [n_out]
    int *counts, *starts;                     // [n_out], [n_out + 1]
};

template <typename real>
__device__ __forceinline__ void outputs_back(const Top<real>& top, int s, bool first_block, bool training, const OutputRoom<real>& room) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_out = top.spikes.n, n_slots = top.spikes.n_slots;
    const int label = top.samples[s].label;
    const size_t base = (size_t)s * n_slots * n_out;
    for (int o = t; o < n_out; o += blockDim.x) {
        room.counts[o] = top.spikes.counts[(size_t)s * n_out + o];
        if (first_block) top.out_counts[(size_t)s * n_out + o] = room.counts[o];
    }
    __syncthreads();
    for (int k = t; k < n_out * n_slots; k += blockDim.x) {
        const int slot = k / n_out, o = k % n_out;
        if (slot >= room.counts[o]) continue;
        room.q[o * n_slots + slot] = top.spikes.factors[base + k];
        room.slope[o * n_slots + slot] = top.spikes.slopes[base + k];
    }
    __syncthreads();
    if (warp == 0) {
        const real value = loss_and_errors(top.rule, room.q, room.counts, n_out, n_slots, label, top.tau, room.error);
        if (lane == 0 && first_block) {
            top.loss[s] = value;
            top.labels[s] = label;
        }
    } else if (t == 32) {
        int sum = 0;
        for (int o = 0; o < n_out; ++o) {
            room.starts[o] = sum;
            sum += room.counts[o];
        }
        room.starts[n_out] = sum;
        if (first_block) top.predictions[s] = read_out(top.rule.kind, room.q, room.counts, n_out, n_slots);
    }
    __syncthreads();
    if (!training) return;
    int n_bounded = 0;  // counted by the kernel of the weights
    const bool first_only = top.rule.kind == FIRST_SPIKE;
    for (int o = t; o < n_out; o += blockDim.x) {
        const int start = room.starts[o];
        const auto error_of = [&](int k) { return first_only && k > 0 ? real(0) : room.error[o]; };
        walk_back(
            room.counts[o], top.tau, top.reset, top.slope_floor, n_bounded,
            [&](int k, real& q, real& slope, real& error) {
                q = room.q[o * n_slots + k];
                slope = room.slope[o * n_slots + k];
                error = error_of(k);
            },
            [&](int k, real q, real gain) {
                room.list_q[start + k] = q;
                room.gain[start + k] = gain;
                if (first_block) top.spikes.errors[base + (size_t)k * n_out + o] = error_of(k);
            });
    }
    __syncthreads();
}

// dL/dt of a spike at factor e of the upper layer, from the outputs' gains.
template <typename real>
__device__ __forceinline__ real error_from_outputs(const OutputRoom<real>& room, const real* row, int n_out, real e, real tau) {
    real sum = 0;
#pragma unroll 2
    for (int o = 0; o < n_out; ++o) {
        const real w = row[o];
        real part = 0;
        for (int k = room.starts[o]; k < room.starts[o + 1]; ++k) {
            const real q = room.list_q[k];
            if (e < q) part = fma(room.gain[k], 2 * e - q, part);
        }
        sum = fma(w, part, sum);
    }
    return sum * e / tau;
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_lower / warps), up to batch), for evaluation (1, up to batch); up to 512 threads, a multiple of 64; a block goes
// through samples blockIdx.y, + gridDim.y, ... Shared memory as bats/fused/deep_layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(512) deep_backward(
        const __grid_constant__ Top<real> top, int is_top, int training, int batch,
        const __grid_constant__ Spikes<real> upper, real tau, real reset, real slope_floor,
        const real* __restrict__ weights,  // [n_lower, n_upper]
        const __grid_constant__ Spikes<real> lower, int list_capacity, int pitch) {  // of a row in shared memory, 0: in global memory
    extern __shared__ double shared_memory[];
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5;
    const int i = blockIdx.x * n_warps + warp, room_size = list_capacity + upper.n_slots;
    const bool first_block = blockIdx.x == 0;
    real *rows = reinterpret_cast<real*>(shared_memory), *list_q = rows + n_warps * pitch, *list_gain = list_q + room_size;
    const int n_out = top.spikes.n, out_capacity = is_top ? n_out * top.spikes.n_slots : 0;
    OutputRoom<real> room;
    room.q = list_gain + room_size, room.slope = room.q + out_capacity, room.gain = room.slope + out_capacity;
    room.list_q = room.gain + out_capacity, room.error = room.list_q + out_capacity;
    unsigned* list_place = reinterpret_cast<unsigned*>(room.error + (is_top ? n_out : 0));
    room.counts = reinterpret_cast<int*>(list_place + room_size), room.starts = room.counts + n_out;
    constexpr unsigned NOTHING = 0xffffffffu;

    if (training && pitch && i < lower.n) {
        for (int k = lane; k < upper.n; k += 32) copy_ahead(&rows[warp * pitch + k], &weights[(size_t)i * upper.n + k]);
    }
    if (is_top && first_block && blockIdx.y == 0 && t == 0) {
        *top.cursor += batch;
        if (top.count_step) count_step(top.schedule, top.beta1, top.beta2);
    }
    const real* row = pitch ? rows + warp * pitch : weights + (size_t)min(i, lower.n - 1) * upper.n;
    for (int s = blockIdx.y; s < batch; s += gridDim.y) {
        if (is_top) outputs_back(top, s, first_block, training, room);
        if (!training) continue;
        const size_t base = (size_t)s * upper.n_slots * upper.n;
        const size_t lower_base = (size_t)s * lower.n_slots * lower.n + i;
        const int n_own = i < lower.n ? lower.counts[(size_t)s * lower.n + i] : 0;
        bool again = false;
        for (int first = 0; first < upper.n; first += blockDim.x) {
            const int neuron = first + t, count = neuron < upper.n ? upper.counts[(size_t)s * upper.n + neuron] : 0;
            int total;
            const int start = block_exclusive_sum(count, &total);
            for (int from = 0; from < total; from += list_capacity) {  // a round takes the neurons whose list starts in [from, from + capacity)
                const int to = start - from, n_list = min(total - from, room_size);
                const bool mine = count > 0 && to >= 0 && to < list_capacity;
                // What the last neuron of the round before reached into this one is left out, and so is what lies past the last one.
                for (int k = t; k < n_list && total > list_capacity; k += blockDim.x) list_place[k] = NOTHING;
                __syncthreads();
                for (int k = 0; k < count && mine; ++k) list_place[to + k] = (unsigned)k << 16 | (unsigned)neuron;
                __syncthreads();
                for (int j = t; j < n_list; j += blockDim.x) {
                    const unsigned place = list_place[j];
                    const int own = place & 0xffffu;
                    list_q[j] = list_gain[j] = 0;
                    if (place == NOTHING) {
                        list_place[j] = 0;
                        continue;
                    }
                    const size_t spike = base + (size_t)(place >> 16) * upper.n + own;
                    const real e = upper.factors[spike];
                    real error;
                    if (is_top) {
                        error = error_from_outputs(room, top.weights + (size_t)own * n_out, n_out, e, tau);
                        if (first_block) upper.errors[spike] = error;
                    } else {
                        error = upper.errors[spike];
                    }
                    list_q[j] = e;
                    list_gain[j] = error;
                }
                __syncthreads();
                if (mine) {
                    int n_bounded = 0;  // counted by the kernel of the weights
                    const real* slopes = upper.slopes + base + neuron;
                    walk_back(
                        count, tau, reset, slope_floor, n_bounded,
                        [&](int k, real& q, real& slope, real& error) {
                            q = list_q[to + k];
                            slope = slopes[(size_t)k * upper.n];
                            error = list_gain[to + k];
                        },
                        [&](int k, real, real gain) { list_gain[to + k] = gain; });
                }
                wait_for_copies();
                __syncthreads();
                for (int k0 = 0; k0 < n_own; k0 += 4) {
                    real e[4], sum[4] = {0, 0, 0, 0};
#pragma unroll
                    for (int u = 0; u < 4; ++u) e[u] = lower.factors[lower_base + (size_t)min(k0 + u, n_own - 1) * lower.n];
#pragma unroll 4
                    for (int j = lane; j < n_list; j += 32) {
                        const real q = list_q[j], part = row[list_place[j] & 0xffffu] * list_gain[j];
#pragma unroll
                        for (int u = 0; u < 4; ++u) {
                            if (e[u] < q) sum[u] = fma(part, 2 * e[u] - q, sum[u]);
                        }
                    }
#pragma unroll
                    for (int u = 0; u < 4; ++u) sum[u] = warp_sum(sum[u]);
                    real own_sum = sum[0], own_e = e[0];
#pragma unroll
                    for (int u = 1; u < 4; ++u) {
                        if (lane == u) own_sum = sum[u], own_e = e[u];
                    }
                    if (lane < 4 && k0 + lane < n_own) {
                        real* error = lower.errors + lower_base + (size_t)(k0 + lane) * lower.n;
                        *error = (again ? *error : real(0)) + own_sum * own_e / tau;
                    }
                }
                again = true;
                __syncthreads();
            }
        }
        if (!again) {  // nothing above fires: no errors
            for (int k = lane; k < n_own; k += 32) lower.errors[lower_base + (size_t)k * lower.n] = 0;
        }
        __syncthreads();
    }
}
