"""Spike trains to event lists."""

import numpy as np

from bats import kernels
from bats.cpu import sort_events as cpu
from bats.device import is_cupy
from bats.ops.arguments import expect, expect_events

SHARED_BYTES = 48 * 1024 - 256  # what a block may use without asking for more, less the scan's own

BITS = {np.dtype("float32"): np.uint32, np.dtype("float64"): np.uint64}


def scratch_for(events):
    """What sort_events needs on the CPU beside its arguments, for lists of this size; None on CUDA."""
    if is_cupy(events.times):
        return None
    start = np.empty((events.batch, cpu.DIGITS), dtype=np.int32)
    return np.empty(events.times.shape, dtype=BITS[events.times.dtype]), np.empty_like(events.positions), start


def sort_events(times, counts, events, scratch):
    """All spikes of a sample sorted by time, then neuron, then slot.

    times [B, K, N] float, counts [B, N] int32 -> events (written). scratch: from sort_scratch (CPU only).
    """
    batch, n_slots, n_neurons = times.shape
    expect("times", times, (None, events.n_slots, events.n_neurons), events.times.dtype)
    expect("counts", counts, (batch, n_neurons), np.int32, times)
    expect_events("events", events, batch, times.dtype, times)
    if batch == 0:
        return
    if not is_cupy(times):
        bits = BITS[times.dtype]
        cpu.sort_events(
            times.view(bits), counts, events.times.view(bits), events.neurons, events.positions, events.counts, *scratch
        )
        return
    bytes_each = times.dtype.itemsize + 4
    shared = min(SHARED_BYTES // bytes_each, n_neurons * n_slots) // 2 * 2
    threads = 1024 if n_neurons * n_slots > 512 else 128
    kernels.kernel("events/sort_events", "sort_events", times.dtype)(
        (batch,), (threads,),
        (times, counts, np.int32(n_neurons), np.int32(n_slots), np.int32(shared),
         events.times, events.neurons, events.positions, events.counts),
        shared_mem=shared * bytes_each,
    )  # fmt: skip
