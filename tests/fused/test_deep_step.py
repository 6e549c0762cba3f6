"""The fused step of networks with several hidden layers (bats/fused/deep_step.py): the checks of tests/fused/test_fused_step.py on
deeper networks, and what is particular to them. The kernels need CUDA."""

import unittest
from unittest import mock

import numpy as np

import bats
from bats import reference
from bats.device import to_numpy
from bats.fused import DeepFusedStep, deep_layout, deep_step
from bats.sources import LatencyImages, SpikeSamples
from bats.step import Step
from tests.devices import Cuda
from tests.fused import test_fused_step
from tests.fused.checks import COUNT, FIRST
from tests.oracle import TOLERANCE, build, difference, time_differences

# Weights that stay out of shared memory, tiles of few events, batches in several parts.
SMALL = {"shared_limit": 31_000, "at_once": 2}
# Lists that are worked on in several rounds, sorted by a kernel of their own and in global memory; no weights in shared memory.
TIGHT = {"UPDATE_CAPACITY": 5, "ROUND_CAPACITY": 6, "GRAIN": 8, "SORT_ROOM": 0, "MOST_COLUMN": 5, "RUNS": (3, 1)}


class Checks(test_fused_step.Checks):
    """The cases of the step with one hidden layer, with a layer more."""

    small = SMALL
    sizes_of_many_events = (20, 35, 9, 4)
    sizes_of_many_outputs = (12, 30, 20, 80)
    # Networks with one hidden layer, whose kernels are others.
    test_spikes_that_the_third_kernel_has_no_room_for = test_trains_longer_than_a_warp = test_a_crowd_of_equal_times = None
    test_more_groups_than_a_warp_holds = test_more_output_spikes_than_a_table_has_room_for = None
    test_a_few_neurons_fire_far_more_often = test_a_candidate_that_does_not_fire_before_one_that_does = None
    test_training_with_copied_weights = None

    def fuse(self, network, loss, source, batch, t_max, optimizer, **options):
        """A fused step without graph that keeps its gradients; every array that it may not read before writing is poisoned."""
        step = Step(network, loss, source, batch, t_max, optimizer, graph=False, fused=True)
        fused = step._fused = DeepFusedStep(network, loss, optimizer, step.source, batch, t_max, keep_gradients=True, **options)
        for train in fused.trains:
            for name in ("factors", "slopes", "errors", "list_q", "other_q"):
                getattr(train, name).fill(np.nan)
            for name in ("counts", "list_places", "list_counts", "other_places"):
                getattr(train, name).fill(2**30)
        for array in (fused.samples, fused.out_counts, fused.labels):
            array.fill(2**30)
        for layer in network.layers[1:]:
            layer.gradient.fill(np.nan)
        return step

    def one_step(self, case, loss, dtype="float64", **options):
        """One step of the whole batch at learning rate 0, and the network."""
        network = build(case.layers, case.times.shape[1], self.device, dtype)
        source = SpikeSamples(case.times, case.counts, case.labels, case.layers[-1].weights.shape[0])
        batch = len(case.labels)
        step = self.fuse(network, loss, source, batch, case.t_max, bats.GradientDescentOptimizer(0), **options)
        step.start(np.arange(batch))
        step.train_next()
        return step, network

    def assert_hidden_spikes(self, fused, layer, case):
        """The spikes of all layers, of the samples that went through the kernels last; the hidden ones' sorted lists."""
        part = (len(case.labels) - 1) // fused.at_once * fused.at_once
        n = len(case.labels) - part
        for layer, train, expected in zip(fused.layers, fused.trains, case.trains, strict=True):
            counts = to_numpy(train.counts)[:n]
            np.testing.assert_array_equal(counts, expected.counts[part:])
            factors = to_numpy(train.factors)[:n].transpose(0, 2, 1)
            used = np.arange(layer.max_n_spike) < counts[:, :, None]
            times = np.where(used, float(layer.neuron.tau) * np.log(np.where(used, factors, 1)), np.inf)
            self.assertLess(time_differences(times, expected.times[part:], layer.tau_s).max(initial=0), TOLERANCE)
            if train is fused.trains[-1]:
                continue
            for s in range(n):
                neurons, slots = np.nonzero(used[s])
                order = np.lexsort((neurons, slots, factors[s][used[s]]))
                np.testing.assert_array_equal(to_numpy(train.list_q)[s, : counts[s].sum()], factors[s][used[s]][order])
                np.testing.assert_array_equal(to_numpy(train.list_places)[s, : counts[s].sum()], (slots << 16 | neurons)[order])

    def test_random_networks(self):
        """Odd sizes, batch 1, many neurons, four hidden layers; lists in shared memory and out of it, batches whole and in parts."""
        for seed, sizes, n_batch in ((0, [5, 7, 6, 3], 3), (1, [9, 41, 37, 4], 1), (2, [20, 33, 35, 11], 5), (3, [3, 1, 1, 1], 2),
                                     (4, [6, 8, 7, 9, 5, 4], 3)):  # fmt: skip
            with self.subTest(sizes=sizes):
                case = self.case(seed, sizes, n_batch)
                self.check(case, options=({}, self.small))
                self.assertTrue(any(spikes.counts.any() for spikes in case.trains))

    def test_lists_in_rounds(self):
        """Every capacity far below what the spikes need."""
        case = self.case(2, [20, 33, 35, 11], 5)
        self.assertGreater(max(spikes.counts.sum(axis=1).max() for spikes in case.trains), 100)
        with mock.patch.multiple(deep_layout, **TIGHT):
            self.check(case)

    def test_more_layers_than_a_launch_takes(self):
        case = self.case(5, [4, *[5] * 9, 3], n_batch=2, max_n_spike=2)
        self.check(case, losses=(COUNT,))

    def test_many_samples(self):
        """More than one tile of pairs of a block, spikes sorted by a kernel of their own, groups of samples per block."""
        self.check(self.case(6, [4, 9, 8, 3], n_batch=150, n_slots=1, max_n_spike=2), losses=(COUNT,), options=({}, {"at_once": 67}))

    def test_images(self):
        """Against the plain step: pixels of equal value, layers wide enough for the kernels of many samples, few samples too."""
        rng = np.random.default_rng(7)
        source = LatencyImages(rng.integers(0, 30, (90, 60)).astype(np.uint8) * 8, rng.integers(0, 5, 90))
        for batch in (3, 90):
            found = []
            for fused in (True, False):
                neuron = {"tau_s": 0.1, "max_n_spike": 6}
                thresholds = (("first", 45, 0.03), ("second", 40, 0.05), ("output", 5, 0.05))
                layers = [bats.LIFLayer(None, n, theta=theta, delta_theta=theta, name=name, **neuron) for name, n, theta in thresholds]
                network = bats.Network([bats.InputLayer(60), *layers], device=self.device, dtype="float64", seed=3)
                step = Step(network, COUNT[0], source, batch, 0.2, bats.GradientDescentOptimizer(0.1), graph=False, fused=fused)
                before = [to_numpy(layer.weights) for layer in layers]
                step.train(np.arange(batch))
                moved = [to_numpy(layer.weights) - old for layer, old in zip(layers, before, strict=True)]
                found.append((network.status(), step.metrics(), step.predictions.tolist(), moved))
            (status, metrics, predictions, moved), (other_status, other_metrics, other_predictions, other_moved) = found
            self.assertEqual((status, predictions), (other_status, other_predictions))
            self.assertAlmostEqual(metrics.pop("loss"), other_metrics.pop("loss"), delta=1e-9)
            self.assertEqual(metrics, other_metrics)
            for one, two in zip(moved, other_moved, strict=True):
                self.assertGreater(np.abs(two).max(), 1e-4)
                self.assertLess(difference(one, two), 1e-8)

    def test_more_samples_than_one_tile_of_the_third_kernel_takes(self):
        case = self.case(4, [6, 19, 7, 3], n_batch=75, n_slots=2, max_n_spike=6)
        self.check(case, options=({"at_once": 75}, {**self.small, "at_once": 75}))

    def test_many_events_per_neuron(self):
        """Sums of fixed point must hold the events of a neuron that fires often."""
        case = self.case(8, [3, 6, 5, 3], n_slots=30)
        self.assertGreater(case.counts.max(), 20)
        self.check(case, losses=(COUNT,))

    def test_time_to_first_spike(self):
        case = self.case(10, [8, 35, 20, 4], max_n_spike=1)
        self.check(case, losses=(FIRST,))
        self.assertEqual(case.trains[1].counts.max(), 1)

    def test_ties(self):
        """Inputs on a coarse grid, twin neurons that spike together: equal times in the hidden layers' lists."""

        def change(times, counts, layers):
            grid = layers[0].tau_s / 2
            for layer in layers[:2]:
                layer.weights[1::2] = layer.weights[: len(layer.weights) // 2 * 2 : 2]
            return np.ceil(times / grid) * grid, counts, layers

        case = self.case(11, [8, 12, 10, 4], change=change)
        for trains in case.trains[:2]:
            np.testing.assert_array_equal(trains.times[:, 0], trains.times[:, 1])
            self.assertTrue(trains.counts[:, 0].any())
        self.check(case)

    def test_silent_neurons_and_empty_samples(self):
        def change(times, counts, layers):
            for layer in layers[:2]:
                layer.weights[:3] = -np.abs(layer.weights[:3])
            times[1], counts[1] = np.inf, 0
            return times, counts, layers

        case = self.case(12, [6, 9, 9, 4], change=change)
        self.assertFalse(any(trains.counts[:, :3].any() or trains.counts[1].any() for trains in case.trains[:2]))
        self.check(case)

    def test_silent_network(self):
        """Silent from the first layer, or from the second on."""
        for place in (0, 1):

            def change(times, counts, layers, place=place):
                layers[place].weights[:] = -1
                return times, counts, layers

            self.check(self.case(13, [6, 6, 7, 4], change=change))

    def test_full_buffers(self):
        def change(times, counts, layers):
            for layer in layers:
                layer.weights, layer.max_n_spike = np.abs(layer.weights), 2
            return times, counts, layers

        case = self.case(14, [8, 34, 33, 4], change=change)
        self.assertTrue(all(trains.overflow.any() for trains in case.trains))
        self.check(case, options=({}, self.small))

    def test_slope_floor_acts_and_is_counted(self):
        """As in the plain step, bit for bit in the counters."""
        case = self.case(15, [8, 9, 8, 4])
        found = []
        for fused in (True, False):
            network = build(case.layers, 8, self.device)
            for layer in network.layers[1:]:
                layer.slope_floor = 10.0
                layer.attach(layer.xp, layer.dtype, np.random.default_rng(0))
            for layer, given in zip(network.layers[1:], case.layers, strict=True):
                layer.weights = given.weights
            source = SpikeSamples(case.times, case.counts, case.labels, 4)
            step = Step(network, COUNT[0], source, 4, case.t_max, bats.GradientDescentOptimizer(1.0), graph=False, fused=fused)
            step.train(np.arange(4))
            found.append((network.status(), [to_numpy(layer.weights) for layer in network.layers[1:]]))
        self.assertEqual(found[0][0], found[1][0])
        self.assertTrue(all(found[0][0][f"layer {k}"]["bounded"] for k in range(3)))
        for one, two in zip(found[0][1], found[1][1], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-11)

    def test_non_finite_weights_are_counted(self):
        case = self.case(16, [6, 40, 5, 4])
        case.layers[0].weights = np.full((40, 6), np.nan)
        _, network = self.one_step(case, COUNT[0])
        self.assertEqual(network.status()["layer 0"]["non_finite"], (case.counts.sum(axis=1) > 0).sum() * 40)

    def test_many_events(self):
        """More events than a block's tile holds: 900 inputs with three spikes."""

        def change(times, counts, layers):
            layers[0].weights = np.random.default_rng(0).normal(0.002, 0.02, layers[0].weights.shape)
            return times, counts, layers

        case = self.case(17, [900, 6, 5, 3], n_batch=2, change=change)
        self.assertGreater(case.counts.sum(axis=1).min(), 800)
        self.assertTrue(case.trains[-1].counts.any())
        self.check(case, losses=(COUNT,))

    def network_case(self):
        return self.case(20, [12, 37, 21, 5], n_batch=23)

    def trained(self, fused, optimizer=bats.AdamOptimizer, loss=COUNT[0], dtype="float64", graph=False, epochs=2, rate=1e-3, at_once=1):
        case = self.network_case()
        network = build(case.layers, 12, self.device, dtype)
        source = SpikeSamples(case.times, case.counts, case.labels, 5)
        step = Step(network, loss, source, 6, case.t_max, optimizer(rate), graph=graph, fused=fused)
        for epoch in range(epochs):
            step.start(np.random.default_rng(epoch).permutation(23))
            while step.train_next(steps=at_once):
                pass
        return step

    def test_training_is_that_of_the_plain_step(self):
        """Eight steps with every optimizer and loss, the last batch of an epoch smaller."""
        before = [layer.weights for layer in self.network_case().layers]
        for optimizer in (bats.GradientDescentOptimizer, bats.AdamOptimizer, bats.NAdamOptimizer):
            loss = FIRST[0] if optimizer is bats.NAdamOptimizer else COUNT[0]
            with self.subTest(optimizer=optimizer.__name__):
                rate = 0.1 if optimizer is bats.GradientDescentOptimizer else 1e-3
                fused, plain = (self.trained(choice, optimizer, loss, rate=rate) for choice in (True, False))
                self.assertEqual((fused.fused, plain.fused), (True, False))
                self.assertIsInstance(fused._fused, DeepFusedStep)
                one, two = fused.metrics(), plain.metrics()
                self.assertAlmostEqual(one.pop("loss"), two.pop("loss"), delta=1e-8)
                self.assertEqual(one, two)
                for first, second, start in zip(fused.network.layers[1:], plain.network.layers[1:], before, strict=True):
                    moved = to_numpy(second.weights) - start
                    self.assertGreater(np.abs(moved).max(), 1e-4)
                    self.assertLess(difference(to_numpy(first.weights) - start, moved), 1e-7)

    def test_events_that_come_before_the_weights(self):
        """The first kernel may prepare its events while the weights of the step before are still being changed; same bits."""
        found = []
        for early in (True, False):
            with mock.patch.object(deep_step, "kernels_begin_early", return_value=early) as asked:
                step = self.trained(True, dtype="float32", at_once=3)
            self.assertTrue(asked.called)  # so some of the steps have followed another one
            found.append([to_numpy(layer.weights).tobytes() for layer in step.network.layers[1:]])
        self.assertEqual(*found)

    def test_float32_within_twice_the_naive_error(self):
        """Of the gradients of all layers, the median over 20 networks."""
        ours, naive = [], []
        for seed in range(60):
            case, exact, rough = _case_for_float32(self, seed)
            if case is None:
                continue
            step, network = self.one_step(case, COUNT[0], "float32")
            if any((to_numpy(t.counts)[:4] != e.counts).any() for t, e in zip(step._fused.trains, exact, strict=True)):
                continue
            _, errors = COUNT[1](exact[-1], case.labels)
            expected, _ = reference.backward_network(errors, case.times, case.counts, case.layers, exact)
            other, _ = reference.backward_network(errors, case.times, case.counts, case.layers, rough)
            ours.append([difference(layer.gradient.T, e) for layer, e in zip(network.layers[1:], expected, strict=True)])
            naive.append([difference(o, e) for o, e in zip(other, expected, strict=True)])
            if len(ours) == 20:
                break
        self.assertEqual(len(ours), 20)
        ours, naive = np.median(ours, axis=0), np.median(naive, axis=0)
        self.assertTrue((ours <= 2 * naive).all(), f"{ours} against {naive}")


def _case_for_float32(test, seed):
    """A network whose float32 version has the same causal order, its trains in float64 and in naive float32; else three None."""
    from tests.oracle import causal_order, rounded, well_conditioned

    case = test.case(100 + seed, [10, 20, 15, 5])
    case.times = rounded(case.times)
    for layer in case.layers:
        layer.weights = rounded(layer.weights)
    exact = reference.forward_network(case.times, case.counts, case.layers, case.t_max)
    rough = reference.forward_network(case.times, case.counts, case.layers, case.t_max, dtype=np.float32, origin="absolute")
    order = causal_order(case.times, [trains.times for trains in exact])
    if not well_conditioned(case.layers, exact) or causal_order(case.times, [trains.times for trains in rough]) != order:
        return None, None, None
    return case, exact, rough


class OnCuda(Checks, Cuda):
    def test_a_captured_step_has_the_same_bits(self):
        plain, captured = self.trained(True, graph=False, epochs=4), self.trained(True, graph=True, epochs=4)
        for one, two in zip(plain.network.layers[1:], captured.network.layers[1:], strict=True):
            self.assertEqual(to_numpy(one.weights).tobytes(), to_numpy(two.weights).tobytes())
        self.assertEqual(plain.metrics(), captured.metrics())


if __name__ == "__main__":
    unittest.main()
