"""Trains 784-800-47 on EMNIST-balanced with the spike-count read-out: 15 spikes from the label's neuron, 3 from the others.

python experiments/emnist/train.py [--data PATH] [--epochs N] [--seed N] [--help]

--data takes EMNIST-balanced as published (MATLAB file, archive, gzip files) or any .npz with x_train, y_train, x_test, y_test;
what it holds is named in every table and file.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mnist"))

from models import COUNT, T_INPUT

import bats
from bats.training import command_line
from bats.training.experiment import Study, run
from bats.training.image_task import load_image_task


def make_study(arguments):
    task = load_image_task("emnist", arguments.data, T_INPUT, COUNT.epochs)
    sizes = {"n_inputs": task.test_source.n_neurons, "n_classes": task.test_source.n_classes}
    network = COUNT.network(arguments.device, arguments.dtype, arguments.seed, **sizes)
    return Study("emnist", network, COUNT.make_loss(), bats.AdamOptimizer(arguments.learning_rate), task, COUNT.t_max)


if __name__ == "__main__":
    options = command_line.parse(
        command_line.make_parser(__doc__, epochs=COUNT.epochs, batch_size=COUNT.batch_size, learning_rate=COUNT.learning_rate)
    )
    run(lambda: make_study(options), options)
