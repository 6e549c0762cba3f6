// Fused step of several hidden layers: the spikes of any layer, hidden or output, from the events that it receives.
//
// A warp owns a (sample, neuron) and a lane a run of consecutive events: it adds w E^2 and w E over its run, a scan over the lanes
// gives every run its start, and a second walk leaves the sums after each event in shared memory. They know nothing of resets,
// which are kept in one sum R ("fall"), so the neuron can cross within an interval only if b - a y_low - limit >= R, where limit
// depends on the interval alone. The largest left side of every run is kept: the warp jumps from one run that may hold a spike to
// the next, and there, lanes over its events, makes the exact test of docs/theory.md, (12).
//
// The layer's columns of the weights are on their way to shared memory while a block waits for its events, which come from the
// images, from a sorted list, or are the spikes of the layer before, which every block then sorts for itself.
#include "fused/deep.cuh"
#include "fused/deep_events.cuh"

constexpr int MOST_OWN = 16;  // neurons of a block

// The events of a tile; arrays of shared memory.
template <typename real>
struct Tile {
    real* e;       // factor of the event
    real* y_high;  // 1 / factor
    real* y_low;   // 1 / factor of the next one
    real* limit;   // infinity where the next event has the same time: no interval, no test
    unsigned* row;
};

template <typename real>
__device__ __forceinline__ void fill_tile(const Tile<real>& tile, const real* q, const unsigned* rows, unsigned mask, int first, int n_tile,
                                          int n_padded, int n_events, real last_factor, real c) {
    for (int j = threadIdx.x; j < n_padded; j += blockDim.x) {
        real e = 0, y_high = 0, y_low = 0, limit = Constants<real>::infinity();
        unsigned row = 0;
        if (j < n_tile && q[first + j] < last_factor) {  // an event from t_max on changes nothing that is asked for
            e = q[first + j];
            row = rows[first + j] & mask;
            const real next = first + j + 1 < n_events ? min(q[first + j + 1], last_factor) : last_factor;
            y_high = reciprocal(e);
            if (e < next) {
                y_low = reciprocal(next);
                limit = limit_of_interval(e, next, y_low, c);
            }
        }
        tile.e[j] = e;
        tile.y_high[j] = y_high;
        tile.y_low[j] = y_low;
        tile.limit[j] = limit;
        tile.row[j] = row;
    }
}

// Columns of the weights to shared memory, each `pitch` long; the first n_own threads of every MOST_OWN own one.
template <typename real>
__device__ __forceinline__ void load_columns(real* columns, int pitch, const real* weights, int n_pre, int n_post, int first, int n_own) {
    constexpr int WIDTH = Vector<real>::WIDTH, PARTS = MOST_OWN / WIDTH, AHEAD = 7;
    const int t = threadIdx.x, n_columns = min(n_own, n_post - first);
    if (n_columns == MOST_OWN && n_post % WIDTH == 0) {
        const int part = t % PARTS * WIDTH, step = blockDim.x / PARTS;
        for (int base = t / PARTS; base < n_pre; base += AHEAD * step) {
            Vector<real> loaded[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                const size_t row = min(base + u * step, n_pre - 1);
                loaded[u] = *reinterpret_cast<const Vector<real>*>(&weights[row * n_post + first + part]);
            }
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                const int row = base + u * step;
#pragma unroll
                for (int k = 0; k < WIDTH; ++k) {
                    if (row < n_pre) columns[(part + k) * pitch + row] = loaded[u].value[k];
                }
            }
        }
        return;
    }
    if (t % MOST_OWN >= n_columns) return;
    for (int row = t / MOST_OWN; row < n_pre; row += blockDim.x / MOST_OWN) {
        copy_number(&columns[t % MOST_OWN * pitch + row], &weights[(size_t)row * n_post + first + t % MOST_OWN]);
    }
}

// Where a neuron stands between two tiles.
template <typename real>
struct Neuron {
    real a, b, fall;
    int n;
    bool overflow, done;
};

// One neuron through the events of a tile, a run of `run` per lane; a warp. sums_a, sums_b: room for 32 * run.
template <typename real>
__device__ __forceinline__ void take_tile(Neuron<real>& neuron, const Tile<real>& tile, int run, const real* column, int stride, real* sums_a,
                                          real* sums_b, real c, real reset, int n_slots, real* factors, real* slopes, int n_post) {
    const int lane = threadIdx.x & 31, begin = lane * run;
    real a = 0, b = 0;
#pragma unroll 5
    for (int j = begin; j < begin + run; ++j) {
        const real e = tile.e[j], part = e > 0 ? column[(size_t)tile.row[j] * stride] * e : real(0);  // 0: padding
        sums_b[j] = part;
        b += part;
        a = fma(part, e, a);
    }
    const real total_a = warp_inclusive_sum(a), total_b = warp_inclusive_sum(b);
    a = __shfl_up_sync(FULL_WARP, total_a, 1);
    b = __shfl_up_sync(FULL_WARP, total_b, 1);
    a = neuron.a + (lane ? a : real(0));
    b = neuron.b + (lane ? b : real(0));
    neuron.a += __shfl_sync(FULL_WARP, total_a, 31);
    neuron.b += __shfl_sync(FULL_WARP, total_b, 31);
    if (neuron.done) return;
    real best = -Constants<real>::infinity();
#pragma unroll 5
    for (int j = begin; j < begin + run; ++j) {
        const real e = tile.e[j], part = sums_b[j];
        b += part;
        a = fma(part, e, a);
        sums_b[j] = b;
        sums_a[j] = a;
        best = max(best, fma(-a, tile.y_low[j], b) - tile.limit[j]);
    }
    __syncwarp();
    int from = 0;  // the first run that is still to be searched
    while (!neuron.done) {
        const unsigned runs = __ballot_sync(FULL_WARP, lane >= from && best >= neuron.fall);
        if (runs == 0) break;
        const int hit_run = __ffs(runs) - 1, j = hit_run * run + min(lane, run - 1);
        from = hit_run + 1;
        a = sums_a[j];
        b = sums_b[j];
        const real y_low = tile.y_low[j], bound = fma(-a, y_low, b) - tile.limit[j];
        const real inverse_two_a = reciprocal(a + a);
        real y_high = tile.y_high[j];
        unsigned pending = (2u << (run - 1)) - 1;  // events whose following interval is still to be searched
        while (true) {
            // The spike of every lane beside the test: the root need not wait for the vote.
            const FastSpike<real> spike = fast_first_crossing(a, b - neuron.fall, c, inverse_two_a, y_high, y_low);
            const bool here = (pending >> lane & 1) && bound >= neuron.fall && crosses(a, b - neuron.fall, c, y_high, y_low);
            const unsigned hits = __ballot_sync(FULL_WARP, here);
            if (hits == 0) break;
            if (neuron.n == n_slots) {
                neuron.overflow = neuron.done = true;
                break;
            }
            const int hit = __ffs(hits) - 1;
            pending &= ~((1u << hit) - 1);
            if (lane == hit) {
                factors[(size_t)neuron.n * n_post] = spike.q;
                slopes[(size_t)neuron.n * n_post] = spike.slope;
                y_high = spike.y;  // the rest of this interval begins at the spike
            }
            neuron.fall += reset * __shfl_sync(FULL_WARP, spike.q, hit);
            ++neuron.n;
            if (n_slots == 1) {  // time to first spike: nothing overflows
                neuron.done = true;
                break;
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_post / n_own), up to batch), up to 512 threads, of which the first n_own warps own a neuron each and all help with
// the events; a block goes through samples blockIdx.y, + gridDim.y, ... Shared memory as bats/fused/deep_layout.py counts it.
template <typename real>
__global__ void __launch_bounds__(512) deep_forward(
        int kind,
        const Sample* __restrict__ samples, const long long* __restrict__ cursor,            // EVENTS: in the order of training
        const real* __restrict__ event_factors, const unsigned* __restrict__ event_rows,     // of all samples' events
        Sample* __restrict__ batch_samples,                                                  // [batch]: for the kernels that follow
        const real* __restrict__ pre_factors, const int* __restrict__ pre_counts, int n_pre_slots,  // SPIKES: [batch, n_pre_slots, n_pre]
        real* list_q, unsigned* list_places, int* list_counts, int list_capacity,            // [batch, n_pre_slots * n_pre]; LIST: given
        const real* __restrict__ weights,                                                    // [n_pre, n_post]
        int batch, int n_pre, int n_post, int n_slots, real c, real reset, real last_factor,  // e^{t_max / tau}
        int n_own, int longest_run, int scratch,  // values that sums and sort need
        int pitch,  // of a column in shared memory, 0: it stays in global memory
        real* __restrict__ factors, real* __restrict__ slopes, int* __restrict__ counts,  // [batch, n_slots, n_post], [batch, n_post]
        unsigned long long* status, int n_rows,  // [n_rows, 4]: spikes, silent, overflowing, non-finite
        int after_weights) {  // EVENTS: the kernel before is deep_weights and may not have ended: the events come before the weights
    extern __shared__ double shared_memory[];
    __shared__ int found[4];
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, room = 32 * longest_run;
    const int i = blockIdx.x * n_own + warp;
    const bool owner = warp < n_own && i < n_post;
    real *sums_a = reinterpret_cast<real*>(shared_memory), *sums_b = sums_a + n_own * room;
    real* columns = sums_a + scratch;
    Tile<real> tile;
    tile.e = columns + n_own * pitch, tile.y_high = tile.e + room, tile.y_low = tile.y_high + room, tile.limit = tile.y_low + room;
    SpikeList<real> list;
    list.other_q = tile.limit + room;
    tile.row = reinterpret_cast<unsigned*>(list.other_q + list_capacity);
    list.other_place = tile.row + room;
    // What only the sort needs lies where the sums come later.
    int* buckets = reinterpret_cast<int*>(shared_memory);
    list.q = reinterpret_cast<real*>(buckets + BUCKETS * blockDim.x);
    list.place = reinterpret_cast<unsigned*>(list.q + list_capacity);

    Sample sample = {0, 0, 0};
    if (kind == EVENTS) sample = samples[*cursor + blockIdx.y];  // on its way together with the weights
    bool early = after_weights;
    if (pitch && !early) load_columns(columns, pitch, weights, n_pre, n_post, blockIdx.x * n_own, n_own);
    if (!early) start_after_previous();
    const auto previous_ends = [&] {
        if (!early) return;
        start_after_previous();
        if (pitch) load_columns(columns, pitch, weights, n_pre, n_post, blockIdx.x * n_own, n_own);
        early = false;
    };
    for (int s = blockIdx.y; s < batch; s += gridDim.y) {
        const size_t worst = (size_t)n_pre_slots * n_pre;
        const real* q;
        const unsigned* rows;
        int n_events;
        if (kind == EVENTS) {
            if (s != blockIdx.y) sample = samples[*cursor + s];
            q = event_factors + sample.first;
            rows = event_rows + sample.first;
            n_events = sample.n_events;
        } else if (kind == SPIKES) {
            n_events = sort_spikes(list, pre_factors + s * worst, pre_counts + (size_t)s * n_pre, n_pre, n_pre_slots, buckets, last_factor);
            q = list.other_q;
            rows = list.other_place;
            if (blockIdx.x == 0) {
                for (int j = t; j < n_events; j += blockDim.x) {
                    list_q[s * worst + j] = q[j];
                    list_places[s * worst + j] = rows[j];
                }
                if (t == 0) list_counts[s] = n_events;
            }
        } else {
            q = list_q + s * worst;
            rows = list_places + s * worst;
            n_events = list_counts[s];
        }
        const unsigned mask = kind == EVENTS ? 0xffffffffu : 0xffffu;

        if (t < 4) found[t] = 0;
        Neuron<real> neuron = {0, 0, 0, 0, false, false};
        const size_t base_slot = (size_t)s * n_slots * n_post + i;
        for (int first = 0; first < n_events; first += room) {
            const int n_tile = min(room, n_events - first), run = ((n_tile + 31) >> 5) | 1;
            fill_tile(tile, q, rows, mask, first, n_tile, 32 * run, n_events, last_factor, c);
            previous_ends();
            wait_for_copies();
            __syncthreads();
            if (owner) {
                take_tile(neuron, tile, run, pitch ? columns + warp * pitch : weights + i, pitch ? 1 : n_post, sums_a + warp * room,
                          sums_b + warp * room, c, reset, n_slots, factors + base_slot, slopes + base_slot, n_post);
            }
            __syncthreads();
        }
        previous_ends();
        if (kind == EVENTS && blockIdx.x == 0 && t == 0) {
            sample.n_events = events_before(q, n_events, last_factor);
            batch_samples[s] = sample;
        }
        if (n_events == 0) {
            wait_for_copies();
            __syncthreads();
        }
        if (owner && lane == 0) {
            counts[(size_t)s * n_post + i] = neuron.n;
            if (neuron.n) atomicAdd(&found[0], neuron.n);
            else atomicAdd(&found[1], 1);
            if (neuron.overflow) atomicAdd(&found[2], 1);
            if (!isfinite(neuron.a)) atomicAdd(&found[3], 1);
        }
        __syncthreads();
        if (t < 4 && found[t]) atomicAdd(&status[(s % n_rows) * 4 + t], (unsigned long long)found[t]);
    }
}
