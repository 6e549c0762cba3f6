"""Spike trains to event lists."""

import functools

import numpy as np

from bats import kernels
from bats.cpu import sort_events as cpu
from bats.device import array_module, is_cupy
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import ConvGeometry, PoolGeometry, packed

SHARED_BYTES = 48 * 1024 - 256  # what a block may use without asking for more, less the scan's own
PARTS = 8  # blocks per sample, of the same number in merge_parts, ...
PARTS_FROM = 2048  # ... for lists of this capacity or more ...
PARTS_UP_TO = 64  # ... in batches so small that a block per sample would leave the device idle

BUCKET_BYTES = 10 * 1024  # of shared memory that bucket_sort needs beside its lists
_POOLING = np.dtype([(name, np.int32) for name in ("on", *PoolGeometry._fields[1:])])

BITS = {np.dtype("float32"): np.uint32, np.dtype("float64"): np.uint64}


def scratch_for(events):
    """What sort_events needs beside its arguments, for lists of this size; None where it needs nothing."""
    if is_cupy(events.times):
        if fits_buckets(events.times.shape[1], events.times.dtype) or events.times.shape[1] < PARTS_FROM or events.batch > PARTS_UP_TO:
            return None
        import cupy

        counts = cupy.empty((events.batch, PARTS), dtype=np.int32)
        return cupy.empty_like(events.times), cupy.empty_like(events.positions), counts
    start = np.empty((events.batch, cpu.DIGITS), dtype=np.int32)
    return np.empty(events.times.shape, dtype=BITS[events.times.dtype]), np.empty_like(events.positions), start


@functools.cache
def _shared_limit():
    return array_module("cuda").cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"] - BUCKET_BYTES


def fits_buckets(capacity, dtype):
    """Whether lists of this capacity are sorted by buckets in shared memory (CUDA)."""
    return 2 * capacity * (np.dtype(dtype).itemsize + 4) <= _shared_limit()


def bucket_sort(times, counts, geometry, events, behind=None):
    """As sort_events, in one launch (CUDA; fits_buckets). geometry: PoolGeometry of a pooling layer whose events are written instead,
    as by sort_events and pool_events after it, or None. behind: (ConvGeometry, Neuron, Fields) of a convolution that receives
    these events; factors and places of its Fields are written too."""
    batch, n_slots, n_neurons = times.shape
    n_pooled, slots = (n_neurons, n_slots) if geometry is None else (geometry.n_post, n_slots * geometry.window_x * geometry.window_y)
    if (events.n_neurons, events.n_slots) != (n_pooled, slots):
        raise ValueError(f"events: expected {n_pooled} neurons and {slots} slots, received {events.n_neurons} and {events.n_slots}")
    expect("times", times, (None, n_slots, n_neurons), events.times.dtype)
    expect("counts", counts, (batch, n_neurons), np.int32, times)
    expect_events("events", events, batch, times.dtype, times)
    if batch == 0:
        return
    kernel = kernels.kernel("events/bucket_sort", "bucket_sort", times.dtype)
    room = n_neurons * n_slots
    shared = 2 * room * (times.dtype.itemsize + 4)
    if shared > kernel.max_dynamic_shared_size_bytes:
        kernel.max_dynamic_shared_size_bytes = shared
    convolution, neuron, fields = behind or (None, None, None)
    wants_places = behind is not None
    tau, factors, places = (times.dtype.type(1), times, counts) if fields is None else (neuron.tau, fields.factors, fields.places)
    if wants_places:
        expect("factors", factors, events.times.shape, times.dtype, times)
    pooling = np.array((0,) * 9 if geometry is None else (1, *geometry[1:]), dtype=_POOLING)
    kernel(
        (batch,), (1024 if room > 512 else 128,),
        (times, counts, np.int32(n_neurons), np.int32(n_slots), np.int32(room), pooling, np.int32(events.times.shape[1]),
         events.times, events.neurons, events.positions, events.counts,
         packed(convolution or (0,) * len(ConvGeometry._fields)), tau, np.int32(wants_places), factors, places),
        shared_mem=shared,
    )  # fmt: skip


def sort_events(times, counts, events, scratch):
    """All spikes of a sample sorted by time, then neuron, then slot.

    times [B, K, N] float, counts [B, N] int32 -> events (written). scratch: from sort_scratch.
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
    if scratch is None and fits_buckets(events.times.shape[1], times.dtype):
        bucket_sort(times, counts, None, events)
        return
    bytes_each = times.dtype.itemsize + 4
    size = np.int32(n_neurons), np.int32(n_slots)
    written = events.times, events.neurons, events.positions, events.counts
    if scratch is not None:
        width = blocks(n_neurons, PARTS)
        shared = min(SHARED_BYTES // bytes_each, width * n_slots) // 2 * 2
        kernels.kernel("events/sort_events", "sort_parts", times.dtype)(
            (batch, PARTS), (512,), (times, counts, *size, np.int32(width), np.int32(shared), *scratch), shared_mem=shared * bytes_each
        )
        kernels.kernel("events/sort_events", "merge_parts", times.dtype)(
            (min(blocks(n_neurons * n_slots, 256), 16), batch), (256,), (*scratch, *size, np.int32(width), *written)
        )
        return
    shared = min(SHARED_BYTES // bytes_each, n_neurons * n_slots) // 2 * 2
    threads = 1024 if n_neurons * n_slots > 512 else 128
    kernels.kernel("events/sort_events", "sort_events", times.dtype)(
        (batch,), (threads,), (times, counts, *size, np.int32(shared), *written), shared_mem=shared * bytes_each
    )
