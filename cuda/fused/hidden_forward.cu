// Fused step, first kernel: the hidden layer's spikes from the event lists of the images.
//
// A lane owns a neuron and a warp (sample, 32 neurons); the warps of a block take different samples of the same neurons, so that
// they find each other's weights in the first-level cache. The sums a and b are kept without resets, and the resets in one sum R
// ("fall"): eight events are added in a row, and one comparison per event (crossing_limit) says whether a spike is possible after
// it. Only there is the exact test made, each lane at its own next such event. Spikes are appended to the list of the warp as they come.
#include "common/block.cuh"
#include "fused/batch.cuh"
#include "fused/dependent_launch.cuh"

// One event and the interval after it.
template <typename real>
struct __align__(4 * sizeof(real)) Interval {
    real e;      // factor E of the event
    real y_low;  // 1 / E_next
    real limit;  // infinity where the next event has the same time: no interval, no test
    unsigned offset;  // of the weights' row, in bytes
};

template <typename real>
__device__ __forceinline__ Interval<real> make_interval(real e, real e_next, unsigned offset, real c) {
    const real y_low = reciprocal(e_next);
    return {e, y_low, e == e_next ? Constants<real>::infinity() : crossing_limit(e, e_next, y_low, c), offset};
}

// What a neuron has gone through, and the list of its warp.
template <typename real>
struct Neurons {
    real a, b, fall;
    int count, listed;  // spikes of this neuron, of the warp
    bool overflow;
    real first, last;   // least and greatest factor of a spike of this neuron
};

template <typename real>
struct SpikeStore {
    real* q;             // of the warp's list
    unsigned* place;
    real* slopes;        // of this neuron, slot by slot
    int n_hidden, n_slots, i;
};

constexpr int UNROLL = 8, AHEAD = 3;  // events at a time; groups of events whose weights are held or on their way

// mine: of the neuron in a row, in bytes. 32 bits for the offsets: 64 would double what a load costs.
template <typename real>
__device__ __forceinline__ void load_weights(real* w, const Interval<real>* events, const real* weights, unsigned mine) {
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) w[u] = *reinterpret_cast<const real*>(reinterpret_cast<const char*>(weights) + (events[u].offset + mine));
}

// Bit u: the neuron may fire after event u.
template <typename real>
__device__ __forceinline__ unsigned possible(const real* bound, real fall) {
    unsigned bits = 0;
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) bits |= bound[u] >= fall ? 1u << u : 0u;
    return bits;
}

// UNROLL events with their weights ahead[0]; those of the events AHEAD groups later are asked for before spikes are looked for: every lane
// goes through the events after which its own neuron may fire.
template <typename real>
__device__ __forceinline__ void add_events(Neurons<real>& neurons, const Interval<real>* events, real (&ahead)[AHEAD][UNROLL], bool more,
                                           const real* weights, unsigned mine, real c, real reset, const SpikeStore<real>& store) {
    real a[UNROLL], b[UNROLL], bound[UNROLL], highest = -Constants<real>::infinity();
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
        const Interval<real> event = events[u];
        const real part = ahead[0][u] * event.e;
        b[u] = (u ? b[u - 1] : neurons.b) + part;
        a[u] = fma(part, event.e, u ? a[u - 1] : neurons.a);
        bound[u] = fma(-a[u], event.y_low, b[u]) - event.limit;
        highest = max(highest, bound[u]);
    }
#pragma unroll
    for (int g = 0; g < AHEAD - 1; ++g) {
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) ahead[g][u] = ahead[g + 1][u];
    }
    if (more) load_weights(ahead[AHEAD - 1], events + AHEAD * UNROLL, weights, mine);
    neurons.a = a[UNROLL - 1];
    neurons.b = b[UNROLL - 1];
    if (!__any_sync(FULL_WARP, highest >= neurons.fall)) return;
    unsigned pending = possible(bound, neurons.fall);
    real y_from = 0;  // where the rest of the interval begins, if the neuron has fired in it
    while (__any_sync(FULL_WARP, pending)) {
        const int u = pending ? __ffs(pending) - 1 : 0;
        real a_now = a[0], b_now = b[0];
#pragma unroll
        for (int other = 1; other < UNROLL; ++other) {
            a_now = u == other ? a[other] : a_now;
            b_now = u == other ? b[other] : b_now;
        }
        const real y_high = y_from > 0 ? y_from : reciprocal(events[u].e);
        const Crossing<real> found = crossing(a_now, b_now - neurons.fall, c, reciprocal(a_now + a_now), y_high, events[u].y_low);
        bool fires = pending && found.crosses;
        if (fires && neurons.count == store.n_slots) {
            neurons.overflow = true;
            neurons.fall = Constants<real>::infinity();
            fires = false;
        }
        const unsigned firing = __ballot_sync(FULL_WARP, fires);
        if (fires) {
            const real q = reciprocal(found.y);
            const int to = neurons.listed + __popc(firing & ((1u << (threadIdx.x & 31)) - 1));
            store.q[to] = q;
            store.place[to] = (unsigned)neurons.count << 16 | (unsigned)store.i;
            store.slopes[(size_t)neurons.count * store.n_hidden] = found.x * found.y;
            if (neurons.count == 0) neurons.first = q;
            neurons.last = q;
            ++neurons.count;
            neurons.fall = store.n_slots == 1 ? Constants<real>::infinity() : fma(reset, q, neurons.fall);  // one slot: nothing overflows
        }
        neurons.listed += __popc(firing);
        // Earlier events are done with; this one is if the neuron has not fired, or cannot once more.
        const unsigned rest = possible(bound, neurons.fall) & (fires ? ~0u << u : ~1u << u);
        y_from = fires && (rest >> u & 1) ? found.y : real(0);
        pending = pending ? rest : 0u;
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_hidden / 32), ceil(batch / warps)), up to 16 warps; shared memory: TILE intervals per warp.
template <typename real>
__global__ void __launch_bounds__(512) hidden_forward(
        const Sample* __restrict__ samples,        // in the order of training; the batch starts at *cursor
        const long long* cursor,
        const real* __restrict__ event_factors,    // of all samples' events, E ascending in every sample, below last_factor
        EventRows event_rows,
        const real* weights,                       // [n_pre, n_hidden]
        int batch, int n_hidden, real c, real reset, real last_factor,  // e^{t_max / tau}
        int n_slots,
        real* __restrict__ list_q, unsigned* __restrict__ list_place,  // [batch, n_groups, 32 n_slots]: q, slot << 16 | neuron
        int* __restrict__ list_counts,             // [batch, n_groups]
        real* __restrict__ extremes,               // [batch, n_groups, 2]: least and greatest q
        real* __restrict__ slopes,                 // [batch, n_slots, n_hidden]; slots past the count are not touched
        int* __restrict__ counts,                  // [batch, n_hidden]
        Sample* __restrict__ batch_samples,        // [batch]: what the other kernels need to know of the batch
        unsigned long long* status, int n_rows) {  // [n_rows, 4]: spikes, silent, overflowing, non-finite
    constexpr int TILE = 256;
    extern __shared__ __align__(16) double shared_memory[];
    start_after_previous();
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int s = blockIdx.y * (blockDim.x >> 5) + warp;  // s in [0, batch)
    if (s >= batch) return;
    Interval<real>* events = reinterpret_cast<Interval<real>*>(shared_memory) + warp * TILE;
    const int i = blockIdx.x * 32 + lane;
    const bool valid = i < n_hidden;
    const Sample sample = samples[*cursor + s];
    event_factors += sample.first;

    const size_t group = (size_t)s * gridDim.x + blockIdx.x, list = group * 32 * n_slots;
    const SpikeStore<real> store = {list_q + list, list_place + list, slopes + (size_t)s * n_slots * n_hidden + i, n_hidden, n_slots, i};
    const unsigned mine = (valid ? i : 0) * sizeof(real), row_bytes = n_hidden * sizeof(real);
    Neurons<real> neurons = {0, 0, valid ? real(0) : Constants<real>::infinity(), 0, 0, false, Constants<real>::infinity(), 0};
    for (int first = 0; first < sample.n_events; first += TILE) {
        const int n_tile = min(TILE, sample.n_events - first), n_padded = (n_tile + UNROLL - 1) / UNROLL * UNROLL;
        __syncwarp();
#pragma unroll 4
        for (int e = lane; e < n_padded; e += 32) {
            const int event = first + min(e, n_tile - 1);
            const real factor = event_factors[event];
            const real next = event + 1 < sample.n_events ? event_factors[event + 1] : last_factor;
            const Interval<real> interval = make_interval(factor, next, event_rows.at(sample.first + event) * row_bytes, c);
            events[e] = e < n_tile ? interval : Interval<real>{0, 0, Constants<real>::infinity(), interval.offset};
        }
        __syncwarp();
        real ahead[AHEAD][UNROLL];
#pragma unroll
        for (int g = 0; g < AHEAD; ++g) {
            if (g * UNROLL < n_padded) load_weights(ahead[g], events + g * UNROLL, weights, mine);
        }
#pragma unroll 1
        for (int base = 0; base < n_padded; base += UNROLL) {
            add_events(neurons, events + base, ahead, base + AHEAD * UNROLL < n_padded, weights, mine, c, reset, store);
        }
    }

    if (blockIdx.x == 0 && lane == 0) batch_samples[s] = sample;
    if (valid) counts[(size_t)s * n_hidden + i] = neurons.count;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        neurons.first = min(neurons.first, __shfl_xor_sync(FULL_WARP, neurons.first, distance));
        neurons.last = max(neurons.last, __shfl_xor_sync(FULL_WARP, neurons.last, distance));
    }
    const int silent = __popc(__ballot_sync(FULL_WARP, valid && neurons.count == 0));
    const int overflows = __popc(__ballot_sync(FULL_WARP, valid && neurons.overflow));
    const int bad = __popc(__ballot_sync(FULL_WARP, valid && !isfinite(neurons.a)));
    if (lane == 0) {
        list_counts[group] = neurons.listed;
        extremes[2 * group] = neurons.first;
        extremes[2 * group + 1] = neurons.last;
        unsigned long long* row = status + (s % n_rows) * 4;
        if (neurons.listed) atomicAdd(&row[0], (unsigned long long)neurons.listed);
        if (silent) atomicAdd(&row[1], (unsigned long long)silent);
        if (overflows) atomicAdd(&row[2], (unsigned long long)overflows);
        if (bad) atomicAdd(&row[3], (unsigned long long)bad);
    }
}
