#pragma once
// Gradient of the second weights of the fused step: a block owns some hidden neurons, a thread a pair (neuron, output) and every so many
// samples; its sums are added in a fixed order.
#include "fused/batch.cuh"
#include "fused/two.cuh"
#include "fused/update_weight.cuh"

template <typename real>
struct HiddenSpikes {
    const real* q;        // [batch, worst], neuron by neuron
    const Place* places;  // [ceil(n_hidden / NEURONS), batch, NEURONS]
    long long worst;
};

// What one sample adds: sum over the neuron's spikes q and the output's spikes (Q, G) of G q (q - Q), q < Q.
template <typename real>
__device__ __forceinline__ real output_weight_gradient(const real* q, int count, const typename Two<real>::type* spikes, int from, int to) {
    real sum = 0;
    for (int k = from; k < to; ++k) {
        const auto spike = spikes[k];
        real part = 0;
        for (int r = 0; r < count; ++r) {
            const real e = q[r];
            part = fma(e, min(e - spike.x, real(0)), part);
        }
        sum = fma(spike.y, part, sum);
    }
    return sum;
}

// Neurons first ... first + group - 1; room [blockDim].
template <typename real>
__device__ __forceinline__ void update_output_weights(const HiddenSpikes<real>& hidden, const typename Two<real>::type* out_spikes,
                                                      const int* out_starts, int out_capacity, int n_out, int first, int group, int n_hidden,
                                                      int batch, real scale, const Weights<real>& weights, const Update<real>& update,
                                                      real* room) {
    const int t = threadIdx.x, n_pairs = group * n_out, slices = max(1, (int)blockDim.x / n_pairs);
    for (int from = 0; from < n_pairs; from += blockDim.x) {  // more than one round only if slices is 1
        const int pair = from + (slices > 1 ? t % n_pairs : t), slice = slices > 1 ? t / n_pairs : 0;
        const int i = first + pair / n_out, o = pair % n_out;
        const bool mine = pair < n_pairs && i < n_hidden && slice < slices;
        real sum = 0;
        if (mine) {
            const Place* places = hidden.places + (size_t)(i / NEURONS) * batch * NEURONS + i % NEURONS;
            Place next = slice < batch ? places[slice * NEURONS] : Place{0, 0};
            int next_begin = slice < batch ? out_starts[(size_t)slice * (n_out + 1) + o] : 0;
            int next_end = slice < batch ? out_starts[(size_t)slice * (n_out + 1) + o + 1] : 0;
            for (int s = slice; s < batch; s += slices) {
                const Place place = next;
                const int begin = next_begin, end = next_end;
                if (s + slices < batch) {
                    next = places[(s + slices) * NEURONS];
                    next_begin = out_starts[(size_t)(s + slices) * (n_out + 1) + o];
                    next_end = out_starts[(size_t)(s + slices) * (n_out + 1) + o + 1];
                }
                if (place.count == 0) continue;
                sum += output_weight_gradient<real>(hidden.q + hidden.worst * s + place.start, place.count, out_spikes + (size_t)s * out_capacity, begin, end);
            }
        }
        if (slices > 1) {
            room[t] = sum;
            __syncthreads();
            if (t < n_pairs && mine) {
                for (int other = 1; other < slices; ++other) sum += room[other * n_pairs + t];
            }
        }
        if (mine && slice == 0) update.load_and_apply(weights, (size_t)i * n_out + o, sum * scale);
    }
}
