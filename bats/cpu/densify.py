"""CPU twin of cuda/timestep/densify.cu: compactly stored samples to waves [B, T, N]; and the cells of binned events."""

import numpy as np
from numba import njit, prange


@njit(cache=True, parallel=True)
def densify_latencies(latencies, indices, waves):
    """latencies [n, N] uint8, the step of a neuron's only spike (255: none), indices [B] -> waves [B, T, N]."""
    for b in prange(indices.shape[0]):
        steps = latencies[indices[b]]
        wave = waves[b]
        wave[:] = 0
        for n in range(steps.shape[0]):
            if steps[n] < wave.shape[0]:
                wave[steps[n], n] = 1


@njit(cache=True, parallel=True)
def densify_events(cells, offsets, indices, waves):
    """cells [n_events] uint32 = step * N + neuron, offsets [n + 1] int64, indices [B] -> how many events lie in each cell."""
    n_neurons = waves.shape[2]
    for b in prange(indices.shape[0]):
        wave = waves[b]
        wave[:] = 0
        for i in range(offsets[indices[b]], offsets[indices[b] + 1]):
            cell = np.int64(cells[i])
            wave[cell // n_neurons, cell % n_neurons] += 1


@njit(cache=True)
def sort_cells(cells, offsets):
    """Sorts the cells of every sample in place; returns how many events the fullest cell holds."""
    fullest = 0
    for sample in range(offsets.shape[0] - 1):
        own = cells[offsets[sample] : offsets[sample + 1]]
        own.sort()
        run = 0
        for i in range(own.shape[0]):
            run = run + 1 if i > 0 and own[i] == own[i - 1] else 1
            fullest = max(fullest, run)
    return fullest
