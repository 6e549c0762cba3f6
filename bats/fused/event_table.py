"""All samples of a source as one list of events, made once: (factor E, row) in the order of time, sample after sample."""

import numpy as np

from bats import ops
from bats.fused.launch import address

CHUNK = 1000  # samples encoded at a time
_ROWS = np.dtype({"names": ["rows", "wide"], "formats": [np.uintp, np.int32], "itemsize": 16})  # EventRows of cuda/fused/batch.cuh


class EventTable:
    """source: Resident of images or spike trains; neuron: of the layer that receives the events; last_factor: e^{t_max / tau}.

    factors [n_events] = e^{t / tau} < last_factor; rows [n_events], the input neuron, of integers of type kind; samples [n, 2]
    int64: the place of a sample's first event, and its number of events with its label in the upper half (struct Sample of
    cuda/fused/batch.cuh).
    """

    def __init__(self, source, neuron, last_factor=np.inf, kind=np.int32):
        xp, n = source.xp, len(source)
        size = max(1, min(CHUNK, n))
        place = source.allocate(size)
        order, cursor = xp.arange(n, dtype=np.int32), xp.zeros(1, dtype=np.int64)
        factors, rows, counts = [], [], []
        for first in range(0, n, size):
            events, _ = source.load(order, cursor, min(size, n - first), place)
            room = xp.zeros_like(events.times)
            ops.event_factors(events, neuron, room)
            used = (xp.arange(room.shape[1]) < events.counts[:, None]) & (room < last_factor)
            factors.append(room[used])
            rows.append(events.neurons[used].astype(kind))
            counts.append(used.sum(axis=1, dtype=np.int64))
        # Never empty: a kernel may be handed its address.
        self.factors = xp.concatenate([*factors, xp.ones(1, dtype=source.dtype)])
        self.rows = xp.concatenate([*rows, xp.zeros(1, dtype=kind)])
        counts = xp.concatenate([*counts, xp.zeros(0, dtype=np.int64)])
        self.samples = xp.empty((n, 2), dtype=np.int64)
        self.samples[:, 0] = xp.cumsum(counts) - counts
        self.samples[:, 1] = counts + (source.labels.astype(np.int64) << 32)
        self._xp, self.in_order = xp, xp.zeros((max(1, n), 2), dtype=np.int64)

    def start(self, order):
        """in_order becomes the samples in the order of training. order: int32 array on the device. Returns True if the array was
        replaced."""
        replaced = len(order) > len(self.in_order)
        if replaced:
            self.in_order = self._xp.zeros((len(order), 2), dtype=np.int64)
        self._xp.take(self.samples, order, axis=0, out=self.in_order[: len(order)])
        return replaced

    @property
    def rows_argument(self):
        """What a kernel receives for the rows."""
        return np.array((address(self.rows), self.rows.dtype.itemsize == 4), dtype=_ROWS)
