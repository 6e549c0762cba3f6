"""The fused step on the CPU: input -> dense LIF -> dense LIF -> loss -> optimizer in four passes (bats/cpu/fused_*.py)."""

from types import SimpleNamespace

import numba
import numpy as np

from bats.cpu import fused_forward, fused_gradient, fused_output
from bats.cpu.vectors import BYTES, lanes_of
from bats.fused.event_table import EventTable
from bats.losses import SpikeCountClassLoss
from bats.ops.arguments import blocks
from bats.ops.sort_events import BITS

SCRATCH_BYTES = 256 * 2**20  # what the spikes of all samples that are worked on together may take, at the worst
MOST_SETS = 8  # of samples, for each of which the gradient of the output layer is summed on its own


class CpuFusedStep:
    """network, loss, optimizer, source (resident), batch_size, max_simulation as in bats.step.Step, and such that reason_against()
    has none.

    A batch whose lists could outgrow SCRATCH_BYTES at the worst goes through in several parts; the gradient is their sum. Every list
    holds the worst case, so no spike is ever lost; memory is touched only where there are spikes. Results do not depend on the number
    of threads.
    at_once: samples of a part; smaller than chosen by default in tests.
    """

    def __init__(self, network, loss, optimizer, source, batch_size, max_simulation, at_once=None):
        self.network, self.loss, self.optimizer = network, loss, optimizer
        hidden, output = network.layers[1:]
        self.dtype = np.dtype(network.dtype)
        self.last_factor = self.dtype.type(np.exp(max_simulation / float(hidden.neuron.tau)))
        self.table = EventTable(source, hidden.neuron, self.last_factor, np.uint16 if source.n_neurons <= 2**16 else np.int32)
        lanes, threads = lanes_of(self.dtype), numba.config.NUMBA_NUM_THREADS
        n_groups, n_out_groups = blocks(hidden.n_neurons, lanes), blocks(output.n_neurons, lanes)
        tiles = min(n_groups, 4 * threads)
        per_tile = lanes * hidden.max_n_spike * blocks(n_groups, tiles) + lanes  # what `compress` overwrites
        out_room = lanes * output.max_n_spike * n_out_groups + lanes
        n_events = source.n_neurons * source.n_slots
        per_sample = self.dtype.itemsize * (8 * tiles * per_tile + 4 * n_events + 2 * out_room) + 4 * (4 * tiles * per_tile + n_events)
        self.at_once = min(batch_size, at_once or max(1, SCRATCH_BYTES // per_sample))
        n, spikes, real = self.at_once, tiles * per_tile, self.dtype
        n_sets = min(MOST_SETS, batch_size)
        self.hidden = SimpleNamespace(
            n_events=np.zeros(n, np.int64),
            intervals=_room((n, 3, n_events + 1), real),
            rows=_room((n, n_events), np.int32),
            packed=_room((threads, network.layers[0].n_neurons, lanes), real),
            counts=_room((threads, 1, lanes), real),
            lists=[_room((n, tiles, per_tile), kind) for kind in (real, real, np.int32, np.int64, real, real)],
            bounds=np.zeros((n, n_groups, 4), np.int64),
            tile_status=np.zeros((tiles, 4), np.int64),
        )
        keys = _room((threads, spikes), real)
        self.sort = (
            keys, keys.view(BITS[self.dtype]), _room((threads, spikes), np.int32), _room((threads, spikes), BITS[self.dtype]),
            _room((threads, spikes), np.int32), np.zeros((threads, fused_output.BUCKETS), np.int32),
        )  # fmt: skip
        self.output = SimpleNamespace(
            n_events=np.zeros(n, np.int64),
            intervals=_room((n, 3, spikes + 1), real),
            rows=_room((n, spikes), np.int32),
            places=_room((n, spikes), np.int32),
            packed=_room((n_out_groups, hidden.n_neurons, lanes), real),
            lists=[_room((n, out_room), kind) for kind in (real, real, np.int32, np.int64)],
            bounds=np.zeros((n, n_out_groups, 4), np.int64),
            status=np.zeros((n, 4), np.int64),
            first_times=_room((n, 1, output.n_neurons), real),
            counts=np.zeros((n, output.n_neurons), np.int32),
            errors=_room((n, 1, output.n_neurons), real),
            labels=np.zeros(n, np.int32),
        )
        self.back = SimpleNamespace(
            out_later=_room((threads, 2, lanes), real),
            out_gains=_room((threads, 2, out_room), real),
            errors=_room((threads, spikes), real),
            later=_room((threads, hidden.n_neurons), real),
            partial=_room((n_sets, n_out_groups, hidden.n_neurons, lanes), real),
            bounded=np.zeros((n_sets, 2), np.int64),
        )

    def start(self, order, cursor):
        """order: int32 array; cursor [1] becomes 0. Returns False: nothing captured reads the table."""
        self.table.start(order, cursor)
        return False

    def launch(self, batch, training, cursor, loss, predictions, totals):
        """The next `batch` samples of the order: everything a step does. loss, predictions [>= batch], totals [4]."""
        for begin in range(0, batch, self.at_once):
            part = slice(begin, min(batch, begin + self.at_once))
            n, first = part.stop - part.start, int(cursor[0])
            cursor[0] += n
            self._forward(n, first)
            output = self.output
            output.labels[:n] = self.table.in_order[first : first + n, 1] >> 32
            self.loss.step(
                output.first_times[:n], output.counts[:n], output.labels[:n], loss[part], output.errors[:n], predictions[part], totals, None
            )
            if training:
                self._backward(n, batch, begin > 0)
        if training:
            layers = self.network.layers
            self.optimizer.update([layer.weights for layer in layers], [None, layers[1].gradient.T, layers[2].gradient.T])

    def _forward(self, n, first):
        layer, out_layer = self.network.layers[1:]
        room, out, real = self.hidden, self.output, self.dtype.type
        neuron, out_neuron = layer.neuron, out_layer.neuron
        lists = [array[:n] for array in room.lists[:4]]
        fused_forward.hidden_forward(
            self.table.in_order, first, self.table.factors, self.table.rows, self.last_factor, layer.matrix, neuron.c, neuron.reset,
            real(layer.max_n_spike), room.n_events[:n], room.intervals[:n], room.rows[:n], room.packed, room.counts, *lists,
            room.bounds[:n], room.tile_status,
        )  # fmt: skip
        fused_output.output_forward(
            lists[0], lists[2].reshape(n, -1), room.bounds[:n], out_layer.matrix, out_neuron.tau, out_neuron.c, out_neuron.reset,
            real(out_layer.max_n_spike), self.last_factor, out.n_events[:n], out.intervals[:n], out.rows[:n], out.places[:n], *self.sort,
            out.packed, room.counts, *(array[:n] for array in out.lists), out.bounds[:n], out.first_times[:n], out.counts[:n],
            out.status[:n],
        )  # fmt: skip
        layer.tally()[0][0] += room.tile_status.sum(axis=0)
        out_layer.tally()[0][0] += out.status[:n].sum(axis=0)

    def _backward(self, n, batch, add):
        layer, out_layer = self.network.layers[1:]
        room, out, back, real = self.hidden, self.output, self.back, self.dtype.type
        _, list_x, _, marks, list_single, list_double = (array[:n] for array in room.lists)
        flat = [array.reshape(n, -1) for array in (list_x, list_single, list_double)]
        neuron, out_neuron = layer.neuron, out_layer.neuron
        fused_output.output_backward(
            out.n_events[:n], out.intervals[:n], out.rows[:n], out.places[:n], flat[0], out.packed, *(array[:n] for array in out.lists),
            out.bounds[:n], out.counts[:n], out.errors[:n], isinstance(self.loss, SpikeCountClassLoss), real(1 / batch), neuron.tau,
            out_neuron.reset, out_neuron.slope_floor, neuron.reset, neuron.slope_floor, back.out_later, back.out_gains, back.errors,
            back.later, flat[1], flat[2], not add, back.partial, back.bounded,
        )  # fmt: skip
        for place, counted in enumerate((layer, out_layer)):
            counted.tally()[1][0, 0] += back.bounded[:, place].sum()
        fused_gradient.gradients(
            room.intervals[:n], room.rows[:n], room.bounds[:n], marks, list_single, list_double, room.packed, add, layer.gradient,
            back.partial, out_layer.gradient,
        )  # fmt: skip


def _room(shape, dtype):
    """An array that begins at a multiple of a vector's size. Its memory is not touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + BYTES, np.uint8)
    shift = -raw.ctypes.data % BYTES
    return raw[shift : shift + size].view(dtype).reshape(shape)
