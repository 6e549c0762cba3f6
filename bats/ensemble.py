"""Many small one-layer networks that see the same samples, trained side by side as one computation.

Networks that share their input share the event list, and with it everything that a dense layer computes once for all of
its neurons. An ensemble of R networks of n_post neurons therefore is one layer of R * n_post neurons: spikes, gradient and
update are those of such a layer, by the same operations. Only a loss and its read-out must know where a network ends: to
them, the n_post neurons of one sample and one network are a sample of its own.
"""

import numbers
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from bats import ops
from bats.cpu.warm_up import warm_up
from bats.device import array_module, check_dtype, resolve, to_numpy
from bats.layers import InputLayer
from bats.layers.base import positive
from bats.layers.lif import SLOPE_FLOOR
from bats.losses import SpikeCountClassLoss, TTFSSoftmaxCrossEntropy, check_labels
from bats.ops.neuron import Neuron
from bats.optimizers import Optimizer
from bats.spikes import check_spike_trains

STATUS = ("spikes", "silent", "overflow", "non_finite", "bounded")


@dataclass(frozen=True)
class EnsembleHistory:
    """What every network did in every epoch, before that epoch's update; NumPy arrays.

    losses       [epochs, n_networks, batch]
    predictions  [epochs, n_networks, batch] int32, -1 for a silent sample
    labels       [batch] int32
    """

    losses: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray

    @property
    def accuracy(self):
        """Share of right predictions, [epochs, n_networks]; a silent sample is wrong."""
        return (self.predictions == self.labels).mean(axis=2)

    @property
    def best_accuracy(self):
        """That of each network's best epoch, [n_networks]."""
        return self.accuracy.max(axis=0)


class Ensemble:
    """n_networks independent networks of one dense LIF layer each: the same neurons and samples, other weights.

    weights: initial weights [n_networks, n_post, n_pre]
    tau_s (seconds), theta, delta_theta, max_n_spike, slope_floor: as of LIFLayer, the same for all networks
    device: "auto", "cpu" or "cuda"; dtype: "float32" or "float64"

    Raises TypeError or ValueError for other arguments, bats.device.CudaUnavailable if "cuda" cannot be had.
    """

    def __init__(self, weights, tau_s, theta, delta_theta, max_n_spike=32, *, slope_floor=SLOPE_FLOOR,
                 device="auto", dtype="float32"):  # fmt: skip
        weights = to_numpy(weights)
        if weights.ndim != 3 or 0 in weights.shape:
            raise ValueError(f"weights: expected shape [n_networks, n_post, n_pre], each at least 1, received {weights.shape}")
        self.n_networks, self.n_post, self.n_pre = weights.shape
        self.max_n_spike = _at_least_one("max_n_spike", max_n_spike)
        self.device, self.dtype = resolve(device), check_dtype(dtype)
        self.xp = array_module(self.device)
        self._neuron = Neuron.make(
            positive("tau_s", tau_s), positive("theta", theta), positive("delta_theta", delta_theta), self.dtype,
            positive("slope_floor", slope_floor, zero_allowed=True),
        )  # fmt: skip
        self._inputs = InputLayer(self.n_pre)
        self._inputs.attach(self.xp, self.dtype, None)
        self._weights = self.xp.empty((self.n_pre, self.n_networks * self.n_post), dtype=self.dtype)
        self.weights = weights
        self._gradient = self.xp.empty_like(self._weights)
        self._space, self._earlier, self._samples = None, np.zeros(len(STATUS), dtype=np.int64), 0
        if self.device == "cpu":
            warm_up(self.dtype)

    @property
    def weights(self):
        """[n_networks, n_post, n_pre], a view: writing into it changes the networks. Settable from NumPy or CuPy."""
        return self._weights.reshape(self.n_pre, self.n_networks, self.n_post).transpose(1, 2, 0)

    @weights.setter
    def weights(self, values):
        values = to_numpy(values)
        shape = (self.n_networks, self.n_post, self.n_pre)
        if values.shape != shape:
            raise ValueError(f"weights: expected shape {shape}, received {values.shape}")
        if values.dtype.kind not in "fiu":
            raise TypeError(f"weights: expected numbers, received dtype {values.dtype}")
        self._weights[...] = self.xp.asarray(values.reshape(-1, self.n_pre).T, dtype=self.dtype)

    def status(self):
        """Totals over all networks and passes, as in Network.status(): spikes; silent, overflowing and non-finite neurons;
        bounded spikes; samples, each counted once per network that saw it. Waits for the device."""
        totals = self._earlier + (self._space.totals() if self._space else 0)
        return dict(zip(STATUS, totals.tolist(), strict=True), samples=self._samples)

    # ------------------------------------------------------------------------------------------------------------------
    def forward(self, spike_times, n_spikes, max_simulation=np.inf):
        """Simulates samples that all networks see: spike_times [batch, n_pre, slots] seconds, ascending, inf-padded;
        n_spikes [batch, n_pre]; no spikes are emitted after max_simulation (seconds).

        Returns times [n_networks, batch, n_post, max_n_spike] inf-padded and counts [n_networks, batch, n_post], views that
        the next pass overwrites. Raises TypeError or ValueError for malformed input.
        """
        t_max = self._load(spike_times, n_spikes, max_simulation)
        self._forward(t_max)
        space = self._space
        times = space.times.reshape(space.wide).transpose(2, 0, 3, 1)
        return times, space.counts.reshape(-1, self.n_networks, self.n_post).swapaxes(0, 1)

    def train(self, spike_times, n_spikes, labels, loss, optimizer, epochs, max_simulation=np.inf, progress=False):
        """Trains every network on all samples in one batch, once per epoch -> EnsembleHistory.

        Samples as in forward; labels [batch]; loss: SpikeCountClassLoss or TTFSSoftmaxCrossEntropy; optimizer: one of
        bats (they work weight by weight, so that networks do not mix); progress: shows a bar with the accuracy.
        Raises TypeError or ValueError for malformed arguments.
        """
        if not isinstance(loss, (SpikeCountClassLoss, TTFSSoftmaxCrossEntropy)):
            raise TypeError(f"loss: expected SpikeCountClassLoss or TTFSSoftmaxCrossEntropy, received {type(loss).__name__}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected one of bats.optimizers, received {type(optimizer).__name__}")
        epochs = _at_least_one("epochs", epochs)
        t_max = self._load(spike_times, n_spikes, max_simulation)
        batch = self._inputs.events.batch
        labels = check_labels(np, labels, batch, self.n_post)
        wanted = self.xp.asarray(np.repeat(labels, self.n_networks))
        losses = self.xp.empty((epochs, wanted.size), dtype=self.dtype)
        predictions = self.xp.empty((epochs, wanted.size), dtype=np.int32)
        with tqdm(total=epochs, desc=f"{self.n_networks} networks", unit=" epochs", leave=False, disable=not progress) as bar:
            for epoch in range(epochs):
                self._train_epoch(wanted, loss, optimizer, t_max, losses[epoch], predictions[epoch])
                if progress:  # reading the accuracy waits for the device
                    bar.set_postfix(accuracy=f"{100 * float((predictions[epoch] == wanted).mean()):.1f} %", refresh=False)
                bar.update()
        by_network = (epochs, batch, self.n_networks)
        losses, predictions = (to_numpy(array).reshape(by_network).swapaxes(1, 2) for array in (losses, predictions))
        return EnsembleHistory(losses, predictions, labels)

    # ------------------------------------------------------------------------------------------------------------------
    def _load(self, spike_times, n_spikes, max_simulation):
        """Checks the samples, puts their event lists on the device and makes room; returns the end of the simulation."""
        if not max_simulation > 0:
            raise ValueError(f"max_simulation: expected a time > 0 in seconds, received {max_simulation}")
        times, counts = (to_numpy(array) for array in check_spike_trains(spike_times, n_spikes, self.n_pre))
        if len(times) == 0:
            raise ValueError("spike times: expected at least one sample, received none")
        self._inputs.load(times, counts)
        shape = self._inputs.events.times.shape
        if self._space is None or self._space.factors.shape != shape:
            if self._space is not None:
                self._earlier += self._space.totals()
            self._space = _Workspace(self, *shape)
        return float(max_simulation)

    def _forward(self, t_max):
        space, events = self._space, self._inputs.events
        ops.spike_times(
            events, self._weights, self._neuron, t_max, space.times, space.counts, space.slopes, space.status, space.scratch
        )
        self._samples += events.batch * self.n_networks

    def _train_epoch(self, labels, loss, optimizer, t_max, losses, predictions):
        """One pass, one update. From the optimizer's second step on, nothing is allocated and nothing waits for the device."""
        space, events = self._space, self._inputs.events
        self._forward(t_max)
        times, counts = space.group()
        ops.predict(loss.rule, times, counts, predictions)
        loss.launch(times, counts, labels, losses, space.grouped_errors)
        errors = space.ungroup()
        ops.recurrent_errors(errors, space.times, space.slopes, space.counts, self._neuron, errors, space.bounded)
        ops.event_factors(events, self._neuron, space.factors)
        ops.ensemble_gradient(events, space.factors, space.times, space.counts, errors, self._neuron, self._gradient)
        optimizer.update([self._weights], [self._gradient])


class _Workspace:
    """Arrays of a batch: spikes as the wide layer has them, [batch, slot, network * neuron], and grouped as the losses read
    them, where sample b of network r is sample b * n_networks + r of n_post neurons."""

    def __init__(self, ensemble, batch, n_events):
        xp, dtype, n_wide = ensemble.xp, ensemble.dtype, ensemble.n_networks * ensemble.n_post
        n_slots, n_post = ensemble.max_n_spike, ensemble.n_post
        self.xp, self.wide = xp, (batch, n_slots, ensemble.n_networks, n_post)
        self.times = xp.full((batch, n_slots, n_wide), np.inf, dtype=dtype)
        self.slopes, self.errors = xp.zeros_like(self.times), xp.zeros_like(self.times)
        self.counts = xp.zeros((batch, n_wide), dtype=np.int32)
        self.status, self.bounded = (xp.zeros((batch, 4), dtype=np.int64 if xp is np else np.uint64) for _ in range(2))
        self.factors = xp.empty((batch, n_events), dtype=dtype)
        self.scratch = ops.forward_scratch(xp, batch, n_events, n_wide, dtype)
        self.grouped_times = xp.empty((batch * ensemble.n_networks, n_slots, n_post), dtype=dtype)
        self.grouped_errors = xp.empty_like(self.grouped_times)

    def _by_slot(self, grouped):
        """A grouped array seen in the order of the wide layer."""
        batch, n_slots, n_networks, n_post = self.wide
        return grouped.reshape(batch, n_networks, n_slots, n_post).swapaxes(1, 2)

    def group(self):
        """(times, counts) of the last pass, grouped."""
        self.xp.copyto(self._by_slot(self.grouped_times), self.times.reshape(self.wide))
        return self.grouped_times, self.counts.reshape(-1, self.wide[3])

    def ungroup(self):
        """grouped_errors in the order of the wide layer."""
        self.xp.copyto(self.errors.reshape(self.wide), self._by_slot(self.grouped_errors))
        return self.errors

    def totals(self):
        """int64 [5], in the order of STATUS."""
        totals = np.append(to_numpy(self.status).sum(axis=0), to_numpy(self.bounded).sum(axis=0)[:1])
        return totals.astype(np.int64)


def _at_least_one(name, value):
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, received {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, received {value}")
    return int(value)
