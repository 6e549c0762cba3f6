"""The last layer in time steps: the largest membrane over time is the logit."""

import numpy as np

from bats import ops
from bats.timestep.base import SteppedLayer


class MembraneReadout(SteppedLayer):
    """Leaky integrators that never spike; logit = max over time of V[t] = beta V[t-1] + W S_in[t] + b (arXiv 2205.15286).

    The gradient of a logit goes to the step of its maximum, the first one on ties.
    learned_filter: beta^s becomes a trained filter, as in FastLIFLayer; the other parameters as of StandardLIFLayer.
    """

    spiking = False
    max_n_spike = 1  # one number per neuron is what a loss reads

    def __init__(self, previous_layer=None, n_neurons=None, tau=0.020, dt=0.001, *, bias=0.0, weight_initializer=None,
                 learned_filter=False, tf32=False, name=""):  # fmt: skip
        super().__init__(previous_layer, n_neurons, tau, dt, bias, weight_initializer, learned_filter, tf32, name)

    def allocate(self, batch):
        super().allocate(batch)
        if self._space is not None:
            self._space.spike_counts.fill(1)  # what read-outs and metrics take for "this neuron has spoken"

    @property
    def output(self):
        """Logits [batch, n_neurons] of the last forward pass: a view that the next one overwrites."""
        return self._now("logits")[:, 0]

    @property
    def trains(self):
        """(logits [batch, 1, n_neurons], ones [batch, n_neurons]): the place of the spike trains in a Step."""
        return self._now("logits"), self._now("spike_counts")

    @property
    def spike_trains(self):
        """Empty spike trains: times [batch, n_neurons, 1] inf, counts 0."""
        shape = self.output.shape
        return self.xp.full((*shape, 1), np.inf, dtype=self.dtype), self.xp.zeros(shape, dtype=np.int32)

    @property
    def peaks(self):
        """[batch, n_neurons] int32: the step of the largest membrane."""
        return self._now("step")

    def as_errors(self, errors):
        """dL/dlogits [batch, n_neurons] as a user gives them -> [batch, 1, n_neurons]. Raises ValueError for another shape."""
        if tuple(errors.shape) != self.output.shape:
            raise ValueError(f"backward: expected errors of shape {self.output.shape}, received {tuple(errors.shape)}")
        return self.xp.ascontiguousarray(self.xp.asarray(errors, dtype=self.dtype))[:, None]

    def forward(self, waves, t_max=None, sort=True):
        """Runs the layer on its input and leaves the logits in self.output."""
        bias = self._load_currents(waves)
        beta = 0.0 if self.learned_filter else self.beta
        ops.readout_steps(self.membrane, bias, beta, self._now("logits"), self.peaks, self._now("status"))

    def backward(self, errors, waves, earlier_errors=None):
        """errors [batch, 1, n_neurons] = dL/dlogits; the rest as of StandardLIFLayer."""
        beta = 0.0 if self.learned_filter else self.beta
        ops.readout_backward(errors, self.peaks, beta, self.errors)
        self._finish_backward(self.errors, waves, earlier_errors, add=False)
