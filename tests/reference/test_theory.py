"""The equations of docs/theory.md, each computed from the one before it in another way."""

import unittest

import numpy as np

TAU_S, THETA, DELTA_THETA = 0.02, 0.01, 0.008
TAU, C, D = 2 * TAU_S, THETA / (2 * TAU_S), DELTA_THETA / (2 * TAU_S)


def eps(s):
    """(4)"""
    return TAU * (np.exp(-s / TAU) - np.exp(-s / TAU_S))


def eps_prime(s):
    """(4)"""
    return 2 * np.exp(-s / TAU_S) - np.exp(-s / TAU)


def membrane(t, w, pre, own):
    """(5)"""
    past, fired = pre < t, own < t
    return (w * eps(t - pre))[past].sum() - DELTA_THETA * np.exp(-(t - own[fired]) / TAU).sum()


def state(w, pre, own, t0):
    """(6): a, b of everything given."""
    E = np.exp((pre - t0) / TAU)
    return (w * E**2).sum(), (w * E).sum() - D * np.exp((own - t0) / TAU).sum()


def crossing(a, b, t0):
    """(9): x, q, t"""
    x = np.sqrt(b * b - 4 * a * C)
    q = 2 * a / (b + x)
    return x, q, t0 + TAU * np.log(q)


def fires(a, b, y_high, y_low):
    """(12)"""
    return y_low * (b - a * y_low) >= C or (2 * a * y_low < b < 2 * a * y_high and b * b >= 4 * a * C)


class Equations(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(0)
        self.w, self.pre = self.rng.uniform(0.5, 1.5, 6), np.sort(self.rng.uniform(0, 0.01, 6))
        own = np.zeros(0)
        for _ in range(3):  # three spikes after all inputs
            a, b = state(self.w, self.pre, own, 0.01)
            own = np.append(own, crossing(a, b, 0.01)[2])
        self.own = own

    def spike(self, k, w=None, pre=None, own=None):
        """Time of spike k, the earlier ones given."""
        w, pre = self.w if w is None else w, self.pre if pre is None else pre
        return crossing(*state(w, pre, (self.own if own is None else own)[:k], 0.01), 0.01)[2]

    def slope(self, k, t0=0.01):
        x, q, _ = crossing(*state(self.w, self.pre, self.own[:k], t0), t0)
        return x / q

    def test_response_solves_the_membrane_equation(self):
        """(1), (2), (4): eps' = -eps/tau + g with g = e^{-s/tau_s}; largest at tau ln 2, where it is tau/4."""
        s = np.linspace(0, 0.2, 201)
        np.testing.assert_allclose(eps_prime(s), -eps(s) / TAU + np.exp(-s / TAU_S), atol=1e-15)
        np.testing.assert_allclose((eps(s + 1e-6) - eps(s - 1e-6)) / 2e-6, eps_prime(s), atol=1e-8)
        self.assertAlmostEqual(eps(TAU * np.log(2)), TAU / 4, places=15)
        self.assertAlmostEqual(eps_prime(TAU * np.log(2)), 0, places=14)

    def test_parabola_and_upward_crossing(self):
        """(5) to (10) at any origin: u by sum and by parabola, theta at the spike, z = du/dt = x/q = x y."""
        for t0 in (0.0, 0.01, 0.3):
            a, b = state(self.w, self.pre, self.own[:2], t0)
            for t in np.linspace(self.own[1] + 1e-6, 0.1, 20):
                y = np.exp(-(t - t0) / TAU)
                np.testing.assert_allclose(TAU * (b * y - a * y * y), membrane(t, self.w, self.pre, self.own[:2]), 1e-9)
            t = crossing(a, b, t0)[2]
            self.assertAlmostEqual(t, self.own[2], places=13)
            u = [membrane(t + h, self.w, self.pre, self.own[:2]) for h in (-1e-7, 0, 1e-7)]
            self.assertAlmostEqual(u[1], THETA, places=13)
            np.testing.assert_allclose((u[2] - u[0]) / 2e-7, self.slope(2, t0), rtol=1e-6)
            self.assertGreater(self.slope(2, t0), 0)

    def test_interval_test_finds_what_a_fine_scan_finds(self):
        """(12) against 4000 samples of u, on random states that start below theta; (11) agrees."""
        agree = [0, 0]
        for _ in range(4000):
            a, b = self.rng.uniform(-0.5, 3), self.rng.uniform(-1, 3)
            y_low, y_high = np.sort(self.rng.uniform(0, 1, 2))
            y = np.linspace(y_high, y_low, 4000)
            u = b * y - a * y * y
            if u[0] >= C or abs(u.max() - C) < 1e-4:
                continue
            found = fires(a, b, y_high, y_low)
            self.assertEqual(found, (u >= C).any())
            if found:
                root = 1 / crossing(a, b, 0)[1]
                self.assertTrue(y_low <= root <= y_high and a > 0 and b > 0)
            agree[int(found)] += 1
        self.assertGreater(min(agree), 100)

    def test_nan_never_fires(self):
        self.assertFalse(fires(np.nan, 1, 1, 0.5) or fires(1, np.nan, 1, 0.5) or fires(np.inf, np.inf, 1, 0))

    def test_partial_derivatives(self):
        """(14), (15), (16) against differences of (9), and (16) in both notations."""
        for k in range(3):
            z, h = self.slope(k), 1e-7
            for j in range(6):
                step = h * (np.arange(6) == j)
                dw = (self.spike(k, w=self.w + step) - self.spike(k, w=self.w - step)) / (2 * h)
                np.testing.assert_allclose(dw, -eps(self.own[k] - self.pre[j]) / z, rtol=1e-5)
                dt = (self.spike(k, pre=self.pre + step) - self.spike(k, pre=self.pre - step)) / (2 * h)
                np.testing.assert_allclose(dt, self.w[j] * eps_prime(self.own[k] - self.pre[j]) / z, rtol=1e-5)
            for earlier in range(k):
                step = h * (np.arange(3) == earlier)
                dt = (self.spike(k, own=self.own + step) - self.spike(k, own=self.own - step)) / (2 * h)
                expected = D / z * np.exp(-(self.own[k] - self.own[earlier]) / TAU)
                np.testing.assert_allclose(dt, expected, rtol=1e-5)
                x = crossing(*state(self.w, self.pre, self.own[:k], 0.0), 0.0)[0]
                np.testing.assert_allclose(D * np.exp(self.own[earlier] / TAU) / x, expected, rtol=1e-10)

    def test_notation_of_the_paper(self):
        """(17)"""
        for t0 in (0.0, 0.02):
            x, q, t = crossing(*state(self.w, self.pre, self.own[:1], t0), t0)
            E, f2 = np.exp((self.pre - t0) / TAU), TAU / x
            np.testing.assert_allclose(f2 / q * E**2 - f2 * E, -eps(t - self.pre) / (x / q), rtol=1e-10)

    def test_moving_the_origin(self):
        """(28), and the grid (29)"""
        d, length = 0.07, 8 * TAU
        near, far = state(self.w, self.pre, self.own[:2], 0.0), state(self.w, self.pre, self.own[:2], d)
        np.testing.assert_allclose(far, [near[0] * np.exp(-2 * d / TAU), near[1] * np.exp(-d / TAU)], rtol=1e-12)
        ratio = np.divide(crossing(*far, d)[:2], crossing(*near, 0.0)[:2])
        np.testing.assert_allclose(ratio, np.exp(-d / TAU), rtol=1e-10)
        t = self.rng.uniform(0, 1e4 * TAU, 1000)
        E = np.exp((t - np.floor(t / length) * length) / TAU)
        self.assertTrue((E >= 1).all() and (E <= np.exp(8) * (1 + 1e-12)).all())

    def test_running_sums(self):
        """(30) against (18) and (20), one pair of neurons, all inputs before all spikes."""
        delta = np.array([0.3, -1.0, 0.7])
        z, t0 = np.array([self.slope(k) for k in range(3)]), 0.005
        E, q, gain = np.exp((self.pre - t0) / TAU), np.exp((self.own - t0) / TAU), delta * TAU / z
        P, Q = (gain / q).sum(), (gain / q**2).sum()
        s = self.own - self.pre[:, None]
        np.testing.assert_allclose(E**2 * Q - E * P, (-delta / z * eps(s)).sum(axis=1), rtol=1e-9)
        expected = (delta / z * self.w[:, None] * eps_prime(s)).sum(axis=1)
        np.testing.assert_allclose(self.w / TAU * (2 * E**2 * Q - E * P), expected, rtol=1e-9)


if __name__ == "__main__":
    unittest.main()
