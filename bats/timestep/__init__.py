"""Spiking networks in time steps, trained with surrogate gradients: the standard LIF layer and FastSNN's single-spike layer.

They take the place of event-based layers in bats.Network, Trainer and the rest: docs/timestep.md. Arrays are
[batch, n_steps, n_neurons] everywhere.
"""

from bats.timestep.input import SteppedInputLayer
from bats.timestep.lif import FastLIFLayer, StandardLIFLayer
from bats.timestep.losses import MaxMembraneCrossEntropy
from bats.timestep.readout import MembraneReadout
from bats.timestep.sources import BinnedEvents, LatencyBins, fashion_latency_bins
from bats.timestep.surrogates import ArcTan, FastSigmoid, Sigmoid
from bats.timestep.waves import Waves

__all__ = [
    "ArcTan",
    "BinnedEvents",
    "FastLIFLayer",
    "FastSigmoid",
    "LatencyBins",
    "MaxMembraneCrossEntropy",
    "MembraneReadout",
    "Sigmoid",
    "StandardLIFLayer",
    "SteppedInputLayer",
    "Waves",
    "fashion_latency_bins",
]
