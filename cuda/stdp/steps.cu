// Single steps of a layer, for compositions: point-wise inhibition, winners of a batch, the update of one image.

#include "stdp/winners.cuh"

// latencies, potentials [n, n_features, n_places] -> the same with the losers silent; thread per (image, place).
template <typename real>
__global__ void inhibit(
    const byte* latencies, const real* potentials, int n_features, int n_places, int n_bins, byte* out_latencies, real* out_potentials
) {
    const int p = blockIdx.y * blockDim.x + threadIdx.x;
    if (p >= n_places) return;
    const size_t base = (size_t)blockIdx.x * n_features * n_places + p;
    winner_key best = 0;
    for (int f = 0; f < n_features; ++f) {
        const size_t at = base + (size_t)f * n_places;
        const winner_key key = pack(latencies[at], potentials[at], f);
        best = key > best ? key : best;
    }
    const int winner = best ? (int)(LAST - (best & LAST)) : -1;
    for (int f = 0; f < n_features; ++f) {
        const size_t at = base + (size_t)f * n_places;
        out_latencies[at] = f == winner ? latencies[at] : n_bins;
        out_potentials[at] = f == winner ? potentials[at] : real(0);
    }
}

// latencies, potentials [n, n_features, height, width] -> out [n, k, 3]; block per image, k at most 64.
template <typename real>
__global__ void winners(
    const byte* latencies, const real* potentials, int n_features, int height, int width, int n_bins, int k, int radius, int rounded,
    int* out
) {
    extern __shared__ winner_key keys[];
    __shared__ winner_key scratch[32];
    __shared__ Winner chosen[64];
    const int n_places = height * width;
    const size_t base = (size_t)blockIdx.x * n_features * n_places;
    for (int p = threadIdx.x; p < n_places; p += blockDim.x) {
        winner_key best = 0;
        for (int f = 0; f < n_features; ++f) {
            const int flat = f * n_places + p;
            const winner_key key = pack(latencies[base + flat], potentials[base + flat], flat);
            best = key > best ? key : best;
        }
        keys[p] = best;
    }
    __syncthreads();
    choose_winners(keys, n_places, width, n_bins, k, radius, rounded, chosen, scratch);
    for (int j = threadIdx.x; j < k; j += blockDim.x) {
        const bool there = chosen[j].feature >= 0;
        int* row = out + ((size_t)blockIdx.x * k + j) * 3;
        row[0] = chosen[j].feature;
        row[1] = there ? chosen[j].row : -1;
        row[2] = there ? chosen[j].column : -1;
    }
}

// weights [n_features, size], image [channels, height, width], chosen [k, 3], latencies [n_features, rows, columns]; block per feature.
template <typename real>
__global__ void update(
    real* weights, const byte* image, const int* chosen, const byte* latencies, const real* rates, const int* outcome, int n_features,
    int channels, int kernel_height, int kernel_width, int height, int width, int k, int stabilizer, real low, real high
) {
    const int f = blockIdx.x, kind = outcome[0], size = channels * kernel_height * kernel_width;
    if (kind < 0) return;
    const int columns = width - kernel_width + 1, rows = height - kernel_height + 1;
    int row = -1, column = -1, bin = 0;
    for (int j = 0; j < k; ++j) {
        if (chosen[3 * j] != f) continue;
        row = chosen[3 * j + 1];
        column = chosen[3 * j + 2];
        bin = latencies[(f * rows + row) * columns + column];
    }
    for (int input = threadIdx.x; input < size; input += blockDim.x) {
        real w = weights[(size_t)f * size + input];
        if (row >= 0) {
            const int dx = input % kernel_width, dy = input / kernel_width % kernel_height, c = input / (kernel_width * kernel_height);
            const bool before = image[(c * height + row + dy) * width + column + dx] <= bin;
            w = changed(w, rates[2 * kind + (before ? 0 : 1)], stabilizer, low, high);
        }
        weights[(size_t)f * size + input] = min(max(w, low), high);
    }
}
