// Fused step, second kernel: a block takes one sample from its hidden spikes to the errors of these spikes.
//
// 1. The hidden spikes are sorted (sorted_spikes.cuh).
// 2. Output forward pass: all warps make the prefix sums of w E and w E^2 over 32 spikes each, for every output; then one warp per
//    output adds the sums of the groups before and jumps from spike to spike (as lif/spike_times.cu does).
// 3. Loss, prediction, errors; backward through the outputs' resets, a thread per output.
// 4. dL/dt of every hidden spike, a thread each.
// Lists that outgrow shared memory lie in global memory (the same code runs); prefix sums that do are made again when needed.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/batch.cuh"
#include "fused/sorted_spikes.cuh"
#include "lif/crossing.cuh"
#include "optim/update.cuh"

constexpr int SPIKE_COUNT = 0, FIRST_SPIKE = 1;  // losses

// The output layer's sums of one sample at hidden spikes j: prefix sums within the group of 32 spikes that j belongs to, and sums of
// the whole group. Stored as [n_out, 32 n_groups] and [n_out, n_groups].
template <typename real>
struct Prefix {
    real *a, *b, *group_a, *group_b;
};

// One output walks through the hidden spikes; a warp. Returns its number of spikes to all lanes.
template <typename real>
__device__ __forceinline__ int output_spikes(const SpikeLists<real>& lists, int n, const real* weights, int n_out, int o,
                                             const Prefix<real>& prefix, bool stored, real c, real reset, real last_factor, int n_slots,
                                             real* out_factors, real* out_slopes, bool* overflow, bool* finite) {
    const int lane = threadIdx.x & 31, n_groups = (n + 31) >> 5;
    real carried_a = 0, carried_b = 0, fall = 0;
    int n_spikes = 0;
    bool done = false;
    *overflow = false;
    for (int group = 0; group < n_groups; ++group) {
        const int j = group * 32 + lane;
        const bool mine = j < n;
        const real q = mine ? lists.q[j] : real(1), q_next = j + 1 < n ? lists.q[j + 1] : last_factor;
        real a, b;
        if (stored) {
            a = prefix.a[(size_t)o * n_groups * 32 + j];
            b = prefix.b[(size_t)o * n_groups * 32 + j];
        } else {
            const real part = mine ? weights[(size_t)(lists.place[j] & 0xffffu) * n_out + o] * q : real(0);
            a = warp_inclusive_sum(part * q);
            b = warp_inclusive_sum(part);
        }
        a += carried_a;
        b += carried_b;
        carried_a = __shfl_sync(FULL_WARP, a, 31);
        carried_b = __shfl_sync(FULL_WARP, b, 31);
        real y_high = 1 / q;
        const real y_low = mine && q_next != q ? 1 / q_next : Constants<real>::nan();
        unsigned pending = FULL_WARP;  // hidden spikes whose following interval is still to be searched
        while (!done) {
            const unsigned hits = __ballot_sync(FULL_WARP, (pending >> lane & 1) && crosses(a, b - fall, c, y_high, y_low));
            if (hits == 0) break;
            if (n_spikes == n_slots) {
                *overflow = true;
                done = true;
                break;
            }
            const int hit = __ffs(hits) - 1;
            pending = ~((1u << hit) - 1);
            real q_spike = 0;
            if (lane == hit) {
                const Spike<real> spike = first_crossing(a, b - fall, c, y_high, y_low);
                q_spike = 1 / spike.y;
                out_factors[n_spikes] = q_spike;
                out_slopes[n_spikes] = spike.slope;
                y_high = spike.y;  // the rest of this interval begins at the spike
            }
            fall += reset * __shfl_sync(FULL_WARP, q_spike, hit);
            ++n_spikes;
            done = n_slots == 1;
        }
    }
    *finite = isfinite(carried_a);
    return n_spikes;
}

// Loss and errors per output, by the first warp. error[o] holds for every spike (count) or for the first one (first spike).
template <typename real>
__device__ __forceinline__ real loss_and_errors(int kind, const real* out_factors, const int* out_counts, int n_out, int n_slots, int label,
                                                real tau, real parameter1, real parameter2, real* error) {
    const int lane = threadIdx.x & 31;
    real total = 0;
    if (kind == SPIKE_COUNT) {
        for (int o = lane; o < n_out; o += 32) {
            const real missing = (o == label ? parameter1 : parameter2) - out_counts[o];
            total += missing * missing / 2;
            error[o] = missing;
        }
        return warp_sum(total);
    }
    real first = Constants<real>::infinity();
    for (int o = lane; o < n_out; o += 32) {
        if (out_counts[o] > 0) first = min(first, out_factors[o * n_slots]);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) first = min(first, __shfl_xor_sync(FULL_WARP, first, distance));
    for (int o = lane; o < n_out; o += 32) {
        error[o] = out_counts[o] > 0 ? exp(-tau * log(out_factors[o * n_slots] / first) / parameter1) : real(0);
        total += error[o];
    }
    total = warp_sum(total);
    const bool silent = out_counts[label] == 0;
    for (int o = lane; o < n_out; o += 32) {
        const real wanted = o == label ? real(1) : real(0);
        error[o] = silent || out_counts[o] == 0 ? real(0) : (wanted - error[o] / total) / parameter1;
    }
    return silent ? parameter2 : tau * log(out_factors[label * n_slots] / first) / parameter1 + log(total);
}

// As most_spikes and first_spike of losses/losses.cu; one thread.
template <typename real>
__device__ __forceinline__ int read_out(int kind, const real* out_factors, const int* out_counts, int n_out, int n_slots) {
    int best = -1;
    for (int o = 0; o < n_out; ++o) {
        if (out_counts[o] == 0) continue;
        const bool more = kind == SPIKE_COUNT && best >= 0 && out_counts[o] > out_counts[best];
        const bool same = kind != SPIKE_COUNT || (best >= 0 && out_counts[o] == out_counts[best]);
        if (best < 0 || more || (same && out_factors[o * n_slots] < out_factors[best * n_slots])) best = o;
    }
    return best;
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks batch, up to 1024 threads (a multiple of 64). Shared memory as bats/fused/layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024) output_step(
        const Sample* __restrict__ samples, const real* __restrict__ factors, const int* __restrict__ counts,
        int n_hidden, int n_hidden_slots, int list_capacity, int state_capacity,
        real* list_q, unsigned* list_places,  // [batch, 2, n_hidden_slots * n_hidden]: for lists that outgrow shared memory
        const real* __restrict__ weights,     // [n_hidden, n_out]
        int n_out, int n_slots, real tau, real c, real reset, real slope_floor, real last_factor,
        int kind, real parameter1, real parameter2,  // count: target_true, target_false; first spike: tau of the loss, silent_loss
        int training, int batch, long long* cursor,    // *cursor += batch
        int counts_step, double* schedule, double beta1, double beta2,  // the optimizer's, counted on for the kernel that follows
        real* __restrict__ out_gains,         // [batch, 2, n_out * n_slots]: q, then G of the outputs' spikes, output by output
        int* __restrict__ out_neurons,        // [batch, n_out * n_slots]
        int* __restrict__ out_totals,         // [batch]
        real* __restrict__ out_bounds,        // [batch]: bounds what one hidden spike adds to a weight's gradient
        real* __restrict__ errors,            // [batch, n_hidden_slots, n_hidden]
        real* __restrict__ loss, int* __restrict__ predictions, int* __restrict__ out_counts, int* __restrict__ labels,
        unsigned long long* status, unsigned long long* bounded, int n_rows) {
    extern __shared__ double shared_memory[];
    const int s = blockIdx.x, t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5;
    const size_t worst = (size_t)n_hidden_slots * n_hidden;
    const int out_capacity = n_out * n_slots;
    const int label = samples[s].label;
    counts += (size_t)s * n_hidden;
    if (s == 0 && t == 0) {
        *cursor += batch;
        if (counts_step) count_step(schedule, beta1, beta2);
    }

    real* free_real = reinterpret_cast<real*>(shared_memory);
    SpikeLists<real> lists;
    lists.q = free_real, lists.other_q = lists.q + list_capacity;
    free_real += 2 * list_capacity;
    Prefix<real> prefix;
    prefix.a = free_real, prefix.b = prefix.a + state_capacity;
    free_real += 2 * state_capacity;
    real *spike_q = free_real, *spike_slope = spike_q + out_capacity, *q_list = spike_slope + out_capacity, *gain_list = q_list + out_capacity;
    free_real += 4 * out_capacity;
    real *error = free_real, *extremes = error + n_out;
    free_real += n_out + 64;
    unsigned* free_int = reinterpret_cast<unsigned*>(free_real);
    lists.place = free_int, lists.other_place = lists.place + list_capacity;
    free_int += 2 * list_capacity;
    int *buckets = reinterpret_cast<int*>(free_int), *n_spikes = buckets + blockDim.x, *starts = n_spikes + n_out, *neuron_list = starts + n_out + 1;

    // 1. How many spikes; the lists, sorted.
    int mine = 0;
    for (int i = t; i < n_hidden; i += blockDim.x) mine += counts[i];
    int n;
    block_exclusive_sum(mine, &n);
    if (n > list_capacity) {
        lists.q = list_q + 2 * worst * s, lists.other_q = lists.q + worst;
        lists.place = list_places + 2 * worst * s, lists.other_place = lists.place + worst;
    }
    real q_min, q_max;
    gather_spikes(lists, factors + worst * s, counts, n_hidden, extremes, &q_min, &q_max);
    sort_spikes(lists, n, buckets, q_min, q_max);

    // 2. The output layer.
    const int n_groups = (n + 31) >> 5;
    const bool stored = (size_t)n_groups * 32 * n_out <= state_capacity;
    if (stored) {
        for (int group = warp; group < n_groups; group += n_warps) {
            const int j = group * 32 + lane;
            const real q = j < n ? lists.q[j] : real(0);
            const real* row = weights + (size_t)(j < n ? lists.place[j] & 0xffffu : 0) * n_out;
#pragma unroll 5
            for (int o = 0; o < n_out; ++o) {
                const real part = j < n ? row[o] * q : real(0);
                prefix.b[(size_t)o * n_groups * 32 + j] = warp_inclusive_sum(part);
                prefix.a[(size_t)o * n_groups * 32 + j] = warp_inclusive_sum(part * q);
            }
        }
        __syncthreads();
    }
    for (int o = warp; o < n_out; o += n_warps) {
        bool overflow, finite;
        const int count = output_spikes(lists, n, weights, n_out, o, prefix, stored, c, reset, last_factor, n_slots,
                                        spike_q + o * n_slots, spike_slope + o * n_slots, &overflow, &finite);
        if (lane == 0) {
            n_spikes[o] = count;
            out_counts[(size_t)s * n_out + o] = count;
            unsigned long long* row = status + (s % n_rows) * 4;
            if (count) atomicAdd(&row[0], (unsigned long long)count);
            else atomicAdd(&row[1], 1ull);
            if (overflow) atomicAdd(&row[2], 1ull);
            if (!finite) atomicAdd(&row[3], 1ull);
        }
    }
    __syncthreads();

    // 3. Loss, prediction, errors of the outputs.
    if (warp == 0) {
        const real value = loss_and_errors(kind, spike_q, n_spikes, n_out, n_slots, label, tau, parameter1, parameter2, error);
        if (lane == 0) {
            loss[s] = value;
            labels[s] = label;
        }
    } else if (t == 32) {
        predictions[s] = read_out(kind, spike_q, n_spikes, n_out, n_slots);
        int sum = 0;
        for (int o = 0; o < n_out; ++o) {
            starts[o] = sum;
            sum += n_spikes[o];
        }
        starts[n_out] = sum;
        out_totals[s] = sum;
    }
    if (!training) return;
    __syncthreads();
    if (warp == 0) {
        real bound = 0;
        for (int o = lane; o < n_out; o += 32) {
            int n_bounded = 0;
            const int start = starts[o];
            const real e = error[o];
            const bool first_only = kind == FIRST_SPIKE;
            const real own = recurrent_gains(
                spike_q + o * n_slots, spike_slope + o * n_slots, 1, n_spikes[o], tau, reset, slope_floor, n_bounded,
                [e, first_only](int k) { return first_only && k > 0 ? real(0) : e; },
                [=](int k, real q, real gain) {
                    q_list[start + k] = q;
                    gain_list[start + k] = gain;
                    neuron_list[start + k] = o;
                });
            bound = own > bound || own != own ? own : bound;  // NaN stays
            if (n_bounded) atomicAdd(&bounded[(s % n_rows) * 4], (unsigned long long)n_bounded);
        }
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            const real other = __shfl_xor_sync(FULL_WARP, bound, distance);
            bound = other > bound || other != other ? other : bound;
        }
        if (lane == 0) out_bounds[s] = bound;
    }
    __syncthreads();

    // 4. Errors of the hidden spikes, and the list of output spikes for the weights' gradient.
    for (int k = t; k < starts[n_out]; k += blockDim.x) {
        out_gains[(size_t)2 * out_capacity * s + k] = q_list[k];
        out_gains[(size_t)2 * out_capacity * s + out_capacity + k] = gain_list[k];
        out_neurons[(size_t)out_capacity * s + k] = neuron_list[k];
    }
    errors += worst * s;
    for (int j = t; j < n; j += blockDim.x) {
        const real e = lists.q[j];
        const unsigned place = lists.place[j];
        const real* row = weights + (size_t)(place & 0xffffu) * n_out;
        real sum = 0;
        for (int o = 0; o < n_out; ++o) {
            const real w = row[o];
            real part = 0;
            for (int k = starts[o]; k < starts[o + 1]; ++k) {
                const real q = q_list[k];
                if (e < q) part = fma(gain_list[k], 2 * e - q, part);
            }
            sum = fma(w, part, sum);
        }
        errors[(size_t)(place >> 16) * n_hidden + (place & 0xffffu)] = sum * e / tau;
    }
}
