"""Launches of cuda/stdp/online.cu and convolve.cu: how a layer is spread over the blocks of a GPU."""

import functools
import math
from typing import NamedTuple

import numpy as np

from bats import kernels
from bats.cpu.stdp_convolution import CHUNKS
from bats.device import array_module

_RESERVE = 1024  # bytes of shared memory for the kernels' fixed arrays
_THREADS = 512


class Plan(NamedTuple):
    """Block (part, group) holds part_size features and computes them at group_size places."""

    n_parts: int
    part_size: int
    n_groups: int
    group_size: int
    lanes: int  # features of a part, in whole warps
    parts: int  # warps per list of inputs
    threads: int
    shared: int  # bytes
    weights_inside: bool  # in shared memory, or each block's copy in global memory
    lists_inside: bool


@functools.cache
def plan(n_features, size, n_places, n_bins, has_threshold, k, n_processors, limit):
    """The first Plan, from few parts to many, whose weights and lists fit into shared memory; else only the weights; else neither."""
    for weights_inside, lists_inside in ((True, True), (True, False), (False, False)):
        for n_parts in range(1, min(n_features, n_processors) + 1):
            part_size = math.ceil(n_features / n_parts)
            n_parts = math.ceil(n_features / part_size)
            group_size = math.ceil(n_places / min(n_places, n_processors // n_parts))
            lanes = (part_size + 31) // 32 * 32
            threads = _THREADS if not has_threshold else max(256, min(_THREADS, lanes * group_size))
            parts = max(1, min(8, threads // 32 // group_size))
            n_lists = n_bins if has_threshold else CHUNKS
            shared = 8 * group_size + 8 * n_places + 16 * k + 8 * group_size * n_lists
            shared += 4 * group_size * (n_bins * parts if has_threshold else CHUNKS * part_size)
            shared += 4 * size * part_size * weights_inside + 2 * size * group_size * lists_inside
            if shared <= limit:
                n_groups = math.ceil(n_places / group_size)
                return Plan(n_parts, part_size, n_groups, group_size, lanes, parts, threads, shared, weights_inside, lists_inside)
    raise ValueError(f"layer: {n_places} places and {k} winners do not fit into {limit} bytes of shared memory")


def learn(latencies, order, labels, weights, rule, rates, counter):
    """See bats.stdp.online.learn. The blocks of the one launch wait for each other: there are never more than processors."""
    cupy = array_module("cuda")
    n_features = weights.shape[0]
    window = _window(latencies.shape[1:], weights.shape[2:])
    size, n_places = window.offsets.size, window.n_places
    if n_features * n_places > 2**24 or size > 2**16:
        raise ValueError(f"layer: expected at most 2^24 neurons and 2^16 inputs each, received {n_features * n_places} and {size}")
    winners = cupy.full((order.size, rule.winners, 3), -1, dtype=np.int32)
    if order.size == 0:
        return winners
    has_threshold = rule.threshold is not None
    p = plan(n_features, size, n_places, rule.n_bins, has_threshold, rule.winners, *_device())
    n_blocks = p.n_parts * p.n_groups
    by_input = cupy.ascontiguousarray(weights.reshape(n_features, -1).T)
    keys = cupy.empty((2, p.n_parts, n_places), dtype=np.uint64)
    barrier = cupy.zeros(1, dtype=np.uint32)
    null = np.uint64(0)
    weight_scratch = null if p.weights_inside else cupy.empty(n_blocks * size * p.part_size, dtype=np.float32)
    list_scratch = null if p.lists_inside else cupy.empty(n_blocks * size * p.group_size, dtype=np.uint16)
    chunk = 0 if has_threshold else _chunk(*weights.shape[1:])
    low, high = rule.limits
    kernel = kernels.kernel("stdp/online", "learn", np.float32)
    kernel.max_dynamic_shared_size_bytes = p.shared
    kernel(
        (n_blocks,), (p.threads,),
        (
            latencies, order, labels, np.int32(order.size), by_input, window.offsets,
            *_ints(latencies[0].size, latencies.shape[3], window.out_width, n_places, size, n_features, rule.n_bins, chunk), rule.level,
            *_ints(p.n_parts, p.part_size, p.n_groups, p.group_size, p.lanes, p.parts, rule.winners, rule.radius, rule.rule == "rounded"),
            *rates.ravel(), np.int32(rule.stabilizer), low, high, *_ints(rule.doubling, counter), np.float32(rule.max_rate),
            np.int32(rule.per_class), keys, barrier, winners, weight_scratch, list_scratch,
        ),
        shared_mem=p.shared,
    )  # fmt: skip
    weights[:] = by_input.T.reshape(weights.shape)
    return winners


def convolve(latencies, by_input, kernel_shape, threshold, n_bins, out_latencies, out_potentials):
    """See bats.cpu.stdp_convolution.convolve."""
    n, n_features, n_places = len(latencies), by_input.shape[1], int(np.prod(out_latencies.shape[2:]))
    window = _window(latencies.shape[1:], kernel_shape)
    chunk = 0 if threshold >= 0 else _chunk(latencies.shape[1], *kernel_shape)
    size, n_lists = window.offsets.size, CHUNKS if chunk else n_bins
    n_processors, limit = _device()
    per_place = 8 * n_lists + 2 * size + (0 if chunk else 4 * n_bins * 8)
    group_size = max(1, min(n_places, math.ceil(512 / n_features), limit // per_place))
    if n * n_places < 4 * n_processors * group_size:
        group_size = 1  # few images: better more blocks than full ones
    parts = max(1, min(8, 8 // group_size))
    shared = group_size * per_place
    if shared > limit or size > 2**16:
        raise ValueError(f"kernel: expected at most 2^16 inputs of a neuron, received {size}")
    kernel = kernels.kernel("stdp/convolve", "convolve", np.float32)
    kernel.max_dynamic_shared_size_bytes = shared
    sizes = _ints(latencies[0].size, latencies.shape[3], window.out_width, n_places, size, n_features, n_bins, chunk, parts)
    for start in range(0, n, 65535):  # the grid's second axis is 16 bits wide
        part = slice(start, start + 65535)
        n_groups = math.ceil(n_places / group_size)
        arguments = latencies[part], by_input, window.offsets, *sizes, np.float32(threshold), np.int32(group_size)
        outputs = out_latencies[part], out_potentials[part]
        kernel((n_groups, len(outputs[0])), (256,), (*arguments, *outputs), shared_mem=shared)


@functools.cache
def _device():
    """Processors, and bytes of shared memory that a block may ask for; asking the driver takes longer than a launch."""
    attributes = array_module("cuda").cuda.Device().attributes
    return attributes["MultiProcessorCount"], attributes["MaxSharedMemoryPerBlockOptin"] - _RESERVE


class _Window(NamedTuple):
    offsets: object  # int32 [K] on the device: where input (channel, row, column) of a window lies in an image
    n_places: int
    out_width: int


@functools.cache
def _window(image_shape, kernel_shape):
    channels, height, width = image_shape
    indices = np.arange(channels * height * width, dtype=np.int32).reshape(channels, height, width)
    offsets = indices[:, : kernel_shape[0], : kernel_shape[1]].ravel()
    out_height, out_width = height - kernel_shape[0] + 1, width - kernel_shape[1] + 1
    return _Window(array_module("cuda").asarray(offsets), out_height * out_width, out_width)


def _chunk(channels, height, width):
    """Inputs in one of CHUNKS groups of channels."""
    return math.ceil(channels / CHUNKS) * height * width


def _ints(*values):
    return [np.int32(value) for value in values]
