"""Spike trains to event lists."""

import functools

import numpy as np

from bats import kernels
from bats.cpu import sort_events as cpu
from bats.device import array_module, is_cupy
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import packed_masks, packed_places
from bats.ops.launch import run
from bats.ops.spike_list import list_to_take

SHARED_BYTES = 48 * 1024 - 256  # what a block may use without asking for more, less the scan's own
PARTS = 8  # blocks per sample, of the same number in merge_parts, ...
PARTS_FROM = 2048  # ... for lists of this capacity or more ...
PARTS_UP_TO = 64  # ... in batches so small that a block per sample would leave the device idle

BUCKET_BYTES = 18 * 1024  # of shared memory that bucket_sort needs beside its lists

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


def bucket_sort(times, counts, geometry, events, behind=None, spikes=None):
    """As sort_events, in one launch (CUDA; fits_buckets). geometry: PoolGeometry of a pooling layer whose events are written instead,
    as by sort_events and pool_events after it, or None. behind: (ConvGeometry, Neuron, Fields) of a convolution that receives
    these events; factors, places and masks of its Fields are written too. spikes: SpikeList in which the forward pass may have left
    the same spikes, which is faster; it is empty afterwards."""
    batch, n_slots, n_neurons = times.shape
    n_pooled, slots = (n_neurons, n_slots) if geometry is None else (geometry.n_post, n_slots * geometry.window_x * geometry.window_y)
    if (events.n_neurons, events.n_slots) != (n_pooled, slots):
        raise ValueError(f"events: expected {n_pooled} neurons and {slots} slots, received {events.n_neurons} and {events.n_slots}")
    expect("times", times, (None, n_slots, n_neurons), events.times.dtype)
    expect("counts", counts, (batch, n_neurons), np.int32, times)
    expect_events("events", events, batch, times.dtype, times)
    if batch == 0:
        return
    room = n_neurons * n_slots
    convolution, neuron, fields = behind or (None, None, None)
    tau, factors, places = (times.dtype.type(1), times, counts) if fields is None else (neuron.tau, fields.factors, fields.places)
    if fields is not None:
        expect("factors", factors, events.times.shape, times.dtype, times)
    masks = packed_masks() if fields is None else packed_masks(convolution, fields.masks)
    pooled = counts if geometry is None else _pooled_neurons(geometry)
    leaves_out = geometry is not None and not geometry.covers_all
    place_of_neuron = counts if convolution is None else packed_places(convolution)
    run(
        kernels.kernel("events/bucket_sort", "bucket_sort", times.dtype), (batch,), 1024 if room > 512 else 128,
        (times, counts, list_to_take(spikes, times), np.int32(n_neurons), np.int32(n_slots), np.int32(room),
         np.int32(events.times.shape[1]), pooled, np.int32(geometry is not None), np.int32(leaves_out),
         events.times, events.neurons, events.positions, events.counts,
         place_of_neuron, np.int32(fields is not None), tau, factors, places, masks),
        2 * room * (times.dtype.itemsize + 4),
    )  # fmt: skip
    if fields is not None:
        fields.masked = fields.masks is not None


@functools.cache
def _pooled_neurons(geometry):
    """int32 [n_pre] on the device: the neuron that each one is pooled into, -1 for none."""
    x, y, c = np.unravel_index(np.arange(geometry.n_pre), (geometry.pre_x, geometry.pre_y, geometry.channels))
    px, py = x // geometry.stride_x, y // geometry.stride_y
    inside = (px < geometry.post_x) & (py < geometry.post_y)
    inside &= (x % geometry.stride_x < geometry.window_x) & (y % geometry.stride_y < geometry.window_y)
    pooled = np.where(inside, (px * geometry.post_y + py) * geometry.channels + c, -1)
    return array_module("cuda").asarray(pooled.astype(np.int32))


def sort_events(times, counts, events, scratch, spikes=None):
    """All spikes of a sample sorted by time, then neuron, then slot.

    times [B, K, N] float, counts [B, N] int32 -> events (written). scratch: from sort_scratch; spikes: as of bucket_sort.
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
        bucket_sort(times, counts, None, events, spikes=spikes)
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
