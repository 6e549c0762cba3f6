"""Test accuracy after every epoch of the MNIST jobs and of Yin-Yang, over seeds: do fast runs learn what slow ones learn?

    python benchmarks/accuracy.py --device cuda --seeds 0 1 2 --out results/accuracy_cuda.json
    python benchmarks/accuracy.py --device cuda --seeds 0 1 2 --jobs conv_plain conv --out results/accuracy_conv_cuda.json

conv_plain is the convolutional network trained for one epoch on the images as they are, conv for ten with elastic deformations.
"""

import argparse
import runpy

import environment
import models
import models_conv
import numpy as np

import bats
from bats.augmentation import ElasticImages
from bats.data import load_mnist
from bats.sources import LatencyImages
from bats.training import StepSchedule, Trainer

EPOCHS = {"count": 6, "ttfs": 10, "yin_yang": 30, "conv_plain": 1, "conv": 10}


def mnist_run(job, epochs, device, seed, data):
    convolutional = job.startswith("conv")
    model = models_conv.CONV if convolutional else {"count": models.COUNT, "ttfs": models.TTFS}[job]
    network = model.network(device, "float32", seed)
    schedule = model.schedule() if convolutional else StepSchedule(model.learning_rate_factor, 1)
    trainer = Trainer(
        network, model.make_loss(), bats.AdamOptimizer(model.learning_rate), batch_size=model.batch_size,
        max_simulation=model.t_max, seed=seed, schedule=schedule, on_failure="ignore", progress=False,
    )  # fmt: skip
    if job == "conv":
        train_source = ElasticImages(data.x_train, data.y_train, seed, models_conv.SIGMA, models_conv.T_INPUT)
    else:
        train_source = LatencyImages(data.x_train, data.y_train)
    return trainer.fit(train_source, LatencyImages(data.x_test, data.y_test), epochs)


def yin_yang_run(epochs, device, seed):
    script = runpy.run_path(str(environment.ROOT / "experiments" / "yin_yang" / "train_ttfs.py"))
    options = argparse.Namespace(device=device, dtype="float32", seed=seed, learning_rate=0.002)
    study = script["make_study"](options)
    trainer = Trainer(
        study.network, study.loss, study.optimizer, batch_size=50, max_simulation=study.max_simulation, seed=seed,
        schedule=study.schedule, on_failure="ignore", progress=False,
    )  # fmt: skip
    return trainer.fit(study.task.make_source(np.arange(study.task.n_train)), study.task.test_source, epochs)


def summarise(history):
    accuracy = [row["test_accuracy_percent"] for row in history]
    best = np.maximum.accumulate(accuracy)
    return {
        "test_accuracy_percent": accuracy,
        "worst_fall_points": float((best - accuracy).max()),
        "train_seconds": [row["train_seconds"] for row in history],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--jobs", nargs="+", default=["count", "ttfs", "yin_yang"], choices=list(EPOCHS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="JSON file for the results")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    data = load_mnist(options.data)
    rows = []
    for job in options.jobs:
        for seed in options.seeds:
            if job == "yin_yang":
                history = yin_yang_run(EPOCHS[job], device, seed)
            else:
                history = mnist_run(job, EPOCHS[job], device, seed, data)
            rows.append({"job": job, "seed": seed, **summarise(history)})
            accuracy = rows[-1]["test_accuracy_percent"]
            every = 1 if len(accuracy) <= 10 else 5
            shown = " ".join(f"{value:.2f}" for value in accuracy[::-1][::every][::-1])
            print(f"{job:10s} seed {seed}: {shown} % | worst fall {rows[-1]['worst_fall_points']:.2f} points", flush=True)
    if options.out:
        images = f"{data.name}: {len(data.x_train)} training images"
        environment.write(options.out, environment.record(device=device, data=images, rows=rows))


if __name__ == "__main__":
    main()
