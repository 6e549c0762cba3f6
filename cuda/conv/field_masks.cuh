#pragma once
// Which positions see which events, as bits. The masks of 32 events that follow one another are post_x + post_y words: a bit of word px says
// that the event lies in the columns that positions (px, any) see, a bit of word post_x + py the same of the rows. An event lies in
// the receptive field of (px, py) if both bits are set.
#include "common/block.cuh"
#include "conv/records.cuh"

// Where they go, [B, words, post_x + post_y]; null: nowhere.
struct FieldMasks {
    unsigned* masks;
    int words;  // of a sample: one for every 32 events of its list
    Geometry g;
};

// Bit k of the lanes' masks says whether lane k's `at` lies in places first ... first + n_filter - 1, where `first` grows by `stride` from lane to
// lane. By a whole warp, for lanes below n.
__device__ __forceinline__ unsigned bits_inside(int at, int first, unsigned n_filter, int stride, int n) {
    const int lane = threadIdx.x & 31;
    unsigned mine = 0;
    int inside = at - first;
#pragma unroll 4
    for (int k = 0; k < n; ++k, inside -= stride) {
        const unsigned seen = __ballot_sync(FULL_WARP, (unsigned)inside < n_filter);
        if (lane == k) mine = seen;
    }
    return mine;
}

// The masks of 32 events, a lane each, that are number `word` in the list of sample s. By a whole warp.
__device__ __forceinline__ void write_masks(const FieldMasks& to, size_t s, int word, bool exists, unsigned packed) {
    const Geometry& g = to.g;
    const int lane = threadIdx.x & 31, nowhere = -1 << 30;
    const Place at = unpack_place(packed);
    unsigned* masks = to.masks + (s * to.words + word) * (g.post_x + g.post_y);
    const auto write = [&](unsigned* own, int place, int n_filter, int stride, int n_post) {
        for (int base = 0; base < n_post; base += 32) {
            const int n = min(32, n_post - base);
            const unsigned mine = bits_inside(exists ? place : nowhere, base * stride, n_filter, stride, n);
            if (lane < n) own[base + lane] = mine;
        }
    };
    write(masks, at.x, g.filter_x, g.stride_x, g.post_x);
    write(masks + g.post_x, at.y, g.filter_y, g.stride_y, g.post_y);
}
