"""The exact gradient of bats.reference against central finite differences of its own forward pass, in float64.

A spike time is a smooth function of weights and input times as long as no spike appears, disappears or overtakes a
pre-spike. A network in which one of the perturbed copies does so (or that crosses its threshold almost tangentially)
is drawn again, and the number of networks drawn again is itself tested.
"""

import unittest

import numpy as np

from bats import reference
from tests.reference.random_networks import random_network

N_NETWORKS = 100
TOLERANCE = 1e-6
MIN_RELATIVE_SLOPE = 0.1  # du/dt at the spike times tau_s / theta; below this a crossing counts as grazing
OFFSETS = np.array([-2.0, -1.0, 1.0, 2.0])  # fourth-order central difference
STENCIL = np.array([1.0, -8.0, 8.0, -1.0]) / 12.0
STEP = 1e-5  # of the weight unit, and of tau_s for times


class StructureChanged(Exception):
    """A perturbed copy has other spikes than the network, or in another order: not differentiable there."""


def structure(pre_times, trains):
    """Which pre-spikes are before each spike, and how many spikes there are, as one list of integer arrays."""
    found = []
    for spikes in trains:
        flat = pre_times.reshape(len(pre_times), 1, 1, -1)
        before = (flat < spikes.times[..., None]).sum(axis=3)
        found += [spikes.counts, np.where(np.isfinite(spikes.times), before, -1)]
        pre_times = spikes.times
    return found


def check_structure(base, perturbed):
    """Every copy (axis 1, the base has length 1 there) has the structure of its sample."""
    for b, p in zip(base, perturbed, strict=True):
        if not (b[:, None] == p.reshape(len(b), -1, *b.shape[1:])).all():
            raise StructureChanged


def loss_and_errors(spikes, targets):
    """1/2 sum (t - target)^2 over every emitted spike: loss [B], errors [B, N, K]. targets [B or 1, N, K]."""
    errors = np.where(np.isfinite(spikes.times), spikes.times, targets) - targets
    return 0.5 * (errors**2).sum(axis=(1, 2)), errors


def copies(array, n):
    """[B, ...] -> [B * n, ...], n equal samples in a row for every sample."""
    return np.repeat(array, n, axis=0)


def difference_of_inputs(times, counts, layers, targets, base, step):
    """dL/dt of the input spikes, [B, Nin, Kin]: the perturbed copies are samples of one large batch."""
    n_batch, (n_neurons, n_slots) = len(times), times.shape[1:]
    n_copies = n_neurons * n_slots * 4
    moved = copies(times, n_copies).reshape(n_batch, n_neurons, n_slots, 4, n_neurons, n_slots)
    for i, k in np.ndindex(n_neurons, n_slots):
        moved[:, i, k, :, i, k] += OFFSETS * step
    moved = moved.reshape(-1, n_neurons, n_slots)
    trains = reference.forward_network(moved, copies(counts, n_copies), layers)
    check_structure(base, structure(moved, trains))
    loss, _ = loss_and_errors(trains[-1], copies(targets, n_copies))
    return np.where(np.isfinite(times), loss.reshape(n_batch, n_neurons, n_slots, 4) @ STENCIL / step, 0)


def difference_of_weights(n, times, counts, layers, trains, targets, base, step):
    """Batch mean of dL/dw of layer n, [Nout, Nin].

    A weight w_ij concerns neuron i only: the perturbed neurons are computed as the neurons of one large layer, then
    each takes the place of neuron i in its own copy of the sample, which runs through the layers that follow.
    """
    layer, spikes = layers[n], trains[n]
    pre = (times, counts) if n == 0 else (trains[n - 1].times, trains[n - 1].counts)
    n_post, n_pre = layer.weights.shape
    n_copies, n_batch = n_post * n_pre * 4, len(times)
    rows = np.repeat(layer.weights, n_pre * 4, axis=0).reshape(n_post, n_pre, 4, n_pre)
    for j in range(n_pre):
        rows[:, j, :, j] += OFFSETS * step
    wide = reference.forward_layer(
        *pre, rows.reshape(n_copies, n_pre), layer.tau_s, layer.theta, layer.delta_theta, layer.max_n_spike
    )
    which = np.arange(n_copies) // (n_pre * 4)  # the neuron that copy c perturbs
    post_times = copies(spikes.times, n_copies).reshape(n_batch, n_copies, n_post, -1)
    post_times[:, np.arange(n_copies), which] = wide.times
    post_counts = copies(spikes.counts, n_copies).reshape(n_batch, n_copies, n_post)
    post_counts[:, np.arange(n_copies), which] = wide.counts
    moved = reference.LayerSpikes(
        post_times.reshape(n_batch * n_copies, n_post, -1), post_counts.reshape(-1, n_post), *[None] * 7
    )
    after = [moved, *reference.forward_network(moved.times, moved.counts, layers[n + 1 :])]
    check_structure(base[2 * n :], structure(copies(pre[0], n_copies), after))
    loss, _ = loss_and_errors(after[-1], copies(targets, n_copies))
    return (loss.reshape(n_batch, n_post, n_pre, 4) @ STENCIL / step).mean(axis=0)


def relative_error(value, expected):
    """Norm of the difference over the norm of the expected array; 0 when both are zero."""
    return np.linalg.norm(value - expected) / max(np.linalg.norm(expected), np.finfo(float).tiny)


def compare(rng):
    """Draws one network -> (relative errors, number of spikes, resets that carry gradient); raises StructureChanged."""
    times, counts, layers = random_network(rng)
    trains = reference.forward_network(times, counts, layers)
    if any(spikes.counts.sum() < 2 for spikes in trains):
        raise StructureChanged
    for layer, spikes in zip(layers, trains, strict=True):
        if (spikes.slopes[np.isfinite(spikes.times)] * layer.tau_s < MIN_RELATIVE_SLOPE * layer.theta).any():
            raise StructureChanged
    base = structure(times, trains)
    tau_s = layers[0].tau_s
    targets = rng.uniform(0, 4 * tau_s, trains[-1].times.shape)
    _, errors = loss_and_errors(trains[-1], targets)
    gradients, pre_errors = reference.backward_network(errors, times, counts, layers, trains)
    found = [
        relative_error(pre_errors[0], difference_of_inputs(times, counts, layers, targets, base, STEP * tau_s))
    ]
    for n, gradient in enumerate(gradients):
        expected = difference_of_weights(n, times, counts, layers, trains, targets, base, STEP)
        found.append(relative_error(gradient, expected))
    return found, sum(int(s.counts.sum()) for s in trains), sum(int((s.counts > 1).sum()) for s in trains)


class FiniteDifferences(unittest.TestCase):
    def test_gradients_of_random_networks(self):
        rng = np.random.default_rng(2)
        errors, spikes, several, drawn_again = [], 0, 0, 0
        while len(errors) < N_NETWORKS:
            try:
                found, n_spikes, n_several = compare(rng)
            except StructureChanged:
                drawn_again += 1
                self.assertLess(drawn_again, N_NETWORKS // 2, "too many networks drawn again: nothing was tested")
                continue
            self.assertLess(max(found), TOLERANCE, f"network {len(errors)}: input, then weights of each layer: {found}")
            errors.append(max(found))
            spikes, several = spikes + n_spikes, several + n_several
        self.assertGreater(spikes, 20 * N_NETWORKS)
        self.assertGreater(several, 5 * N_NETWORKS)  # neurons with a reset between two spikes


if __name__ == "__main__":
    unittest.main()
