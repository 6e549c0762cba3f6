"""Weight gradient of a dense layer: the batch mean, without an array of batch x post x pre (docs/theory.md, section 3)."""

import functools

import numba
import numpy as np

from bats import kernels
from bats.cpu import weight_gradient as cpu
from bats.device import array_module, is_cupy
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import convolve
from bats.ops.conv_weight_gradient import WANTED_BLOCKS as MAX_UNITS
from bats.ops.conv_weight_gradient import conv_weight_gradient
from bats.ops.conv_weight_gradient import layout as conv_layout
from bats.ops.conv_weight_gradient import scratch_for as conv_scratch_for

MAX_OUTER_GROUPS = 16  # groups of samples whose sums go through global memory
INNER_GROUPS = 8  # groups of samples within a block
POSTS = 2  # post-neurons of a block
WANTED_BLOCKS = 132 * 3
SHARED_BYTES = 96 * 1024  # of a block, where the device has as much


def scratch_for(xp, batch, n_pre, n_post, dtype):
    """What weight_gradient needs beside its arguments, as a dict of arrays; made once for batches of up to `batch`."""
    if xp is np:
        groups, width = cpu.layout(batch, n_post, numba.config.NUMBA_NUM_THREADS)
        tiles = blocks(n_post, width)
        sums = {name: np.empty((tiles * groups, width), dtype=dtype) for name in ("p", "q")}
        sums["late"] = np.empty((tiles * groups, 4, cpu.BLOCK + 1), dtype=dtype)
        return {**sums, "partial": np.empty((groups if groups > 1 else 0, n_pre, n_post), dtype=dtype)}
    geometry = _one_position(n_pre, n_post)
    if _fits(batch, geometry, dtype):
        looked_up = conv_scratch_for(xp, batch, geometry, dtype)["partial"]
        return {**_scratch(xp, batch, n_pre, n_post, dtype), "looked_up": looked_up}
    return _scratch(xp, batch, n_pre, n_post, dtype)


def _scratch(xp, batch, n_pre, n_post, dtype):
    posts, inner, outer, in_shared = _layout(batch, n_pre, n_post, np.dtype(dtype).itemsize)
    n_rows = 0 if in_shared else outer * blocks(n_post, posts) * posts * inner
    return {
        "partial": xp.empty((outer if outer > 1 else 0, n_pre, n_post), dtype=dtype),
        "rows": xp.empty((n_rows, n_pre), dtype=dtype),
    }


@functools.cache
def _shared_limit():
    device = array_module("cuda").cuda.Device()
    return min(SHARED_BYTES, device.attributes["MaxSharedMemoryPerBlockOptin"])


def _layout(batch, n_pre, n_post, itemsize):
    """Post-neurons per block, inner and outer groups of samples, whether the rows of a block fit shared memory."""
    fitting = _shared_limit() // (n_pre * itemsize)  # rows
    posts = min(POSTS, fitting) or POSTS
    inner = min(INNER_GROUPS, fitting // posts) if fitting else 1
    outer = max(1, min(MAX_OUTER_GROUPS, blocks(batch, inner), WANTED_BLOCKS // blocks(n_post, posts)))
    return posts, inner, outer, fitting > 0


def _one_position(n_pre, n_post):
    """A dense layer as a convolution."""
    return convolve((1, 1, n_pre), (1, 1, n_post))


def _fits(batch, geometry, dtype):
    """Whether so few blocks cover the weights that each of them may look at all events."""
    return conv_layout(batch, geometry, np.dtype(dtype).itemsize)[2] <= MAX_UNITS


def event_factors(events, neuron, factors):
    """factors [B, E] = e^{(t - c L) / tau} of every event; both backward operations of a layer use them."""
    expect_events("events", events, factors.shape[0], factors.dtype, factors)
    expect("factors", factors, events.times.shape, events.times.dtype)
    batch, capacity = factors.shape
    if not is_cupy(factors):
        cpu.event_factors(events.times, events.counts, neuron.length, neuron.tau, factors)
    elif batch:
        kernels.kernel("lif/weight_gradient", "event_factors", factors.dtype)(
            (min(blocks(capacity, 256), 8), batch), (256,),
            (events.times, events.counts, np.int32(capacity), neuron.length, neuron.tau, factors),
        )  # fmt: skip


def weight_gradient(events, factors, times, counts, out_events, gains, neuron, gradient, scratch, later=None):
    """gradient [n_pre, n_post] = 1/B sum over the batch of dL/dw.

    events: the layer's input, EventList of B samples; factors [B, E]: from event_factors; times, gains [B, K, n_post],
    counts [B, n_post]: the layer's spikes and delta_k tau / z_k; out_events: the same spikes sorted. scratch: from scratch_for(batch >= B).
    later: from later_sums, or None (CUDA only): with it, and if a neuron of the input may spike more than once, events look up these sums
    as in a convolution with one position, where the layer is small enough for that.
    """
    batch, n_slots, n_post = times.shape
    dtype = times.dtype
    n_pre = events.n_neurons
    expect_events("events", events, batch, dtype, times)
    expect("factors", factors, events.times.shape, dtype, times)
    expect("gains", gains, times.shape, dtype, times)
    expect("counts", counts, (batch, n_post), np.int32, times)
    expect("gradient", gradient, (n_pre, n_post), dtype, times)
    if batch == 0:
        gradient[...] = 0
        return
    scale = dtype.type(1 / batch)
    if not is_cupy(times):
        cpu.weight_gradient(
            events.times, events.neurons, events.counts, factors, out_events.times, out_events.neurons, out_events.positions,
            out_events.counts, gains.reshape(batch, -1), neuron.length, neuron.tau, scale,
            scratch["p"], scratch["q"], scratch["late"], scratch["partial"], gradient,
        )  # fmt: skip
        return
    if later is not None and events.n_slots > 1 and "looked_up" in scratch:
        geometry = _one_position(n_pre, n_post)
        square = gradient.reshape(geometry.weight_shape)
        partial = {"partial": scratch["looked_up"]}
        conv_weight_gradient(events, factors, geometry, out_events, gains, later, neuron, square, partial)
        return
    posts, inner, outer, in_shared = _layout(batch, n_pre, n_post, dtype.itemsize)
    target = scratch["partial"] if outer > 1 else gradient
    n_warps = posts * inner
    kernel = kernels.kernel("lif/weight_gradient", "weight_gradient", dtype)
    shared = n_warps * n_pre * dtype.itemsize if in_shared else 0
    if shared > kernel.max_dynamic_shared_size_bytes:
        kernel.max_dynamic_shared_size_bytes = shared
    kernel(
        (blocks(n_post, posts), outer), (32 * n_warps,),
        (events.times, factors, events.neurons, events.counts, np.int32(events.times.shape[1]), np.int32(events.n_slots),
         times, gains, counts, np.int32(n_slots), np.int32(batch), np.int32(n_pre), np.int32(n_post),
         neuron.tau, neuron.length, scale, np.int32(posts), np.int32(in_shared), scratch["rows"], target),
        shared_mem=shared,
    )  # fmt: skip
    if outer > 1:
        kernels.kernel("lif/weight_gradient", "add_groups", dtype)(
            (blocks(gradient.size, 256),), (256,), (target, np.int32(outer), np.int64(gradient.size), gradient)
        )
