"""Random dense networks and input trains for the tests of the oracle: several layers, several spikes, with reset."""

import itertools

import numpy as np

from bats.reference import Layer


def random_trains(rng, n_batch, n_neurons, n_slots, span):
    """Sorted spike trains in (0.05, 1) span: times [B, N, K] inf-padded, counts [B, N] from 0 to K."""
    counts = rng.integers(0, n_slots + 1, (n_batch, n_neurons)).astype(np.int32)
    times = np.sort(rng.uniform(0.05 * span, span, (n_batch, n_neurons, n_slots)), axis=2)
    return np.where(np.arange(n_slots) < counts[..., None], times, np.inf), counts


def random_layers(rng, sizes, tau_s, max_n_spike=8):
    """Layers of sizes[0]-sizes[1]-...: mostly excitatory, thresholds that let most neurons fire 1 to 8 times."""
    layers = []
    for n_pre, n_post in itertools.pairwise(sizes):
        theta = rng.uniform(0.2, 0.8) * tau_s
        layers.append(
            Layer(
                weights=rng.uniform(-0.5, 1.5, (n_post, n_pre)),
                tau_s=tau_s,
                theta=theta,
                delta_theta=rng.uniform(0.5, 1.5) * theta,
                max_n_spike=int(rng.integers(1, max_n_spike + 1)),
            )
        )
    return layers


def random_network(rng, n_batch=2):
    """(times, counts, layers): 2 or 3 layers, tau_s from 1 ms to 1 s, up to 3 input spikes per neuron."""
    sizes = [int(n) for n in rng.integers(3, 7, rng.integers(3, 5))]
    tau_s = float(10 ** rng.uniform(-3, 0))
    times, counts = random_trains(rng, n_batch, sizes[0], int(rng.integers(1, 4)), 4 * tau_s)
    return times, counts, random_layers(rng, sizes, tau_s)
