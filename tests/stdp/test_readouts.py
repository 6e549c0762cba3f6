"""Votes by hand; joint learning against the same steps in NumPy; projections against the image they stand for."""

import unittest

import numpy as np

from bats.stdp import DecisionLayer, FilterBank, STDPConvolution, projection
from bats.stdp.joint import JointDecision
from bats.stdp.network import in_chunks
from bats.stdp.readouts import MajorityDecision, vote
from tests.devices import Cpu, Cuda

BINS = 15


def random_latencies(random, *shape, silent=0.4):
    latencies = random.integers(0, BINS, shape)
    return np.where(random.random(shape) < silent, BINS, latencies).astype(np.uint8)


class VoteTest(unittest.TestCase):
    def test_majority_precedence_and_silence(self):
        votes = [[1, 1, 1, 4, -1, -1, -1], [1, 2, 2, 5, 7, -1, -1], [3, 1, 2, 6, 8, 9, -1]]
        np.testing.assert_array_equal(vote(votes, (1, 0, 2)), [1, 1, 2, 5, 7, 9, -1])
        np.testing.assert_array_equal(vote([[-1], [-1], [3]], (1, 0, 2)), [3])  # two silent branches are no majority

    def test_three_branches_are_expected(self):
        layer = DecisionLayer(2, 2, 1, 2, device="cpu", seed=0)
        with self.assertRaisesRegex(ValueError, "expected 3"):
            MajorityDecision({"a": layer, "b": layer}, ("a", "b"))


class Joint:
    """Both layers small: 3 -> 4 features k 2, pool 2, pad 1, 3 classes of 2 neurons k 2."""

    def build(self, **options):
        hidden = STDPConvolution(3, 4, 2, 2.0, winners=2, stabilizer=False, device=self.device, seed=1)
        decision = DecisionLayer(4, 3, 2, 2, device=self.device, seed=2)
        pairs = {"reward": (0.02, -0.015), "punish": (-0.02, 0.0025)}
        readout = JointDecision(("hidden", hidden), ("decision", decision), window=2, padding=1, **pairs, **options)
        readout.begin()
        return readout, hidden, decision

    def test_every_image_teaches_both_layers(self):
        random = np.random.default_rng(5)
        images, labels = random_latencies(random, 12, 3, 7, 7), random.integers(0, 3, 12)
        images[3] = BINS
        readout, hidden, decision = self.build()
        w1, w2 = hidden.state()["weights"], decision.state()["weights"]
        order = random.permutation(12).astype(np.int32)
        found = readout.learn(self.array(images), labels, order)
        expected = [by_hand(images[i], labels[i], w1, w2) for i in order]
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(hidden.state()["weights"], w1, atol=1e-5)
        np.testing.assert_allclose(decision.state()["weights"], w2, atol=1e-5)
        right, wrong = np.sum(found == labels[order]), np.sum((found >= 0) & (found != labels[order]))
        self.assertTrue(right and wrong and (found == -1).any())
        adapted = [[0.02 * wrong / 12, -0.015 * wrong / 12], [-0.02 * right / 12, 0.0025 * right / 12]]
        np.testing.assert_allclose(hidden.pairs, adapted, 1e-6)

    def test_taking_turns(self):
        random = np.random.default_rng(6)
        images, labels = self.array(random_latencies(random, 8, 3, 7, 7)), random.integers(0, 3, 8)
        readout, hidden, decision = self.build(alternate=True)
        for number, changed in ((0, "decision"), (1, "hidden")):
            before = hidden.state()["weights"], decision.state()["weights"]
            readout.learn(images, labels, np.arange(8, dtype=np.int32), number)
            same = [np.array_equal(old, layer.state()["weights"]) for old, layer in zip(before, (hidden, decision), strict=True)]
            self.assertEqual(same, [changed == "decision", changed == "hidden"])

    def test_chunks_do_not_show(self):
        images = self.array(random_latencies(np.random.default_rng(7), 9, 3, 7, 7))
        hidden = self.build()[1]
        whole = hidden.forward(images)
        self.assertTrue((in_chunks(hidden.forward, images, 4) == whole).all())
        self.assertEqual(in_chunks(hidden.forward, images[:0], 4).shape, (0, 4, 6, 6))


def potentials_of(image, weights):
    """[F, Ho, Wo, BINS]: sum of the weights of the inputs that spiked up to each bin, float64."""
    n_features, _, rows, columns = weights.shape
    height, width = image.shape[1] - rows + 1, image.shape[2] - columns + 1
    out = np.zeros((n_features, height, width, BINS))
    for y in range(height):
        for x in range(width):
            window = image[:, y : y + rows, x : x + columns]
            for t in range(BINS):
                out[:, y, x, t] = (weights * (window <= t)).sum(axis=(1, 2, 3), dtype=np.float64)
    return out


def stdp(weights, image, winner, latency, pair, bounds):
    feature, y, x = winner
    rows, columns = weights.shape[2:]
    window = image[:, y : y + rows, x : x + columns]
    weights[feature] += np.where((window <= latency) & (window < BINS), pair[0], pair[1])
    np.clip(weights, *bounds, out=weights)


def by_hand(image, label, w1, w2):
    """Decision for one image; both weight arrays learn in place."""
    potentials = potentials_of(image, w1)
    above = potentials > 2.0
    latency = np.where(above.any(-1), above.argmax(-1), BINS)
    at_spike = np.take_along_axis(potentials, np.minimum(latency, BINS - 1)[..., None], -1)[..., 0]
    candidates = []
    for y in range(latency.shape[1]):
        for x in range(latency.shape[2]):
            first = min(range(len(w1)), key=lambda f: (latency[f, y, x], -at_spike[f, y, x], f))
            if latency[first, y, x] < BINS:
                candidates.append((latency[first, y, x], -at_spike[first, y, x], first, y, x))
    winners = []
    for _, _, *place in sorted(candidates):
        if len(winners) < 2 and place[0] not in [winner[0] for winner in winners]:
            winners.append(place)
    pooled = np.full((len(w1), 5, 5), BINS)
    for y in range(3):
        for x in range(3):
            pooled[:, y + 1, x + 1] = latency[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].min(axis=(1, 2))
    last = potentials_of(pooled, w2)[..., -1]
    if last.max() <= 0:
        return -1
    best = np.unravel_index(last.argmax(), last.shape)
    correct = best[0] // 2 == label
    stdp(w2, pooled, best, BINS - 1, (0.004, -0.003) if correct else (-0.004, 0.0005), (0.2, 0.8))
    for winner in winners:
        stdp(w1, image, winner, latency[tuple(winner)], (0.02, -0.015) if correct else (-0.02, 0.0025), (0.0, 1.0))
    return best[0] // 2


class OnCpu(Joint, Cpu):
    pass


class OnCuda(Joint, Cuda):
    pass


class ProjectionTest(unittest.TestCase):
    def test_one_weight_moves_the_picture_of_its_input(self):
        pictures = np.arange(8.0).reshape(2, 2, 2)
        weights = np.zeros((1, 2, 2, 2))
        weights[0, 1, 1, 0] = 3
        expected = np.zeros((5, 5))
        expected[3:, :2] = 3 * pictures[1]
        np.testing.assert_array_equal(projection.project(weights, pictures, 3)[0], expected)

    def test_pooling_is_the_mean_over_the_square(self):
        found = projection.pooled(np.ones((2, 1, 1)), 2, 1)
        np.testing.assert_array_equal(found, np.full((2, 2, 2), 0.25))

    def test_filters_are_centred(self):
        bank = FilterBank((np.full((3, 3), 2.0), np.full((7, 7), -4.0)), padding=3, threshold=0.0)
        found = projection.filter_pictures(bank)
        self.assertEqual((found[0].sum(), found[1].sum()), (9, -49))
        self.assertTrue((found[0, 2:5, 2:5] == 1).all())


if __name__ == "__main__":
    unittest.main()
