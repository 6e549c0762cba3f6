"""What a finished run leaves in its folder: figures, curves, confusion matrix, features and activation maps."""

import shlex
import time

import numpy as np

from bats.device import to_numpy
from bats.stdp import MNIST_BANK, metrics, pictures
from bats.stdp.history import WALL_TIMES
from bats.stdp.projection import learned_features
from bats.training import plots
from bats.training.atomic import write_json, write_text
from bats.training.history import history_csv


def write_history(trainer, folder):
    """metrics.csv (decision epochs), layers.csv (epochs without labels), output_metrics/correct.png and silent.png."""
    model = trainer.model.name
    write_text(folder.path / "metrics.csv", history_csv(trainer.history))
    if trainer.layer_history:
        write_text(folder.path / "layers.csv", history_csv(trainer.layer_history))
    parts = [name for name in ("train", "validation", "test") if f"{name}_correct_percent" in trainer.history[0]]
    epochs = [row["epoch"] for row in trainer.history]
    curves = {name: [row[f"{name}_correct_percent"] for row in trainer.history] for name in parts}
    title = f"{model}: decisions by reward-modulated STDP"
    plots.metric_curves(epochs, curves, title, "correct (% of the images)", folder.output_metrics / "correct.png")
    silent = {name: [row[f"{name}_silent_percent"] for row in trainer.history] for name in parts}
    plots.metric_curves(epochs, silent, f"{model}: images without a decision", "silent (%)", folder.output_metrics / "silent.png")


def evaluate(trainer, task, folder):
    """Figures of the kept epoch on the test set; writes evaluation.json and confusion_matrix.png."""
    labels, names = trainer.parts["test"].labels, list(task.data.class_names)
    start = time.perf_counter()
    decisions, scores = trainer.model.readout.evaluate(trainer.inputs["test"])
    seconds = time.perf_counter() - start
    result = metrics.evaluate(decisions, scores, labels, len(names))
    write_json(folder.path / "evaluation.json", result)
    matrix = np.array(result["confusion"])
    columns = [*names, "silent"][: matrix.shape[1]]
    title = f"{trainer.model.name}, {task.data.name} ({task.data.kind})\n{100 * result['accuracy']:.2f} % of {len(labels)} test images"
    plots.confusion_matrix(matrix, columns, title, folder.path / "confusion_matrix.png")
    return {**result, "decision_seconds": seconds}


def portable_command(options):
    """The command of a run as it can be given on another machine: without --data, --out, --summary, --resume and their paths."""
    kept, skip = [], False
    for option in options:
        names_a_path = option in ("--data", "--out", "--summary", "--resume")
        if not (skip or names_a_path):
            kept.append(option)
        skip = names_a_path
    return shlex.join(["python", "experiments/stdp/train.py", *kept])


def summarise(trainer, task, result, arguments, environment, seconds):
    """The figures of a run as values that JSON knows."""
    curve = [{key: value for key, value in row.items() if key not in WALL_TIMES} for row in trainer.history]
    per_image = [1e6 * row["train_seconds"] / len(trainer.parts["train"]) for row in trainer.history]
    layers = {}
    for row in trainer.layer_history:
        layers.setdefault(row["layer"], []).append(1e6 / row["images_per_second"])
    microseconds = {name: float(np.median(values)) for name, values in layers.items()}
    return {
        "model": trainer.model.name,
        "dataset": task.data.describe(),
        "images": {name: len(part) for name, part in trainer.parts.items()},
        "device": environment["device_used"],
        "command": portable_command(environment["command_line"][2:]),
        "started": environment["started"],
        "machine": environment["device"],
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "decision_epochs_run": len(trainer.history),
        "selected_epoch": trainer.best_epoch,
        "selection": "best epoch on held-out training images" if "validation" in trainer.parts else "last epoch",
        "augment": arguments.augment,
        "weights": sum(int(np.prod(layer.weights.shape)) for layer in trainer.model.layers().values()),
        "test": {key: value for key, value in result.items() if key != "confusion"},
        "confusion": result["confusion"],
        "encoding_seconds": task.seconds,
        "microseconds_per_image": {**microseconds, "decision": float(np.median(per_image))},
        "epochs_seconds": sum(row["train_seconds"] + row.get("evaluation_seconds", 0) for row in trainer.layer_history + trainer.history),
        "total_seconds": seconds,  # of this process; a resumed run spent epochs_seconds in its epochs, all starts together
        "curve": curve,
    }


def draw_features(trainer, task, folder):
    """features_<layer>.png: what the neurons of each layer have learned, in image space. Returns the paths."""
    paths, model = [], trainer.model
    for name, images in learned_features(model, MNIST_BANK).items():
        paths.append(folder.path / f"features_{name}.png")
        if name in model.readout.decision_layers:
            title = f"{model.name}, {name}: for each class the neurons of most contrast, weights projected to the image"
            pictures.class_sheet(images, task.data.class_names, title, paths[-1])
        else:
            shown = f"{min(100, len(images))} of {len(images)} features"
            pictures.feature_sheet(images, f"{model.name}, {name}: {shown}, weights projected to the image", paths[-1])
    return paths


def draw_activations(trainer, task, folder):
    """activation_maps/<class>.png: when the neurons of each layer spike, for the first test image of every class."""
    target = folder.path / "activation_maps"
    target.mkdir(exist_ok=True)
    part = trainer.parts["test"]
    n_bins = next(iter(trainer.model.layers().values())).rule.n_bins
    for label in np.unique(part.labels):
        index = int(np.flatnonzero(part.labels == label)[0])
        outputs = pictures.layer_outputs(trainer.model, part.latencies[index : index + 1])
        maps = {name: to_numpy(latencies)[0] for name, latencies in outputs.items()}
        title = f"{trainer.model.name}: test image {index}, class {task.data.class_names[label]}"
        pictures.activation_maps(task.test_images[index], maps, n_bins, title, target / f"{label}.png")
