"""Which steps can be fused, and why not the others."""

import functools

import numpy as np

from bats.device import array_module
from bats.fused import deep_layout, layout
from bats.layers import LIFLayer
from bats.losses import SpikeCountClassLoss, TTFSSoftmaxCrossEntropy
from bats.optimizers import AdamOptimizer, GradientDescentOptimizer, NAdamOptimizer
from bats.sources import Resident

LOSSES = (SpikeCountClassLoss, TTFSSoftmaxCrossEntropy)
OPTIMIZERS = (GradientDescentOptimizer, AdamOptimizer, NAdamOptimizer)
MOST_NEURONS = 2**16  # neuron and slot of a spike share 32 bits
WIDE, MANY_EVENTS = 4096, 4096  # from here on the plain step is faster
MOST_WEIGHTS = 2**29  # of the first layer: a row's offset in bytes has 32 bits


def takes_kernels(network):
    """Whether the CUDA kernels run the network's fused step, rather than bats.fused.cpu_step."""
    return network.device == "cuda"


@functools.cache
def shared_limit():
    """Bytes of shared memory that a block may use."""
    device = array_module("cuda").cuda.Device()
    return min(layout.MAX_SHARED, device.attributes["MaxSharedMemoryPerBlockOptin"])


def reason_against(network, loss, optimizer, source, max_simulation):
    """None if the fused step can be used, else a sentence that says why not. source: resident, or about to be."""
    layers = network.layers[1:]
    if len(layers) < 2 or any(type(layer) is not LIFLayer for layer in layers):
        return f"expected two or more dense LIF layers, received {', '.join(type(layer).__name__ for layer in layers)}"
    if len(layers) > 2 and not takes_kernels(network):
        return f"expected one hidden layer on the {network.device}, received {len(layers) - 1}"
    *hidden_layers, output = layers
    hidden = layers[0]
    if any(layer.regularizer is not None for layer in layers):
        return "a layer has a regularizer"
    if any(getattr(layer, "grid", None) is not None for layer in network.layers):
        return "a layer has a time grid"
    if any(layer.tau_s != output.tau_s for layer in hidden_layers):
        return f"expected one tau_s for all layers, received {', '.join(str(layer.tau_s) for layer in layers)}"
    if not max_simulation < float(hidden.neuron.length):
        return f"expected max_simulation below 16 tau_s = {float(hidden.neuron.length):g} s, received {max_simulation:g}"
    if type(loss) not in LOSSES:
        return f"expected one of {', '.join(kind.__name__ for kind in LOSSES)}, received {type(loss).__name__}"
    if optimizer is not None and type(optimizer) not in OPTIMIZERS:
        return f"expected one of {', '.join(kind.__name__ for kind in OPTIMIZERS)}, received {type(optimizer).__name__}"
    if type(source) is not Resident:
        return f"expected images or spike trains that stay the same in all epochs, received {type(source).__name__}"
    return kernels_reason(network) if takes_kernels(network) else None


def kernels_reason(network):
    """Why the kernels cannot hold a network that is of the right kind, or None."""
    layers = network.layers[1:]
    hidden_layers = layers[:-1]
    for layer in hidden_layers:
        if max(layer.n_neurons, layer.max_n_spike) >= MOST_NEURONS:
            return f"expected fewer than {MOST_NEURONS} hidden neurons and slots, received {layer.n_neurons} and {layer.max_n_spike}"
    sizes = tuple(layer.n_neurons for layer in network.layers)
    if sizes[0] * sizes[1] >= MOST_WEIGHTS:
        return f"expected fewer than {MOST_WEIGHTS} weights in the first layer, received {sizes[0] * sizes[1]}"
    slots = tuple(layer.max_n_spike for layer in layers)
    itemsize = np.dtype(network.dtype).itemsize
    if len(layers) > 2:
        fits = deep_layout.fits(sizes, slots, itemsize, shared_limit())
    else:
        fits = layout.fits(sizes, slots[1], slots[0], itemsize, shared_limit())
    if not fits:
        return f"layers of {sizes} neurons need more shared memory than a block has"
    return None


def reason_for_plain(network, source):
    """Why the plain step is the faster one although the kernels could be used, or None (docs/performance.md, "Any size"). On the CPU
    the fused step always is."""
    if not takes_kernels(network):
        return None
    widest = max(layer.n_neurons for layer in network.layers[1:])
    if widest > WIDE:
        return f"with more than {WIDE} neurons in a layer the plain step is faster, received {widest}"
    events = source.n_neurons * source.n_slots
    if events > MANY_EVENTS:
        return f"with more than {MANY_EVENTS} events in a sample the plain step is faster, received up to {events}"
    return None
