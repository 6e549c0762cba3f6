// Backward pass of a convolutional or dense layer in one walk (docs/theory.md, (19) and (30)); a dense layer is one position that
// sees everything.
//
// A unit is one position of one sample: its receptive field (a sorted list of events, made by the forward pass) and its neurons.
// A block owns some channels and some units. (1) A thread per neuron goes backwards through its resets and leaves, for every spike,
// q = e^{t / tau} and G = delta tau / (z q^2): an event at E < q adds G E (E - q) to the gradient of its weight and w G E (2 E - q) / tau
// to dL/dt of the event. (2) Any warp takes any 32 events of any unit, a lane each: for every neuron that spikes later it looks up the
// sums over spikes after all 32, and looks at those among the 32 one by one. Events in time are neighbours in the list, so there
// are few of the latter. Weights lie in shared memory, their gradients too, in fixed point (common/fixed_point.cuh).
// (3) Each block writes its own sums, each (event, filter element) its own error: what adds them up does it in a fixed order. Errors are
// added by the backward pass of the layer before, when it reads them, or by add_taps.
#include "common/block.cuh"
#include "common/constants.cuh"
#include "common/fixed_point.cuh"
#include "common/partial_sums.cuh"
#include "conv/records.cuh"
#include "fused/dependent_launch.cuh"

template <typename real>
struct __align__(2 * sizeof(real)) Gain {
    real q, g;
};

// An index in the place of a number.
__device__ __forceinline__ float as_number(int index, float) { return __int_as_float(index); }
__device__ __forceinline__ double as_number(int index, double) { return __longlong_as_double(index); }
__device__ __forceinline__ int as_index(float number) { return __float_as_int(number); }
__device__ __forceinline__ int as_index(double number) { return (int)__double_as_longlong(number); }

// dL/dt of a layer's spikes as the layer behind left them: `groups` times `n_taps` parts of each, of which those that nothing adds to are
// 0; without parts (n_taps 0), the errors themselves. Spikes from last_factor on are in no field, and their parts are of another step.
template <typename real>
struct Parts {
    const real* errors;  // [groups, room, n_slots, N, n_taps]
    int groups, n_taps;
    size_t stride;       // from group to group
    real tau, last_factor;

    __device__ __forceinline__ real sum(size_t spike, real t) const {
        if (n_taps == 0) return errors[spike];
        real sum = 0;
        if (!(bounded_factor(t, tau) < last_factor)) return sum;
        const real* own = errors + spike * n_taps;
        if (n_taps == 1) {
#pragma unroll 8
            for (int group = 0; group < groups; ++group) sum += own[group * stride];
            return sum;
        }
        for (int group = 0; group < groups; ++group) {
#pragma unroll 8
            for (int tap = 0; tap < n_taps; ++tap) sum += own[group * stride + tap];
        }
        return sum;
    }
};

// (1) for one neuron, from q and dL/dt (in g) of its spikes and 1 / slope. Returns sum |delta tau / z| / 4, the bound of what its
// spikes add to a weight per event.
template <typename real>
__device__ __forceinline__ real through_resets(Gain<real>* gains, const real* inverse_slopes, int count, real tau, real reset) {
    constexpr int AHEAD = 4;  // spikes whose numbers are at hand before they take their turn
    real later = 0, bound = 0;
    for (int last = count - 1; last >= 0; last -= AHEAD) {
        Gain<real> spikes[AHEAD];
        real y[AHEAD], inverse[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int k = max(last - u, 0);
            spikes[u] = gains[k];
            inverse[u] = inverse_slopes[k];
            y[u] = 1 / spikes[u].q;
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            if (last - u < 0) break;
            const real response = (spikes[u].g + later * spikes[u].q) * inverse[u], gain = response * tau;
            later += response * reset * y[u];
            bound += abs(gain) / 4;
            gains[last - u].g = gain * y[u] * y[u];
        }
    }
    return bound;
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks (groups of `width` channels, blocks of units), up to 1024 threads; shared memory as bats/ops/layer_backward.py counts it.
template <typename real>
__global__ void __launch_bounds__(1024, 1) layer_backward(
        const real* __restrict__ event_times, const int* __restrict__ event_neurons, const int* __restrict__ event_positions,
        const int* __restrict__ event_counts, int capacity, int pre_slots,  // pre_slots: events that one weight may see from one unit
        const int* __restrict__ fields, const int* __restrict__ field_counts,  // [B, positions, field_capacity], [B, positions]
        const real* __restrict__ factors, const unsigned* __restrict__ places,             // [B, capacity]: of the events
        int field_capacity, int has_fields,                                                // without fields: see all events
        const real* errors, int error_groups, int error_taps, long long error_stride, real error_tau, real error_last,  // as in Parts
        const real* times, const real* slopes,  // [B, n_slots, N]
        const int* counts,                      // [B, N]
        const real* __restrict__ weights,       // [rows, C]
        Geometry g, int batch, int n_slots, int width, int units_per_round, int rounds, int stride, int add,
        real tau, real reset, real slope_floor, real scale,
        int only_errors,                        // whether of all that is read here the kernel before wrote nothing else
        real* __restrict__ partial,             // [blocks of units, rows, C]
        int wants_errors, int room, int train_size, real* __restrict__ tap_errors,  // [groups, room, train_size, filter elements]
        unsigned long long* bounded) {          // [B, 4]
    using fixed = typename FixedPoint<real>::type;
    extern __shared__ double shared_memory[];
    __shared__ int n_taken;
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, n_warps = blockDim.x >> 5;
    const int n_positions = g.post_x * g.post_y, n_post = n_positions * g.post_c, taps = g.filter_x * g.filter_y;
    const int rows = g.pre_c * taps, pitch = rows | 1;
    const int first_c = blockIdx.x * width, n_c = min(width, g.post_c - first_c);

    Gain<real>* gains = reinterpret_cast<Gain<real>*>(shared_memory);     // [units, width, n_slots]; g in units of its channel
    Gain<real>* later = gains + (size_t)units_per_round * width * n_slots;  // [warps, 32]
    real* inverse_slopes = reinterpret_cast<real*>(later + n_warps * 32);   // [units, width, n_slots]
    fixed* sums = reinterpret_cast<fixed*>(inverse_slopes + (((size_t)units_per_round * width * n_slots + 1) & ~(size_t)1));  // [width, pitch]
    real* own_weights = reinterpret_cast<real*>(sums + width * pitch);    // [width, pitch] if errors are wanted, over the units
    real* bounds = own_weights + (wants_errors ? width * pitch : 0);      // [units, width]
    real* units = bounds + units_per_round * width;                       // [width]: of the fixed point
    int* n_of = reinterpret_cast<int*>(units + width);                    // [units, width]
    int* lengths = n_of + units_per_round * width;                        // [units]: events
    int* samples = lengths + units_per_round;                             // [units]
    int* positions = samples + units_per_round;                           // [units]
    int* starts = positions + units_per_round;                            // [units + 1]: groups of 32 events before
    later += warp * 32;
    if (!only_errors) start_after_previous();
    const Parts<real> parts = {errors, error_groups, error_taps, (size_t)error_stride, error_tau, error_last};

    const long long n_units_total = (long long)batch * n_positions;
    for (int round = 0; round < rounds; ++round) {
        const long long first_unit = ((long long)blockIdx.y * rounds + round) * units_per_round;
        const int n_units = (int)max(0ll, min((long long)units_per_round, n_units_total - first_unit));
        __syncthreads();
        if (t < n_units) {  // units far apart, so that every block gets busy ones and idle ones
            const int unit = (int)((first_unit + t) * stride % n_units_total);
            samples[t] = unit / n_positions;
            positions[t] = unit % n_positions;
            lengths[t] = has_fields ? field_counts[unit] : event_counts[samples[t]];
        }
        for (int place = t; place < width * pitch; place += blockDim.x) sums[place] = 0;
        __syncthreads();

        // (1) Spikes, all at once, then neuron by neuron. The errors, which the kernel before may still be writing, come last: until then,
        // g is the number of the spike.
        const int n_items = n_units * width;
        for (int place = t; place < n_items * n_slots; place += blockDim.x) {
            const int k = place / n_items, item = place - k * n_items, u = item / width, c = item - u * width;
            const int s = samples[u], i = positions[u] * g.post_c + first_c + c;
            const int count = c < n_c ? counts[s * n_post + i] : 0;
            if (k == 0) n_of[item] = count;
            if (k >= count) continue;
            const int spike = (s * n_slots + k) * n_post + i;
            real slope = slopes[spike];
            if (slope < slope_floor) {
                slope = slope_floor;
                atomicAdd(&bounded[s * 4], 1ull);
            }
            gains[(size_t)item * n_slots + k] = {exp(times[spike] / tau), as_number(spike, real(0))};
            inverse_slopes[(size_t)item * n_slots + k] = 1 / slope;
        }
        if (only_errors && round == 0) start_after_previous();
        __syncthreads();
        for (int place = t; place < n_items * n_slots; place += blockDim.x) {
            const int item = place / n_slots, k = place - item * n_slots;
            if (k >= n_of[item]) continue;
            const int spike = as_index(gains[place].g);
            gains[place].g = parts.sum(spike, times[spike]);
        }
        __syncthreads();
        for (int item = t; item < n_items; item += blockDim.x) {
            const size_t first = (size_t)item * n_slots;
            bounds[item] = through_resets(gains + first, inverse_slopes + first, n_of[item], tau, reset);
        }
        __syncthreads();
        int groups = 0, n_tasks;
        if (t < n_units) {
            bool active = wants_errors;
            for (int c = 0; c < n_c; ++c) active |= n_of[t * width + c] > 0;
            groups = active ? (lengths[t] + 31) / 32 : 0;
        }
        const int start = block_exclusive_sum(groups, &n_tasks);
        if (t < n_units) starts[t] = start;
        if (t == 0) {
            starts[n_units] = n_tasks;
            n_taken = n_warps;
        }
        for (int c = warp; c < n_c; c += n_warps) {
            real bound = 0;
            for (int u = lane; u < n_units; u += 32) bound += bounds[u * width + c];
            bound = warp_sum(bound);
            if (lane == 0) units[c] = fixed_units(bound * pre_slots);
        }
        __syncthreads();
        for (int item = t; item < n_items; item += blockDim.x) {
            for (int k = 0; k < n_of[item]; ++k) gains[(size_t)item * n_slots + k].g *= units[item % width];
        }
        if (wants_errors) {
            for (int c = lane; c < n_c; c += 32) {
                const real scaled = 1 / units[c];
#pragma unroll 4
                for (int row = warp; row < rows; row += n_warps) {
                    own_weights[c * pitch + row] = weights[(size_t)row * g.post_c + first_c + c] * scaled;
                }
            }
        }
        __syncthreads();

        // (2) 32 events at a time.
        const auto unit_of = [&](int task) {  // the last one that starts at or before the task
            int n = 0;
            for (int first = 0; first < n_units; first += 32) {
                n += __popc(__ballot_sync(FULL_WARP, first + lane < n_units && starts[first + lane] <= task));
            }
            return n - 1;
        };
        const auto event_of = [&](int u, int task) {  // the lane's, in the list of the sample; any where there is none
            const int event = (task - starts[u]) * 32 + lane;
            const int* field = fields + ((size_t)samples[u] * n_positions + positions[u]) * field_capacity;
            return has_fields && event < lengths[u] ? field[event] : event;
        };
        int u = warp < n_tasks ? unit_of(warp) : 0, event = warp < n_tasks ? event_of(u, warp) : 0;
        for (int task = warp; task < n_tasks;) {  // whichever warp is free takes the next one: they are uneven
            const int s = samples[u], n_here = min(32, lengths[u] - (task - starts[u]) * 32);
            const bool mine = lane < n_here;
            int row = min(lane, rows - 1), tap = 0, train_place = 0;  // an idle lane adds 0 somewhere
            real factor = 0;
            if (mine) {
                const size_t at = (size_t)s * capacity + event;
                if (wants_errors) train_place = event_positions[at];
                if (has_fields) {
                    factor = factors[at];
                    const int px = positions[u] / g.post_y, py = positions[u] - px * g.post_y;
                    const Place place = unpack_place(places[at]);
                    tap = (place.y - py * g.stride_y) * g.filter_x + place.x - px * g.stride_x;
                    row = place.c * taps + tap;
                } else {
                    factor = bounded_factor(event_times[at], tau);
                    row = event_neurons[at];
                }
            }
            const int unit = u, taken = lane == 0 ? atomicAdd(&n_taken, 1) : 0, next = __shfl_sync(FULL_WARP, taken, 0);
            if (next < n_tasks) {  // its events are on their way while these are worked off
                u = unit_of(next);
                event = event_of(u, next);
            }
            const real earliest = __shfl_sync(FULL_WARP, factor, 0), latest = __shfl_sync(FULL_WARP, factor, n_here - 1);
            real error = 0;
            for (int base_c = 0; base_c < n_c; base_c += 32) {
                // A lane per neuron: sums over its spikes after all events; from ... to are those among the events.
                const int c = base_c + lane;
                const Gain<real>* own = gains + (size_t)(unit * width + min(c, n_c - 1)) * n_slots;
                int k = (c < n_c ? n_of[unit * width + c] : 0) - 1;
                real sum_g = 0, sum_gq = 0;
                for (; k >= 0 && own[k].q > latest; --k) {
                    sum_g += own[k].g;
                    sum_gq += own[k].g * own[k].q;
                }
                const int to = k;
                while (k >= 0 && own[k].q > earliest) --k;
                later[lane] = {sum_gq, sum_g};
                unsigned active = __ballot_sync(FULL_WARP, sum_g != 0 || sum_gq != 0);
                unsigned mixed = __ballot_sync(FULL_WARP, k < to);
                __syncwarp();
                const int first_place = base_c * pitch + row;
                if (wants_errors) {
                    while (active) {  // two neurons at a time: their chains of operations do not depend on each other
                        const int one = __ffs(active) - 1;
                        active &= active - 1;
                        const int two = active ? __ffs(active) - 1 : one;
                        const bool both = active;
                        active &= active - 1;
                        const int place = first_place + one * pitch, other_place = first_place + two * pitch;
                        const Gain<real> all = later[one], other = later[two];
                        // sum G (q - E), in units of the channel
                        const real d = all.q - factor * all.g, other_d = other.q - factor * other.g;
                        const real w = own_weights[place], other_w = own_weights[other_place];
                        error += w * (factor * all.g - d);
                        FixedPoint<real>::add(&sums[place], -d * factor);
                        if (!both) break;
                        error += other_w * (factor * other.g - other_d);
                        FixedPoint<real>::add(&sums[other_place], -other_d * factor);
                    }
                } else {
                    for (; active; active &= active - 1) {
                        const int source = __ffs(active) - 1;
                        const Gain<real> all = later[source];
                        FixedPoint<real>::add(&sums[first_place + source * pitch], (factor * all.g - all.q) * factor);
                    }
                }
                for (; mixed; mixed &= mixed - 1) {
                    const int source = __ffs(mixed) - 1, place = first_place + source * pitch;
                    const int from = __shfl_sync(FULL_WARP, k, source) + 1, end = __shfl_sync(FULL_WARP, to, source);
                    const Gain<real>* list = gains + (size_t)(unit * width + base_c + source) * n_slots;
                    for (int m = from; m <= end; ++m) {
                        const Gain<real> gain = list[m];
                        if (!mine || !(gain.q > factor)) continue;
                        const real d = gain.g * (gain.q - factor);
                        if (wants_errors) error += own_weights[place] * (factor * gain.g - d);
                        FixedPoint<real>::add(&sums[place], -d * factor);
                    }
                }
                __syncwarp();
            }
            if (wants_errors && mine) {
                tap_errors[(((size_t)blockIdx.x * room + s) * train_size + train_place) * taps + tap] = error * factor / tau;
            }
            task = next;
        }
        __syncthreads();

        // (3) The sums of this block.
        for (int c = lane; c < n_c; c += 32) {
            const real unit = scale / units[c];
            real* to = partial + (size_t)blockIdx.y * rows * g.post_c + first_c + c;
#pragma unroll 4
            for (int row = warp; row < rows; row += n_warps) {
                const real sum = sums[c * pitch + row] * unit;
                to[(size_t)row * g.post_c] = round > 0 || add ? to[(size_t)row * g.post_c] + sum : sum;
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// Gradients of several layers: each the sum of its blocks' sums, in their order. 256 threads. (An optimizer may do that itself: adam_step.)
constexpr int MOST_GRADIENTS = 12;

struct Partial {
    const void* partial;  // [n_partial, size]
    void* gradient;
    long long size;
    int n_partial, first_block;
};

struct Partials {
    Partial of[MOST_GRADIENTS];
};

template <typename real>
__global__ void __launch_bounds__(256) add_partial(Partials partials, int n_gradients) {
    start_after_previous();
    int which = 0;
    while (which + 1 < n_gradients && (int)blockIdx.x >= partials.of[which + 1].first_block) ++which;
    const Partial own = partials.of[which];
    const long long block = (int)blockIdx.x - own.first_block, w = own_sum(own.n_partial, own.size, block);
    const real sum = sum_partial(static_cast<const real*>(own.partial), own.n_partial, own.size, block);
    if (w >= 0) static_cast<real*>(own.gradient)[w] = sum;
}

// dL/dt of every event, the sum of its parts. blocks (any, B), 256 threads.
template <typename real>
__global__ void __launch_bounds__(256) add_taps(
        const real* tap_errors, int groups, int n_taps, long long stride, real tau, real last_factor,  // as in Parts
        const real* __restrict__ event_times, const int* __restrict__ event_positions, const int* __restrict__ event_counts, int capacity,
        int train_size, real* __restrict__ errors) {  // [B, train_size]
    start_after_previous();
    const Parts<real> parts = {tap_errors, groups, n_taps, (size_t)stride, tau, last_factor};
    const size_t s = blockIdx.y;
    const int n_events = event_counts[s];
    for (int e = blockIdx.x * blockDim.x + threadIdx.x; e < n_events; e += gridDim.x * blockDim.x) {
        const size_t spike = s * train_size + event_positions[s * capacity + e];
        errors[spike] = parts.sum(spike, event_times[s * capacity + e]);
    }
}
