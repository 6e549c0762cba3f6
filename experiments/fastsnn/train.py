"""Trains a network in time steps with surrogate gradients: standard LIF neurons, or FastSNN's neurons that spike once.

python experiments/fastsnn/train.py [--dataset fmnist|mnist|nmnist|shd] [--layer standard|fast] [--epochs N] [--help]

The defaults are the published settings of the data set (arXiv 2205.15286; README.md). Times are in seconds.
"""

import argparse

from model_fastsnn import DATASETS, SURROGATES, load_task, make_network

import bats
from bats.timestep import MaxMembraneCrossEntropy
from bats.training import command_line
from bats.training.experiment import Study, run


def read_options(argv=None):
    choice = {"choices": list(DATASETS), "default": "fmnist", "help": "(default %(default)s)"}
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # the other defaults depend on it
    first.add_argument("--dataset", **choice)
    settings = DATASETS[first.parse_known_args(argv)[0].dataset]
    parser = command_line.make_parser(
        __doc__, epochs=settings.epochs, batch_size=settings.batch_size, learning_rate=settings.learning_rate
    )
    add, default = parser.add_argument, "(default %(default)s)"
    add("--dataset", **choice)
    add("--lr", dest="learning_rate", type=command_line.positive, default=settings.learning_rate, help="short for --learning-rate")
    add("--layer", choices=("standard", "fast"), default="fast", help=default)
    add("--n-hidden", type=command_line.integer(1), default=settings.n_hidden, help=f"neurons of a hidden layer {default}")
    add("--n-layers", type=command_line.integer(1), default=settings.n_layers, help=f"hidden layers {default}")
    add("--hidden-tau", type=command_line.positive, default=settings.hidden_tau, help=f"of the hidden membranes, seconds {default}")
    add("--readout-tau", type=command_line.positive, default=settings.readout_tau, help=f"of the read-out, seconds {default}")
    add("--dt", type=command_line.positive, default=settings.dt, help=f"duration of a time step, seconds {default}")
    add("--surrogate", choices=list(SURROGATES), default="fast_sigmoid", help=f"stands for the gradient of a spike {default}")
    add("--slope", type=command_line.positive, default=100.0, help=f"of the surrogate {default}")
    add("--learned-filter", action="store_true", help="train the decay of the membranes, as the released code does (fast only)")
    add("--no-skip", action="store_true", help="several hidden layers: do not hand the spikes of one on beside the next")
    add("--no-shuffle", action="store_true", help="every epoch in the order of the data, as published")
    return command_line.parse(parser, argv)


def make_study(options):
    task = load_task(options.dataset, options.data, options.dt)
    network = make_network(
        task.test_source, options.layer, options, surrogate=SURROGATES[options.surrogate](options.slope),
        learned_filter=options.learned_filter, skip=not options.no_skip, device=options.device, dtype=options.dtype, seed=options.seed,
    )  # fmt: skip
    return Study(
        f"fastsnn_{options.dataset}_{options.layer}", network, MaxMembraneCrossEntropy(), bats.AdamOptimizer(options.learning_rate),
        task, task.test_source.n_steps * options.dt, shuffle=not options.no_shuffle,
    )  # fmt: skip


if __name__ == "__main__":
    options = read_options()
    run(lambda: make_study(options), options)
