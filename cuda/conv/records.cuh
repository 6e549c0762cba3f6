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

// The event as the filter at a position sees it: x and y are filter elements, or lie outside the filter. corner: the packed place of channel 0
// at filter element (0, 0) of the position. What lies before it wraps to large numbers.
__device__ __forceinline__ Place place_in_field(unsigned packed, unsigned corner) { return unpack_place(packed - corner); }

__device__ __forceinline__ bool lies_inside(const Geometry& g, const Place& in_field) {
    return in_field.x < g.filter_x && in_field.y < g.filter_y;
}
