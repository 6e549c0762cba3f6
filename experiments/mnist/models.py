"""The MNIST models of the 2022 BATS code, and the one function behind every script of this folder.

Images become one spike per pixel at 0.1 s (1 - p / 255), none for p = 0. Both models are 784-800-10 with tau_s =
0.130 s and delta_theta = theta, trained with Adam in batches of 50; they differ in the read-out and its limits.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

if importlib.util.find_spec("bats") is None:  # a bare checkout, nothing installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bats
from bats.initializers import uniform
from bats.training import StepSchedule, command_line
from bats.training.experiment import Readout, Study, run
from bats.training.image_task import load_image_task

T_INPUT = 0.1  # the latest input spike, seconds


@dataclass(frozen=True)
class Model:
    """A 784-800-10 network with its read-out. theta and max_n_spike: hidden, output; t_max in seconds."""

    readout: str
    theta: tuple
    max_n_spike: tuple
    t_max: float
    initial_weights: tuple  # bounds of the uniform distribution
    make_loss: Callable
    learning_rate: float
    epochs: int
    learning_rate_factor: float = 1.0  # per epoch
    n_hidden: int = 800
    tau_s: float = 0.130
    batch_size: int = 50

    def network(self, device="auto", dtype="float32", seed=None, n_inputs=28 * 28, n_classes=10, grid=None, regularizer=None):
        """grid: a bats.TimeGrid for both layers, or None; regularizer: a bats.SpikeRateRegularizer for both, or None."""
        network = bats.Network(device=device, dtype=dtype, seed=seed)
        layer = bats.InputLayer(n_inputs, name="input")
        network.add_layer(layer, input=True)
        sizes = (self.n_hidden, n_classes)
        for name, n_neurons, theta, k in zip(("hidden", "output"), sizes, self.theta, self.max_n_spike, strict=True):
            weights = uniform(*self.initial_weights)
            layer = bats.LIFLayer(
                layer, n_neurons, self.tau_s, theta, theta, weights, max_n_spike=k, name=name, grid=grid, regularizer=regularizer
            )
            network.add_layer(layer)
        return network

    def with_limits_of(self, other):
        """This network with the spike limits of `other`: for evaluating its weights under the other read-out."""
        return replace(self, max_n_spike=other.max_n_spike)


COUNT = Model(
    readout="spike count", theta=(0.2, 1.3), max_n_spike=(30, 30), t_max=0.2, initial_weights=(-1, 1),
    make_loss=lambda: bats.SpikeCountClassLoss(target_true=15, target_false=3), learning_rate=0.003, epochs=100,
)  # fmt: skip
TTFS = Model(
    readout="time to first spike", theta=(0.7, 2.0), max_n_spike=(1, 1), t_max=1.0, initial_weights=(0, 1),
    make_loss=lambda: bats.TTFSSoftmaxCrossEntropy(tau=0.005), learning_rate=0.002, epochs=30,
    learning_rate_factor=0.9,  # the 2022 code keeps the rate: then single grazing spikes upset it (docs/theory.md, section 6)
)  # fmt: skip


def main(name, description, train, evaluate=None):
    """Trains the model `train`; `evaluate`, if given, is the model whose read-out and limits judge its weights."""
    parser = command_line.make_parser(description, epochs=train.epochs, batch_size=train.batch_size, learning_rate=train.learning_rate)
    arguments = command_line.parse(parser)

    def make_study():
        task = load_image_task("mnist", arguments.data, T_INPUT, train.epochs)
        sizes = {"n_inputs": task.test_source.n_neurons, "n_classes": task.test_source.n_classes}
        network = train.network(arguments.device, arguments.dtype, arguments.seed, **sizes)
        readout = None
        if evaluate is not None:
            judged = train.with_limits_of(evaluate).network(arguments.device, arguments.dtype, arguments.seed, **sizes)
            readout = Readout(evaluate.readout, judged, evaluate.make_loss(), evaluate.t_max)
        optimizer = bats.AdamOptimizer(arguments.learning_rate)
        schedule = StepSchedule(train.learning_rate_factor, 1) if train.learning_rate_factor < 1 else None
        return Study(name, network, train.make_loss(), optimizer, task, train.t_max, schedule, readout)

    return run(make_study, arguments)
