// dL/dt of the spikes that a convolutional layer received: 1/tau sum over the post-neurons i whose receptive field they are in
// of w_i E (2 E Q_i - P_i) (docs/theory.md, equation 30). Sixteen lanes per spike: they go through the positions that see it
// and, side by side, through the channels. A spike that no position sees gets 0. A dense layer is the case of one position.
#include "common/block.cuh"
#include "common/time_grid.cuh"
#include "conv/geometry.cuh"
#include "conv/later.cuh"

// blocks (any, B), 256 threads.
template <typename real>
__global__ void __launch_bounds__(256) conv_presynaptic_errors(
        const real* __restrict__ event_times, const real* __restrict__ factors, const int* __restrict__ event_neurons,
        const int* __restrict__ event_positions, const int* __restrict__ event_counts, int capacity,
        const real* __restrict__ weights,        // [C_pre * FY * FX, C]
        const Later<real>* __restrict__ later,   // [B, n_slots, N]
        Geometry g, int n_slots, int train_size, real tau, real length,
        real* __restrict__ errors) {             // [B, train_size], written at the events' positions
    constexpr int LANES = 16, AHEAD = 3;  // records loaded together
    const int n_post = g.post_x * g.post_y * g.post_c;
    const int lane = threadIdx.x % LANES, n_groups = gridDim.x * blockDim.x / LANES;
    const size_t s = blockIdx.y;  // s in [0, B)
    const int n_events = event_counts[s];
    later += s * n_slots * n_post;
    const int group = (blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    for (int first = 0; first < n_events; first += n_groups) {  // the same number of turns for both groups of a warp
        const int e = first + group;
        real sum = 0;
        if (e < n_events) {
            const real t = event_times[s * capacity + e], event_factor = factors[s * capacity + e];
            const real origin = origin_of(t, length);
            const Place place = place_of(g, event_neurons[s * capacity + e]);
            const Positions along_x = positions_seeing(place.x, g.filter_x, g.stride_x, g.post_x);
            const Positions along_y = positions_seeing(place.y, g.filter_y, g.stride_y, g.post_y);
            for (int px = along_x.first; px <= along_x.last; ++px) {
                for (int py = along_y.first; py <= along_y.last; ++py) {
                    const Later<real>* records = later + (px * g.post_y + py) * g.post_c;
                    const int f = filter_row(g, place.c, place.x - px * g.stride_x, place.y - py * g.stride_y);
                    const real* row = weights + (size_t)f * g.post_c;
                    for (int first_c = lane; first_c < g.post_c; first_c += AHEAD * LANES) {
                        Later<real> found[AHEAD];
                        real w[AHEAD];
#pragma unroll
                        for (int u = 0; u < AHEAD; ++u) {
                            const int c = min(first_c + u * LANES, g.post_c - 1);
                            found[u] = records[c];
                            w[u] = row[c];
                        }
#pragma unroll
                        for (int u = 0; u < AHEAD; ++u) {
                            const int c = first_c + u * LANES;
                            if (c >= g.post_c || !first_later(records + c, n_post, n_slots, t, found[u])) continue;
                            const real r = relative(event_factor, origin, found[u], length, tau);
                            sum += w[u] * (r * (2 * r * found[u].q - found[u].p));
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int distance = LANES / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
        if (lane == 0 && e < n_events) errors[s * train_size + event_positions[s * capacity + e]] = sum / tau;
    }
}
