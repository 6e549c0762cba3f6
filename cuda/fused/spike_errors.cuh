#pragma once
// dL/dt of the hidden spikes of one sample (docs/theory.md, (30)): (e / tau) times the sum over the outputs' spikes (Q, G) with e < Q of
// w G (2 e - Q).
//
// What an output adds depends on e through two sums over its later spikes, S = sum G and M = sum G (Q - Q_p), where Q_p is the first spike of
// any output after e: w (S (2 e - Q_p) - M). With the outputs' spikes in one order, a table has S and M for every p and output. Sums from
// Q_p on, not from 0: nothing cancels that would not cancel in the sum over the spikes.
#include "fused/batch.cuh"
#include "fused/output_spikes.cuh"
#include "fused/two.cuh"

// The table, and what it is made of; in memory that is free by then.
template <typename real>
struct LaterSpikes {
    using two = typename Two<real>::type;

    two* rows;    // [total + 1, pitch]: S, M
    two* own;     // [total]: S and M from each spike of an output on, Q_p being its own; output by output
    real *own_q;  // [total]
    real *q;      // [total + 1]: in order
    int total, pitch;
    bool fits;    // in the memory

    __device__ __forceinline__ LaterSpikes(real* memory, int capacity, int total, int n_out)
        : total(total), pitch((n_out + 1) / 2 * 2), fits(2 * pitch * (total + 1) + 4 * total + 1 <= capacity) {
        rows = reinterpret_cast<two*>(memory);
        own = rows + pitch * (total + 1);
        own_q = reinterpret_cast<real*>(own + total);
        q = own_q + total;
    }
};

// Makes the table from later.own, later.own_q; starts [n_out + 1]: of the outputs' spikes. A block, between two synchronizations.
template <typename real>
__device__ __forceinline__ void fill_table(const LaterSpikes<real>& later, const int* starts, int n_out) {
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5, total = later.total;
    for (int k = warp; k < total; k += n_warps) {
        const real q = later.own_q[k];
        int rank = 0;
        for (int first = 0; first < total; first += 32) {
            const int other = first + lane;
            const real other_q = other < total ? later.own_q[other] : Constants<real>::infinity();
            rank += __popc(__ballot_sync(FULL_WARP, other_q < q || (other_q == q && other < k)));
        }
        if (lane == 0) later.q[rank] = q;
    }
    if (t == 0) later.q[total] = 0;  // S and M are 0 there
    __syncthreads();
    for (int place = t; place < later.pitch * (total + 1); place += blockDim.x) {
        const int p = place / later.pitch, o = place % later.pitch;
        typename Two<real>::type sums = {0, 0};
        if (o < n_out && p < total) {
            const real q = later.q[p];
            int k = starts[o], end = starts[o + 1];
            const int last = end;
            while (k < end) {  // the first spike of the output at q or later
                const int middle = (k + end) / 2;
                if (later.own_q[middle] < q) k = middle + 1;
                else end = middle;
            }
            if (k < last) {
                sums = later.own[k];
                sums.y = fma(sums.x, later.own_q[k] - q, sums.y);
            }
        }
        later.rows[place] = sums;
    }
}

// tau dL/dt / e of the spike e of a hidden neuron.
template <typename real>
__device__ __forceinline__ real sum_of_later(const LaterSpikes<real>& later, const OutputWeights<real>& weights, int neuron, real e) {
    int p = 0, end = later.total;
    while (p < end) {  // the first spike of an output after e
        const int middle = (p + end) / 2;
        if (later.q[middle] <= e) p = middle + 1;
        else end = middle;
    }
    const real from = 2 * e - later.q[p];
    const auto* row = later.rows + p * later.pitch;
    real sum = 0;
#pragma unroll 4
    for (int pair = 0; pair < later.pitch / 2; ++pair) {
        const auto w = weights.two(neuron, pair), first = row[2 * pair], second = row[2 * pair + 1];
        sum = fma(w.x, fma(first.x, from, -first.y), sum);
        sum = fma(w.y, fma(second.x, from, -second.y), sum);
    }
    return sum;
}

// The same, spike by spike, without a table.
template <typename real>
__device__ __forceinline__ real sum_of_later(const typename Two<real>::type* out_spikes, const int* starts, const OutputWeights<real>& weights,
                                             int neuron, real e) {
    real sum = 0;
    for (int o = 0; o < weights.n_out; ++o) {
        const real w = weights.one(neuron, o);
        for (int k = starts[o + 1] - 1; k >= starts[o]; --k) {
            const auto spike = out_spikes[k];
            if (spike.x <= e) break;
            sum = fma(w * spike.y, 2 * e - spike.x, sum);
        }
    }
    return sum;
}
