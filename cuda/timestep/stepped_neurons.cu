// Neurons in time steps: membrane and spikes of all steps from the currents, and dL/dI from dL/dS (docs/timestep.md; CPU twin:
// bats/cpu/stepped_neurons.py). Arrays [B, T, N].
//
// A thread owns a neuron of a sample and walks the steps with its state in registers; neighbours in a warp are neighbours in
// memory. There are only B x N threads, so each asks for AHEAD steps before it needs the first of them.
// Spikes are bytes, 0 or 1.
#include "common/block.cuh"

typedef unsigned char byte;

constexpr int AHEAD = 16;

// dS/dV at x = V - threshold: fast sigmoid, arctan, sigmoid; 1 at the threshold.
template <typename real>
__device__ __forceinline__ real surrogate(int kind, real slope, real x) {
    if (kind == 0) {
        const real d = slope * abs(x) + 1;
        return 1 / (d * d);
    }
    if (kind == 1) {
        const real d = slope * x;
        return 1 / (1 + d * d);
    }
    const real e = exp(-abs(slope * x));
    return 4 * e / ((1 + e) * (1 + e));
}

// The steps first ... first + AHEAD - 1 of a neuron, those outside [0, T) left out; `from` points to its step 0.
template <typename real>
__device__ __forceinline__ void fetch(real (&values)[AHEAD], const real* from, int first, int n_steps, int n) {
#pragma unroll
    for (int a = 0; a < AHEAD; ++a) {
        const int t = first + a;
        values[a] = t >= 0 && t < n_steps ? from[(size_t)t * n] : real(0);
    }
}

// status [B, 5] += spikes, silent neurons, 0, neurons whose last membrane is not finite, 0. All threads of a block call it.
template <typename real>
__device__ __forceinline__ void add_status(unsigned long long* status, bool mine, bool spiking, int count, real last) {
    const int spikes = warp_sum(mine && spiking ? count : 0);
    const int silent = warp_sum(int(mine && spiking && count == 0));
    const int broken = warp_sum(int(mine && !isfinite(last)));
    if ((threadIdx.x & 31) == 0) {  // integers: the order does not matter
        if (spikes) atomicAdd(&status[0], (unsigned long long)spikes);
        if (silent) atomicAdd(&status[1], (unsigned long long)silent);
        if (broken) atomicAdd(&status[3], (unsigned long long)broken);
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// Forward. membrane holds the currents and receives V before the reset; bias [N] and passed_on (spikes that a skip connection
// hands on) may be null. Single: only the first crossing is a spike, its step goes to first [B, N] (T: none).
template <typename real, bool single>
__device__ __forceinline__ void walk_forward(real* membrane, int n_steps, int n, const real* bias, real beta, real threshold,
                                             bool resets, const byte* passed_on, byte* spikes, int* first, int* counts,
                                             unsigned long long* status) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const size_t b = blockIdx.y;
    real v = 0;
    int count = 0;
    if (i < n) {
        const size_t start = b * n_steps * n + i;
        membrane += start;
        spikes += start;
        const real shift = bias ? bias[i] : real(0);
        real left = 0, now[AHEAD], next[AHEAD];  // left: of the step before, after its reset and decay
        int crossing = n_steps;
        fetch(now, membrane, 0, n_steps, n);
        for (int from = 0; from < n_steps; from += AHEAD) {
            fetch(next, membrane, from + AHEAD, n_steps, n);
#pragma unroll
            for (int a = 0; a < AHEAD; ++a) {
                const int t = from + a;
                if (t >= n_steps) break;
                v = left + now[a] + shift;
                bool fires = v > threshold;
                if (single) {
                    fires = fires && crossing == n_steps;
                    if (fires) crossing = t;
                }
                left = beta * (fires && resets ? v - threshold : v);
                if (passed_on) fires = fires || passed_on[start + (size_t)t * n] > 0;
                count += fires;
                membrane[(size_t)t * n] = v;
                spikes[(size_t)t * n] = fires;
            }
#pragma unroll
            for (int a = 0; a < AHEAD; ++a) now[a] = next[a];
        }
        counts[b * n + i] = count;
        if (single) first[b * n + i] = crossing;
    }
    add_status(status + 5 * b, i < n, true, count, v);
}

// blocks (ceil(N / 64), B), 64 threads.
template <typename real>
__global__ void __launch_bounds__(64) lif_steps(real* membrane, int n_steps, int n, const real* bias, real beta, real threshold,
                                                int resets, const byte* passed_on, byte* spikes, int* counts,
                                                unsigned long long* status) {
    walk_forward<real, false>(membrane, n_steps, n, bias, beta, threshold, resets, passed_on, spikes, nullptr, counts, status);
}

// blocks (ceil(N / 64), B), 64 threads.
template <typename real>
__global__ void __launch_bounds__(64) single_spike_steps(real* membrane, int n_steps, int n, const real* bias, real beta,
                                                         real threshold, const byte* passed_on, byte* spikes, int* first,
                                                         int* counts, unsigned long long* status) {
    walk_forward<real, true>(membrane, n_steps, n, bias, beta, threshold, false, passed_on, spikes, first, counts, status);
}

// ----------------------------------------------------------------------------------------------------------------------
// Backward. errors: dL/dS of the output, replaced by dL/dI; passed_errors: those of the spikes handed on, or null.
// Single: errors count before the first crossing only, and reach dL/dh through two running sums.
template <typename real, bool single>
__device__ __forceinline__ void walk_backward(real* errors, int n_steps, int n, const real* membrane, const int* first, real beta,
                                              real threshold, bool resets, int kind, real slope, const byte* passed_on,
                                              real* passed_errors) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const size_t b = blockIdx.y;
    if (i >= n) return;
    const size_t start = b * n_steps * n + i;
    errors += start;
    membrane += start;
    const int crossing = single ? first[b * n + i] : n_steps;
    real later = 0, once = 0, twice = 0;
    real now_g[AHEAD], now_v[AHEAD], next_g[AHEAD], next_v[AHEAD];
    const int last = (n_steps - 1) / AHEAD * AHEAD;
    fetch(now_g, errors, last, n_steps, n);
    fetch(now_v, membrane, last, n_steps, n);
    for (int from = last; from >= 0; from -= AHEAD) {
        fetch(next_g, errors, from - AHEAD, n_steps, n);
        fetch(next_v, membrane, from - AHEAD, n_steps, n);
#pragma unroll
        for (int a = AHEAD - 1; a >= 0; --a) {
            const int t = from + a;
            if (t >= n_steps) continue;
            const real v = now_v[a];
            real g = now_g[a];
            if (passed_on && (single ? t == crossing : v > threshold) && passed_on[start + (size_t)t * n] > 0) g = 0;  // clamped
            if (passed_errors) passed_errors[start + (size_t)t * n] = g;
            if (single) {
                if (t < crossing) {
                    once += g;
                    twice += once;
                    g = twice * surrogate(kind, slope, v - threshold) + later;
                } else {
                    g = 0;
                }
            } else {
                if (resets) g -= threshold * later;
                g = later + g * surrogate(kind, slope, v - threshold);
            }
            errors[(size_t)t * n] = g;
            later = beta * g;
        }
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
            now_g[a] = next_g[a];
            now_v[a] = next_v[a];
        }
    }
}

// blocks (ceil(N / 64), B), 64 threads.
template <typename real>
__global__ void __launch_bounds__(64) lif_steps_backward(real* errors, int n_steps, int n, const real* membrane, real beta,
                                                         real threshold, int resets, int kind, real slope, const byte* passed_on,
                                                         real* passed_errors) {
    walk_backward<real, false>(errors, n_steps, n, membrane, nullptr, beta, threshold, resets, kind, slope, passed_on, passed_errors);
}

// blocks (ceil(N / 64), B), 64 threads.
template <typename real>
__global__ void __launch_bounds__(64) single_spike_backward(real* errors, int n_steps, int n, const real* membrane,
                                                            const int* first, real beta, real threshold, int kind, real slope,
                                                            const byte* passed_on, real* passed_errors) {
    walk_backward<real, true>(errors, n_steps, n, membrane, first, beta, threshold, false, kind, slope, passed_on, passed_errors);
}

// ----------------------------------------------------------------------------------------------------------------------
// Leaky integrator: membrane holds the currents and receives V; logits [B, N] its largest value, peaks [B, N] the first step
// that has it. blocks (ceil(N / 64), B), 64 threads.
template <typename real>
__global__ void __launch_bounds__(64) readout_steps(real* membrane, int n_steps, int n, const real* bias, real beta, real* logits,
                                                    int* peaks, unsigned long long* status) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const size_t b = blockIdx.y;
    real v = 0;
    if (i < n) {
        membrane += b * n_steps * n + i;
        const real shift = bias ? bias[i] : real(0);
        real left = 0, largest = 0, now[AHEAD], next[AHEAD];
        int peak = 0;
        fetch(now, membrane, 0, n_steps, n);
        for (int from = 0; from < n_steps; from += AHEAD) {
            fetch(next, membrane, from + AHEAD, n_steps, n);
#pragma unroll
            for (int a = 0; a < AHEAD; ++a) {
                const int t = from + a;
                if (t >= n_steps) break;
                v = left + now[a] + shift;
                left = beta * v;
                if (t == 0 || v > largest) {
                    largest = v;
                    peak = t;
                }
                membrane[(size_t)t * n] = v;
            }
#pragma unroll
            for (int a = 0; a < AHEAD; ++a) now[a] = next[a];
        }
        logits[b * n + i] = largest;
        peaks[b * n + i] = peak;
    }
    add_status(status + 5 * b, i < n, false, 0, v);
}

// out [B, T, N] = dL/dI: dL/dlogits [B, N] times beta^(peak - t) up to the peak, 0 after it. blocks (ceil(N / 64), B), 64 threads.
template <typename real>
__global__ void __launch_bounds__(64) readout_backward(real* out, int n_steps, int n, const real* __restrict__ errors,
                                                       const int* __restrict__ peaks, real beta) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const size_t b = blockIdx.y;
    if (i >= n) return;
    out += b * n_steps * n + i;
    const int peak = peaks[b * n + i];
    real g = 0;
    for (int t = n_steps - 1; t >= 0; --t) {
        g = t == peak ? errors[b * n + i] : beta * g;
        out[(size_t)t * n] = g;
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// sums [B, N] = errors summed over the steps. blocks (ceil(N / 64), B), 64 threads.
template <typename real>
__global__ void __launch_bounds__(64) sum_steps(const real* errors, int n_steps, int n, real* __restrict__ sums) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const size_t b = blockIdx.y;
    if (i >= n) return;
    errors += b * n_steps * n + i;
    real sum = 0, values[AHEAD];
    for (int from = 0; from < n_steps; from += AHEAD) {
        fetch(values, errors, from, n_steps, n);
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) sum += values[a];
    }
    sums[b * n + i] = sum;
}

// out [N] = scale * sums [B, N] over the samples, in order. blocks ceil(N / 128), 128 threads.
template <typename real>
__global__ void __launch_bounds__(128) sum_samples(const real* __restrict__ sums, int batch, int n, real scale, real* __restrict__ out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    real sum = 0;
    for (int b = 0; b < batch; ++b) sum += sums[(size_t)b * n + i];
    out[i] = sum * scale;
}
