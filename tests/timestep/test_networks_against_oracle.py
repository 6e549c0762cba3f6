"""Whole networks in time steps, forward and backward, against the oracle in float64; and the oracle against automatic
differentiation of a plain step-by-step program."""

import importlib.util
import unittest

import numpy as np

from bats import reference_timestep as reference
from bats.device import to_numpy
from bats.timestep import MaxMembraneCrossEntropy
from tests.devices import Cpu, Cuda
from tests.timestep.cases import VARIANTS, build, case
from tests.timestep.plain import gradients_by_autograd

SHAPES = {
    "usual": {},
    "one sample": {"batch": 1, "sizes": (5, 4, 4, 2)},
    "one step": {"n_steps": 1},
    "two steps, wide": {"n_steps": 2, "batch": 3, "sizes": (33, 70, 70, 5)},
    "many steps": {"n_steps": 70, "batch": 2, "sizes": (9, 5, 5, 4)},
}


def oracle(layers, waves, labels):
    inputs, membranes, logits = reference.forward(layers, waves)
    loss, errors = reference.cross_entropy(logits, labels)
    gradients, input_errors = reference.backward(layers, inputs, membranes, errors)
    return inputs, membranes, logits, loss, gradients, input_errors


def network_gradients(network, waves, labels):
    """(loss [batch], {(layer, parameter): batch-mean gradient}, dL/d(input) [batch, n_steps, n])."""
    logits = network.forward(waves, training=True)
    loss, errors = MaxMembraneCrossEntropy().compute_loss_and_errors(logits, labels)
    gradients = network.backward(errors, input_errors=True)
    names = [(layer.name, "weights") for layer in network.layers]
    names += [(layer.name, name) for layer in network.layers for name in layer.further_gradients]
    found = {name: to_numpy(gradient) for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    return to_numpy(loss), found, to_numpy(network.input_errors).transpose(0, 2, 1)


def largest_difference(received, expected):
    scale = np.abs(expected).max(initial=0)
    return np.abs(received - expected).max(initial=0) / scale if scale else np.abs(received).max(initial=0)


class Checks:
    def test_forward_and_backward(self):
        spikes = 0
        for variant in VARIANTS:
            for shape, options in SHAPES.items():
                with self.subTest(variant=variant, shape=shape):
                    layers, waves, labels, made = case(3, variant, **options)
                    inputs, membranes, logits, loss, gradients, input_errors = oracle(layers, waves, labels)
                    network = build(layers, waves.shape[1], self.device, **made)
                    for layer in network.layers[1:]:  # what a pass leaves unwritten shows
                        layer.allocate(len(waves))
                        for name in ("membrane", "spikes", "errors", "currents"):
                            array = getattr(layer._space, name)
                            if array is not None:
                                array.fill(255 if name == "spikes" else np.nan)
                    found_loss, found, found_input_errors = network_gradients(network, waves, labels)
                    for place, layer in enumerate(network.layers[1:]):
                        np.testing.assert_allclose(to_numpy(layer.membrane), membranes[place], rtol=0, atol=1e-12)
                        if place < len(layers) - 1:
                            np.testing.assert_array_equal(to_numpy(layer.events.array), inputs[place + 1])
                            np.testing.assert_array_equal(to_numpy(layer.spike_counts), inputs[place + 1].sum(axis=1))
                            spikes += inputs[place + 1].sum()
                    np.testing.assert_allclose(to_numpy(network.layers[-1].output), logits, rtol=0, atol=1e-12)
                    np.testing.assert_allclose(found_loss, loss, rtol=1e-12)
                    for (layer, name), gradient in found.items():
                        expected = gradients[int(layer.split()[1])]["response" if name == "filter" else name] / len(waves)
                        self.assertLess(largest_difference(gradient, expected), 1e-9, (layer, name))
                    self.assertLess(largest_difference(found_input_errors, input_errors), 1e-9)
        self.assertGreater(spikes, 1000)

    def test_threshold_is_strict(self):
        """A membrane of exactly the threshold does not spike: numbers without rounding."""
        for variant in ("standard", "fast"):
            layers, _, labels, made = case(0, variant, batch=1, n_steps=3, sizes=(1, 2, 2))
            layers[0].weights[:], layers[0].bias[:], layers[0].threshold = [[0.5], [1.0]], 0, 0.5
            layers[0].response[:] = 0.5 ** np.arange(3)
            waves = np.array([1.0, 0, 0]).reshape(1, 3, 1)  # membranes 0.5, 0.25, ... and 1, ...
            network = build(layers, 3, self.device, **made)
            _, found, _ = network_gradients(network, waves, labels[:1])
            self.assertEqual(to_numpy(network.layers[1].events.array).tolist(), [[[0, 1], [0, 0], [0, 0]]])
            gradients = oracle(layers, waves, labels[:1])[4]
            self.assertLess(largest_difference(found["layer 0", "weights"], gradients[0]["weights"]), 1e-9)

    def test_empty_batch_and_no_input(self):
        layers, waves, labels, made = case(1, "standard")
        network = build(layers, waves.shape[1], self.device, **made)
        self.assertEqual(network.forward(waves[:0]).shape, (0, 3))
        _, found, _ = network_gradients(network, waves[:0], labels[:0])
        self.assertTrue(all((gradient == 0).all() for gradient in found.values()))
        loss, found, _ = network_gradients(network, 0 * waves, labels)
        self.assertTrue(np.isfinite(loss).all())
        self.assertEqual(np.abs(found["layer 0", "weights"]).max(), 0)
        self.assertGreater(np.abs(found["layer 3", "bias"]).max(), 0)

    def test_same_bits(self):
        """float32, the products on tensor cores included: twice the same; a prefix of a batch like the batch."""
        rng = np.random.default_rng(2)
        layers, waves, labels, made = case(2, "fast, skip", batch=9, n_steps=40, sizes=(130, 30, 30, 5))
        runs = []
        for _ in range(2):
            network = build(layers, waves.shape[1], self.device, "float32", **made)
            network_gradients(network, waves[rng.permutation(9)], labels)
            runs.append(network_gradients(network, waves, labels))
        for first, second in zip(runs[0][1].values(), runs[1][1].values(), strict=True):
            np.testing.assert_array_equal(first, second)
        logits = to_numpy(network.forward(waves)).copy()
        np.testing.assert_allclose(to_numpy(network.forward(waves[:4])), logits[:4], rtol=0, atol=1e-5)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass


@unittest.skipUnless(importlib.util.find_spec("autograd"), "autograd is not installed (pip install bats[test])")
class Autograd(unittest.TestCase):
    def test_oracle(self):
        for variant in VARIANTS:
            for shape in ("usual", "one sample", "one step"):
                with self.subTest(variant=variant, shape=shape):
                    layers, waves, labels, _ = case(4, variant, **SHAPES[shape])
                    _, _, _, loss, gradients, input_errors = oracle(layers, waves, labels)
                    plain_loss, plain, plain_input_errors = gradients_by_autograd(layers, waves, labels)
                    self.assertLess(abs(plain_loss - loss.sum()), 1e-9)
                    for one, other in zip(gradients, plain, strict=True):
                        for name, gradient in one.items():
                            if name == "response" and VARIANTS[variant]["kind"] == "standard":
                                continue  # a decay is one number there, not a filter
                            self.assertLess(largest_difference(gradient, other[name]), 1e-9, name)
                    self.assertLess(largest_difference(input_errors, plain_input_errors), 1e-9)

    def test_finite_differences(self):
        """Where the loss is smooth: weights, bias and filter of a read-out."""
        layers, waves, labels, _ = case(5, "fast, learned filter")
        gradients = oracle(layers, waves, labels)[4][-1]
        for name, gradient in gradients.items():
            parameter, step = getattr(layers[-1], name), 1e-6
            for index in np.ndindex(parameter.shape):
                start, losses = parameter[index], []
                for sign in (1, -1):
                    parameter[index] = start + sign * step
                    losses.append(oracle(layers, waves, labels)[3].sum())
                parameter[index] = start
                self.assertLess(abs((losses[0] - losses[1]) / (2 * step) - gradient[index]), 1e-6 * max(1, np.abs(gradient).max()))
