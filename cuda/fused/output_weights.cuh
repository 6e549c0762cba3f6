#pragma once
// Gradient of the second weights of the fused step. A block owns up to 32 hidden neurons. A warp takes a sample at a time, a lane one of its spikes
// of these neurons; what the lanes of one neuron find is added up, in their order, and then to the warp's own sums. In the end the warps'
// sums are added in their order.
#include "common/block.cuh"
#include "fused/batch.cuh"
#include "fused/two.cuh"
#include "fused/update_weight.cuh"

template <typename real>
struct HiddenSpikes {
    const real* q;        // [batch, worst], neuron by neuron
    const Place* places;  // [ceil(n_hidden / NEURONS), batch, NEURONS]
    long long worst;
    int n_hidden, batch;
};

// The spikes of the outputs, output by output.
template <typename real>
struct OutputSpikes {
    const typename Two<real>::type* spikes;  // [batch, capacity]: q, G
    const int* starts;                       // [batch, n_out + 1]
    int capacity, n_out;
};

constexpr int OUT_BUFFER = 64;  // spikes of a sample's outputs that a warp keeps in shared memory

// Over the n spikes (Q, G) of an output, G (e - Q) where e < Q.
template <typename two, typename real>
__device__ __forceinline__ real sum_over_output(const two* spikes, int n, real e) {
    real sum = 0;
    const auto add = [&](int k) {
        const two spike = spikes[k];
        sum = fma(spike.y, min(e - spike.x, real(0)), sum);
    };
    int k = 0;
#pragma unroll 1
    for (; k + 3 < n; k += 4) add(k), add(k + 1), add(k + 2), add(k + 3);
    if (n & 2) {  // most outputs have two or three
        add(k), add(k + 1);
        k += 2;
    }
    if (n & 1) add(k);
    return sum;
}

// Adds one sample to sums [group, n_out]: over the spikes e of a neuron and (Q, G) of an output, G e (e - Q) where e < Q. A warp.
template <typename real>
__device__ __forceinline__ void add_sample(const HiddenSpikes<real>& hidden, const OutputSpikes<real>& output, int s, int first, int group,
                                           typename Two<real>::type* buffer, real* sums) {
    const int lane = threadIdx.x & 31, n_out = output.n_out, i = first + lane;
    const bool owned = lane < group && i < hidden.n_hidden;
    const Place place = owned ? hidden.places[((size_t)(i / NEURONS) * hidden.batch + s) * NEURONS + i % NEURONS] : Place{0x7fffffff, 0};
    const int* starts = output.starts + (size_t)s * (n_out + 1);
    const auto* spikes = output.spikes + (size_t)s * output.capacity;
    const int total = starts[n_out];
    const bool buffered = total <= OUT_BUFFER;
    __syncwarp();
    for (int k = lane; buffered && k < total; k += 32) buffer[k] = spikes[k];
    const int begin = __shfl_sync(FULL_WARP, place.start, 0), n_owned = min(group, hidden.n_hidden - first);
    const int end = __shfl_sync(FULL_WARP, place.start + place.count, n_owned - 1);
    __syncwarp();
    for (int from = begin; from < end; from += 32) {
        const int r = from + lane;
        const bool mine = r < end;
        const real e = mine ? hidden.q[hidden.worst * s + r] : real(0);
        int n = 0;  // the last neuron whose spikes begin at r or before; silent ones begin where the next one does
#pragma unroll
        for (int step = 16; step > 0; step /= 2) {
            if (__shfl_sync(FULL_WARP, place.start, n + step) <= r) n += step;
        }
        const int start = __shfl_sync(FULL_WARP, place.start, n), count = __shfl_sync(FULL_WARP, place.count, n);
        const int left = min(start + count, min(end, from + 32)) - r;  // lanes from here on that belong to the same neuron
        const bool leads = mine && (r == start || lane == 0);
        const int longest = __reduce_max_sync(FULL_WARP, leads ? left : 0);
        real* to = sums + n * n_out;
        constexpr int AT_ONCE = 2;  // outputs
        int next_stop = starts[1], k = 0;
#pragma unroll 1
        for (int o = 0; o < n_out; o += AT_ONCE) {
            real sum[AT_ONCE];
#pragma unroll
            for (int u = 0; u < AT_ONCE; ++u) {
                const int stop = next_stop;
                next_stop = starts[min(o + u + 2, n_out)];
                sum[u] = e * (buffered ? sum_over_output(buffer + k, stop - k, e) : sum_over_output(spikes + k, stop - k, e));
                k = stop;
            }
#pragma unroll
            for (int distance = 1; distance < 32; distance *= 2) {
                if (distance >= longest) break;
#pragma unroll
                for (int u = 0; u < AT_ONCE; ++u) {
                    const real other = __shfl_down_sync(FULL_WARP, sum[u], distance);
                    if (distance < left) sum[u] += other;
                }
            }
#pragma unroll
            for (int u = 0; u < AT_ONCE; ++u) {
                if (leads && o + u < n_out) to[o + u] += sum[u];
            }
        }
        __syncwarp();  // a neuron's spikes may go on in the next lanes
    }
}

// Neurons first ... first + group - 1, group <= 32; room for [slices, group, n_out] numbers and slices buffers in shared memory, slices <= warps.
template <typename real>
__device__ __forceinline__ void update_output_weights(const HiddenSpikes<real>& hidden, const OutputSpikes<real>& output, int first, int group,
                                                      int slices, real scale, const Weights<real>& weights, const Update<real>& update, real* room) {
    const int t = threadIdx.x, warp = t >> 5, n_sums = group * output.n_out;
    auto* buffer = reinterpret_cast<typename Two<real>::type*>(room) + warp * OUT_BUFFER;
    real* sums = room + slices * 2 * OUT_BUFFER;
    for (int p = t; p < slices * n_sums; p += blockDim.x) sums[p] = 0;
    __syncthreads();
    if (warp < slices) {
        for (int s = warp; s < hidden.batch; s += slices) add_sample(hidden, output, s, first, group, buffer, sums + warp * n_sums);
    }
    __syncthreads();
    for (int p = t; p < n_sums && first + p / output.n_out < hidden.n_hidden; p += blockDim.x) {
        real sum = 0;
#pragma unroll 8
        for (int slice = 0; slice < slices; ++slice) sum += sums[slice * n_sums + p];
        update.load_and_apply(weights, (size_t)first * output.n_out + p, sum * scale);
    }
}
