"""Pooling of event lists."""

import numpy as np

from bats import kernels
from bats.cpu import pool_events as cpu
from bats.device import is_cupy
from bats.ops.arguments import expect_events


def pool_events(events, geometry, out_events):
    """The events of every window's neurons as those of one neuron, in the same order; those in no window are left out.

    events: EventList of geometry.n_pre neurons; geometry: PoolGeometry; out_events: EventList (written) of n_post neurons and as many
    slots as the neurons of a window have together. Its positions are those of `events`: they point at the original spikes.
    """
    dtype, batch = events.times.dtype, events.batch
    if (events.n_neurons, out_events.n_neurons) != (geometry.n_pre, geometry.n_post):
        raise ValueError(
            f"events: expected those of {geometry.n_pre} and {geometry.n_post} neurons, "
            f"received {events.n_neurons} and {out_events.n_neurons}"
        )
    expect_events("events", events, batch, dtype)
    expect_events("out_events", out_events, batch, dtype, events.times)
    if out_events.n_slots != events.n_slots * geometry.window_x * geometry.window_y:
        expected = events.n_slots * geometry.window_x * geometry.window_y
        raise ValueError(f"out_events: expected {expected} slots, received {out_events.n_slots}")
    if batch == 0:
        return
    given = (events.times, events.neurons, events.positions, events.counts)
    written = (out_events.times, out_events.neurons, out_events.positions, out_events.counts)
    if not is_cupy(events.times):
        cpu.pool_events(*given, geometry, *written)
        return
    capacities = np.int32(events.times.shape[1]), np.int32(out_events.times.shape[1])
    kernels.kernel("conv/pool_events", "pool_events", dtype)(
        (batch,), (1024,), (*given, capacities[0], *(np.int32(value) for value in geometry[1:]), capacities[1], *written)
    )
