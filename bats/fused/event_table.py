"""All samples of a source as one list of events, made once: (factor E, row) in the order of time, sample after sample."""

import numpy as np

from bats import kernels, ops
from bats.fused.launch import address
from bats.ops.arguments import blocks

CHUNK = 1000  # samples encoded at a time
LOADED = 192  # events that cuda/fused/pair_gradient.cuh loads at once
_ROWS = np.dtype({"names": ["rows", "wide"], "formats": [np.uintp, np.int32], "itemsize": 16})  # EventRows of cuda/fused/batch.cuh


class EventTable:
    """source: Resident of images or spike trains; neuron: of the layer that receives the events; last_factor: e^{t_max / tau}.

    multiple: every sample's part of the list is filled up to a multiple of so many, with factors and rows 0.
    factors [n_events] = e^{t / tau} < last_factor; rows [n_events], the input neuron, of integers of type kind; samples [n, 2]
    int64: the place of a sample's first event, and its number of events with its label in the upper half (struct Sample of
    cuda/fused/batch.cuh). From the first event of any sample on, LOADED entries exist.
    """

    def __init__(self, source, neuron, last_factor=np.inf, kind=np.int32, multiple=1):
        xp, n = source.xp, len(source)
        size = max(1, min(CHUNK, n))
        place = source.allocate(size)
        order, cursor = xp.arange(n, dtype=np.int32), xp.zeros(1, dtype=np.int64)
        factors, rows, counts, room_counts = [], [], [], []
        for first in range(0, n, size):
            events, _ = source.load(order, cursor, min(size, n - first), place)
            room = xp.zeros_like(events.times)
            ops.event_factors(events, neuron, room)
            used = (xp.arange(room.shape[1]) < events.counts[:, None]) & (room < last_factor)
            counts.append(used.sum(axis=1, dtype=np.int64))
            room_counts.append(-(-counts[-1] // multiple) * multiple)
            filled = xp.arange(-(-room.shape[1] // multiple) * multiple) < room_counts[-1][:, None]
            for parts, values, dtype in ((factors, room, room.dtype), (rows, events.neurons, kind)):
                wide = xp.zeros(filled.shape, dtype=dtype)
                wide[:, : room.shape[1]] = xp.where(used, values, 0)
                parts.append(wide[filled])
        # Never empty: a kernel may be handed its address.
        self.factors = xp.concatenate([*factors, xp.ones(LOADED, dtype=source.dtype)])
        self.rows = xp.concatenate([*rows, xp.zeros(LOADED, dtype=kind)])
        counts, room_counts = (xp.concatenate([*found, xp.zeros(0, dtype=np.int64)]) for found in (counts, room_counts))
        self.samples = xp.empty((n, 2), dtype=np.int64)
        self.samples[:, 0] = xp.cumsum(room_counts) - room_counts
        self.samples[:, 1] = counts + (source.labels.astype(np.int64) << 32)
        self._xp, self.in_order = xp, xp.zeros((max(1, n), 2), dtype=np.int64)

    def start(self, order, cursor):
        """in_order becomes the samples in this order, int32 on the device, and cursor [1] 0. Returns True if in_order was replaced."""
        replaced = len(order) > len(self.in_order)
        if replaced:
            self.in_order = self._xp.zeros((len(order), 2), dtype=np.int64)
        if self._xp is np:
            np.take(self.samples, order, axis=0, out=self.in_order[: len(order)])
            cursor.fill(0)
        else:  # one launch: evaluating a test set takes 2 ms, and two calls of CuPy 0.04
            n, kernel = len(order), kernels.kernel("fused/order_samples", "order_samples", self.factors.dtype)
            kernel((max(1, blocks(n, 256)),), (256,), (self.samples, order, np.int32(n), self.in_order, cursor))
        return replaced

    @property
    def rows_argument(self):
        """What a kernel receives for the rows."""
        return np.array((address(self.rows), self.rows.dtype.itemsize == 4), dtype=_ROWS)
