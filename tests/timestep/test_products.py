"""Matrix products: every layout and odd size against NumPy float64; float32 no worse than the naive sum."""

import numpy as np

from bats import ops
from bats.device import to_numpy
from tests.devices import Cpu, Cuda

LAYOUTS = [(False, False), (True, False), (False, True)]
SIZES = [(1, 1, 1), (5, 3, 7), (64, 64, 16), (130, 33, 31), (129, 200, 100), (7, 257, 260), (3, 2, 0), (128, 128, 32), (40, 10, 3000)]


def naive(a, b):
    """Sums one after the other in the arrays' precision."""
    total = np.zeros((a.shape[0], b.shape[1]), dtype=a.dtype)
    for k in range(a.shape[1]):
        total += a[:, k : k + 1] * b[k]
    return total


class Checks:
    def run_product(self, a, b, layout, dtype, previous=None, parts=False, in_bytes=False, **options):
        left, right = (array.T if turned else array for array, turned in zip((a, b), layout, strict=True))
        left, right = self.array(left, np.uint8 if in_bytes else dtype), self.array(right, dtype)
        out = self.poisoned((a.shape[0], b.shape[1]), dtype) if previous is None else self.array(previous, dtype)
        scratch = ops.product_scratch(self.xp, *out.shape, a.shape[1], dtype) if parts else None
        if scratch is not None:
            scratch.fill(np.nan)
        ops.matrix_product(left, right, out, transpose_a=layout[0], transpose_b=layout[1], scratch=scratch, **options)
        return to_numpy(out)

    def test_layouts_and_sizes(self):
        rng = np.random.default_rng(0)
        for m, n, k in SIZES:
            small, wide = rng.integers(0, 4, (m, k)).astype(float), rng.normal(size=(m, k)).astype(np.float32).astype(float)
            b = rng.normal(size=(k, n)).astype(np.float32).astype(float)
            for layout in LAYOUTS:
                for a, kind in ((small, {"exact_a": True}), (small, {"in_bytes": True}), (wide, {})):
                    with self.subTest(sizes=(m, n, k), layout=layout, **kind):
                        expected, bound = a @ b, np.abs(a) @ np.abs(b) + 1e-30
                        found = self.run_product(a, b, layout, np.float64, parts=True, **kind)
                        self.assertLess((np.abs(found - expected) / bound).max(), 1e-14)
                        found = self.run_product(a, b, layout, np.float32, parts=True, **kind)
                        self.assertLess((np.abs(found - expected) / bound).max(), 1e-6)
                        previous = rng.normal(size=(m, n)).astype(np.float32)
                        found = self.run_product(a, b, layout, np.float32, previous.copy(), add=True, scale=0.5, **kind)
                        self.assertLess((np.abs(found - previous - 0.5 * expected) / (bound + np.abs(previous))).max(), 1e-6)

    def test_float32_is_no_worse_than_the_naive_sum(self):
        """At most twice its error, largest and root mean square; numbers over many powers of ten, sums that cancel."""
        rng = np.random.default_rng(1)
        for m, n, k in ((70, 50, 800), (30, 20, 5000), (50, 60, 33)):
            b = (rng.normal(size=(k, n)) * 10 ** rng.uniform(-6, 0, (k, n))).astype(np.float32)
            counts = (rng.random((m, k)) < 0.2).astype(np.float32)
            wide = rng.normal(size=(m, k)).astype(np.float32)
            for layout in LAYOUTS:
                for a, kind in ((counts, {"exact_a": True}), (counts, {"in_bytes": True}), (wide, {})):
                    with self.subTest(sizes=(m, n, k), layout=layout, **kind):
                        expected = a.astype(float) @ b.astype(float)
                        error = self.run_product(a, b, layout, np.float32, parts=True, **kind) - expected
                        usual = naive(a, b) - expected
                        self.assertLessEqual(np.abs(error).max(), 2 * np.abs(usual).max())
                        self.assertLessEqual(np.sqrt(np.mean(error**2)), 2 * np.sqrt(np.mean(usual**2)))

    def test_spikes_of_one_input_are_weights(self):
        """A row with a single 1 picks a row of B, bit for bit: nothing of a float32 number is lost."""
        rng = np.random.default_rng(2)
        b = (rng.normal(size=(50, 40)) * 10.0 ** rng.integers(-20, 20, (50, 40))).astype(np.float32)
        for layout in LAYOUTS:
            np.testing.assert_array_equal(self.run_product(np.eye(50), b, layout, np.float32, exact_a=True), b)
            np.testing.assert_array_equal(self.run_product(np.eye(50), b, layout, np.float32), b)
            np.testing.assert_array_equal(self.run_product(np.eye(50), b, layout, np.float32, in_bytes=True), b)

    def test_largest_bytes(self):
        """255 is one bfloat16 number too: sums of integers that float32 holds are exact."""
        a, b = np.full((130, 40), 255.0), np.arange(40 * 30.0).reshape(40, 30)
        for layout in LAYOUTS:
            for dtype in (np.float32, np.float64):
                np.testing.assert_array_equal(self.run_product(a, b, layout, dtype, in_bytes=True), a @ b)

    def test_tf32(self):
        """16 bits of each number, and on the CPU and in float64 all of them."""
        rng = np.random.default_rng(4)
        a, b = rng.normal(size=(70, 90)), rng.normal(size=(90, 50))
        counts = rng.integers(0, 3, (70, 90)).astype(float)
        for layout in LAYOUTS:
            for left, kind in ((a, {}), (counts, {"exact_a": True}), (counts, {"in_bytes": True})):
                bound = np.abs(left) @ np.abs(b)
                for dtype, limit in ((np.float32, 2.0**-14), (np.float64, 1e-14)):
                    error = np.abs(self.run_product(left, b, layout, dtype, tf32=True, **kind) - left @ b)
                    self.assertLess((error / bound).max(), limit)

    def test_same_bits(self):
        rng = np.random.default_rng(3)
        a, b = rng.normal(size=(60, 9000)), rng.normal(size=(9000, 70))
        first, second = (self.run_product(a, b, (True, False), np.float32, parts=True) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_wrong_arguments(self):
        a, b, out = (self.array(np.zeros(shape), np.float32) for shape in ((4, 3), (3, 5), (4, 5)))
        for error, change, message in (
            (ValueError, {"a": a.T}, "C-contiguous"),
            (ValueError, {"b": out}, r"b: expected shape \(3, 'any'\), received \(4, 5\)"),
            (TypeError, {"out": out.astype(np.float64)}, "out: expected dtype float32, received float64"),
            (ValueError, {"out": a}, r"out: expected shape \(4, 5\), received \(4, 3\)"),
        ):
            arguments = {"a": a, "b": b, "out": out} | change
            if "a" in change:
                arguments["b"], arguments["transpose_a"] = self.array(np.zeros((4, 5)), np.float32), False
            with self.subTest(message), self.assertRaisesRegex(error, message):
                ops.matrix_product(arguments.pop("a"), arguments.pop("b"), arguments.pop("out"), **arguments)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
