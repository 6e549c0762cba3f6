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
    Kept<real>* list;      // [n_out * n_slots], output by output
    int* list_neuron;      // whose spike it is
    real *q, *slope;       // [n_out, n_slots]
    real* error;           // [n_out]
    int *counts, *starts;  // [n_out], [n_out + 1]
};

// All slots are fetched, whether they hold a spike or not: their number is on its way too.
template <typename real>
__device__ __forceinline__ void load_outputs(const Top<real>& top, int s, bool first_block, const OutputRoom<real>& room) {
    const int n_out = top.spikes.n, n_slots = top.spikes.n_slots;
    for (int k = threadIdx.x; k < n_out * n_slots; k += blockDim.x) {
        const int slot = k / n_out, o = k % n_out;
        const size_t spike = (size_t)s * n_slots * n_out + k;
        room.q[o * n_slots + slot] = top.spikes.factors[spike];
        room.slope[o * n_slots + slot] = top.spikes.slopes[spike];
    }
    for (int o = threadIdx.x; o < n_out; o += blockDim.x) {
        const int count = top.spikes.counts[(size_t)s * n_out + o];
        room.counts[o] = count;
        if (first_block) top.out_counts[(size_t)s * n_out + o] = count;
    }
}

// Loss, read-out, and where the spikes of every output begin in the list. Two warps, at the same time.
template <typename real>
__device__ __forceinline__ void loss_of_outputs(const Top<real>& top, int s, bool first_block, const OutputRoom<real>& room) {
    const int t = threadIdx.x, n_out = top.spikes.n, n_slots = top.spikes.n_slots, label = top.samples[s].label;
    if (t < 32) {
        const real value = loss_and_errors(top.rule, room.q, room.counts, n_out, n_slots, label, top.tau, room.error);
        if (t == 0 && first_block) {
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
}

// Back through the outputs' resets: a warp per output, a lane per spike, latest first. What later spikes add to delta, S q, changes from
// spike to spike by an affine map, S <- S (1 + reset / z) + error reset / (z q): 32 of them are composed by a scan.
template <typename real>
__device__ __forceinline__ void gains_of_outputs(const Top<real>& top, int s, bool first_block, const OutputRoom<real>& room) {
    const int lane = threadIdx.x & 31, n_out = top.spikes.n, n_slots = top.spikes.n_slots;
    for (int o = threadIdx.x >> 5; o < n_out; o += blockDim.x >> 5) {
        const int count = room.counts[o];
        real later = 0;
        for (int done = 0; done < count; done += 32) {
            const int k = count - 1 - done - lane;
            const bool mine = k >= 0;
            const real q = mine ? room.q[o * n_slots + k] : real(1), slope = mine ? max(room.slope[o * n_slots + k], top.slope_floor) : real(1);
            const real error = !mine || (top.rule.kind == FIRST_SPIKE && k > 0) ? real(0) : room.error[o];
            const real flat = reciprocal(slope), y = reciprocal(q);
            real factor = mine ? 1 + flat * top.reset : real(1), added = error * flat * top.reset * y;
#pragma unroll
            for (int distance = 1; distance < 32; distance *= 2) {
                const real before_factor = __shfl_up_sync(FULL_WARP, factor, distance), before_added = __shfl_up_sync(FULL_WARP, added, distance);
                if (lane >= distance) {
                    added = fma(factor, before_added, added);
                    factor *= before_factor;
                }
            }
            const real after = fma(factor, later, added), before = __shfl_up_sync(FULL_WARP, after, 1);
            const real gain = fma(lane ? before : later, q, error) * flat * top.tau;
            later = __shfl_sync(FULL_WARP, after, 31);
            if (mine) {
                room.list[room.starts[o] + k] = {q, gain * y * y};
                room.list_neuron[room.starts[o] + k] = o;
                if (first_block) top.spikes.errors[((size_t)s * n_slots + k) * n_out + o] = error;
            }
        }
    }
}

// dL/dt of a spike at factor e of the upper layer, from the outputs' gains.
template <typename real>
__device__ __forceinline__ real error_from_outputs(const OutputRoom<real>& room, const real* row, int n_out, real e, real tau) {
    const int n = room.starts[n_out];
    real sum = 0;
#pragma unroll 4
    for (int k = 0; k < n; ++k) {
        const Kept<real> spike = room.list[k];
        const real w = row[room.list_neuron[k]];  // whatever the comparison says: a branch would keep the loads from overlapping
        sum = fma(w * (e < spike.q ? spike.gain : real(0)), 2 * e - spike.q, sum);
    }
    return sum * e / tau;
}

// dL/dt of the spikes of one lower neuron; a warp, lanes over the upper layer's list. `again`: adds to what earlier lists gave.
template <typename real>
__device__ __forceinline__ void errors_below(const Kept<real>* list, const unsigned* places, int n_list, const real* row, real tau,
                                             const real* factors, real* errors, int count, int stride, bool again) {
    constexpr int GROUP = 5;  // spikes at a time
    const int lane = threadIdx.x & 31;
    for (int first = 0; first < count; first += GROUP) {
        real e[GROUP], sum[GROUP];
#pragma unroll
        for (int u = 0; u < GROUP; ++u) {
            e[u] = factors[(size_t)min(first + u, count - 1) * stride];
            sum[u] = 0;
        }
#pragma unroll 2
        for (int j = lane; j < n_list; j += 32) {
            const Kept<real> spike = list[j];
            const real part = row[places[j] & 0xffffu] * spike.gain;
#pragma unroll
            for (int u = 0; u < GROUP; ++u) {
                if (e[u] < spike.q) sum[u] = fma(part, 2 * e[u] - spike.q, sum[u]);
            }
        }
        real own_sum = 0, own_e = 0;
#pragma unroll
        for (int u = 0; u < GROUP; ++u) {
            sum[u] = warp_sum(sum[u]);
            if (lane == u) own_sum = sum[u], own_e = e[u];
        }
        if (lane < GROUP && first + lane < count) {
            real* error = errors + (size_t)(first + lane) * stride;
            *error = (again ? *error : real(0)) + own_sum * own_e / tau;
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (up to ceil(n_lower / warps), up to batch), for evaluation (1, up to batch); up to 512 threads, a multiple of 64; a block goes
// through lower neurons blockIdx.x * warps + warp, + gridDim.x * warps, ... of samples blockIdx.y, + gridDim.y, ... Shared memory as
// bats/fused/deep_layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(512, 2) deep_backward(
        const __grid_constant__ Top<real> top, int is_top, int training, int batch,
        const __grid_constant__ Spikes<real> upper, real tau, real reset, real slope_floor,
        const real* __restrict__ weights,  // [n_lower, n_upper]
        const __grid_constant__ Spikes<real> lower, int list_capacity,
        int pitch,           // of a row of the weights in shared memory, a row per warp; 0: they stay in global memory
        int keeps_outputs) {  // whether the outputs' weights lie in shared memory
    extern __shared__ double shared_memory[];
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, room_size = list_capacity + upper.n_slots;
    const bool first_block = blockIdx.x == 0;
    const int n_out = is_top ? top.spikes.n : 0, out_capacity = is_top ? n_out * top.spikes.n_slots : 0;
    real *rows = reinterpret_cast<real*>(shared_memory), *out_rows = rows + n_warps * pitch;
    Kept<real>* list = reinterpret_cast<Kept<real>*>(out_rows + (keeps_outputs ? (upper.n * n_out + 1) / 2 * 2 : 0));
    OutputRoom<real> room;
    room.list = list + room_size;
    real* list_slope = reinterpret_cast<real*>(room.list + out_capacity);
    room.q = list_slope + room_size, room.slope = room.q + out_capacity, room.error = room.slope + out_capacity;
    unsigned* list_place = reinterpret_cast<unsigned*>(room.error + n_out);
    room.counts = reinterpret_cast<int*>(list_place + room_size), room.starts = room.counts + n_out;
    room.list_neuron = room.starts + n_out + 1;
    constexpr unsigned NOTHING = 0xffffffffu;

    const int own = blockIdx.x * n_warps + warp;
    if (training && keeps_outputs) copy_ahead(out_rows, top.weights, upper.n * n_out, t, blockDim.x);
    if (training && pitch && own < lower.n) copy_ahead(&rows[warp * pitch], &weights[(size_t)own * upper.n], upper.n, lane, 32);
    // The first list of the upper layer's spikes is made before the kernel ahead, which works on the layer above, has ended.
    bool ahead = is_top, bookkept = !(is_top && first_block && blockIdx.y == 0 && t == 0);
    const auto kernel_ahead_ends = [&]() {
        start_after_previous();
        ahead = false;
    };
    if (!ahead) kernel_ahead_ends();
    for (int s = blockIdx.y; s < batch; s += gridDim.y) {
        bool outputs_wait = is_top, again = false;
        const size_t base = (size_t)s * upper.n_slots * upper.n, lower_base = (size_t)s * lower.n_slots * lower.n;
        for (int first = 0; training && first < upper.n; first += blockDim.x) {
            constexpr int AHEAD = 5;  // slots that are fetched before it is known whether they hold a spike
            const int neuron = first + t, count = neuron < upper.n ? upper.counts[(size_t)s * upper.n + neuron] : 0;
            real q[AHEAD], slope[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                const bool exists = neuron < upper.n && u < upper.n_slots;
                q[u] = exists ? upper.factors[base + (size_t)u * upper.n + neuron] : real(0);
                slope[u] = exists ? upper.slopes[base + (size_t)u * upper.n + neuron] : real(0);
            }
            int total;
            const int start = block_exclusive_sum(count, &total);
            for (int from = 0; from < total; from += list_capacity) {  // a round takes the neurons whose list starts in [from, from + capacity)
                const int to = start - from, n_list = min(total - from, room_size);
                const bool mine = count > 0 && to >= 0 && to < list_capacity;
                // What the last neuron of the round before reached into this one is left out, and so is what lies past the last one.
                if (total > list_capacity) {
                    for (int k = t; k < n_list; k += blockDim.x) {
                        list_place[k] = NOTHING;
                        list[k] = {0, 0};
                    }
                    __syncthreads();
                }
                const auto put = [&](int slot, real own_q, real own_slope) {
                    list[to + slot] = {own_q, 0};
                    list_slope[to + slot] = own_slope;
                    list_place[to + slot] = (unsigned)slot << 16 | (unsigned)neuron;
                };
                if (mine) {
#pragma unroll
                    for (int u = 0; u < AHEAD; ++u) {
                        if (u < count) put(u, q[u], slope[u]);
                    }
                    for (int slot = AHEAD; slot < count; ++slot) {
                        const size_t spike = base + (size_t)slot * upper.n + neuron;
                        put(slot, upper.factors[spike], upper.slopes[spike]);
                    }
                }
                if (outputs_wait) {
                    if (ahead) kernel_ahead_ends();
                    load_outputs(top, s, first_block, room);
                    __syncthreads();
                    loss_of_outputs(top, s, first_block, room);
                    __syncthreads();
                    gains_of_outputs(top, s, first_block, room);
                    outputs_wait = false;
                }
                wait_for_copies();
                __syncthreads();
                for (int j = t; j < n_list; j += blockDim.x) {
                    const unsigned place = list_place[j], of = place & 0xffffu;
                    if (place == NOTHING) {
                        list_place[j] = 0;
                        continue;
                    }
                    real* known = &upper.errors[base + (size_t)(place >> 16) * upper.n + of];
                    if (is_top) {
                        const real* row = (keeps_outputs ? out_rows : top.weights) + (size_t)of * n_out;
                        const real error = error_from_outputs(room, row, n_out, list[j].q, tau);
                        list[j].gain = error;
                        if (first_block) *known = error;
                    } else {
                        list[j].gain = *known;
                    }
                }
                __syncthreads();
                if (mine) {
                    int n_bounded = 0;  // counted by the kernel of the weights
                    walk_back(
                        count, tau, reset, slope_floor, n_bounded,
                        [&](int k, real& own_q, real& own_slope, real& error) {
                            own_q = list[to + k].q;
                            error = list[to + k].gain;
                            own_slope = list_slope[to + k];
                        },
                        [&](int k, real, real gain) { list[to + k].gain = gain; });
                }
                __syncthreads();
                for (int i = own; i < lower.n; i += gridDim.x * n_warps) {
                    const real* row = pitch ? rows + warp * pitch : weights + (size_t)i * upper.n;
                    errors_below(list, list_place, n_list, row, tau, lower.factors + lower_base + i, lower.errors + lower_base + i,
                                 lower.counts[(size_t)s * lower.n + i], lower.n, again);
                }
                again = true;
                __syncthreads();
            }
        }
        if (outputs_wait) {  // evaluation, or a silent layer
            if (ahead) kernel_ahead_ends();
            load_outputs(top, s, first_block, room);
            __syncthreads();
            loss_of_outputs(top, s, first_block, room);
            __syncthreads();
            if (training) gains_of_outputs(top, s, first_block, room);
        }
        if (!bookkept) {
            *top.cursor += batch;
            if (top.count_step) count_step(top.schedule, top.beta1, top.beta2);
            bookkept = true;
        }
        if (training && !again) {  // nothing above fires: no errors
            for (int i = own; i < lower.n; i += gridDim.x * n_warps) {
                const int count = lower.counts[(size_t)s * lower.n + i];
                for (int k = lane; k < count; k += 32) lower.errors[lower_base + (size_t)k * lower.n + i] = 0;
            }
        }
        __syncthreads();
    }
}
