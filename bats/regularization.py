"""Spike-rate regularization: keeps every neuron of a layer at work (docs/silent_neurons.md)."""

from bats import ops
from bats.layers.base import positive


class SpikeRateRegularizer:
    """Penalty strength / 2 sum_u [max(0, minimum - r_u)^2 + max(0, r_u - maximum)^2] on the mean spike counts r_u of a layer.

    minimum, maximum: spikes per sample and neuron (maximum None: no upper bound); strength >= 0 in units of the loss.
    r_u is the mean over the batch and, in a convolution, over the neurons that share a filter.

    For a unit that spikes, the penalty acts on its spike times through the surrogate dn/dt = -1 of the count losses, and from the
    spike times on the gradient is exact. A unit without any spike in the batch has no spike time: there a surrogate takes over
    that raises each of its incoming weights, with dL/dw = -strength minimum. With Adam that is enough at a strength far below the
    loss: a gradient that is all there is gets steps of full size, and vanishes beside others once the neuron fires.

    Raises TypeError or ValueError for anything but finite numbers >= 0 and minimum <= maximum.
    """

    def __init__(self, minimum=1.0, maximum=None, strength=1e-4):
        self.minimum = positive("minimum", minimum, zero_allowed=True)
        self.maximum = None if maximum is None else positive("maximum", maximum, zero_allowed=True)
        self.strength = positive("strength", strength, zero_allowed=True)
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"maximum: expected at least minimum = {self.minimum}, received {self.maximum}")

    def describe(self):
        return dict(vars(self))


class SpikeRates:
    """A regularizer at work on one layer: the mean spike counts of its last batch, and what follows from them."""

    def __init__(self, regularizer, xp, dtype, n_units):
        self.settings = regularizer
        self.rates = xp.zeros(n_units, dtype=dtype)

    def add_errors(self, errors, counts, total):
        """total = errors + those of the penalty, [batch, slots, neurons]; for the spikes that counts [batch, neurons] has."""
        settings = self.settings
        ops.spike_rates(counts, self.rates)
        ops.spike_rate_errors(errors, counts, self.rates, settings.minimum, settings.maximum, settings.strength, total)
        return total

    def raise_silent(self, gradient):
        """Lets gradient [..., units] raise the weights of units that were silent in the whole batch."""
        ops.raise_silent(self.rates, self.settings.minimum * self.settings.strength, gradient)
