// Forward pass of a convolutional layer whose receptive fields hold many events, for times before one origin's reach (t_max <= 8 tau);
// conv_forward.cu is the variant for few.
//
// A warp owns one position of one sample and up to 32 of its channels (a tile); the warps of a block share the weights, in shared memory if
// they fit. A warp finds the events of its receptive field in bit masks (field_masks.cuh) and works them off in chunks. Sums without
// resets do not depend on spikes (lif/interval.cuh): a lane adds up four channels over one stretch of the chunk, and keeps the sums at the
// start of every LIST events and the greatest distance to the limit among them. With the sums of the stretches before, these distances say
// in which lists a channel may spike; then a lane per channel goes through its own lists.
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "conv/field_masks.cuh"
#include "conv/records.cuh"
#include "fused/dependent_launch.cuh"
#include "lif/event.cuh"
#include "lif/interval.cuh"

// Events of a list, lists of a stretch at most. LIST is odd: lanes that read records of several stretches at once meet different banks.
constexpr int LIST = 9, LISTS = 3;
constexpr int MOST_STRETCHES = 8;             // of a chunk
constexpr int WINDOW = 512;                   // events of the sample looked at together, 16 per lane
constexpr int WARPS = 20;                     // of a block, at most

// Four channels.
template <typename real>
struct __align__(16) Four {
    real of[4];
};

// Where the weights are: in shared memory in rows of whole tiles, or as the layer keeps them. column: of the lane's first channel.
template <bool STAGED, typename real>
struct TileWeights {
    const real* rows;
    int pitch, last_column;  // of a row

    __device__ __forceinline__ Four<real> four(unsigned offset, int column) const {
        if constexpr (STAGED) {
            return *reinterpret_cast<const Four<real>*>(rows + (offset + column));
        } else {
            return {one(offset, column), one(offset, column + 1), one(offset, column + 2), one(offset, column + 3)};
        }
    }
    __device__ __forceinline__ real one(unsigned offset, int column) const { return rows[offset + min(column, last_column)]; }
};

// A warp's room in shared memory.
template <typename real>
struct Chunk {
    Interval<real>* intervals;              // [stretches LISTS LIST]
    real *a, *b;                            // [stretches LISTS, width]: sums within the stretch before every list; at the stretch's first,
                                            // where they are 0, the sums over all events before the stretch
    real* distance;                         // [stretches LISTS, width]: what the resets must not exceed for a spike in the list
    real *carried_a, *carried_b, *fall;     // [width]: sums over all events before the chunk; resets
    unsigned* lists;                        // [width]: a bit for every list in which the channel may spike
    unsigned short* queue;                  // [stretches LISTS LIST + WINDOW]: events of the field that wait
    int width, stretches;
};

template <typename real>
__device__ __forceinline__ Chunk<real> chunk_at(char* memory, int width, int stretches) {
    Chunk<real> chunk;
    chunk.intervals = reinterpret_cast<Interval<real>*>(memory);
    chunk.a = reinterpret_cast<real*>(chunk.intervals + stretches * LISTS * LIST);
    chunk.b = chunk.a + stretches * LISTS * width;
    chunk.distance = chunk.b + stretches * LISTS * width;
    chunk.carried_a = chunk.distance + stretches * LISTS * width;
    chunk.carried_b = chunk.carried_a + width;
    chunk.fall = chunk.carried_b + width;
    chunk.lists = reinterpret_cast<unsigned*>(chunk.fall + width);
    chunk.queue = reinterpret_cast<unsigned short*>(chunk.lists + width);
    chunk.width = width;
    chunk.stretches = stretches;
    return chunk;
}

template <typename real>
__device__ __forceinline__ Four<real>& four_at(real* values) {
    return *reinterpret_cast<Four<real>*>(values);
}

// The events of a sample.
template <typename real>
struct Input {
    const real* factors;
    const unsigned* places;
    int n_events;
    const unsigned *of_x, *of_y;  // the masks of the position's columns and rows in the sample's first word
    int n_masks;                  // from word to word
};

// Where a warp's position is.
struct Corner {
    Geometry g;
    unsigned packed;
};

// The events that queue[0] ... queue[n - 1] name become the chunk's intervals, up to n_padded. e_end: factor of the event that follows;
// field: where the events go, or null.
template <typename real>
__device__ __forceinline__ void collect(const Chunk<real>& chunk, const unsigned short* queue, int n, int n_padded, real e_end,
                                        const Input<real>& input, const Corner& corner, unsigned pitch, real c, int* field) {
    constexpr int ROUNDS = (MOST_STRETCHES * LISTS * LIST + 31) / 32;
    const int lane = threadIdx.x & 31;
    real e[ROUNDS + 1];
    unsigned place[ROUNDS];
    e[ROUNDS] = 0;
#pragma unroll
    for (int r = 0; r < ROUNDS; ++r) {  // all loads before their first use
        const int k = 32 * r + lane;
        e[r] = 0;
        place[r] = corner.packed;
        if (k < n) {
            const int event = queue[k];
            e[r] = input.factors[event];
            place[r] = input.places[event];
            if (field) field[k] = event;
        }
    }
#pragma unroll
    for (int r = 0; r < ROUNDS; ++r) {
        if (32 * r >= n_padded) break;
        const int k = 32 * r + lane;
        const real following = __shfl_sync(FULL_WARP, lane == 0 ? e[r + 1] : e[r], (lane + 1) & 31);
        const real e_next = k < n - 1 ? following : e_end;  // never 0; behind the last event the factor is 0, and there is no test
        const Place at = place_in_field(place[r], corner.packed);
        const Interval<real> made = interval_after(e[r], e_next, filter_row(corner.g, at.c, at.x, at.y) * pitch, c, k < n);
        if (k < n_padded) chunk.intervals[k] = made;
    }
}

// Sums of the chunk's n events, and the lists in which channels may spike. per: lists of a stretch; e_end: factor of the event that
// follows.
template <bool STAGED, typename real>
__device__ __forceinline__ void add_up(const Chunk<real>& chunk, int n, int per, real e_end, const TileWeights<STAGED, real>& weights,
                                       int first_column, real own_fall) {
    const int lane = threadIdx.x & 31, groups = chunk.width / 4, width = chunk.width;
    const bool works = lane < groups * chunk.stretches;  // the others do the same as the last one, and keep it to themselves
    const int worker = min(lane, groups * chunk.stretches - 1), stretch = worker / groups, column = worker % groups * 4;
    if (lane < width) {
        chunk.fall[lane] = own_fall;
        chunk.lists[lane] = 0;
    }
    __syncwarp();

    Four<real> a = {}, b = {}, distance[LISTS];  // distances of the lists, the last one first
#pragma unroll 1
    for (int list = stretch * per; list < (stretch + 1) * per; ++list) {
        if (works && list > stretch * per) {
            four_at(chunk.a + list * width + column) = a;
            four_at(chunk.b + list * width + column) = b;
        }
        Four<real> far;
#pragma unroll
        for (int h = 0; h < 4; ++h) far.of[h] = -Constants<real>::infinity();
#pragma unroll
        for (int u = 0; u < LIST; ++u) {
            const Interval<real> interval = chunk.intervals[list * LIST + u];
            const Four<real> w = weights.four(interval.offset, first_column + column);
#pragma unroll
            for (int h = 0; h < 4; ++h) {
                const real part = w.of[h] * interval.e;
                b.of[h] += part;
                a.of[h] = fma(part, interval.e, a.of[h]);
                far.of[h] = max(far.of[h], fma(-a.of[h], interval.y_low, b.of[h]) - interval.limit);
            }
        }
#pragma unroll
        for (int k = LISTS - 1; k > 0; --k) distance[k] = distance[k - 1];
        distance[0] = far;
    }
    const int row = stretch * per * width + column;  // of the stretch's first list: its sums, and then those before it
    if (works) {
        four_at(chunk.a + row) = a;
        four_at(chunk.b + row) = b;
    }
    __syncwarp();
    Four<real> before_a = four_at(chunk.carried_a + column), before_b = four_at(chunk.carried_b + column);
    for (int earlier = 0; earlier < stretch; ++earlier) {
        const int from = earlier * per * width + column;
        const Four<real> more_a = four_at(chunk.a + from), more_b = four_at(chunk.b + from);
#pragma unroll
        for (int h = 0; h < 4; ++h) {
            before_a.of[h] += more_a.of[h];
            before_b.of[h] += more_b.of[h];
        }
    }
    __syncwarp();
    if (works) {
        four_at(chunk.a + row) = before_a;
        four_at(chunk.b + row) = before_b;
        if (stretch == chunk.stretches - 1) {
#pragma unroll
            for (int h = 0; h < 4; ++h) {
                chunk.carried_a[column + h] = before_a.of[h] + a.of[h];
                chunk.carried_b[column + h] = before_b.of[h] + b.of[h];
            }
        }
    }

    const auto y_at = [&](int k) { return reciprocal(k < n ? chunk.intervals[k].e : e_end); };
    const Four<real> fall = four_at(chunk.fall + column);
    unsigned bits[4] = {0, 0, 0, 0};
    real y_least = y_at((stretch + 1) * per * LIST);  // y lies between y_least and y_most in a list
#pragma unroll
    for (int k = 0; k < LISTS; ++k) {
        const int list = (stretch + 1) * per - 1 - k;
        if (k >= per || list * LIST >= n) continue;
        const real y_most = y_at(list * LIST);
        Four<real> far;
#pragma unroll
        for (int h = 0; h < 4; ++h) {
            const real own = distance[k].of[h], shift = before_b.of[h] - before_a.of[h] * (before_a.of[h] > 0 ? y_least : y_most);
            const real rounding = (abs(own) + abs(before_a.of[h]) + abs(before_b.of[h])) * real(1e-6);  // it must not hide a spike
            far.of[h] = own + shift + rounding;
            if (far.of[h] >= fall.of[h]) bits[h] |= 1u << list;
        }
        if (works) four_at(chunk.distance + list * width + column) = far;
        y_least = y_most;
    }
#pragma unroll
    for (int h = 0; h < 4; ++h) {
        if (works && bits[h]) atomicOr(&chunk.lists[column + h], bits[h]);
    }
    __syncwarp();
}

// A lane's channel, in column `column`, goes through the lists in which it may spike; per: lists of a stretch.
template <bool STAGED, typename real>
__device__ __forceinline__ void search(const Chunk<real>& chunk, unsigned lists, int per, const TileWeights<STAGED, real>& weights,
                                       int column, const SpikeWriter<real>& out, Train<real>& train) {
    const int lane = threadIdx.x & 31, inverse = (256 + per - 1) / per;  // list / per == list * inverse >> 8 for lists below 32
    int from = 0;  // events of the list before it are done with
    while (true) {
        while (lists) {  // past those that the resets leave out, as they have grown since; two per look
            const unsigned later = lists & (lists - 1);
            const real far = chunk.distance[(__ffs(lists) - 1) * chunk.width + lane];
            const real later_far = chunk.distance[(later ? __ffs(later) - 1 : 0) * chunk.width + lane];
            if (!(far < train.fall)) break;
            lists = later;
            from = 0;
            if (!(later_far < train.fall)) break;
            lists &= lists - 1;
        }
        if (lists == 0) break;
        const int list = __ffs(lists) - 1, first = (list * inverse >> 8) * per;  // of the stretch
        const Interval<real>* intervals = chunk.intervals + list * LIST;
        const real within_a = list > first ? chunk.a[list * chunk.width + lane] : real(0);
        const real within_b = list > first ? chunk.b[list * chunk.width + lane] : real(0);
        real a = within_a + chunk.a[first * chunk.width + lane], b = within_b + chunk.b[first * chunk.width + lane], hit_a = 0, hit_b = 0;
        int hit = LIST;
#pragma unroll
        for (int u = 0; u < LIST; ++u) {
            const Interval<real> interval = intervals[u];
            const real part = weights.one(interval.offset, column) * interval.e;
            b += part;
            a = fma(part, interval.e, a);
            if (u >= from && hit == LIST && fma(-a, interval.y_low, b) - train.fall >= interval.limit) {
                hit = u;
                hit_a = a;
                hit_b = b;
            }
        }
        if (hit < LIST) fire_within(out, intervals[hit], hit_a, hit_b, train);
        from = hit + 1;
        if (from >= LIST) {
            from = 0;
            lists &= lists - 1;
        }
    }
}

// Puts the events of the field among those from `first` on, WINDOW of them, behind the first `queued` in the queue. Returns how many
// wait then. bits: of the lane's 16 events.
template <typename real>
__device__ __forceinline__ int enqueue(const Chunk<real>& chunk, int first, int queued, unsigned bits) {
    const int lane = threadIdx.x & 31, count = __popc(bits), sum = warp_inclusive_sum(count);
    unsigned short* to = chunk.queue + queued + sum - count;
    for (int event = first + 16 * lane - 1; bits; bits &= bits - 1) *to++ = event + __ffs(bits);
    return queued + __shfl_sync(FULL_WARP, sum, 31);
}

// A warp's walk through the events of its field. field: where they go, or null. Returns how many there are.
template <bool STAGED, typename real>
__device__ __forceinline__ int walk_field(const Chunk<real>& chunk, const Input<real>& input, const Corner& corner,
                                          const TileWeights<STAGED, real>& weights, int first_column, real last_factor, int* field,
                                          const SpikeWriter<real>& out, Train<real>& train) {
    const int lane = threadIdx.x & 31, most = chunk.stretches * LISTS * LIST;
    const auto find = [&](int first) {  // bits of the lane's 16 events
        const int event = first + 16 * lane, n = min(16, input.n_events - event), at = event / 32 * input.n_masks;
        return n > 0 ? (input.of_x[at] & input.of_y[at]) >> (event & 16) & ((1u << n) - 1) : 0u;
    };
    int queued = 0, kept = 0;  // kept: events of the field that are done with
    unsigned next = find(0);
    for (int first = 0; first < input.n_events; first += WINDOW) {
        const unsigned bits = next;
        const bool last = first + WINDOW >= input.n_events;
        next = find(first + WINDOW);
        queued = enqueue(chunk, first, queued, bits);
        __syncwarp();
        int head = 0;
        while (queued - head > most || (last && queued > head)) {  // the event after a chunk must be known
            const int n = min(queued - head, most), per = ((n + LIST - 1) / LIST + chunk.stretches - 1) / chunk.stretches;
            const unsigned short* queue = chunk.queue + head;
            const real e_end = head + n < queued ? input.factors[queue[n]] : last_factor;
            const int n_padded = chunk.stretches * per * LIST;
            collect(chunk, queue, n, n_padded, e_end, input, corner, weights.pitch, out.c, field ? field + kept : nullptr);
            add_up(chunk, n, per, e_end, weights, first_column, train.fall);
            head += n;
            kept += n;
            search(chunk, lane < chunk.width ? chunk.lists[lane] : 0, per, weights, first_column + lane, out, train);
            __syncwarp();
        }
        queued -= head;
        for (int k = lane; head > 0 && k - lane < queued; k += 32) {  // what is left, at most one chunk, moves to the front
            const unsigned short moved = k < queued ? chunk.queue[head + k] : 0;
            __syncwarp();
            if (k < queued) chunk.queue[k] = moved;
            __syncwarp();
        }
    }
    return kept;
}

// ----------------------------------------------------------------------------------------------------------------------
// blocks ceil(B * positions * tiles / warps), up to WARPS warps; a tile is `width` channels, a multiple of 4 and at most 32. stride: units
// that follow one another are far apart, so that every block gets busy ones and idle ones. Shared memory: the weights if
// `staged`, room_bytes for every warp.
template <typename real>
__global__ void __launch_bounds__(32 * WARPS) conv_forward_chunks(
        const real* factors, const unsigned* places, const unsigned* masks,  // as field_masks.cuh says
        const int* event_counts, int capacity,                               // at most 2^16
        const real* __restrict__ weights,  // [rows, C]
        Geometry g, int batch, int tiles, int width, int stretches, int stride, int staged, int room_bytes,
        real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, N], [B, N]
        unsigned long long* status,        // [B, 4]: spikes, silent, overflowing, non-finite
        int keeps_fields, int* __restrict__ fields, int* __restrict__ field_counts, int field_capacity, SpikeList<real> spikes) {
    extern __shared__ __align__(16) double shared_memory[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
    const int n_positions = g.post_x * g.post_y, n_post = n_positions * g.post_c, pitch = tiles * width;
    const int rows = g.pre_c * g.filter_x * g.filter_y;
    real* own_weights = reinterpret_cast<real*>(shared_memory);
    if (staged && pitch == g.post_c && ((size_t)weights & 15) == 0) {
        const int each = 16 / sizeof(real);  // pitch is a multiple of 4
        for (int k = threadIdx.x * each; k < rows * pitch; k += blockDim.x * each) copy_16_bytes(own_weights + k, weights + k);
        commit_copies();
    } else if (staged) {
        for (int row = warp; row < rows; row += n_warps) {
            for (int column = lane; column < pitch; column += 32) {
                if (column < g.post_c) copy_number(own_weights + row * pitch + column, weights + row * g.post_c + column);
                else own_weights[row * pitch + column] = 0;
            }
        }
        commit_copies();
    }
    start_after_previous();
    if (staged) {
        wait_for_copies();
        __syncthreads();
    }
    const long long n_units = (long long)batch * n_positions * tiles, index = (long long)blockIdx.x * n_warps + warp;
    if (index >= n_units) return;
    char* rooms = reinterpret_cast<char*>(own_weights + (staged ? rows * pitch : 0));
    const Chunk<real> chunk = chunk_at<real>(rooms + warp * room_bytes, width, stretches);
    const long long unit = index * stride % n_units, field = unit / tiles;
    const size_t s = field / n_positions;
    const int tile = unit % tiles, position = field % n_positions, channel = tile * width + lane;
    const bool valid = lane < width && channel < g.post_c;
    const int i = position * g.post_c + (valid ? channel : 0);
    const size_t first_slot = s * n_slots * n_post + i;
    const SpikeWriter<real> out = {tau, c, reset, t_max, n_slots, (size_t)n_post, times + first_slot, slopes + first_slot};
    const int px = position / g.post_y, py = position % g.post_y, n_masks = g.post_x + g.post_y;
    masks += s * ((capacity + 31) / 32) * n_masks;
    const int n_events = events_before(factors + s * capacity, event_counts[s], last_factor);
    const Input<real> input = {factors + s * capacity, places + s * capacity, n_events, masks + px, masks + g.post_x + py, n_masks};
    const Corner corner = {g, pack_place({px * g.stride_x, py * g.stride_y, 0})};
    keeps_fields = keeps_fields && tile == 0;
    int* list = keeps_fields ? fields + field * field_capacity : nullptr;
    Train<real> train = {0, 0, valid ? real(0) : Constants<real>::infinity(), 0, false};
    if (lane < width) chunk.carried_a[lane] = chunk.carried_b[lane] = 0;
    __syncwarp();
    int kept;
    if (staged) {
        const TileWeights<true, real> own = {own_weights, pitch, pitch - 1};
        kept = walk_field(chunk, input, corner, own, tile * width, last_factor, list, out, train);
    } else {
        const TileWeights<false, real> own = {weights, g.post_c, g.post_c - 1};
        kept = walk_field(chunk, input, corner, own, tile * width, last_factor, list, out, train);
    }
    if (keeps_fields && lane == 0) field_counts[field] = kept;
    finish_trains(out, train, valid, spikes, s, i * n_slots);
    if (valid) counts[s * n_post + i] = train.n;
    const Walk<real> walk = {valid ? chunk.carried_a[lane] : real(0), 0, train.n, train.overflow};
    add_status(status + s * 4, walk, valid);
}
