"""Which steps the fused kernels can take, and why not the others."""

import functools

import numpy as np

from bats.device import array_module
from bats.fused import layout
from bats.layers import LIFLayer
from bats.losses import SpikeCountClassLoss, TTFSSoftmaxCrossEntropy
from bats.optimizers import AdamOptimizer, GradientDescentOptimizer, NAdamOptimizer
from bats.sources import Resident

LOSSES = (SpikeCountClassLoss, TTFSSoftmaxCrossEntropy)
OPTIMIZERS = (GradientDescentOptimizer, AdamOptimizer, NAdamOptimizer)
MOST_NEURONS = 2**16  # neuron and slot of a spike share 32 bits
MOST_WEIGHTS = 2**29  # of the first layer: a row's offset in bytes has 32 bits


def device_reason(network):
    """Why the network's device cannot run the kernels, or None."""
    return None if network.device == "cuda" else f"the network is on the {network.device}, the kernels need CUDA"


@functools.cache
def shared_limit():
    """Bytes of shared memory that a block may use."""
    device = array_module("cuda").cuda.Device()
    return min(layout.MAX_SHARED, device.attributes["MaxSharedMemoryPerBlockOptin"])


def reason_against(network, loss, optimizer, source, max_simulation):
    """None if the fused step can be used, else a sentence that says why not. source: resident, or about to be."""
    reason = device_reason(network)
    if reason is not None:
        return reason
    layers = network.layers[1:]
    if len(layers) != 2 or any(type(layer) is not LIFLayer for layer in layers):
        return f"expected two dense LIF layers, received {', '.join(type(layer).__name__ for layer in layers)}"
    hidden, output = layers
    if any(layer.regularizer is not None for layer in layers):
        return "a layer has a regularizer"
    if any(getattr(layer, "grid", None) is not None for layer in network.layers):
        return "a layer has a time grid"
    if hidden.tau_s != output.tau_s:
        return f"expected one tau_s for both layers, received {hidden.tau_s} and {output.tau_s}"
    if not max_simulation < float(hidden.neuron.length):
        return f"expected max_simulation below 16 tau_s = {float(hidden.neuron.length):g} s, received {max_simulation:g}"
    if type(loss) not in LOSSES:
        return f"expected one of {', '.join(kind.__name__ for kind in LOSSES)}, received {type(loss).__name__}"
    if optimizer is not None and type(optimizer) not in OPTIMIZERS:
        return f"expected one of {', '.join(kind.__name__ for kind in OPTIMIZERS)}, received {type(optimizer).__name__}"
    if type(source) is not Resident:
        return f"expected images or spike trains that stay the same in all epochs, received {type(source).__name__}"
    if max(hidden.n_neurons, hidden.max_n_spike) >= MOST_NEURONS:
        return f"expected fewer than {MOST_NEURONS} hidden neurons and slots, received {hidden.n_neurons} and {hidden.max_n_spike}"
    sizes = tuple(layer.n_neurons for layer in network.layers)
    if sizes[0] * sizes[1] >= MOST_WEIGHTS:
        return f"expected fewer than {MOST_WEIGHTS} weights in the first layer, received {sizes[0] * sizes[1]}"
    if not layout.fits(sizes, output.max_n_spike, hidden.max_n_spike, np.dtype(network.dtype).itemsize, shared_limit()):
        return f"layers of {sizes} neurons need more shared memory than a block has"
    return None
