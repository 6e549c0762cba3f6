"""Fast forward pass of a dense LIF layer on CUDA, where all times lie before one time origin's reach (t_max <= 8 tau).

spike_times is the general one, and this one's twin in the tests.
"""

import numpy as np

from bats import kernels
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.launch import run
from bats.ops.spike_list import list_to_fill

LIST = 32  # events that are searched together; as in the kernel
PITCH = 33
MULTIPROCESSORS = 132  # of the device that this was made for
MOST = 3584  # events of a round: two blocks then fit a multiprocessor
EACH, MOST_THREADS = 4, 256  # of dense_forward_each
EACH_BELOW = 32  # neurons, from which a warp has work for all its lanes


def tiles_of(n_post, batch):
    """Blocks that share the neurons of a sample, up to 32 each; more blocks if else the multiprocessors would not have two of them."""
    tiles = blocks(n_post, 32)
    if batch * tiles > MULTIPROCESSORS:
        tiles = max(tiles, min(blocks(n_post, 16), 2 * MULTIPROCESSORS // batch))
    return tiles


def layout(n_blocks, capacity, itemsize, most=MOST):
    """(events of a round, threads, shared bytes) for so many blocks."""
    events = LIST * blocks(min(capacity, most), LIST)
    warps = 4 if events < 512 else 32 if n_blocks <= MULTIPROCESSORS else 16
    return events, 32 * warps, events * 4 * itemsize + (3 * (events // LIST) + 2 * warps) * PITCH * itemsize


def dense_forward(events, weights, neuron, t_max, times, counts, slopes, status, most=MOST, spikes=None):
    """As spike_times, for t_max <= 8 tau. most: events of a round, at most (smaller in tests). spikes: SpikeList for the bucket_sort that
    follows, or None; left empty by layers of few neurons."""
    batch, n_slots, n_post = times.shape
    dtype = weights.dtype
    expect("weights", weights, (events.n_neurons, n_post), dtype)
    expect_events("events", events, batch, dtype, weights)
    expect("times", times, (batch, n_slots, n_post), dtype, weights)
    expect("slopes", slopes, (batch, n_slots, n_post), dtype, weights)
    expect("counts", counts, (batch, n_post), np.int32, weights)
    expect("status", status, (batch, 4), np.uint64, weights)
    if not t_max <= float(neuron.length):
        raise ValueError(f"t_max: expected at most 8 tau = {float(neuron.length):g} s, received {t_max}")
    if batch == 0:
        return
    capacity = events.times.shape[1]
    last_factor = dtype.type(np.exp(float(t_max) / float(neuron.tau)))
    events_in = (events.times, events.neurons, events.counts, np.int32(capacity), weights, np.int32(n_post))
    parameters = (neuron.tau, neuron.c, neuron.reset, dtype.type(t_max), last_factor, np.int32(n_slots))
    written = (times, counts, slopes, status)
    if n_post < EACH_BELOW:
        threads = 32 * blocks(min(capacity, most, EACH * MOST_THREADS), 32 * EACH)
        run(kernels.kernel("lif/dense_forward_each", "dense_forward_each", dtype), (n_post, batch), threads,
            (*events_in, *parameters, *written), 2 * n_slots * dtype.itemsize)  # fmt: skip
        return
    width = blocks(n_post, tiles_of(n_post, batch))
    tiles = blocks(n_post, width)
    events_at_once, threads, shared = layout(batch * tiles, capacity, dtype.itemsize, most)
    run(kernels.kernel("lif/dense_forward", "dense_forward", dtype), (tiles, batch), threads,
        (*events_in, np.int32(width), np.int32(events_at_once), *parameters, *written, list_to_fill(spikes, times)), shared)  # fmt: skip
