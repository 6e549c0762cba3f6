"""Test accuracy after every epoch of the MNIST jobs and of Yin-Yang, over seeds: do fast runs learn what slow ones learn?

    python benchmarks/accuracy.py --device cuda --seeds 0 1 2 --out results/accuracy_cuda.json
    python benchmarks/accuracy.py --device cuda --seeds 0 1 2 --jobs conv_plain conv --out results/accuracy_conv_cuda.json

    python benchmarks/accuracy.py --device cuda --fused --at-once 4 --out results/accuracy_fused_cuda.json

With --fused: what accuracy_fused.py says, over 20 seeds. conv_plain is the convolutional network trained for one epoch on the
images as they are, conv for ten with elastic deformations.
"""

import argparse
import runpy

import accuracy_fused
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
    parser.add_argument("--jobs", nargs="+", choices=list(EPOCHS), help="default: count ttfs yin_yang; with --fused count ttfs")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 0; with --fused 0 to 19")
    parser.add_argument("--fused", action="store_true", help="the study of the fused step over seeds (accuracy_fused.py)")
    parser.add_argument("--epochs", type=int, default=10, help="with --fused (default %(default)s)")
    parser.add_argument("--remedy-epochs", type=int, default=3, help="with --fused, with the remedy; 0: none (default %(default)s)")
    parser.add_argument("--strengths", nargs="+", type=float, default=[1e-7], help="with --fused, of the remedy (default %(default)s)")
    parser.add_argument("--at-once", type=int, default=4, help="with --fused, runs at the same time on CUDA (default %(default)s)")
    parser.add_argument("--data", help="an .npz file or folder; default: where bats.data.load_mnist looks")
    parser.add_argument("--out", help="JSON file for the results")
    options = parser.parse_args()
    device = bats.device.resolve(options.device)
    data = load_mnist(options.data)
    images = f"{data.name}: {len(data.x_train)} training images"
    if options.fused:
        jobs, seeds = options.jobs or ["count", "ttfs"], range(20) if options.seeds is None else options.seeds
        if not set(jobs) <= set(accuracy_fused.MODELS):
            parser.error(f"--jobs: expected {' '.join(accuracy_fused.MODELS)} with --fused, received {' '.join(jobs)}")
        how = options.epochs, options.strengths, options.remedy_epochs
        results = accuracy_fused.study(jobs, seeds, *how, options.at_once, device, data)
        if options.out:
            environment.write(options.out, environment.record(device=device, data=images, at_once=options.at_once, **results))
        return
    rows, options.seeds = [], options.seeds or [0]
    options.jobs = options.jobs or ["count", "ttfs", "yin_yang"]
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
        environment.write(options.out, environment.record(device=device, data=images, rows=rows))


if __name__ == "__main__":
    main()
