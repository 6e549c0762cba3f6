"""Which steps are fused, what is said about the others, and that every layout stays within its limits. Needs no GPU."""

import unittest
from unittest import mock

import numpy as np

import bats
from bats.augmentation import ElasticImages
from bats.fused import deep_layout, eligibility, layout
from bats.sources import LatencyImages, SpikeSamples
from bats.step import Step


def network(sizes=(36, 20, 4), device="cpu", **options):
    settings = {"tau_s": 0.1, "theta": 0.05, "delta_theta": 0.05, "max_n_spike": 6, **options}
    layers = [bats.LIFLayer(None, n, name=f"layer {place}", **settings) for place, n in enumerate(sizes[1:])]
    return bats.Network([bats.InputLayer(sizes[0]), *layers], device=device, seed=0)


class Eligibility(unittest.TestCase):
    def reason(self, network, loss=None, optimizer=None, source=None, max_simulation=0.3):
        source = SpikeSamples(np.zeros((2, 36, 1)), np.ones((2, 36), int), [0, 1]) if source is None else source
        loss = loss or bats.SpikeCountClassLoss(5, 1)
        with mock.patch.object(eligibility, "takes_kernels", lambda _: True), mock.patch.object(
            eligibility, "shared_limit", lambda: layout.MAX_SHARED
        ):
            return eligibility.reason_against(network, loss, optimizer, source.to("cpu", "float32"), max_simulation)

    def test_reasons(self):
        for sizes in ((36, 20, 4), (36, 20, 20, 4), (36, *[20] * 9, 4)):
            self.assertIsNone(self.reason(network(sizes), optimizer=bats.AdamOptimizer(0.1)))
        elastic = ElasticImages(np.zeros((2, 6, 6), np.uint8), [0, 1], seed=0)
        other_tau = network()
        other_tau.layers[2].tau_s = 0.2
        for found, message in (
            (self.reason(network((36, 4))), "expected two or more dense LIF layers, received LIFLayer"),
            (self.reason(network(), bats.SpikeTimeLoss()), "expected one of SpikeCountClassLoss, .*, received SpikeTimeLoss"),
            (self.reason(network(), source=elastic), "stay the same in all epochs, received _ResidentElastic"),
            (self.reason(network(), max_simulation=np.inf), "expected max_simulation below 16 tau_s = 1.6 s, received inf"),
            (self.reason(network(grid=bats.TimeGrid(0.001))), "a layer has a time grid"),
            (self.reason(network(regularizer=bats.SpikeRateRegularizer())), "a layer has a regularizer"),
            (self.reason(other_tau), "expected one tau_s for all layers, received 0.1, 0.2"),
            (self.reason(network(max_n_spike=10**5)), "expected fewer than 65536 hidden neurons and slots"),
            (self.reason(network((36, 20, 4000))), "more shared memory than a block has"),
            (self.reason(network((36, 20, 20, 4000))), "more shared memory than a block has"),
            (self.reason(network((20_000, 20, 20, 4))), "more shared memory than a block has"),
            (self.reason(network((36, 10**5, 20, 4))), "expected fewer than 65536 hidden neurons and slots"),
        ):
            self.assertRegex(found or "", message)

    def test_where_the_plain_step_is_faster(self):
        """Only "auto" minds."""
        source = SpikeSamples(np.zeros((2, 36, 1)), np.ones((2, 36), int), [0, 1])
        many = SpikeSamples(np.zeros((2, 36, 200)), np.full((2, 36), 200), [0, 1])
        wide = network((36, 5000, 4))
        for case in ((network(), source), (wide, source), (network(), many)):
            self.assertIsNone(eligibility.reason_for_plain(*case))  # on the CPU
        with mock.patch.object(eligibility, "takes_kernels", lambda _: True):
            self.assertIsNone(eligibility.reason_for_plain(network(), source))
            self.assertRegex(eligibility.reason_for_plain(wide, source), "4096 neurons in a layer the plain step is faster, received 5000")
            self.assertRegex(eligibility.reason_for_plain(network(), many), "4096 events in a sample .* is faster, received up to 7200")
        self.assertIsNone(self.reason(wide))

    def test_a_step_says_why_it_is_not_fused(self):
        source = LatencyImages(np.zeros((2, 6, 6), np.uint8), [0, 1])
        arguments = (network(regularizer=bats.SpikeRateRegularizer()), bats.SpikeCountClassLoss(5, 1), source, 2, 0.3)
        step = Step(*arguments, fused="auto")
        self.assertFalse(step.fused)
        self.assertEqual(step.fused_reason, "a layer has a regularizer")
        with self.assertRaisesRegex(ValueError, "received True, which cannot be: a layer has a regularizer"):
            Step(*arguments, fused=True)
        with self.assertRaisesRegex(ValueError, 'fused: expected True, False or "auto", received 3'):
            Step(*arguments, fused=3)


class Layouts(unittest.TestCase):
    def test_limits(self):
        """Whatever the sizes: what `fits` accepts stays within shared memory at every batch size, and its lists hold something."""
        rng, accepted = np.random.default_rng(0), 0
        for _ in range(300):
            sizes = tuple(int(10 ** rng.uniform(0, high)) for high in (4, 4.5, 3))
            slots, hidden_slots = (int(10 ** rng.uniform(0, 2)) for _ in range(2))
            itemsize = int(rng.choice([4, 8]))
            if not layout.fits(sizes, slots, hidden_slots, itemsize):
                continue
            accepted += 1
            for batch in (1, 50, 128, 129, 1024):
                part = layout.samples_at_once(batch, sizes[1], hidden_slots, itemsize)
                self.assertTrue(1 <= part <= batch)
                shape = layout.choose(part, sizes, slots, hidden_slots, itemsize)
                for shared in (shape.hidden_shared, shape.output_shared, shape.update_shared):
                    self.assertLessEqual(shared + layout.STATIC_SHARED, layout.MAX_SHARED)
                self.assertGreaterEqual(shape.list_capacity, 2)
                self.assertTrue(shape.chunk >= layout.SEGMENT and shape.chunk % layout.SEGMENT == 0)
                self.assertTrue(1 <= shape.group <= 32 and 1 <= shape.slices <= shape.threads // 32)
                self.assertLessEqual(shape.slices * (shape.group * sizes[2] + 128) * itemsize, shape.update_shared)
                self.assertTrue(1 <= shape.hidden_warps <= 16)
        self.assertGreater(accepted, 100)

    def test_boxes_hold_all_rows(self):
        """At most 256 rows each, as the tensor memory accelerator takes, beginning at multiples of 128 bytes."""
        for n_pre in (1, 7, 8, 255, 256, 257, 784, 1000, 10_000):
            n_boxes, rows = layout.boxes_of(n_pre)
            each = rows // n_boxes
            self.assertEqual((rows % n_boxes, each % 8), (0, 0))
            self.assertTrue(each <= 256 and n_pre <= rows < n_pre + 8 * n_boxes)

    def test_limits_of_deep_networks(self):
        """The same for the kernels of several hidden layers, and that a part's worst case stays within SCRATCH_BYTES."""
        rng, accepted = np.random.default_rng(1), 0
        for _ in range(300):
            n_layers = int(rng.integers(3, 6))
            sizes = tuple(int(10 ** rng.uniform(0, high)) for high in (4, *[4] * (n_layers - 1), 2.5))
            slots = tuple(int(10 ** rng.uniform(0, 1.7)) for _ in range(n_layers))
            itemsize = int(rng.choice([4, 8]))
            if not deep_layout.fits(sizes, slots, itemsize):
                continue
            accepted += 1
            for batch in (1, 5, 31, 32, 1024):
                part = deep_layout.samples_at_once(batch, sizes, slots, itemsize)
                self.assertTrue(1 <= part <= batch)
                spikes = part * sum(n * k for n, k in zip(sizes[1:], slots, strict=True))
                self.assertTrue(part == 1 or spikes * (5 * itemsize + 8) <= deep_layout.SCRATCH_BYTES)
                for shape in deep_layout.layouts(part, sizes, slots, itemsize, layout.MAX_SHARED):
                    shared = shape[1] if isinstance(shape, tuple) else shape.shared
                    self.assertLessEqual(shared + deep_layout.STATIC_SHARED, layout.MAX_SHARED)
                    capacity = shape[0] if isinstance(shape, tuple) else shape.capacity
                    self.assertGreaterEqual(capacity, 0 if isinstance(shape, deep_layout.Forward) else 1)
                    if isinstance(shape, deep_layout.Forward):
                        self.assertTrue(1 <= shape.n_own <= 16 and shape.run % 2 and shape.run < 32)
        self.assertGreater(accepted, 100)


if __name__ == "__main__":
    unittest.main()
