#pragma once
// Philox4x32-10 (Salmon et al. 2011): random numbers as a function of a counter and a key, the same on every device and in
// every order. CPU twin: bats/cpu/philox.py.

struct Philox {
    unsigned value[4];
};

__device__ __forceinline__ Philox philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned k0, unsigned k1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned low0 = 0xD2511F53u * c0, high0 = __umulhi(0xD2511F53u, c0);
        const unsigned low1 = 0xCD9E8D57u * c2, high1 = __umulhi(0xCD9E8D57u, c2);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Two independent N(0, 1) numbers from two 32-bit numbers (Box and Muller 1958).
__device__ __forceinline__ double2 normal_pair(unsigned u, unsigned v) {
    const double radius = sqrt(-2 * log((u + 0.5) / 4294967296.0)), angle = 2 * ((v + 0.5) / 4294967296.0);
    double sine, cosine;
    sincospi(angle, &sine, &cosine);
    return {radius * cosine, radius * sine};
}
