"""Operations that do several in one launch, bit by bit against those they take the place of (CUDA only)."""

import importlib
import itertools
import unittest
from unittest import mock

import numpy as np

import bats
from bats import ops
from bats.device import to_numpy
from bats.ops.conv_geometry import convolve, pool
from bats.ops.neuron import Neuron
from bats.spikes import EventList
from tests.devices import Cuda
from tests.ops.cases import listed, make_events, random_trains

sorting = importlib.import_module("bats.ops.sort_events")  # bats.ops has the function under this name


class FastOperations(Cuda):
    def assert_equal_lists(self, found, expected):
        counts = to_numpy(expected.counts)
        np.testing.assert_array_equal(to_numpy(found.counts), counts)
        for name in ("times", "neurons", "positions"):
            a, b = to_numpy(getattr(found, name)), to_numpy(getattr(expected, name))
            for row, other, n in zip(a, b, counts, strict=True):
                np.testing.assert_array_equal(row[:n], other[:n], name)

    def general_sort(self, times, counts, events):
        """The bitonic network of sort_events.cu."""
        with mock.patch.object(sorting, "fits_buckets", lambda capacity, dtype: False):
            ops.sort_events(times, counts, events, ops.sort_scratch(events))

    def test_bucket_sort(self):
        """Ties, one spike per neuron, crowded buckets, empty samples; with pooling that leaves neurons out, places for a convolution."""
        rng = np.random.default_rng(0)
        shape = (9, 7, 11)
        n = int(np.prod(shape))
        for dtype in (np.float32, np.float64):
            for n_slots, grid, crowd in ((1, None, False), (3, None, False), (3, 0.01, False), (2, 0.25, False), (2, None, True)):
                with self.subTest(dtype=dtype.__name__, n_slots=n_slots, grid=grid, crowd=crowd):
                    times, counts = random_trains(rng, 4, n, n_slots, 1.0, grid)
                    counts[1], times[1] = 0, np.inf
                    if crowd:
                        times[:, 5:] = 0.5 + 1e-6 * times[:, 5:]
                    trains, numbers = self.array(times.transpose(0, 2, 1), dtype), self.array(counts, np.int32)
                    lists = [EventList.allocate(self.xp, 4, n, n_slots, dtype) for _ in range(2)]
                    ops.bucket_sort(trains, numbers, None, lists[0])
                    self.general_sort(trains, numbers, lists[1])
                    self.assert_equal_lists(*lists)
                    self.assertGreater(int(lists[0].counts.sum()), 1000)
                    geometry = pool(shape, (2, 3))
                    pooled = [EventList.allocate(self.xp, 4, geometry.n_post, n_slots * 6, dtype) for _ in range(2)]
                    behind = convolve(geometry.post_shape, (2, 2, 3), 1, 1)
                    neuron = Neuron.make(0.5, 0.1, 0.1, dtype)
                    capacity = pooled[0].times.shape[1]
                    fields = [ops.allocate_fields(self.xp, 4, behind, capacity, np.dtype(dtype), with_masks=True) for _ in range(2)]
                    for one in fields:
                        one.masks.fill(0xAAAAAAAA)
                    ops.bucket_sort(trains, numbers, geometry, pooled[0], (behind, neuron, fields[0]))
                    ops.pool_events(lists[1], geometry, pooled[1])
                    self.assert_equal_lists(*pooled)
                    self.check_places(fields, behind, neuron, pooled[1], np.dtype(dtype))

    def test_bucket_sort_from_a_list(self):
        """The bits that it makes from trains, whatever the order of the list; the trains are not looked at, and the list is empty then."""
        shape = (9, 7, 11)
        cases = ((1, None, False), (3, 0.25, False), (2, None, True), (8, 0.01, False))  # the last: more spikes than one round of loads
        pools = (None, pool(shape, (3, 7)), pool(shape, (2, 3)))  # the last leaves neurons out
        for dtype in (np.float32, np.float64):
            for (n_slots, grid, crowd), geometry in itertools.product(cases, pools):
                with self.subTest(dtype=dtype.__name__, n_slots=n_slots, grid=grid, crowd=crowd, geometry=geometry):
                    self.check_list(np.dtype(dtype), shape, n_slots, grid, crowd, geometry)

    def check_list(self, dtype, shape, n_slots, grid, crowd, geometry, batch=4):
        rng, n = np.random.default_rng(4), int(np.prod(shape))
        times, counts = random_trains(rng, batch, n, n_slots, 1.0, grid, full=n_slots == 8)
        counts[1], times[1] = 0, np.inf
        counts[3, 1:], times[3, 1:] = 0, np.inf
        if crowd:
            times[:, 5:] = 0.5 + 1e-6 * times[:, 5:]
        trains, numbers = self.array(times.transpose(0, 2, 1), dtype), self.array(counts, np.int32)
        spikes = ops.SpikeList.allocate(self.xp, batch + 2, n * n_slots, dtype)
        spikes.times.fill(np.nan)
        spikes.ranks.fill(-(2**31))
        for b, (own_times, ranks) in enumerate(listed(trains, numbers)):
            order = rng.permutation(len(ranks))
            spikes.times[b, : len(ranks)], spikes.ranks[b, : len(ranks)] = self.array(own_times[order]), self.array(ranks[order], np.int32)
            spikes.counts[b] = len(ranks)
        spikes.filled = True
        poisoned = self.poisoned(trains.shape, dtype), self.poisoned(numbers.shape, np.int32)
        n_out, slots = (n, n_slots) if geometry is None else (geometry.n_post, n_slots * geometry.window_x * geometry.window_y)
        grid_out = shape if geometry is None else geometry.post_shape
        behind, neuron = convolve(grid_out, (2, 1, 3), 1, 1), Neuron.make(0.5, 0.1, 0.1, dtype)
        found = []
        for source, taken in ((poisoned, spikes), ((trains, numbers), spikes), ((trains, numbers), None)):  # the second time it is empty
            events = EventList.allocate(self.xp, batch, n_out, slots, dtype)
            fields = ops.allocate_fields(self.xp, batch, behind, events.times.shape[1], dtype, with_masks=True)
            fields.masks.fill(0xAAAAAAAA)
            ops.bucket_sort(*source, geometry, events, (behind, neuron, fields), taken)
            found.append((events, fields))
            np.testing.assert_array_equal(to_numpy(spikes.counts), 0)
            self.assertFalse(spikes.filled)
        expected, expected_fields = found.pop()
        self.assertGreater(int(expected.counts.sum()), 300)
        for events, fields in found:
            self.assert_equal_lists(events, expected)
            np.testing.assert_array_equal(to_numpy(fields.masks), to_numpy(expected_fields.masks))
            for name, (b, length) in itertools.product(("factors", "places"), enumerate(to_numpy(expected.counts))):
                rows = (to_numpy(getattr(one, name))[b, :length] for one in (fields, expected_fields))
                np.testing.assert_array_equal(*rows, name)

    def check_places(self, fields, geometry, neuron, events, dtype):
        """factors, places and masks as conv_forward makes them itself."""
        n = events.batch
        trains = [self.xp.zeros((n, 1, geometry.n_post), dtype=dtype) for _ in range(2)]
        weights, counts = self.xp.zeros(geometry.weight_shape, dtype=dtype), self.xp.zeros((n, geometry.n_post), dtype=np.int32)
        ops.conv_forward(events, weights, geometry, neuron, 2.0, trains[0], counts, trains[1], self.status(n), fields[1])
        for b, n in enumerate(to_numpy(events.counts)):
            for name in ("factors", "places"):
                np.testing.assert_array_equal(to_numpy(getattr(fields[0], name))[b, :n], to_numpy(getattr(fields[1], name))[b, :n], name)
            if fields[0].masks is not None:
                self.check_masks(to_numpy(fields[0].masks)[b], geometry, to_numpy(events.neurons)[b, :n])
                np.testing.assert_array_equal(*(to_numpy(one.masks)[b, : (n + 31) // 32] for one in fields))

    def test_masks_of_many_positions(self):
        """More than the 32 that one word holds, and just as many; strides, padding, filters that overlap and that leave gaps."""
        rng = np.random.default_rng(3)
        for shape, filters, strides, paddings in (
            ((60, 50, 2), (5, 3, 1), (1, 2), (2, 1)), ((20, 18, 3), (5, 3, 1), 1, 0), ((70, 9, 1), (2, 2, 1), (3, 1), 0),
        ):  # fmt: skip
            with self.subTest(shape=shape):
                geometry = convolve(shape, filters, strides, paddings)
                events = make_events(self, *random_trains(rng, 2, geometry.n_pre, 1, 1.0), np.float32)
                fields = ops.allocate_fields(self.xp, 2, geometry, events.times.shape[1], np.dtype(np.float32), with_masks=True)
                fields.masks.fill(0xAAAAAAAA)
                trains = [self.xp.zeros((2, 1, geometry.n_post), dtype=np.float32) for _ in range(2)]
                weights = self.xp.zeros(geometry.weight_shape, dtype=np.float32)
                counts = self.xp.zeros((2, geometry.n_post), dtype=np.int32)
                neuron = Neuron.make(0.5, 0.1, 0.1, np.float32)
                ops.conv_forward(
                    events, weights, geometry, neuron, 2.0, trains[0], counts, trains[1], self.status(2), fields, variant="events"
                )
                for b, n in enumerate(to_numpy(events.counts)):
                    self.check_masks(to_numpy(fields.masks)[b], geometry, to_numpy(events.neurons)[b, :n])

    def check_masks(self, masks, geometry, neurons):
        """Bit by bit, from the definition of the convolution."""
        x, y, _ = np.unravel_index(neurons, (geometry.pre_x, geometry.pre_y, geometry.pre_c))
        for place, n_filter, stride, padding, first, n_post in (
            (x, geometry.filter_x, geometry.stride_x, geometry.padding_x, 0, geometry.post_x),
            (y, geometry.filter_y, geometry.stride_y, geometry.padding_y, geometry.post_x, geometry.post_y),
        ):
            for p in range(n_post):
                sees = (place + padding >= p * stride) & (place + padding < p * stride + n_filter)
                bits = np.zeros(-(-len(sees) // 32) * 32, bool)
                bits[: len(sees)] = sees
                words = np.packbits(bits, bitorder="little").view(np.uint32)
                np.testing.assert_array_equal(masks[: len(words), first + p], words)

    def test_encode_next(self):
        """Images of one value, of two, of all, small and large: events, labels, cursor as on the CPU, twice; places for a convolution."""
        rng = np.random.default_rng(1)
        for shape in ((1, 1, 1), (5, 1, 1), (28, 28, 1), (64, 64, 1), (50, 50, 2)):
            size = int(np.prod(shape))
            images = rng.integers(0, 256, (8, size)).astype(np.uint8)
            images[0], images[1] = 255, np.where(rng.random(size) < 0.5, 7, 255)
            images[2] = 0
            geometry, neuron = convolve(shape, (1, 1, 2), 1, 1), Neuron.make(0.5, 0.1, 0.1, np.float32)
            fields = [ops.allocate_fields(self.xp, 5, geometry, size, np.dtype(np.float32)) for _ in range(2)]
            found = []
            for device in ("cuda", "cpu"):
                source = bats.sources.LatencyImages(images, np.arange(8)).to(device, np.float32)
                place, xp = source.allocate(5), source.xp
                if device == "cuda":
                    place.prepare = lambda events, f=fields[0], g=geometry, n=neuron: (g, n, f)
                order, cursor = xp.asarray([9, 9, 3, 0, 1, 2, 7, 4, 5, 6, 1, 0], dtype=np.int32), xp.full(1, 2, dtype=np.int64)
                for _ in range(2):
                    events, labels = source.load(order, cursor, 5, place)
                    found.append((events, to_numpy(labels).copy(), int(cursor[0])))
                    if device == "cuda":
                        found[-1] = (EventList(*(array.copy() for array in (events.times, events.neurons, events.positions, events.counts)),
                                               size, 1), *found[-1][1:])  # fmt: skip
                        self.check_places(fields, geometry, neuron, events, np.dtype(np.float32))
                    else:
                        self.assert_equal_lists(found[len(found) - 3][0], events)
            for ours, cpu in zip(found[:2], found[2:], strict=True):
                np.testing.assert_array_equal(ours[1], cpu[1])
                self.assertEqual(ours[2], cpu[2])

    def test_adam_step(self):
        """The bits of tick and adam, for arrays of several sizes, over some steps."""
        rng = np.random.default_rng(2)
        for dtype in (np.float32, np.float64):
            for kind in (bats.AdamOptimizer, bats.NAdamOptimizer):
                optimizers = kind(0.01), kind(0.01)
                shapes = ((3, 5), (700, 3), (1, 1))
                weights = [[self.array(w, dtype) for w in (np.ones(shape) for shape in shapes)] for _ in range(2)]
                for _ in range(4):
                    gradients = [self.array(rng.normal(size=shape), dtype) for shape in shapes]
                    optimizers[0].update([None, *weights[0]], [None, *gradients])
                    with mock.patch.object(kind, "_at_once", lambda *_: False):
                        optimizers[1].update([None, *weights[1]], [None, *gradients])
                    for a, b in zip(*weights, strict=True):
                        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
                for name, value in optimizers[0].state().items():
                    np.testing.assert_array_equal(value, optimizers[1].state()[name], name)
                self.assertEqual(float(optimizers[0].state()["steps"]), 4)

    def test_adam_step_of_gradients_that_are_to_be_added_up(self):
        """The bits of add_partial and a step after it, for few sums and for so many that threads share them; the gradients are left."""
        rng = np.random.default_rng(4)
        shapes, sums = ((3, 5), (700, 3), (9, 40), (1, 1)), (1, 16, 41, 0)  # 0: already made
        for dtype in (np.float32, np.float64):
            optimizers = bats.AdamOptimizer(0.01), bats.AdamOptimizer(0.01)
            weights = [[self.array(w, dtype) for w in (np.ones(shape) for shape in shapes)] for _ in range(2)]
            for _ in range(3):
                made = [rng.normal(size=shape) for shape in shapes]
                partials = [self.array(rng.normal(size=(n, *shape)), dtype) for n, shape in zip(sums, shapes, strict=True)]
                gradients = [[self.poisoned(shape, dtype) for shape in shapes] for _ in range(2)]
                for own in gradients:
                    own[3][...] = self.array(made[3], dtype)
                pending = [[(partials[k], sums[k], own[k]) for k in range(3)] for own in gradients]
                ops.add_partial(pending[0])
                optimizers[0].update(weights[0], gradients[0])
                optimizers[1].update(weights[1], gradients[1], pending[1])
                for a, b in zip(weights[0] + gradients[0], weights[1] + gradients[1], strict=True):
                    np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
        with self.assertRaisesRegex(ValueError, "pending: expected gradients of the parameters"):
            optimizers[1].update(weights[1], gradients[1], [(partials[0], 1, self.poisoned(shapes[0], dtype))])

    def test_adam_steps_one_after_the_other(self):
        """Nothing between them: a step begins when the one before has ended, for it reads what that one writes."""
        rng = np.random.default_rng(5)
        gradient = self.array(rng.normal(size=(900, 700)), np.float32)
        optimizers = bats.AdamOptimizer(0.01), bats.AdamOptimizer(0.01)
        weights = [self.array(np.ones(gradient.shape), np.float32) for _ in optimizers]
        with mock.patch.object(importlib.import_module("bats.ops.optimizers"), "run", side_effect=AssertionError("it may begin early")):
            for _ in range(30):
                optimizers[0].update([weights[0]], [gradient])
        with mock.patch.object(bats.AdamOptimizer, "_at_once", lambda *_: False):
            for _ in range(30):
                optimizers[1].update([weights[1]], [gradient])
        np.testing.assert_array_equal(to_numpy(weights[0]), to_numpy(weights[1]))

    def test_spike_count_class_step(self):
        """Loss, errors, predictions and totals of the three operations, with ties and silent samples."""
        rng = np.random.default_rng(3)
        for dtype in (np.float32, np.float64):
            for batch, n_neurons, n_slots in ((1, 1, 1), (40, 10, 4), (7, 45, 3)):
                times, counts = random_trains(rng, batch, n_neurons, n_slots, 1.0, 0.25)
                counts[0], times[0] = 0, np.inf
                trains, counts = self.array(times.transpose(0, 2, 1), dtype), self.array(counts, np.int32)
                labels = self.array(rng.integers(0, n_neurons, batch), np.int32)
                loss, ticket, runs = bats.SpikeCountClassLoss(3, 1), self.xp.zeros(1, dtype=np.uint32), []
                for step in (loss.step, super(bats.SpikeCountClassLoss, loss).step):
                    values, errors = self.poisoned((batch,), dtype), self.poisoned(trains.shape, dtype)
                    predictions, totals = self.poisoned((batch,), np.int32), self.xp.zeros(4)
                    for _ in range(2):
                        step(trains, counts, labels, values, errors, predictions, totals, ticket)
                    runs.append([to_numpy(array) for array in (values, errors, predictions, totals, ticket)])
                for a, b in zip(*runs, strict=True):
                    np.testing.assert_array_equal(a, b)


if __name__ == "__main__":
    unittest.main()
