"""Spike-rate regularization against its definition in NumPy: rates, errors of the penalty, weights of silent units."""

import numpy as np

from bats import SpikeRateRegularizer, ops
from bats.device import to_numpy
from bats.regularization import SpikeRates
from tests.devices import Cpu, Cuda


def expected_errors(errors, counts, n_units, regularizer):
    """[B, K, N] errors of the loss plus -dP/dn of every emitted spike, from the penalty's derivative by finite differences."""
    share = counts.shape[1] // n_units

    def penalty(n):
        rates = n.reshape(len(n), share, n_units).mean(axis=(0, 1))
        above = 0 if regularizer.maximum is None else np.maximum(0, rates - regularizer.maximum)
        return regularizer.strength / 2 * (np.maximum(0, regularizer.minimum - rates) ** 2 + above**2).sum()

    total = errors.copy()
    for b, i in np.ndindex(*counts.shape):
        step = np.zeros(counts.shape)
        step[b, i] = 1e-3
        slope = (penalty(counts + step) - penalty(counts - step)) / 2e-3
        total[b, : counts[b, i], i] -= slope * len(counts)  # dn/dt = -1; errors are per sample, gradients means over the batch
    return total


class Checks:
    def run_case(self, batch, n_units, share, n_slots, regularizer, dtype, seed=0):
        rng = np.random.default_rng(seed)
        counts = rng.integers(0, n_slots + 1, (batch, share * n_units)).astype(np.int32)
        counts.reshape(batch, share, n_units)[:, :, ::3] = 0  # every third unit is silent
        errors = rng.normal(size=(batch, n_slots, share * n_units))
        rates = SpikeRates(regularizer, self.xp, np.dtype(dtype), n_units)
        rates.rates.fill(np.nan)
        total, given = self.poisoned(errors.shape, dtype), self.array(counts, np.int32)
        rates.add_errors(self.array(errors, dtype), given, total)
        gradient = rng.normal(size=(2, 5, n_units))
        raised = self.array(gradient.copy(), dtype)
        rates.raise_silent(raised)
        return counts, errors, to_numpy(total), gradient, to_numpy(raised), to_numpy(rates.rates)

    def test_against_the_definition(self):
        """Float64 to 1e-9: the differences of a quadratic penalty are exact where no bound lies within the step."""
        cases = ((1, 1, 1, 1), (1, 7, 1, 3), (5, 33, 1, 4), (3, 5, 12, 2), (130, 4, 9, 3))
        for regularizer in (SpikeRateRegularizer(1.2345, strength=0.3), SpikeRateRegularizer(0.5432, 1.0123, strength=2.0)):
            for seed, (batch, n_units, share, n_slots) in enumerate(cases):
                with self.subTest(batch=batch, n_units=n_units, share=share):
                    counts, errors, total, gradient, raised, rates = self.run_case(
                        batch, n_units, share, n_slots, regularizer, np.float64, seed
                    )
                    wanted = expected_errors(errors, counts, n_units, regularizer)
                    emitted = np.arange(n_slots)[None, :, None] < counts[:, None, :]
                    np.testing.assert_allclose(total[emitted], wanted[emitted], rtol=1e-9, atol=1e-9)
                    self.assertTrue(np.isnan(total[~emitted]).all())  # empty slots stay as they were
                    np.testing.assert_allclose(rates, counts.reshape(batch, share, n_units).mean(axis=(0, 1)), rtol=1e-15)
                    silent = rates == 0
                    self.assertTrue(silent.any())
                    amount = regularizer.strength * regularizer.minimum
                    np.testing.assert_allclose(raised, gradient - amount * silent, rtol=1e-15)

    def test_float32(self):
        """As precise as NumPy in float32."""
        regularizer = SpikeRateRegularizer(1.3, 2.1, 0.7)
        counts, errors, total, *_ = self.run_case(17, 11, 3, 5, regularizer, np.float32)
        emitted = np.arange(5)[None, :, None] < counts[:, None, :]
        wanted = expected_errors(errors, counts, 11, regularizer)
        naive = wanted.astype(np.float32)
        worst = max(np.abs(naive - wanted)[emitted].max(), np.finfo(np.float32).eps * np.abs(wanted[emitted]).max())
        self.assertLess(np.abs(total - wanted)[emitted].max(), 2 * worst)

    def test_in_place_and_empty_batch(self):
        counts, errors = self.array(np.ones((2, 4)), np.int32), self.array(np.zeros((2, 1, 4)), np.float64)
        rates = SpikeRates(SpikeRateRegularizer(3, strength=1), self.xp, np.dtype("float64"), 4)
        rates.add_errors(errors, counts, errors)
        self.assertEqual(to_numpy(errors).tolist(), [[[2.0] * 4]] * 2)
        empty = self.array(np.zeros((0, 1, 4)), np.float64)
        rates.add_errors(empty, self.array(np.zeros((0, 4)), np.int32), empty)
        self.assertEqual(to_numpy(rates.rates).tolist(), [0.0] * 4)

    def test_wrong_arguments(self):
        with self.assertRaisesRegex(ValueError, "n_units a divisor of 5 neurons"):
            ops.spike_rates(self.array(np.zeros((2, 5)), np.int32), self.array(np.zeros(2), np.float32))
        with self.assertRaisesRegex(TypeError, "errors: expected dtype float64, received float32|rates: expected dtype"):
            ops.spike_rate_errors(
                self.array(np.zeros((2, 1, 4)), np.float32), self.array(np.zeros((2, 4)), np.int32),
                self.array(np.zeros(4), np.float64), 1, None, 1, self.array(np.zeros((2, 1, 4)), np.float32),
            )  # fmt: skip


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
