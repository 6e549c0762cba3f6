#pragma once
// Losses and read-outs of the fused step, one warp each, lanes over the outputs (docs/theory.md; losses/losses.cu).
#include "common/block.cuh"
#include "common/constants.cuh"

constexpr int SPIKE_COUNT = 0, FIRST_SPIKE = 1;  // losses

// Returns the loss; error[o] holds for every spike (count) or for the first one (first spike).
template <typename real>
__device__ __forceinline__ real loss_and_errors(int kind, const real* out_factors, const int* out_counts, int n_out, int n_slots, int label,
                                                real tau, real parameter1, real parameter2, real* error) {
    const int lane = threadIdx.x & 31;
    real total = 0;
    if (kind == SPIKE_COUNT) {
#pragma unroll 1
        for (int o = lane; o < n_out; o += 32) {
            const real missing = (o == label ? parameter1 : parameter2) - out_counts[o];
            total += missing * missing / 2;
            error[o] = missing;
        }
        return warp_sum(total);
    }
    real first = Constants<real>::infinity();
#pragma unroll 1
    for (int o = lane; o < n_out; o += 32) {
        if (out_counts[o] > 0) first = min(first, out_factors[o * n_slots]);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) first = min(first, __shfl_xor_sync(FULL_WARP, first, distance));
#pragma unroll 1
    for (int o = lane; o < n_out; o += 32) {
        error[o] = out_counts[o] > 0 ? exp(-tau * log(out_factors[o * n_slots] / first) / parameter1) : real(0);
        total += error[o];
    }
    total = warp_sum(total);
    const bool silent = out_counts[label] == 0;
#pragma unroll 1
    for (int o = lane; o < n_out; o += 32) {
        const real wanted = o == label ? real(1) : real(0);
        error[o] = silent || out_counts[o] == 0 ? real(0) : (wanted - error[o] / total) / parameter1;
    }
    return silent ? parameter2 : tau * log(out_factors[label * n_slots] / first) / parameter1 + log(total);
}

// Whether output o, with `count` spikes from q on, is read out rather than the other one: more spikes (count), then the earlier first
// spike, then the lower number.
template <typename real>
__device__ __forceinline__ bool read_before(int kind, int o, int count, real q, int other, int other_count, real other_q) {
    if ((count > 0) != (other_count > 0)) return count > 0;
    if (kind == SPIKE_COUNT && count != other_count) return count > other_count;
    return q != other_q ? q < other_q : o < other;
}

// The class, -1 if all outputs are silent; to all lanes.
template <typename real>
__device__ __forceinline__ int read_out(int kind, const real* out_factors, const int* out_counts, int n_out, int n_slots) {
    int best = threadIdx.x & 31, count = 0;
    real q = Constants<real>::infinity();
#pragma unroll 1
    for (int o = best; o < n_out; o += 32) {
        const int other_count = out_counts[o];
        const real other_q = other_count > 0 ? out_factors[o * n_slots] : Constants<real>::infinity();
        if (read_before(kind, o, other_count, other_q, best, count, q)) best = o, count = other_count, q = other_q;
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const int other = __shfl_xor_sync(FULL_WARP, best, distance), other_count = __shfl_xor_sync(FULL_WARP, count, distance);
        const real other_q = __shfl_xor_sync(FULL_WARP, q, distance);
        if (read_before(kind, other, other_count, other_q, best, count, q)) best = other, count = other_count, q = other_q;
    }
    return count > 0 ? best : -1;
}
