"""Waves: what the layers of bats.timestep consume and produce, a number for every time step and neuron."""

from dataclasses import dataclass


@dataclass
class Waves:
    """Spikes on a grid of time steps.

    array           [batch, n_steps, n_neurons], C-contiguous, of the network's dtype; what spiking layers produce: bytes (uint8)
    small_integers  whether all entries are integers from 0 to 256 (spikes, or how many fell into one step): the promise that
                    lets a float32 product on tensor cores take them as they are, at half the cost and with the same accuracy.
                    Sources that keep it say so.
    """

    array: object
    small_integers: bool = False

    @classmethod
    def allocate(cls, xp, batch, n_steps, n_neurons, dtype, small_integers=False):
        return cls(xp.zeros((batch, n_steps, n_neurons), dtype=dtype), small_integers)

    def first(self, batch):
        """The same waves, restricted to the first `batch` samples (a view)."""
        return Waves(self.array[:batch], self.small_integers)

    @property
    def batch(self):
        return self.array.shape[0]

    @property
    def train_shape(self):
        """(n_steps, n_neurons): the shape of errors, without the batch."""
        return self.array.shape[1:]

    @property
    def rows(self):
        """[batch * n_steps, n_neurons], a view: what a product over all steps at once reads."""
        return self.array.reshape(-1, self.array.shape[2])
