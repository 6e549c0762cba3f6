"""The Fashion-MNIST model of the 2022 BATS code: 784-400-400-10, spike count."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

if importlib.util.find_spec("bats") is None:  # a bare checkout, nothing installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bats
from bats.initializers import uniform
from bats.training import StepSchedule


@dataclass(frozen=True)
class FashionModel:
    """theta (= delta_theta) and max_n_spike of the two hidden layers and the output layer; tau_s, t_input and t_max in seconds."""

    sizes: tuple = (400, 400)
    theta: tuple = (0.13, 0.45, 0.7)
    max_n_spike: tuple = (5, 5, 20)
    tau_s: float = 0.130
    t_input: float = 0.1
    t_max: float = 0.2
    learning_rate: float = 0.0005
    batch_size: int = 5
    epochs: int = 100

    def network(self, device="auto", dtype="float32", seed=None, n_inputs=28 * 28, n_classes=10, regularizer=None):
        """regularizer: a bats.SpikeRateRegularizer for all three layers, or None."""
        network = bats.Network(device=device, dtype=dtype, seed=seed)
        network.add_layer(bats.InputLayer(n_inputs, name="input"), input=True)
        names = (*(f"hidden_{n}" for n in range(1, len(self.sizes) + 1)), "output")
        for name, n_neurons, theta, k in zip(names, (*self.sizes, n_classes), self.theta, self.max_n_spike, strict=True):
            layer = bats.LIFLayer(
                None, n_neurons, self.tau_s, theta, theta, uniform(-1, 1), max_n_spike=k, name=name, regularizer=regularizer
            )
            network.add_layer(layer)
        return network

    def make_loss(self):
        return bats.SpikeCountClassLoss(target_true=15, target_false=3)

    def schedule(self):
        return StepSchedule(factor=0.5, every=10, minimum=1e-4)


FASHION = FashionModel()
