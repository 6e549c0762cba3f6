"""Waves from latencies and from event lists, against a count in plain Python, on poisoned outputs."""

import numpy as np

from bats import ops
from bats.cpu.densify import sort_cells
from bats.device import to_numpy
from tests.devices import Cpu, Cuda


def counted(samples, shape):
    """[B, T, N] of lists of (step, neuron)."""
    waves = np.zeros((len(samples), *shape))
    for b, events in enumerate(samples):
        for step, neuron in events:
            waves[b, step, neuron] += 1
    return waves


class Checks:
    def test_latencies(self):
        rng = np.random.default_rng(self.seed)
        for n, batch, n_steps, n_neurons, dtype in (
            (5, 3, 17, 11, "float32"), (9, 9, 1, 1, "float64"), (4, 1, 255, 300, "float32"), (40, 33, 16, 129, "float64"),
        ):  # fmt: skip
            latencies = rng.integers(0, 256, (n, n_neurons)).astype(np.uint8)  # many from n_steps on, and 255
            latencies[0, 0] = n_steps - 1
            indices = rng.integers(0, n, batch)
            waves = self.poisoned((batch, n_steps, n_neurons), dtype)
            ops.densify_latencies(self.array(latencies), self.array(indices, np.int32), waves)
            samples = [[(t, i) for i, t in enumerate(latencies[row].tolist()) if t < n_steps] for row in indices]
            np.testing.assert_array_equal(to_numpy(waves), counted(samples, (n_steps, n_neurons)))

    def test_events_with_repetitions_and_empty_samples(self):
        rng = np.random.default_rng(self.seed + 1)
        for n, batch, n_steps, n_neurons, most, dtype in (
            (6, 4, 7, 5, 90, "float32"), (3, 1, 1, 1, 9, "float64"), (8, 20, 40, 33, 5000, "float32"),
        ):  # fmt: skip
            samples = [rng.integers(0, (n_steps, n_neurons), (k, 2)).tolist() for k in rng.integers(0, most, n)]
            samples[1] = []
            cells = np.array([t * n_neurons + i for events in samples for t, i in events], np.uint32)
            offsets = np.concatenate(([0], np.cumsum([len(events) for events in samples]))).astype(np.int64)
            fullest = sort_cells(cells, offsets)
            self.assertEqual(fullest, counted(samples, (n_steps, n_neurons)).max())
            indices = rng.integers(0, n, batch)
            waves = self.poisoned((batch, n_steps, n_neurons), dtype)
            ops.densify_events(self.array(cells), self.array(offsets), self.array(indices, np.int32), waves)
            np.testing.assert_array_equal(to_numpy(waves), counted([samples[i] for i in indices], (n_steps, n_neurons)))

    def test_nothing_to_do(self):
        indices, cells = self.array([], np.int32), self.array([], np.uint32)
        ops.densify_latencies(self.array(np.zeros((0, 3), np.uint8)), indices, self.poisoned((0, 4, 3), "float32"))
        ops.densify_events(cells, self.array([0], np.int64), indices, self.poisoned((0, 4, 3), "float32"))
        waves = self.poisoned((2, 3, 2), "float32")
        ops.densify_events(cells, self.array([0, 0], np.int64), self.array([0, 0], np.int32), waves)
        self.assertEqual(to_numpy(waves).tolist(), np.zeros((2, 3, 2)).tolist())

    def test_wrong_arguments(self):
        latencies, indices = self.array(np.zeros((2, 3), np.uint8)), self.array([0, 1], np.int32)
        waves = self.poisoned((2, 4, 3), "float32")
        for message, error, arguments in (
            ("latencies: expected dtype uint8", TypeError, (self.array(np.zeros((2, 3)), np.int32), indices, waves)),
            ("latencies: expected shape", ValueError, (self.array(np.zeros((2, 4), np.uint8)), indices, waves)),
            ("indices: expected shape", ValueError, (latencies, indices[:1], waves)),
            ("waves: expected float32 or float64", TypeError, (latencies, indices, self.poisoned((2, 4, 3), np.int32))),
            ("expected at most 255 steps.*received 256", ValueError, (latencies, indices, self.poisoned((2, 256, 3), "float32"))),
        ):
            with self.assertRaisesRegex(error, message):
                ops.densify_latencies(*arguments)
        with self.assertRaisesRegex(TypeError, "cells: expected dtype uint32"):
            ops.densify_events(indices, self.array([0, 1, 2], np.int64), indices, waves)
        with self.assertRaisesRegex(TypeError, "offsets: expected dtype int64"):
            ops.densify_events(self.array([0, 1], np.uint32), indices, indices, waves)

    seed = 20


class OnCpu(Checks, Cpu):
    pass


class OnCuda(Checks, Cuda):
    pass
