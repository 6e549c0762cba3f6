"""Trains 5-120-3 on the Yin-Yang task (Kriener et al. 2022) to fire first with the label's neuron.

    python experiments/yin_yang/train_ttfs.py [--epochs N] [--seed N] [--help]

The points are drawn when the script runs: 5000 for training and 1000 for testing, always the same ones; --seed fixes
the initial weights and the order of the samples. Input times in units of tau_s, as in Fast & Deep: 0.15 to 2, bias 0.9.
"""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("bats") is None:  # a bare checkout, nothing installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bats
from bats.data import yin_yang
from bats.initializers import normal
from bats.sources import SpikeSamples
from bats.training import StepSchedule, command_line
from bats.training.experiment import Study, Task, run

TAU_S = 1.0  # seconds; only ratios to it matter
T_MAX = 10.0
THETA = 1.0
EPOCHS = 30
SLOPE_FLOOR = 0.1  # bounds the gradient of grazing spikes: fewer dips between epochs than with 0, the exact gradient
N_HIDDEN = 120
SEED_TRAIN, SEED_TEST = 1, 2


def build_network(arguments):
    network = bats.Network(device=arguments.device, dtype=arguments.dtype, seed=arguments.seed)
    points = bats.InputLayer(5, name="input")
    options = {"max_n_spike": 1, "slope_floor": SLOPE_FLOOR}
    hidden = bats.LIFLayer(points, N_HIDDEN, TAU_S, THETA, THETA, normal(0.7, 0.7), name="hidden", **options)
    output = bats.LIFLayer(hidden, 3, TAU_S, THETA, THETA, normal(0.2, 0.2), name="output", **options)
    network.add_layer(points, input=True)
    network.add_layer(hidden)
    network.add_layer(output)
    return network


def load_task():
    times, counts, labels = yin_yang(5000, SEED_TRAIN)
    test = yin_yang(1000, SEED_TEST)
    return Task(
        dataset={"name": "Yin-Yang", "n_train": 5000, "n_test": 1000, "seeds": [SEED_TRAIN, SEED_TEST]},
        n_train=len(labels),
        make_source=lambda part: SpikeSamples(times[part], counts[part], labels[part]),
        test_source=SpikeSamples(*test),
        class_names=["yin", "yang", "dot"],
        default_epochs=EPOCHS,
    )


def make_study(arguments):
    # a wider softmax keeps pushing outputs that are late already, until they are silent and learn no more
    loss = bats.TTFSSoftmaxCrossEntropy(tau=0.03)
    optimizer = bats.AdamOptimizer(arguments.learning_rate)
    schedule = StepSchedule(factor=0.5, every=10, minimum=1e-4)
    return Study("yin_yang_ttfs", build_network(arguments), loss, optimizer, load_task(), T_MAX, schedule)


if __name__ == "__main__":
    parser = command_line.make_parser(__doc__, epochs=EPOCHS, batch_size=50, learning_rate=0.002)
    options = command_line.parse(parser)
    run(lambda: make_study(options), options)
