"""Event data sets in memory: what is accepted, what is refused with which words, and picking recordings."""

import json
import unittest
from pathlib import Path

import numpy as np

from bats.data import EventDataset, Events, check_events


def recordings(generator, n, n_units=7, n_classes=3):
    """(list of (times, units) per recording, labels); some recordings are empty, some times equal."""
    parts = []
    for _ in range(n):
        k = int(generator.integers(0, 6))
        parts.append((np.sort(generator.integers(0, 5, k) / 10), generator.integers(0, n_units, k)))
    return parts, generator.integers(0, n_classes, n)


def joined(parts, labels, n_units=7, n_classes=3):
    times = np.concatenate([np.empty(0), *(t for t, _ in parts)])
    units = np.concatenate([np.empty(0, np.int64), *(u for _, u in parts)])
    offsets = np.concatenate(([0], np.cumsum([len(t) for t, _ in parts])))
    return check_events(times, units, offsets, labels, n_units, n_classes, "f: train")


class TestEvents(unittest.TestCase):
    def test_types_and_length(self):
        parts, labels = recordings(np.random.default_rng(0), 20)
        events = joined(parts, labels.astype(np.uint8))
        self.assertEqual(len(events), 20)
        types = (events.times.dtype, events.units.dtype, events.offsets.dtype, events.labels.dtype)
        self.assertEqual(types, (np.float64, np.int32, np.int64, np.int32))
        self.assertNotIn("array", repr(events))
        with self.assertRaises(AttributeError):
            events.times = None

    def test_subset_against_a_loop(self):
        generator = np.random.default_rng(1)
        parts, labels = recordings(generator, 30)
        events = joined(parts, labels)
        for indices in (generator.permutation(30), [3, 3, 0], np.array([], np.int64), [29], generator.integers(0, 30, 50)):
            received = events.subset(indices)
            expected = joined([parts[i] for i in indices], labels[indices]) if len(indices) else None
            self.assertEqual((len(received), type(received)), (len(indices), Events))
            if expected is None:
                self.assertEqual((received.offsets.tolist(), received.times.size), ([0], 0))
                continue
            for name in ("times", "units", "offsets", "labels"):
                np.testing.assert_array_equal(getattr(received, name), getattr(expected, name))
                self.assertEqual(getattr(received, name).dtype, getattr(expected, name).dtype)
        np.testing.assert_array_equal(events.subset(slice(5, None, 2)).labels, labels[5::2])
        for bad, error in (([30], IndexError), ([-1], IndexError), ([0.5], TypeError), (np.ones((2, 2), int), TypeError)):
            with self.assertRaises(error):
                events.subset(bad)

    def check(self, message, error=ValueError, **changes):
        good = {
            "times": np.array([0.1, 0.2, 0.05]), "units": np.array([0, 6, 3]), "offsets": np.array([0, 2, 2, 3]),
            "labels": np.array([0, 2, 1]),
        }  # fmt: skip
        check_events(**good, n_units=7, n_classes=3, where="f: train")
        with self.assertRaisesRegex(error, f"^f: train {message}"):
            check_events(**(good | changes), n_units=7, n_classes=3, where="f: train")

    def test_what_is_refused(self):
        self.check(r"times: expected one dimension, received the shape \[1, 3\]", times=np.zeros((1, 3)))
        self.check("times: expected floating-point numbers, received int64", TypeError, times=np.zeros(3, np.int64))
        self.check("units: expected integers, received float64", TypeError, units=np.zeros(3))
        self.check("labels: expected integers, received float64", TypeError, labels=np.zeros(3))
        self.check("labels: expected at least one recording", labels=np.zeros(0, np.int64), offsets=np.array([0]))
        self.check(r"units: expected one per event, \[3\], received the shape \[2\]", units=np.zeros(2, np.int64))
        self.check(r"offsets: expected \[4\] for 3 labels, received \[3\]", offsets=np.array([0, 2, 3]))
        self.check("offsets: .* to the 3 events, received 0..2", offsets=np.array([0, 1, 2, 2]))
        self.check("offsets: .* received 1..3", offsets=np.array([1, 2, 2, 3]))
        self.check("offsets: .* not ascending", offsets=np.array([0, 3, 2, 3]))
        self.check(r"labels: expected values 0..2, received 0..3", labels=np.array([0, 3, 1]))
        self.check(r"labels: expected values 0..2, received -1..1", labels=np.array([0, -1, 1]))
        self.check(r"units: expected values 0..6, received 0..7", units=np.array([0, 7, 1]))
        self.check("times: expected finite seconds >= 0, received nan at event 1", times=np.array([0.1, np.nan, 0.2]))
        self.check("times: expected finite seconds >= 0, received inf at event 2", times=np.array([0.1, 0.2, np.inf]))
        self.check("times: expected finite seconds >= 0, received -0.1 at event 0", times=np.array([-0.1, 0.2, 0.2]))
        self.check("times: expected ascending .* 0.1 s after 0.2 s in recording 0", times=np.array([0.2, 0.1, 0.3]))
        late = np.array([0.1, 0.3, 0.2])
        self.check("times: .* 0.2 s after 0.3 s in recording 2", times=late, offsets=np.array([0, 1, 1, 3]))

    def test_recordings_without_any_event(self):
        events = check_events(np.empty(0), np.empty(0, np.int32), np.zeros(3, int), np.zeros(2, int), 7, 3, "f")
        self.assertEqual((len(events), len(events.subset([1]))), (2, 1))

    def test_dataset_describes_itself(self):
        parts, labels = recordings(np.random.default_rng(2), 10)
        events = joined(parts, labels)
        dataset = EventDataset("toy", events, events.subset([0]), 7, 3, ("a", "b", "c"), Path("x/toy.npz"), "0" * 64, True, 4, "note")
        described = dataset.describe()
        self.assertEqual(json.loads(json.dumps(described)), described)
        self.assertEqual((described["n_train"], described["n_test"], described["n_dropped"]), (10, 1, 4))
        self.assertEqual(described["n_events"], [len(events.times), len(parts[0][0])])
        self.assertEqual(dataset.duration, max(t.max() for t, _ in parts if len(t)))
        self.assertEqual(EventDataset("toy", events.subset([]), events.subset([]), 7, 3, (), Path("x"), "", True).duration, 0)


if __name__ == "__main__":
    unittest.main()
