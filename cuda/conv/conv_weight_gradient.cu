// dL/dw of a convolutional layer, summed over batch and positions: for filter element (fx, fy), input channel ci and channel c,
// the sum over the events of channel ci of E (E Q - P), where P and Q belong to the one post-neuron that sees the event
// through (fx, fy) (docs/theory.md, equation 30).
//
// A block owns (fx, fy), a tile of up to 48 channels c and some input channels. Its warps take the events 32 at a time, in turns
// that depend on the numbers of events only. Half a warp takes one event that some position sees through (fx, fy), three
// channels per lane, and adds to sums of its own; the block adds its half-warps, and add_groups adds the blocks of one filter
// element, in a fixed order: the same bits every time.
#include "common/block.cuh"
#include "common/time_grid.cuh"
#include "conv/geometry.cuh"
#include "conv/later.cuh"

constexpr int LANES = 16, PER_LANE = 3, COLUMNS = LANES * PER_LANE;

// blocks (FX * FY * tiles * parts, outer groups), 32 threads for each inner group.
template <typename real>
__global__ void __launch_bounds__(256) conv_weight_gradient(
        const real* __restrict__ event_times, const real* __restrict__ factors, const int* __restrict__ event_neurons,
        const int* __restrict__ event_counts, int capacity,
        const Later<real>* __restrict__ later,  // [B, n_slots, N]
        Geometry g, int n_slots, int batch,
        int tiles, int width,                   // tiles of up to 48 channels
        int parts, int part,                    // parts of so many input channels
        real tau, real length, real scale,
        real* __restrict__ partial) {           // [outer groups, C_pre * FY * FX, C]; the gradient itself if there is one group
    extern __shared__ double shared_memory[];
    constexpr int AHEAD = 2;  // events whose records are loaded together
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, n_warps = blockDim.x >> 5;
    const int side = lane / LANES, column = lane % LANES;
    const int n_post = g.post_x * g.post_y * g.post_c;
    int unit = blockIdx.x;
    const int first_column = unit % tiles * width;
    unit /= tiles;
    const int first_channel = unit % parts * part;
    unit /= parts;
    const int fx = unit % g.filter_x, fy = unit / g.filter_x;
    const int n_channels = min(part, g.pre_c - first_channel), n_columns = min(width, g.post_c - first_column);
    real* sums = reinterpret_cast<real*>(shared_memory) + (size_t)(2 * warp + side) * part * COLUMNS;  // [input channels, 48]
    for (int place = column; place < n_channels * COLUMNS; place += LANES) sums[place] = 0;  // a lane's own columns

    const int groups = n_warps * gridDim.y, group = blockIdx.y * n_warps + warp;
    int turn = 0;  // (stretches of 32 events in earlier samples) mod groups
    int next_count = batch > 0 ? event_counts[0] : 0;
    for (size_t s = 0; s < batch; ++s) {
        const int n_events = next_count, stretches = (n_events + 31) / 32;
        if (s + 1 < batch) next_count = event_counts[s + 1];
        const Later<real>* records = later + s * n_slots * n_post + first_column + column;
        for (int stretch = (group - turn + groups) % groups; stretch < stretches; stretch += groups) {
            const int e = stretch * 32 + lane;
            real t = 0, event_factor = 0, origin = 0;
            int base = -1, ci = 0;
            if (e < n_events) {
                const Place place = place_of(g, event_neurons[s * capacity + e]);
                t = event_times[s * capacity + e];
                event_factor = factors[s * capacity + e];
                origin = origin_of(t, length);
                ci = place.c - first_channel;
                if (ci >= 0 && ci < n_channels) base = posts_through(g, place, fx, fy);
            }
            for (unsigned rest = __ballot_sync(FULL_WARP, base >= 0); rest;) {
                int source[AHEAD], from[AHEAD];
                Later<real> record[AHEAD][PER_LANE];
#pragma unroll
                for (int u = 0; u < AHEAD; ++u) {
                    const int one = __ffs(rest) - 1;  // -1: no more
                    rest &= rest - 1;
                    const int two = __ffs(rest) - 1;
                    rest &= rest - 1;
                    source[u] = side == 0 ? one : two;
                    from[u] = __shfl_sync(FULL_WARP, base, source[u] & 31);
#pragma unroll
                    for (int v = 0; v < PER_LANE; ++v) {
                        if (source[u] >= 0 && v * LANES + column < n_columns) record[u][v] = records[from[u] + v * LANES];
                    }
                }
#pragma unroll
                for (int u = 0; u < AHEAD; ++u) {
                    const real t_u = __shfl_sync(FULL_WARP, t, source[u] & 31);
                    const real factor_u = __shfl_sync(FULL_WARP, event_factor, source[u] & 31);
                    const real origin_u = __shfl_sync(FULL_WARP, origin, source[u] & 31);
                    real* row = sums + __shfl_sync(FULL_WARP, ci, source[u] & 31) * COLUMNS + column;
                    if (source[u] < 0) continue;
#pragma unroll
                    for (int v = 0; v < PER_LANE; ++v) {
                        if (v * LANES + column >= n_columns) continue;
                        if (!first_later(records + from[u] + v * LANES, n_post, n_slots, t_u, record[u][v])) continue;
                        const real r = relative(factor_u, origin_u, record[u][v], length, tau);
                        row[v * LANES] += r * (r * record[u][v].q - record[u][v].p);
                    }
                }
            }
        }
        turn = (turn + stretches) % groups;
    }
    __syncthreads();
    const real* all_sums = reinterpret_cast<const real*>(shared_memory);
    for (int place = threadIdx.x; place < n_channels * COLUMNS; place += blockDim.x) {
        if (place % COLUMNS >= n_columns) continue;
        real sum = 0;
        for (int half = 0; half < 2 * n_warps; ++half) sum += all_sums[(size_t)half * part * COLUMNS + place];
        const int f = filter_row(g, first_channel + place / COLUMNS, fx, fy);
        const size_t row = (size_t)blockIdx.y * g.pre_c * g.filter_y * g.filter_x + f;
        partial[row * g.post_c + first_column + place % COLUMNS] = sum * scale;
    }
}
