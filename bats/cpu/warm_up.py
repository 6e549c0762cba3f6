"""Compiles the CPU operations for a dtype ahead of the first step, and says so when that takes a while.

Single operations are compiled when a network first makes room for a batch, the fused step when a step first takes it, what convolutional
layers and layers in time steps need when the first such layer joins a network.
"""

import functools
import sys
import threading
import time

import numpy as np

PATIENCE = 1.0  # seconds after which a notice is printed; a warm cache loads faster


@functools.cache
def warm_up(dtype):
    """Runs every CPU operation once on tiny arrays, so that Numba compiles it or loads it from its cache on disk."""
    _announced(_run, dtype, f"CPU operations for {dtype}")


@functools.cache
def warm_up_fused(dtype):
    """The same for the fused step."""
    _announced(_run_fused, dtype, f"fused step on the CPU for {dtype}")


@functools.cache
def warm_up_convolution(dtype):
    """The same for the operations of convolution and pooling."""
    _announced(_run_convolution, dtype, f"CPU operations of convolution for {dtype}")


@functools.cache
def warm_up_timestep(dtype):
    """The same for the operations of bats.timestep."""
    _announced(_run_timestep, dtype, f"CPU operations in time steps for {dtype}")


@functools.cache
def warm_up_grid(dtype):
    """The same for the operations of layers on a time grid."""
    _announced(_run_grid, dtype, f"CPU operations of time grids for {dtype}")


@functools.cache
def warm_up_stdp():
    """The same for the layers of bats.stdp."""
    _announced(_run_stdp, "float32", "CPU operations of STDP layers")


def _announced(run, dtype, what):
    start = time.perf_counter()
    notice = threading.Timer(PATIENCE, _say, [f"bats: compiling the {what} (once; cached on disk) ..."])
    notice.daemon = True
    notice.start()
    run(np.dtype(dtype))
    waited = notice.finished.is_set()
    notice.cancel()
    if waited:
        _say(f"bats: compiled in {time.perf_counter() - start:.0f} s")


def _say(message):
    print(message, file=sys.stderr, flush=True)


def _run(dtype):
    from bats import ops
    from bats.ops.neuron import Neuron
    from bats.spikes import EventList

    neuron = Neuron.make(0.1, 0.01, 0.01, dtype)
    events = EventList.allocate(np, 1, 2, 1, dtype)
    out_events = EventList.allocate(np, 1, 2, 2, dtype)
    indices = np.zeros(1, dtype=np.int32)
    images = np.full((1, 2), 255, dtype=np.uint8)
    latencies = np.linspace(0.1, 0, 256).astype(dtype)
    ops.encode_latency(images, indices, latencies, events, np.zeros((1, 257), dtype=np.int32))
    trains, train_counts = np.zeros((1, 1, 2), dtype=dtype), np.ones((1, 2), dtype=np.int32)
    ops.next_batch(indices, np.zeros(1, dtype=np.int64), indices, indices.copy(), indices.copy(), dtype)
    ops.gather_spike_trains(trains, train_counts, indices, trains.copy(), train_counts.copy())
    ops.sort_events(trains, train_counts, events, ops.sort_scratch(events))
    weights = np.ones((2, 2), dtype=dtype)
    times, slopes, gains = (np.zeros((1, 2, 2), dtype=dtype) for _ in range(3))
    counts = np.zeros((1, 2), dtype=np.int32)
    status = np.zeros((1, 4), dtype=np.int64)
    sums = np.zeros((1, 2), dtype=dtype), np.zeros((1, 2), dtype=dtype)
    factors = np.empty_like(events.times)
    ops.event_factors(events, neuron, factors)
    ops.spike_times(events, weights, neuron, 1.0, times, counts, slopes, status, ops.forward_scratch(np, 1, 2, 2, dtype))
    ops.sort_events(times, counts, out_events, ops.sort_scratch(out_events))
    loss, targets = np.zeros(1, dtype=dtype), np.ones((1, 2), dtype=dtype)
    totals = np.zeros(4)
    ops.spike_count_loss(times, counts, targets, loss, gains)
    ops.spike_time_loss(times, counts, targets, loss, gains)
    ops.ttfs_softmax_cross_entropy(times, counts, indices, 1.0, 100.0, loss, gains)
    ops.spike_count_class_loss(times, counts, indices, 2.0, 0.0, loss, gains)
    for rule in ("most_spikes", "first_spike"):
        ops.predict(rule, times, counts, indices.copy())
    ops.accumulate_metrics(loss, indices, counts, indices, totals)
    ops.recurrent_errors(gains, times, slopes, counts, neuron, gains, status)
    ops.presynaptic_errors(events, factors, weights, out_events, gains, neuron, trains, sums)
    gradient = np.zeros_like(weights)
    scratch = ops.gradient_scratch(np, 1, 2, 2, dtype)
    ops.weight_gradient(events, factors, times, counts, out_events, gains, neuron, gradient, scratch)
    schedule = np.array([0.1, 0.0, 1.0, 1.0])
    ops.tick(schedule, 0.9, 0.999, dtype)
    rates = np.zeros(2, dtype=dtype)
    ops.spike_rates(counts, rates)
    ops.spike_rate_errors(gains, counts, rates, 1.0, None, 0.0, gains)
    ops.raise_silent(rates, 0.0, gradient)
    ops.adam(gradient, gradient.copy(), gradient.copy(), schedule, 0.9, 0.999, 1e-8, gradient.copy())
    ops.gradient_descent(gradient, schedule, gradient.copy())


def _run_fused(dtype):
    import bats
    from bats.fused.cpu_step import CpuFusedStep
    from bats.sources import LatencyImages

    layers = [bats.LIFLayer(None, 1, tau_s=0.1, theta=0.01, delta_theta=0.01, name=name) for name in ("hidden", "output")]
    network = bats.Network([bats.InputLayer(2), *layers], device="cpu", dtype=dtype, seed=0)
    source = LatencyImages(np.full((1, 2), 255, dtype=np.uint8), [0]).to("cpu", dtype)
    step = CpuFusedStep(network, bats.SpikeCountClassLoss(2, 0), bats.AdamOptimizer(0.1), source, 1, 0.2)
    cursor, loss, predictions, totals = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=dtype), np.zeros(1, dtype=np.int32), np.zeros(4)
    step.start(np.zeros(1, dtype=np.int32), cursor)
    step.launch(1, True, cursor, loss, predictions, totals)


def _run_convolution(dtype):
    from bats import ops
    from bats.ops.conv_geometry import convolve, pool
    from bats.ops.neuron import Neuron
    from bats.spikes import EventList

    neuron, geometry = Neuron.make(0.1, 0.01, 0.01, dtype), convolve((2, 2, 1), (1, 1, 1))
    events, out_events = (EventList.allocate(np, 1, 4, n_slots, dtype) for n_slots in (1, 2))
    ops.sort_events(np.zeros((1, 1, 4), dtype=dtype), np.ones((1, 4), dtype=np.int32), events, ops.sort_scratch(events))
    weights = np.ones(geometry.weight_shape, dtype=dtype)
    times, slopes, gains = (np.zeros((1, 2, 4), dtype=dtype) for _ in range(3))
    counts, status = np.zeros((1, 4), dtype=np.int32), np.zeros((1, 4), dtype=np.int64)
    scratch = ops.conv_forward_scratch(np, 1, geometry, dtype)
    ops.conv_spike_times(events, weights, geometry, neuron, 1.0, times, counts, slopes, status, scratch)
    ops.sort_events(times, counts, out_events, ops.sort_scratch(out_events))
    factors = np.empty_like(events.times)
    ops.event_factors(events, neuron, factors)
    sums = np.zeros((1, 4), dtype=dtype), np.zeros((1, 4), dtype=dtype)
    errors = np.zeros((1, 1, 4), dtype=dtype)
    ops.conv_presynaptic_errors(events, factors, weights, geometry, out_events, gains, None, neuron, errors, sums)
    scratch = ops.conv_gradient_scratch(np, 1, geometry, dtype)
    ops.conv_weight_gradient(events, factors, geometry, out_events, gains, None, neuron, np.zeros_like(weights), scratch)
    pooling = pool((2, 2, 1))
    pooled = EventList.allocate(np, 1, 1, 4, dtype)
    ops.pool_events(events, pooling, pooled)


def _run_timestep(dtype):
    from bats import ops
    from bats.timestep.surrogates import FastSigmoid

    neuron = ops.SteppedNeuron.make(0.9, 1.0, True, FastSigmoid(1), dtype)
    membrane, out, errors = (np.zeros((1, 2, 3), dtype=dtype) for _ in range(3))
    spikes = np.zeros((1, 2, 3), dtype=np.uint8)
    counts, status, logits = np.zeros((1, 3), dtype=np.int32), np.zeros((1, 5), dtype=np.int64), np.zeros((1, 1, 3), dtype=dtype)
    ops.lif_steps(membrane, None, neuron, None, spikes, counts, status)
    ops.lif_steps_backward(errors, membrane, neuron)
    ops.single_spike_steps(membrane, None, neuron, None, spikes, counts.copy(), counts, status)
    ops.single_spike_backward(errors, membrane, counts, neuron)
    ops.readout_steps(membrane, None, 0.9, logits, counts, status)
    ops.readout_backward(logits, counts, 0.9, errors)
    ops.bias_gradient(errors, logits[0], np.zeros(3, dtype=dtype), 1.0)
    response = np.zeros(2, dtype=dtype)
    ops.temporal_filter(membrane, None, response, out)
    ops.temporal_filter_backward(errors, response, out)
    ops.temporal_filter_gradient(errors, membrane, response, 1.0, np.zeros((1, 2), dtype=dtype))
    loss, labels = np.zeros(1, dtype=dtype), np.zeros(1, dtype=np.int32)
    ops.softmax_cross_entropy(logits, counts, labels, loss, logits.copy())
    ops.predict("largest", logits, counts, labels)


def _run_grid(dtype):
    from bats import ops
    from bats.discretization import TimeGrid
    from bats.ops.conv_geometry import convolve
    from bats.ops.neuron import Neuron
    from bats.spikes import EventList

    neuron, geometry = Neuron.make(0.1, 0.01, 0.01, dtype), convolve((1, 1, 2), (1, 1, 2))
    events = EventList.allocate(np, 1, 2, 1, dtype)
    ops.sort_events(np.zeros((1, 1, 2), dtype=dtype), np.ones((1, 2), dtype=np.int32), events, ops.sort_scratch(events))
    times, crossings, slopes, errors = (np.zeros((1, 2, 2), dtype=dtype) for _ in range(4))
    counts, status = np.zeros((1, 2), dtype=np.int32), np.zeros((1, 4), dtype=np.int64)
    weights, scratch = np.ones(geometry.weight_shape, dtype=dtype), ops.grid_forward_scratch(np, 1, geometry, dtype)
    ops.grid_spike_times(events, weights, geometry, neuron, TimeGrid(0.01), 1.0, times, crossings, counts, slopes, status, scratch)
    ops.grid_recurrent_errors(errors, times, crossings, slopes, counts, neuron, errors, status)


def _run_stdp(dtype):
    from bats.stdp import online, ops
    from bats.stdp.rule import Rule

    images, weights = np.zeros((1, 1, 1, 1), dtype=np.uint8), np.ones((1, 1, 1, 1), dtype=dtype)
    online.learn(images, np.zeros(1, dtype=np.int32), None, weights, Rule(0.5), np.zeros((2, 2), dtype=dtype), 0)
    ops.convolve(images, weights, 0.5)
