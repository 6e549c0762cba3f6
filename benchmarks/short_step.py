"""A few small training steps on the GPU that reach every kernel of bats, for compute-sanitizer (see gpu_tests.py)."""

import importlib
from unittest import mock

import environment  # noqa: F401
import numpy as np
import short_cases

import bats
from bats.augmentation import ElasticImages
from bats.fused import FusedStep
from bats.sources import LatencyImages, SpikeSamples
from bats.step import Step


def network(dtype, n_inputs, max_n_spike):
    sizes = (("hidden", 70), ("second", 33), ("output", 5))
    layers = [bats.LIFLayer(None, n, 0.1, 0.05, 0.05, max_n_spike=max_n_spike, name=name) for name, n in sizes]
    return bats.Network([bats.InputLayer(n_inputs), *layers], device="cuda", dtype=dtype, seed=0)


def conv_network(dtype):
    """Odd sizes, stride, padding, a pooling that leaves neurons out, channels that fill no warp."""
    neuron = {"tau_s": 0.1, "theta": 0.02, "delta_theta": 0.02}
    layers = [
        bats.ConvInputLayer((13, 12, 1), "input"),
        bats.ConvLIFLayer(None, (3, 4, 5), max_n_spike=1, name="conv_1", **neuron),
        bats.PoolingLayer(None, "pool_1"),
        bats.ConvLIFLayer(None, (2, 3, 35), max_n_spike=3, name="conv_2", stride=(2, 1), padding=1, **neuron),
        bats.PoolingLayer(None, "pool_2", window=(1, 2)),
        bats.LIFLayer(None, 5, max_n_spike=6, name="output", **neuron),
    ]
    return bats.Network(layers, device="cuda", dtype=dtype, seed=0)


def conv_steps(dtype, rng):
    images, labels = rng.integers(0, 256, (30, 13, 12)).astype(np.uint8), rng.integers(0, 5, 30)
    source = ElasticImages(images, labels, seed=1)
    loss, optimizer = bats.SpikeCountClassLoss(5, 1), bats.AdamOptimizer(0.01)
    step = Step(conv_network(dtype), loss, source, 7, 0.3, optimizer, graph=False)
    step.start(rng.permutation(30))
    while step.train_next():
        pass
    print(dtype, "convolution", step.metrics()["loss"])


def fused_steps(dtype, images, rng):
    """The fused kernels: lists in shared memory and out of it, batches whole and in parts."""
    for loss, max_n_spike in ((bats.SpikeCountClassLoss(5, 1), 6), (bats.TTFSSoftmaxCrossEntropy(0.01), 1)):
        for options in ({}, {"shared_limit": 21_000, "at_once": 5}):
            layers = [bats.LIFLayer(None, n, 0.1, 0.05, 0.05, max_n_spike=max_n_spike, name=f"layer {n}") for n in (70, 5)]
            small = bats.Network([bats.InputLayer(images.n_neurons), *layers], device="cuda", dtype=dtype, seed=0)
            step = Step(small, loss, images, 17, 0.5, bats.AdamOptimizer(0.01), graph=False, fused=True)
            step._fused = FusedStep(small, loss, step.optimizer, step.source, 17, 0.5, **options)
            step.start(rng.permutation(60))
            while step.train_next():
                pass
            step.evaluate(np.arange(17))
            print(dtype, type(loss).__name__, "fused", step.metrics()["loss"])


def main():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 60)
    images = LatencyImages(rng.integers(0, 256, (60, 90)).astype(np.uint8), labels)
    spikes = SpikeSamples(np.sort(rng.uniform(0, 3, (60, 40, 3)), axis=2), np.full((60, 40), 3), labels)
    cases = (
        (images, bats.SpikeCountClassLoss(5, 1), bats.AdamOptimizer, 6),
        (images, bats.TTFSSoftmaxCrossEntropy(0.01), bats.NAdamOptimizer, 1),
        (spikes, bats.SpikeCountClassLoss(5, 1), bats.GradientDescentOptimizer, 6),
    )
    for dtype in ("float32", "float64"):
        conv_steps(dtype, rng)
        with mock.patch.object(importlib.import_module("bats.ops.conv_forward"), "CHUNKS_FROM", 1):  # the variant for large fields
            conv_steps(dtype, rng)
        for source, loss, optimizer, max_n_spike in cases:
            step = Step(network(dtype, source.n_neurons, max_n_spike), loss, source, 17, 5.0, optimizer(0.01), graph=False)
            step.start(rng.permutation(60))
            while step.train_next():
                pass
            times, counts = step.network.output_spike_trains
            bats.SpikeTimeLoss().compute_errors(times, counts, np.ones(counts.shape))
            bats.SpikeCountLoss().compute_errors(times, counts, np.ones(counts.shape))
            print(dtype, type(loss).__name__, step.metrics()["loss"])
        fused_steps(dtype, images, rng)
    short_cases.run("cuda", rng)
    print("short step done")


if __name__ == "__main__":
    main()
