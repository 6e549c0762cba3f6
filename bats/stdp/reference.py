"""The oracle: STDP networks in NumPy, written to be read, on waves [T, F, H, W] over time instead of latencies.

A wave is cumulative: a neuron that fires at bin t is 1 from t on. One image at a time; sources: Kheradpisheh et al. 2018, Mozafari et
al. 2018 and 2019. The sum of a potential runs in the order that bats defines (bin, channel, row, column), so float32 results are the
same bits as those of the engine; in float64 they are the exact ones.
"""

import numpy as np

CHUNKS = 16  # groups of channels that are summed apart where there is no threshold


def filter_bank(image, kernels, padding, threshold, absolute=False):
    """[H, W] -> responses [K, Ho, Wo]: smaller kernels padded to the largest, cross-correlation, responses below threshold 0."""
    window = max(len(kernel) for kernel in kernels)
    padded = np.pad(np.asarray(image, dtype=float), padding)
    maps = []
    for kernel in kernels:
        kernel = np.pad(kernel, (window - len(kernel)) // 2)
        views = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
        response = np.einsum("rcyx,yx->rc", views, kernel)
        response = np.where(response < threshold, 0, response)
        maps.append(np.abs(response) if absolute else response)
    return np.stack(maps)


def local_normalization(maps, radius):
    """[C, H, W]: each value over the mean of its window; what lies outside counts as 0."""
    size = 2 * radius + 1
    padded = np.pad(np.asarray(maps, dtype=float), ((0, 0), (radius, radius), (radius, radius)))
    means = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2)).mean(axis=(3, 4))
    return maps / (means + 1e-12)


def rank_latencies(intensities, n_bins):
    """[C, H, W] -> latencies [C, H, W]."""
    values = intensities.ravel()
    per_bin = np.count_nonzero(values) // n_bins
    latencies = np.full(values.size, n_bins)
    order = sorted(range(values.size), key=lambda i: (-values[i], i))
    for t in range(n_bins):
        latencies[order[t * per_bin : (t + 1) * per_bin]] = t
    return latencies.reshape(intensities.shape)


def wave(latencies, n_bins):
    """Latencies [...] -> cumulative spikes [T, ...]."""
    return np.stack([latencies <= t for t in range(n_bins)])


def latencies_of(spikes):
    return len(spikes) - spikes.sum(axis=0)


def pool(spikes, window, stride, padding):
    """Maximum over windows of a wave [T, F, H, W]."""
    spikes = np.pad(spikes, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    views = np.lib.stride_tricks.sliding_window_view(spikes, (window, window), axis=(2, 3))
    return views[:, :, ::stride, ::stride].max(axis=(4, 5))


def potentials(spikes, weights, has_threshold=True):
    """Potentials [T, F, Ho, Wo] of a wave [T, C, H, W]; without a threshold only the last bin is computed."""
    n_bins, channels, height, width = spikes.shape
    n_features, _, kernel_height, kernel_width = weights.shape
    shape = n_features, height - kernel_height + 1, width - kernel_width + 1
    result = np.zeros((n_bins, *shape), dtype=weights.dtype)

    def add(total, plane, c):
        for dy in range(kernel_height):
            for dx in range(kernel_width):
                seen = plane[dy : dy + shape[1], dx : dx + shape[2]]
                total += weights[:, c, dy, dx, None, None] * seen.astype(weights.dtype)

    if has_threshold:
        total = np.zeros(shape, dtype=weights.dtype)
        for t in range(n_bins):
            new = spikes[t] & ~spikes[t - 1] if t else spikes[t]
            for c in range(channels):
                add(total, new[c], c)
            result[t] = total
        return result
    size = -(-channels // CHUNKS)
    for first in range(0, channels, size):
        total = np.zeros(shape, dtype=weights.dtype)
        for c in range(first, min(channels, first + size)):
            add(total, spikes[-1, c], c)
        result[-1] += total
    return result


def fire(values, threshold):
    """Potentials above the threshold, else 0; None: all but the last bin are 0. The spikes are where the result is positive."""
    if threshold is not None:
        return np.where(values > threshold, values, 0)
    values = values.copy()
    values[:-1] = 0
    return np.maximum(values, 0)


def inhibit(values):
    """Point-wise inhibition of thresholded potentials: at each place the earliest, then strongest, then first feature survives."""
    spikes = values > 0
    n_bins, _, height, width = values.shape
    result = np.zeros_like(values)
    for r in range(height):
        for c in range(width):
            fired = spikes[:, :, r, c].sum(axis=0)
            if fired.max() == 0:
                continue
            at_first = values[n_bins - fired.max(), :, r, c]  # only those that fire at that bin are positive there
            result[:, :, r, c][:, np.argmax(at_first)] = values[:, np.argmax(at_first), r, c]
    return result


def choose_winners(values, k, radius, rounded=False):
    """Up to k (feature, row, column) of thresholded potentials [T, F, H, W]: earliest, strongest, lowest index."""
    n_bins = len(values)
    fired = (values > 0).sum(axis=0)
    first = np.where(fired > 0, n_bins - fired, 0)
    strength = np.take_along_axis(values, first[None], axis=0)[0]
    if rounded:
        score = fired.astype(np.float32) * (strength + np.float32(n_bins) * strength.max())
        candidates = sorted(np.argwhere(fired > 0).tolist(), key=lambda at: (-score[tuple(at)], at))
    else:
        candidates = sorted(np.argwhere(fired > 0).tolist(), key=lambda at: (first[tuple(at)], -strength[tuple(at)], at))
    winners = []
    for f, r, c in candidates:
        near = radius > 0 and any(abs(r - s) <= radius and abs(c - d) <= radius for _, s, d in winners)
        if len(winners) < k and not near and all(f != g for g, _, _ in winners):
            winners.append((f, r, c))
    return winners


def stdp(weights, spikes, out_spikes, winners, rates, stabilizer, low, high):
    """New weights after the winners of one image have learned; all are clamped to [low, high]."""
    real = weights.dtype.type
    before, after = latencies_of(spikes), latencies_of(out_spikes)
    n_bins, result = len(spikes), weights.copy()
    low, high = real(low), real(high)
    for f, r, c in winners:
        seen = before[:, r : r + weights.shape[2], c : c + weights.shape[3]]
        causal = (seen <= after[f, r, c]) & (seen < n_bins)
        delta = np.where(causal, real(rates[0]), real(rates[1]))
        gain = (result[f] - low) * (high - result[f]) if stabilizer else real(1)
        result[f] = result[f] + delta * gain
        result[f][np.abs(result[f]) < 2.0**-100] = 0  # before float32 products underflow
    return np.clip(result, low, high)


class Layer:
    """A layer that learns image by image; the settings are those of bats.stdp.rule.Rule. per_class > 0: by reward."""

    def __init__(self, weights, rule, rates, punish=None):
        self.weights, self.rule, self.counter = weights.copy(), rule, 0
        real = weights.dtype.type
        self.rates = [real(rate) for rate in rates]
        self.punish = [real(rate) for rate in punish or rates]

    def fire(self, latencies):
        """Latencies of the inputs [C, H, W] -> (wave of the inputs, thresholded potentials)."""
        spikes = wave(latencies, self.rule.n_bins)
        threshold = self.rule.threshold
        return spikes, fire(potentials(spikes, self.weights, threshold is not None), threshold)

    def learn(self, latencies, label=None):
        """Winners of one image, after which the weights have changed."""
        rule, real = self.rule, self.weights.dtype.type
        spikes, values = self.fire(latencies)
        out_spikes = values > 0
        if rule.doubling:
            self.counter += 1
            if self.counter == rule.doubling:
                self.counter = 0
                self.rates[0] = min(2 * self.rates[0], real(rule.max_rate))
                self.rates[1] = real(-0.75) * self.rates[0]
        winners = choose_winners(inhibit(values), rule.winners, rule.radius, rule.rule == "rounded")
        rates = self.rates
        if rule.per_class:
            if not winners:
                return winners
            rates = self.rates if winners[0][0] // rule.per_class == label else self.punish
        self.weights = stdp(self.weights, spikes, out_spikes, winners, rates, rule.stabilizer, *rule.bounds)
        return winners
