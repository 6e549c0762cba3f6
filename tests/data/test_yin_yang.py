"""The Yin-Yang task: geometry at points worked out by hand, areas, balance, encoding, determinism."""

import math
import unittest

import numpy as np

from bats.data import yin_yang, yin_yang_class, yin_yang_points

YIN, YANG, DOT, OUTSIDE = 0, 1, 2, -1


def published_class(x, y, r_small=0.1, r_big=0.5):
    """The decision of the publication for one point inside the symbol, as nested conditions."""
    to_right, to_left = math.dist((x, y), (1.5 * r_big, r_big)), math.dist((x, y), (0.5 * r_big, r_big))
    if to_right < r_small or to_left < r_small:
        return DOT
    if to_left <= r_big / 2:
        return YANG
    if to_right <= r_big / 2:
        return YIN
    return YANG if y > r_big else YIN


class TestGeometry(unittest.TestCase):
    def test_points_by_hand(self):
        points = {
            (0.25, 0.5): DOT,  # centre of the left eye
            (0.75, 0.5): DOT,  # centre of the right eye
            (0.25, 0.59): DOT,  # 0.09 above it
            (0.25, 0.61): YANG,  # 0.11 above it: the disc around the left eye
            (0.25, 0.39): YANG,  # 0.11 below it: still that disc, in the lower half
            (0.75, 0.61): YIN,  # the disc around the right eye, in the upper half
            (0.75, 0.39): YIN,
            (0.5, 0.9): YANG,  # upper half, in neither disc
            (0.5, 0.1): YIN,  # lower half, in neither disc
            (0.9, 0.75): YANG,  # upper right rim, 0.29 from the right eye
            (0.1, 0.25): YIN,  # lower left rim, 0.29 from the left eye
            (0.02, 0.02): OUTSIDE,
            (0.98, 0.9): OUTSIDE,
        }
        for point, expected in points.items():
            self.assertEqual(int(yin_yang_class(*point)), expected, point)

    def test_against_the_published_decision_on_a_grid(self):
        axis = np.linspace(0.0, 1.0, 157)
        x, y = (grid.ravel() for grid in np.meshgrid(axis, axis))
        classes = yin_yang_class(x, y)
        self.assertEqual(classes.dtype, np.int32)
        inside = np.hypot(x - 0.5, y - 0.5) <= 0.5
        np.testing.assert_array_equal(classes == OUTSIDE, ~inside)
        expected = [published_class(a, b) for a, b in zip(x[inside], y[inside], strict=True)]
        np.testing.assert_array_equal(classes[inside], expected)

    def test_areas(self):
        axis = (np.arange(2000) + 0.5) / 2000
        classes = yin_yang_class(axis[:, None], axis[None, :])
        eyes = 2 * math.pi * 0.1**2
        side = (math.pi * 0.5**2 - eyes) / 2
        for c, area in ((YIN, side), (YANG, side), (DOT, eyes), (OUTSIDE, 1 - math.pi / 4)):
            self.assertAlmostEqual(float((classes == c).mean()), area, delta=2e-4)


class TestPoints(unittest.TestCase):
    def test_every_point_has_the_class_of_its_label_and_classes_are_balanced(self):
        points, labels = yin_yang_points(30_000, seed=3)
        np.testing.assert_array_equal(yin_yang_class(points[:, 0], points[:, 1]), labels)
        for c in range(3):  # 5 standard deviations of a binomial
            self.assertAlmostEqual(float((labels == c).mean()), 1 / 3, delta=5 * math.sqrt(2 / 9 / 30_000))

    def test_points_are_uniform_within_a_class(self):
        points, labels = yin_yang_points(30_000, seed=4)
        dots = points[labels == DOT]
        left = dots[dots[:, 0] < 0.5] - (0.25, 0.5)
        self.assertAlmostEqual(len(left) / len(dots), 0.5, delta=0.025)
        radius = np.hypot(*left.T)
        self.assertAlmostEqual(float((radius < 0.05).mean()), 0.25, delta=0.035)  # a quarter of the area
        np.testing.assert_allclose(left.mean(axis=0), 0, atol=0.004)

    def test_same_seed_same_points(self):
        first, second, other = (yin_yang_points(500, seed)[0] for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, second)
        self.assertFalse(np.array_equal(first, other))

    def test_small_eyes_and_single_samples(self):
        points, labels = yin_yang_points(20, seed=0, r_small=0.005)
        np.testing.assert_array_equal(yin_yang_class(points[:, 0], points[:, 1], r_small=0.005), labels)
        self.assertEqual(yin_yang_points(1, seed=0)[0].shape, (1, 2))


class TestSpikes(unittest.TestCase):
    def test_encoding(self):
        times, counts, labels = yin_yang(200, 7, t_early=0.2, t_late=1.2, t_bias=0.5)
        points, expected = yin_yang_points(200, 7)
        self.assertEqual((times.shape, times.dtype), ((200, 5, 1), np.float64))
        self.assertEqual((counts.shape, counts.dtype, labels.dtype), ((200, 5), np.int32, np.int32))
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(counts, 1)
        np.testing.assert_allclose(times[:, 0, 0], 0.2 + points[:, 0], rtol=1e-14)
        np.testing.assert_allclose(times[:, 1, 0], 0.2 + points[:, 1], rtol=1e-14)
        np.testing.assert_allclose(times[:, 0] + times[:, 2], 1.4, rtol=1e-14)
        np.testing.assert_allclose(times[:, 1] + times[:, 3], 1.4, rtol=1e-14)
        np.testing.assert_array_equal(times[:, 4, 0], 0.5)

    def test_defaults_are_those_of_fast_and_deep(self):
        times, _, _ = yin_yang(3000, 0)
        self.assertGreaterEqual(times[:, :4].min(), 0.15)
        self.assertLessEqual(times[:, :4].max(), 2.0)
        self.assertLess(times[:, :4].min(), 0.2)
        self.assertGreater(times[:, :4].max(), 1.95)
        self.assertEqual(set(times[:, 4].ravel()), {0.9})

    def test_bad_arguments(self):
        for arguments, kind, message in (
            ((0, 0), ValueError, "n_samples >= 1, received 0"),
            ((2.5, 0), TypeError, "whole number for n_samples, received 2.5"),
            ((True, 0), TypeError, "whole number for n_samples, received True"),
            ((5, -1), ValueError, "seed >= 0, received -1"),
            ((5, 0, 1.0, 1.0), ValueError, "t_early < t_late, received 1.0 and 1.0"),
            ((5, 0, -0.1, 1.0), ValueError, "t_early >= 0 s, received -0.1"),
            ((5, 0, 0.1, math.nan), ValueError, "t_late >= 0 s, received nan"),
            ((5, 0, 0.1, 1.0, math.inf), ValueError, "t_bias >= 0 s, received inf"),
        ):
            with self.assertRaisesRegex(kind, message):
                yin_yang(*arguments)
        with self.assertRaisesRegex(ValueError, "r_small < r_big / 2"):
            yin_yang_points(5, 0, r_small=0.3)


if __name__ == "__main__":
    unittest.main()
