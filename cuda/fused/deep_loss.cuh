#pragma once
// Fused step of several hidden layers: loss, read-out and errors of the outputs of one sample (docs/theory.md, (22) and (23)).
// Their spikes lie in shared memory: q [n_out, n_slots], counts [n_out].
#include "fused/deep.cuh"

constexpr int SPIKE_COUNT = 0, FIRST_SPIKE = 1;  // losses

struct LossRule {
    int kind;
    double parameter1, parameter2;  // count: target_true, target_false; first spike: tau of the loss, loss of a silent label
};

// By one warp. error[o] holds for every spike (count) or for the first one (first spike). Returns the loss to all lanes.
template <typename real>
__device__ __forceinline__ real loss_and_errors(const LossRule& rule, const real* q, const int* counts, int n_out, int n_slots, int label,
                                                real tau, real* error) {
    const int lane = threadIdx.x & 31;
    const real parameter1 = rule.parameter1, parameter2 = rule.parameter2;
    real total = 0;
    if (rule.kind == SPIKE_COUNT) {
        for (int o = lane; o < n_out; o += 32) {
            const real missing = (o == label ? parameter1 : parameter2) - counts[o];
            total += missing * missing / 2;
            error[o] = missing;
        }
        return warp_sum(total);
    }
    real first = Constants<real>::infinity();
    for (int o = lane; o < n_out; o += 32) {
        if (counts[o] > 0) first = min(first, q[o * n_slots]);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) first = min(first, __shfl_xor_sync(FULL_WARP, first, distance));
    for (int o = lane; o < n_out; o += 32) {
        error[o] = counts[o] > 0 ? exp(-tau * log(q[o * n_slots] / first) / parameter1) : real(0);
        total += error[o];
    }
    total = warp_sum(total);
    const bool silent = counts[label] == 0;
    for (int o = lane; o < n_out; o += 32) {
        const real wanted = o == label ? real(1) : real(0);
        error[o] = silent || counts[o] == 0 ? real(0) : (wanted - error[o] / total) / parameter1;
    }
    return silent ? parameter2 : tau * log(q[label * n_slots] / first) / parameter1 + log(total);
}

// As most_spikes and first_spike of losses/losses.cu; one thread.
template <typename real>
__device__ __forceinline__ int read_out(int kind, const real* q, const int* counts, int n_out, int n_slots) {
    int best = -1;
    for (int o = 0; o < n_out; ++o) {
        if (counts[o] == 0) continue;
        const bool more = kind == SPIKE_COUNT && best >= 0 && counts[o] > counts[best];
        const bool same = kind != SPIKE_COUNT || (best >= 0 && counts[o] == counts[best]);
        if (best < 0 || more || (same && q[o * n_slots] < q[best * n_slots])) best = o;
    }
    return best;
}
