#pragma once
// The change of one weight (docs/theory.md, (25) to (27)); schedule as in optim/optimizers.cu.

template <typename real>
struct Moments {
    real beta1, beta2, epsilon;
    int nesterov;
};

template <typename real>
__device__ __forceinline__ real adam_change(real g, real& m, real& v, const Moments<real>& moments, real rate, real correct1, real correct2) {
    // fma by name: every kernel must round alike, whatever its compiler contracts.
    m = fma(moments.beta1, m, (1 - moments.beta1) * g);
    v = fma(moments.beta2, v, (1 - moments.beta2) * g * g);
    real step = m * correct1;
    if (moments.nesterov) step = fma(moments.beta1, step, (1 - moments.beta1) * correct1 * g);
    return -rate * step / (sqrt(v * correct2) + moments.epsilon);
}

// Counts the step t; schedule [4]: learning rate, t, 1 / (1 - beta1^t), 1 / (1 - beta2^t). One thread.
__device__ __forceinline__ void count_step(double* schedule, double beta1, double beta2) {
    schedule[1] += 1;
    schedule[2] = 1 / (1 - pow(beta1, schedule[1]));
    schedule[3] = 1 / (1 - pow(beta2, schedule[1]));
}
