"""Trains 784-400-400-10 on Fashion-MNIST with the spike-count read-out: 15 spikes from the label's neuron, 3 from the others.

python experiments/fashion_mnist/train.py [--rate-strength 1e-4] [--epochs N] [--seed N] [--help]

In some seeds an output neuron never fires and is never right; --rate-strength turns on the remedy (docs/silent_neurons.md).
"""

from model_fashion import FASHION

import bats
from bats.training import command_line
from bats.training.experiment import Study, run
from bats.training.image_task import load_image_task


def make_study(arguments):
    task = load_image_task("fashion_mnist", arguments.data, FASHION.t_input, FASHION.epochs)
    sizes = {"n_inputs": task.test_source.n_neurons, "n_classes": task.test_source.n_classes}
    regularizer = bats.SpikeRateRegularizer(strength=arguments.rate_strength) if arguments.rate_strength > 0 else None
    network = FASHION.network(arguments.device, arguments.dtype, arguments.seed, **sizes, regularizer=regularizer)
    optimizer = bats.AdamOptimizer(arguments.learning_rate)
    settings = {"spike_rate_regularizer": None if regularizer is None else regularizer.describe()}
    return Study("fashion_mnist", network, FASHION.make_loss(), optimizer, task, FASHION.t_max, FASHION.schedule(), settings=settings)


if __name__ == "__main__":
    parser = command_line.make_parser(
        __doc__, epochs=FASHION.epochs, batch_size=FASHION.batch_size, learning_rate=FASHION.learning_rate
    )
    parser.add_argument(
        "--rate-strength", type=command_line.non_negative, default=0.0, metavar="S",
        help="strength of the spike-rate regularizer, the remedy for silent neurons, in all layers (default 0: off)",
    )  # fmt: skip
    options = command_line.parse(parser)
    run(lambda: make_study(options), options)
