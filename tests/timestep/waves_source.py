"""A source of given waves, the smallest there can be, for tests of what does not depend on an encoding."""

from types import SimpleNamespace

import numpy as np

from bats import ops
from bats.device import array_module
from bats.sources import Resident, Source
from bats.timestep import Waves


class WaveSamples(Source):
    """waves [n, n_steps, n_neurons], labels [n]."""

    n_slots = 1

    def __init__(self, waves, labels):
        self.waves, (self.n_steps, self.n_neurons) = waves, waves.shape[1:]
        super().__init__(labels, len(waves), None)

    def to(self, device, dtype):
        return ResidentWaves(self, array_module(device), np.dtype(dtype))


class ResidentWaves(Resident):
    def __init__(self, source, xp, dtype):
        super().__init__(xp, dtype, source, lambda resident: None, None)
        self.n_steps = source.n_steps
        self.waves = xp.asarray(source.waves, dtype=dtype)
        self.none = xp.zeros((len(source), self.n_neurons), dtype=np.int32)

    def allocate(self, batch):
        xp = self.xp
        return SimpleNamespace(
            indices=xp.zeros(batch, dtype=np.int32), labels=xp.zeros(batch, dtype=np.int32), none=self.none[:batch].copy(),
            events=Waves.allocate(xp, batch, self.n_steps, self.n_neurons, self.dtype, small_integers=True),
        )  # fmt: skip

    def load(self, order, cursor, batch, place):
        indices, labels, events = place.indices[:batch], place.labels[:batch], place.events.first(batch)
        ops.next_batch(order, cursor, self.labels, indices, labels, self.dtype)
        ops.gather_spike_trains(self.waves, self.none, indices, events.array, place.none[:batch])
        return events, labels


def two_classes(n, n_steps=15, n_inputs=20, seed=0):
    """Samples whose class is which half of the inputs spikes more often; learnable in a few epochs."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rates = np.where(np.arange(n_inputs)[None] // (n_inputs // 2) == labels[:, None], 0.25, 0.1)
    return WaveSamples((rng.random((n, n_steps, n_inputs)) < rates[:, None]).astype(np.float64), labels)
