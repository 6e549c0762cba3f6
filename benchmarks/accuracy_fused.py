"""Does the fast step learn what the slow one learns? MNIST count and TTFS over seeds, trained as a user would, with the fused step
where it can be used; accuracies after epochs 1, 3, 6 and 10, and the seeds in which an output is nearly silent after the first
epoch.

An output is nearly silent if it fires in fewer than half of the test images of its own class. That is looked up with a plain
step: a fused one leaves no spikes. The remedy is bats.SpikeRateRegularizer of docs/silent_neurons.md in both layers; such
networks may have to take the plain step, and every row says which it took. accuracy.py --fused runs it.
"""

from concurrent.futures import ThreadPoolExecutor

import environment  # noqa: F401 - makes the experiments importable
import models
import numpy as np

import bats
from bats.device import stream_of_its_own, to_numpy
from bats.sources import LatencyImages
from bats.step import Step
from bats.training import StepSchedule, Trainer

MODELS = {"count": models.COUNT, "ttfs": models.TTFS}
AFTER = (1, 3, 6, 10)  # epochs
TEST_BATCH = 500
NEARLY_SILENT = 0.5  # share of the images of its class in which an output fires


def own_class_shares(network, model, test):
    """[classes]: share of the test images of a class in which its output fires."""
    step = Step(network, model.make_loss(), test, min(TEST_BATCH, len(test)), model.t_max)
    fired, images = np.zeros(test.n_classes), np.bincount(test.labels, minlength=test.n_classes)
    step.start(np.arange(len(test)))
    at = 0
    while n := step.evaluate_next():
        labels = test.labels[at : at + n]
        own = to_numpy(network.output_spike_trains[1])[np.arange(n), labels] > 0
        fired += np.bincount(labels[own], minlength=test.n_classes)
        at += n
    return fired / np.maximum(1, images)


def train(job, seed, epochs, remedy, device, sources):
    """One run -> a row of the record. remedy: strength of the regularizer, or 0."""
    model = MODELS[job]
    with stream_of_its_own(device):
        regularizer = bats.SpikeRateRegularizer(strength=remedy) if remedy else None
        network = model.network(device, "float32", seed, regularizer=regularizer)
        shares = []

        def look(row):
            if row["epoch"] == 1:
                shares.extend(own_class_shares(network, model, sources[1]).tolist())

        trainer = Trainer(
            network, model.make_loss(), bats.AdamOptimizer(model.learning_rate), batch_size=model.batch_size, max_simulation=model.t_max,
            seed=seed, schedule=StepSchedule(model.learning_rate_factor, 1), on_failure="ignore", progress=False, on_epoch=look,
            fused="auto",
        )  # fmt: skip
        history = trainer.fit(*sources, epochs)
    accuracy = [row["test_accuracy_percent"] for row in history]
    silent = [n for n, share in enumerate(shares) if share < NEARLY_SILENT]
    row = {
        "job": job, "seed": seed, "remedy": remedy, "step": trainer.step_kind, "test_accuracy_percent": accuracy, "nearly_silent": silent,
        "least_share_of_own_class": min(shares), "train_seconds": [row["train_seconds"] for row in history],
    }  # fmt: skip
    shown = " ".join(f"{accuracy[epoch - 1]:.2f}" for epoch in AFTER if epoch <= len(accuracy))
    said = f" | nearly silent after epoch 1: {silent}" if silent else ""
    kind = trainer.step_kind.split(":")[0] + (f", remedy {remedy:g}" if remedy else "")
    print(f"{job:6s} seed {seed:2d} {kind:25s} {shown} %{said}", flush=True)
    return row


def summarise(rows):
    """{"job" or "job, remedy STRENGTH": accuracies after some epochs as mean, min, max; how many seeds have a nearly silent output}."""
    found = {}
    for job, remedy in dict.fromkeys((row["job"], row["remedy"]) for row in rows):
        part = [row for row in rows if (row["job"], row["remedy"]) == (job, remedy)]
        accuracies = np.array([row["test_accuracy_percent"] for row in part])
        after = {
            str(epoch): {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
            for epoch, values in ((epoch, accuracies[:, epoch - 1]) for epoch in AFTER if epoch <= accuracies.shape[1])
        }
        silent = [row["seed"] for row in part if row["nearly_silent"]]
        found[f"{job}, remedy {remedy:g}" if remedy else job] = {
            "seeds": len(part), "steps": sorted({row["step"] for row in part}), "test_accuracy_percent_after": after,
            "seeds_with_a_nearly_silent_output_after_epoch_1": silent,
        }  # fmt: skip
    return found


def study(jobs, seeds, epochs, strengths, remedy_epochs, at_once, device, data):
    """{"rows", "summary"}: epochs without the remedy, remedy_epochs with each strength of it."""
    sources = LatencyImages(data.x_train, data.y_train), LatencyImages(data.x_test, data.y_test)
    kinds = [(epochs, 0.0), *((remedy_epochs, strength) for strength in strengths)]
    runs = [(job, seed, *kind) for job in jobs for kind in kinds if kind[0] for seed in seeds]
    with ThreadPoolExecutor(at_once if device == "cuda" else 1) as pool:
        rows = list(pool.map(lambda run: train(*run, device, sources), runs))
    summary = summarise(rows)
    for name, figures in summary.items():
        print(f"{name}: {figures}")
    return {"rows": rows, "summary": summary, "nearly_silent_below": NEARLY_SILENT}
