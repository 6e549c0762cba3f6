"""Sources of waves: the published encoding by hand, event files of the published formats, batches and training."""

import math
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

import bats
from bats.data import load_nmnist, load_shd
from bats.data.events import check_events
from bats.device import to_numpy
from bats.step import Step
from bats.timestep import (
    BinnedEvents,
    FastLIFLayer,
    LatencyBins,
    MaxMembraneCrossEntropy,
    MembraneReadout,
    StandardLIFLayer,
    SteppedInputLayer,
    fashion_latency_bins,
)
from bats.training import Trainer
from bats.training.evaluation import network_weights
from tests.data.test_nmnist import NmnistCase
from tests.data.test_shd import HAS_H5PY, ShdCase
from tests.devices import Cpu, Cuda


def events_of(recordings, n_units, n_classes=3):
    """bats.data.Events of lists of (seconds, unit, ...); the label of recording i is i mod n_classes."""
    offsets = np.concatenate(([0], np.cumsum([len(recording) for recording in recordings])))
    flat = [event for recording in recordings for event in recording]
    times, units = np.array([t for t, _ in flat], np.float64), np.array([u for _, u in flat], np.int64)
    return check_events(times, units, offsets, np.arange(len(recordings)) % n_classes, n_units, n_classes, "made here")


def batch_of(source, indices, device="cpu", dtype="float32"):
    """(waves, labels) of a batch, loaded as Step does."""
    resident = source.to(device, dtype)
    place = resident.allocate(len(indices))
    place.events.array[...] = -7
    xp = resident.xp
    waves, labels = resident.load(xp.asarray(indices, dtype=np.int32), xp.zeros(1, dtype=np.int64), len(indices), place)
    return to_numpy(waves.array), to_numpy(labels).tolist()


class TestEncoding(unittest.TestCase):
    def test_published_bins(self):
        table = fashion_latency_bins()
        by_hand = {41: 98, 42: 95, 50: 80, 60: 67, 80: 50, 100: 40, 128: 31, 150: 27, 200: 20, 255: 16}
        self.assertEqual({value: int(table[value]) for value in by_hand}, by_hand)
        self.assertEqual(set(table[:41].tolist()), {255})
        self.assertEqual(len(set(table[41:].tolist())), 71)

    def test_other_steps_and_constants(self):
        for value in (30, 99, 254):  # the definition, written out
            step = round(10 * math.log(value / (value - 0.5)) * 1000 / 2)
            self.assertEqual(int(fashion_latency_bins(250, 0.002, 10, 0.5)[value]), step if step < 250 else 255)
        for wrong, error in ((0, ValueError), (256, ValueError), (2.5, TypeError)):
            with self.assertRaisesRegex(error, "n_steps"):
                fashion_latency_bins(wrong)

    def test_images_are_checked(self):
        images, labels = np.zeros((2, 3), np.uint8), [0, 1]
        for message, error, arguments, options in (
            ("images: expected dtype uint8", TypeError, (images.astype(float), labels), {}),
            ("images: expected shape", ValueError, (images[0], labels), {}),
            ("n_steps: expected at most 255", ValueError, (images, labels), {"n_steps": 300, "table": np.zeros(256, np.uint8)}),
            (r"table: expected uint8 \[256\]", ValueError, (images, labels), {"table": np.zeros(255, np.uint8)}),
            ("labels", ValueError, (images, [0, 1, 2]), {}),
        ):
            with self.assertRaisesRegex(error, message):
                LatencyBins(*arguments, **options)


class TestBinning(unittest.TestCase):
    def test_rounding_repetitions_and_what_is_dropped(self):
        recordings = [[(0.0004, 1), (0.0005, 0), (0.0015, 0), (0.002, 0), (0.0034, 2)], [], [(0.0, 2), (0.003, 1), (9.0, 1)]]
        source = BinnedEvents(events_of(recordings, 3), 3, n_steps=3, dt=0.001)
        self.assertEqual((source.n_dropped, source.fullest, source.n_steps, source.n_classes), (3, 2, 3, 3))
        waves, labels = batch_of(source, [0, 1, 2])
        expected = np.zeros((3, 3, 3))
        expected[0, 0, 1] = expected[0, 0, 0] = expected[2, 0, 2] = 1
        expected[0, 2, 0] = 2  # 1.5 and 2.0 steps
        np.testing.assert_array_equal(waves, expected)
        self.assertEqual(labels, [0, 1, 2])
        waves, labels = batch_of(source.subset([2, 0, 0]), [0, 1, 2])
        np.testing.assert_array_equal(waves, expected[[2, 0, 0]])
        self.assertEqual(labels, [2, 0, 0])

    def test_a_full_cell_is_not_promised_to_be_a_small_integer(self):
        for n, small in ((256, True), (257, False)):
            resident = BinnedEvents(events_of([[(0.0, 0)] * n], 1), 1, 2, 0.001).to("cpu", "float32")
            self.assertIs(resident.allocate(1).events.small_integers, small)

    def test_wrong_arguments(self):
        events = events_of([[(0.1, 4)]], 5)
        for message, error, arguments in (
            ("events: expected bats.data.Events, received list", TypeError, ([], 5, 3, 0.1)),
            ("expected units 0..3, received 4", ValueError, (events, 4, 3, 0.1)),
            ("n_steps: expected at least 1", ValueError, (events, 5, 0, 0.1)),
            ("n_steps: expected at most", ValueError, (events, 5, 2**32, 0.1)),
            ("dt: expected a finite number > 0", ValueError, (events, 5, 3, 0.0)),
        ):
            with self.assertRaisesRegex(error, message):
                BinnedEvents(*arguments)


class TestNmnistFiles(NmnistCase):
    def test_generated_files(self):
        path, entry = self.converted()
        events = load_nmnist(path, merge_polarities=True, entry=entry).train
        source = BinnedEvents(events, 1156, 300, 0.001)
        waves, labels = batch_of(source, range(23))
        expected, late = np.zeros((23, 300, 1156)), 0
        for i, (_, recording) in enumerate(self.recordings["Train"]):
            for x, y, _, microseconds in recording:
                step = round(microseconds / 1000)  # Python rounds halves to even, too
                late += step >= 300
                if step < 300:
                    expected[i, step, x + 34 * y] += 1
        np.testing.assert_array_equal(waves, expected)
        self.assertEqual((source.n_dropped, labels), (late, [label for label, _ in self.recordings["Train"]]))


@unittest.skipUnless(HAS_H5PY, "h5py is not installed")
class TestShdFiles(ShdCase):
    def test_generated_files(self):
        for name, content in self.plain.items():
            self.put(name, content)
        source = BinnedEvents(load_shd(self.folder, entry=self.entry()).test, 700, 500, 0.002)
        waves, labels = batch_of(source, range(9))
        expected, late = np.zeros((9, 500, 700)), 0
        for i, (times, units, _) in enumerate(self.made["test"]):
            for t, unit in zip(times.astype(np.float64).tolist(), units.tolist(), strict=True):
                step = round(t * 1000 / 2)
                late += step >= 500
                if step < 500:
                    expected[i, step, unit] += 1
        self.assertGreater(late, 0)
        np.testing.assert_array_equal(waves, expected)
        self.assertEqual((source.n_dropped, labels), (late, [label for *_, label in self.made["test"]]))


class Checks:
    def setUp(self):
        rng = np.random.default_rng(7)
        labels = rng.integers(0, 4, 60)
        images = rng.integers(0, 60, (60, 5, 5)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[label] = 255
        self.images = LatencyBins(images, labels, n_steps=30, table=fashion_latency_bins(30, 0.003))
        recordings = [sorted((t, int(u)) for t, u in zip(rng.uniform(0, 0.1, 40), rng.integers(0, 20, 40), strict=True))] * 60
        recordings = [[(t, u % 5 + 5 * label) for t, u in recording] for recording, label in zip(recordings, labels, strict=True)]
        self.events = BinnedEvents(
            check_events(
                np.array([t for r in recordings for t, _ in r]), np.array([u for r in recordings for _, u in r]),
                np.arange(61) * 40, labels, 20, 4, "made here",
            ),
            20, 33, 0.003,
        )  # fmt: skip

    def network(self, source, layer=StandardLIFLayer, dtype="float32"):
        network = bats.Network(device=self.device, dtype=dtype, seed=3)
        network.add_layer(SteppedInputLayer(source.n_neurons, source.n_steps), input=True)
        network.add_layer(layer(None, 13, tau=0.02, dt=0.003, threshold=0.2, name="hidden"))  # so low that all take part
        network.add_layer(MembraneReadout(None, 4, tau=0.03, dt=0.003, name="output"))
        return network

    def test_batches_are_what_the_source_holds(self):
        for source in (self.images, self.events):
            for dtype in ("float32", "float64"):
                waves, labels = batch_of(source, [5, 0, 59, 5], self.device, dtype)
                self.assertEqual((waves.dtype, labels), (np.dtype(dtype), source.labels[[5, 0, 59, 5]].tolist()))
                np.testing.assert_array_equal(waves, batch_of(source.subset([5, 0, 59, 5]), range(4))[0])
                self.assertGreater(waves.sum(), 0)

    def test_a_step_equals_forward_and_backward_by_hand(self):
        for source in (self.images, self.events):
            loss, network = MaxMembraneCrossEntropy(), self.network(source, dtype="float64")
            step = Step(network, loss, source, 7, 1.0)
            step.evaluate(np.arange(3, 10))
            logits = network.forward(batch_of(source, range(3, 10))[0])
            self.assertEqual(step.predictions.tolist(), to_numpy(loss.predict(logits)).tolist())
            expected = float(loss.compute_loss(logits, source.labels[3:10]).mean())
            self.assertAlmostEqual(step.metrics()["loss"], expected, places=12)

    def test_both_layers_learn_and_repeat_their_bits(self):
        for source, layer in ((self.images, FastLIFLayer), (self.events, StandardLIFLayer)):
            weights = []
            for shuffle in (True, True, False):
                trainer = Trainer(
                    self.network(source, layer), MaxMembraneCrossEntropy(), bats.AdamOptimizer(0.02), batch_size=16,
                    max_simulation=1.0, seed=1, progress=False, shuffle=shuffle,
                )  # fmt: skip
                history = trainer.fit(source, source, 30)
                self.assertGreater(history[-1]["test_accuracy_percent"], 80)
                weights.append(np.concatenate([array.ravel() for array in network_weights(trainer.network).values()]))
            self.assertEqual(weights[0].tobytes(), weights[1].tobytes())
            self.assertNotEqual(weights[0].tobytes(), weights[2].tobytes())

    def test_resume_goes_on_with_the_same_data_and_order_only(self):
        def trainer(folder, **options):
            return Trainer(
                self.network(self.events), MaxMembraneCrossEntropy(), bats.AdamOptimizer(0.02), batch_size=16,
                max_simulation=1.0, run_folder=folder, progress=False, **options,
            )  # fmt: skip

        with tempfile.TemporaryDirectory() as folder, mock.patch("bats.training.plots.metric_curves"):
            trainer(Path(folder) / "run").fit(self.events, self.events, 1)
            resumed, whole = trainer(None), trainer(None)
            resumed.resume(Path(folder) / "run")
            resumed.fit(self.events, self.events, 2)
            whole.fit(self.events, self.events, 2)
            for name, array in network_weights(whole.network).items():
                self.assertEqual(array.tobytes(), network_weights(resumed.network)[name].tobytes())
            other = trainer(None)
            other.resume(Path(folder) / "run")
            with self.assertRaisesRegex(ValueError, "data.sha256"):
                other.fit(self.events.subset(np.arange(60)[::-1]), self.events, 2)
            with self.assertRaisesRegex(ValueError, "shuffle: expected False, received nothing"):
                trainer(None, shuffle=False).resume(Path(folder) / "run")

    def test_a_source_that_does_not_fit(self):
        network = self.network(self.images)
        with self.assertRaisesRegex(ValueError, "expected 25 inputs"):
            Step(network, MaxMembraneCrossEntropy(), self.events, 4, 1.0)


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
