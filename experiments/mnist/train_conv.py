"""Trains 28x28x1 - C5x5x15 - P2 - C5x5x40 - P2 - 300 - 10 on MNIST with the spike-count read-out: 30 spikes from the label's
neuron, 3 from the others. Every image is deformed elastically, anew in every epoch; the test images never are.

python experiments/mnist/train_conv.py [--no-augment] [--epochs N] [--seed N] [--help]
"""

from models_conv import CONV, SIGMA, T_INPUT

import bats
from bats.augmentation import ElasticImages
from bats.data import load_mnist
from bats.sources import LatencyImages
from bats.training import command_line
from bats.training.experiment import Study, Task, run
from bats.training.image_task import SUBSET_EPOCHS


def load_task(arguments):
    """MNIST as a Task; the deformations follow from --seed."""
    data = load_mnist(arguments.data)

    def plain(part):
        return LatencyImages(data.x_train[part], data.y_train[part], T_INPUT)

    def deformed(part):
        return ElasticImages(data.x_train[part], data.y_train[part], arguments.seed, SIGMA, T_INPUT)

    return Task(
        dataset=data.describe(),
        n_train=len(data.x_train),
        make_source=plain if arguments.no_augment else deformed,
        make_held_out=plain,
        test_source=LatencyImages(data.x_test, data.y_test, T_INPUT),
        class_names=list(range(10)),
        default_epochs=SUBSET_EPOCHS if data.is_subset else CONV.epochs,
    )


def make_study(arguments):
    task = load_task(arguments)
    network = CONV.network(arguments.device, arguments.dtype, arguments.seed)
    optimizer = bats.AdamOptimizer(arguments.learning_rate)
    settings = {"augmentation": None if arguments.no_augment else {"elastic": {"grid": [2, 2], "sigma_pixels": SIGMA}}}
    return Study("mnist_conv", network, CONV.make_loss(), optimizer, task, CONV.t_max, CONV.schedule(), settings=settings)


if __name__ == "__main__":
    parser = command_line.make_parser(__doc__, epochs=CONV.epochs, batch_size=CONV.batch_size, learning_rate=CONV.learning_rate)
    parser.add_argument("--no-augment", action="store_true", help="train on the images as they are")
    options = command_line.parse(parser)
    run(lambda: make_study(options), options)
