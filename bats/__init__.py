"""bats: event-based spiking neural networks trained with the exact gradient of their spike times.

Times are in seconds everywhere. docs/theory.md derives the method; bats.reference is the whole model in NumPy float64.
"""

from bats import augmentation, device, initializers, sources, step
from bats._version import __version__
from bats.layers import ConvInputLayer, ConvLIFLayer, InputLayer, LIFLayer, PoolingLayer
from bats.losses import SpikeCountClassLoss, SpikeCountLoss, SpikeTimeLoss, TTFSSoftmaxCrossEntropy
from bats.network import Network
from bats.optimizers import AdamOptimizer, GradientDescentOptimizer, NAdamOptimizer
from bats.regularization import SpikeRateRegularizer


def __getattr__(name):
    """bats.Trainer is imported when it is first used: it draws plots, and matplotlib takes a while."""
    if name == "Trainer":
        from bats.training import Trainer

        return Trainer
    raise AttributeError(f"module 'bats' has no attribute {name!r}")


__all__ = [
    "AdamOptimizer",
    "ConvInputLayer",
    "ConvLIFLayer",
    "GradientDescentOptimizer",
    "InputLayer",
    "LIFLayer",
    "NAdamOptimizer",
    "Network",
    "PoolingLayer",
    "SpikeCountClassLoss",
    "SpikeCountLoss",
    "SpikeRateRegularizer",
    "SpikeTimeLoss",
    "TTFSSoftmaxCrossEntropy",
    "Trainer",
    "__version__",
    "augmentation",
    "device",
    "initializers",
    "sources",
    "step",
]
