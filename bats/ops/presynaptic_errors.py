"""dL/dt of the spikes that a dense layer received (docs/theory.md, section 3)."""

import numpy as np

from bats import kernels
from bats.cpu import presynaptic_errors as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events
from bats.ops.conv_geometry import convolve
from bats.ops.conv_presynaptic_errors import conv_presynaptic_errors

LOOKED_UP_FROM = 64  # neurons from which looking up sums over later spikes beats going through all later spikes


def wants_later_sums(xp, n_post):
    """Whether presynaptic_errors is faster with `later`."""
    return xp is not np and n_post >= LOOKED_UP_FROM


def presynaptic_errors(events, factors, weights, out_events, gains, neuron, errors, scratch=None, later=None):
    """events: the layer's input, factors [B, E] from event_factors; out_events: its own spikes;
    gains [B, K, n_post]; weights [n_pre, n_post].

    Writes errors [B, *events.train_shape] = [B, K_pre, n_pre] where the input has a spike and leaves the other slots as they are.
    scratch: two arrays [B, n_post] (CPU only). later: from later_sums, or None (CUDA only): with it, each event looks up
    the sums of every neuron, as in a convolution with one position; without it, it goes through all later spikes.
    """
    dtype = weights.dtype
    batch, _, n_post = gains.shape
    expect("weights", weights, (events.n_neurons, n_post), dtype)
    expect_events("events", events, batch, dtype, weights)
    expect("factors", factors, events.times.shape, dtype, weights)
    expect_events("out_events", out_events, batch, dtype, weights)
    expect("gains", gains, (batch, out_events.n_slots, out_events.n_neurons), dtype, weights)
    expect("errors", errors, (batch, *events.train_shape), dtype, weights)
    if batch == 0:
        return
    if not is_cupy(weights):
        p, q = scratch
        cpu.presynaptic_errors(
            events.times, events.positions, events.neurons, events.counts, factors, weights, out_events.times,
            out_events.positions, out_events.neurons, out_events.counts, gains.reshape(batch, -1), neuron.length, neuron.tau, p, q,
            errors.reshape(batch, -1),
        )  # fmt: skip
        return
    if later is not None:
        geometry = convolve((1, 1, events.n_neurons), (1, 1, n_post))
        weights = weights.reshape(geometry.weight_shape)
        conv_presynaptic_errors(events, factors, weights, geometry, out_events, gains, later, neuron, errors)
        return
    capacity = events.times.shape[1]
    kernels.kernel("lif/presynaptic_errors", "presynaptic_errors", dtype)(
        (blocks(capacity, 128), batch), (128,),
        (events.times, factors, events.neurons, events.positions, events.counts, np.int32(capacity), weights,
         out_events.times, out_events.neurons, out_events.positions, out_events.counts, np.int32(out_events.times.shape[1]),
         gains, np.int32(n_post), np.int32(errors.size // batch), neuron.tau, neuron.length, errors),
    )  # fmt: skip
