"""CPU twin of cuda/stdp/convolve.cu: potentials of non-leaky one-spike neurons, event by event.

Each input spike is added once, to every neuron that sees it, so a neuron's float32 sum runs over its inputs in the order
(latency, channel, row, column): the definition of the potential, the same on every device. Features are the last axis
of the working arrays, since the additions of one event run over all of them.
"""

import numpy as np
from numba import njit, prange

CHUNKS = 16  # without a threshold a potential is the sum of the sums over this many groups of channels


@njit(cache=True)
def _add_event(channel, y, x, kernel, width, weights, potentials):
    """One spike at (channel, y, x) -> all neurons that see it; weights [K, F], potentials [rows * width, F]."""
    rows = potentials.shape[0] // width
    height, breadth = kernel
    for dy in range(height):
        row = y - dy
        if 0 <= row < rows:
            for dx in range(breadth):
                column = x - dx
                if 0 <= column < width:
                    index, place = (channel * height + dy) * breadth + dx, row * width + column
                    for f in range(weights.shape[1]):
                        potentials[place, f] += weights[index, f]


@njit(cache=True)
def _totals(image, weights, kernel, n_bins, sums, potentials):
    """Potentials at the last bin: every input that spikes at all, in chunks of channels; sums: scratch like potentials."""
    channels, height, width = image.shape
    per_chunk = (channels + CHUNKS - 1) // CHUNKS
    potentials[:] = 0
    for chunk in range(CHUNKS):
        sums[:] = 0
        for c in range(chunk * per_chunk, min(channels, (chunk + 1) * per_chunk)):
            for y in range(height):
                for x in range(width):
                    if image[c, y, x] < n_bins:
                        _add_event(c, y, x, kernel, width - kernel[1] + 1, weights, sums)
        for p in range(sums.shape[0]):
            for f in range(sums.shape[1]):
                potentials[p, f] += sums[p, f]


@njit(cache=True)
def _sort_by_latency(image, n_bins, starts, events):
    """Flat indices of the spikes, by latency and then by index; starts[t] is where bin t begins, starts[n_bins] the number."""
    flat = image.reshape(-1)
    starts[:] = 0
    for i in range(flat.size):
        if flat[i] < n_bins:
            starts[flat[i] + 1] += 1
    for t in range(n_bins):
        starts[t + 1] += starts[t]
    for i in range(flat.size):
        if flat[i] < n_bins:
            events[starts[flat[i]]] = i
            starts[flat[i]] += 1
    for t in range(n_bins, 0, -1):
        starts[t] = starts[t - 1]
    starts[0] = 0


@njit(cache=True)
def convolve_image(image, weights, kernel, threshold, n_bins, sums, events, starts, latencies, potentials):
    """image uint8 [C, H, W], weights [K, F] -> latencies uint8 and potentials at the first spike, [P, F].

    threshold < 0 stands for none: the potential is that of the last bin, and a neuron fires there if it is positive.
    sums [P, F], events int32 [C * H * W], starts int64 [n_bins + 1] are scratch.
    """
    if threshold < 0:
        _totals(image, weights, kernel, n_bins, sums, potentials)
        for p in range(potentials.shape[0]):
            for f in range(potentials.shape[1]):
                latencies[p, f] = n_bins - 1 if potentials[p, f] > 0 else n_bins
        return
    _sort_by_latency(image, n_bins, starts, events)
    height, width = image.shape[1:]
    sums[:] = 0
    latencies[:] = n_bins
    potentials[:] = 0
    for t in range(n_bins):
        if starts[t] == starts[t + 1]:
            continue
        for e in range(starts[t], starts[t + 1]):
            channel, place = events[e] // (height * width), events[e] % (height * width)
            _add_event(channel, place // width, place % width, kernel, width - kernel[1] + 1, weights, sums)
        for p in range(sums.shape[0]):
            for f in range(sums.shape[1]):
                if sums[p, f] > threshold and latencies[p, f] == n_bins:
                    latencies[p, f] = t
                    potentials[p, f] = sums[p, f]


@njit(cache=True, parallel=True)
def convolve(images, weights, kernel, threshold, n_bins, latencies, potentials):
    """images uint8 [n, C, H, W], weights [K, F] -> latencies, potentials [n, F, P]; parallel over the images."""
    n, channels, height, width = images.shape
    n_features, n_places = latencies.shape[1:]
    for i in prange(n):
        sums = np.empty((n_places, n_features), dtype=np.float32)
        values = np.empty((n_places, n_features), dtype=np.float32)
        fired = np.empty((n_places, n_features), dtype=np.uint8)
        events = np.empty(channels * height * width, dtype=np.int32)
        starts = np.empty(n_bins + 1, dtype=np.int64)
        convolve_image(images[i], weights, kernel, threshold, n_bins, sums, events, starts, fired, values)
        latencies[i] = fired.T
        potentials[i] = values.T
