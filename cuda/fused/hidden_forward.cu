// Fused step, first kernel: the hidden layer's spikes from the event lists of the images.
//
// A lane owns a neuron and a warp (sample, 32 neurons); the warps of a block take different samples of the same neurons, so that
// they find each other's weights in the first-level cache. The sums a and b are kept without resets, and the resets in one sum R
// ("fall"): a neuron crosses within an interval only if b - a y_low - R reaches a limit that depends on the interval alone
// (below), which is one comparison per event. Only where that bound is reached the exact test of docs/theory.md, (12), is made.
#include "fused/batch.cuh"
#include "lif/crossing.cuh"
#include "lif/event.cuh"

// One event and the interval after it. u reaches theta at y iff b - R >= a y + c / y; over the interval E ... E_next the right side
// is at most c (E_next - E)^2 / E_next below its value at the end, which makes the limit.
template <typename real>
struct __align__(4 * sizeof(real)) Interval {
    real e;      // factor E of the event
    real y_low;  // 1 / E_next
    real limit;  // infinity where the next event has the same time: no interval, no test
    int row;     // row of the weights
};

template <typename real>
__device__ __forceinline__ Interval<real> make_interval(real e, real e_next, int row, real c) {
    if (e == e_next) return {e, 0, Constants<real>::infinity(), row};
    const real y_low = 1 / e_next, width = e_next - e;
    const real rounding = e_next * real(1e-6);  // the bound must not be sharper than the exact test
    return {e, y_low, c * (e_next - width * width * y_low - rounding), row};
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_hidden / 32), ceil(batch / warps)), up to 16 warps; shared memory: TILE intervals per warp.
template <typename real>
__global__ void __launch_bounds__(512) hidden_forward(
        const Sample* __restrict__ samples,        // in the order of training; the batch starts at *cursor
        const long long* __restrict__ cursor,
        const real* __restrict__ event_factors,    // of all samples' events, E ascending in every sample
        const int* __restrict__ event_rows,
        const real* __restrict__ weights,          // [n_pre, n_hidden]
        int batch, int n_hidden, real c, real reset, real last_factor,  // e^{t_max / tau}
        int n_slots,
        real* __restrict__ factors,                // [batch, n_slots, n_hidden]: q of every spike; slots past the count are not touched
        real* __restrict__ slopes,                 // [batch, n_slots, n_hidden]
        int* __restrict__ counts,                  // [batch, n_hidden]
        Sample* __restrict__ batch_samples,        // [batch]: what the other kernels need to know of the batch
        unsigned long long* status, int n_rows) {  // [n_rows, 4]: spikes, silent, overflowing, non-finite
    constexpr int TILE = 256, UNROLL = 8;
    extern __shared__ double shared_memory[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int s = blockIdx.y * (blockDim.x >> 5) + warp;  // s in [0, batch)
    if (s >= batch) return;
    Interval<real>* events = reinterpret_cast<Interval<real>*>(shared_memory) + warp * TILE;
    const int i = blockIdx.x * 32 + lane;
    const bool valid = i < n_hidden;
    Sample sample = samples[*cursor + s];
    event_factors += sample.first;
    event_rows += sample.first;
    sample.n_events = events_before(event_factors, sample.n_events, last_factor);
    if (blockIdx.x == 0 && lane == 0) batch_samples[s] = sample;
    const int n_events = sample.n_events;

    const size_t base_slot = (size_t)s * n_slots * n_hidden + i;
    const real* my_weights = weights + (valid ? i : 0);
    Walk<real> walk = {0, 0, 0, false};
    real fall = valid ? real(0) : Constants<real>::infinity();  // infinity: never fires again
    for (int first = 0; first < n_events; first += TILE) {
        const int n_tile = min(TILE, n_events - first), n_padded = (n_tile + UNROLL - 1) / UNROLL * UNROLL;
        __syncwarp();
        for (int e = lane; e < n_padded; e += 32) {
            const int event = first + min(e, n_tile - 1);
            const real factor = event_factors[event];
            const real next = event + 1 < n_events ? event_factors[event + 1] : last_factor;
            events[e] = make_interval(factor, next, event_rows[event], c);
            if (e >= n_tile) events[e] = {0, 0, Constants<real>::infinity(), events[e].row};
        }
        __syncwarp();
        real ahead[UNROLL];  // the weights of the next events are on their way while these are added
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) ahead[u] = my_weights[(size_t)events[u].row * n_hidden];
        for (int base = 0; base < n_padded; base += UNROLL) {
            real w[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) w[u] = ahead[u];
            if (base + UNROLL < n_padded) {
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) ahead[u] = my_weights[(size_t)events[base + UNROLL + u].row * n_hidden];
            }
            real a = walk.a, b = walk.b;
            bool near = false;
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                const Interval<real> event = events[base + u];
                const real part = w[u] * event.e;
                b += part;
                a = fma(part, event.e, a);
                near |= fma(-a, event.y_low, b) - fall >= event.limit;
            }
            if (near) {
                a = walk.a;
                b = walk.b;
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) {
                    const Interval<real> event = events[base + u];
                    const real part = w[u] * event.e;
                    b += part;
                    a = fma(part, event.e, a);
                    if (!(fma(-a, event.y_low, b) - fall >= event.limit)) continue;
                    for (real y_high = 1 / event.e; crosses(a, b - fall, c, y_high, event.y_low);) {
                        if (walk.n == n_slots) {
                            walk.overflow = true;
                            fall = Constants<real>::infinity();
                            break;
                        }
                        const Spike<real> spike = first_crossing(a, b - fall, c, y_high, event.y_low);
                        const real q = 1 / spike.y;
                        factors[base_slot + (size_t)walk.n * n_hidden] = q;
                        slopes[base_slot + (size_t)walk.n * n_hidden] = spike.slope;
                        ++walk.n;
                        fall += reset * q;
                        y_high = spike.y;
                        if (n_slots == 1) fall = Constants<real>::infinity();  // time to first spike: nothing overflows
                    }
                }
            }
            walk.a = a;
            walk.b = b;
        }
    }
    if (valid) counts[(size_t)s * n_hidden + i] = walk.n;
    add_status(status + (s % n_rows) * 4, walk, valid);
}
