"""dL/dt of the spikes that a dense layer received (docs/theory.md, section 3)."""

import numpy as np

from bats import kernels
from bats.cpu import presynaptic_errors as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events


def presynaptic_errors(events, weights, out_events, gains, neuron, errors, scratch=None, factors=None):
    """events: the layer's input; out_events: its own spikes; gains [B, K, n_post]; weights [n_pre, n_post].

    Writes errors [B, K_pre, n_pre] where the input has a spike and leaves the other slots as they are.
    scratch: two arrays [B, n_post], factors [B, E] from event_factors (CPU only).
    """
    dtype = weights.dtype
    batch, _, n_post = gains.shape
    expect("weights", weights, (events.n_neurons, n_post), dtype)
    expect_events("events", events, batch, dtype, weights)
    expect_events("out_events", out_events, batch, dtype, weights)
    expect("gains", gains, (batch, out_events.n_slots, out_events.n_neurons), dtype, weights)
    expect("errors", errors, (batch, events.n_slots, events.n_neurons), dtype, weights)
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
    capacity = events.times.shape[1]
    kernels.kernel("lif/presynaptic_errors", "presynaptic_errors", dtype)(
        (blocks(capacity, 128), batch), (128,),
        (events.times, events.neurons, events.positions, events.counts, np.int32(capacity), weights,
         out_events.times, out_events.neurons, out_events.positions, out_events.counts, np.int32(out_events.times.shape[1]),
         gains, np.int32(n_post), np.int32(events.n_neurons * events.n_slots), neuron.tau, neuron.length, errors),
    )  # fmt: skip
