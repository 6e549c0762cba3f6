"""Short steps of the neighbouring methods, for compute-sanitizer (see short_step.py): time grids, time steps, STDP, ensembles."""

import numpy as np

import bats
from bats import stdp, timestep
from bats.ensemble import Ensemble
from bats.fused import DeepFusedStep
from bats.sources import LatencyImages
from bats.step import Step


def train(network, loss, source, t_max):
    step = Step(network, loss, source, 7, t_max, bats.AdamOptimizer(0.01), graph=False)
    step.start(np.arange(len(source)))
    while step.train_next():
        pass
    return step.metrics()["loss"]


def grid_steps(device, dtype, rng):
    """Both rules, a convolution and a dense layer, regularized, on grids of their own."""
    source = LatencyImages(rng.integers(0, 256, (16, 13, 12)).astype(np.uint8), rng.integers(0, 5, 16))
    for rule in ("clean", "study"):
        neuron = {"tau_s": 0.1, "theta": 0.02, "delta_theta": 0.02, "max_n_spike": 5, "regularizer": bats.SpikeRateRegularizer()}
        layers = [
            bats.ConvInputLayer((13, 12, 1), "input"),
            bats.ConvLIFLayer(None, (3, 4, 5), name="conv", grid=bats.TimeGrid(0.003, "nearest", rule), **neuron),
            bats.LIFLayer(None, 5, name="output", grid=bats.TimeGrid(0.005, "next", rule), **neuron),
        ]
        network = bats.Network(layers, device=device, dtype=dtype, seed=0)
        print(dtype, "grid", rule, train(network, bats.SpikeCountClassLoss(5, 1), source, 0.3))


def timestep_steps(device, dtype, rng):
    """Standard, single-spike and learned-filter layers on latencies, with a skip and a tail of a batch; then other numbers."""
    images, labels = rng.integers(0, 256, (16, 37)).astype(np.uint8), rng.integers(0, 5, 16)
    source = timestep.LatencyBins(images, labels, 45, timestep.fashion_latency_bins(45, 0.002), 5)
    for kind, options in (
        (timestep.StandardLIFLayer, {}), (timestep.FastLIFLayer, {}), (timestep.FastLIFLayer, {"learned_filter": True}),
        (timestep.StandardLIFLayer, {"tf32": True}),
    ):  # fmt: skip
        network = bats.Network(device=device, dtype=dtype, seed=1)
        network.add_layer(timestep.SteppedInputLayer(37, 45), input=True)
        network.add_layer(kind(None, 131, name="hidden_1", **options))
        network.add_layer(kind(None, 131, skip=True, name="hidden_2", **options))
        network.add_layer(timestep.MembraneReadout(None, 5, name="output", **options))
        print(dtype, kind.__name__, options, train(network, timestep.MaxMembraneCrossEntropy(), source, 0.09))
        network.forward(rng.normal(size=(7, 45, 37)), training=True)
        network.backward(rng.normal(size=(7, 5)), input_errors=True)


def stdp_steps(device, rng):
    """Encoding, an unsupervised layer, a decision layer, and its evaluation."""
    latencies = stdp.encode(rng.integers(0, 256, (9, 14, 14)).astype(np.uint8), stdp.MNIST_BANK, device=device)
    hidden = stdp.STDPConvolution(6, 7, 3, 4.0, winners=3, radius=1, seed=0, device=device)
    hidden.learn(stdp.pad(latencies, 1, 15))
    pooled = stdp.pool(hidden.forward(stdp.pad(latencies, 1, 15)), 2)
    decision = stdp.DecisionLayer(7, 3, 4, 3, seed=1, device=device)
    decision.learn(pooled, rng.integers(0, 3, 9).astype(np.int32))
    print("stdp", decision.evaluate(pooled)[0].shape)


def ensemble_steps(device, dtype, rng):
    """Five networks of 4-2 at once."""
    ensemble = Ensemble(rng.uniform(0, 2, (5, 2, 4)), 0.5, 0.3, 0.2, 4, device=device, dtype=dtype)
    times, counts = np.sort(rng.uniform(0, 1, (3, 4, 1)), axis=2), np.ones((3, 4), dtype=np.int32)
    ensemble.train(times, counts, np.array([0, 1, 0]), bats.SpikeCountClassLoss(3, 0), bats.GradientDescentOptimizer(0.1), 2)
    print(dtype, "ensemble", ensemble.weights.shape)


def deep_fused_steps(device, dtype, rng):
    """The fused kernels of several hidden layers: every block sorting for itself or not, batches whole and in parts."""
    source = LatencyImages(rng.integers(0, 256, (40, 90)).astype(np.uint8), rng.integers(0, 5, 40))
    for loss, max_n_spike in ((bats.SpikeCountClassLoss(5, 1), 6), (bats.TTFSSoftmaxCrossEntropy(0.01), 1)):
        for options in ({}, {"shared_limit": 31_000, "at_once": 5}):
            layers = [bats.LIFLayer(None, n, 0.1, 0.05, 0.05, max_n_spike=max_n_spike, name=f"layer {n}") for n in (70, 33, 41, 5)]
            network = bats.Network([bats.InputLayer(90), *layers], device=device, dtype=dtype, seed=0)
            step = Step(network, loss, source, 36, 0.5, bats.AdamOptimizer(0.01), graph=False, fused=True)
            step._fused = DeepFusedStep(network, loss, step.optimizer, step.source, 36, 0.5, **options)
            step.start(rng.permutation(40))
            while step.train_next():
                pass
            step.evaluate(np.arange(17))
            print(dtype, type(loss).__name__, "deep fused", step.metrics()["loss"])


def run(device, rng):
    for dtype in ("float32", "float64"):
        deep_fused_steps(device, dtype, rng)
        grid_steps(device, dtype, rng)
        timestep_steps(device, dtype, rng)
        ensemble_steps(device, dtype, rng)
    stdp_steps(device, rng)
