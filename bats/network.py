"""A stack of layers: forward pass, exact gradient, storing and restoring, status."""

import secrets

import numpy as np

from bats import ops, storage
from bats.cpu.warm_up import warm_up
from bats.device import array_module, check_dtype, resolve
from bats.layers import InputLayer, Layer, LIFLayer, PoolingLayer


class Network:
    """Layers in order, the input layer first (Bacho & Chu, arXiv 2212.09500; docs/theory.md).

    layers: list of layers, or None to add them one by one
    device: "auto" (CUDA where it works, else the CPU), "cpu" or "cuda"; dtype: "float32" or "float64"
    seed: integer from which all initial weights follow; None draws one (kept in .seed)

    Raises TypeError or ValueError for other arguments, bats.device.CudaUnavailable if "cuda" cannot be had.
    """

    def __init__(self, layers=None, *, device="auto", dtype="float32", seed=None):
        self.device = resolve(device)
        self.dtype = check_dtype(dtype)
        self.xp = array_module(self.device)
        self.seed = secrets.randbits(32) if seed is None else int(seed)
        if self.seed < 0:
            raise ValueError(f"seed: expected an integer >= 0 or None, received {seed}")
        self.layers = []
        self._samples = 0
        self._trainable_pass = False
        for layer in layers or []:
            self.add_layer(layer)

    # ------------------------------------------------------------------------------------------------------------------
    def add_layer(self, layer, input=False):
        """Appends a layer; its initial weights follow from the network's seed and the layer's place.

        input: says that this is the input layer (implied for an InputLayer). Returns the layer.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"add_layer: expected a layer, received {type(layer).__name__}")
        is_input = isinstance(layer, InputLayer)
        if bool(input) and not is_input:
            raise ValueError(f"add_layer: expected an input layer, received {layer!r}")
        if is_input != (not self.layers):
            raise ValueError(
                f"add_layer: expected {'an input layer first' if not self.layers else 'one input layer only'}, received {layer!r}"
            )
        if layer.attached:
            raise ValueError(f"add_layer: expected a layer of no network yet, received {layer!r}, which is part of one")
        if self.layers:
            if layer.previous_layer is None:
                layer.previous_layer = self.layers[-1]
            if layer.previous_layer is not self.layers[-1]:
                raise ValueError(
                    f"add_layer: expected {layer!r} to follow {self.layers[-1]!r}, received previous_layer {layer.previous_layer!r}"
                )
            if layer.stepped != self.layers[-1].stepped:
                kinds = ["event-based layer", "layer of bats.timestep"]
                raise TypeError(f"add_layer: expected a further {kinds[self.layers[-1].stepped]}, received {layer!r}")
        if not layer.name:
            layer.name = f"layer_{len(self.layers)}"
        if layer.name in [other.name for other in self.layers]:
            raise ValueError(f"add_layer: expected a name not yet used, received {layer.name!r} again")
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, len(self.layers)])))
        layer.attach(self.xp, self.dtype, generator)
        self.layers.append(layer)
        return layer

    @property
    def input_layer(self):
        return self.layers[0]

    @property
    def trainable_layers(self):
        """The layers with weights, in order."""
        return [layer for layer in self.layers if layer.trainable]

    @property
    def output_spike_trains(self):
        """(times [batch, n_neurons, slots] inf-padded, counts [batch, n_neurons]) of the last layer, last forward pass."""
        return self.layers[-1].spike_trains

    def _check_complete(self):
        if len(self.layers) < 2:
            raise RuntimeError(f"network: expected an input layer and at least one more, it has {len(self.layers)}")
        if self.layers[-1].instead_last is not None:
            raise RuntimeError(f"network: expected {self.layers[-1].instead_last}, received {self.layers[-1]!r}")

    # ------------------------------------------------------------------------------------------------------------------
    def forward(self, spike_times, n_spikes=None, max_simulation=np.inf, training=False):
        """Simulates a batch event by event; a network of bats.timestep, all time steps at once.

        spike_times [batch, n_inputs, slots] float, seconds, ascending, inf-padded; n_spikes [batch, n_inputs] integer
        (bats.timestep: waves [batch, n_steps, n_inputs] instead of both)
        max_simulation: spikes after this time (seconds) are not emitted; training: a backward pass will follow
        Returns output_spike_trains (bats.timestep: the logits [batch, n_outputs]). Raises TypeError or ValueError for malformed
        input (see spikes.check_spike_trains).
        """
        self._check_complete()
        max_simulation = float(max_simulation)
        if not max_simulation > 0:
            raise ValueError(f"max_simulation: expected a time > 0 in seconds, received {max_simulation}")
        self.input_layer.load(*self.input_layer.check(spike_times, n_spikes))
        self.allocate(self.input_layer.events.batch)
        self.forward_events(self.input_layer.events, max_simulation, training)
        self.mark_forward(self.input_layer.events, training)
        return self.layers[-1].output

    def allocate(self, batch):
        """Makes room for batches of up to `batch` samples. On the CPU, compiles what passes over them call, at the first time."""
        if self.device == "cpu":
            warm_up(self.dtype)
        for layer in self.layers[1:]:
            layer.allocate(batch)

    def forward_events(self, events, max_simulation=np.inf, training=False):
        """The forward pass on an event list that is sorted already; no checks, no allocation, no synchronisation."""
        for layer in self.layers[1:]:
            layer.use(events.batch)
            layer.training = training
        self.input_layer.events = events
        for layer, following in zip(self.layers[1:], [*self.layers[2:], None], strict=True):
            if isinstance(layer, PoolingLayer) and layer.sorts():
                events = layer.forward_trains(*layer.previous_layer.trains, max_simulation, following)
            elif isinstance(following, PoolingLayer) and following.sorts():
                events = layer.forward(events, max_simulation, sort=False, pooled=True)
            else:
                events = layer.forward(events, max_simulation, sort=following is not None)

    def mark_forward(self, events, training):
        """What is left to do in Python after forward_events, or after a replay of a captured one."""
        self.input_layer.events = events
        for layer in self.layers[1:]:
            layer.use(events.batch)
        self._samples += events.batch
        self._trainable_pass = training

    def mark_fused(self, batch):
        """The same after a step that keeps no spike trains (bats/fused)."""
        self.input_layer.events = None
        for layer in self.trainable_layers:
            layer.use(None)  # what it holds is of an earlier pass
        self._samples += batch
        self._trainable_pass = False

    def backward(self, errors, input_errors=False):
        """errors [batch, n_outputs, slots] = dL/dt of every output spike (empty slots are ignored) -> list of gradients.

        The list is aligned with layers: None without weights, else the exact gradient dL/dw, the mean over the batch, shape
        of layer.weights. With input_errors, dL/dt of the input spikes is kept in self.input_errors [batch, n_inputs, slots].
        Behind them come, layer by layer, the gradients of parameters beside the weights, if there are any (bats.timestep:
        bias, filter; there errors are dL/dlogits [batch, n_outputs]).
        Gradients are views of workspaces that the next backward pass overwrites.
        Raises RuntimeError without a forward pass with training=True, ValueError or TypeError for errors that do not fit.
        """
        if not self._trainable_pass:
            raise RuntimeError("backward: expected a forward pass with training=True before it")
        return self.backward_events(self.layers[-1].as_errors(errors), input_errors)

    def backward_events(self, errors, input_errors=False, finish=True, after_loss=False):
        """backward() with errors as they lie in memory, [batch, slots, n_outputs]; no checks. Without finish, returns the gradients, some
        of which are not made yet, and what Optimizer.update() needs to make them. after_loss: the work that was last enqueued made
        the errors, and nothing else that is read here."""
        layers, pending = self.layers, []
        gradients = [None] * len(layers)
        for place in range(len(layers) - 1, 0, -1):
            layer = layers[place]
            if isinstance(layer, PoolingLayer):
                continue  # the errors went to the spikes that it pools
            events = layers[place - 1].events
            source = place - 1  # the layer whose spikes come in, pooled or not
            while isinstance(layers[source], PoolingLayer):
                source -= 1
            if source > 0:
                earlier_errors = layers[source].errors
                if source < place - 1:
                    layers[place - 1].clear_left_out(earlier_errors)
            else:
                earlier_errors = self._input_errors(events) if input_errors else None
            if isinstance(layer, LIFLayer):
                pending += layer.backward(errors, events, earlier_errors, finish=False, in_parts=source > 0, after_loss=after_loss)
                after_loss = False
                earlier_errors = layer.passed
            else:
                layer.backward(errors, events, earlier_errors)
            gradients[place] = layer.gradient.T
            errors = earlier_errors
        gradients += [gradient for layer in layers for gradient in layer.further_gradients.values()]
        if not finish:
            return gradients, pending
        ops.add_partial(pending)
        return gradients

    @property
    def parameters(self):
        """What an optimizer changes, aligned with the list that backward() returns."""
        further = [layer.parameters[name] for layer in self.layers for name in layer.further_gradients]
        return [layer.weights for layer in self.layers] + further

    def _input_errors(self, events):
        errors = self.xp.zeros((events.batch, *events.train_shape), dtype=self.dtype)
        self.input_errors = errors.transpose(0, 2, 1)
        return errors

    def apply_deltas(self, deltas):
        """Adds to the weights; deltas: list aligned with the one that backward() returns, None where nothing changes."""
        parameters = self.parameters
        if len(deltas) != len(parameters):
            raise ValueError(f"apply_deltas: expected {len(parameters)} entries, one per layer, received {len(deltas)}")
        for place, (values, delta) in enumerate(zip(parameters, deltas, strict=True)):
            if delta is None:
                continue
            owner = repr(self.layers[place]) if place < len(self.layers) else f"entry {place}"
            if values is None:
                raise ValueError(f"apply_deltas: expected None for {owner}, which has no weights, received an array")
            if tuple(delta.shape) != values.shape:
                raise ValueError(f"apply_deltas: expected shape {values.shape} for {owner}, received {tuple(delta.shape)}")
            values += self.xp.asarray(delta, dtype=self.dtype)

    # ------------------------------------------------------------------------------------------------------------------
    def store(self, directory):
        """Writes <layer name>_weights.npy (float, [n_post, n_pre]) for every layer with weights; each file appears whole or not at all.

        Other parameters of a layer (bats.timestep) go to <layer name>_<parameter>.npy.
        """
        storage.store_weights(directory, self.layers)

    def restore(self, directory):
        """Reads what store() wrote, or a weight directory of the 2022 BATS code. All files are checked before any layer changes.

        Raises FileNotFoundError or ValueError naming the file that is missing, unreadable or of another shape.
        """
        storage.restore_weights(directory, self.layers)

    def status(self):
        """What happened since the last reset_status(), per layer with weights: a dict of integer totals.

        spikes: emitted; silent: (sample, neuron) pairs without a spike; overflow: pairs that would have fired once more than
        max_n_spike; non_finite: pairs whose membrane became NaN or infinite (they do not spike); bounded: spikes whose
        gradient was bounded by slope_floor; samples: samples simulated. Waits for the device.
        """
        names = ("spikes", "silent", "overflow", "non_finite", "bounded")
        return {
            layer.name: dict(zip(names, layer.counters().tolist(), strict=True), samples=self._samples) for layer in self.trainable_layers
        }

    def status_state(self):
        """The counters as arrays, for a checkpoint: {"samples": ..., layer name: int64 [5]}."""
        return {"samples": np.int64(self._samples), **{layer.name: layer.counters() for layer in self.trainable_layers}}

    def load_status_state(self, state):
        self._samples = int(state["samples"])
        for layer in self.trainable_layers:
            layer.load_counters(state[layer.name])

    def reset_status(self):
        self._samples = 0
        for layer in self.trainable_layers:
            layer.load_counters(np.zeros(5, dtype=np.int64))

    def reset(self):
        """Forgets the last forward pass and the status; the weights stay."""
        self._trainable_pass = False
        self.input_layer.events = None
        self.reset_status()
