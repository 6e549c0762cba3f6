// Forward pass of a convolutional layer whose receptive fields hold many events, for times before one origin's reach (t_max <= 8 tau);
// conv_forward.cu is the variant for few.
//
// A warp owns one position of one sample and up to 32 of its channels (a tile); the warps of a block share the weights, in shared memory if
// they fit. A warp collects the events of its receptive field in order and works them off in chunks. Sums without resets do not
// depend on spikes (lif/interval.cuh): a lane adds up four channels over one stretch of the chunk, and keeps the sums at the start of every
// LIST events and the greatest distance to the limit among them. With the sums of the stretches before, these distances say in which
// lists a channel may spike; then a lane per channel goes through its own lists.
#include "common/async_copy.cuh"
#include "common/block.cuh"
#include "conv/records.cuh"
#include "fused/dependent_launch.cuh"
#include "lif/event.cuh"
#include "lif/interval.cuh"

// Events of a list, lists of a stretch at most. LIST is odd: lanes that read records of several stretches at once meet different banks.
constexpr int LIST = 9, LISTS = 3;
constexpr int AHEAD = 2, INCOMING = 32 * AHEAD;  // events of the sample looked at together
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
    Interval<real>* intervals;              // [stretches LISTS LIST + INCOMING]: of the events that wait; until their chunk is begun, `limit`
                                            // is the event's index
    real *a, *b;                            // [stretches LISTS, width]: sums within the stretch before every list; at the stretch's first,
                                            // where they are 0, the sums over all events before the stretch
    real* distance;                         // [stretches LISTS, width]: what the resets must not exceed for a spike in the list
    real *carried_a, *carried_b, *fall;     // [width]: sums over all events before the chunk; resets
    unsigned* lists;                        // [width]: a bit for every list in which the channel may spike
    int width, stretches;
};

template <typename real>
__device__ __forceinline__ Chunk<real> chunk_at(char* memory, int width, int stretches) {
    Chunk<real> chunk;
    chunk.intervals = reinterpret_cast<Interval<real>*>(memory);
    chunk.a = reinterpret_cast<real*>(chunk.intervals + stretches * LISTS * LIST + INCOMING);
    chunk.b = chunk.a + stretches * LISTS * width;
    chunk.distance = chunk.b + stretches * LISTS * width;
    chunk.carried_a = chunk.distance + stretches * LISTS * width;
    chunk.carried_b = chunk.carried_a + width;
    chunk.fall = chunk.carried_b + width;
    chunk.lists = reinterpret_cast<unsigned*>(chunk.fall + width);
    chunk.width = width;
    chunk.stretches = stretches;
    return chunk;
}

// An index in the place of a number.
__device__ __forceinline__ float as_number(int index, float) { return __int_as_float(index); }
__device__ __forceinline__ double as_number(int index, double) { return __longlong_as_double(index); }
__device__ __forceinline__ int as_index(float number) { return __float_as_int(number); }
__device__ __forceinline__ int as_index(double number) { return (int)__double_as_longlong(number); }

template <typename real>
__device__ __forceinline__ Four<real>& four_at(real* values) {
    return *reinterpret_cast<Four<real>*>(values);
}

// Sums of the first n events that wait, and the lists in which channels may spike. e_end: factor of the event that follows; field: where
// the indices of the events go, or null. Returns lists per stretch.
template <bool STAGED, typename real>
__device__ __forceinline__ int add_up(const Chunk<real>& chunk, int n, real e_end, const TileWeights<STAGED, real>& weights,
                                      int first_column, real c, real own_fall, int* field) {
    const int lane = threadIdx.x & 31, groups = chunk.width / 4, width = chunk.width;
    const bool works = lane < groups * chunk.stretches;  // the others do the same as the last one, and keep it to themselves
    const int worker = min(lane, groups * chunk.stretches - 1), stretch = worker / groups, column = worker % groups * 4;
    const int per = ((n + LIST - 1) / LIST + chunk.stretches - 1) / chunk.stretches;
    for (int k = lane; k < chunk.stretches * per * LIST; k += 32) {
        Interval<real>& interval = chunk.intervals[k];
        if (k < n) {
            const Interval<real> made = make_interval(interval.e, k + 1 < n ? chunk.intervals[k + 1].e : e_end, 0, c);
            if (field) field[k] = as_index(interval.limit);
            interval.y_low = made.y_low;
            interval.limit = made.limit;
        } else {
            interval = no_interval<real>(0);
        }
    }
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

    const auto y_at = [&](int k) { return 1 / (k < n ? chunk.intervals[k].e : e_end); };
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
    return per;
}

// A lane's channel, in column `column`, goes through the lists in which it may spike; per: lists of a stretch.
template <bool STAGED, typename real>
__device__ __forceinline__ void search(const Chunk<real>& chunk, unsigned lists, int per, const TileWeights<STAGED, real>& weights,
                                       int column, const SpikeWriter<real>& out, Train<real>& train) {
    const int lane = threadIdx.x & 31, inverse = (256 + per - 1) / per;  // list / per == list * inverse >> 8 for lists below 32
    int from = 0;  // events of the list before it are done with
    while (true) {
        while (lists && chunk.distance[(__ffs(lists) - 1) * chunk.width + lane] < train.fall) {  // the resets have grown since
            lists &= lists - 1;
            from = 0;
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

template <typename real>
struct Input {
    const real* factors;
    const unsigned* places;  // of the sample
    int n_events;
};

// A warp's walk through the events of its field. field: where their indices go, or null. Returns how many there are.
template <bool STAGED, typename real>
__device__ __forceinline__ int walk_field(const Chunk<real>& chunk, const Input<real>& input, const Geometry& g, int px, int py,
                                          const TileWeights<STAGED, real>& weights, int first_column, real last_factor, int* field,
                                          const SpikeWriter<real>& out, Train<real>& train) {
    const int lane = threadIdx.x & 31, most = chunk.stretches * LISTS * LIST;
    const unsigned corner = pack_place({px * g.stride_x, py * g.stride_y, 0}), earlier_lanes = (1u << lane) - 1;
    const real* factors = input.factors + lane;
    const unsigned* places = input.places + lane;
    real ahead_e[AHEAD];  // 0: no event
    unsigned ahead_place[AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) {
        ahead_e[u] = 32 * u + lane < input.n_events ? factors[32 * u] : real(0);
        ahead_place[u] = 32 * u + lane < input.n_events ? places[32 * u] : 0;
    }
    int queued = 0, kept = 0, event = lane;  // kept: events of the field that are done with
    for (int left = input.n_events; left > 0; left -= INCOMING) {
        factors += INCOMING;
        places += INCOMING;
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const real e = ahead_e[u];
            const Place at = place_in_field(ahead_place[u], corner);
            const bool mine = e > 0 && lies_inside(g, at);
            if (INCOMING + 32 * u + lane < left) {
                ahead_e[u] = factors[32 * u];
                ahead_place[u] = places[32 * u];
            } else {
                ahead_e[u] = 0;
            }
            const unsigned inside = __ballot_sync(FULL_WARP, mine);
            const int rank = __popc(inside & earlier_lanes);
            if (mine) {
                chunk.intervals[queued + rank] = {e, 0, as_number(event + 32 * u, e), filter_row(g, at.c, at.x, at.y) * weights.pitch};
            }
            queued += __popc(inside);
        }
        event += INCOMING;
        __syncwarp();
        const bool last = left <= INCOMING;
        while (queued > most || (last && queued > 0)) {  // the event after a chunk must be known
            const int n = min(queued, most);
            const int per = add_up(chunk, n, n < queued ? chunk.intervals[n].e : last_factor, weights, first_column, out.c, train.fall,
                                   field ? field + kept : nullptr);
            kept += n;
            search(chunk, lane < chunk.width ? chunk.lists[lane] : 0, per, weights, first_column + lane, out, train);
            __syncwarp();
            // What is left, at most INCOMING, moves to the front.
            queued -= n;
            Interval<real> rest[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                if (32 * u + lane < queued) rest[u] = chunk.intervals[n + 32 * u + lane];
            }
            __syncwarp();
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                if (32 * u + lane < queued) chunk.intervals[32 * u + lane] = rest[u];
            }
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
        const real* factors, const unsigned* places, const int* event_counts, int capacity,
        const real* __restrict__ weights,  // [rows, C]
        Geometry g, int batch, int tiles, int width, int stretches, int stride, int staged, int room_bytes,
        real tau, real c, real reset, real t_max, real last_factor, int n_slots,
        real* __restrict__ times, int* __restrict__ counts, real* __restrict__ slopes,  // [B, n_slots, N], [B, N]
        unsigned long long* status,        // [B, 4]: spikes, silent, overflowing, non-finite
        int keeps_fields, int* __restrict__ fields, int* __restrict__ field_counts, int field_capacity) {
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
    const Input<real> input = {factors + s * capacity, places + s * capacity,
                               events_before(factors + s * capacity, event_counts[s], last_factor)};
    keeps_fields = keeps_fields && tile == 0;
    int* list = keeps_fields ? fields + field * field_capacity : nullptr;
    Train<real> train = {0, 0, valid ? real(0) : Constants<real>::infinity(), 0, false};
    if (lane < width) chunk.carried_a[lane] = chunk.carried_b[lane] = 0;
    __syncwarp();
    const int px = position / g.post_y, py = position % g.post_y;
    int kept;
    if (staged) {
        const TileWeights<true, real> own = {own_weights, pitch, pitch - 1};
        kept = walk_field(chunk, input, g, px, py, own, tile * width, last_factor, list, out, train);
    } else {
        const TileWeights<false, real> own = {weights, g.post_c, g.post_c - 1};
        kept = walk_field(chunk, input, g, px, py, own, tile * width, last_factor, list, out, train);
    }
    if (keeps_fields && lane == 0) field_counts[field] = kept;
    if (valid) {
        finish_train(out, train);
        counts[s * n_post + i] = train.n;
    }
    const Walk<real> walk = {valid ? chunk.carried_a[lane] : real(0), 0, train.n, train.overflow};
    add_status(status + s * 4, walk, valid);
}
