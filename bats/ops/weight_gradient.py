"""Weight gradient of a dense layer: the batch mean, without an array of batch x post x pre (docs/theory.md, section 3)."""

import numpy as np

from bats import kernels
from bats.cpu import weight_gradient as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events

MAX_GROUPS = 16
POSTS = 8  # post-neurons of a block
WANTED_BLOCKS = 264
SHARED_BYTES = 48 * 1024


def scratch_for(xp, batch, n_pre, n_post, dtype):
    """What weight_gradient needs beside its arguments, as a dict of arrays; made once."""
    if xp is np:
        rows = blocks(n_post, cpu.TILE) * cpu.TILE
        return {"total": np.empty((rows, n_pre), dtype=dtype)}
    _, groups, in_shared = _layout(batch, n_pre, n_post, np.dtype(dtype).itemsize)
    return {
        "partial": xp.empty((groups if groups > 1 else 0, n_pre, n_post), dtype=dtype),
        "rows": xp.empty((0 if in_shared else groups, n_post, n_pre), dtype=dtype),
    }


def _layout(batch, n_pre, n_post, itemsize):
    """Post-neurons per block, groups of samples, whether the rows of a block fit shared memory."""
    fitting = SHARED_BYTES // (n_pre * itemsize)
    posts = max(1, min(POSTS, fitting)) if fitting else POSTS
    groups = max(1, min(MAX_GROUPS, batch, WANTED_BLOCKS // blocks(n_post, posts)))
    return posts, groups, fitting > 0


def event_factors(events, neuron, factors):
    """factors [B, E] = e^{(t - c L) / tau} of every event, shared by the two backward operations (CPU only)."""
    cpu.event_factors(events.times, events.counts, neuron.length, neuron.tau, factors)


def weight_gradient(events, times, counts, gains, neuron, gradient, scratch, factors=None):
    """gradient [n_pre, n_post] = 1/B sum over the batch of dL/dw.

    events: the layer's input, EventList of B samples; times, gains [B, K, n_post], counts [B, n_post]: its spikes and
    delta_k tau / z_k; factors [B, E]: from event_factors (CPU only). scratch: from scratch_for(batch >= B).
    """
    batch, n_slots, n_post = times.shape
    dtype = times.dtype
    n_pre = events.n_neurons
    expect_events("events", events, batch, dtype, times)
    expect("gains", gains, times.shape, dtype, times)
    expect("counts", counts, (batch, n_post), np.int32, times)
    expect("gradient", gradient, (n_pre, n_post), dtype, times)
    if batch == 0:
        gradient[...] = 0
        return
    scale = dtype.type(1 / batch)
    if not is_cupy(times):
        cpu.weight_gradient(
            events.times, events.neurons.view(np.uint32), events.counts, factors, times, counts, gains,
            neuron.length, neuron.tau, scale, scratch["total"], gradient,
        )  # fmt: skip
        return
    posts, groups, in_shared = _layout(batch, n_pre, n_post, dtype.itemsize)
    groups = min(groups, max(1, scratch["partial"].shape[0]))
    target = scratch["partial"] if groups > 1 else gradient
    kernels.kernel("lif/weight_gradient", "weight_gradient", dtype)(
        (blocks(n_post, posts), groups), (32 * posts,),
        (events.times, events.neurons, events.counts, np.int32(events.times.shape[1]), np.int32(events.n_slots),
         times, gains, counts, np.int32(n_slots), np.int32(batch), np.int32(n_pre), np.int32(n_post),
         neuron.tau, neuron.length, scale, np.int32(in_shared), scratch["rows"], target),
        shared_mem=posts * n_pre * dtype.itemsize if in_shared else 0,
    )  # fmt: skip
    if groups > 1:
        kernels.kernel("lif/weight_gradient", "add_groups", dtype)(
            (blocks(gradient.size, 256),), (256,), (target, np.int32(groups), np.int64(gradient.size), gradient)
        )
