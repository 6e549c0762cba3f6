"""dL/dt of the spikes that a convolutional layer received (docs/theory.md, sections 3 and 7)."""

import numpy as np

from bats import kernels
from bats.cpu import conv_backward as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import packed

MAX_BLOCKS = 192  # per sample; each takes sixteen spikes at a time


def conv_presynaptic_errors(events, factors, weights, geometry, out_events, gains, later, neuron, errors, scratch=None):
    """events: the layer's input, factors [B, E] from event_factors; out_events: its own spikes; gains [B, K, N];
    later: from later_sums (CUDA); weights [C_pre, FY, FX, C].

    Writes errors [B, *events.train_shape] where the input has a spike (0 if no position sees it) and leaves the other slots.
    scratch: two arrays [B, N] (CPU only).
    """
    dtype = weights.dtype
    batch, n_slots, n_post = gains.shape
    expect("weights", weights, geometry.weight_shape, dtype)
    expect_events("events", events, batch, dtype, weights)
    expect("factors", factors, events.times.shape, dtype, weights)
    expect_events("out_events", out_events, batch, dtype, weights)
    expect("gains", gains, (batch, out_events.n_slots, geometry.n_post), dtype, weights)
    expect("errors", errors, (batch, *events.train_shape), dtype, weights)
    if batch == 0:
        return
    rows = weights.reshape(-1, geometry.post_c)
    if not is_cupy(weights):
        p, q = scratch
        cpu.conv_presynaptic_errors(
            events.times, events.neurons, events.positions, events.counts, factors, rows, out_events.times, out_events.neurons,
            out_events.positions, out_events.counts, gains.reshape(batch, -1), geometry, neuron.length, neuron.tau, p, q,
            errors.reshape(batch, -1),
        )  # fmt: skip
        return
    expect("later", later, (batch, n_slots, n_post, 4), dtype, weights)
    capacity = events.times.shape[1]
    kernels.kernel("conv/conv_presynaptic_errors", "conv_presynaptic_errors", dtype)(
        (min(blocks(capacity, 16), MAX_BLOCKS), batch), (256,),
        (events.times, factors, events.neurons, events.positions, events.counts, np.int32(capacity), rows, later,
         packed(geometry), np.int32(n_slots), np.int32(errors.size // batch), neuron.tau, neuron.length, errors),
    )  # fmt: skip
