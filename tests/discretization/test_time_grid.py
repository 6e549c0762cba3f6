"""TimeGrid, and the inputs that are rounded to it."""

import unittest

import numpy as np

import bats
from bats.device import to_numpy
from bats.sources import LatencyImages, SpikeSamples
from tests.devices import Cpu, Cuda


class Rounding(unittest.TestCase):
    def test_bins_by_hand(self):
        times = np.array([0.0, 0.4, 0.5, 1.0, 1.2, np.inf]) * 1e-3
        for rounding, bins in (("next", [1, 1, 1, 2, 2]), ("ceil", [0, 1, 1, 1, 2]), ("nearest", [0, 0, 1, 1, 1])):
            found = bats.TimeGrid(1e-3, rounding).bins(times)
            np.testing.assert_array_equal(found[:-1], bins, rounding)
            self.assertEqual(found[-1], np.inf)

    def test_multiples_stay_where_they_are(self):
        """n dt is a multiple of dt for every n, whatever the last bit of n * dt or of a float32 says."""
        for dt in (1e-4, 3e-4, 7e-3, 0.1 / 255):
            for dtype in (np.float32, np.float64):
                bins = np.arange(2000)
                times = (bins.astype(dtype) * dtype(dt)).astype(dtype)
                for rounding, shift in (("next", 1), ("ceil", 0), ("nearest", 0)):
                    np.testing.assert_array_equal(bats.TimeGrid(dt, rounding).bins(times), bins + shift)

    def test_last_bin(self):
        self.assertEqual([bats.TimeGrid(dt).last_bin(0.2) for dt in (0.008, 0.007, 0.1, 0.3)], [25, 28, 2, 0])
        self.assertGreater(bats.TimeGrid(1e-3).last_bin(np.inf), 10**8)

    def test_errors_say_what_came(self):
        for arguments, error, message in (
            ((-1.0,), ValueError, "received -1.0"), ((np.nan,), ValueError, "received nan"), (("1",), TypeError, "received '1'"),
            ((1.0, "up"), ValueError, "received 'up'"), ((1.0, "next", "dirty"), ValueError, "received 'dirty'"),
        ):  # fmt: skip
            with self.assertRaisesRegex(error, message):
                bats.TimeGrid(*arguments)
        with self.assertRaisesRegex(TypeError, "received 0.1"):
            bats.LIFLayer(None, 1, 1.0, 1.0, 1.0, grid=0.1)
        with self.assertRaisesRegex(ValueError, "received 70 s"):
            bats.LIFLayer(None, 1, 1.0, 1.0, 1.0, grid=bats.TimeGrid(70.0))


class Inputs:
    def test_images(self):
        """Times on the grid, sorted by time, then neuron; pixels of value 0 stay silent."""
        images = np.random.default_rng(0).integers(0, 256, (3, 41)).astype(np.uint8)
        images[:, ::5] = 0
        for rounding in ("next", "ceil", "nearest"):
            grid = bats.TimeGrid(0.007, rounding)
            source = LatencyImages(images, np.zeros(3, int), 0.1, grid=grid).subset([2, 0, 1]).to(self.device, "float64")
            place = source.allocate(3)
            order, cursor = self.array(np.arange(3), np.int32), self.array([0], np.int64)
            events, _ = source.load(order, cursor, 3, place)
            expected = grid.discretize(0.1 * (1 - np.arange(256) / 255))
            for b, image in enumerate(images[[2, 0, 1]]):
                neurons = np.flatnonzero(image)
                times = expected[image[neurons]]
                by_time = np.lexsort((neurons, times))
                n = int(to_numpy(events.counts)[b])
                np.testing.assert_array_equal(to_numpy(events.neurons)[b, :n], neurons[by_time])
                np.testing.assert_array_equal(to_numpy(events.times)[b, :n], times[by_time])

    def test_given_trains(self):
        times = np.array([[[0.001, 0.0014], [0.0101, np.inf]]], dtype=np.float32)
        grid = bats.TimeGrid(0.002)
        expected = np.array([[[0.002, 0.002], [0.012, np.inf]]], dtype=np.float32)
        network = bats.Network([bats.InputLayer(2, grid=grid), bats.LIFLayer(None, 1, 1.0, 1.0, 1.0)], device=self.device)
        network.forward(times, np.array([[2, 1]]))
        np.testing.assert_allclose(to_numpy(network.layers[0].spike_trains[0]), expected, rtol=1e-7)
        source = SpikeSamples(times, np.array([[2, 1]]), [0], grid=grid).to(self.device, "float32")
        np.testing.assert_allclose(to_numpy(source.times).transpose(0, 2, 1), expected, rtol=1e-7)


class InputsOnCpu(Inputs, Cpu):
    pass


class InputsOnCuda(Inputs, Cuda):
    pass
