// Optimizers: deltas from gradients, written to `out` or, with `add`, added to it (the weights). One thread per weight.
// The learning rate and the step count live on the device (schedule), so that a captured step needs nothing from the host.
#include "optim/update.cuh"

// Counts a step. One thread.
// (The template parameter is unused: every kernel of the project is named by its precision.)
template <typename real>
__global__ void tick(double* schedule, double beta1, double beta2) {
    count_step(schedule, beta1, beta2);
}

// Adam (Kingma & Ba 2015) and, with nesterov, NAdam (Dozat 2016).
template <typename real>
__global__ void __launch_bounds__(256) adam(const real* __restrict__ gradient, real* __restrict__ m, real* __restrict__ v,
                                            const double* __restrict__ schedule, real beta1, real beta2, real epsilon, int nesterov,
                                            long long size, real* __restrict__ out, int add) {
    const long long w = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (w >= size) return;
    const real rate = schedule[0], correct1 = schedule[2], correct2 = schedule[3];
    const Moments<real> moments = {beta1, beta2, epsilon, nesterov};
    const real change = adam_change(gradient[w], m[w], v[w], moments, rate, correct1, correct2);
    out[w] = add ? out[w] + change : change;
}

// delta = -lr g.
template <typename real>
__global__ void __launch_bounds__(256) gradient_descent(const real* __restrict__ gradient, const double* __restrict__ schedule,
                                                        long long size, real* __restrict__ out, int add) {
    const long long w = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (w >= size) return;
    const real change = -real(schedule[0]) * gradient[w];
    out[w] = add ? out[w] + change : change;
}
