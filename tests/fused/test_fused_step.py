"""The fused step (bats/fused) against bats.reference and against the plain step: spikes, losses, gradients, training, status.

The kernels need CUDA. float64: the same mathematics in another order, so they agree to 1e-9 as long as no spike grazes the
threshold (tests/test_networks_against_oracle.py says why). float32: at most twice the error of a naive float32 version.
"""

import unittest
from unittest import mock

import numpy as np

import bats
from bats import reference
from bats.device import to_numpy
from bats.fused import layout
from bats.sources import LatencyImages, SpikeSamples
from bats.step import Step
from tests.devices import Cuda
from tests.fused.checks import COUNT, FIRST, SMALL, Steps, fuse
from tests.oracle import build, causal_order, difference, rounded, well_conditioned


class Checks(Steps):
    small = SMALL
    sizes_of_many_events = (20, 35, 4)
    sizes_of_many_outputs = (12, 30, 80)

    # ------------------------------------------------------------------------------------------------------------------
    def test_random_networks(self):
        """Odd sizes, batch 1, many neurons; lists in shared memory and out of it, batches whole and in parts."""
        for seed, sizes, n_batch in ((0, [5, 7, 3], 3), (1, [9, 41, 4], 1), (2, [30, 70, 11], 5), (3, [3, 1, 1], 2)):
            with self.subTest(sizes=sizes):
                case = self.case(seed, sizes, n_batch)
                self.check(case, options=({}, SMALL))
                self.assertTrue(any(spikes.counts.any() for spikes in case.trains))

    def test_more_samples_than_one_tile_of_the_third_kernel_takes(self):
        """256 threads, as SMALL makes it; 75 samples in one tile, in three, and in 75."""
        case = self.case(4, [6, 19, 3], n_batch=75, n_slots=2, max_n_spike=6)
        for tile in (layout.TILE, 32, 1):
            with mock.patch.object(layout, "TILE", tile):
                self.assertEqual(layout.choose(75, (6, 19, 3), 6, 6, 8, self.small["shared_limit"]).update_tile, min(75, tile))
                self.check(case, losses=(COUNT,), options=({"shared_limit": self.small["shared_limit"], "at_once": 75},))

    def test_spikes_that_the_third_kernel_has_no_room_for(self):
        """Its list takes 64 entries, so that some samples' gains lie in it and others' do not; each of its warps takes several samples."""
        case = self.case(5, [6, 24, 3], n_batch=70, n_slots=2, max_n_spike=6)
        spikes = case.trains[0].counts.reshape(70, 3, 8).sum(axis=(0, 2))
        self.assertTrue((spikes > 64).any())
        with mock.patch.object(layout, "ENTRIES_PER_PAIR", 0):
            self.assertEqual(layout.choose(70, (6, 24, 3), 6, 6, 8).update_capacity, 64)
            self.check(case, losses=(COUNT,), options=({"at_once": 70}, {"shared_limit": self.small["shared_limit"], "at_once": 70}))

    def test_trains_longer_than_a_warp(self):
        """The resets of a neuron with more than 32 spikes go from one group of lanes to the next."""

        def change(times, counts, layers):
            layers[0].weights, layers[0].max_n_spike = np.abs(layers[0].weights) * 4, 70
            return times, counts, layers

        case = self.case(6, [6, 9, 3], n_slots=12, max_n_spike=70, change=change)
        self.assertGreater(case.trains[0].counts.max(), 40)
        self.check(case, losses=(COUNT,), options=({}, SMALL))

    def test_a_few_neurons_fire_far_more_often(self):
        """The first kernel looks at them one by one where no other neuron of the warp fires twice; their slots suffice, or do not."""
        for n_busy, max_n_spike in ((1, 60), (2, 60), (3, 60), (2, 3)):

            def change(times, counts, layers, n_busy=n_busy, max_n_spike=max_n_spike):
                busy = np.arange(n_busy) * 11 + 2
                strong = np.abs(layers[0].weights[busy]) * 3
                layers[0].weights, layers[0].max_n_spike = layers[0].weights * 0.1, max_n_spike
                layers[0].weights[busy] = strong
                return times, counts, layers

            with self.subTest(n_busy=n_busy, max_n_spike=max_n_spike):
                case = self.case(30 + n_busy, [6, 35, 3], n_slots=12, max_n_spike=max_n_spike, change=change)
                spikes = np.sort(case.trains[0].counts.sum(axis=0))[::-1]
                if max_n_spike == 60:
                    self.assertGreater(spikes[n_busy - 1], 2 * spikes[n_busy])
                else:
                    self.assertTrue(case.trains[0].overflow.any())
                self.check(case, losses=(COUNT,), options=({}, self.small))

    def test_a_candidate_that_does_not_fire_before_one_that_does(self):
        """Among the events that go through together, for a neuron that is alone in its warp."""
        for seed in range(40, 52):
            with self.subTest(seed=seed):
                self.check(self.case(seed, [9, 1, 2], n_slots=6, max_n_spike=12), losses=(COUNT,))

    def test_more_groups_than_a_warp_holds(self):
        """The sort keeps two groups of 32 hidden neurons per warp in registers; 256 threads have 8 warps."""
        case = self.case(5, [4, 530, 2], n_batch=2, max_n_spike=4)
        self.assertGreater(case.trains[0].counts[:, 512:].sum(), 0)
        self.check(case, losses=(COUNT,), options=({"shared_limit": self.small["shared_limit"] * 3 // 2},))

    def test_more_output_spikes_than_a_table_has_room_for(self):
        case = self.case(6, [8, 12, 30], n_batch=3, max_n_spike=6)
        limit = 22_000
        shape = layout.choose(3, (8, 12, 30), 6, 6, 8, limit)
        self.assertGreater(case.trains[1].counts.sum(axis=1).min() * 2 * 30, shape.scratch)
        self.check(case, losses=(COUNT,), options=({"shared_limit": limit},))

    def test_many_events_per_neuron(self):
        """Sums of fixed point must hold the events of a neuron that fires often."""
        case = self.case(9, [3, 6, 3], n_slots=30)
        self.assertGreater(case.counts.max(), 20)
        self.check(case, losses=(COUNT,))

    def test_more_events_than_a_tile_of_the_first_kernel_holds(self):
        """256 events are prepared together; samples with fewer, and with two and three tiles, the last one nearly empty or full."""

        def change(times, counts, layers):
            for sample, wanted in enumerate((300, 256, 257, 512, 528, 40)):
                per_neuron = np.full(20, wanted // 20)
                per_neuron[: wanted % 20] += 1
                rng = np.random.default_rng(sample)
                for j, n in enumerate(per_neuron):
                    times[sample, j] = np.inf
                    times[sample, j, :n] = np.sort(rng.uniform(0, 0.15, n))
                counts[sample] = per_neuron
            return times, counts, layers

        case = self.case(17, self.sizes_of_many_events, n_batch=6, n_slots=30, max_n_spike=20, change=change)
        self.assertGreater(case.trains[0].counts.sum(axis=1).min(), 0)
        self.check(case, losses=(COUNT,), options=({}, self.small))

    def test_time_to_first_spike(self):
        case = self.case(10, [8, 35, 4], max_n_spike=1)
        self.check(case, losses=(FIRST,))
        self.assertEqual(case.trains[0].counts.max(), 1)

    def test_ties(self):
        """Inputs on a coarse grid, twin neurons that spike together: equal times in the hidden layer's list."""

        def change(times, counts, layers):
            grid = layers[0].tau_s / 2
            layers[0].weights[1::2] = layers[0].weights[: len(layers[0].weights) // 2 * 2 : 2]
            return np.ceil(times / grid) * grid, counts, layers

        case = self.case(11, [8, 12, 4], change=change)
        np.testing.assert_array_equal(case.trains[0].times[:, 0], case.trains[0].times[:, 1])
        self.assertTrue(case.trains[0].counts[:, 0].any())
        self.check(case)

    def test_a_crowd_of_equal_times(self):
        """300 hidden neurons that spike together: too many in one bucket of the sort to compare each with each."""

        def change(times, counts, layers):
            layers[0].weights[:] = layers[0].weights[0]
            layers[1].weights /= 30
            return times, counts, layers

        case = self.case(17, [6, 300, 3], n_batch=2, max_n_spike=3, change=change)
        self.assertGreater(case.trains[0].counts.sum(), 300)
        self.check(case, losses=(COUNT,), options=({}, {"shared_limit": 24_000}))

    def test_silent_neurons_and_empty_samples(self):
        def change(times, counts, layers):
            layers[0].weights[:3] = -np.abs(layers[0].weights[:3])
            times[1], counts[1] = np.inf, 0
            return times, counts, layers

        case = self.case(12, [6, 9, 4], change=change)
        self.assertFalse(case.trains[0].counts[:, :3].any() or case.trains[0].counts[1].any())
        self.check(case)

    def test_silent_network(self):
        def change(times, counts, layers):
            layers[0].weights[:] = -1
            return times, counts, layers

        self.check(self.case(13, [6, 6, 4], change=change))

    def test_full_buffers(self):
        def change(times, counts, layers):
            for layer in layers:
                layer.weights, layer.max_n_spike = np.abs(layer.weights), 2
            return times, counts, layers

        case = self.case(14, [8, 34, 4], change=change)
        self.assertTrue(case.trains[0].overflow.any() and case.trains[1].overflow.any())
        self.check(case, options=({}, SMALL))

    def test_slope_floor_acts_and_is_counted(self):
        """As in the plain step, bit for bit in the counters."""
        case = self.case(15, [8, 9, 4])
        found = []
        for fused in (True, False):
            network = build(case.layers, 8, self.device)
            for layer in network.layers[1:]:
                layer.slope_floor = 3.0
                layer.attach(layer.xp, layer.dtype, np.random.default_rng(0))
            for layer, given in zip(network.layers[1:], case.layers, strict=True):
                layer.weights = given.weights
            source = SpikeSamples(case.times, case.counts, case.labels, 4)
            step = Step(network, COUNT[0], source, 4, case.t_max, bats.GradientDescentOptimizer(1.0), graph=False, fused=fused)
            step.train(np.arange(4))
            found.append((network.status(), [to_numpy(layer.weights) for layer in network.layers[1:]]))
        self.assertEqual(found[0][0], found[1][0])
        self.assertGreater(found[0][0]["layer 0"]["bounded"], 0)
        for one, two in zip(found[0][1], found[1][1], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-11)

    def test_non_finite_weights_are_counted(self):
        case = self.case(16, [6, 40, 4])
        case.layers[0].weights = np.full((40, 6), np.nan)
        _, network = self.one_step(case, COUNT[0])
        self.assertEqual(network.status()["layer 0"]["non_finite"], (case.counts.sum(axis=1) > 0).sum() * 40)

    # ------------------------------------------------------------------------------------------------------------------

    def test_read_out_of_many_outputs(self):
        """More outputs than a warp has lanes, one spike at most: of equal counts the earliest spike wins."""
        case = self.case(40, list(self.sizes_of_many_outputs), n_batch=6, max_n_spike=1)
        self.assertTrue((case.trains[-1].times[:, :, 0].argmin(axis=1) >= 32).any())
        self.check(case)

    def test_training_is_that_of_the_plain_step(self):
        """Eight steps with every optimizer and loss, the last batch of an epoch smaller."""
        before = [layer.weights for layer in self.case(20, [12, 37, 5], n_batch=23).layers]
        for optimizer in (bats.GradientDescentOptimizer, bats.AdamOptimizer, bats.NAdamOptimizer):
            loss = FIRST[0] if optimizer is bats.NAdamOptimizer else COUNT[0]
            with self.subTest(optimizer=optimizer.__name__):
                fused, plain = (self.trained(choice, optimizer, loss) for choice in (True, False))
                self.assertEqual((fused.fused, plain.fused), (True, False))
                one, two = fused.metrics(), plain.metrics()
                self.assertAlmostEqual(one.pop("loss"), two.pop("loss"), delta=1e-8)
                self.assertEqual(one, two)
                for first, second, start in zip(fused.network.layers[1:], plain.network.layers[1:], before, strict=True):
                    moved = to_numpy(second.weights) - start
                    self.assertGreater(np.abs(moved).max(), 1e-4)
                    self.assertLess(difference(to_numpy(first.weights) - start, moved), 1e-7)

    def test_training_with_copied_weights(self):
        """Whole blocks of neurons, whose weights and moments are copied to shared memory, in two boxes where boxes can be copied."""
        fused, plain = (self.trained(choice, sizes=(300, 64, 5)) for choice in (True, False))
        for first, second in zip(fused.network.layers[1:], plain.network.layers[1:], strict=True):
            self.assertLess(difference(to_numpy(first.weights), to_numpy(second.weights)), 1e-9)

    def test_a_larger_network_trains_as_the_plain_step(self):
        """Several warps work on the second weights and several tiles of samples on the first; three steps of Adam."""
        rng = np.random.default_rng(30)
        images = rng.integers(0, 256, (90, 8, 9)).astype(np.uint8)
        images[rng.random(images.shape) < 0.4] = 0
        source = LatencyImages(images, rng.integers(0, 10, 90))
        found = []
        for fused in (True, False):
            neuron = {"tau_s": 0.13, "max_n_spike": 9}
            layers = [bats.InputLayer(72), bats.LIFLayer(None, 300, theta=0.05, delta_theta=0.05, **neuron)]
            layers.append(bats.LIFLayer(None, 10, theta=0.3, delta_theta=0.3, **neuron))
            network = bats.Network(layers, device=self.device, dtype="float64", seed=3)
            before = [to_numpy(layer.weights).copy() for layer in network.layers[1:]]
            loss, optimizer = bats.SpikeCountClassLoss(7, 1), bats.AdamOptimizer(1e-3)
            arguments = (network, loss, source, 30, 0.2, optimizer)
            step = fuse(*arguments) if fused else Step(*arguments, graph=False)
            step.start(np.arange(90))
            step.train_next(steps=3)
            metrics = step.metrics()
            found.append((metrics, [to_numpy(layer.weights) - old for layer, old in zip(network.layers[1:], before, strict=True)]))
        self.assertAlmostEqual(found[0][0].pop("loss"), found[1][0].pop("loss"), delta=1e-8)
        self.assertEqual(found[0][0], found[1][0])
        for one, two in zip(found[0][1], found[1][1], strict=True):
            self.assertGreater(np.abs(two).max(), 1e-3)
            self.assertLess(difference(one, two), 1e-6)

    def test_same_bits_every_time(self):
        first, again = self.trained(True, dtype="float32"), self.trained(True, dtype="float32")
        for one, two in zip(first.network.layers[1:], again.network.layers[1:], strict=True):
            self.assertEqual(to_numpy(one.weights).tobytes(), to_numpy(two.weights).tobytes())
        self.assertEqual(first.metrics(), again.metrics())

    def test_evaluation(self):
        """Predictions and metrics of the plain step; no weight changes; the state of the metrics can be stored."""
        found = []
        for fused in (True, False):
            step = self.trained(False)
            evaluation = Step(step.network, step.loss, step.source, 6, step.max_simulation, graph=False, fused=fused)
            evaluation.reset_metrics()
            evaluation.start(np.arange(23))
            predictions = []
            while evaluation.evaluate_next():
                predictions.append(evaluation.predictions)
            state = evaluation.metrics_state()
            metrics = evaluation.metrics()
            evaluation.reset_metrics()
            evaluation.load_metrics_state(state)
            self.assertEqual(evaluation.metrics(), metrics)
            evaluation.reset_metrics()
            evaluation.start(np.arange(23))
            self.assertEqual([evaluation.evaluate_next(steps=2) for _ in range(4)], [12, 6, 5, 0])
            self.assertEqual(evaluation.metrics(), metrics)
            weights = [to_numpy(layer.weights).tolist() for layer in step.network.layers[1:]]
            found.append((np.concatenate(predictions).tolist(), metrics, weights))
        self.assertAlmostEqual(found[0][1].pop("loss"), found[1][1].pop("loss"), delta=1e-9)
        self.assertEqual(*found)

    def test_float32_within_twice_the_naive_error(self):
        """Median over 20 networks, for the gradient of either layer."""
        ours, naive = [], []
        for seed in range(60):
            case = self.case(100 + seed, [10, 33, 5])
            case.times = rounded(case.times)
            for layer in case.layers:
                layer.weights = rounded(layer.weights)
            exact = reference.forward_network(case.times, case.counts, case.layers, case.t_max)
            rough = reference.forward_network(case.times, case.counts, case.layers, case.t_max, dtype=np.float32, origin="absolute")
            order = causal_order(case.times, [trains.times for trains in exact])
            if not well_conditioned(case.layers, exact) or causal_order(case.times, [trains.times for trains in rough]) != order:
                continue
            step, network = self.one_step(case, COUNT[0], "float32")
            if (to_numpy(step._fused.room.counts)[:4] != exact[0].counts).any():
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


class OnCuda(Checks, Cuda):
    pass


if __name__ == "__main__":
    unittest.main()
