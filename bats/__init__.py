"""bats: event-based spiking neural networks trained with the exact gradient of their spike times.

Times are in seconds everywhere. docs/theory.md derives the method; bats.reference is the whole model in NumPy float64.
"""

from bats import device, initializers, sources, step
from bats._version import __version__
from bats.layers import InputLayer, LIFLayer
from bats.losses import SpikeCountClassLoss, SpikeCountLoss, SpikeTimeLoss, TTFSSoftmaxCrossEntropy
from bats.network import Network
from bats.optimizers import AdamOptimizer, GradientDescentOptimizer, NAdamOptimizer

__all__ = [
    "AdamOptimizer",
    "GradientDescentOptimizer",
    "InputLayer",
    "LIFLayer",
    "NAdamOptimizer",
    "Network",
    "SpikeCountClassLoss",
    "SpikeCountLoss",
    "SpikeTimeLoss",
    "TTFSSoftmaxCrossEntropy",
    "__version__",
    "device",
    "initializers",
    "sources",
    "step",
]
