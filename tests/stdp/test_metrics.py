"""The figures of an evaluation against a case worked out by hand, and against their definitions."""

import json
import unittest

import numpy as np

from bats.stdp import metrics

LABELS = np.array([0, 0, 0, 1, 1, 2])
DECISIONS = np.array([0, 0, 1, 1, -1, 0])  # three right, two wrong, one silent
SCORES = np.array(  # class 0: members 5 4 1, others 3 0 4: pairs in order 3, 2 and a tie, 1
    [[5.0, 1, 0], [4, 2, 0], [1, 3, 0], [3, 4, 0], [0, 0, 0], [4, 1, 1]]
)


class MetricsTest(unittest.TestCase):
    def test_rates(self):
        shares = metrics.rates(DECISIONS, LABELS)
        self.assertEqual({name: round(6 * share) for name, share in shares.items()}, {"correct": 3, "wrong": 2, "silent": 1})
        self.assertAlmostEqual(sum(shares.values()), 1)

    def test_macro_figures_by_hand(self):
        found = metrics.evaluate(DECISIONS, SCORES, LABELS, 3)
        # precision: 2 of 3 decisions "0", 1 of 2 decisions "1", none "2"; recall: 2/3, 1/2 (a silent image counts), 0
        self.assertAlmostEqual(found["macro_precision"], (2 / 3 + 1 / 2 + 0) / 3)
        self.assertAlmostEqual(found["macro_recall"], (2 / 3 + 1 / 2 + 0) / 3)
        self.assertAlmostEqual(found["macro_f1"], (2 / 3 + 1 / 2 + 0) / 3)
        self.assertAlmostEqual(found["accuracy"], 0.5)
        self.assertEqual(found["confusion"], [[2, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]])  # last column: silent
        json.dumps(found)

    def test_roc_auc_is_the_share_of_pairs_in_order(self):
        areas = metrics.roc_auc(SCORES, LABELS)
        for c in range(3):
            members, others = SCORES[LABELS == c, c], SCORES[LABELS != c, c]
            pairs = members[:, None] - others[None]
            self.assertAlmostEqual(areas[c], np.mean((pairs > 0) + 0.5 * (pairs == 0)))
        self.assertAlmostEqual(areas[0], (3 + 2.5 + 1) / 9)

    def test_a_class_without_images_has_no_area(self):
        scores = np.random.default_rng(3).random((6, 4))
        self.assertTrue(np.isnan(metrics.roc_auc(scores, LABELS)[3]))
        found = metrics.evaluate(DECISIONS, scores, LABELS, 4)
        self.assertIsNone(found["roc_auc_per_class"][3])
        self.assertIsNotNone(found["macro_roc_auc"])
        self.assertEqual(len(found["confusion"]), 4)

    def test_relative_scores(self):
        found = metrics.relative([[4, 2, 1], [0, 3, 3], [0, 0, 0]])
        np.testing.assert_allclose(found, [[2, 0.5, 0.25], [0, 1, 1], [0, 0, 0]])

    def test_all_silent_and_one_class(self):
        found = metrics.evaluate(np.array([-1, -1]), np.zeros((2, 2)), np.array([1, 1]), 2)
        self.assertEqual((found["accuracy"], found["silent"], found["macro_f1"]), (0, 1, 0))
        self.assertIsNone(found["macro_roc_auc"])

    def test_wrong_input(self):
        with self.assertRaisesRegex(ValueError, "expected one per label"):
            metrics.rates(np.zeros(3), np.zeros(4))
        with self.assertRaisesRegex(ValueError, "received none"):
            metrics.rates(np.zeros(0), np.zeros(0))


if __name__ == "__main__":
    unittest.main()
