"""CPU twin of cuda/stdp/winners.cuh: point-wise inhibition, k winners, and the STDP update of their weights."""

import numpy as np
from numba import njit

SMALLEST = np.float32(2.0**-100)  # a weight below it becomes 0, before products underflow, which devices treat differently


@njit(cache=True)
def inhibit(latencies, potentials, features):
    """The one feature that survives at each place: earliest, then largest potential, then lowest index; -1 where none fired.

    latencies uint8, potentials float32 [P, F] -> features int32 [P].
    """
    for p in range(latencies.shape[0]):
        best = 0
        for f in range(1, latencies.shape[1]):
            earlier = latencies[p, f] < latencies[p, best]
            if earlier or (latencies[p, f] == latencies[p, best] and potentials[p, f] > potentials[p, best]):
                best = f
        features[p] = best if potentials[p, best] > 0 else -1


@njit(cache=True)
def choose_winners(features, latencies, potentials, n_bins, width, radius, rounded, scores, winners):
    """features int32 [P] (the survivors), latencies, potentials [P, F] -> winners int32 [k, 3] (feature, row, column; -1: none).

    Order: earlier spike, larger potential, lower (feature, row, column). rounded: by the float32 score n (p + T max p), in which
    small differences of p vanish (n: bins since the spike, T: n_bins). scores float32 [P] is scratch. `features` is written.
    """
    n_places = features.shape[0]
    largest = np.float32(0)
    for p in range(n_places):
        if features[p] >= 0:
            largest = max(largest, potentials[p, features[p]])
    shift = np.float32(n_bins) * largest
    winners[:] = -1
    for p in range(n_places):
        if features[p] >= 0:
            scores[p] = potentials[p, features[p]]
            if rounded:
                scores[p] = np.float32(n_bins - latencies[p, features[p]]) * np.float32(scores[p] + shift)
    for i in range(winners.shape[0]):
        best = -1
        for p in range(n_places):
            f = features[p]
            if f < 0:
                continue
            if best < 0:
                best = p
                continue
            g = features[best]
            mine, other = latencies[p, f], latencies[best, g]
            if rounded:
                mine, other = np.uint8(0), np.uint8(0)
            if mine != other:
                better = mine < other
            elif scores[p] != scores[best]:
                better = scores[p] > scores[best]
            else:
                better = f < g  # places are visited in ascending order
            if better:
                best = p
        if best < 0:
            return
        f, row, column = features[best], best // width, best % width
        winners[i, 0], winners[i, 1], winners[i, 2] = f, row, column
        for p in range(n_places):
            near = radius > 0 and abs(p // width - row) <= radius and abs(p % width - column) <= radius
            if features[p] == f or near:
                features[p] = -1


@njit(cache=True)
def changed(w, delta, stabilizer, low, high):
    """w + delta g(w), g = (w - low)(high - w) with the stabilizer, within [low, high]; float32 throughout."""
    if stabilizer:
        delta = delta * np.float32(np.float32(w - low) * np.float32(high - w))
    w = np.float32(w + delta)
    return min(max(w if abs(w) >= SMALLEST else np.float32(0), low), high)


@njit(cache=True)
def update(image, weights, kernel, winner, latency, potentiation, depression, stabilizer, low, high):
    """STDP of one winner (feature, row, column) that fired at bin `latency`: weights [K, F], in place, within [low, high]."""
    f, row, column = winner
    k = 0
    for c in range(image.shape[0]):
        for dy in range(kernel[0]):
            for dx in range(kernel[1]):
                delta = potentiation if image[c, row + dy, column + dx] <= latency else depression
                weights[k, f] = changed(weights[k, f], delta, stabilizer, low, high)
                k += 1


@njit(cache=True)
def clamp(weights, low, high):
    for k in range(weights.shape[0]):
        for f in range(weights.shape[1]):
            weights[k, f] = min(max(weights[k, f], low), high)
