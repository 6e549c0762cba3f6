"""A network and step small enough to reason about: the Trainer's bookkeeping can be tested without simulating a neuron.

The fake step descends towards a target that depends on the batch's samples in their order, in float32, so that another
order, a lost moment or a repeated batch changes the bits.
"""

import contextlib
import os
import signal
from unittest import mock

import numpy as np


class Layer:
    def __init__(self, name, shape=None, seed=0, max_n_spike=5):
        self.name, self.n_neurons = name, shape[0] if shape else 4
        self.trainable = shape is not None
        if self.trainable:
            self.max_n_spike, self.theta = max_n_spike, 1.0
            self.weights = np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Network:
    device, dtype = "cpu", np.dtype(np.float32)

    def __init__(self, seed=0, n_hidden=6):
        self.layers = [Layer("input"), Layer("hidden", (n_hidden, 4), seed), Layer("output", (3, n_hidden), seed + 100)]

        self.counter = np.zeros(1, np.float32)  # like the layers' counters: shared by all steps of the network

    def store(self, folder):
        for layer in self.layers[1:]:
            np.save(os.path.join(folder, f"{layer.name}_weights.npy"), layer.weights)


class Loss:
    def __init__(self, target=1.5):
        self.target = target


class Momentum:
    """An optimizer with a state that matters."""

    def __init__(self, learning_rate=0.05):
        self.learning_rate, self.velocity = learning_rate, {}

    def update(self, name, gradient):
        self.velocity[name] = np.float32(0.9) * self.velocity.get(name, np.float32(0)) + gradient
        return -np.float32(self.learning_rate) * self.velocity[name]

    def state(self):
        return {"learning_rate": np.array(self.learning_rate), **self.velocity}

    def load_state(self, state):
        self.learning_rate = float(state["learning_rate"])
        self.velocity = {name: array for name, array in state.items() if name != "learning_rate"}


class Source:
    n_neurons, n_classes = 4, 3

    def __init__(self, n_samples=20, seed=0):
        generator = np.random.default_rng(seed)
        self.values = generator.normal(size=n_samples).astype(np.float32)
        self.labels = generator.integers(0, 3, n_samples).astype(np.int32)

    def __len__(self):
        return len(self.labels)

    def begin_epoch(self, epoch):
        pass


class Step:
    """Hooks of the tests: `on_train(number of training batches so far)`, and failure counts to report."""

    on_train = None
    failures = {}  # noqa: RUF012 - replaced, never mutated
    n_trained = 0
    accuracies = None
    fused, fused_reason = False, "a fake"

    def __init__(self, network, loss, source, batch_size, max_simulation, optimizer=None, graph="auto", fused=False):
        self.network, self.source, self.batch_size, self.optimizer = network, source, batch_size, optimizer
        self.reset_metrics()

    def start(self, order):
        self.order = np.asarray(order)

    steps_at_once = 1

    def train_next(self, steps=1):
        indices, self.order = self.order[: self.batch_size], self.order[self.batch_size :]
        if len(indices):
            self.train(indices)
        return len(indices)

    def evaluate_next(self, batch, steps=1):
        indices, self.order = self.order[:batch], self.order[batch:]
        if len(indices):
            self.evaluate(indices)
        return len(indices)

    def train(self, indices):
        for layer in self.network.layers[1:]:
            target = np.float32(0)
            for value in self.source.values[indices]:
                target = target * np.float32(0.7) + value
            layer.weights = layer.weights + self.optimizer.update(layer.name, layer.weights - target)
        self._count(indices)
        Step.n_trained += 1
        if Step.on_train is not None:
            Step.on_train(Step.n_trained)

    def evaluate(self, indices):
        self._count(indices)
        self.predictions = (indices % 3).astype(np.int32)

    def _count(self, indices):
        weight = self.network.layers[1].weights.sum(dtype=np.float32)
        self.network.counter += weight
        self.accumulators[0] += len(indices)
        self.accumulators[1] += weight * self.source.values[indices].sum(dtype=np.float32)

    def reset_metrics(self):
        self.accumulators = np.zeros(2, np.float32)
        self.network.counter = np.zeros(1, np.float32)

    def metrics_state(self):
        return {"accumulators": self.accumulators.copy(), "counter": self.network.counter.copy()}

    def load_metrics_state(self, state):
        self.accumulators, self.network.counter = state["accumulators"].copy(), state["counter"].copy()

    def metrics(self):
        samples, loss = self.accumulators
        accuracy = abs(float(loss)) % 1
        if Step.accuracies and self.source in Step.accuracies:
            accuracy = Step.accuracies[self.source].pop(0)
        layer = {
            "spikes_per_sample": float(self.network.counter[0]),
            "silent_neurons": 0.1,
            "overflow": 0,
            "non_finite": 0,
            "bounded": 0,
        }
        layers = {"hidden": {**layer, **Step.failures}, "output": dict(layer)}
        figures = {"samples": int(samples), "loss": float(loss) / max(samples, 1), "accuracy": accuracy}
        return {**figures, "silent_labels": 0.0, "layers": layers}


def patched(on_train=None, failures=None, accuracies=None):
    """Context manager: bats.step.Step is the fake one. `accuracies`: {source: accuracy of each successive reading}."""
    Step.n_trained = 0
    Step.on_train, Step.failures, Step.accuracies = on_train, failures or {}, accuracies
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch("bats.step.Step", Step))
    stack.enter_context(mock.patch("bats.training.plots.metric_curves"))  # drawing takes longer than all the rest
    return stack


def press_ctrl_c(after):
    """on_train hook: sends SIGINT to this process once `after` batches were trained."""

    def hook(number):
        if number == after:
            os.kill(os.getpid(), signal.SIGINT)

    return hook
