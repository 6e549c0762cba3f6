"""Forward pass of a dense LIF layer: event lists to spike trains (docs/theory.md, section 2)."""

import numba
import numpy as np

from bats import kernels
from bats.cpu import spike_times as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events

WARP_VARIANT_BELOW = 64  # layers of fewer neurons take a warp per (sample, neuron) ...
WARP_VARIANT_UNITS = 132 * 64  # ... and so do batches of fewer (sample, neuron) pairs with ...
WARP_VARIANT_SLOTS = 2  # ... as many input spikes per neuron, or more: a thread each would walk long lists alone
THREADS = 128  # neurons of a block in the other variant
VARIANTS = ("neuron", "warp")


def scratch_for(xp, batch, n_events, n_post, dtype):
    """What spike_times needs on the CPU beside its arguments, for lists of up to n_events; None on CUDA."""
    if xp is not np:
        return None
    tiles = blocks(n_post, cpu.TILE)
    width = 8 * blocks(n_post, 8 * tiles)
    threads = numba.config.NUMBA_NUM_THREADS
    words = np.zeros((threads, width // 8), dtype=np.uint64)
    return (
        np.zeros(batch, dtype=np.int64),
        np.empty((batch, cpu.INTERVAL, n_events), dtype=dtype),
        np.zeros((batch, tiles, 4), dtype=np.int64),
        np.empty((threads, cpu.WORK, width), dtype=dtype), np.empty((threads, cpu.LISTS, width), dtype=np.int32),
        words.view(np.uint8), words,
    )  # fmt: skip


def _scratch_of(scratch, batch, n_events):
    largest, _, room = scratch[1].shape
    if largest < batch or room != n_events:
        raise ValueError(f"scratch: expected one for at least {batch} samples of {n_events} events, received {scratch[1].shape}")
    return *(array[:batch] for array in scratch[:3]), *scratch[3:]


def spike_times(events, weights, neuron, t_max, times, counts, slopes, status, scratch=None, variant=None):
    """events: EventList of B samples; weights [n_pre, n_post]; neuron: Neuron; t_max seconds (inf allowed).

    times and counts come as allocated (inf and 0) or as an earlier run left them; an out-of-range count empties a neuron's slots.
    Writes times [B, K, n_post] (inf-padded), counts [B, n_post] int32 and slopes [B, K, n_post] (du/dt at the spike, valid
    where a spike is), adds to status [B, 4] (spikes, silent, overflowing and non-finite neurons; int64, CUDA uint64).
    scratch: from scratch_for (CPU only). variant: "neuron", "warp" or None, which chooses (CUDA only).
    """
    batch, n_slots, n_post = times.shape
    dtype = weights.dtype
    expect("weights", weights, (events.n_neurons, n_post), dtype)
    expect_events("events", events, batch, dtype, weights)
    expect("times", times, (batch, n_slots, n_post), dtype, weights)
    expect("slopes", slopes, (batch, n_slots, n_post), dtype, weights)
    expect("counts", counts, (batch, n_post), np.int32, weights)
    expect("status", status, (batch, 4), np.uint64 if is_cupy(weights) else np.int64, weights)
    if batch == 0:
        return
    t_max = dtype.type(t_max)
    n_events = events.times.shape[1]
    if not is_cupy(weights):
        cpu.spike_times(
            events.times, events.neurons, events.counts, weights, neuron.tau, neuron.c, neuron.reset, neuron.length,
            t_max, *_scratch_of(scratch, batch, n_events), times, counts, slopes, status,
        )  # fmt: skip
        return
    if variant is None:
        long_lists = events.n_slots >= WARP_VARIANT_SLOTS and batch * n_post < WARP_VARIANT_UNITS
        variant = "warp" if n_post < WARP_VARIANT_BELOW or long_lists else "neuron"
    inputs = (events.times, events.neurons, events.counts, np.int32(events.times.shape[1]), weights)
    parameters = (np.int32(n_post), neuron.tau, neuron.c, neuron.reset, neuron.length, t_max, np.int32(n_slots))
    outputs = (times, counts, slopes, status)
    if variant == "neuron":
        kernels.kernel("lif/spike_times", "spike_times_per_neuron", dtype)(
            (blocks(n_post, THREADS), batch), (THREADS,), inputs + parameters + outputs
        )
    elif variant == "warp":
        kernels.kernel("lif/spike_times", "spike_times_per_warp", dtype)(
            (blocks(batch * n_post, 8),), (256,), (*inputs, np.int32(batch), *parameters, *outputs)
        )
    else:
        raise ValueError(f"variant: expected one of {VARIANTS} or None, received {variant!r}")
