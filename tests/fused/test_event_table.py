"""The list of all events (bats/fused/event_table.py): as the source has them, filled up where that is asked for."""

import unittest

import numpy as np

import bats
from bats.device import to_numpy
from bats.fused.event_table import LOADED, EventTable
from bats.sources import SpikeSamples
from tests.devices import Cpu, Cuda
from tests.reference.random_networks import random_trains

TAU_S = 0.05


class OnCpu(Cpu):
    def table(self, n_batch, n_slots, t_max, multiple):
        """The table, and by sample the events (factor, input neuron) that it should have."""
        times, counts = random_trains(np.random.default_rng(n_batch), n_batch, 40, n_slots, 3 * TAU_S)
        counts[n_batch // 2] = 0  # a sample without events
        times[n_batch // 2] = np.inf
        source = SpikeSamples(times, counts, np.arange(n_batch) % 3, 3).to(self.device, "float64")
        layers = [bats.InputLayer(40), bats.LIFLayer(None, 3, tau_s=TAU_S, theta=1.0, delta_theta=1.0)]
        network = bats.Network(layers, device=self.device, dtype="float64")
        neuron = network.layers[1].neuron
        tau = float(neuron.tau)
        expected = []
        for train, count in zip(times, counts, strict=True):
            found = [(np.exp(train[i, k] / tau), i) for i in range(40) for k in range(count[i]) if train[i, k] < t_max]
            expected.append(sorted(found))
        return EventTable(source, neuron, np.exp(t_max / tau), np.uint16, multiple), expected

    def test_events_and_what_fills_them_up(self):
        for n_batch, n_slots, t_max in ((1, 1, 1.0), (7, 3, 1.0), (7, 3, 1.5 * TAU_S)):
            for multiple in (1, 32):
                with self.subTest(n_batch=n_batch, t_max=t_max, multiple=multiple):
                    table, expected = self.table(n_batch, n_slots, t_max, multiple)
                    factors, rows, samples = (to_numpy(array) for array in (table.factors, table.rows, table.samples))
                    end = 0
                    for s, events in enumerate(expected):
                        first, n = samples[s, 0], samples[s, 1] & 0xFFFFFFFF
                        self.assertEqual((first, n, samples[s, 1] >> 32), (end, len(events), s % 3))
                        end = first + -(-n // multiple) * multiple
                        np.testing.assert_allclose(factors[first : first + n], [q for q, _ in events], rtol=1e-12)
                        np.testing.assert_array_equal(rows[first : first + n], [i for _, i in events])
                        self.assertFalse(factors[first + n : end].any() or rows[first + n : end].any())
                        self.assertLessEqual(first + LOADED, len(factors))
                    self.assertEqual(len(factors), end + LOADED)

    def test_the_order_of_training(self):
        table, _ = self.table(7, 3, 1.0, 32)
        samples, cursor = to_numpy(table.samples), self.array([5])
        for order, replaced in (([3], False), ([6, 0, 0, 2, 5], False), (np.arange(300) % 7, True)):
            with self.subTest(n=len(order)):
                table.in_order.fill(-1)
                cursor.fill(5)
                self.assertEqual(table.start(self.array(order, np.int32), cursor), replaced)
                np.testing.assert_array_equal(to_numpy(table.in_order)[: len(order)], samples[order])
                self.assertTrue((to_numpy(table.in_order)[len(order) :] == -1).all())
                self.assertEqual(int(cursor[0]), 0)


class OnCuda(OnCpu, Cuda):
    pass


if __name__ == "__main__":
    unittest.main()
