"""Operations on the neurons: float32 no worse than the program everybody writes, many steps, ties, broken numbers."""

import numpy as np

from bats import ops
from bats.device import to_numpy
from bats.timestep import FastSigmoid
from tests.devices import Cpu, Cuda

BETA, THETA, SLOPE = 0.9, 1.0, 5.0


def surrogate(v):
    return 1 / (v.dtype.type(SLOPE) * np.abs(v - v.dtype.type(THETA)) + 1) ** 2


def plain_forward(current, resets):
    """(membrane, spikes) step by step, in the precision of the currents."""
    beta, theta = current.dtype.type(BETA), current.dtype.type(THETA)
    membrane, left = np.empty_like(current), np.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        membrane[:, t] = beta * left + current[:, t]
        left = membrane[:, t] - (theta * (membrane[:, t] > theta) if resets else 0)
    return membrane, membrane > theta


def plain_backward(errors, membrane, first=None):
    """dL/dI step by step; first: step of the single spike, None for the standard neuron with reset."""
    beta, theta, slope = errors.dtype.type(BETA), errors.dtype.type(THETA), surrogate(membrane)
    out = np.zeros_like(errors)
    later, once, twice = (np.zeros_like(errors[:, 0]) for _ in range(3))
    for t in reversed(range(errors.shape[1])):
        if first is None:
            out[:, t] = later + (errors[:, t] - theta * later) * slope[:, t]
        else:
            before = t < first
            once = once + errors[:, t] * before
            twice = twice + once
            out[:, t] = np.where(before, twice * slope[:, t] + later, 0)
        later = beta * out[:, t]
    return out


class Checks:
    shape = (3, 100, 70)

    def outputs(self, shape):
        return self.poisoned(shape, np.uint8), self.poisoned((shape[0], shape[2]), np.int32), self.status5(shape[0])

    def status5(self, batch):
        return self.xp.zeros((batch, 5), dtype=np.int64 if self.device == "cpu" else np.uint64)

    def neuron(self, dtype, resets=True):
        return ops.SteppedNeuron.make(BETA, THETA, resets, FastSigmoid(SLOPE), dtype)

    def check_error(self, found, naive, exact):
        self.assertLessEqual(np.abs(to_numpy(found) - exact).max(), 2 * np.abs(naive - exact).max())

    def test_forward_in_float32(self):
        """Currents on a coarse grid keep every decision the same in both precisions; the error is that of the decay."""
        rng = np.random.default_rng(0)
        for resets in (True, False):
            current = (rng.integers(-2, 6, self.shape) / 8).astype(np.float32)
            exact, exact_spikes = plain_forward(current.astype(float), resets)
            naive, naive_spikes = plain_forward(current, resets)
            np.testing.assert_array_equal(exact_spikes, naive_spikes)
            self.assertGreater(exact_spikes.sum(), 1000)
            membrane, (spikes, counts, status) = self.array(current.copy()), self.outputs(self.shape)
            ops.lif_steps(membrane, None, self.neuron(np.float32, resets), None, spikes, counts, status)
            self.check_error(membrane, naive, exact)
            np.testing.assert_array_equal(to_numpy(spikes), exact_spikes)
            np.testing.assert_array_equal(to_numpy(counts), exact_spikes.sum(axis=1))
            self.assertEqual(to_numpy(status).sum(axis=0).tolist()[:2], [exact_spikes.sum(), (exact_spikes.sum(axis=1) == 0).sum()])

    def test_backward_in_float32(self):
        rng = np.random.default_rng(1)
        membrane, errors = (rng.normal(size=self.shape).astype(np.float32) for _ in range(2))
        first = rng.integers(0, 101, (3, 70)).astype(np.int32)
        for step in (None, first):
            exact = plain_backward(errors.astype(float), membrane.astype(float), step)
            naive, found = plain_backward(errors, membrane, step), self.array(errors.copy())
            if step is None:
                ops.lif_steps_backward(found, self.array(membrane), self.neuron(np.float32))
            else:
                ops.single_spike_backward(found, self.array(membrane), self.array(first), self.neuron(np.float32, False))
            self.check_error(found, naive, exact)

    def test_sizes(self):
        """One launch covers any number of steps, neurons and samples; float64 to rounding."""
        rng = np.random.default_rng(2)
        for shape in ((1, 1, 1), (2, 15, 3), (1, 16, 64), (2, 17, 65), (5, 33, 129), (0, 4, 3)):
            with self.subTest(shape=shape):
                current = rng.normal(0.3, 0.5, shape)
                expected, crossed = plain_forward(current, False)
                membrane, (spikes, counts, status) = self.array(current.copy()), self.outputs(shape)
                first = self.poisoned((shape[0], shape[2]), np.int32)
                ops.single_spike_steps(membrane, None, self.neuron(np.float64), None, spikes, first, counts, status)
                np.testing.assert_allclose(to_numpy(membrane), expected, rtol=0, atol=1e-12)
                step = np.where(crossed.any(axis=1), crossed.argmax(axis=1), shape[1])
                np.testing.assert_array_equal(to_numpy(first), step)
                np.testing.assert_array_equal(to_numpy(spikes), np.arange(shape[1])[None, :, None] == step[:, None])
                membrane, logits = self.array(current.copy()), self.poisoned((shape[0], 1, shape[2]), np.float64)
                ops.readout_steps(membrane, None, BETA, logits, first, status)
                np.testing.assert_array_equal(to_numpy(logits)[:, 0], to_numpy(membrane).max(axis=1))
                np.testing.assert_array_equal(to_numpy(first), to_numpy(membrane).argmax(axis=1))
                sums, out = self.poisoned((shape[0], shape[2]), np.float64), self.poisoned(shape[2:], np.float64)
                ops.bias_gradient(self.array(current.copy()), sums, out, 0.5)
                np.testing.assert_allclose(to_numpy(out), 0.5 * current.sum(axis=(0, 1)), rtol=0, atol=1e-12)

    def test_learned_filter(self):
        rng = np.random.default_rng(3)
        for shape in ((1, 1, 1), (2, 31, 33), (1, 32, 32), (2, 65, 5), (3, 100, 40), (1, 7, 2)):
            with self.subTest(shape=shape):
                n_steps = shape[1]
                current, errors, response = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=n_steps)
                lag = np.subtract.outer(np.arange(n_steps), np.arange(n_steps))
                matrix = np.where(lag >= 0, response[np.abs(lag)], 0)
                given, out, bias = self.array(current.copy()), self.poisoned(shape, np.float64), self.array(np.full(shape[2], 0.25))
                ops.temporal_filter(given, bias, self.array(response), out)
                np.testing.assert_allclose(to_numpy(given), current + 0.25, rtol=0, atol=1e-15)
                np.testing.assert_allclose(to_numpy(out), np.einsum("ts,bsn->btn", matrix, current + 0.25), rtol=0, atol=1e-11)
                out.fill(np.nan)
                ops.temporal_filter_backward(self.array(errors.copy()), self.array(response), out)
                np.testing.assert_allclose(to_numpy(out), np.einsum("ts,btn->bsn", matrix, errors), rtol=0, atol=1e-11)
                gradient, scratch = self.poisoned((n_steps,), np.float64), self.poisoned((shape[0], n_steps), np.float64)
                ops.temporal_filter_gradient(self.array(errors.copy()), self.array(current.copy()), gradient, 0.5, scratch)
                expected = [0.5 * np.sum(errors[:, d:] * current[:, : n_steps - d]) for d in range(n_steps)]
                np.testing.assert_allclose(to_numpy(gradient), expected, rtol=0, atol=1e-11)

    def test_wrong_arguments(self):
        membrane, (spikes, counts, status) = self.array(np.zeros((2, 3, 4))), self.outputs((2, 3, 4))
        neuron = self.neuron(np.float64)
        for error, change, message in (
            (ValueError, {"spikes": spikes[:1]}, r"spikes: expected shape \(2, 3, 4\), received \(1, 3, 4\)"),
            (TypeError, {"spikes": membrane.copy()}, "spikes: expected dtype uint8, received float64"),
            (TypeError, {"counts": counts.astype(np.int64)}, "counts: expected dtype int32, received int64"),
            (ValueError, {"membrane": membrane[:, :, ::2]}, "membrane: expected a C-contiguous array"),
            (ValueError, {"membrane": self.array(np.zeros((2, 0, 4)))}, r"at least one time step, received shape \(2, 0, 4\)"),
            (ValueError, {"status": status[:, :4]}, r"status: expected shape \(2, 5\), received \(2, 4\)"),
        ):
            given = {"membrane": membrane, "bias": None, "neuron": neuron, "passed_on": None, "spikes": spikes, "counts": counts}
            with self.subTest(message), self.assertRaisesRegex(error, message):
                ops.lif_steps(**{**given, "status": status, **change})


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
