"""The layer that holds the waves a user or a source gives."""

import numpy as np

from bats.device import is_cupy, to_numpy
from bats.layers.input import InputLayer
from bats.timestep.spike_trains import count, to_trains
from bats.timestep.waves import Waves

LARGEST = 256  # integers up to here have an exact bfloat16


class SteppedInputLayer(InputLayer):
    """Inputs of a network in time steps: numbers for every step, mostly 0 or 1.

    n_neurons: number of inputs; n_steps: time steps of a sample; name: used in files, plots and messages.
    The duration of a step is that of the layers that follow (their dt, seconds).
    Raises TypeError or ValueError unless both numbers are integers >= 1.
    """

    stepped = True
    dt = None  # set by the first layer that follows

    def __init__(self, n_neurons, n_steps, name="input"):
        super().__init__(n_neurons, name)
        self.n_steps = count("n_steps", n_steps)

    def check(self, waves, _=None):
        """What a user hands to Network.forward: numbers [batch, n_steps, n_neurons] or Waves -> (Waves on the network's device,).

        Raises TypeError for what are no numbers, ValueError for another shape or numbers that are not finite.
        """
        given = waves
        if isinstance(waves, Waves):
            waves = waves.array
        waves = waves if is_cupy(waves) else np.asarray(waves)
        if waves.ndim != 3 or waves.shape[1:] != (self.n_steps, self.n_neurons):
            raise ValueError(f"waves: expected shape [batch, {self.n_steps}, {self.n_neurons}], received {waves.shape}")
        if waves.dtype.kind not in "fiub":
            raise TypeError(f"waves: expected numbers, received dtype {waves.dtype}")
        if is_cupy(waves) and self.xp is np:
            waves = waves.get()
        array = self.xp.ascontiguousarray(self.xp.asarray(waves, dtype=self.dtype))
        if not bool(self.xp.isfinite(array).all()):
            raise ValueError("waves: expected finite numbers, received NaN or infinite ones")
        if isinstance(given, Waves):
            return (Waves(array, given.small_integers),)
        small = not array.size or bool(((array >= 0) & (array <= LARGEST) & (array == self.xp.floor(array))).all())
        return (Waves(array, small),)

    def check_source(self, source):
        """Raises ValueError if a source does not fit the layer."""
        super().check_source(source)
        n_steps = getattr(source, "n_steps", None)
        if n_steps != self.n_steps:
            raise ValueError(f"source: expected {self.n_steps} time steps, as the network has, received {n_steps}")

    def load(self, waves):
        """Takes checked waves."""
        self.events = waves

    @property
    def spike_trains(self):
        """(times [batch, n_neurons, slots] in seconds, inf-padded, counts [batch, n_neurons]) of the last input, as new arrays.

        A spike in step t has the time t dt; an entry c > 0 counts as one spike.
        """
        if self.events is None:
            raise RuntimeError(f"layer {self.name!r}: no spike trains yet, run network.forward first")
        times, counts = to_trains(to_numpy(self.events.array), self.dt or 1.0, self.dtype)
        return self.xp.asarray(times), self.xp.asarray(counts)
