// Fused step, first kernel: the hidden layer's spikes from the event lists of the images.
//
// A lane owns a neuron and a warp (sample, 32 neurons); the warps of a block take different samples of the same neurons, so that
// they find each other's weights in the first-level cache. The sums a and b are kept without resets, and the resets in one sum R
// ("fall"): UNROLL events are added in a row, and the largest of one bound per event (crossing_limit) says whether a spike is possible
// among them. Only there is the first such event of every lane looked up and the exact test made; where one or two neurons then fire on,
// all lanes look at one of them, an event each. The interval after the last event, in which half of the spikes lie, is tested on its
// own. Spikes are appended to the list of the warp as they come.
#include "common/block.cuh"
#include "fused/batch.cuh"
#include "fused/dependent_launch.cuh"
#include "fused/sample_order.cuh"

constexpr int TILE = 256;   // events of a sample that are prepared together
constexpr int UNROLL = 16;  // events between two looks for spikes; the weights of as many are on their way
constexpr int ALONE = 2;    // neurons that are looked at one by one if no more than these fire again

// One event and the interval after it.
template <typename real>
struct __align__(4 * sizeof(real)) Interval {
    real e, e_squared;  // factor E of the event
    real y_low;         // 1 / E_next
    real limit;         // infinity where there is no interval, hence no test
};

template <typename real>
__device__ __forceinline__ Interval<real> make_interval(real e, real e_next, real c) {
    const real y_low = reciprocal(e_next);
    const bool exists = e_next > e;
    return {e, e * e, exists ? y_low : real(0), exists ? crossing_limit(e, e_next, y_low, c) : Constants<real>::infinity()};
}

// UNROLL events.
template <typename real>
struct Events {
    Interval<real> intervals[UNROLL];
    unsigned rows[UNROLL];  // of the weights
};

// A warp's shared memory: the events of its tile, with rows after them that are only loaded, and what fire_alone needs.
template <typename real>
struct Room {
    Events<real> events[TILE / UNROLL + 1];
    real sums[2 * UNROLL];
};

// A lane's column of the weights.
struct Column {
    const char* weights;
    unsigned row_bytes;
};

template <typename real>
__device__ __forceinline__ void load_weights(real* w, const unsigned* rows, const Column& column) {
    struct __align__(16) Four {
        unsigned row[4];
    };
    unsigned row_bytes = column.row_bytes;
    asm("" : "+r"(row_bytes));  // 32 bits known to be no more: product and sum are then one instruction, of the ten that an event costs
#pragma unroll
    for (int u = 0; u < UNROLL; u += 4) {
        const Four four = *reinterpret_cast<const Four*>(rows + u);
#pragma unroll
        for (int v = 0; v < 4; ++v) {
            w[u + v] = *reinterpret_cast<const real*>(column.weights + (unsigned long long)four.row[v] * row_bytes);
        }
    }
}

// What a neuron has gone through, and the list of its warp.
template <typename real>
struct Neurons {
    real a, b, fall;
    real y;        // 1 / q of the latest spike
    real first;    // q of the first spike
    int count;     // of spikes; one more than there are slots if another one was due
    int listed;    // spikes of the warp
};

template <typename real>
struct SpikeStore {
    real* q;
    unsigned* place;
    real* slopes;
    unsigned list;   // where the list of the warp begins in q and place; 32 bits are enough (layout.samples_at_once), and registers are few
    unsigned train;  // where this neuron's slopes begin, slot by slot
    int n_hidden, n_slots, i;

    // The spike in slot `slot` of neuron i + others, as number `to` of the list.
    __device__ __forceinline__ void keep(int to, int slot, int others, real spike_q, real slope) const {
        q[list + to] = spike_q;
        place[list + to] = (unsigned)slot << 16 | (unsigned)(i + others);
        slopes[train + slot * n_hidden + others] = slope;
    }
};

// The lanes with `pending` test whether their neuron crosses the threshold while y falls from y_high to y_low; a and b: its sums there.
// Returns whether it did.
template <typename real>
__device__ __forceinline__ bool fire(Neurons<real>& neurons, bool pending, real a, real b, real y_high, real y_low, real c, real reset,
                                     const SpikeStore<real>& store) {
    const Crossing<real> found = crossing(a, b - neurons.fall, c, reciprocal(a + a), min(y_high, neurons.y), y_low);
    const bool fires = pending && found.crosses, kept = fires && neurons.count < store.n_slots;
    const unsigned keeping = __ballot_sync(FULL_WARP, kept);
    const int to = neurons.listed + __popc(keeping & ((1u << (threadIdx.x & 31)) - 1));
    const real q = reciprocal(found.y);
    if (kept) store.keep(to, neurons.count, 0, q, found.x * found.y);
    neurons.first = kept && neurons.count == 0 ? q : neurons.first;
    neurons.y = kept ? found.y : neurons.y;
    neurons.fall = fires ? (kept ? fma(reset, q, neurons.fall) : Constants<real>::infinity()) : neurons.fall;
    neurons.count += fires;
    neurons.listed += __popc(keeping);
    return fires;
}

template <typename real, int n>
__device__ __forceinline__ real largest(const real* values) {
    if constexpr (n == 1) return values[0];
    else return max(largest<real, n / 2>(values), largest<real, n / 2>(values + n / 2));
}

// The first of n events whose bound is at least `least` (the last one if there is none), and the sums after it.
template <typename real, int n>
__device__ __forceinline__ int find_first(const real* bound, const real* a, const real* b, real least, real& a_found, real& b_found) {
    if constexpr (n == 1) {
        a_found = a[0];
        b_found = b[0];
        return 0;
    } else {
        constexpr int half = n / 2;
        const bool later = !(largest<real, half>(bound) >= least);
        real half_bound[half], half_a[half], half_b[half];
#pragma unroll
        for (int k = 0; k < half; ++k) {
            half_bound[k] = later ? bound[k + half] : bound[k];
            half_a[k] = later ? a[k + half] : a[k];
            half_b[k] = later ? b[k + half] : b[k];
        }
        return (later ? half : 0) + find_first<real, half>(half_bound, half_a, half_b, least, a_found, b_found);
    }
}

// The rest of one neuron's spikes among UNROLL events, where other neurons have none: a lane is an event here, so that a spike costs
// a third of what it does in fire(). A few neurons come to fire at nearly every event. Intervals before the latest spike need no
// mask: where u does not reach theta, it does not after another reset. sums: [2 UNROLL], room.
template <typename real>
__device__ __forceinline__ void fire_alone(Neurons<real>& neurons, int owner, const real* a, const real* b,
                                           const Interval<real>* intervals, real* sums, real c, real reset, const SpikeStore<real>& store) {
    const int lane = threadIdx.x & 31, k = lane % UNROLL;
    __syncwarp();
    if (lane == owner) {
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            sums[u] = a[u];
            sums[UNROLL + u] = b[u];
        }
    }
    __syncwarp();
    const Interval<real> event = intervals[k];
    const real own_a = sums[k], own_b = sums[UNROLL + k], bound = fma(-own_a, event.y_low, own_b) - event.limit;
    const real inverse_two_a = reciprocal(own_a + own_a), y_high = reciprocal(event.e);
    real fall = __shfl_sync(FULL_WARP, neurons.fall, owner), y = __shfl_sync(FULL_WARP, neurons.y, owner);
    real first = __shfl_sync(FULL_WARP, neurons.first, owner);
    int count = __shfl_sync(FULL_WARP, neurons.count, owner);
    constexpr unsigned ONCE = (1u << UNROLL) - 1;  // the lanes above these look at the same events
    while (true) {
        const Crossing<real> found = crossing(own_a, own_b - fall, c, inverse_two_a, min(y_high, y), event.y_low);
        const real own_q = reciprocal(found.y);
        const unsigned hits = __ballot_sync(FULL_WARP, found.crosses && bound >= fall) & ONCE;
        if (hits == 0) break;
        const int at = __ffs(hits) - 1;
        ++count;
        if (count > store.n_slots) {
            fall = Constants<real>::infinity();
            break;
        }
        if (lane == at) store.keep(neurons.listed, count - 1, owner - lane, own_q, found.x * found.y);
        const real q = __shfl_sync(FULL_WARP, own_q, at);
        y = __shfl_sync(FULL_WARP, found.y, at);
        first = count == 1 ? q : first;
        fall = fma(reset, q, fall);
        ++neurons.listed;
    }
    neurons.fall = lane == owner ? fall : neurons.fall;
    neurons.y = lane == owner ? y : neurons.y;
    neurons.first = lane == owner ? first : neurons.first;
    neurons.count = lane == owner ? count : neurons.count;
}

// UNROLL events, whose weights w give way to those of the UNROLL events after them, and the spikes in the intervals after the events.
// sums: of the room.
template <typename real>
__device__ __forceinline__ void add_events(Neurons<real>& neurons, const Events<real>* events, real* sums, real (&w)[UNROLL],
                                           const Column& column, real c, real reset, const SpikeStore<real>& store) {
    const Interval<real>* intervals = events->intervals;
    real a[UNROLL], b[UNROLL], bound[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
        const Interval<real> event = intervals[u];
        b[u] = fma(w[u], event.e, u ? b[u - 1] : neurons.b);
        a[u] = fma(w[u], event.e_squared, u ? a[u - 1] : neurons.a);
        bound[u] = fma(-a[u], event.y_low, b[u]) - event.limit;
    }
    load_weights(w, events[1].rows, column);
    neurons.a = a[UNROLL - 1];
    neurons.b = b[UNROLL - 1];
    real highest = largest<real, UNROLL>(bound);
    while (__any_sync(FULL_WARP, highest >= neurons.fall)) {
        real a_now, b_now;
        const bool pending = highest >= neurons.fall;
        const int u = find_first<real, UNROLL>(bound, a, b, neurons.fall, a_now, b_now);
        const Interval<real> event = intervals[u];
        const bool fired = fire(neurons, pending, a_now, b_now, reciprocal(event.e), event.y_low, c, reset, store);
        unsigned again = __ballot_sync(FULL_WARP, highest >= neurons.fall);
        if (again == 0) break;
        // Rare: more spikes may follow. Earlier events are done with, and this one if the neuron has not fired.
        if (__popc(again) <= ALONE) {
            for (; again; again &= again - 1) fire_alone(neurons, __ffs(again) - 1, a, b, intervals, sums, c, reset, store);
            break;
        }
#pragma unroll
        for (int k = 0; k < UNROLL; ++k) bound[k] = k < u + !fired ? -Constants<real>::infinity() : bound[k];
        highest = largest<real, UNROLL>(bound);
    }
}

// The spikes after the last event, whose factor is e.
template <typename real>
__device__ __forceinline__ void end_events(Neurons<real>& neurons, real e, real last_factor, real c, real reset,
                                           const SpikeStore<real>& store) {
    const real y_low = reciprocal(last_factor), y_high = reciprocal(e);
    const real bound = fma(-neurons.a, y_low, neurons.b) - crossing_limit(e, last_factor, y_low, c);
    bool pending = bound >= neurons.fall;
    while (__any_sync(FULL_WARP, pending)) {
        const bool fired = fire(neurons, pending, neurons.a, neurons.b, y_high, y_low, c, reset, store);
        pending = fired && bound >= neurons.fall;
    }
}

// Prepares the events from `first` on, at most TILE: their intervals and rows, and as many that add nothing as are loaded with them.
// Events of the same time have no interval between them, nor has the last one here (end_events). last_row: of the last event.
template <typename real>
__device__ __forceinline__ void prepare(Room<real>& room, const real* factors, const EventRows& event_rows, const Sample& sample,
                                        int first, int n_padded, unsigned last_row, real c) {
    constexpr int PARTS = TILE / 32;
    const int lane = threadIdx.x & 31, n_left = sample.n_events - first;
    real e[PARTS + 1];
    unsigned row[PARTS];
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {  // all loads before the first use
        const int at = part * 32 + lane;
        e[part] = at < n_left ? factors[first + at] : real(0);
        row[part] = at < n_left ? event_rows.at(sample.first + first + at) : last_row;
    }
    e[PARTS] = TILE < n_left ? factors[first + TILE] : real(0);
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
        if (part * 32 >= n_padded) break;
        const real e_next = __shfl_sync(FULL_WARP, lane == 0 ? e[part + 1] : e[part], (lane + 1) & 31);
        Events<real>& events = room.events[(part * 32 + lane) / UNROLL];
        events.intervals[lane % UNROLL] = make_interval(e[part], e_next, c);
        events.rows[lane % UNROLL] = row[part];
    }
    if (lane < UNROLL) room.events[n_padded / UNROLL].rows[lane] = last_row;
}

// The sample (of the batch) of this warp, or -1. Waits for the block's other warps.
__device__ __forceinline__ int choose_sample(const Sample* samples, int batch) {
    if (batch > SORTED) {
        const int s = blockIdx.y * (blockDim.x >> 5) + (threadIdx.x >> 5);
        return s < batch ? s : -1;
    }
    __shared__ int sorted[SORTED];
    each_rank(batch, [&](int s) { return samples[s].n_events; }, [&](int s, int rank) { sorted[rank] = s; });
    __syncthreads();
    const int rank = rank_of_warp();
    return rank < batch ? sorted[rank] : -1;
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (ceil(n_hidden / 32), ceil(batch / warps)), up to 16 warps; shared memory: a Room for every warp.
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
        unsigned long long* status, int n_rows,    // [n_rows, 4]: spikes, silent, overflowing, non-finite
        int ahead,          // events, which the kernel before has nothing to do with, may be prepared before it has ended
        const Sample* upcoming, const int* upcoming_places) {  // [batch]: what the output_step before has made of the batch, or null
    extern __shared__ __align__(16) double shared_memory[];
    bool early = ahead;
    const auto previous_ends = [&] {
        if (early) start_after_previous();
        early = false;
    };
    if (!early) start_after_previous();
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const Sample* from = upcoming;
    int s;
    if (upcoming) {
        const int rank = rank_of_warp();
        s = rank < batch ? upcoming_places[rank] : -1;
        from += min(rank, batch - 1);
    } else {
        from = samples + *cursor;
        s = choose_sample(from, batch);
        from += max(s, 0);
    }
    const Sample sample = *from;
    if (s < 0) {
        previous_ends();
        return;
    }
    Room<real>& room = reinterpret_cast<Room<real>*>(shared_memory)[warp];
    const int i = blockIdx.x * 32 + lane;
    const bool valid = i < n_hidden;

    const unsigned group = s * gridDim.x + blockIdx.x;
    const SpikeStore<real> store = {list_q, list_place, slopes, group * 32 * n_slots, (unsigned)s * n_slots * n_hidden + i,
                                    n_hidden, n_slots, i};
    const Column column = {reinterpret_cast<const char*>(weights + (valid ? i : 0)), n_hidden * (unsigned)sizeof(real)};
    const real INF = Constants<real>::infinity();
    Neurons<real> neurons = {0, 0, valid ? real(0) : INF, INF, INF, 0, 0};
    if (n_slots == 1) reset = INF;  // no second spike is looked for
    event_factors += sample.first;
    const int last = max(sample.n_events - 1, 0);  // where there is no event, the list of all samples still has a next entry
    const real last_event = event_factors[last];
    const unsigned last_row = event_rows.at(sample.first + last);
    for (int first = 0; first < sample.n_events; first += TILE) {
        const int n_padded = (min(TILE, sample.n_events - first) + UNROLL - 1) / UNROLL * UNROLL;
        __syncwarp();
        prepare(room, event_factors, event_rows, sample, first, n_padded, last_row, c);
        __syncwarp();
        previous_ends();
        real w[UNROLL];
        load_weights(w, room.events->rows, column);
        const Events<real>* end = room.events + n_padded / UNROLL;
#pragma unroll 1
        for (const Events<real>* events = room.events; events != end; ++events) {
            add_events(neurons, events, room.sums, w, column, c, reset, store);
        }
    }
    previous_ends();
    if (sample.n_events > 0) end_events(neurons, last_event, last_factor, c, reset, store);

    const bool overflow = neurons.count > n_slots;
    const int count = min(neurons.count, n_slots);
    if (blockIdx.x == 0 && lane == 0) batch_samples[s] = *from;  // loaded again: registers are few
    if (valid) counts[(unsigned)s * n_hidden + i] = count;
    const real least = warp_least(neurons.first), greatest = warp_greatest(count > 0 ? reciprocal(neurons.y) : real(0));
    const int silent = __popc(__ballot_sync(FULL_WARP, valid && count == 0));
    const int overflows = __popc(__ballot_sync(FULL_WARP, valid && overflow));
    const int bad = __popc(__ballot_sync(FULL_WARP, valid && !isfinite(neurons.a)));
    if (lane == 0) {
        list_counts[group] = neurons.listed;
        extremes[2 * group] = least;
        extremes[2 * group + 1] = greatest;
        unsigned long long* row = status + (s % n_rows) * 4;
        if (neurons.listed) atomicAdd(&row[0], (unsigned long long)neurons.listed);
        if (silent) atomicAdd(&row[1], (unsigned long long)silent);
        if (overflows) atomicAdd(&row[2], (unsigned long long)overflows);
        if (bad) atomicAdd(&row[3], (unsigned long long)bad);
    }
}
