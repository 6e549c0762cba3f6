"""One training or evaluation step with everything it needs allocated beforehand; on CUDA, captured once and replayed."""

import numpy as np

from bats.device import to_numpy
from bats.fused import fused_step, reason_against, reason_for_plain
from bats.graphs import GraphCache
from bats.sources import Resident

# Steps of a graph: few where each of them takes long, so that progress is seen and a training can be stopped.
_STEPS_PER_GRAPH, _OF_LARGE_STEPS, _LARGE = 40, 10, 2**20  # large: neurons times samples of a batch


class Step:
    """A batch through encoding, forward pass, loss, and, for training, backward pass and optimizer.

    network, loss, optimizer (None: evaluation only); source: LatencyImages or SpikeSamples, or a resident copy of one;
    batch_size: largest batch; max_simulation: seconds
    graph: "auto" (True on CUDA), True or False: whether a step is captured in a CUDA graph at its second use and
    replayed from then on, with the same bits
    fused: False, True or "auto": whether the step runs as a fused one of bats.fused, for dense networks (CPU: one hidden layer);
    "auto" does where it can and where it is faster, and `fused_reason` says why not. The same mathematics in another order:
    results agree to rounding. A fused step leaves no spike trains in the layers

    Metrics add up on the device; only metrics() and predictions wait for it.
    Raises ValueError if the source does not fit the network, or if fused is True and the step cannot be.
    """

    def __init__(self, network, loss, source, batch_size, max_simulation, optimizer=None, graph="auto", fused=False):
        network._check_complete()
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, received {batch_size}")
        if not max_simulation > 0:
            raise ValueError(f"max_simulation: expected a time > 0 in seconds, received {max_simulation}")
        network.input_layer.check_source(source)
        n_outputs = network.layers[-1].n_neurons
        if source.n_classes > n_outputs:
            raise ValueError(f"source: expected at most {n_outputs} classes, as the network has outputs, received {source.n_classes}")
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.max_simulation = max_simulation
        self.batch_size = batch_size
        self.source = source.to(network.device, network.dtype) if hasattr(source, "to") else source
        xp, output = network.xp, network.layers[-1]
        self._fused = self._make_fused(fused)
        if self._fused is None:
            self._place = self.source.allocate(batch_size)
            network.allocate(batch_size)
            if hasattr(self._place, "prepare") and type(self.source) is Resident and hasattr(network.layers[1], "prepare"):
                self._place.prepare = lambda events: network.layers[1].prepare(events, max_simulation)
            self._errors = xp.zeros((batch_size, output.max_n_spike, output.n_neurons), dtype=network.dtype)
        self._loss = xp.zeros(batch_size, dtype=network.dtype)
        self._predictions = xp.zeros(batch_size, dtype=np.int32)
        self._totals = xp.zeros(4, dtype=np.float64)
        self._ticket = xp.zeros(1, dtype=np.uint32)
        self._order = xp.zeros(max(batch_size, len(self.source)), dtype=np.int32)
        self._cursor = xp.zeros(1, dtype=np.int64)
        self._batch = self._remaining = 0
        if graph not in (True, False, "auto"):
            raise ValueError(f'graph: expected True, False or "auto", received {graph!r}')
        if graph is True and network.device != "cuda":
            raise ValueError(f'graph: expected False or "auto" on the {network.device}, received True: CUDA graphs need CUDA')
        self.graph = network.device == "cuda" and graph in (True, "auto")
        self._graphs = GraphCache() if self.graph else {}

    def _make_fused(self, fused):
        """The fused step, or None; sets fused_reason."""
        if fused not in (True, False, "auto"):
            raise ValueError(f'fused: expected True, False or "auto", received {fused!r}')
        what = (self.network, self.loss, self.optimizer, self.source)
        self.fused_reason = reason_against(*what, self.max_simulation) if fused else "it was not asked for"
        if fused == "auto" and self.fused_reason is None:
            self.fused_reason = reason_for_plain(self.network, self.source)
        if fused is True and self.fused_reason is not None:
            raise ValueError(f'fused: expected False or "auto", received True, which cannot be: {self.fused_reason}')
        return None if self.fused_reason is not None else fused_step(*what, self.batch_size, self.max_simulation)

    @property
    def fused(self):
        """Whether the step runs as a fused one of bats.fused; if not, fused_reason says why."""
        return self._fused is not None

    @property
    def steps_at_once(self):
        """What to give train_next() and evaluate_next() as `steps`: several where they are captured, so that one begins while the one
        before ends; else 1."""
        if not self.graph:
            return 1
        large = self.batch_size * sum(layer.n_neurons for layer in self.network.layers) > _LARGE
        return _OF_LARGE_STEPS if large else _STEPS_PER_GRAPH

    def start(self, order):
        """order: integers into the source; train_next() and evaluate_next() take its samples batch by batch from the first on.

        Raises ValueError for an index outside the source.
        """
        order = np.ascontiguousarray(order, dtype=np.int32)
        if order.size and (order.min() < 0 or order.max() >= len(self.source)):
            raise ValueError(f"order: expected indices from 0 to {len(self.source) - 1}, received {order.min()} to {order.max()}")
        if len(order) > len(self._order):  # a new array: what was captured reads the old one
            self._order = self.network.xp.zeros(len(order), dtype=np.int32)
            self._graphs.clear()
        if self.network.xp is np:
            self._order[: len(order)] = order
        else:
            self._order[: len(order)].set(order)
        if self._fused is None:
            self._cursor.fill(0)
        elif self._fused.start(self._order[: len(order)], self._cursor):
            self._graphs.clear()
        self._remaining = len(order)

    def train_next(self, batch=None, steps=1):
        """Trains on the next `batch` samples of the order (default: batch_size, fewer at the end); returns how many.

        steps: up to so many whole batches one after another, on CUDA as one graph: less time between steps, the same bits
        """
        if self.optimizer is None:
            raise RuntimeError("train: expected a Step with an optimizer")
        return self._next(batch, True, steps)

    def evaluate_next(self, batch=None, steps=1):
        """The same without backward pass and optimizer."""
        return self._next(batch, False, steps)

    def train(self, indices):
        """indices: at most batch_size integers into the source. Changes the weights."""
        self._check_one_batch(indices)
        self.start(indices)
        self.train_next()

    def evaluate(self, indices):
        """The same without backward pass and optimizer."""
        self._check_one_batch(indices)
        self.start(indices)
        self.evaluate_next()

    def _check_one_batch(self, indices):
        if not 0 < len(indices) <= self.batch_size:
            raise ValueError(f"indices: expected 1 to {self.batch_size} of them, received {len(indices)}")

    def _next(self, batch, training, steps):
        wanted = self.batch_size if batch is None else batch
        if not 0 < wanted <= self.batch_size:
            raise ValueError(f"batch: expected 1 to {self.batch_size}, received {batch}")
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, received {steps}")
        batch = self._batch = min(wanted, self._remaining)
        if batch == 0:
            return 0
        steps = max(1, min(steps, self._remaining // batch))
        self._remaining -= steps * batch

        def launch():
            if self._fused is not None:
                self._fused.ahead = False  # what came before, and whether it has ended, is known within these steps only
            for _ in range(steps):
                self._launch(batch, training)

        if self.graph:
            if self._fused is None:
                for layer in self.network.layers[1:]:  # a replay finds the layers as a pass does
                    layer.use(batch)
            self._graphs.run((training, batch, steps), launch, self._workspaces())
        else:
            launch()
        if self._fused is not None:
            self.network.mark_fused(steps * batch)
        else:
            for _ in range(steps):
                self.network.mark_forward(self._place.events.first(batch), training)
        return steps * batch

    def _launch(self, batch, training):
        """Everything a step does on the device."""
        if self._fused is not None:
            self._fused.launch(batch, training, self._cursor, self._loss, self._predictions, self._totals)
            return
        network = self.network
        network.layers[1].training = training
        events, labels = self.source.load(self._order, self._cursor, batch, self._place)
        network.forward_events(events, self.max_simulation, training)
        times, counts = network.layers[-1].trains
        loss, errors, predictions = self._loss[:batch], self._errors[:batch], self._predictions[:batch]
        self.loss.step(times, counts, labels, loss, errors, predictions, self._totals, self._ticket)
        if training:
            gradients, pending = network.backward_events(errors, finish=False, after_loss=True)
            self.optimizer.update(network.parameters, gradients, pending)

    def _workspaces(self):
        """Changes if arrays that a captured step reads and writes are replaced."""
        return tuple(layer.generation for layer in self.network.layers[1:])

    # ------------------------------------------------------------------------------------------------------------------
    @property
    def predictions(self):
        """Classes of the last batch, int32, -1 for silent samples. Waits for the device."""
        return to_numpy(self._predictions[: self._batch])

    def metrics(self):
        """Means since reset_metrics(): samples, loss, accuracy, silent_labels (fraction of samples whose label neuron is silent),
        layers: {name: spikes_per_sample, silent_neurons (fraction), overflow, non_finite, bounded}. Waits for the device."""
        samples, loss, correct, silent = to_numpy(self._totals).tolist()
        whole = max(samples, 1)
        layers, status = {}, self.network.status()
        for layer in self.network.trainable_layers:
            total = status[layer.name]
            layers[layer.name] = {
                "spikes_per_sample": total["spikes"] / max(total["samples"], 1),
                "silent_neurons": total["silent"] / max(total["samples"] * layer.n_neurons, 1),
                **{name: total[name] for name in ("overflow", "non_finite", "bounded")},
            }
        return {
            "samples": int(samples), "loss": loss / whole, "accuracy": correct / whole, "silent_labels": silent / whole, "layers": layers,
        }  # fmt: skip

    def reset_metrics(self):
        self._totals.fill(0)
        self.network.reset_status()

    def metrics_state(self):
        """The raw totals, for a checkpoint: {name: NumPy array}."""
        status = {f"status_{name}": value for name, value in self.network.status_state().items()}
        return {"totals": to_numpy(self._totals), **status}

    def load_metrics_state(self, state):
        """The inverse of metrics_state()."""
        self._totals[...] = self.network.xp.asarray(state["totals"])
        prefix = "status_"
        self.network.load_status_state({name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)})
