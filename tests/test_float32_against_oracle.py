"""bats.Network in float32 on every device: the tolerance rule, and simulations that last.

The rule: the error is at most twice that of a naive version in the same precision (bats.reference in float32 with the
origin at 0), both measured against bats.reference in float64.
"""

import unittest

import numpy as np

from bats import reference
from bats.device import cuda_reason, to_numpy
from tests.oracle import (
    build,
    causal_order,
    difference,
    random_errors,
    rounded,
    time_differences,
    well_conditioned,
)
from tests.reference.random_networks import random_layers, random_trains


class Float32AgainstOracle:
    device = None

    def float32_errors(self, rng):
        """(ours, naive): errors of spike times, then of weight gradients, of each layer; None if they do not compare.

        They do not if a spike grazes, or if one of the three versions has another spike or another order of a spike and
        a pre-spike: there the gradient itself jumps (docs/theory.md, section 3, ties).
        """
        tau_s = float(10 ** rng.uniform(-3, 0))
        layers = random_layers(rng, [10, 20, 5], tau_s)
        times, counts = random_trains(rng, 4, 10, 3, 4 * tau_s)
        times = rounded(times)
        for layer in layers:
            layer.weights = rounded(layer.weights)
        exact = reference.forward_network(times, counts, layers)
        rough = reference.forward_network(times, counts, layers, dtype=np.float32, origin="absolute")
        network = build(layers, 10, self.device, "float32")
        network.forward(times, counts, training=True)
        versions = [[to_numpy(layer.spike_trains[0]) for layer in network.layers[1:]], [r.times for r in rough]]
        order = causal_order(times, [e.times for e in exact])
        if not well_conditioned(layers, exact) or any(causal_order(times, v) != order for v in versions):
            return None
        errors = random_errors(rng, exact[-1], tau_s)
        expected, _ = reference.backward_network(errors, times, counts, layers, exact)
        naive, _ = reference.backward_network(errors, times, counts, layers, rough)
        gradients = [network.backward(errors)[1:], naive]
        return [
            [time_differences(t, e.times, tau_s).max(initial=0) for t, e in zip(version, exact, strict=True)]
            + [difference(g, e) for g, e in zip(gradient, expected, strict=True)]
            for version, gradient in zip(versions, gradients, strict=True)
        ]

    def test_float32_within_twice_the_naive_error(self):
        """Median and 90 % quantile over 60 networks (the worst is one nearly grazing spike, in either version)."""
        rng, found, drawn = np.random.default_rng(21), [], 0
        while len(found) < 60:
            drawn += 1
            pair = self.float32_errors(rng)
            found += [] if pair is None else [pair]
        self.assertLess(drawn, 150)
        ours, naive = np.quantile(found, (0.5, 0.9), axis=0).swapaxes(0, 1)
        self.assertTrue((ours <= 2 * naive).all(), f"ours {ours}, naive {naive}")
        self.assertLess(ours.max(), 1e-4)

    def test_float32_thousand_tau_s(self):
        """One layer over 1000 tau_s: times to a few roundings of t, where t0 = 0 overflows after 88 tau_s."""
        rng = np.random.default_rng(22)
        layer = random_layers(rng, [10, 40], 0.01)[0]
        layer.max_n_spike, layer.weights = 400, rounded(layer.weights)
        times, counts = random_trains(rng, 2, 10, 200, 10.0)
        times = rounded(times)
        expected = reference.forward_layer(times, counts, layer.weights, 0.01, layer.theta, layer.delta_theta, 400)
        found, found_counts = build([layer], 10, self.device, "float32").forward(times, counts)
        found, same = to_numpy(found), to_numpy(found_counts) == expected.counts
        self.assertGreater(same.mean(), 0.9)  # a grazing spike may come or go
        on = np.isfinite(expected.times) & same[..., None]
        self.assertGreater(expected.times[on].max(), 9)
        late = np.abs(found[on] - expected.times[on])
        self.assertLess(np.quantile(late, 0.99), 2 * np.finfo(np.float32).eps * 10)
        naive = reference.forward_layer(times, counts, layer.weights, 0.01, layer.theta, layer.delta_theta, 400,
                                        dtype=np.float32, origin="absolute")  # fmt: skip
        self.assertLess(naive.times[np.isfinite(naive.times)].max(), 200 * 0.01)  # silent ever after


class OnCpu(Float32AgainstOracle, unittest.TestCase):
    device = "cpu"


@unittest.skipIf(cuda_reason() is not None, f"no CUDA device: {cuda_reason()}")
class OnCuda(Float32AgainstOracle, unittest.TestCase):
    device = "cuda"


if __name__ == "__main__":
    unittest.main()
