#pragma once
// What the fast forward and backward passes share (conv_forward.cu, dense_forward.cu, layer_backward.cu). All times lie before
// L = 8 tau, so one origin serves all: a spike is known by its factor q = e^{t / tau}, and "later" is a comparison of factors.
#include "common/bounded_factor.cuh"
#include "conv/geometry.cuh"

// Where an event happens, in one word: x and y in the padded grid below 2^10 each, channel below 2^12.
__device__ __forceinline__ unsigned pack_place(const Place& place) {
    return (unsigned)place.c << 20 | (unsigned)place.y << 10 | (unsigned)place.x;
}

__device__ __forceinline__ Place unpack_place(unsigned packed) {
    return {(int)(packed & 1023), (int)(packed >> 10 & 1023), (int)(packed >> 20)};
}

// Row of the weights through which the event reaches position (px, py); -1: it does not.
__device__ __forceinline__ int row_from(const Geometry& g, unsigned packed, int px, int py) {
    const Place place = unpack_place(packed);
    const int fx = place.x - px * g.stride_x, fy = place.y - py * g.stride_y;
    const bool inside = (unsigned)fx < (unsigned)g.filter_x && (unsigned)fy < (unsigned)g.filter_y;
    return inside ? filter_row(g, place.c, fx, fy) : -1;
}
