// Fast forward pass of a convolutional layer, for times before one origin's reach (t_max <= 8 tau); conv_spike_times.cu is the general one.
//
// A warp owns one position of one sample and up to 32 or 64 of its channels, one or two per lane. It takes the sample's events 128
// at a time, keeps those of its receptive field in a queue in shared memory and walks through the queue 32 by 32, with one comparison
// per event and neuron (lif/interval.cuh). What it kept it also writes to a list, from which the backward pass starts.
#include "common/block.cuh"
#include "conv/records.cuh"
#include "lif/event.cuh"
#include "lif/interval.cuh"

constexpr int FIELD_WARPS = 2;  // of a block: few, so that blocks spread evenly over the device

template <typename real>
struct Queue {
    static constexpr int ROOM = 160;
    real e[ROOM];
    int offset[ROOM];
    Interval<real> intervals[32];
};

// The neurons of a lane.
template <typename real, int CHANNELS>
struct Lane {
    real a[CHANNELS], b[CHANNELS], fall[CHANNELS];
    const real* weights[CHANNELS];
    int n[CHANNELS];
    bool overflow[CHANNELS];
};

template <int CHANNELS, int UNROLL, typename real>
__device__ __forceinline__ void load_group(const Interval<real>* intervals, const Lane<real, CHANNELS>& neurons, real (&w)[CHANNELS][UNROLL]) {
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
        const int offset = intervals[u].offset;
#pragma unroll
        for (int h = 0; h < CHANNELS; ++h) w[h][u] = neurons.weights[h][offset];
    }
}

// Takes a lane's neurons through n intervals (filled up to whole groups).
template <int CHANNELS, typename real>
__device__ __forceinline__ void walk_intervals(const Interval<real>* intervals, int n, Lane<real, CHANNELS>& neurons,
                                               const SpikeWriter<real>& out, int lanes) {
    constexpr int UNROLL = 8;
    real next[CHANNELS][UNROLL];
    load_group<CHANNELS, UNROLL>(intervals, neurons, next);
    for (int base = 0; base < n; base += UNROLL) {
        real w[CHANNELS][UNROLL];
#pragma unroll
        for (int h = 0; h < CHANNELS; ++h) {
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) w[h][u] = next[h][u];
        }
        if (base + UNROLL < n) load_group<CHANNELS, UNROLL>(intervals + base + UNROLL, neurons, next);
        real a[CHANNELS], b[CHANNELS];
        bool near[CHANNELS];
#pragma unroll
        for (int h = 0; h < CHANNELS; ++h) {
            a[h] = neurons.a[h];
            b[h] = neurons.b[h];
            near[h] = false;
        }
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            const Interval<real> interval = intervals[base + u];
#pragma unroll
            for (int h = 0; h < CHANNELS; ++h) {
                const real part = w[h][u] * interval.e;
                b[h] += part;
                a[h] = fma(part, interval.e, a[h]);
                near[h] |= fma(-a[h], interval.y_low, b[h]) - neurons.fall[h] >= interval.limit;
            }
        }
#pragma unroll
        for (int h = 0; h < CHANNELS; ++h) {
            if (near[h]) {  // which events are candidates, then these one by one
                unsigned candidates = 0;
                real exact_a = neurons.a[h], exact_b = neurons.b[h];
#pragma unroll
                for (int u = 0; u < UNROLL; ++u) {
                    const Interval<real> interval = intervals[base + u];
                    const real part = w[h][u] * interval.e;
                    exact_b += part;
                    exact_a = fma(part, interval.e, exact_a);
                    if (fma(-exact_a, interval.y_low, exact_b) - neurons.fall[h] >= interval.limit) candidates |= 1u << u;
                }
#pragma unroll 1
                for (; candidates; candidates &= candidates - 1) {
                    const int hit = __ffs(candidates) - 1;
                    exact_a = neurons.a[h];
                    exact_b = neurons.b[h];
#pragma unroll
                    for (int u = 0; u < UNROLL; ++u) {
                        const real e = intervals[base + u].e, part = w[h][u] * e;
                        if (u > hit) break;
                        exact_b += part;
                        exact_a = fma(part, e, exact_a);
                    }
                    fire_within(out, intervals[base + hit], exact_a, exact_b, neurons.fall[h], neurons.n[h], neurons.overflow[h],
                                out.times + h * lanes, out.slopes + h * lanes);
                }
            }
            neurons.a[h] = a[h];
            neurons.b[h] = b[h];
        }
    }
}

template <int CHANNELS, typename real>
__device__ __forceinline__ void forward_field(
        const real* factors, const unsigned* places, const int* event_counts, int capacity, const real* weights, const Geometry& g,
        int batch, int tiles, int lanes, real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* times, int* counts, real* slopes, unsigned long long* status, int keeps_fields, int* fields, int* field_counts,
        int field_capacity) {
    constexpr int AHEAD = 4;
    __shared__ Queue<real> queues[FIELD_WARPS];
    Queue<real>& queue = queues[threadIdx.x >> 5];
    const int lane = threadIdx.x & 31, n_positions = g.post_x * g.post_y, n_post = n_positions * g.post_c;
    const size_t index = (size_t)blockIdx.x * FIELD_WARPS + (threadIdx.x >> 5);  // index in [0, B * positions * tiles)
    if (index >= (size_t)batch * n_positions * tiles) return;
    const size_t unit = index / tiles, s = unit / n_positions;
    const int tile = index % tiles, position = unit % n_positions, px = position / g.post_y, py = position % g.post_y;
    const int first_channel = tile * lanes * CHANNELS + lane;
    factors += s * capacity;
    places += s * capacity;
    const int n_events = events_before(factors, event_counts[s], last_factor);

    Lane<real, CHANNELS> neurons;
    bool valid[CHANNELS];
    const int i = position * g.post_c + first_channel;
#pragma unroll
    for (int h = 0; h < CHANNELS; ++h) {
        valid[h] = lane < lanes && first_channel + h * lanes < g.post_c;
        neurons.a[h] = neurons.b[h] = 0;
        neurons.fall[h] = valid[h] ? real(0) : Constants<real>::infinity();
        neurons.weights[h] = weights + (valid[h] ? first_channel + h * lanes : 0);
        neurons.n[h] = 0;
        neurons.overflow[h] = false;
    }
    const SpikeWriter<real> out = {tau, c, reset, t_max, n_slots, (size_t)n_post, times + s * n_slots * n_post + i, slopes + s * n_slots * n_post + i};
    int* field = fields + unit * field_capacity;
    keeps_fields = keeps_fields && tile == 0;

    real ahead_e[AHEAD];
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
            const int event = first + 32 * (AHEAD + u) + lane;
            if (event < n_events) {
                ahead_e[u] = factors[event];
                ahead_place[u] = places[event];
            }
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int event = first + 32 * u + lane;
            const int row = event < n_events ? row_from(g, place[u], px, py) : -1;
            const unsigned inside = __ballot_sync(FULL_WARP, row >= 0);
            const int rank = __popc(inside & ((1u << lane) - 1));
            if (row >= 0) {
                queue.e[queued + rank] = e[u];
                queue.offset[queued + rank] = row * g.post_c;
                if (keeps_fields) field[kept + rank] = event;
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
            walk_intervals<CHANNELS>(queue.intervals, n, neurons, out, lanes);
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
#pragma unroll
    for (int h = 0; h < CHANNELS; ++h) {
        if (valid[h]) {
            for (int k = neurons.n[h]; k < n_slots; ++k) out.times[h * lanes + k * out.stride] = Constants<real>::infinity();
            counts[s * n_post + i + h * lanes] = neurons.n[h];
        }
        const Walk<real> walk = {neurons.a[h], 0, neurons.n[h], neurons.overflow[h]};
        add_status(status + s * 4, walk, valid[h]);
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// E and the packed place of every event. blocks (ceil(capacity / 256) or fewer, B).
template <typename real>
__global__ void __launch_bounds__(256) event_places(
        const real* __restrict__ event_times, const int* __restrict__ event_neurons, const int* __restrict__ event_counts, int capacity,
        Geometry g, real tau, real* __restrict__ factors, unsigned* __restrict__ places) {
    const size_t s = blockIdx.y;
    const int n_events = event_counts[s];
    for (int e = blockIdx.x * blockDim.x + threadIdx.x; e < n_events; e += gridDim.x * blockDim.x) {
        factors[s * capacity + e] = bounded_factor(event_times[s * capacity + e], tau);
        places[s * capacity + e] = pack_place(place_of(g, event_neurons[s * capacity + e]));
    }
}

// blocks ceil(B * positions * tiles / FIELD_WARPS); a tile is `lanes` channels, or twice as many.
template <typename real>
__global__ void __launch_bounds__(32 * FIELD_WARPS) conv_forward_single(
        const real* __restrict__ factors, const unsigned* __restrict__ places, const int* __restrict__ event_counts, int capacity,
        const real* __restrict__ weights, Geometry g, int batch, int tiles, int lanes, real tau, real c, real reset, real t_max,
        real last_factor, int n_slots, real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,
        unsigned long long* status, int keeps_fields, int* __restrict__ fields, int* __restrict__ field_counts, int field_capacity) {
    forward_field<1>(factors, places, event_counts, capacity, weights, g, batch, tiles, lanes, tau, c, reset, t_max, last_factor, n_slots,
                     times, counts, slopes, status, keeps_fields, fields, field_counts, field_capacity);
}

template <typename real>
__global__ void __launch_bounds__(32 * FIELD_WARPS) conv_forward_double(
        const real* __restrict__ factors, const unsigned* __restrict__ places, const int* __restrict__ event_counts, int capacity,
        const real* __restrict__ weights, Geometry g, int batch, int tiles, int lanes, real tau, real c, real reset, real t_max,
        real last_factor, int n_slots, real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,
        unsigned long long* status, int keeps_fields, int* __restrict__ fields, int* __restrict__ field_counts, int field_capacity) {
    forward_field<2>(factors, places, event_counts, capacity, weights, g, batch, tiles, lanes, tau, c, reset, t_max, last_factor, n_slots,
                     times, counts, slopes, status, keeps_fields, fields, field_counts, field_capacity);
}
