#pragma once
// Winners as the largest of 64-bit keys, so that every order of comparison gives the same ones.
//
// Key of a neuron that fires: 255 - bin (8 bits), potential (32), 2^24 - 1 - flat index (24); 0 for a silent one.
// Larger is earlier, then stronger, then lower in (feature, row, column). Positive floats compare like their bits.
// In the rounded rule a survivor's key becomes score (32 bits), 2^24 - 1 - flat index (24), bin (8).

#include "stdp/window.cuh"

constexpr winner_key LAST = 0xffffffull;

__device__ __forceinline__ winner_key pack(int bin, float potential, int flat) {
    return potential > 0 ? (winner_key)(255 - bin) << 56 | (winner_key)__float_as_uint(potential) << 24 | (LAST - flat) : 0;
}

__device__ __forceinline__ float key_potential(winner_key key) { return __uint_as_float((unsigned)(key >> 24)); }

struct Winner {
    int feature, row, column, bin;
};

__device__ __forceinline__ Winner unpack(winner_key key, bool rounded, int n_places, int out_width) {
    const int flat = (int)(LAST - (rounded ? key >> 8 & LAST : key & LAST)), place = flat % n_places;
    return {flat / n_places, place / out_width, place % out_width, rounded ? (int)(key & 255) : 255 - (int)(key >> 56)};
}

__device__ __forceinline__ winner_key warp_max(winner_key key) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const winner_key other = __shfl_xor_sync(FULL_WARP, key, distance);
        key = other > key ? other : key;
    }
    return key;
}

// Largest key of the block, for all its threads; scratch [32].
__device__ __forceinline__ winner_key block_max(winner_key key, winner_key* scratch) {
    key = warp_max(key);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = key;
    __syncthreads();
    const int lane = threadIdx.x & 31;
    return warp_max(lane < (blockDim.x >> 5) ? scratch[lane] : 0);
}

// keys [n_places] (the survivors of point-wise inhibition; used up) -> winners [k] in order; feature -1 where there are fewer.
__device__ void choose_winners(
    winner_key* keys, int n_places, int out_width, int n_bins, int k, int radius, bool rounded, Winner* winners, winner_key* scratch
) {
    if (rounded) {
        winner_key strongest = 0;
        for (int p = threadIdx.x; p < n_places; p += blockDim.x) {
            const winner_key bits = keys[p] ? keys[p] >> 24 & 0xffffffffull : 0;
            strongest = bits > strongest ? bits : strongest;
        }
        strongest = block_max(strongest, scratch);
        const float shift = __fmul_rn((float)n_bins, __uint_as_float((unsigned)strongest));
        for (int p = threadIdx.x; p < n_places; p += blockDim.x) {
            const winner_key key = keys[p];
            const int bin = 255 - (int)(key >> 56);
            const float score = __fmul_rn((float)(n_bins - bin), __fadd_rn(key_potential(key), shift));
            keys[p] = key ? (winner_key)__float_as_uint(score) << 32 | (key & LAST) << 8 | (winner_key)bin : 0;
        }
    }
    Winner last = {-1, 0, 0, 0};
    for (int j = 0; j < k; ++j) {
        winner_key best = 0;
        for (int p = threadIdx.x; p < n_places; p += blockDim.x) {  // each thread reads and clears only its own places
            winner_key key = keys[p];
            if (key && last.feature >= 0) {
                const Winner mine = unpack(key, rounded, n_places, out_width);
                const bool near = radius > 0 && abs(mine.row - last.row) <= radius && abs(mine.column - last.column) <= radius;
                if (near || mine.feature == last.feature) keys[p] = key = 0;
            }
            best = key > best ? key : best;
        }
        best = block_max(best, scratch);
        last = unpack(best, rounded, n_places, out_width);
        if (!best) last.feature = -1;
        if (threadIdx.x == 0) winners[j] = last;
        if (!best) {
            for (int rest = j + 1 + threadIdx.x; rest < k; rest += blockDim.x) winners[rest].feature = -1;
            break;
        }
    }
    __syncthreads();
}

// w + delta g(w), g = (w - low)(high - w) with the stabilizer, within [low, high]; rounded after every operation, as on the CPU.
// A weight below 2^-100 becomes 0: before products underflow, which devices treat differently.
constexpr double SMALLEST = 7.888609052210118e-31;

__device__ __forceinline__ float changed(float w, float delta, bool stabilizer, float low, float high) {
    if (stabilizer) delta = __fmul_rn(delta, __fmul_rn(__fadd_rn(w, -low), __fadd_rn(high, -w)));
    w = __fadd_rn(w, delta);
    return fminf(fmaxf(fabsf(w) >= (float)SMALLEST ? w : 0.f, low), high);
}

__device__ __forceinline__ double changed(double w, double delta, bool stabilizer, double low, double high) {
    if (stabilizer) delta = __dmul_rn(delta, __dmul_rn(__dadd_rn(w, -low), __dadd_rn(high, -w)));
    w = __dadd_rn(w, delta);
    return fmin(fmax(fabs(w) >= SMALLEST ? w : 0., low), high);
}
