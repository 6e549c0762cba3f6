// Losses with their errors dL/dt per spike, read-outs and running metrics. A warp per sample: outputs are few.
// times, errors [B, n_slots, n_neurons], counts [B, n_neurons].
#include "common/block.cuh"
#include "common/constants.cuh"
#include "fused/dependent_launch.cuh"
#include "losses/metrics.cuh"

template <typename real>
__device__ __forceinline__ real warp_min(real value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value = min(value, __shfl_xor_sync(FULL_WARP, value, distance));
    return value;
}

// 1/2 sum (target - n)^2; error target - n on every emitted spike. blocks B, 32 threads.
template <typename real>
__global__ void __launch_bounds__(32) spike_count_loss(const int* __restrict__ counts, const real* __restrict__ targets,
                                                       int n_neurons, int n_slots, real* __restrict__ loss, real* __restrict__ errors) {
    const size_t b = blockIdx.x;
    real total = 0;
    for (int i = threadIdx.x; i < n_neurons; i += 32) {
        const real missing = targets[b * n_neurons + i] - counts[b * n_neurons + i];
        total += missing * missing / 2;
    }
    total = warp_sum(total);
    for (int slot = threadIdx.x; slot < n_neurons * n_slots; slot += 32) {
        const size_t i = b * n_neurons + slot % n_neurons;
        errors[b * n_neurons * n_slots + slot] = slot / n_neurons < counts[i] ? targets[i] - counts[i] : real(0);
    }
    if (threadIdx.x == 0) loss[b] = total;
}

// The same with target_true for the label's neuron and target_false for the others.
template <typename real>
__global__ void __launch_bounds__(32) spike_count_class_loss(const int* __restrict__ counts, const int* __restrict__ labels,
                                                             real target_true, real target_false, int n_neurons, int n_slots,
                                                             real* __restrict__ loss, real* __restrict__ errors) {
    const size_t b = blockIdx.x;
    const int label = labels[b];
    real total = 0;
    for (int i = threadIdx.x; i < n_neurons; i += 32) {
        const real missing = (i == label ? target_true : target_false) - counts[b * n_neurons + i];
        total += missing * missing / 2;
    }
    total = warp_sum(total);
    for (int slot = threadIdx.x; slot < n_neurons * n_slots; slot += 32) {
        const int i = slot % n_neurons, count = counts[b * n_neurons + i];
        const real missing = (i == label ? target_true : target_false) - count;
        errors[b * n_neurons * n_slots + slot] = slot / n_neurons < count ? missing : real(0);
    }
    if (threadIdx.x == 0) loss[b] = total;
}

// -ln softmax(-t / tau)[label] on first spikes, shifted by the earliest one; a silent neuron has probability 0.
// A silent label makes the loss a constant: no errors then, for any neuron.
template <typename real>
__global__ void __launch_bounds__(32) ttfs_softmax_cross_entropy(
        const real* __restrict__ times, const int* __restrict__ counts, const int* __restrict__ labels, real tau, real silent_loss,
        int n_neurons, int n_slots, real* __restrict__ loss, real* __restrict__ errors) {
    const size_t b = blockIdx.x;
    times += b * n_neurons * n_slots;
    counts += b * n_neurons;
    errors += b * n_neurons * n_slots;
    const int label = labels[b];
    real first = Constants<real>::infinity(), total = 0;
    for (int i = threadIdx.x; i < n_neurons; i += 32) {
        if (counts[i] > 0) first = min(first, times[i]);
    }
    first = warp_min(first);
    for (int i = threadIdx.x; i < n_neurons; i += 32) {
        if (counts[i] > 0) total += exp(-(times[i] - first) / tau);
    }
    total = warp_sum(total);
    for (int slot = threadIdx.x; slot < n_neurons * n_slots; slot += 32) {
        const int i = slot % n_neurons;
        real error = 0;
        if (slot < n_neurons && counts[i] > 0 && counts[label] > 0) {
            error = ((i == label ? real(1) : real(0)) - exp(-(times[slot] - first) / tau) / total) / tau;
        }
        errors[slot] = error;
    }
    if (threadIdx.x == 0) {
        loss[b] = counts[label] > 0 ? (times[label] - first) / tau + log(total) : silent_loss;
    }
}

// 1/2 sum (t - t*)^2 on first spikes, over the neurons that spike and have a finite target.
template <typename real>
__global__ void __launch_bounds__(32) spike_time_loss(const real* __restrict__ times, const int* __restrict__ counts,
                                                      const real* __restrict__ targets, int n_neurons, int n_slots,
                                                      real* __restrict__ loss, real* __restrict__ errors) {
    const size_t b = blockIdx.x;
    times += b * n_neurons * n_slots;
    errors += b * n_neurons * n_slots;
    real total = 0;
    for (int slot = threadIdx.x; slot < n_neurons * n_slots; slot += 32) {
        const size_t i = b * n_neurons + slot % n_neurons;
        real late = 0;
        if (slot < n_neurons && counts[i] > 0 && isfinite(targets[i])) late = times[slot] - targets[i];
        errors[slot] = late;
        total += late * late / 2;
    }
    total = warp_sum(total);
    if (threadIdx.x == 0) loss[b] = total;
}

// -ln softmax(logits)[label], shifted by the largest logit, and dL/dlogits; logits, errors [B, n_neurons].
template <typename real>
__global__ void __launch_bounds__(32) softmax_cross_entropy(const real* __restrict__ logits, const int* __restrict__ labels,
                                                            int n_neurons, real* __restrict__ loss, real* __restrict__ errors) {
    const size_t b = blockIdx.x;
    logits += b * n_neurons;
    errors += b * n_neurons;
    const int label = labels[b];
    real smallest = Constants<real>::infinity(), total = 0;  // of the negated logits
    for (int i = threadIdx.x; i < n_neurons; i += 32) smallest = min(smallest, -logits[i]);
    const real largest = -warp_min(smallest);
    for (int i = threadIdx.x; i < n_neurons; i += 32) total += exp(logits[i] - largest);
    total = warp_sum(total);
    for (int i = threadIdx.x; i < n_neurons; i += 32) {
        errors[i] = exp(logits[i] - largest) / total - (i == label ? real(1) : real(0));
    }
    if (threadIdx.x == 0) loss[b] = log(total) - (logits[label] - largest);
}

// ----------------------------------------------------------------------------------------------------------------------
// Neuron with most spikes; ties go to the earliest first spike, then to the lower index; -1 for a silent sample.
// Thread per sample.
template <typename real>
__global__ void most_spikes(const real* __restrict__ times, const int* __restrict__ counts, int batch, int n_neurons, int n_slots,
                            int* __restrict__ predictions) {
    const int b = blockIdx.x * blockDim.x + threadIdx.x;
    if (b >= batch) return;
    times += (size_t)b * n_neurons * n_slots;
    counts += (size_t)b * n_neurons;
    int best = -1;
    for (int i = 0; i < n_neurons; ++i) {
        if (counts[i] == 0) continue;
        if (best < 0 || counts[i] > counts[best] || (counts[i] == counts[best] && times[i] < times[best])) best = i;
    }
    predictions[b] = best;
}

// Neuron that spikes first; ties go to the lower index; -1 for a silent sample. Thread per sample.
template <typename real>
__global__ void first_spike(const real* __restrict__ times, const int* __restrict__ counts, int batch, int n_neurons, int n_slots,
                            int* __restrict__ predictions) {
    const int b = blockIdx.x * blockDim.x + threadIdx.x;
    if (b >= batch) return;
    times += (size_t)b * n_neurons * n_slots;
    counts += (size_t)b * n_neurons;
    int best = -1;
    for (int i = 0; i < n_neurons; ++i) {
        if (counts[i] > 0 && (best < 0 || times[i] < times[best])) best = i;
    }
    predictions[b] = best;
}

// Neuron with the largest logit [B, n_neurons]; ties go to the lower index; -1 if all are NaN. Thread per sample.
template <typename real>
__global__ void largest(const real* __restrict__ logits, const int* __restrict__ counts, int batch, int n_neurons, int n_slots,
                        int* __restrict__ predictions) {
    const int b = blockIdx.x * blockDim.x + threadIdx.x;
    if (b >= batch) return;
    logits += (size_t)b * n_neurons * n_slots;
    int best = -1;
    for (int i = 0; i < n_neurons; ++i) {
        if (logits[i] == logits[i] && (best < 0 || logits[i] > logits[best])) best = i;
    }
    predictions[b] = best;
}

// totals [4] += the figures of a batch. One block of 256 threads.
template <typename real>
__global__ void __launch_bounds__(256) accumulate_metrics(const real* loss, const int* predictions, const int* counts, const int* labels,
                                                          int batch, int n_neurons, double* totals) {
    __shared__ BatchFigures of_warps[8];
    start_after_previous();
    const BatchFigures own = batch_figures(loss, predictions, counts, labels, threadIdx.x, blockDim.x, batch, n_neurons);
    if ((threadIdx.x & 31) == 0) of_warps[threadIdx.x >> 5] = own;
    __syncthreads();
    if (threadIdx.x > 0) return;
    BatchFigures sum = of_warps[0];
    for (int warp = 1; warp < 8; ++warp) sum.add(of_warps[warp]);
    add_figures(sum, batch, totals);
}

// ----------------------------------------------------------------------------------------------------------------------
// spike_count_class_loss, most_spikes and accumulate_metrics in one launch. blocks B, 32 threads; ticket: 0 before and after.
template <typename real>
__global__ void __launch_bounds__(32) spike_count_class_step(
        const real* times, const int* counts, const int* __restrict__ labels, real target_true, real target_false,
        int batch, int n_neurons, int n_slots, real* loss, real* __restrict__ errors, int* predictions, double* totals, unsigned* ticket) {
    start_after_previous();
    const int b = blockIdx.x, lane = threadIdx.x, label = labels[b];
    times += (size_t)b * n_neurons * n_slots;
    errors += (size_t)b * n_neurons * n_slots;
    const int* own = counts + (size_t)b * n_neurons;
    real total = 0, first = Constants<real>::infinity();
    int best = -1, most = 0;
    for (int i = lane; i < n_neurons; i += 32) {
        const int count = own[i];
        const real missing = (i == label ? target_true : target_false) - count, t = count > 0 ? times[i] : Constants<real>::infinity();
        total += missing * missing / 2;
        if (count > most || (count == most && count > 0 && t < first)) {
            best = i;
            most = count;
            first = t;
        }
        for (int slot = 0; slot < n_slots; ++slot) errors[(size_t)slot * n_neurons + i] = slot < count ? missing : real(0);
    }
    total = warp_sum(total);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const int other = __shfl_xor_sync(FULL_WARP, best, distance), other_most = __shfl_xor_sync(FULL_WARP, most, distance);
        const real other_first = __shfl_xor_sync(FULL_WARP, first, distance);
        const bool tie = other_most == most && other >= 0;
        if (other_most > most || (tie && (other_first < first || (other_first == first && other < best)))) {
            best = other;
            most = other_most;
            first = other_first;
        }
    }
    int last = 0;
    if (lane == 0) {
        loss[b] = total;
        predictions[b] = best;
        __threadfence();
        last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;  // the other blocks have written theirs
    }
    if (!__shfl_sync(FULL_WARP, last, 0)) return;
    __threadfence();
    add_metrics(loss, predictions, counts, labels, batch, n_neurons, totals);
}
