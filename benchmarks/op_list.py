"""Every operation of a plain training step with one hidden layer: how to launch it, bytes and arithmetic that it must do.

Bytes: each array that an operation needs, counted once, useful entries only (events and spikes, not the room for them).
Operations: scalar instructions per lane, OPERATIONS below; a floor, not what the kernels execute.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from clock import microseconds  # noqa: F401 - beside the operations it times

from bats import ops

OPERATIONS = {
    "encode": "4 per pixel",
    "forward": "9 per (event, neuron): what the straight-line loop of the prototype takes (shared/design/speed.md, section 3)",
    "sort": "24 per spike: one pass over 8 digits",
    "recurrent_errors": "10 per spike",
    "presynaptic_errors": "3 per (input spike, later output spike), half of all pairs",
    "weight_gradient": "3 per (event, neuron that spiked)",
    "optimizer": "14 per weight (Adam)",
}


@dataclass
class Op:
    """launch(): the operation once more, with the same result; n_bytes, n_operations: what it cannot do without."""

    name: str
    launch: object
    n_bytes: float
    n_operations: float


def counts_of(work):
    """How much there is in the last batch: sums over its samples."""
    network, place = work.network, work.step._place
    hidden, output = (layer._at(work.batch) for layer in network.layers[1:])
    events, first, second = (np.asarray(_numpy(array)).astype(float) for array in (place.events.counts, hidden.counts, output.counts))
    spikes, out_spikes = first.sum(axis=1), second.sum(axis=1)
    active, out_active = (first > 0).sum(axis=1), (second > 0).sum(axis=1)
    events = events[: work.batch]
    return SimpleNamespace(
        batch=work.batch, events=events.sum(), spikes=spikes.sum(), out_spikes=out_spikes.sum(),
        event_active=(events * active).sum(), spike_active=(spikes * out_active).sum(), spike_pairs=(spikes * out_spikes).sum(),
        n_pre=network.layers[0].n_neurons, n_hidden=network.layers[1].n_neurons, n_out=network.layers[2].n_neurons,
    )  # fmt: skip


def _numpy(array):
    return array.get() if hasattr(array, "get") else array


def make(work, launches):
    """[Op] of `work` (jobs.Work of a plain step that has been trained); launches: how often one is launched at most."""
    step, network = work.step, work.network
    xp, batch, place = network.xp, work.batch, step._place
    n, size = counts_of(work), np.dtype(network.dtype).itemsize
    hidden, output = network.layers[1:]
    first, second = hidden._at(batch), output._at(batch)
    events, t_max, out_events = place.events.first(batch), step.max_simulation, first.events
    labels, indices = place.labels[:batch], place.indices[:batch]
    order, cursor = xp.tile(indices, launches + 2), xp.zeros(1, dtype=np.int64)  # the same batch again and again
    loss, errors, predictions = step._loss[:batch], step._errors[:batch], step._predictions[:batch]
    hidden_errors = first.errors.copy()
    hidden_errors[...] = 1e-3  # gains replace errors in the layer's own room: those would not be the same twice
    factors, out_factors = hidden._event_factors(events), output._event_factors(out_events)
    scratch = None if step.source._fill.__name__ != "_encode_images" or place.scratch is None else place.scratch[:batch]
    weights, out_weights = n.n_pre * n.n_hidden, n.n_hidden * n.n_out
    later = output._later_sums(second) if ops.wants_later_sums(xp, output.n_neurons) else None
    spike, event = 2 * size + 4, size + 4  # time, slope, slot; time, neuron
    trains = batch * n.n_hidden * 4, batch * n.n_out * 4  # counts

    def gains(layer, space, given):
        return lambda: ops.recurrent_errors(given, space.crossings, space.slopes, space.counts, layer.neuron, space.errors, space.bounded)

    def gradient(layer, space, incoming, its_factors, its_later):
        return lambda: ops.weight_gradient(
            incoming, its_factors, space.crossings, space.counts, space.crossing_events, space.errors, layer.neuron, layer.gradient,
            layer._gradient_scratch, its_later,
        )  # fmt: skip

    def update(layer):
        gradients = [layer.gradient.T if other is layer else None for other in network.layers]
        return lambda: work.optimizer.update([other.weights for other in network.layers], gradients)

    def presynaptic():
        ops.presynaptic_errors(
            out_events, out_factors, output.matrix, second.crossing_events, second.errors, output.neuron, first.errors, second.sums, later
        )

    return [
        Op("next batch", lambda: ops.next_batch(order, cursor, step.source.labels, indices, labels, network.dtype), batch * 16, 0),
        Op(
            "encode",
            lambda: ops.encode_latency(step.source.images, indices, step.source.latencies, events, scratch),
            batch * n.n_pre + n.events * event,
            4 * batch * n.n_pre,
        ),
        Op(
            "spike times, hidden",
            lambda: hidden._simulate(events, t_max, first),
            n.events * event + weights * size + n.spikes * spike + trains[0],
            9 * n.events * n.n_hidden,
        ),
        Op(
            "sort, hidden",
            lambda: ops.sort_events(first.times, first.counts, first.events, first.sort),
            n.spikes * (size + event + 4) + trains[0],
            24 * n.spikes,
        ),
        Op(
            "spike times, output",
            lambda: output._simulate(out_events, t_max, second),
            n.spikes * event + out_weights * size + n.out_spikes * spike + trains[1],
            9 * n.spikes * n.n_out,
        ),
        Op(
            "sort, output",
            lambda: ops.sort_events(second.times, second.counts, second.events, second.sort),
            n.out_spikes * (size + event + 4) + trains[1],
            24 * n.out_spikes,
        ),
        Op(
            "loss",
            lambda: step.loss.launch(second.times, second.counts, labels, loss, errors),
            n.out_spikes * size + trains[1] + 8 * batch,
            4 * n.out_spikes,
        ),
        Op(
            "prediction",
            lambda: ops.predict(step.loss.rule, second.times, second.counts, predictions),
            trains[1] + 4 * batch,
            2 * batch * n.n_out,
        ),
        Op("metrics", lambda: ops.accumulate_metrics(loss, predictions, second.counts, labels, step._totals), 16 * batch, 4 * batch),
        Op("recurrent errors, output", gains(output, second, errors), 4 * n.out_spikes * size + trains[1], 10 * n.out_spikes),
        Op(
            "event factors, hidden to output",
            lambda: ops.event_factors(out_events, output.neuron, out_factors),
            2 * n.spikes * size,
            8 * n.spikes,
        ),
        *(
            []
            if later is None
            else [Op("later sums, output", lambda: output._later_sums(second), 6 * n.out_spikes * size, 10 * n.out_spikes)]
        ),
        Op(
            "presynaptic errors",
            presynaptic,
            n.spikes * (event + 2 * size) + out_weights * size + n.out_spikes * event,
            1.5 * n.spike_pairs,
        ),
        Op(
            "weight gradient, output",
            gradient(output, second, out_events, out_factors, later),
            n.spikes * (event + size) + n.out_spikes * (event + size) + out_weights * size,
            3 * n.spike_active,
        ),
        Op("recurrent errors, hidden", gains(hidden, first, hidden_errors), 4 * n.spikes * size + trains[0], 10 * n.spikes),
        Op("event factors, input", lambda: ops.event_factors(events, hidden.neuron, factors), 2 * n.events * size, 8 * n.events),
        Op(
            "weight gradient, hidden",
            gradient(hidden, first, events, factors, None),
            n.events * (event + size) + n.spikes * (event + size) + weights * size,
            3 * n.event_active,
        ),
        Op("optimizer, output", update(output), 7 * out_weights * size, 14 * out_weights),
        Op("optimizer, hidden", update(hidden), 7 * weights * size, 14 * weights),
    ]


def fused_floors(work, share=1.0):
    """{kernel: (bytes, operations)} of the three kernels of the fused step, from the counts of the plain step of the same batch; share:
    of its samples, if a launch takes only a part of them."""
    n, size = counts_of(work), np.dtype(work.network.dtype).itemsize
    weights, out_weights = n.n_pre * n.n_hidden, n.n_hidden * n.n_out
    event, spike = size + 4, 2 * size + 4
    for name, count in vars(n).items():
        if not name.startswith("n_"):
            setattr(n, name, share * count)
    return {
        "hidden_forward": (n.events * event + weights * size + n.spikes * spike, 9 * n.events * n.n_hidden),
        "output_step": (
            n.spikes * (spike + size) + out_weights * size,
            24 * n.spikes + 9 * n.spikes * n.n_out + 1.5 * n.spike_pairs + 20 * n.out_spikes,
        ),
        "weight_step": (
            n.events * event + n.spikes * (spike + size) + 6 * (weights + out_weights) * size,
            10 * n.spikes + 3 * n.event_active + 3 * n.spike_active + 14 * (weights + out_weights),
        ),
    }
