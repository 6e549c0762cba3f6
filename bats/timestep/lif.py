"""Spiking layers in time steps: the step-by-step LIF neuron and the single-spike neuron of FastSNN."""

from bats import ops
from bats.device import to_numpy
from bats.layers.base import positive
from bats.timestep.base import SteppedLayer
from bats.timestep.spike_trains import to_trains
from bats.timestep.surrogates import FastSigmoid, Surrogate
from bats.timestep.waves import Waves


class SpikingLayer(SteppedLayer):
    """Common part of both: threshold, surrogate, skip connection, spikes."""

    instead_last = "a MembraneReadout as the last layer"

    def __init__(self, previous_layer, n_neurons, tau, dt, bias, skip, surrogate, threshold, weight_initializer, learned_filter,
                 tf32, name):  # fmt: skip
        super().__init__(previous_layer, n_neurons, tau, dt, bias, weight_initializer, learned_filter, tf32, name)
        if surrogate is None:
            surrogate = FastSigmoid(100)
        if not isinstance(surrogate, Surrogate):
            raise TypeError(f"surrogate: expected FastSigmoid, ArcTan or Sigmoid, received {surrogate!r}")
        self.surrogate, self.threshold, self.skip = surrogate, positive("threshold", threshold), bool(skip)

    def attach(self, xp, dtype, generator):
        if self.skip:
            before = self.previous_layer
            if not isinstance(before, SpikingLayer):
                raise ValueError(f"layer {self.name!r}: expected a spiking layer before a skip connection, received {before!r}")
            if before.n_neurons != self.n_neurons:
                raise ValueError(
                    f"layer {self.name!r}: expected as many neurons as before, for the skip connection: {before.n_neurons}, "
                    f"received {self.n_neurons}"
                )
        super().attach(xp, dtype, generator)
        self._neuron = self._make_neuron()

    @property
    def events(self):
        """The spikes of the last forward pass as Waves of bytes (uint8), skip connection included."""
        return Waves(self._now("spikes"), small_integers=True)

    @property
    def spike_counts(self):
        """[batch, n_neurons] int32: entries of the last forward pass's output that are 1 (with a skip connection, its own
        spikes and those handed on). A view that the next pass overwrites."""
        return self._now("spike_counts")

    @property
    def spike_trains(self):
        """(times [batch, n_neurons, slots] in seconds, inf-padded, counts [batch, n_neurons]): a spike in step t has the time
        t dt. New arrays; waits for the device."""
        times, counts = to_trains(to_numpy(self._now("spikes")), self.dt, self.dtype)
        return self.xp.asarray(times), self.xp.asarray(counts)

    def _passed_on(self, waves, earlier_errors):
        """(spikes that a skip connection hands on or None, where their errors go or None)."""
        return (waves.array, earlier_errors) if self.skip else (None, None)


class StandardLIFLayer(SpikingLayer):
    """LIF neurons step by step, with soft reset and surrogate gradient (Taylor, King & Harper 2022, arXiv 2205.15286, the
    standard model; docs/timestep.md).

    V[t] = beta U[t-1] + W S_in[t] + b,  S[t] = [V[t] > threshold],  U[t] = V[t] - threshold S[t],  beta = e^(-dt / tau).
    The gradient runs through the reset too (it is not detached).

    previous_layer: SteppedInputLayer or a spiking layer, or None if the layers are given to Network in order
    n_neurons: number of neurons; tau, dt: membrane time constant and duration of a step in seconds
    bias: its value at the start, or None for none; reset: whether a spike takes the threshold from the membrane
    skip: hands the spikes of the previous layer on, clamp(S + S_in, 0, 1); their gradient is 0 where both spike
    surrogate: FastSigmoid, ArcTan or Sigmoid; None is FastSigmoid(100)
    weight_initializer: as of LIFLayer; default U(-1, 1) / sqrt(n_pre)
    tf32: products of float32 numbers on CUDA may use 16 of their 24 bits, in less time

    Raises TypeError or ValueError for wrong parameters; when joining a network, for a skip connection without a spiking
    layer of the same size before it, or another dt than that layer's.
    """

    def __init__(self, previous_layer=None, n_neurons=None, tau=0.010, dt=0.001, *, bias=0.0, reset=True, skip=False,
                 surrogate=None, threshold=1.0, weight_initializer=None, tf32=False, name=""):  # fmt: skip
        super().__init__(previous_layer, n_neurons, tau, dt, bias, skip, surrogate, threshold, weight_initializer, False, tf32, name)
        self.resets = bool(reset)

    def _make_neuron(self):
        return ops.SteppedNeuron.make(self.beta, self.threshold, self.resets, self.surrogate, self.dtype)

    def forward(self, waves, t_max=None, sort=True):
        """Runs the layer on its input; returns its spikes as Waves. (t_max and sort belong to event-based layers.)"""
        bias = self._load_currents(waves)
        passed_on, _ = self._passed_on(waves, None)
        ops.lif_steps(
            self.membrane, bias, self._neuron, passed_on, self._now("spikes"), self._now("spike_counts"), self._now("status")
        )
        return self.events

    def backward(self, errors, waves, earlier_errors=None):
        """errors [batch, n_steps, n_neurons] = dL/dS of this layer's output (overwritten; may be its own workspace); waves:
        its input; earlier_errors: where dL/dS of the input goes, or None. Leaves the batch means of the gradients in
        self.gradient [n_pre, n_neurons] and self.further_gradients."""
        ops.lif_steps_backward(errors, self.membrane, self._neuron, *self._passed_on(waves, earlier_errors))
        self._finish_backward(errors, waves, earlier_errors, add=self.skip)


class FastLIFLayer(SpikingLayer):
    """Neurons that spike once, at the first crossing of a membrane without reset: all time steps at once (FastSNN: Taylor,
    King & Harper 2022, arXiv 2205.15286; docs/timestep.md).

    V[t] = sum_{s <= t} beta^(t-s) (W S_in[s] + b),  h[t] = [V[t] > threshold],  z[t] = sum_{s <= t} (t-s+1) h[s],  S = [z = 1].
    Gradient as published: errors of the steps before the first crossing run back through z, the surrogate and the decay;
    the spike itself and later steps receive none.

    learned_filter: beta^(t-s) becomes a trained filter k[t-s] of length n_steps, beta^s at the start, as the released code
        trains it; the other parameters as of StandardLIFLayer.
    """

    resets = False

    def __init__(self, previous_layer=None, n_neurons=None, tau=0.010, dt=0.001, *, bias=0.0, skip=False,
                 surrogate=None, threshold=1.0, weight_initializer=None, learned_filter=False, tf32=False,
                 name=""):  # fmt: skip
        super().__init__(
            previous_layer, n_neurons, tau, dt, bias, skip, surrogate, threshold, weight_initializer, learned_filter, tf32, name
        )

    def _make_neuron(self):
        """With a learned filter the membrane is there already: nothing of the step before is left."""
        beta = 0.0 if self.learned_filter else self.beta
        return ops.SteppedNeuron.make(beta, self.threshold, False, self.surrogate, self.dtype)

    def forward(self, waves, t_max=None, sort=True):
        """Runs the layer on its input; returns its spikes as Waves."""
        bias = self._load_currents(waves)
        passed_on, _ = self._passed_on(waves, None)
        ops.single_spike_steps(
            self.membrane, bias, self._neuron, passed_on, self._now("spikes"), self._now("step"), self._now("spike_counts"),
            self._now("status"),
        )  # fmt: skip
        return self.events

    def backward(self, errors, waves, earlier_errors=None):
        """As of StandardLIFLayer."""
        ops.single_spike_backward(
            errors, self.membrane, self._now("step"), self._neuron, *self._passed_on(waves, earlier_errors)
        )
        self._finish_backward(errors, waves, earlier_errors, add=self.skip)
