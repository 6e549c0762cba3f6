#pragma once
// Who is connected to whom in a convolution: post-neuron (px, py, c) sees pre-neuron (px * stride - padding + f, ..., ci).
// Neuron index: (ix * Y + iy) * C + ic. Weights in memory: row (ci * FY + fy) * FX + fx, a column per channel c.
// CPU twin: bats/cpu/conv_geometry.py.

struct Geometry {
    int pre_y, pre_c;        // grid of the pre-neurons (its X is not needed)
    int filter_x, filter_y;
    int post_x, post_y, post_c;
    int stride_x, stride_y, padding_x, padding_y;
};

struct Place {
    int x, y, c;  // x, y in the padded grid
};

__device__ __forceinline__ Place place_of(const Geometry& g, int pre_neuron) {
    const int position = pre_neuron / g.pre_c;
    return {position / g.pre_y + g.padding_x, position % g.pre_y + g.padding_y, pre_neuron % g.pre_c};
}

__device__ __forceinline__ int filter_row(const Geometry& g, int channel, int fx, int fy) {
    return (channel * g.filter_y + fy) * g.filter_x + fx;
}

// Row of the weights through which a pre-neuron reaches the post-neurons at (px, py); -1: it does not.
__device__ __forceinline__ int row_seen_from(const Geometry& g, int pre_neuron, int px, int py) {
    const Place place = place_of(g, pre_neuron);
    const int fx = place.x - px * g.stride_x, fy = place.y - py * g.stride_y;
    const bool inside = fx >= 0 && fx < g.filter_x && fy >= 0 && fy < g.filter_y;
    return inside ? filter_row(g, place.c, fx, fy) : -1;
}

// Positions first ... last along one axis whose receptive field holds `place`; none if last < first.
struct Positions {
    int first, last;
};

__device__ __forceinline__ Positions positions_seeing(int place, int n_filter, int stride, int n_post) {
    if (stride == 1) return {max(place - n_filter + 1, 0), min(place, n_post - 1)};
    return {place < n_filter ? 0 : (place - n_filter) / stride + 1, min(place / stride, n_post - 1)};
}

// First of the post-neurons that see a pre-neuron through filter element (fx, fy), one per channel; -1: none.
__device__ __forceinline__ int posts_through(const Geometry& g, const Place& place, int fx, int fy) {
    int px = place.x - fx, py = place.y - fy;
    if (px < 0 || py < 0) return -1;
    if (g.stride_x != 1 || g.stride_y != 1) {
        if (px % g.stride_x != 0 || py % g.stride_y != 0) return -1;
        px /= g.stride_x;
        py /= g.stride_y;
    }
    return px < g.post_x && py < g.post_y ? (px * g.post_y + py) * g.post_c : -1;
}
