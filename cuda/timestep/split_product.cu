// Matrix products in float32 on bfloat16 tensor cores, without losing accuracy: C = scale A B.
//
// A float32 number is the sum of three bfloat16 numbers (8 bits each), exactly; products of bfloat16 numbers are exact in
// float32. Spikes and small counts are one bfloat16 number as they are: A B is then three products. Otherwise both are split
// and six products are kept; the other three lie below float32's rounding.
// With `_short` in its name a kernel leaves the last part out: 16 bits of each number, where TF32 keeps 11.
// Tensor cores cut off the bits that do not fit their sum, always downwards. So they only ever sum one tile of 32 or 16 terms, the small parts
// first; these sums are added in float32 with rounding.
// A block computes 128 x 128 results with 16 warps of 32 x 32, from tiles in two sets of shared memory. While the warps multiply
// one tile, they split and store the next one from registers, and ask memory for the one after it. A product with few results
// and many terms is cut into parts (blockIdx.z), which add_parts adds in order: the same bits every time.

constexpr int SIDE = 128, THREADS = 512, PAD = 8;  // padded rows: eight of them start in different banks

typedef unsigned char byte;

__device__ __forceinline__ unsigned pack(float low, float high) {
    unsigned pair = 0;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#endif
    return pair;
}

// The next bfloat16 of two numbers, which keep the rest.
__device__ __forceinline__ unsigned take(float& low, float& high) {
    const unsigned pair = pack(low, high);
    low -= __uint_as_float(pair << 16);
    high -= __uint_as_float(pair & 0xffff0000u);
    return pair;
}

// Four 8 x 8 matrices of bfloat16; lane l gives the address of row l % 8 of matrix l / 8.
template <bool transposed>
__device__ __forceinline__ void load_matrices(unsigned (&out)[4], const unsigned short* row) {
#if __CUDA_ARCH__ >= 800
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    if (transposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(address) : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(address) : "memory");
    }
#endif
}

// sum [16, 8] += left [16, 16] right [16, 8].
__device__ __forceinline__ void multiply(float (&sum)[4], const unsigned (&left)[4], unsigned right0, unsigned right1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
#endif
}

// ----------------------------------------------------------------------------------------------------------------------
// Four numbers that lie side by side in memory.
template <typename number>
struct Quad;
template <>
struct Quad<float> {
    using Type = float4;
};
template <>
struct Quad<byte> {
    using Type = uchar4;
};

// An operand's tile: SIDE rows or columns of the result by `terms` terms. `terms_last`: in memory the terms are contiguous.
template <typename number, int terms, bool terms_last, int parts>
struct Tile {
    static constexpr int INNER = terms_last ? terms : SIDE, OUTER = terms_last ? SIDE : terms;
    static constexpr int STRIDE = INNER + PAD, SIZE = OUTER * STRIDE;  // of one part, in bfloat16 numbers
    static constexpr int QUADS = SIDE * terms / 4 / THREADS;              // the thread's share
    using Four = typename Quad<number>::Type;
    Four held[QUADS];

    // Four numbers from memory: of rows side0 ..., terms term0 ... up to limits; pitch: length of a row in memory.
    __device__ __forceinline__ void fetch(int r, const number* from, int side0, int n_sides, int term0, int n_terms, int pitch,
                                          bool aligned) {
        const int quad = threadIdx.x + THREADS * r;
        const int outer = (terms_last ? side0 : term0) + quad / (INNER / 4), n_outer = terms_last ? n_sides : n_terms;
        const int inner = (terms_last ? term0 : side0) + quad % (INNER / 4) * 4, n_inner = terms_last ? n_terms : n_sides;
        Four value = {0, 0, 0, 0};
        if (outer < n_outer) {
            const number* source = from + (size_t)outer * pitch + inner;
            if (aligned && inner + 3 < n_inner) {
                value = *reinterpret_cast<const Four*>(source);
            } else {
                if (inner < n_inner) value.x = source[0];
                if (inner + 1 < n_inner) value.y = source[1];
                if (inner + 2 < n_inner) value.z = source[2];
                if (inner + 3 < n_inner) value.w = source[3];
            }
        }
        held[r] = value;
    }

    // Four of the held numbers, split, to shared memory [parts, OUTER, STRIDE].
    __device__ __forceinline__ void store(int r, unsigned short* shared) const {
        const int quad = threadIdx.x + THREADS * r;
        unsigned short* target = shared + quad / (INNER / 4) * STRIDE + quad % (INNER / 4) * 4;
        float4 value = {float(held[r].x), float(held[r].y), float(held[r].z), float(held[r].w)};
#pragma unroll
        for (int part = 0; part < parts; ++part) {
            const uint2 pairs = {take(value.x, value.y), take(value.z, value.w)};
            *reinterpret_cast<uint2*>(target + part * SIZE) = pairs;
        }
    }

    // 16 rows from `side` on by 16 terms from `term` on, as the left operand of multiply(): matrices (rows, terms) at
    // (0, 0), (8, 0), (0, 8), (8, 8).
    static __device__ __forceinline__ void left(unsigned (&out)[4], const unsigned short* shared, int part, int side, int term) {
        const int lane = threadIdx.x & 31;
        side += lane % 8 * terms_last + (lane / 8 & 1) * 8;
        term += lane % 8 * !terms_last + lane / 16 * 8;
        load_matrices<!terms_last>(out, shared + part * SIZE + (terms_last ? side * STRIDE + term : term * STRIDE + side));
    }

    // 16 columns by 16 terms, as two right operands: matrices (columns, terms) at (0, 0), (0, 8), (8, 0), (8, 8).
    static __device__ __forceinline__ void right(unsigned (&out)[4], const unsigned short* shared, int part, int side, int term) {
        const int lane = threadIdx.x & 31;
        side += lane % 8 * terms_last + lane / 16 * 8;
        term += lane % 8 * !terms_last + (lane / 8 & 1) * 8;
        load_matrices<!terms_last>(out, shared + part * SIZE + (terms_last ? side * STRIDE + term : term * STRIDE + side));
    }
};

// ----------------------------------------------------------------------------------------------------------------------
// A [M, K], or a holds its transpose [K, M]; B [K, N], or b holds its transpose [N, K]; out [parts, M, N].
// blocks (ceil(N / 128), ceil(M / 128), parts): neighbours share the rows of A in the cache. 512 threads.
// Part p sums the terms p * length ... (p + 1) * length - 1; length is a multiple of 32.
template <int parts_a, int parts_b, bool transpose_a, bool transpose_b, typename number>
__device__ __forceinline__ void split_product(const number* a, const float* b, int m, int n, int k, int length, float scale, int add,
                                              float* out) {
    constexpr int TERMS = parts_a == 1 ? 32 : 16;  // of a tile: two sets of them fit into every device's shared memory
    using TileA = Tile<number, TERMS, !transpose_a, parts_a>;
    using TileB = Tile<float, TERMS, transpose_b, parts_b>;
    static_assert(TileA::QUADS <= parts_b && TileB::QUADS == TileA::QUADS, "a share of the next tile per order");
    constexpr int OFFSET_B = parts_a * TileA::SIZE, BUFFER = OFFSET_B + parts_b * TileB::SIZE;
    extern __shared__ float4 shared_memory[];
    unsigned short* shared = reinterpret_cast<unsigned short*>(shared_memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    const int m0 = blockIdx.y * SIDE, n0 = blockIdx.x * SIDE, own_m = warp / 4 * 32, own_n = warp % 4 * 32;
    const int begin = blockIdx.z * length, end = min(k, begin + length);
    const int pitch_a = transpose_a ? m : k, pitch_b = transpose_b ? k : n;
    const bool aligned_a = pitch_a % 4 == 0 && (size_t)a % sizeof(typename TileA::Four) == 0;
    const bool aligned_b = pitch_b % 4 == 0 && (size_t)b % sizeof(typename TileB::Four) == 0;
    const bool working = m0 + own_m < m && n0 + own_n < n;  // the same for a whole warp
    float sums[2][4][4] = {};                               // [16 rows each, 8 columns each, the thread's 4]
    TileA tile_a;
    TileB tile_b;
    const auto fetch = [&](int r, int term0) {  // zeros beyond the last term
        tile_a.fetch(r, a, m0, m, term0, end, pitch_a, aligned_a);
        tile_b.fetch(r, b, n0, n, term0, end, pitch_b, aligned_b);
    };
    const auto store = [&](int r, int buffer) {
        tile_a.store(r, shared + buffer * BUFFER);
        tile_b.store(r, shared + buffer * BUFFER + OFFSET_B);
    };
#pragma unroll
    for (int r = 0; r < TileA::QUADS; ++r) fetch(r, begin);
#pragma unroll
    for (int r = 0; r < TileA::QUADS; ++r) {
        store(r, 0);
        fetch(r, begin + TERMS);
    }
    __syncthreads();
    int buffer = 0;
    for (int term0 = begin; term0 < end; term0 += TERMS) {
        const unsigned short* now_a = shared + buffer * BUFFER;
        const unsigned short* now_b = now_a + OFFSET_B;
        buffer ^= 1;
        unsigned left[TERMS / 16][parts_a][2][4], right[parts_a == 1 ? 1 : parts_b][2][4];
        float few[2][4][4] = {};  // sums of this tile's terms
        if (working) {
#pragma unroll
            for (int half = 0; half < TERMS / 16; ++half) {
#pragma unroll
                for (int part = 0; part < parts_a; ++part) {
                    TileA::left(left[half][part][0], now_a, part, own_m, half * 16);
                    TileA::left(left[half][part][1], now_a, part, own_m + 16, half * 16);
                }
            }
        }
#pragma unroll
        for (int order = parts_b - 1; order >= 0; --order) {  // small parts first: a + b = 2, 1, 0
            if (working) {
#pragma unroll
                for (int half = 0; half < TERMS / 16; ++half) {
#pragma unroll
                    for (int part_a = 0; part_a < parts_a; ++part_a) {
                        const int part_b = order - part_a;
                        if (part_b < 0) continue;
                        unsigned(&columns)[2][4] = right[parts_a == 1 ? 0 : part_b];
                        if (parts_a == 1 || order == parts_b - 1) {  // needed once, or for the first time
                            TileB::right(columns[0], now_b, part_b, own_n, half * 16);
                            TileB::right(columns[1], now_b, part_b, own_n + 16, half * 16);
                        }
#pragma unroll
                        for (int i = 0; i < 2; ++i) {
#pragma unroll
                            for (int j = 0; j < 4; ++j) {
                                const unsigned* pair = &columns[j / 2][j % 2 * 2];
                                multiply(few[i][j], left[half][part_a][i], pair[0], pair[1]);
                            }
                        }
                    }
                }
            }
            const int r = parts_b - 1 - order;
            if (r < TileA::QUADS) {  // while the tensor cores multiply
                store(r, buffer);
                fetch(r, term0 + 2 * TERMS);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
#pragma unroll
                for (int c = 0; c < 4; ++c) sums[i][j][c] += few[i][j][c];
            }
        }
        __syncthreads();
    }
    out += (size_t)blockIdx.z * m * n;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const int row = m0 + own_m + 16 * i + lane / 4 + c / 2 * 8, column = n0 + own_n + 8 * j + lane % 4 * 2 + c % 2;
                if (row >= m || column >= n) continue;
                const size_t place = (size_t)row * n + column;
                out[place] = sums[i][j][c] * scale + (add ? out[place] : 0.0f);
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------------
// The layouts that layers use. exact_: the numbers of A are bfloat16 numbers; byte_: they are stored as bytes. Only float does
// anything.

// A B.
template <typename real>
__global__ void __launch_bounds__(512) exact_product(const real* a, const real* b, int m, int n, int k, int length, real scale,
                                                     int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<1, 3, false, false>(a, b, m, n, k, length, scale, add, out);
}

// A B.
template <typename real>
__global__ void __launch_bounds__(512) byte_product(const byte* a, const real* b, int m, int n, int k, int length, real scale,
                                                    int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<1, 3, false, false>(a, b, m, n, k, length, scale, add, out);
}

// A B.
template <typename real>
__global__ void __launch_bounds__(512) product(const real* a, const real* b, int m, int n, int k, int length, real scale, int add,
                                               real* out) {
    if constexpr (sizeof(real) == 4) split_product<3, 3, false, false>(a, b, m, n, k, length, scale, add, out);
}

// A^T B.
template <typename real>
__global__ void __launch_bounds__(512) exact_product_ta(const real* a, const real* b, int m, int n, int k, int length, real scale,
                                                        int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<1, 3, true, false>(a, b, m, n, k, length, scale, add, out);
}

// A^T B.
template <typename real>
__global__ void __launch_bounds__(512) byte_product_ta(const byte* a, const real* b, int m, int n, int k, int length, real scale,
                                                       int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<1, 3, true, false>(a, b, m, n, k, length, scale, add, out);
}

// A^T B.
template <typename real>
__global__ void __launch_bounds__(512) product_ta(const real* a, const real* b, int m, int n, int k, int length, real scale,
                                                  int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<3, 3, true, false>(a, b, m, n, k, length, scale, add, out);
}

// A B^T.
template <typename real>
__global__ void __launch_bounds__(512) product_tb(const real* a, const real* b, int m, int n, int k, int length, real scale,
                                                  int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<3, 3, false, true>(a, b, m, n, k, length, scale, add, out);
}

// A B.
template <typename real>
__global__ void __launch_bounds__(512) exact_product_short(const real* a, const real* b, int m, int n, int k, int length,
                                                           real scale, int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<1, 2, false, false>(a, b, m, n, k, length, scale, add, out);
}

// A B.
template <typename real>
__global__ void __launch_bounds__(512) byte_product_short(const byte* a, const real* b, int m, int n, int k, int length, real scale,
                                                          int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<1, 2, false, false>(a, b, m, n, k, length, scale, add, out);
}

// A B.
template <typename real>
__global__ void __launch_bounds__(512) product_short(const real* a, const real* b, int m, int n, int k, int length, real scale,
                                                     int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<2, 2, false, false>(a, b, m, n, k, length, scale, add, out);
}

// A^T B.
template <typename real>
__global__ void __launch_bounds__(512) exact_product_ta_short(const real* a, const real* b, int m, int n, int k, int length,
                                                              real scale, int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<1, 2, true, false>(a, b, m, n, k, length, scale, add, out);
}

// A^T B.
template <typename real>
__global__ void __launch_bounds__(512) byte_product_ta_short(const byte* a, const real* b, int m, int n, int k, int length,
                                                             real scale, int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<1, 2, true, false>(a, b, m, n, k, length, scale, add, out);
}

// A^T B.
template <typename real>
__global__ void __launch_bounds__(512) product_ta_short(const real* a, const real* b, int m, int n, int k, int length, real scale,
                                                        int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<2, 2, true, false>(a, b, m, n, k, length, scale, add, out);
}

// A B^T.
template <typename real>
__global__ void __launch_bounds__(512) product_tb_short(const real* a, const real* b, int m, int n, int k, int length, real scale,
                                                        int add, real* out) {
    if constexpr (sizeof(real) == 4) split_product<2, 2, false, true>(a, b, m, n, k, length, scale, add, out);
}
