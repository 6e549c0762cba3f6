#pragma once
// Running metrics of a training or evaluation: totals [4] = samples, sum of the loss, correct predictions, silent label neurons.
#include "common/block.cuh"

struct BatchFigures {
    double loss;
    int correct, silent;

    __device__ __forceinline__ void add(const BatchFigures& other) { loss += other.loss, correct += other.correct, silent += other.silent; }
};

// Those of samples first, first + step, ... of all lanes of a warp, in a fixed order.
template <typename real>
__device__ __forceinline__ BatchFigures batch_figures(const real* loss, const int* predictions, const int* counts, const int* labels,
                                                      int first, int step, int batch, int n_neurons) {
    BatchFigures sum = {0, 0, 0};
    for (int b = first; b < batch; b += step) {
        const int label = labels[b];
        sum.add({(double)loss[b], predictions[b] == label, counts[(size_t)b * n_neurons + label] == 0});
    }
    return {warp_sum(sum.loss), warp_sum(sum.correct), warp_sum(sum.silent)};
}

// One thread.
__device__ __forceinline__ void add_figures(const BatchFigures& sum, int batch, double* totals) {
    totals[0] += batch;
    totals[1] += sum.loss;
    totals[2] += sum.correct;
    totals[3] += sum.silent;
}

// Adds a batch; one whole warp.
template <typename real>
__device__ __forceinline__ void add_metrics(const real* loss, const int* predictions, const int* counts, const int* labels, int batch,
                                            int n_neurons, double* totals) {
    const int lane = threadIdx.x & 31;
    const BatchFigures sum = batch_figures(loss, predictions, counts, labels, lane, 32, batch, n_neurons);
    if (lane == 0) add_figures(sum, batch, totals);
}
