// Fused steps: the samples in the order in which they come.
#include "fused/batch.cuh"

// A thread per place of the order; the batches begin with the first one again.
template <typename real>
__global__ void __launch_bounds__(256) order_samples(const Sample* __restrict__ samples, const int* __restrict__ order, int n,
                                                     Sample* __restrict__ in_order, long long* cursor) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place == 0) *cursor = 0;
    if (place < n) in_order[place] = samples[order[place]];
}
