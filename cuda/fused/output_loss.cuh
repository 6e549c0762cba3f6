#pragma once
// Losses and read-outs of the fused step, by whole warps, lanes over the outputs (docs/theory.md; losses/losses.cu).
#include "common/block.cuh"
#include "common/constants.cuh"

constexpr int SPIKE_COUNT = 0, FIRST_SPIKE = 1;  // losses

// The loss of one sample whose outputs have `counts` spikes, the first ones at q[o n_slots]. Every warp that asks for something makes its
// own: nobody waits for another one's.
template <typename real>
struct Loss {
    int kind, label;
    real tau, parameter1, parameter2;  // count: target_true, target_false; first spike: tau of the loss, loss of a silent label
    const real* q;
    const int* counts;
    int n_out, n_slots;
    real first, total, own;            // first spike: the first q of all, the sum of all terms, the term of output `lane`
    bool silent;

    __device__ __forceinline__ Loss(int kind, int label, real tau, real parameter1, real parameter2, const real* q, const int* counts,
                                    int n_out, int n_slots)
        : kind(kind), label(label), tau(tau), parameter1(parameter1), parameter2(parameter2), q(q), counts(counts), n_out(n_out),
          n_slots(n_slots), first(Constants<real>::infinity()), total(0), own(0), silent(counts[label] == 0) {
        if (kind == SPIKE_COUNT) return;
        const int lane = threadIdx.x & 31;
#pragma unroll 1
        for (int o = lane; o < n_out; o += 32) {
            if (counts[o] > 0) first = min(first, q[o * n_slots]);
        }
#pragma unroll 1
        for (int distance = 16; distance > 0; distance /= 2) first = min(first, __shfl_xor_sync(FULL_WARP, first, distance));
#pragma unroll 1
        for (int o = lane; o < n_out; o += 32) {
            const real one = term(o);
            total += one;
            own = o == lane ? one : own;
        }
        total = warp_sum(total);
    }

    __device__ __forceinline__ real missing(int o) const { return (o == label ? parameter1 : parameter2) - counts[o]; }
    __device__ __forceinline__ real term(int o) const {
        return counts[o] > 0 ? exp(-tau * log(q[o * n_slots] / first) / parameter1) : real(0);
    }

    // Of output o, the same in all lanes: for every spike (count) or for the first one (first spike).
    __device__ __forceinline__ real error(int o) const {
        if (kind == SPIKE_COUNT) return missing(o);
        const real of_output = o < 32 ? __shfl_sync(FULL_WARP, own, o) : term(o);
        const real wanted = o == label ? real(1) : real(0);
        return silent || counts[o] == 0 ? real(0) : (wanted - of_output / total) / parameter1;
    }

    __device__ __forceinline__ real value() const {
        if (kind == FIRST_SPIKE) return silent ? parameter2 : tau * log(q[label * n_slots] / first) / parameter1 + log(total);
        real sum = 0;
#pragma unroll 1
        for (int o = threadIdx.x & 31; o < n_out; o += 32) sum += missing(o) * missing(o) / 2;
        return warp_sum(sum);
    }
};

// The class, -1 if all outputs are silent; to all lanes. More spikes (count), then the earlier first spike, then the lower number.
template <typename real>
__device__ __forceinline__ int read_out(int kind, const real* q, const int* counts, int n_out, int n_slots) {
    const int lane = threadIdx.x & 31;
    int best = 0x7fffffff, most = 0;
    real earliest = Constants<real>::infinity();
#pragma unroll 1
    for (int o = lane; o < n_out; o += 32) {
        const int count = kind == SPIKE_COUNT ? counts[o] : counts[o] > 0;
        const real own = count > 0 ? q[o * n_slots] : Constants<real>::infinity();
        if (count > most || (count == most && own < earliest)) best = o, most = count, earliest = own;
    }
    const int most_of_all = __reduce_max_sync(FULL_WARP, most);
    real first = most == most_of_all ? earliest : Constants<real>::infinity();
#pragma unroll 1
    for (int distance = 16; distance > 0; distance /= 2) first = min(first, __shfl_xor_sync(FULL_WARP, first, distance));
    best = __reduce_min_sync(FULL_WARP, most == most_of_all && earliest == first ? best : 0x7fffffff);
    return most_of_all > 0 ? best : -1;
}
