"""Input encoding: images to event lists, and rows of resident spike trains."""

import numpy as np

from bats import kernels
from bats.cpu import encode_latency as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import packed_places
from bats.ops.launch import run


def encode_latency(images, indices, latencies, events, scratch):
    """One spike per non-zero pixel at latencies[pixel], sorted.

    images [n, N] uint8, indices [B] int32 into them, latencies [256] float seconds descending in value,
    events: EventList of N neurons with one slot (written), scratch [B, 257] int32 (CPU only).
    """
    batch = indices.shape[0]
    expect("images", images, (None, events.n_neurons), np.uint8)
    expect("indices", indices, (None,), np.int32, images)
    expect("latencies", latencies, (256,), events.times.dtype, images)
    expect_events("events", events, batch, latencies.dtype, images)
    if batch == 0:
        return
    if not is_cupy(images):
        expect("scratch", scratch, (batch, 257), np.int32)
        cpu.encode_latency(images, indices, latencies, scratch, events.times, events.neurons, events.counts)
        return
    kernels.kernel("events/encode_latency", "encode_latency", latencies.dtype)(
        (batch,), (256,),
        (images, indices, latencies, np.int32(images.shape[1]), np.int32(events.times.shape[1]),
         events.times, events.neurons, events.counts),
    )  # fmt: skip


def encode_next(images, order, cursor, all_labels, indices, labels, latencies, events, ticket, behind=None):
    """next_batch and encode_latency in one launch (CUDA). ticket: uint32 [1], 0.

    behind: (ConvGeometry, Neuron, Fields) of a convolution that receives these events; factors and places of its Fields are written too.
    """
    batch = indices.shape[0]
    for name, array, shape, dtype in (
        ("order", order, (None,), np.int32), ("cursor", cursor, (1,), np.int64), ("all_labels", all_labels, (None,), np.int32),
        ("indices", indices, (batch,), np.int32), ("labels", labels, (batch,), np.int32),
        ("latencies", latencies, (256,), events.times.dtype), ("ticket", ticket, (1,), np.uint32),
    ):  # fmt: skip
        expect(name, array, shape, dtype, images)
    expect("images", images, (None, events.n_neurons), np.uint8)
    expect_events("events", events, batch, latencies.dtype, images)
    if batch == 0:
        return
    geometry, neuron, fields = behind or (None, None, None)
    wants_places, tau, factors, places, place_of_neuron = behind is not None, latencies.dtype.type(1), events.times, indices, indices
    if wants_places:
        tau, factors, places, place_of_neuron = neuron.tau, fields.factors, fields.places, packed_places(geometry)
        expect("factors", factors, events.times.shape, latencies.dtype, images)
    run(
        kernels.kernel("events/encode_latency", "encode_next", latencies.dtype), (batch,), 256,
        (images, order, cursor, all_labels, indices, labels, latencies, np.int32(images.shape[1]), np.int32(events.times.shape[1]),
         events.times, events.neurons, events.counts, place_of_neuron, np.int32(wants_places),
         tau, factors, places, ticket),
    )  # fmt: skip


def next_batch(order, cursor, all_labels, indices, labels, dtype):
    """The next B samples of an order: indices, labels [B] int32 = order[cursor : cursor + B] and their labels; cursor += B.

    order [at least cursor + B] int32, cursor [1] int64, all_labels [n] int32; dtype names the kernel's precision.
    """
    expect("order", order, (None,), np.int32)
    expect("cursor", cursor, (1,), np.int64, order)
    expect("all_labels", all_labels, (None,), np.int32, order)
    expect("indices", indices, (None,), np.int32, order)
    expect("labels", labels, indices.shape, np.int32, order)
    if not is_cupy(order):
        cpu.next_batch(order, cursor, all_labels, indices, labels)
        return
    kernels.kernel("events/encode_latency", "next_batch", dtype)(
        (1,), (256,), (order, cursor, all_labels, np.int32(len(indices)), indices, labels)
    )


def gather_spike_trains(times, counts, indices, out_times, out_counts):
    """out_times [B, K, N], out_counts [B, N] = rows `indices` [B] int32 of times [n, K, N], counts [n, N]."""
    batch, (n_slots, n_neurons) = indices.shape[0], times.shape[1:]
    expect("times", times, (None, None, None), out_times.dtype)
    expect("counts", counts, (times.shape[0], n_neurons), np.int32, times)
    expect("indices", indices, (None,), np.int32, times)
    expect("out_times", out_times, (batch, n_slots, n_neurons), times.dtype, times)
    expect("out_counts", out_counts, (batch, n_neurons), np.int32, times)
    if batch == 0:
        return
    if not is_cupy(times):
        cpu.gather_spike_trains(times, counts, indices, out_times, out_counts)
        return
    kernels.kernel("events/encode_latency", "gather_spike_trains", times.dtype)(
        (blocks(n_neurons * n_slots, 128), batch), (128,),
        (times, counts, indices, np.int32(n_neurons), np.int32(n_slots), out_times, out_counts),
    )  # fmt: skip
