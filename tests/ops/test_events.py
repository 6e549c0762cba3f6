"""Event lists: encoding of images, sorting of spike trains, drawing of batches."""

import numpy as np

from bats import ops
from bats.device import to_numpy
from bats.spikes import EventList
from tests.devices import Cpu, Cuda
from tests.ops.cases import make_events, random_trains


class Checks:
    def check_sorted(self, times, counts, dtype):
        """Against a stable NumPy sort by time, neuron, slot."""
        batch, n_neurons, n_slots = times.shape
        events = make_events(self, times, counts, dtype)
        np.testing.assert_array_equal(to_numpy(events.counts), counts.sum(axis=1))
        for b in range(batch):
            flat = times[b].reshape(-1)
            order = np.argsort(flat, kind="stable")[: counts[b].sum()]
            n = len(order)
            np.testing.assert_array_equal(to_numpy(events.times)[b, :n], flat[order].astype(dtype))
            np.testing.assert_array_equal(to_numpy(events.neurons)[b, :n], order // n_slots)
            np.testing.assert_array_equal(to_numpy(events.positions)[b, :n], order % n_slots * n_neurons + order // n_slots)

    def test_sort(self):
        rng = np.random.default_rng(0)
        shapes = ((1, 1, 1), (3, 7, 1), (2, 33, 5), (5, 800, 2), (2, 1, 40), (3, 811, 3), (2, 2100, 1), (2, 3, 900), (70, 41, 60))
        for shape in shapes:  # the last four are long enough for several blocks per sample, but for the very last's batch
            for dtype in (np.float32, np.float64):
                with self.subTest(shape=shape, dtype=dtype):
                    self.check_sorted(*random_trains(rng, *shape, duration=0.2), dtype)

    def test_sort_ties(self):
        rng = np.random.default_rng(1)
        for n_neurons in (50, 999):
            self.check_sorted(*random_trains(rng, 3, n_neurons, 4, duration=1.0, grid=0.25), np.float32)

    def test_sort_longer_than_shared_memory(self):
        """9 000 spikes a sample do not fit a block's shared memory: the list is sorted in place; so are 60 000 in eight parts."""
        rng = np.random.default_rng(2)
        for dtype in (np.float32, np.float64):
            self.check_sorted(*random_trains(rng, 65, 3001, 3, duration=1.0, grid=0.01, full=True), dtype)
            self.check_sorted(*random_trains(rng, 2, 3001, 20, duration=1.0, grid=0.01, full=True), dtype)

    def test_sort_silent_and_empty(self):
        for n_neurons in (4, 2000):
            times, counts = np.full((3, n_neurons, 2), np.inf), np.zeros((3, n_neurons), np.int32)
            self.check_sorted(times, counts, np.float32)
        self.check_sorted(times[:0], counts[:0], np.float32)

    def test_encode_latency(self):
        """Against a stable argsort; image of many equal pixels, a black one, one larger than a piece of the kernel."""
        rng = np.random.default_rng(3)
        for n_pixels in (1, 9, 784, 5000):
            images = rng.integers(0, 256, (6, n_pixels)).astype(np.uint8)
            images[0], images[1], images[2] = 0, 255, images[2] // 100 * 100
            for dtype in (np.float32, np.float64):
                self.check_encoding(images, np.array([2, 0, 5, 1, 2], np.int32), dtype)

    def check_encoding(self, images, indices, dtype):
        latencies = (0.1 * (1 - np.arange(256) / 255)).astype(dtype)
        events = EventList.allocate(self.xp, len(indices), images.shape[1], 1, dtype)
        events.times[...] = np.nan
        scratch = np.full((len(indices), 257), 77, np.int32) if self.device == "cpu" else None
        ops.encode_latency(self.array(images), self.array(indices), self.array(latencies), events, scratch)
        for b, index in enumerate(indices):
            order = np.argsort(255 - images[index].astype(int), kind="stable")[: (images[index] > 0).sum()]
            n = len(order)
            self.assertEqual(int(events.counts[b]), n)
            np.testing.assert_array_equal(to_numpy(events.neurons)[b, :n], order)
            np.testing.assert_array_equal(to_numpy(events.times)[b, :n], latencies[images[index][order]])

    def test_next_batch(self):
        order, labels = self.array([4, 0, 3, 3, 1, 2], np.int32), self.array([10, 11, 12, 13, 14], np.int32)
        cursor = self.array([0], np.int64)
        for expected in ([4, 0, 3, 3], [1, 2]):
            indices, found = (self.poisoned(len(expected), np.int32) for _ in range(2))
            ops.next_batch(order, cursor, labels, indices, found, np.float32)
            np.testing.assert_array_equal(to_numpy(indices), expected)
            np.testing.assert_array_equal(to_numpy(found), np.array(expected) + 10)
        self.assertEqual(int(cursor[0]), 6)

    def test_gather_spike_trains(self):
        rng = np.random.default_rng(4)
        times, counts = random_trains(rng, 9, 5, 3, 1.0)
        times, indices = times.transpose(0, 2, 1), np.array([8, 0, 0, 3], np.int32)
        out_times, out_counts = self.poisoned((4, 3, 5), np.float64), self.poisoned((4, 5), np.int32)
        ops.gather_spike_trains(self.array(times), self.array(counts), self.array(indices), out_times, out_counts)
        np.testing.assert_array_equal(to_numpy(out_times), times[indices])
        np.testing.assert_array_equal(to_numpy(out_counts), counts[indices])


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
