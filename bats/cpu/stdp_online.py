"""CPU twin of cuda/stdp/online.cu: the online loop, in which every image sees the weights that the previous one left."""

import numpy as np
from numba import njit

from bats.cpu.stdp_convolution import convolve_image
from bats.cpu.stdp_winners import choose_winners, clamp, inhibit, update


@njit(cache=True)
def learn(
    images, order, labels, weights, kernel, threshold, n_bins, radius, rounded, rates, stabilizer, bounds, doubling, counter,
    per_class, winners,
):  # fmt: skip
    """images uint8 [N, C, H, W], order int32 [n], labels int32 [n] (read if per_class > 0), weights float32 [K, F] (in place).

    rates float32 [2, 2]: (LTP, LTD) of STDP or reward, and of punishment. doubling: (period, largest LTP), period 0: off; then
    counter int64 [1] and rates change in place. per_class: neurons per class; with it the update is a reward if the first winner's
    class is the label, a punishment if it is another, and there is none without a winner. winners int32 [n, k, 3] is written.
    """
    channels, height, width = images.shape[1:]
    out_width = width - kernel[1] + 1
    n_places, n_features = (height - kernel[0] + 1) * out_width, weights.shape[1]
    sums = np.empty((n_places, n_features), dtype=np.float32)
    potentials = np.empty((n_places, n_features), dtype=np.float32)
    latencies = np.empty((n_places, n_features), dtype=np.uint8)
    events = np.empty(channels * height * width, dtype=np.int32)
    starts = np.empty(n_bins + 1, dtype=np.int64)
    features, scores = np.empty(n_places, dtype=np.int32), np.empty(n_places, dtype=np.float32)
    low, high = bounds
    period, largest = doubling
    clamped = False
    for i in range(order.size):
        image = images[order[i]]
        convolve_image(image, weights, kernel, threshold, n_bins, sums, events, starts, latencies, potentials)
        if period > 0:
            counter[0] += 1
            if counter[0] >= period:
                counter[0] = 0
                rates[0, 0] = min(np.float32(2) * rates[0, 0], largest)
                rates[0, 1] = np.float32(-0.75) * rates[0, 0]
        inhibit(latencies, potentials, features)
        choose_winners(features, latencies, potentials, n_bins, out_width, radius, rounded, scores, winners[i])
        kind = 0
        if per_class > 0:
            if winners[i, 0, 0] < 0:
                continue
            kind = 0 if winners[i, 0, 0] // per_class == labels[i] else 1
        for j in range(winners.shape[1]):
            f = winners[i, j, 0]
            if f >= 0:
                winner = (f, winners[i, j, 1], winners[i, j, 2])
                latency = latencies[winner[1] * out_width + winner[2], f]
                update(image, weights, kernel, winner, latency, rates[kind, 0], rates[kind, 1], stabilizer, low, high)
        if not clamped:  # all other weights are within the bounds from the first update on
            clamp(weights, low, high)
            clamped = True
