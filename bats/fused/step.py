"""Launches the three kernels of the fused step (cuda/fused)."""

from types import SimpleNamespace

import numpy as np

from bats import kernels
from bats.fused import eligibility, layout
from bats.fused import launch as launching
from bats.fused.event_table import EventTable
from bats.fused.launch import address, launch
from bats.fused.tensor_map import NONE, available, tensor_map
from bats.losses import SpikeCountClassLoss
from bats.ops.arguments import blocks
from bats.ops.losses import accumulate_metrics

ADD, STORE, UPDATE = 1, 2, 4  # modes of cuda/fused/weight_step.cu


class FusedStep:
    """network, loss, optimizer, source (resident), batch_size, max_simulation as in bats.step.Step, and such that
    reason_against() has none.

    A batch whose lists could outgrow SCRATCH_BYTES at the worst goes through in several parts; the gradient is their sum. Every
    list holds the worst case, so no spike is ever lost.
    keep_gradients: leave the batch-mean gradient in layer.gradient too (the tests look at it)
    shared_limit, at_once: bytes of shared memory per block, samples per part; smaller than chosen by default in tests.
    """

    def __init__(self, network, loss, optimizer, source, batch_size, max_simulation, keep_gradients=False, shared_limit=None, at_once=None):
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.keep_gradients = keep_gradients
        hidden, output = network.layers[1:]
        self.dtype, xp = np.dtype(network.dtype), network.xp
        real = self.dtype.type
        self.last_factor = real(np.exp(max_simulation / float(hidden.neuron.tau)))
        rows = np.uint16 if network.layers[0].n_neurons <= 2**16 else np.int32
        self.table = EventTable(source, hidden.neuron, self.last_factor, rows, multiple=32)
        self.in_slots = source.n_slots
        self.shared_limit = shared_limit or eligibility.shared_limit()
        sizes = hidden.n_neurons, hidden.max_n_spike, self.dtype.itemsize
        self.at_once = at_once or layout.samples_at_once(batch_size, *sizes, training=optimizer is not None)
        n, n_hidden, n_out, slots = self.at_once, hidden.n_neurons, output.n_neurons, output.max_n_spike
        worst = layout.padded_slots(n_hidden, hidden.max_n_spike)
        n_groups, n_blocks = blocks(n_hidden, 32), blocks(n_hidden, layout.NEURONS)
        self.room = SimpleNamespace(
            list_q=xp.zeros((n, worst), self.dtype),
            list_places=xp.zeros((n, worst), np.uint32),
            list_counts=xp.zeros((n, n_groups), np.int32),
            extremes=xp.zeros((n, n_groups, 2), self.dtype),
            slopes=xp.zeros((n, hidden.max_n_spike, n_hidden), self.dtype),
            counts=xp.zeros((n, n_hidden), np.int32),
            samples=xp.zeros((n, 2), np.int64),
            spike_q=xp.zeros((n, worst), self.dtype),
            spike_errors=xp.zeros((n, worst), self.dtype),
            spike_slopes=xp.zeros((n, worst), self.dtype),
            places=xp.zeros((n_blocks * n * layout.NEURONS, 2), np.int32),
            out_spikes=xp.zeros((n, n_out * slots, 2), self.dtype),
            out_starts=xp.zeros((n, n_out + 1), np.int32),
            out_counts=xp.zeros((batch_size, n_out), np.int32),
            labels=xp.zeros(batch_size, np.int32),
            upcoming=xp.zeros((layout.SORTED, 2), np.int64),
            upcoming_places=xp.zeros(layout.SORTED, np.int32),
        )
        self.optimizer_arrays = self._optimizer_arrays(hidden, output)
        self.ahead = False  # whether the next kernel follows one that lets hidden_forward prepare its events meanwhile; Step resets it
        self.prepared = 0  # samples of the next batch in room.upcoming, of use if `ahead`

    def _choose(self, batch):
        sizes = tuple(layer.n_neurons for layer in self.network.layers)
        hidden, output = self.network.layers[1:]
        return layout.choose(batch, sizes, output.max_n_spike, hidden.max_n_spike, self.dtype.itemsize, self.shared_limit)

    def _optimizer_arrays(self, hidden, output):
        if self.optimizer is None:
            return None
        gradients = [None, hidden.gradient.T, output.gradient.T]
        schedule, moments = self.optimizer.arrays(gradients)
        flat = [(moments[place].get("m", gradients[place]), moments[place].get("v", gradients[place])) for place in (1, 2)]
        return schedule, flat

    def start(self, order, cursor):
        """order: int32 array on the device; cursor [1] becomes 0. Returns True if an array that captured steps read was replaced."""
        return self.table.start(order, cursor)

    # ------------------------------------------------------------------------------------------------------------------
    def launch(self, batch, training, cursor, loss, predictions, totals):
        """The next `batch` samples of the order: everything a step does on the device. loss, predictions [>= batch], totals [4]."""
        for first in range(0, batch, self.at_once):
            part = slice(first, min(batch, first + self.at_once))
            self._hidden_forward(part, cursor)
            prepares = training and part == slice(0, batch) and batch <= layout.SORTED
            self._output_step(part, cursor, training, part.stop == batch, prepares, loss[part], predictions[part])
            if training:
                self._weight_step(part, batch, loss[part], predictions[part], totals)
            self.ahead, self.prepared = training, batch if prepares else 0
        if not training:
            room = self.room
            accumulate_metrics(loss[:batch], predictions[:batch], room.out_counts[:batch], room.labels[:batch], totals)
            self.ahead = True

    def _run(self, name, grid, threads, arguments, shared):
        kernel = kernels.kernel(f"fused/{name}", name, self.dtype)
        if shared > kernel.max_dynamic_shared_size_bytes:
            kernel.max_dynamic_shared_size_bytes = shared
        launch(kernel, grid, threads, arguments, shared)

    def _hidden_forward(self, part, cursor):
        hidden, room, n = self.network.layers[1], self.room, part.stop - part.start
        shape, neuron = self._choose(n), hidden.neuron
        status, _ = hidden.tally()
        prepared = self.ahead and self.prepared == n
        upcoming = (room.upcoming, room.upcoming_places) if prepared else (np.uintp(0), np.uintp(0))
        arguments = (
            self.table.in_order, cursor, self.table.factors, self.table.rows_argument, hidden.matrix,
            np.int32(n), np.int32(hidden.n_neurons), neuron.c, neuron.reset, self.last_factor, np.int32(hidden.max_n_spike),
            room.list_q, room.list_places, room.list_counts, room.extremes, room.slopes, room.counts, room.samples,
            status, np.int32(len(status)), np.int32(self.ahead), *upcoming,
        )  # fmt: skip
        grid = (blocks(hidden.n_neurons, 32), blocks(n, shape.hidden_warps))
        self._run("hidden_forward", grid, 32 * shape.hidden_warps, arguments, shape.hidden_shared)

    def _output_step(self, part, cursor, training, last, prepares, loss, predictions):
        hidden, output = self.network.layers[1:]
        room, n, real = self.room, part.stop - part.start, self.dtype.type
        shape, neuron = self._choose(n), output.neuron
        if isinstance(self.loss, SpikeCountClassLoss):
            rule = (np.int32(0), real(self.loss.target_true), real(self.loss.target_false))
        else:
            rule = (np.int32(1), real(self.loss.tau), real(self.loss.silent_loss))
        counts_step = training and last and bool(self.optimizer.moments)
        schedule = self.optimizer_arrays[0] if training else cursor
        betas = self.optimizer.betas if training else (0, 0)
        status, bounded = output.tally()
        arguments = (
            room.samples, np.int32(n), np.int32(hidden.n_neurons), np.int32(hidden.max_n_spike),
            room.list_q, room.list_places, room.list_counts, room.extremes, room.counts, room.slopes,
            output.matrix, np.int32(output.n_neurons), np.int32(output.max_n_spike),
            neuron.tau, neuron.c, neuron.reset, neuron.slope_floor, self.last_factor, *rule,
            np.int32(training), np.int32(shape.list_capacity), np.int32(shape.chunk), np.int32(shape.scratch),
            np.int32(shape.weights2_staged),
            cursor, np.int32(counts_step), schedule, np.float64(betas[0]), np.float64(betas[1]),
            room.spike_q, room.spike_errors, room.spike_slopes, room.places, room.out_spikes, room.out_starts,
            loss, predictions, room.out_counts[part], room.labels[part], status, bounded, np.int32(len(status)),
            self.table.in_order, np.int64(len(self.table.in_order)), room.upcoming, room.upcoming_places,
        )  # fmt: skip
        self._run("output_step", (n + prepares,), shape.output_threads, arguments, shape.output_shared)

    @staticmethod
    def early_blocks(n):
        """Blocks of the third kernel that begin well before the second one ends: on the processors without one of its n blocks."""
        return max(0, layout.N_PROCESSORS - n)

    def _weight_step(self, part, batch, loss, predictions, totals):
        hidden, output = self.network.layers[1:]
        room, n, real = self.room, part.stop - part.start, self.dtype.type
        shape = self._choose(n)
        last = part.stop == batch
        mode = (ADD if part.start else 0) | (UPDATE if last else 0) | (STORE if self.keep_gradients or not last else 0)
        schedule, ((m1, v1), (m2, v2)) = self.optimizer_arrays
        beta1, beta2 = self.optimizer.betas
        out_capacity = output.n_neurons * output.max_n_spike
        _, bounded = hidden.tally()
        neuron, first = hidden.neuron, (hidden.matrix, m1, v1, hidden.gradient)
        aligned = hidden.n_neurons * self.dtype.itemsize % 16 == 0 and all(address(array) % 16 == 0 for array in first)
        n_boxes, rows = layout.boxes_of(len(hidden.matrix))
        boxed = aligned and shape.weights1_staged > 0 and self.network.device == "cuda" and available()
        box = rows // n_boxes, layout.NEURONS
        boxes = [tensor_map(address(array), self.dtype, hidden.matrix.shape, box) if boxed else NONE for array in first[:3]]
        arguments = (
            room.samples, self.table.factors, self.table.rows_argument, room.spike_q, room.spike_errors, room.spike_slopes,
            room.list_q, room.places, room.list_counts, room.counts,
            np.int32(n), np.int32(self.network.layers[0].n_neurons), np.int32(hidden.n_neurons), np.int32(self.in_slots),
            np.int64(room.spike_q.shape[1]), neuron.tau, neuron.reset, neuron.slope_floor,
            np.int32(shape.update_tile), np.int32(shape.update_capacity), np.int32(layout.update_pitch(self.network.layers[0].n_neurons)),
            room.out_spikes, room.out_starts,
            np.int32(out_capacity), np.int32(output.n_neurons), np.int32(shape.group), np.int32(shape.slices),
            real(1 / batch), np.int32(mode), np.int32(aligned), np.int32(shape.weights1_staged),
            np.int32(launching.EARLY), *boxes, np.int32(box[0] if boxed else 0), np.int32(self.early_blocks(n)), *first,
            output.matrix, m2, v2, output.gradient,
            schedule, np.int32(bool(self.optimizer.moments)), real(beta1), real(beta2),
            real(getattr(self.optimizer, "epsilon", 0)), np.int32(getattr(self.optimizer, "nesterov", False)),
            loss, predictions, room.out_counts[part], room.labels[part], totals,
            bounded, np.int32(len(bounded)),
        )  # fmt: skip
        grid = (blocks(hidden.n_neurons, layout.NEURONS) + blocks(hidden.n_neurons, shape.group),)
        self._run("weight_step", grid, shape.threads, arguments, shape.update_shared)
