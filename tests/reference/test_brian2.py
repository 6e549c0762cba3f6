"""Forward spike times of bats.reference against Brian2 (exact integration, NumPy target), within 1 microsecond.

Brian2 sees a threshold crossing at the end of a step, some lag after it happened. Unrefined, that shifts the reset,
and so every later spike of the neuron. The reset statement here therefore measures the lag by one Newton step back
along the membrane (error: lag^2 times curvature over slope), records t - lag, and subtracts the reset as it has decayed
since; the next layer receives what the synaptic input has become since. Nothing here uses the closed form (9) that is
under test. test_plain_first_spikes refines nothing: its step is half the tolerance, and it stops at first spikes.
"""

import unittest

import numpy as np

from bats import reference, reference_conv
from bats.device import to_numpy
from tests.conv_networks import build

try:
    import brian2
except ImportError:
    brian2 = None

TOLERANCE = 1e-6  # s
MODEL = """
du/dt = -u / (2 * tau_s) + g : 1
dg/dt = -g / tau_s : Hz
lag : second
"""
RESET = """
lag = (u - theta) / (g - u / (2 * tau_s))
u -= delta_theta * exp(-lag / (2 * tau_s))
"""
DELIVER = """
u_post += w * 2 * tau_s * (exp(-lag_pre / (2 * tau_s)) - exp(-lag_pre / tau_s))
g_post += w * exp(-lag_pre / tau_s)
"""


def grid_inputs(rng, n_neurons, n_slots, span, dt):
    """One sample of input trains whose spikes lie on Brian2's time grid: times [1, N, K], counts [1, N]."""
    steps = np.sort(np.array([rng.choice(round(span / dt), n_slots, replace=False) for _ in range(n_neurons)]), axis=1)
    return (1 + steps)[None] * dt, np.full((1, n_neurons), n_slots, np.int32)


def simulate(times, layers, dt, duration, reset, deliver):
    """Runs the layers in Brian2 -> for each layer, (neuron, time in s, lag in s) of every spike."""
    b = brian2
    b.prefs.codegen.target = "numpy"
    b.start_scope()
    neuron, slot = np.nonzero(np.isfinite(times[0]))
    group = b.SpikeGeneratorGroup(times.shape[1], neuron, times[0][neuron, slot] * b.second, dt=dt * b.second)
    objects, monitors, on_pre = [group], [], "g_post += w"
    for layer in layers:
        namespace = {"tau_s": layer.tau_s * b.second, "theta": layer.theta, "delta_theta": layer.delta_theta}
        n_post = len(layer.weights)
        post = b.NeuronGroup(n_post, MODEL, threshold="u > theta", reset=reset, method="exact", namespace=namespace,
                             dt=dt * b.second)
        synapses = b.Synapses(group, post, "w : Hz", on_pre=on_pre, namespace=namespace, dt=dt * b.second)
        synapses.connect()
        synapses.w = layer.weights.T.ravel() * b.Hz  # connect() goes through the post neurons of each pre neuron
        synapses.pre.when = "after_resets"  # the lag is that of the state at the crossing, before new input
        monitor = b.SpikeMonitor(post, variables="lag", when="after_resets") if "lag" in reset else b.SpikeMonitor(post)
        objects, monitors, group, on_pre = [*objects, post, synapses, monitor], [*monitors, monitor], post, deliver
    b.Network(objects).run(duration * b.second)
    lags = [m.lag / b.second if "lag" in reset else np.zeros(len(m.i)) for m in monitors]
    return [(np.array(m.i), m.t / b.second - lag) for m, lag in zip(monitors, lags, strict=True)]


def trains(found, n_neurons, n_slots):
    """(neuron, time) of every spike -> times [N, K] inf-padded, counts [N]."""
    times, counts = np.full((n_neurons, n_slots), np.inf), np.zeros(n_neurons, np.int32)
    for neuron, t in sorted(zip(*found, strict=True)):
        times[neuron, counts[neuron]] = t
        counts[neuron] += 1
    return times, counts


def layer(rng, n_post, n_pre, tau_s, theta, n_keep=64):
    return reference.Layer(rng.uniform(-0.4, 1, (n_post, n_pre)), tau_s, theta * tau_s, theta * tau_s, n_keep)


@unittest.skipIf(brian2 is None, "brian2 is not installed: pip install brian2")
class Brian2(unittest.TestCase):
    def check(self, layers, times, counts, dt, duration, reset=RESET, deliver=DELIVER):
        """Every layer has the spike counts of Brian2 and its spike times within TOLERANCE."""
        brian2.BrianLogger.log_level_error()
        expected = reference.forward_network(times, counts, layers, t_max=duration)
        for spikes, found in zip(expected, simulate(times, layers, dt, duration, reset, deliver), strict=True):
            self.assertFalse(spikes.overflow.any())
            found_times, found_counts = trains(found, *spikes.times.shape[1:])
            np.testing.assert_array_equal(found_counts, spikes.counts[0])
            on = np.isfinite(found_times)
            self.assertGreater(on.sum(), 10)
            self.assertLess(np.abs(found_times[on] - spikes.times[0][on]).max(), TOLERANCE)

    def test_plain_first_spikes(self):
        """12 neurons, tau_s = 1 ms; 4e-7 s seen. A neuron that has fired is taken out of the run."""
        rng, dt = np.random.default_rng(0), 5e-7
        times, counts = grid_inputs(rng, 6, 2, 0.002, dt)
        self.check([layer(rng, 12, 6, 0.001, 0.3, 1)], times, counts, dt, 0.004, reset="u = -1e9")

    def test_refined_one_layer(self):
        """6 neurons, 8 to 28 spikes each; 6e-8 s seen."""
        rng, dt = np.random.default_rng(0), 1e-5
        times, counts = grid_inputs(rng, 8, 3, 0.06, dt)
        self.check([layer(rng, 6, 8, 0.02, 0.3)], times, counts, dt, 0.15)

    def test_refined_two_layers(self):
        """6 and 5 neurons, up to 48 spikes each; 8e-8 s seen."""
        rng, dt = np.random.default_rng(1), 1e-5
        times, counts = grid_inputs(rng, 8, 3, 0.06, dt)
        self.check([layer(rng, 6, 8, 0.02, 0.5), layer(rng, 5, 6, 0.02, 1.0)], times, counts, dt, 0.15)

    def test_convolution(self):
        """A convolution unrolled to a dense layer: 3 x 3 positions of 2 channels, stride 1 and 2, padding; 7e-8 s seen.

        Brian2 sees the dense layer, and the convolutional layer of bats.Network must have the same spikes.
        """
        rng, dt, grid = np.random.default_rng(2), 1e-5, (4, 5, 2)
        times, counts = grid_inputs(rng, 40, 1, 0.06, dt)
        weights = rng.uniform(-0.4, 1, (2, 2, 3, 2))
        conv = reference_conv.ConvLayer(grid, weights, 0.02, 0.3 * 0.02, 0.3 * 0.02, 64, stride=(1, 2), padding=(0, 1))
        self.assertEqual(conv.out_grid, (3, 3, 2))
        self.check([conv.unrolled()], times, counts, dt, 0.15)
        (found,) = simulate(times, [conv.unrolled()], dt, 0.15, RESET, DELIVER)
        expected, expected_counts = trains(found, 18, 64)
        network = build(grid, [conv], "cpu")
        found_times, found_counts = (to_numpy(array)[0] for array in network.forward(times, counts, 0.15))
        np.testing.assert_array_equal(found_counts, expected_counts)
        on = np.isfinite(expected)
        self.assertLess(np.abs(found_times[on] - expected[on]).max(), TOLERANCE)


if __name__ == "__main__":
    unittest.main()
