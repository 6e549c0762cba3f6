// Optimizers: deltas from gradients, written to `out` or, with `add`, added to it (the weights). One thread per weight.
// The learning rate and the step count live on the device (schedule), so that a captured step needs nothing from the host.
#include "common/partial_sums.cuh"
#include "fused/dependent_launch.cuh"
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

// ----------------------------------------------------------------------------------------------------------------------
// A whole step of Adam for several arrays in one launch: each block knows the step that is being made, the last one to finish counts it.
// A gradient may have to be added up from the sums of the blocks that made it (conv/layer_backward.cu); it is stored then.
constexpr int MOST_PARAMETERS = 12;

struct Parameter {
    void *gradient, *m, *v, *out;
    const void* partial;  // [n_partial, size], if n_partial > 0
    long long size;
    int first_block, n_partial;
};

struct Parameters {
    Parameter of[MOST_PARAMETERS];
};

// blocks: of each array ceil(size / sums_per_block). ticket: 0 before and after.
template <typename real>
__global__ void __launch_bounds__(256) adam_step(Parameters parameters, int n_parameters, double* schedule, double beta1, double beta2,
                                                 real epsilon, int nesterov, unsigned* ticket) {
    __shared__ double current[4];
    if (threadIdx.x == 0) {  // the kernel before knows nothing of the schedule
        current[0] = schedule[0];
        current[1] = schedule[1];
        count_step(current, beta1, beta2);
        __threadfence();
        if (atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1) {  // all blocks have read it
            for (int k = 1; k < 4; ++k) schedule[k] = current[k];
        }
    }
    int which = 0;
    while (which + 1 < n_parameters && (int)blockIdx.x >= parameters.of[which + 1].first_block) ++which;
    const Parameter& own = parameters.of[which];
    const long long block = (int)blockIdx.x - own.first_block, w = own_sum(own.n_partial, own.size, block);
    real gradient = 0, m = 0, v = 0;
    if (w >= 0) {
        m = static_cast<const real*>(own.m)[w];
        v = static_cast<const real*>(own.v)[w];
    }
    start_after_previous();
    if (own.n_partial > 0) {
        gradient = sum_partial(static_cast<const real*>(own.partial), own.n_partial, own.size, block);
        if (w >= 0) static_cast<real*>(own.gradient)[w] = gradient;
    } else if (w >= 0) {
        gradient = static_cast<const real*>(own.gradient)[w];
    }
    __syncthreads();
    if (w < 0) return;
    const Moments<real> moments = {(real)beta1, (real)beta2, epsilon, nesterov};
    const real change = adam_change(gradient, m, v, moments, (real)current[0], (real)current[2], (real)current[3]);
    static_cast<real*>(own.m)[w] = m;
    static_cast<real*>(own.v)[w] = v;
    static_cast<real*>(own.out)[w] += change;
}
