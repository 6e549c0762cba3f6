"""The convolutional MNIST model of the 2022 BATS code: 28x28x1 - C5x5x15 - P2 - C5x5x40 - P2 - 300 - 10, spike count."""

from dataclasses import dataclass

import models  # makes a bare checkout importable

import bats
from bats.initializers import uniform
from bats.training import StepSchedule


@dataclass(frozen=True)
class ConvModel:
    """tau_s and t_max in seconds; theta (= delta_theta) and max_n_spike of the two convolutions, hidden and output layer."""

    theta: tuple = (0.04, 0.8, 0.6, 0.3)
    max_n_spike: tuple = (1, 3, 10, 30)
    filters: tuple = ((5, 5, 15), (5, 5, 40))
    n_hidden: int = 300
    tau_s: float = 0.130
    t_max: float = 0.2
    learning_rate: float = 0.003
    batch_size: int = 20
    epochs: int = 100

    def network(self, device="auto", dtype="float32", seed=None):
        network = bats.Network(device=device, dtype=dtype, seed=seed)
        network.add_layer(bats.ConvInputLayer((28, 28, 1), name="input"), input=True)
        neurons = [
            {"tau_s": self.tau_s, "theta": theta, "delta_theta": theta, "max_n_spike": k, "weight_initializer": uniform(-1, 1)}
            for theta, k in zip(self.theta, self.max_n_spike, strict=True)
        ]
        for n, filters in enumerate(self.filters, start=1):
            network.add_layer(bats.ConvLIFLayer(None, filters, **neurons[n - 1], name=f"conv_{n}"))
            network.add_layer(bats.PoolingLayer(None, name=f"pool_{n}"))
        network.add_layer(bats.LIFLayer(None, self.n_hidden, **neurons[2], name="hidden"))
        network.add_layer(bats.LIFLayer(None, 10, **neurons[3], name="output"))
        return network

    def make_loss(self):
        return bats.SpikeCountClassLoss(target_true=30, target_false=3)

    def schedule(self):
        return StepSchedule(factor=0.5, every=10, minimum=1e-4)


CONV = ConvModel()
SIGMA = 1.0  # pixels, of the elastic deformation
T_INPUT = models.T_INPUT
