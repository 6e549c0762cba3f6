#pragma once
// A bitonic network over n times and ranks (unique), in shared or global memory, by all threads of a block. Elements past the end count
// as +infinity: every comparator moves the larger one up, so a partner past the end is simply left alone.

template <typename real>
__device__ __forceinline__ void order(real* times, int* ranks, int low, int high) {
    const real t = times[low], u = times[high];
    const int p = ranks[low], q = ranks[high];
    if (t > u || (t == u && p > q)) {
        times[low] = u;
        times[high] = t;
        ranks[low] = q;
        ranks[high] = p;
    }
}

template <typename real>
__device__ void bitonic_sort(real* times, int* ranks, int n) {
    int size_log = 0;
    while ((1 << size_log) < n) ++size_log;
    const int half = size_log > 0 ? 1 << (size_log - 1) : 0;
    for (int run = 1; run <= size_log; ++run) {
        // Mirror step: element i of a run of 2^run meets element 2^run - 1 - i.
        for (int pair = threadIdx.x; pair < half; pair += blockDim.x) {
            const int inside = pair & ((1 << (run - 1)) - 1);
            const int base = (pair >> (run - 1)) << run;
            const int low = base + inside, high = base + (1 << run) - 1 - inside;
            if (high < n) order(times, ranks, low, high);
        }
        __syncthreads();
        for (int step = run - 2; step >= 0; --step) {
            for (int pair = threadIdx.x; pair < half; pair += blockDim.x) {
                const int low = ((pair >> step) << (step + 1)) + (pair & ((1 << step) - 1));
                const int high = low + (1 << step);
                if (high < n) order(times, ranks, low, high);
            }
            __syncthreads();
        }
    }
}
