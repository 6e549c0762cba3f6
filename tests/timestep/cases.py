"""Random networks in time steps, in the form of the oracle and as bats.Network."""

import itertools

import numpy as np

import bats
from bats import timestep
from bats.reference_timestep import Layer


def random_layers(rng, sizes, n_steps, kind, *, skip=False, reset=True, bias=True, surrogate=("FastSigmoid", 2.0), learned=False):
    """Layers sizes[0] -> ... -> sizes[-1], the last one a read-out; most neurons spike, some never."""
    layers = []
    for place, (n_pre, n) in enumerate(itertools.pairwise(sizes)):
        last = place == len(sizes) - 2
        beta = np.exp(-1 / rng.uniform(2, 20))
        response = beta ** np.arange(n_steps) if not learned else rng.uniform(-0.2, 1, n_steps)
        layers.append(
            Layer(
                "readout" if last else kind, rng.normal(0.15, 1.2, (n, n_pre)) / np.sqrt(n_pre),
                rng.normal(0, 0.1, n) * bias, response, 0.8, reset and kind == "standard",
                skip and 0 < place and not last, surrogate,
            )
        )  # fmt: skip
        if not last:
            layers[-1].weights[0] = -1  # a silent neuron
    return layers


def random_waves(rng, batch, n_steps, n, rate=0.3):
    return (rng.random((batch, n_steps, n)) < rate).astype(np.float64)


def build(layers, n_steps, device, dtype="float64", learned=False, bias=True):
    """The same as a bats.Network."""
    network = bats.Network(device=device, dtype=dtype, seed=0)
    network.add_layer(timestep.SteppedInputLayer(layers[0].weights.shape[1], n_steps), input=True)
    for place, layer in enumerate(layers):
        beta = layer.response[1] if n_steps > 1 and not learned else 0.9
        common = {"tau": -0.001 / np.log(beta), "dt": 0.001, "bias": 0.0 if bias else None, "name": f"layer {place}"}
        if layer.kind != "readout":
            common["surrogate"] = getattr(timestep, layer.surrogate[0])(layer.surrogate[1])
            common |= {"threshold": layer.threshold, "skip": layer.skip}
        if layer.kind != "standard":
            common["learned_filter"] = learned
        kinds = {"standard": timestep.StandardLIFLayer, "fast": timestep.FastLIFLayer, "readout": timestep.MembraneReadout}
        options = {"reset": layer.reset} if layer.kind == "standard" else {}
        added = network.add_layer(kinds[layer.kind](None, len(layer.weights), **common, **options))
        added.weights = layer.weights
        if bias:
            added.bias = layer.bias
        if learned and layer.kind != "standard":
            added.filter = layer.response
    return network


VARIANTS = {
    "standard": {"kind": "standard"},
    "no reset, no bias": {"kind": "standard", "reset": False, "bias": False},
    "standard, skip": {"kind": "standard", "skip": True, "surrogate": ("Sigmoid", 3.0)},
    "fast": {"kind": "fast"},
    "fast, skip": {"kind": "fast", "skip": True, "surrogate": ("ArcTan", 4.0)},
    "fast, learned filter": {"kind": "fast", "skip": True, "learned": True},
}


def case(seed, variant, batch=5, n_steps=13, sizes=(7, 6, 6, 6, 3)):
    """(layers of the oracle, waves, labels, keywords for build())."""
    rng = np.random.default_rng(seed)
    options = VARIANTS[variant]
    layers = random_layers(rng, sizes, n_steps, **options)
    waves, labels = random_waves(rng, batch, n_steps, sizes[0]), rng.integers(0, sizes[-1], batch)
    return layers, waves, labels, {"learned": options.get("learned", False), "bias": options.get("bias", True)}
