"""Spiking networks that learn by STDP and by reward-modulated STDP.

The state of a map of neurons is its latencies: one byte per neuron, the bin of its only spike, or n_bins if it never fires.
"""

from bats.stdp import ops
from bats.stdp.convolution import STDPConvolution
from bats.stdp.decision import DecisionLayer
from bats.stdp.encoding import encode, local_normalization, rank_latencies
from bats.stdp.filters import MNIST_BANK, FilterBank, difference_of_gaussians, gabor
from bats.stdp.maps import pad, pool

__all__ = [
    "MNIST_BANK",
    "DecisionLayer",
    "FilterBank",
    "STDPConvolution",
    "difference_of_gaussians",
    "encode",
    "gabor",
    "local_normalization",
    "ops",
    "pad",
    "pool",
    "rank_latencies",
]
