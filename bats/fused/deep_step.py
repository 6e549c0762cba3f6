"""Launches the kernels of the fused step for several hidden layers (cuda/fused/deep_*)."""

from types import SimpleNamespace

import numpy as np

from bats import kernels
from bats.fused import deep_layout, eligibility
from bats.fused.deep_arguments import MOST_LAYERS, Structures
from bats.fused.event_table import EventTable
from bats.fused.launch import kernels_begin_early
from bats.fused.launch import launch as launch_kernel
from bats.losses import SpikeCountClassLoss
from bats.ops.arguments import blocks
from bats.ops.losses import accumulate_metrics

EVENTS, SPIKES, LIST = 0, 1, 2  # kinds of cuda/fused/deep_forward.cu
ADD, STORE, UPDATE = 1, 2, 4  # modes of cuda/fused/deep_weights.cu


class DeepFusedStep:
    """network (dense LIF layers, two hidden ones or more), loss, optimizer, source (resident), batch_size, max_simulation as in
    bats.step.Step, and such that reason_against() has none.

    n hidden layers take 2 n + 1 kernels: n + 1 forward, n - 1 backward, one for all weights; a kernel more per layer whose
    spikes are sorted on their own. A batch whose lists could outgrow SCRATCH_BYTES at the worst goes through in several parts;
    the gradient is their sum. Every list holds the worst case, so no spike is ever lost.
    keep_gradients: leave the batch-mean gradient in layer.gradient too (the tests look at it)
    shared_limit, at_once: bytes of shared memory per block, samples per part; smaller than chosen by default in tests.
    """

    def __init__(self, network, loss, optimizer, source, batch_size, max_simulation, keep_gradients=False, shared_limit=None, at_once=None):
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.keep_gradients = keep_gradients
        self.layers = layers = network.layers[1:]
        self.dtype, xp = np.dtype(network.dtype), network.xp
        self.table = EventTable(source, layers[0].neuron)
        self.last_factor = self.dtype.type(np.exp(max_simulation / float(layers[0].neuron.tau)))
        self.shared_limit = shared_limit or eligibility.shared_limit()
        self.sizes = tuple(layer.n_neurons for layer in network.layers)
        self.slots = tuple(layer.max_n_spike for layer in layers)
        self.in_slots = source.n_slots
        self.at_once = at_once or deep_layout.samples_at_once(batch_size, self.sizes, self.slots, self.dtype.itemsize)
        n = self.at_once
        self.trains = [self._spike_room(layer, n, layer is not layers[-1]) for layer in layers]
        self.samples = xp.zeros((n, 2), np.int64)
        self.out_counts = xp.zeros((batch_size, layers[-1].n_neurons), np.int32)
        self.labels = xp.zeros(batch_size, np.int32)
        self.structures = Structures(self.dtype)
        self.schedule, self.moments = self._optimizer_arrays()
        self.ahead = False  # whether deep_weights is the kernel that the next one follows; Step resets it

    def _spike_room(self, layer, n, hidden):
        """The spikes of a layer, [n, n_slots, n_neurons]; sorted too for the next layer, and room to sort in where needed."""
        xp, shape = self.network.xp, (n, layer.max_n_spike, layer.n_neurons)
        listed = (n, layer.max_n_spike * layer.n_neurons) if hidden else (1, 1)
        itemsize = self.dtype.itemsize
        alone = not deep_layout.sorts_itself(layer.n_neurons, layer.max_n_spike, n, itemsize, self.shared_limit)
        outgrows = deep_layout.sort_capacity(layer.n_neurons, layer.max_n_spike, itemsize, self.shared_limit)[0] < listed[1]
        other = listed if alone and outgrows else (1, 1)
        return SimpleNamespace(
            factors=xp.zeros(shape, self.dtype), slopes=xp.zeros(shape, self.dtype), errors=xp.zeros(shape, self.dtype),
            counts=xp.zeros((n, layer.n_neurons), np.int32),
            list_q=xp.zeros(listed, self.dtype), list_places=xp.zeros(listed, np.uint32), list_counts=xp.zeros(n, np.int32),
            other_q=xp.zeros(other, self.dtype), other_places=xp.zeros(other, np.uint32),
        )  # fmt: skip

    def _optimizer_arrays(self):
        """(schedule, [(m, v) of every layer]); without moments, the gradient stands for both."""
        if self.optimizer is None:
            return None, None
        gradients = [None, *(layer.gradient.T for layer in self.layers)]
        schedule, moments = self.optimizer.arrays(gradients)
        return schedule, [tuple(moments[place].get(name, gradients[place]) for name in ("m", "v")) for place in range(1, len(gradients))]

    def start(self, order, cursor):
        """order: int32 array on the device; cursor [1] becomes 0. Returns True if an array that captured steps read was replaced."""
        return self.table.start(order, cursor)

    # ------------------------------------------------------------------------------------------------------------------
    def launch(self, batch, training, cursor, loss, predictions, totals):
        """The next `batch` samples of the order: everything a step does on the device. loss, predictions [>= batch], totals [4]."""
        for first in range(0, batch, self.at_once):
            part = slice(first, min(batch, first + self.at_once))
            for _, launch in self.part_kernels(part, batch, training, cursor, loss, predictions, totals):
                launch()
            self.ahead = training
        if not training:
            accumulate_metrics(loss[:batch], predictions[:batch], self.out_counts[:batch], self.labels[:batch], totals)

    def part_kernels(self, part, batch, training, cursor, loss, predictions, totals):
        """[(name, launch)] for some of the samples, in their order."""
        n, last = part.stop - part.start, part.stop == batch
        found = []
        for k in range(len(self.layers)):
            if k and not self._sorts_itself(k, n):
                found.append((f"sort {k}", lambda k=k: self._sort(k - 1, n)))
            found.append((f"forward {k + 1}", lambda k=k: self._forward(k, n, cursor)))
        count_step = training and last and bool(self.optimizer.moments)
        top = self._top(part, cursor, count_step, loss[part], predictions[part])
        for k in range(len(self.layers) - 2, 0, -1):
            is_top = k == len(self.layers) - 2
            if training or is_top:
                found.append((f"backward {k + 1}", lambda k=k, is_top=is_top: self._backward(k, n, training, top if is_top else None)))
        if training:
            metrics = (loss[part], predictions[part], self.out_counts[part], self.labels[part], totals)
            for first in range(0, len(self.layers), MOST_LAYERS):
                found.append((f"weights {first + 1}", lambda first=first: self._weights(first, n, batch, part, metrics)))
        return found

    def _run(self, name, grid, threads, arguments, shared, alone=False):
        """alone: the kernel must not start before the one ahead has ended."""
        kernel = kernels.kernel(f"fused/{name}", name, self.dtype)
        if shared > kernel.max_dynamic_shared_size_bytes:
            kernel.max_dynamic_shared_size_bytes = shared
        if alone:
            kernel(grid, (threads,), arguments, shared_mem=shared)
        else:
            launch_kernel(kernel, grid, threads, arguments, shared)

    def _sorts_itself(self, k, n):
        return deep_layout.sorts_itself(self.sizes[k], self.slots[k - 1], n, self.dtype.itemsize, self.shared_limit)

    def _sort(self, k, n):
        train = self.trains[k]
        capacity, shared = deep_layout.sort_capacity(self.sizes[k + 1], self.slots[k], self.dtype.itemsize, self.shared_limit)
        arguments = (
            train.factors, train.counts, np.int32(self.sizes[k + 1]), np.int32(self.slots[k]), self.last_factor,
            np.int32(capacity), train.list_q, train.list_places, train.list_counts, train.other_q, train.other_places,
        )  # fmt: skip
        self._run("deep_sort", (n,), deep_layout.WEIGHT_THREADS, arguments, shared)

    def _forward(self, k, n, cursor):
        layer, train = self.layers[k], self.trains[k]
        early = k == 0 and self.ahead and kernels_begin_early()
        before = self.trains[k - 1] if k else train  # not read by the first layer
        pre_slots = self.slots[k - 1] if k else None
        shape = deep_layout.forward(n, self.sizes[k], self.sizes[k + 1], pre_slots, self.dtype.itemsize, self.shared_limit)
        kind = EVENTS if k == 0 else SPIKES if self._sorts_itself(k, n) else LIST
        neuron, (status, _) = layer.neuron, layer.tally()
        wide = deep_layout.wide(n, self.sizes[k + 1], self.dtype.itemsize, self.shared_limit)
        if wide is not None and kind != SPIKES:
            warps, shared = wide
            arguments = (
                np.int32(kind), self.table.in_order, cursor, self.table.factors, self.table.rows, self.samples,
                before.list_q, before.list_places, before.list_counts, np.int32(before.list_q.shape[1]),
                layer.matrix, np.int32(n), np.int32(self.sizes[k + 1]), np.int32(self.slots[k]),
                neuron.c, neuron.reset, self.last_factor, train.factors, train.slopes, train.counts, status, np.int32(len(status)),
            )  # fmt: skip
            self._run("deep_forward_wide", (blocks(self.sizes[k + 1], 32), blocks(n, warps)), 32 * warps, arguments, shared, alone=k == 0)
            return
        arguments = (
            np.int32(kind), self.table.in_order, cursor, self.table.factors, self.table.rows, self.samples,
            before.factors, before.counts, np.int32(pre_slots or 0),
            before.list_q, before.list_places, before.list_counts, np.int32(shape.capacity),
            layer.matrix, np.int32(n), np.int32(self.sizes[k]), np.int32(self.sizes[k + 1]), np.int32(self.slots[k]),
            neuron.c, neuron.reset, self.last_factor,
            np.int32(shape.n_own), np.int32(shape.run), np.int32(shape.scratch), np.int32(shape.pitch),
            train.factors, train.slopes, train.counts, status, np.int32(len(status)), np.int32(early),
        )  # fmt: skip
        grid = (blocks(self.sizes[k + 1], shape.n_own), shape.groups)
        self._run("deep_forward", grid, deep_layout.THREADS, arguments, shape.shared, alone=k == 0 and not early)

    def _top(self, part, cursor, count_step, loss, predictions):
        output, train, neuron = self.layers[-1], self.trains[-1], self.layers[-1].neuron
        if isinstance(self.loss, SpikeCountClassLoss):
            rule = (0, self.loss.target_true, self.loss.target_false)
        else:
            rule = (1, self.loss.tau, self.loss.silent_loss)
        beta1, beta2 = self.optimizer.betas if count_step else (0, 0)
        return self.structures.top(
            samples=self.samples, kind=rule[0], parameter1=rule[1], parameter2=rule[2],
            spikes=self.structures.spikes(train, output), weights=output.matrix,
            tau=neuron.tau, reset=neuron.reset, slope_floor=neuron.slope_floor,
            loss=loss, predictions=predictions, out_counts=self.out_counts[part], labels=self.labels[part], cursor=cursor,
            schedule=self.schedule if count_step else cursor, beta1=beta1, beta2=beta2, count_step=count_step,
        )  # fmt: skip

    def _backward(self, k, n, training, top):
        """From the spikes of layer k (from 0) to those of layer k - 1; top: None unless layer k + 1 is the output."""
        upper, lower = self.layers[k], self.layers[k - 1]
        neuron = upper.neuron
        out = (self.sizes[-1], self.slots[-1]) if top is not None else (0, 0)
        shape = deep_layout.backward(n, self.sizes[k], self.sizes[k + 1], self.slots[k], out, self.dtype.itemsize, self.shared_limit)
        arguments = (
            self.structures.top() if top is None else top, np.int32(top is not None), np.int32(training), np.int32(n),
            self.structures.spikes(self.trains[k], upper), neuron.tau, neuron.reset, neuron.slope_floor, upper.matrix,
            self.structures.spikes(self.trains[k - 1], lower), np.int32(shape.capacity), np.int32(shape.pitch),
            np.int32(shape.keeps_outputs),
        )  # fmt: skip
        grid = (shape.width if training else 1, shape.groups if training else n)
        self._run("deep_backward", grid, deep_layout.THREADS, arguments, shape.shared)

    def _weights(self, first, n, batch, part, metrics):
        """Layers first, first + 1, ..., at most MOST_LAYERS of them."""
        last = part.stop == batch
        mode = (ADD if part.start else 0) | (UPDATE if last else 0) | (STORE if self.keep_gradients or not last else 0)
        places = range(first, min(len(self.layers), first + MOST_LAYERS))
        layers, n_blocks = self.structures.layers(self, places)
        capacity, shared = deep_layout.weights(n, self.sizes, self.slots, self.dtype.itemsize, self.shared_limit)
        rule = self.structures.rule(self.optimizer, self.schedule, mode)
        rows = len(self.layers[0].tally()[1])
        arguments = (
            layers, self.samples, np.int32(n), np.int32(capacity), self.dtype.type(1 / batch), rule, np.int32(rows),
            *metrics[:4], np.int32(self.sizes[-1]), metrics[4] if first == 0 else np.uint64(0),
        )  # fmt: skip
        self._run("deep_weights", (n_blocks,), deep_layout.WEIGHT_THREADS, arguments, shared)
