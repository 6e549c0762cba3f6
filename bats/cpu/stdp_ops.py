"""CPU twins of cuda/stdp/steps.cu: one step of a layer at a time, on [n, F, P] arrays and [F, C, kh, kw] weights."""

import numpy as np
from numba import njit

from bats.cpu.stdp_winners import changed, choose_winners, inhibit


@njit(cache=True)
def inhibit_maps(latencies, potentials, n_bins, out_latencies, out_potentials):
    """[n, F, H, W]: only the survivor of each place keeps its values; the others get n_bins and 0."""
    n, n_features, height, width = latencies.shape
    survivors = np.empty(height * width, dtype=np.int32)
    out_latencies[:] = n_bins
    out_potentials[:] = 0
    for i in range(n):
        inhibit(latencies[i].copy().reshape(n_features, -1).T, potentials[i].copy().reshape(n_features, -1).T, survivors)
        for p in range(height * width):
            f, r, c = survivors[p], p // width, p % width
            if f >= 0:
                out_latencies[i, f, r, c] = latencies[i, f, r, c]
                out_potentials[i, f, r, c] = potentials[i, f, r, c]


@njit(cache=True)
def winners_of_maps(latencies, potentials, n_bins, radius, rounded, winners):
    """[n, F, H, W] -> winners int32 [n, k, 3], after point-wise inhibition."""
    n, n_features, height, width = latencies.shape
    survivors, scores = np.empty(height * width, dtype=np.int32), np.empty(height * width, dtype=np.float32)
    for i in range(n):
        fired, values = latencies[i].copy().reshape(n_features, -1).T, potentials[i].copy().reshape(n_features, -1).T
        inhibit(fired, values, survivors)
        choose_winners(survivors, fired, values, n_bins, width, radius, rounded, scores, winners[i])


@njit(cache=True)
def update_layer(weights, image, winners, latencies, rates, outcome, stabilizer, low, high):
    """STDP of all winners of one image, then the clamp of all weights [F, C, kh, kw]."""
    if outcome[0] < 0:
        return
    potentiation, depression = rates[outcome[0], 0], rates[outcome[0], 1]
    n_features, channels, height, width = weights.shape
    for j in range(winners.shape[0]):
        f, row, column = winners[j, 0], winners[j, 1], winners[j, 2]
        if f < 0:
            continue
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    early = image[c, row + y, column + x] <= latencies[f, row, column]
                    delta = potentiation if early else depression
                    weights[f, c, y, x] = changed(weights[f, c, y, x], delta, stabilizer, low, high)
    for f in range(n_features):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    weights[f, c, y, x] = min(max(weights[f, c, y, x], low), high)
