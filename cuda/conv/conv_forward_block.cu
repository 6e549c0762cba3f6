// Forward pass of a convolutional layer whose receptive fields hold many events, for times before one origin's reach (t_max <= 8 tau);
// conv_forward.cu is the variant for few.
//
// A block owns one position of one sample and up to 64 of its channels. Its warps collect the events of the receptive field in
// order, make the sums of a stretch of them each, two channels per lane, and then search spikes, a neuron each (lif/search.cuh).
#include "common/block.cuh"
#include "conv/records.cuh"
#include "lif/event.cuh"
#include "lif/interval.cuh"
#include "lif/search.cuh"

constexpr int WARPS = 4, AHEAD = 4, STEP = 32 * WARPS * AHEAD;  // events looked at together
constexpr int FULL = 512, ROOM = FULL + STEP;                   // events of the field at which they are worked off, and room for them
constexpr int CHANNELS = 64;

// ----------------------------------------------------------------------------------------------------------------------
// blocks (B * positions, tiles of 2 * `lanes` <= 64 channels), 128 threads. Shared memory: 3 (ROOM / 32) + 2 WARPS rows of `pitch`.
template <typename real>
__global__ void __launch_bounds__(32 * WARPS) conv_forward_block(
        const real* __restrict__ factors, const unsigned* __restrict__ places, const int* __restrict__ event_counts, int capacity,
        const real* __restrict__ weights,  // [rows, C]
        Geometry g, int lanes, int pitch, real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, N], [B, N]
        unsigned long long* status,        // [B, 4]: spikes, silent, overflowing, non-finite
        int keeps_fields, int* __restrict__ fields, int* __restrict__ field_counts, int field_capacity) {
    constexpr int UNROLL = 8;
    extern __shared__ double shared_memory[];
    __shared__ Interval<real> intervals[ROOM + 1];
    __shared__ Train<real> trains[CHANNELS];
    __shared__ real state_a[CHANNELS], state_b[CHANNELS];
    __shared__ int found[WARPS];
    __shared__ unsigned candidates[2];  // channels that may spike, by h
    real* a_start = reinterpret_cast<real*>(shared_memory);  // [ROOM / LIST, pitch], column h * lanes + lane
    real* b_start = a_start + ROOM / LIST * pitch;
    real* distance = b_start + ROOM / LIST * pitch;
    real* sum_a = distance + ROOM / LIST * pitch;            // [WARPS, pitch]
    real* sum_b = sum_a + WARPS * pitch;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_positions = g.post_x * g.post_y, n_post = n_positions * g.post_c;
    const size_t unit = blockIdx.x, s = unit / n_positions;
    const int position = unit % n_positions, px = position / g.post_y, py = position % g.post_y;
    const int first_channel = blockIdx.y * 2 * lanes, n_channels = min(2 * lanes, g.post_c - first_channel);
    factors += s * capacity;
    places += s * capacity;
    weights += first_channel;
    int* field = fields + unit * field_capacity;
    keeps_fields = keeps_fields && blockIdx.y == 0;
    const int n_events = events_before(factors, event_counts[s], last_factor);
    const int columns[2] = {min(lane, lanes - 1), min(min(lane, lanes - 1) + lanes, n_channels - 1)};  // idle lanes repeat a column
    const real* own_weights[2] = {weights + columns[0], weights + columns[1]};
    const bool works[2] = {lane < lanes && lane < n_channels, lane < lanes && lane + lanes < n_channels};
    if (threadIdx.x < CHANNELS) {
        trains[threadIdx.x] = {0, 0, 0, 0, false};
        state_a[threadIdx.x] = state_b[threadIdx.x] = 0;
    }

    real ahead_e[AHEAD];
    unsigned ahead_place[AHEAD];
    const auto look_ahead = [&](int first) {
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int event = first + (warp * AHEAD + u) * 32 + lane;
            ahead_e[u] = event < n_events ? factors[event] : real(0);
            ahead_place[u] = event < n_events ? places[event] : 0;
        }
    };
    look_ahead(0);
    int queued = 0, kept = 0;
    for (int first = 0; first < n_events; first += STEP) {
        // Events of the field, behind those that wait.
        int row[AHEAD], mine = 0;
        unsigned inside[AHEAD];
        real e[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int event = first + (warp * AHEAD + u) * 32 + lane;
            e[u] = ahead_e[u];
            row[u] = event < n_events ? row_from(g, ahead_place[u], px, py) : -1;
            inside[u] = __ballot_sync(FULL_WARP, row[u] >= 0);
            mine += __popc(inside[u]);
        }
        if (lane == 0) found[warp] = mine;
        if (threadIdx.x < 2) candidates[threadIdx.x] = 0;
        if (first + STEP < n_events) look_ahead(first + STEP);
        __syncthreads();
        int place = queued, total = 0;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) {
            place += w < warp ? found[w] : 0;
            total += found[w];
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int to = place + __popc(inside[u] & ((1u << lane) - 1));
            if (row[u] >= 0) {
                intervals[to].e = e[u];
                intervals[to].offset = row[u] * g.post_c;
                if (keeps_fields) field[kept - queued + to] = first + (warp * AHEAD + u) * 32 + lane;
            }
            place += __popc(inside[u]);
        }
        queued += total;
        kept += total;
        __syncthreads();
        const bool last = first + STEP >= n_events;
        if (queued == 0 || (queued <= FULL && !last)) continue;

        // Whole lists of them, unless they are the last: the event that follows must be known.
        const int n = last ? queued : (queued - 1) / LIST * LIST, n_lists = (n + LIST - 1) / LIST;
        const real e_end = last ? last_factor : intervals[n].e;
        for (int k = threadIdx.x; k < n_lists * LIST; k += blockDim.x) {
            if (k < n) {
                const Interval<real> made = make_interval(intervals[k].e, k + 1 < n ? intervals[k + 1].e : e_end, 0, c);
                intervals[k].y_low = made.y_low;
                intervals[k].limit = made.limit;
            } else {
                intervals[k] = no_interval<real>(intervals[n - 1].offset);
            }
        }
        __syncthreads();
        const int stretch = (n_lists + WARPS - 1) / WARPS, begin = min(warp * stretch, n_lists), stop = min(begin + stretch, n_lists);
        real a[2] = {0, 0}, b[2] = {0, 0};
        for (int list = begin; list < stop; ++list) {
            real far[2];
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                far[h] = -Constants<real>::infinity();
                if (!works[h]) continue;
                a_start[list * pitch + columns[h]] = a[h];
                b_start[list * pitch + columns[h]] = b[h];
            }
#pragma unroll 1
            for (int base = list * LIST; base < (list + 1) * LIST; base += UNROLL) {
                real w[2][UNROLL];
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) {
                    const unsigned offset = intervals[base + u].offset;
                    w[0][u] = own_weights[0][offset];
                    w[1][u] = own_weights[1][offset];
                }
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) {
                    const Interval<real> interval = intervals[base + u];
#pragma unroll
                    for (int h = 0; h < 2; ++h) {
                        const real part = w[h][u] * interval.e;
                        b[h] += part;
                        a[h] = fma(part, interval.e, a[h]);
                        far[h] = max(far[h], fma(-a[h], interval.y_low, b[h]) - interval.limit);
                    }
                }
            }
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                if (works[h]) distance[list * pitch + columns[h]] = far[h];
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            if (!works[h]) continue;
            sum_a[warp * pitch + columns[h]] = a[h];
            sum_b[warp * pitch + columns[h]] = b[h];
        }
        __syncthreads();
        real before_a[2], before_b[2];  // sums over all stretches before
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            before_a[h] = state_a[columns[h]];
            before_b[h] = state_b[columns[h]];
            for (int w = 0; w < warp; ++w) {
                before_a[h] += sum_a[w * pitch + columns[h]];
                before_b[h] += sum_b[w * pitch + columns[h]];
            }
        }
        bool near[2] = {false, false};
        for (int list = begin; list < stop; ++list) {
            const real y_most = 1 / intervals[list * LIST].e, y_least = 1 / (list + 1 < n_lists ? intervals[(list + 1) * LIST].e : e_end);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const Kept<real> own = {a_start + columns[h], b_start + columns[h], distance + columns[h], pitch};
                if (works[h]) near[h] |= settle(own, list, before_a[h], before_b[h], y_most, y_least) >= trains[columns[h]].fall;
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const unsigned mask = __ballot_sync(FULL_WARP, near[h]);
            if (lane == 0 && mask) atomicOr(&candidates[h], mask);
        }
        __syncthreads();
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            if (warp != WARPS - 1 || !works[h]) continue;
            state_a[columns[h]] = before_a[h] + a[h];
            state_b[columns[h]] = before_b[h] + b[h];
        }
        int turn = 0;
        for (int h = 0; h < 2; ++h) {
            for (unsigned rest = candidates[h]; rest; rest &= rest - 1) {
                if (turn++ % WARPS != warp) continue;
                const int channel = __ffs(rest) - 1 + h * lanes;
                const size_t slot = s * n_slots * n_post + (size_t)position * g.post_c + first_channel + channel;
                const SpikeWriter<real> out = {tau, c, reset, t_max, n_slots, (size_t)n_post, times + slot, slopes + slot};
                const Kept<real> own = {a_start + channel, b_start + channel, distance + channel, pitch};
                Train<real> train = trains[channel];
                search(intervals, n, weights + channel, own, out, train);
                __syncwarp();
                if (lane == 0) trains[channel] = train;
            }
        }
        __syncthreads();
        // What is left, at most 32, moves to the front.
        Interval<real> left;
        if (threadIdx.x < queued - n) left = intervals[n + threadIdx.x];
        __syncthreads();
        if (threadIdx.x < queued - n) intervals[threadIdx.x] = left;
        queued -= n;
    }
    __syncthreads();
    if (keeps_fields && threadIdx.x == 0) field_counts[unit] = kept;
    if (threadIdx.x < CHANNELS) {
        const int channel = threadIdx.x;
        const bool valid = channel < n_channels;
        const size_t i = (size_t)position * g.post_c + first_channel + channel, slot = s * n_slots * n_post + i;
        if (valid) {
            const SpikeWriter<real> out = {tau, c, reset, t_max, n_slots, (size_t)n_post, times + slot, slopes + slot};
            finish_train(out, trains[channel]);
            counts[s * n_post + i] = trains[channel].n;
        }
        const Walk<real> walk = {state_a[channel], 0, trains[channel].n, trains[channel].overflow};
        add_status(status + s * 4, walk, valid);
    }
}
