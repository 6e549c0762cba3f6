"""Random inputs of one layer, in the memory layout of the operations: times [B, K, N]."""

from types import SimpleNamespace

import numpy as np

from bats import ops, reference
from bats.device import to_numpy
from bats.ops.neuron import Neuron
from bats.spikes import EventList


def random_trains(rng, batch, n_neurons, n_slots, duration, grid=None, full=False):
    """times [B, N, K] ascending, inf-padded, and counts [B, N]; grid: multiples of it, so that ties occur."""
    counts = np.full((batch, n_neurons), n_slots) if full else rng.integers(0, n_slots + 1, (batch, n_neurons))
    times = np.sort(rng.uniform(0, duration, (batch, n_neurons, n_slots)), axis=2)
    if grid is not None:
        times = np.ceil(times / grid) * grid
    times = times.astype(np.float32).astype(np.float64)  # the same numbers in both precisions
    times[np.arange(n_slots) >= counts[:, :, None]] = np.inf
    return times, counts.astype(np.int32)


def make_events(case, times, counts, dtype):
    """Sorted event list on the test's device from times [B, N, K], with poisoned arrays behind it."""
    batch, n_neurons, n_slots = times.shape
    events = EventList.allocate(case.xp, batch, n_neurons, n_slots, dtype)
    events.times[...] = np.nan
    events.neurons[...] = 2**30
    events.positions[...] = 2**30
    trains = case.array(times.transpose(0, 2, 1), dtype)
    ops.sort_events(trains, case.array(counts, np.int32), events, ops.sort_scratch(events))
    return events


def listed(times, counts):
    """The spikes of trains [B, K, N] -> for each sample (times, ranks), rank = neuron * K + slot, by neuron and slot (NumPy)."""
    times, counts = by_neuron(times), to_numpy(counts)
    n_slots = times.shape[2]
    samples = []
    for trains, numbers in zip(times, counts, strict=True):
        ranks = np.flatnonzero(np.arange(n_slots) < numbers[:, None])
        samples.append((trains.reshape(-1)[ranks], ranks))
    return samples


def run_forward(case, events, weights, neuron, t_max, n_slots, dtype, variant=None):
    """ops.spike_times on poisoned outputs -> times, counts, slopes (device arrays) and status (summed, NumPy)."""
    batch, n_post = events.batch, weights.shape[0]
    times, slopes = (case.poisoned((batch, n_slots, n_post), dtype) for _ in range(2))
    counts, status = case.poisoned((batch, n_post), np.int32), case.status(batch)
    scratch = ops.forward_scratch(case.xp, batch, events.times.shape[1], n_post, dtype)
    w = case.array(np.asarray(weights).T, dtype)
    ops.spike_times(events, w, neuron, t_max, times, counts, slopes, status, scratch, variant)
    return SimpleNamespace(times=times, counts=counts, slopes=slopes, status=to_numpy(status).sum(axis=0), weights=w)


class LayerCase:
    """A random dense layer with the oracle's forward and backward pass in float64."""

    def __init__(self, seed, batch, n_pre, n_post, n_slots_pre=1, n_slots=4, duration=3.0, tau_s=0.5, grid=None, gain=None):
        rng = np.random.default_rng(seed)
        self.times, self.counts = random_trains(rng, batch, n_pre, n_slots_pre, duration * tau_s, grid)
        size = 3.0 / np.sqrt(n_pre * n_slots_pre) if gain is None else gain
        weights = rng.normal(0.3 * size, size, (n_post, n_pre))
        self.weights = weights.astype(np.float32).astype(np.float64)
        self.tau_s, self.theta, self.delta_theta, self.n_slots = tau_s, 0.3 * tau_s, 0.2 * tau_s, n_slots
        self.spikes = reference.forward_layer(
            self.times, self.counts, self.weights, tau_s, self.theta, self.delta_theta, n_slots
        )
        self.errors = np.where(np.isfinite(self.spikes.times), rng.normal(size=self.spikes.times.shape), 0)
        self.gradient, self.pre_errors = reference.backward_layer(
            self.errors, self.spikes, self.times, self.counts, self.weights
        )

    def neuron(self, dtype, slope_floor=0.0):
        return Neuron.make(self.tau_s, self.theta, self.delta_theta, dtype, slope_floor)


def by_neuron(array):
    """[B, K, N] on any device -> NumPy [B, N, K]."""
    return to_numpy(array).transpose(0, 2, 1)
