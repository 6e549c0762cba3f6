"""What must not depend on the machine: the bits of a gradient on its number of threads, and speed on moments that fade."""

import unittest
from unittest import mock

import numpy as np

from bats import ops
from bats.cpu import weight_gradient
from tests.devices import Cpu
from tests.ops.cases import LayerCase
from tests.ops.test_backward import Checks


class Layout(Cpu):
    run_backward = Checks.run_backward

    def test_gradient_has_the_same_bits_for_any_number_of_threads(self):
        layout, bits, widths = weight_gradient.layout, set(), set()
        case = LayerCase(24, 9, 60, 300)
        for threads in (1, 2, 7, 32):
            widths.add(layout(9, 300, threads)[1])
            with mock.patch.object(weight_gradient, "layout", lambda batch, n_post, _, threads=threads: layout(batch, n_post, threads)):
                bits.add(self.run_backward(case, np.float32)[0].tobytes())
        self.assertEqual(len(bits), 1)
        self.assertGreater(len(widths), 2)

    def test_moments_fade_to_zero_and_not_into_subnormal_numbers(self):
        for dtype in (np.float32, np.float64):
            gradient = np.array([0, 0, np.nan], dtype=dtype)
            m, v, delta = (np.full(3, 1e-3, dtype=dtype) for _ in range(3))
            schedule = np.array([0.1, 0, 1, 1])
            for _ in range(9000):
                ops.adam(gradient, m, v, schedule, 0.9, 0.9, 1e-8, delta)
            for moment in (m, v):
                self.assertEqual(moment[:2].tolist(), [0, 0])
                self.assertTrue(np.isnan(moment[2]))


if __name__ == "__main__":
    unittest.main()
