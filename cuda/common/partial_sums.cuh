#pragma once
// Sums of what several blocks have left, in the blocks' order: sum[w] = partial[0][w] + partial[1][w] + ... for blocks of 256 threads.

constexpr int SHARED_FROM = 17;  // sums from which eight threads share a number

__device__ __forceinline__ int sums_per_block(int n_partial) { return n_partial < SHARED_FROM ? 256 : 32; }

// The number of this thread, of those that are `block`'s; negative where it has none (but may help with another).
__device__ __forceinline__ long long own_sum(int n_partial, long long size, long long block) {
    const bool shared = n_partial >= SHARED_FROM;
    const long long w = block * sums_per_block(n_partial) + (shared ? threadIdx.x & 31 : threadIdx.x);
    return w < size && (!shared || threadIdx.x < 32) ? w : -1;
}

// Its sum; by all threads of the block. partial [n_partial, size].
template <typename real>
__device__ __forceinline__ real sum_partial(const real* partial, int n_partial, long long size, long long block) {
    __shared__ real sums[8][33];
    real sum = 0;
    if (n_partial < SHARED_FROM) {
        const long long w = own_sum(n_partial, size, block);
        if (w < 0) return sum;
#pragma unroll 8
        for (int p = 0; p < n_partial; ++p) sum += partial[p * size + w];
        return sum;
    }
    const int column = threadIdx.x & 31, part = threadIdx.x >> 5;
    const long long w = block * 32 + column;
    if (w < size) {
#pragma unroll 8
        for (int p = part; p < n_partial; p += 8) sum += partial[p * size + w];
    }
    sums[part][column] = sum;
    __syncthreads();
    if (part == 0) {
        for (int p = 1; p < 8; ++p) sum += sums[p][column];
    }
    return sum;
}
