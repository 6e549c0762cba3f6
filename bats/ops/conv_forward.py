"""Fast forward pass of a convolutional LIF layer on CUDA, where all times lie before one time origin's reach (t_max <= 8 tau).

conv_spike_times is the general one, and this one's twin in the tests.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bats import kernels
from bats.device import array_module
from bats.ops.arguments import blocks, expect
from bats.ops.conv_geometry import packed, packed_masks
from bats.ops.conv_spike_times import channel_tiles, expect_forward
from bats.ops.launch import run
from bats.ops.layer_backward import rows_of, spread
from bats.ops.spike_list import list_to_fill

WARPS = 2  # of a block; FIELD_WARPS of the kernel
PAIRED = 16  # channels up to which a warp takes two positions; HALF of the kernel
CHUNKS_FROM = 256  # events that a receptive field may hold, from which chunks of them beat one after the other
LIST, LISTS, MOST_STRETCHES, WINDOW, MOST_WARPS = 9, 3, 8, 512, 20  # as in conv_forward_chunks.cu
MOST_EVENTS, MOST_MASKS = 1 << 16, 256  # what chunks are for: events of a list, words of masks for 32 events
UNSTAGED_WARPS = 8  # of a block that leaves the first-level cache to the weights
LARGEST = 1 << 10, 1 << 12  # padded grid, channels before: what fits a packed place


@dataclass
class Fields:
    """Receptive fields of a batch: factors, places [B, E] of the input events, lists [B, positions, F] int32 of the events in each
    field, sorted, and their counts [B, positions] int32, or None if no backward pass will follow; masks [B, words, post_x + post_y]
    uint32: which positions see which events (cuda/conv/field_masks.cuh), or None where nobody asks; masked: whether they are
    those of the present events; last_factor: later events are in no field."""

    factors: object
    places: object
    lists: object
    counts: object
    masks: object = None
    masked: bool = False
    last_factor: float = np.inf

    def first(self, batch):
        """The same restricted to the first `batch` samples (views)."""
        arrays = (self.factors, self.places, self.lists, self.counts, self.masks)
        return Fields(*(None if array is None else array[:batch] for array in arrays), False, self.last_factor)


def fits(geometry):
    """Whether places of this geometry fit their word."""
    most, channels = LARGEST
    return max(geometry.pre_x + 2 * geometry.padding_x, geometry.pre_y + 2 * geometry.padding_y) <= most and geometry.pre_c <= channels


def field_capacity(geometry, capacity):
    """Events that a receptive field may hold, if lists hold `capacity`."""
    slots = capacity // geometry.n_pre
    return min(capacity, geometry.filter_x * geometry.filter_y * geometry.pre_c * max(1, slots))


def prefers_chunks(geometry, capacity):
    """Whether fields of this geometry are worked off in chunks."""
    fit = capacity <= MOST_EVENTS and geometry.post_x + geometry.post_y <= MOST_MASKS
    return fit and field_capacity(geometry, capacity) >= CHUNKS_FROM


def allocate_fields(xp, batch, geometry, capacity, dtype, with_lists=True, with_masks=None):
    """Fields for event lists of up to `capacity` events. with_masks: None chooses; chunks need them."""
    n_positions = geometry.post_x * geometry.post_y
    lists = xp.empty((batch, n_positions, field_capacity(geometry, capacity)), dtype=np.int32) if with_lists else None
    counts = xp.zeros((batch, n_positions), dtype=np.int32) if with_lists else None
    with_masks = prefers_chunks(geometry, capacity) if with_masks is None else with_masks
    masks = xp.empty((batch, blocks(capacity, 32), geometry.post_x + geometry.post_y), dtype=np.uint32) if with_masks else None
    return Fields(xp.empty((batch, capacity), dtype=dtype), xp.empty((batch, capacity), dtype=np.uint32), lists, counts, masks)


class Chunks(NamedTuple):
    """How conv_forward_chunks cuts the work up: tiles of `width` channels, stretches of a chunk; warps of a block, bytes for each of them;
    whether the weights go to shared memory; bytes of that in all."""

    tiles: int
    width: int
    stretches: int
    warps: int
    room: int
    staged: bool
    shared: int


@functools.cache
def _device_limits():
    attributes = array_module("cuda").cuda.Device().attributes
    return attributes["MaxSharedMemoryPerBlockOptin"], attributes["MultiProcessorCount"]


@functools.cache
def chunk_layout(batch, geometry, itemsize, limit=None):
    """Chunks for `batch` samples; limit: bytes of shared memory per block."""
    most, processors = _device_limits()
    limit = limit or most
    tiles = blocks(geometry.post_c, 32)
    width = 4 * blocks(geometry.post_c, 4 * tiles)
    stretches = min(MOST_STRETCHES, 32 // (width // 4))
    lists = stretches * LISTS
    room = itemsize * (4 * lists * LIST + width * (3 * lists + 3)) + 4 * width + 2 * (lists * LIST + WINDOW)
    room = 16 * blocks(room, 16)
    wanted = min(MOST_WARPS, max(4, blocks(batch * geometry.post_x * geometry.post_y * tiles, processors)))
    weights = rows_of(geometry) * width * tiles * itemsize
    warps = min(wanted, (limit - weights) // room)
    staged = warps >= min(wanted, 4)
    if not staged:
        warps, weights = max(1, min(wanted, UNSTAGED_WARPS, limit // room)), 0
    return Chunks(tiles, width, stretches, warps, room, staged, weights + warps * room)


def conv_forward(events, weights, geometry, neuron, t_max, times, counts, slopes, status, fields, keeps_fields=True, prepared=False,
                 variant=None, limit=None, spikes=None):  # fmt: skip
    """As conv_spike_times, for t_max <= 8 tau. fields: from allocate_fields; its lists are filled if keeps_fields.
    prepared: whether bucket_sort or encode_next left them there. variant: "events", one after the other, or "chunks" of them, for fields
    with masks; None chooses.
    limit: bytes of shared memory per block, default what the device has. spikes: SpikeList for the bucket_sort that follows, or None."""
    batch, n_slots = times.shape[:2]
    dtype = weights.dtype
    expect_forward(events, weights, geometry, times, counts, slopes, status)
    expect("factors", fields.factors, events.times.shape, dtype, weights)
    capacity = events.times.shape[1]
    lists, lengths = (counts, counts) if fields.lists is None else (fields.lists, fields.counts)
    if keeps_fields:
        expect("lists", fields.lists, (batch, geometry.post_x * geometry.post_y, field_capacity(geometry, capacity)), np.int32, weights)
    if not t_max <= float(neuron.length):
        raise ValueError(f"t_max: expected at most 8 tau = {float(neuron.length):g} s, received {t_max}")
    if batch == 0:
        return
    fields.last_factor = dtype.type(np.exp(float(t_max) / float(neuron.tau)))
    if variant is None:
        variant = "chunks" if fields.masks is not None else "events"
    if variant == "chunks":
        expect("masks", fields.masks, (batch, blocks(capacity, 32), geometry.post_x + geometry.post_y), np.uint32, weights)
    if not prepared or (variant == "chunks" and not fields.masked):
        kernels.kernel("conv/conv_forward", "event_places", dtype)(
            (min(blocks(capacity, 256), 16), batch), (256,),
            (events.times, events.neurons, events.counts, np.int32(capacity), packed(geometry), neuron.tau, fields.factors, fields.places,
             packed_masks(geometry, fields.masks)),
        )  # fmt: skip
    fields.masked = False
    lists_and_sizes = (np.int32(keeps_fields), lists, lengths, np.int32(lists.shape[-1]), list_to_fill(spikes, times))
    rest = (events.counts, np.int32(capacity), weights.reshape(-1, geometry.post_c), packed(geometry))
    parameters = (neuron.tau, neuron.c, neuron.reset, dtype.type(t_max), fields.last_factor, np.int32(n_slots))
    written = (times, counts, slopes, status)
    n_positions = geometry.post_x * geometry.post_y
    if variant == "chunks":
        shape = chunk_layout(batch, geometry, dtype.itemsize, limit)
        n_units = batch * n_positions * shape.tiles
        run(
            kernels.kernel("conv/conv_forward_chunks", "conv_forward_chunks", dtype), (blocks(n_units, shape.warps),), 32 * shape.warps,
            (fields.factors, fields.places, fields.masks, *rest, np.int32(batch), np.int32(shape.tiles), np.int32(shape.width),
             np.int32(shape.stretches), np.int32(spread(n_units)), np.int32(shape.staged), np.int32(shape.room), *parameters, *written,
             *lists_and_sizes),
            shape.shared,
        )  # fmt: skip
        return
    if geometry.post_c <= PAIRED:
        n_pairs = blocks(n_positions, 2)
        run(
            kernels.kernel("conv/conv_forward", "conv_forward_pairs", dtype), (blocks(batch * n_pairs, WARPS),), 32 * WARPS,
            (fields.factors, fields.places, *rest, np.int32(batch), *parameters, *written, *lists_and_sizes),
        )  # fmt: skip
        return
    tiles, lanes = channel_tiles(geometry.post_c)
    run(
        kernels.kernel("conv/conv_forward", "conv_forward", dtype), (blocks(batch * n_positions * tiles, WARPS),), 32 * WARPS,
        (fields.factors, fields.places, *rest, np.int32(batch), np.int32(tiles), np.int32(lanes), *parameters, *written, *lists_and_sizes),
    )  # fmt: skip
