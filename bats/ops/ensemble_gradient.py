"""Weight gradient of a layer with many neurons and few inputs (docs/theory.md, sections 3 and 5)."""

import numpy as np

from bats import kernels
from bats.cpu import ensemble_gradient as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect, expect_events


def ensemble_gradient(events, factors, times, counts, gains, neuron, gradient):
    """gradient [n_pre, n_post] = 1/B sum over the batch of dL/dw: what weight_gradient gives, in another order of operations.

    events: the layer's input, EventList of B samples; factors [B, E]: from event_factors; times, gains [B, K, n_post],
    counts [B, n_post] int32: the layer's spikes and delta_k tau / z_k.
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
        cpu.ensemble_gradient(
            events.times, events.neurons, events.counts, factors, times, counts, gains, neuron.length, neuron.tau, scale, gradient
        )
        return
    kernels.kernel("lif/ensemble_gradient", "ensemble_gradient", dtype)(
        (blocks(n_post, 256),), (256,),
        (events.times, factors, events.neurons, events.counts, np.int32(events.times.shape[1]), times, gains, counts,
         np.int32(n_slots), np.int32(batch), np.int32(n_pre), np.int32(n_post), neuron.tau, neuron.length, scale, gradient),
    )  # fmt: skip
