#pragma once
// Which positions see which events, as bits. The masks of 32 events that follow one another are post_x + post_y words: a bit of word px
// says that the event lies in the columns that positions (px, any) see, a bit of word post_x + py the same of the rows. An event lies
// in the receptive field of (px, py) if both bits are set.
#include "common/block.cuh"
#include "conv/records.cuh"

// Where they go, [B, words, post_x + post_y]; null: nowhere.
struct FieldMasks {
    unsigned* masks;
    int words;  // of a sample: one for every 32 events of its list
    Geometry g;
};

// Bit e of lane k: whether `at` of lane e lies in places first ... first + n_filter - 1, where `first` grows by `stride` from k to
// k + 1. By a whole warp, for lanes k below n.
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

// Bit e of lane p becomes bit p of lane e.
__device__ __forceinline__ unsigned transpose_bits(unsigned bits) {
    const int lane = threadIdx.x & 31;
    unsigned low = 0x0000ffffu;  // bits whose number has no `distance` in it
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const unsigned other = __shfl_xor_sync(FULL_WARP, bits, distance);
        bits = lane & distance ? (bits & ~low) | (other & ~low) >> distance : (bits & low) | (other & low) << distance;
        low ^= low << (distance / 2);
    }
    return bits;
}

// Bits first ... last; none if last < first. last <= 31.
__device__ __forceinline__ unsigned bits_between(const Positions& between) {
    return between.last < between.first ? 0u : (2u << between.last) - (1u << between.first);
}

// The masks of 32 events, a lane each, that are number `word` in the list of sample s. By a whole warp.
__device__ __forceinline__ void write_masks(const FieldMasks& to, size_t s, int word, bool exists, unsigned packed) {
    const Geometry& g = to.g;
    const int lane = threadIdx.x & 31, n = g.post_x + g.post_y, nowhere = -1 << 30;
    const Place at = unpack_place(packed);
    unsigned* masks = to.masks + (s * to.words + word) * n;
    if (n <= 32) {
        const unsigned x = bits_between(positions_seeing(at.x, g.filter_x, g.stride_x, g.post_x));
        const unsigned y = bits_between(positions_seeing(at.y, g.filter_y, g.stride_y, g.post_y));
        const unsigned mine = transpose_bits(exists ? x | y << g.post_x : 0u);
        if (lane < n) masks[lane] = mine;
        return;
    }
    const auto write = [&](unsigned* own, int place, int n_filter, int stride, int n_post) {
        for (int base = 0; base < n_post; base += 32) {
            const int n_here = min(32, n_post - base);
            const unsigned mine = bits_inside(exists ? place : nowhere, base * stride, n_filter, stride, n_here);
            if (lane < n_here) own[base + lane] = mine;
        }
    };
    write(masks, at.x, g.filter_x, g.stride_x, g.post_x);
    write(masks + g.post_x, at.y, g.filter_y, g.stride_y, g.post_y);
}
