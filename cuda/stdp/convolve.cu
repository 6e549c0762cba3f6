// Forward pass of a batch: block (group of places, image) computes all features there, with the weights in global memory
// (features last, so that neighbouring threads read neighbouring weights).

#include "stdp/window.cuh"

// images [n, image_size], by_input [size, n_features] -> latencies, potentials [n, n_features, n_places]
template <typename real>
__global__ void convolve(
    const byte* images, const real* by_input, const int* offsets, int image_size, int width, int out_width, int n_places, int size,
    int n_features, int n_bins, int chunk, int parts, real threshold, int group_size, byte* latencies, real* potentials
) {
    extern __shared__ int room[];
    const Window window = {offsets, size, width, out_width, n_bins, chunk, parts};
    const int first = blockIdx.x * group_size, places = min(group_size, n_places - first);
    int* starts = room;
    int* ends = starts + group_size * window.n_lists();
    int* cursors = ends + group_size * window.n_lists();
    index_t* lists = (index_t*)(cursors + (chunk ? 0 : group_size * n_bins * parts));
    const size_t base = (size_t)blockIdx.y * n_features * n_places;

    build_lists(window, images + (size_t)blockIdx.y * image_size, first, places, lists, starts, ends, cursors);
    for (int item = threadIdx.x; item < places * n_features; item += blockDim.x) {
        const int f = item % n_features, place = item / n_features;
        const int* begin = starts + place * window.n_lists();
        const int* end = ends + place * window.n_lists();
        const index_t* list = lists + place * size;
        real potential = 0;
        int bin = n_bins;
        if (chunk) {
            for (int c = 0; c < CHUNKS; ++c) potential += add_list(real(0), list, begin[c], end[c], by_input + f, n_features);
            bin = potential > 0 ? n_bins - 1 : n_bins;
        } else {
            bin = first_crossing(list, begin, end, by_input + f, n_features, threshold, n_bins, &potential);
        }
        latencies[base + (size_t)f * n_places + first + place] = bin;
        potentials[base + (size_t)f * n_places + first + place] = potential;
    }
}
