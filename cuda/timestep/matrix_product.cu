// Matrix products over all time steps at once, C = scale A B, in tiles: the plain way, for any precision and architecture.
// float32 takes cuda/timestep/split_product.cu where the device has bfloat16 tensor cores.
//
// A block computes 64 x 64 results; each of its 256 threads 4 x 4 of them, from tiles of 16 terms in shared memory. A product
// with few results and many terms is cut into parts (blockIdx.z), which add_parts adds in order: the same bits every time.

constexpr int SIDE = 64, TERMS = 16, OWN = 4;

// A [M, K], or a holds its transpose [K, M]; B [K, N], or b holds its transpose [N, K]; out [parts, M, N].
// blocks (ceil(M / 64), ceil(N / 64), parts), 256 threads; part p sums the terms p * length ... (p + 1) * length - 1.
template <typename real, typename number>
__device__ __forceinline__ void tiled_product(const number* __restrict__ a, const real* __restrict__ b, int transpose_a,
                                              int transpose_b, int m, int n, int k, int length, real scale, int add,
                                              real* __restrict__ out) {
    __shared__ real tile_a[TERMS][SIDE + 1], tile_b[TERMS][SIDE + 1];
    const int m0 = blockIdx.x * SIDE, n0 = blockIdx.y * SIDE, thread = threadIdx.x;
    const int row = thread / 16, column = thread % 16;  // of the thread's results: row + 16 r, column + 16 c
    const int begin = blockIdx.z * length, end = min(k, begin + length);
    real sums[OWN][OWN] = {};
    for (int k0 = begin; k0 < end; k0 += TERMS) {
        for (int place = thread; place < SIDE * TERMS; place += 256) {
            // the index that is contiguous in memory runs fastest over the threads
            const int ka = transpose_a ? place / SIDE : place % TERMS, ma = transpose_a ? place % SIDE : place / TERMS;
            const int kb = transpose_b ? place % TERMS : place / SIDE, nb = transpose_b ? place / TERMS : place % SIDE;
            const size_t own_m = m0 + ma, own_n = n0 + nb, term_a = k0 + ka, term_b = k0 + kb;
            tile_a[ka][ma] = own_m < m && term_a < end ? real(a[transpose_a ? term_a * m + own_m : own_m * k + term_a]) : real(0);
            tile_b[kb][nb] = own_n < n && term_b < end ? b[transpose_b ? own_n * k + term_b : term_b * n + own_n] : real(0);
        }
        __syncthreads();
#pragma unroll
        for (int term = 0; term < TERMS; ++term) {
            real left[OWN], right[OWN];
#pragma unroll
            for (int own = 0; own < OWN; ++own) {
                left[own] = tile_a[term][row + 16 * own];
                right[own] = tile_b[term][column + 16 * own];
            }
#pragma unroll
            for (int r = 0; r < OWN; ++r) {
#pragma unroll
                for (int c = 0; c < OWN; ++c) sums[r][c] += left[r] * right[c];
            }
        }
        __syncthreads();
    }
    out += (size_t)blockIdx.z * m * n;
    for (int r = 0; r < OWN; ++r) {
        for (int c = 0; c < OWN; ++c) {
            const int i = m0 + row + 16 * r, j = n0 + column + 16 * c;
            if (i >= m || j >= n) continue;
            const size_t place = (size_t)i * n + j;
            out[place] = sums[r][c] * scale + (add ? out[place] : real(0));
        }
    }
}

template <typename real>
__global__ void __launch_bounds__(256) matrix_product(const real* a, const real* b, int transpose_a, int transpose_b, int m, int n,
                                                      int k, int length, real scale, int add, real* out) {
    tiled_product(a, b, transpose_a, transpose_b, m, n, k, length, scale, add, out);
}

// The same with A stored as bytes.
template <typename real>
__global__ void __launch_bounds__(256) byte_product(const unsigned char* a, const real* b, int transpose_a, int transpose_b, int m,
                                                    int n, int k, int length, real scale, int add, real* out) {
    tiled_product(a, b, transpose_a, transpose_b, m, n, k, length, scale, add, out);
}

// out [size] = scale * parts [n_parts, size], added in order. blocks ceil(size / 256), 256 threads.
template <typename real>
__global__ void __launch_bounds__(256) add_parts(const real* __restrict__ parts, int n_parts, long long size, real scale,
                                                 real* __restrict__ out) {
    const long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= size) return;
    real sum = parts[place];
    for (int part = 1; part < n_parts; ++part) sum += parts[part * size + place];
    out[place] = sum * scale;
}
