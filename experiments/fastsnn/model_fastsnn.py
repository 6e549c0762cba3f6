"""FastSNN's networks and data (Taylor, King & Harper 2022, arXiv 2205.15286): what every script of this folder shares."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

if importlib.util.find_spec("bats") is None:  # a bare checkout, nothing installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bats
from bats import timestep
from bats.data import load_image_data, load_nmnist, load_shd
from bats.training.experiment import Task

SUBSET_EPOCHS = 10  # default on a set that is only a part of the published one
SURROGATES = {"fast_sigmoid": timestep.FastSigmoid, "arctan": timestep.ArcTan, "sigmoid": timestep.Sigmoid}


@dataclass(frozen=True)
class Settings:
    """The published settings of a data set; times in seconds."""

    duration: float  # of a sample
    dt: float
    epochs: int
    learning_rate: float
    batch_size: int = 128
    n_hidden: int = 200
    n_layers: int = 1
    hidden_tau: float = 0.010
    readout_tau: float = 0.020


DATASETS = {
    "fmnist": Settings(duration=0.1, dt=0.001, epochs=150, learning_rate=2e-4),
    "mnist": Settings(duration=0.1, dt=0.001, epochs=150, learning_rate=2e-4),  # not published: as Fashion-MNIST
    "nmnist": Settings(duration=0.3, dt=0.001, epochs=150, learning_rate=2e-4),
    "shd": Settings(duration=1.0, dt=0.002, epochs=200, learning_rate=1e-3),
}


def load_task(dataset, path=None, dt=None):
    """A data set of DATASETS as a Task. path: as in bats.data.load_*, None searches; dt: seconds, None is the published one.

    Raises what bats.data.load_image_data, load_nmnist and load_shd raise, ValueError for a dt that is longer than a sample.
    """
    settings = DATASETS[dataset]
    dt = settings.dt if dt is None else dt
    n_steps = round(settings.duration / dt)
    if n_steps < 1:
        raise ValueError(f"--dt: expected at most the {settings.duration} s of a sample, received {dt} s")
    if dataset in ("fmnist", "mnist"):
        data = load_image_data({"fmnist": "fashion_mnist"}.get(dataset, dataset), path)
        table = timestep.fashion_latency_bins(n_steps, dt)
        parts = ((data.x_train, data.y_train), (data.x_test, data.y_test))
        train, test = (timestep.LatencyBins(*part, n_steps, table, data.n_classes) for part in parts)
        described = data.describe()
    else:
        data = load_nmnist(path, merge_polarities=True) if dataset == "nmnist" else load_shd(path)
        train, test = (timestep.BinnedEvents(part, data.n_units, n_steps, dt, data.n_classes) for part in (data.train, data.test))
        described = {**data.describe(), "dropped_after_the_last_step": [train.n_dropped, test.n_dropped]}
    epochs = SUBSET_EPOCHS if data.is_subset else settings.epochs
    return Task(described, len(train), train.subset, test, list(data.class_names), epochs)


def make_network(source, layer, options, *, surrogate=None, learned_filter=False, skip=True, device="auto", dtype="float32", seed=None):
    """n_inputs - n_hidden (n_layers times) - n_classes for a source; layer: "standard" or "fast".

    options: an object with n_hidden, n_layers, hidden_tau, readout_tau, dt, such as Settings. With several hidden layers, skip
    hands the spikes of each on to the next. learned_filter (fast only): the decay of hidden layers and read-out is trained.
    """
    network = bats.Network(device=device, dtype=dtype, seed=seed)
    network.add_layer(timestep.SteppedInputLayer(source.n_neurons, source.n_steps, name="input"), input=True)
    kind, further = timestep.StandardLIFLayer, {}
    if layer == "fast":
        kind, further = timestep.FastLIFLayer, {"learned_filter": learned_filter}
    elif learned_filter:
        raise ValueError("--learned-filter: expected --layer fast, received --layer standard")
    for place in range(options.n_layers):
        name = "hidden" if options.n_layers == 1 else f"hidden_{place + 1}"
        network.add_layer(kind(
            None, options.n_hidden, options.hidden_tau, options.dt, skip=skip and place > 0, surrogate=surrogate, name=name, **further,
        ))  # fmt: skip
    readout = timestep.MembraneReadout(
        None, source.n_classes, options.readout_tau, options.dt, learned_filter=learned_filter, name="output"
    )
    network.add_layer(readout)
    return network
