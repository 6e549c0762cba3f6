// Fast forward pass of a convolutional layer, for times before one origin's reach (t_max <= 8 tau); conv_spike_times.cu is the general one,
// conv_forward_chunks.cu the variant for receptive fields of many events.
//
// A warp owns one position of one sample and up to 32 of its channels, a lane each. It takes the sample's events 128
// at a time, keeps those of its receptive field in a queue in shared memory and walks through the queue 32 by 32, with one comparison
// per event and neuron (lif/interval.cuh). What it kept it also writes to a list, from which the backward pass starts. With up to 16
// channels a warp owns two positions.
#include "common/block.cuh"
#include "conv/field_masks.cuh"
#include "conv/records.cuh"
#include "fused/dependent_launch.cuh"
#include "lif/event.cuh"
#include "lif/interval.cuh"

constexpr int FIELD_WARPS = 2;  // of a block: few, so that blocks spread evenly over the device
constexpr int AHEAD = 4;        // groups of 32 events that are looked at together

template <typename real>
struct Queue {
    static constexpr int ROOM = 160;
    real e[ROOM];
    int offset[ROOM];
    Interval<real> intervals[32];
};

// Takes a lane's neuron, in column `column` of the weights, through n intervals (filled up to whole groups).
template <typename real>
__device__ __forceinline__ void walk_intervals(const Interval<real>* intervals, int n, Train<real>& train, const real* weights, unsigned column,
                                               const SpikeWriter<real>& out) {
    constexpr int UNROLL = 8;
    const real* own_weights = weights + column;
    for (int base = 0; base < n; base += UNROLL) {
        real w[UNROLL], a = train.a, b = train.b;
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) w[u] = own_weights[(unsigned)intervals[base + u].offset];
        bool near = false;
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            const Interval<real> interval = intervals[base + u];
            const real part = w[u] * interval.e;
            b += part;
            a = fma(part, interval.e, a);
            near |= fma(-a, interval.y_low, b) - train.fall >= interval.limit;
        }
        for (int from = 0; near && train.fall < Constants<real>::infinity();) {  // the first candidate from there on, then exactly
            int hit = -1;
            real own_a = train.a, own_b = train.b, hit_a = 0, hit_b = 0;
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                const Interval<real> interval = intervals[base + u];
                const real part = w[u] * interval.e;
                own_b += part;
                own_a = fma(part, interval.e, own_a);
                if (u >= from && hit < 0 && fma(-own_a, interval.y_low, own_b) - train.fall >= interval.limit) {
                    hit = u;
                    hit_a = own_a;
                    hit_b = own_b;
                }
            }
            if (hit < 0) break;
            fire_within(out, intervals[base + hit], hit_a, hit_b, train);
            from = hit + 1;
        }
        train.a = a;
        train.b = b;
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// E and the packed place of every event, and who sees it. blocks (ceil(capacity / 256) or fewer, B).
template <typename real>
__global__ void __launch_bounds__(256) event_places(
        const real* __restrict__ event_times, const int* __restrict__ event_neurons, const int* __restrict__ event_counts, int capacity,
        Geometry g, real tau, real* __restrict__ factors, unsigned* __restrict__ places, FieldMasks masks) {
    const size_t s = blockIdx.y;
    const int n_events = event_counts[s];
    for (int e = blockIdx.x * blockDim.x + threadIdx.x; (e & ~31) < n_events; e += gridDim.x * blockDim.x) {
        unsigned place = 0;
        if (e < n_events) {
            place = pack_place(place_of(g, event_neurons[s * capacity + e]));
            factors[s * capacity + e] = bounded_factor(event_times[s * capacity + e], tau);
            places[s * capacity + e] = place;
        }
        if (masks.masks) write_masks(masks, s, e / 32, e < n_events, place);
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks ceil(B * positions * tiles / FIELD_WARPS); a tile is `lanes` <= 32 channels.
template <typename real>
__global__ void __launch_bounds__(32 * FIELD_WARPS, 8) conv_forward(
        const real* factors, const unsigned* places, const int* event_counts, int capacity,
        const real* __restrict__ weights,  // [rows, C]
        Geometry g, int batch, int tiles, int lanes, real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, N], [B, N]
        unsigned long long* status,        // [B, 4]: spikes, silent, overflowing, non-finite
        int keeps_fields, int* __restrict__ fields, int* __restrict__ field_counts, int field_capacity, SpikeList<real> spikes) {
    __shared__ Queue<real> queues[FIELD_WARPS];
    Queue<real>& queue = queues[threadIdx.x >> 5];
    const int lane = threadIdx.x & 31, n_positions = g.post_x * g.post_y, n_post = n_positions * g.post_c;
    const size_t index = (size_t)blockIdx.x * FIELD_WARPS + (threadIdx.x >> 5);  // index in [0, B * positions * tiles)
    start_after_previous();
    if (index >= (size_t)batch * n_positions * tiles) return;
    const size_t unit = index / tiles, s = unit / n_positions;
    const int tile = index % tiles, position = unit % n_positions, px = position / g.post_y, py = position % g.post_y;
    const int channel = tile * lanes + lane;
    const bool valid = lane < lanes && channel < g.post_c;
    factors += s * capacity;
    places += s * capacity;
    const int n_events = events_before(factors, event_counts[s], last_factor);
    const int i = position * g.post_c + (valid ? channel : 0);
    const size_t first_slot = s * n_slots * n_post + i;
    const SpikeWriter<real> out = {tau, c, reset, t_max, n_slots, (size_t)n_post, times + first_slot, slopes + first_slot};
    Train<real> train = {0, 0, valid ? real(0) : Constants<real>::infinity(), 0, false};
    int* field = fields + unit * field_capacity;
    keeps_fields = keeps_fields && tile == 0;

    const unsigned corner = pack_place({px * g.stride_x, py * g.stride_y, 0}), earlier_lanes = (1u << lane) - 1;
    real ahead_e[AHEAD];  // 0: no event
    unsigned ahead_place[AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
        const int event = 32 * u + lane;
        ahead_e[u] = event < n_events ? factors[event] : real(0);
        ahead_place[u] = event < n_events ? places[event] : 0;
    }
    int queued = 0, kept = 0;
    for (int first = 0; first < n_events; first += 32 * AHEAD) {
        const bool last = first + 32 * AHEAD >= n_events;
        real e[AHEAD];
        unsigned place[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            e[u] = ahead_e[u];
            place[u] = ahead_place[u];
            if (last) continue;
            const int event = first + 32 * (AHEAD + u) + lane;
            ahead_e[u] = event < n_events ? factors[event] : real(0);
            ahead_place[u] = event < n_events ? places[event] : 0;
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (first + 32 * u >= n_events) break;
            const Place at = place_in_field(place[u], corner);
            const bool mine = e[u] > 0 && lies_inside(g, at);
            const unsigned inside = __ballot_sync(FULL_WARP, mine);
            const int rank = __popc(inside & earlier_lanes);
            if (mine) {
                queue.e[queued + rank] = e[u];
                queue.offset[queued + rank] = filter_row(g, at.c, at.x, at.y) * g.post_c;
                if (keeps_fields) field[kept + rank] = first + 32 * u + lane;
            }
            queued += __popc(inside);
            kept += __popc(inside);
        }
        __syncwarp();
        int head = 0;
        while (queued - head > 32 || (last && queued > head)) {  // the last of 32 must know the event that follows
            const int n = min(queued - head, 32);
            const int at = head + min(lane, n - 1);
            queue.intervals[lane] = no_interval<real>(queue.offset[at]);
            if (lane < n) {
                queue.intervals[lane] = make_interval(queue.e[at], at + 1 < queued ? queue.e[at + 1] : last_factor, queue.offset[at], c);
            }
            __syncwarp();
            walk_intervals(queue.intervals, n, train, weights, valid ? channel : 0, out);
            __syncwarp();
            head += n;
        }
        // What is left, at most 32, moves to the front of the queue.
        queued -= head;
        const real left_e = lane < queued ? queue.e[head + lane] : real(0);
        const int left_offset = lane < queued ? queue.offset[head + lane] : 0;
        __syncwarp();
        if (lane < queued) {
            queue.e[lane] = left_e;
            queue.offset[lane] = left_offset;
        }
        __syncwarp();
    }
    if (keeps_fields && lane == 0) field_counts[unit] = kept;
    finish_trains(out, train, valid, spikes, s, i * n_slots);
    if (valid) counts[s * n_post + i] = train.n;
    const Walk<real> walk = {train.a, 0, train.n, train.overflow};
    add_status(status + s * 4, walk, valid);
}

// ----------------------------------------------------------------------------------------------------------------------
// The same for up to 16 channels: a warp owns two neighbouring positions, 16 lanes each.
constexpr int HALF = 16;

template <typename real>
struct PairQueue {
    static constexpr int ROOM = 32 * AHEAD + HALF;
    real e[2][ROOM];
    int offset[2][ROOM];
    Interval<real> intervals[2][HALF + 1];  // one more, so that both halves' records lie in different banks
};

// blocks ceil(B * ceil(positions / 2) / FIELD_WARPS).
template <typename real>
__global__ void __launch_bounds__(32 * FIELD_WARPS, 8) conv_forward_pairs(
        const real* factors, const unsigned* places, const int* event_counts, int capacity,
        const real* __restrict__ weights,  // [rows, C]
        Geometry g, int batch, real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, N], [B, N]
        unsigned long long* status,        // [B, 4]: spikes, silent, overflowing, non-finite
        int keeps_fields, int* __restrict__ fields, int* __restrict__ field_counts, int field_capacity, SpikeList<real> spikes) {
    __shared__ PairQueue<real> queues[FIELD_WARPS];
    PairQueue<real>& queue = queues[threadIdx.x >> 5];
    const int lane = threadIdx.x & 31, half = lane / HALF, channel = lane % HALF;
    const int n_positions = g.post_x * g.post_y, n_pairs = (n_positions + 1) / 2, n_post = n_positions * g.post_c;
    const int index = blockIdx.x * FIELD_WARPS + (threadIdx.x >> 5);  // of the pair
    start_after_previous();
    if (index >= batch * n_pairs) return;
    const int s = index / n_pairs, first_position = index % n_pairs * 2, position = first_position + half;
    const bool exists = position < n_positions, valid = exists && channel < g.post_c;
    factors += (size_t)s * capacity;
    places += (size_t)s * capacity;
    const int n_events = events_before(factors, event_counts[s], last_factor);
    const int i = valid ? position * g.post_c + channel : 0;
    const size_t first_slot = (size_t)s * n_slots * n_post + i;
    const SpikeWriter<real> out = {tau, c, reset, t_max, n_slots, (size_t)n_post, times + first_slot, slopes + first_slot};
    Train<real> train = {0, 0, valid ? real(0) : Constants<real>::infinity(), 0, false};
    const size_t field = (size_t)s * n_positions + first_position;

    unsigned corners[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int p = min(first_position + h, n_positions - 1);
        corners[h] = pack_place({p / g.post_y * g.stride_x, p % g.post_y * g.stride_y, 0});
    }
    const unsigned earlier_lanes = (1u << lane) - 1;
    real ahead_e[AHEAD];  // 0: no event
    unsigned ahead_place[AHEAD];
    const auto look_ahead = [&](int first) {
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int event = first + 32 * u + lane;
            ahead_e[u] = event < n_events ? factors[event] : real(0);
            ahead_place[u] = event < n_events ? places[event] : 0;
        }
    };
    look_ahead(0);
    int queued[2] = {0, 0}, kept[2] = {0, 0};
    for (int first = 0; first < n_events; first += 32 * AHEAD) {
        const bool last = first + 32 * AHEAD >= n_events;
        real e[AHEAD];
        unsigned place[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            e[u] = ahead_e[u];
            place[u] = ahead_place[u];
        }
        if (!last) look_ahead(first + 32 * AHEAD);
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (first + 32 * u >= n_events) break;
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const Place at = place_in_field(place[u], corners[h]);
                const bool mine = e[u] > 0 && lies_inside(g, at);
                const unsigned inside = __ballot_sync(FULL_WARP, mine);
                const int rank = __popc(inside & earlier_lanes);
                if (mine) {
                    queue.e[h][queued[h] + rank] = e[u];
                    queue.offset[h][queued[h] + rank] = filter_row(g, at.c, at.x, at.y) * g.post_c;
                    if (keeps_fields && first_position + h < n_positions) {
                        fields[(field + h) * field_capacity + kept[h] + rank] = first + 32 * u + lane;
                    }
                }
                queued[h] += __popc(inside);
                kept[h] += __popc(inside);
            }
        }
        __syncwarp();
        const int waiting = half ? queued[1] : queued[0];
        const real* own_e = queue.e[half];
        const int* own_offset = queue.offset[half];
        int head = 0;
        while (true) {
            const bool takes = waiting - head > HALF || (last && waiting > head);  // the last of 16 must know the event that follows
            const int n = takes ? min(waiting - head, HALF) : 0, most = max(n, __shfl_xor_sync(FULL_WARP, n, HALF));
            if (most == 0) break;
            const int at = head + channel;
            Interval<real> interval = no_interval<real>(0);
            if (channel < n) interval = make_interval(own_e[at], at + 1 < waiting ? own_e[at + 1] : last_factor, own_offset[at], c);
            queue.intervals[half][channel] = interval;
            __syncwarp();
            walk_intervals(queue.intervals[half], most, train, weights, valid ? channel : 0, out);
            __syncwarp();
            head += n;
        }
        // What is left, at most 16 each, moves to the front of the queue.
        const int left = waiting - head;
        const real left_e = channel < left ? own_e[head + channel] : real(0);
        const int left_offset = channel < left ? own_offset[head + channel] : 0;
        __syncwarp();
        if (channel < left) {
            queue.e[half][channel] = left_e;
            queue.offset[half][channel] = left_offset;
        }
        queued[0] = __shfl_sync(FULL_WARP, left, 0);
        queued[1] = __shfl_sync(FULL_WARP, left, HALF);
        __syncwarp();
    }
    if (keeps_fields && exists && channel == 0) field_counts[field + half] = half ? kept[1] : kept[0];
    finish_trains(out, train, valid, spikes, s, i * n_slots);
    if (valid) counts[s * n_post + i] = train.n;
    const Walk<real> walk = {train.a, 0, train.n, train.overflow};
    add_status(status + (size_t)s * 4, walk, valid);
}
