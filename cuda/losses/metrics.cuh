#pragma once
// Running metrics of a training or evaluation: totals [4] = samples, sum of the loss, correct predictions, silent label neurons.
#include "common/block.cuh"

// Adds a batch; one whole warp, so that the order of the sum is fixed.
template <typename real>
__device__ __forceinline__ void add_metrics(const real* loss, const int* predictions, const int* counts, const int* labels, int batch,
                                            int n_neurons, double* totals) {
    const int lane = threadIdx.x & 31;
    double sum = 0;
    int correct = 0, silent = 0;
    for (int b = lane; b < batch; b += 32) {
        sum += loss[b];
        correct += predictions[b] == labels[b];
        silent += counts[(size_t)b * n_neurons + labels[b]] == 0;
    }
    sum = warp_sum(sum);
    correct = warp_sum(correct);
    silent = warp_sum(silent);
    if (lane == 0) {
        totals[0] += batch;
        totals[1] += sum;
        totals[2] += correct;
        totals[3] += silent;
    }
}
