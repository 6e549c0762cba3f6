// The online loop of a layer: one launch for many images, each of which sees the weights that the previous one left.
//
// The weights live in the blocks' shared memory: block (part, group) owns a private copy of the features of its part, and computes
// them at the places of its group. Per image: potentials -> each place's best key -> one barrier of the whole grid -> every block
// finds the same winners from all keys and updates its own copy. So an image costs one barrier, and no weight leaves the chip.
// Lists of the next image's inputs do not depend on weights: they are built while other blocks arrive at the barrier.
// A place's keys of the image after next overwrite this one's only after all have arrived twice: two buffers are enough.

#include "stdp/winners.cuh"

constexpr int AHEAD = 4;  // reads of memory that a thread issues before it uses the first

__device__ __forceinline__ void arrive(unsigned* barrier) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(barrier, 1u);
    }
}

__device__ __forceinline__ void wait(unsigned* barrier, unsigned target) {
    if (threadIdx.x == 0) {
        while (*(volatile unsigned*)barrier < target) {
        }
        __threadfence();
    }
    __syncthreads();
}

// images [N, image_size], order, labels [n], by_input [size, n_features] (read at the start, written at the end)
// keys [2, n_parts, n_places], barrier [1] = 0, winners [n, k, 3]; weight_scratch and list_scratch: null, or room for all blocks
template <typename real>
__global__ void __launch_bounds__(512) learn(
    const byte* images, const int* order, const int* labels, int n, real* by_input, const int* offsets, int image_size, int width,
    int out_width, int n_places, int size, int n_features, int n_bins, int chunk, real threshold, int n_parts, int part_size, int n_groups,
    int group_size, int lanes, int parts, int k, int radius, int rounded, real ltp, real ltd, real punish_ltp, real punish_ltd,
    int stabilizer, real low, real high, int doubling, int counter, real max_rate, int per_class, winner_key* keys, unsigned* barrier,
    int* winners, real* weight_scratch, index_t* list_scratch
) {
    extern __shared__ winner_key shared[];
    __shared__ winner_key scratch[32];
    const Window window = {offsets, size, width, out_width, n_bins, chunk, parts};
    const int part = blockIdx.x % n_parts, group = blockIdx.x / n_parts;
    const int first_feature = part * part_size, mine = min(part_size, n_features - first_feature);
    const int first_place = group * group_size, places = max(0, min(group_size, n_places - first_place));
    winner_key* best_keys = shared;                                // [group_size]
    winner_key* survivors = best_keys + group_size;                // [n_places]
    Winner* chosen = (Winner*)(survivors + n_places);         // [k]
    int* starts = (int*)(chosen + k);                         // [group_size, n_lists]
    int* ends = starts + group_size * window.n_lists();       // [group_size, n_lists]
    int* cursors = ends + group_size * window.n_lists();      // [group_size, n_bins, parts] or, without a threshold, nothing
    real* sums = (real*)(cursors + (chunk ? 0 : group_size * n_bins * parts));  // [CHUNKS, group_size, part_size] or nothing
    real* after = sums + (chunk ? CHUNKS * group_size * part_size : 0);
    real* weights = weight_scratch ? weight_scratch + (size_t)blockIdx.x * size * part_size : after;  // [size, part_size]
    index_t* lists = list_scratch ? list_scratch + (size_t)blockIdx.x * group_size * size
                                  : (index_t*)(after + (weight_scratch ? 0 : size * part_size));  // [group_size, size]

    for (int i = threadIdx.x; i < size * mine; i += blockDim.x)
        weights[i / mine * part_size + i % mine] = by_input[(size_t)(i / mine) * n_features + first_feature + i % mine];
    int next = n > 0 ? order[0] : 0;
    if (n > 0) build_lists(window, images + (size_t)next * image_size, first_place, places, lists, starts, ends, cursors);
    bool clamped = false;
    for (int i = 0; i < n; ++i) {
        const byte* image = images + (size_t)next * image_size;
        next = i + 1 < n ? order[i + 1] : 0;  // read long before its use
        const int label = per_class ? labels[i] : 0;
        winner_key* all_keys = keys + (size_t)(i & 1) * n_parts * n_places;
        for (int p = threadIdx.x; p < places; p += blockDim.x) best_keys[p] = 0;
        __syncthreads();
        if (chunk) {
            const int n_sums = CHUNKS * places * mine, per_chunk = places * mine;
            for (int item = threadIdx.x; item < n_sums; item += blockDim.x) {
                const int f = item % mine, place = item / mine % places, task = place * CHUNKS + item / per_chunk;
                sums[item] = add_list(real(0), lists + place * size, starts[task], ends[task], weights + f, part_size);
            }
            __syncthreads();
            for (int item = threadIdx.x; item < per_chunk; item += blockDim.x) {
                real potential = 0;
                for (int c = 0; c < CHUNKS; ++c) potential += sums[c * per_chunk + item];
                const int place = item / mine, flat = (first_feature + item % mine) * n_places + first_place + place;
                atomicMax(best_keys + place, pack(n_bins - 1, potential, flat));
            }
        } else {
            for (int item = threadIdx.x; item < places * lanes; item += blockDim.x) {  // lanes is a multiple of 32: a warp, a place
                const int f = item % lanes, place = item / lanes;
                winner_key key = 0;
                if (f < mine) {
                    real potential;
                    const int* begin = starts + place * n_bins;
                    const int* end = ends + place * n_bins;
                    const int bin = first_crossing(
                        lists + place * size, begin, end, weights + f, part_size, threshold, n_bins, &potential);
                    key = pack(bin, potential, (first_feature + f) * n_places + first_place + place);
                }
                key = warp_max(key);
                if ((threadIdx.x & 31) == 0) atomicMax(best_keys + place, key);
            }
        }
        __syncthreads();
        for (int p = threadIdx.x; p < places; p += blockDim.x) __stcg(all_keys + part * n_places + first_place + p, best_keys[p]);
        arrive(barrier);
        if (i + 1 < n)
            build_lists(window, images + (size_t)next * image_size, first_place, places, lists, starts, ends, cursors);
        wait(barrier, (unsigned)(i + 1) * gridDim.x);

        if (k == 1 && !rounded) {  // one winner: the largest of all keys
            winner_key best = 0;
            for (int j = threadIdx.x; j < n_parts * n_places; j += blockDim.x) {
                const winner_key key = __ldcg(all_keys + j);
                best = key > best ? key : best;
            }
            best = block_max(best, scratch);
            if (threadIdx.x == 0) {
                chosen[0] = unpack(best, false, n_places, out_width);
                if (!best) chosen[0].feature = -1;
            }
            __syncthreads();
        } else {
            for (int p = threadIdx.x; p < n_places; p += blockDim.x) {
                winner_key best = 0;
                for (int s = 0; s < n_parts; ++s) {
                    const winner_key key = __ldcg(all_keys + s * n_places + p);
                    best = key > best ? key : best;
                }
                survivors[p] = best;
            }
            choose_winners(survivors, n_places, out_width, n_bins, k, radius, rounded, chosen, scratch);
        }
        if (doubling && ++counter >= doubling) {
            counter = 0;
            ltp = min(real(2) * ltp, max_rate);
            ltd = real(-0.75) * ltp;
        }
        if (blockIdx.x == 0) {
            for (int j = threadIdx.x; j < k; j += blockDim.x) {
                const Winner winner = chosen[j];
                int* row = winners + ((size_t)i * k + j) * 3;
                row[0] = winner.feature;
                row[1] = winner.feature < 0 ? -1 : winner.row;
                row[2] = winner.feature < 0 ? -1 : winner.column;
            }
        }
        if (per_class && chosen[0].feature < 0) continue;  // the same in every thread
        const bool wrong = per_class && chosen[0].feature / per_class != label;
        const real up = wrong ? punish_ltp : ltp, down = wrong ? punish_ltd : ltd;
        bool concerned = false;
        for (int j = 0; j < k; ++j) concerned |= chosen[j].feature >= first_feature && chosen[j].feature < first_feature + mine;
        for (int item0 = threadIdx.x; concerned && item0 < k * size; item0 += AHEAD * blockDim.x) {
            int at[AHEAD], input[AHEAD], feature[AHEAD], bin[AHEAD];  // feature -1: not one of this part
            byte seen[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                const int item = item0 + u * blockDim.x, j = min(item / size, k - 1);
                const Winner winner = chosen[j];
                const int f = winner.feature - first_feature;
                input[u] = min(item - j * size, size - 1);
                feature[u] = item < k * size && winner.feature >= 0 && f >= 0 && f < mine ? f : -1;
                bin[u] = winner.bin;
                at[u] = feature[u] < 0 ? 0 : offsets[input[u]] + winner.row * width + winner.column;
            }
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) seen[u] = image[at[u]];
#pragma unroll
            for (int u = 0; u < AHEAD; ++u) {
                if (feature[u] < 0) continue;
                real* w = weights + (size_t)input[u] * part_size + feature[u];
                *w = changed(*w, seen[u] <= bin[u] ? up : down, stabilizer, low, high);
            }
        }
        if (!clamped) {  // from the first update on, all weights are within the bounds
            __syncthreads();
            for (int j = threadIdx.x; j < size * part_size; j += blockDim.x)
                if (j % part_size < mine) weights[j] = min(max(weights[j], low), high);
            clamped = true;
        }
    }
    __syncthreads();
    if (group == 0)
        for (int i = threadIdx.x; i < size * mine; i += blockDim.x)
            by_input[(size_t)(i / mine) * n_features + first_feature + i % mine] = weights[i / mine * part_size + i % mine];
}
