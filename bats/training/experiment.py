"""A study from its command line to its summary table: the part that every experiment script shares."""

import json
import shlex
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bats.device import CudaUnavailable
from bats.evaluation import Evaluation
from bats.fused import reason_against
from bats.training import command_line, plots, summary
from bats.training.atomic import atomic_file, write_text
from bats.training.batches import split_validation
from bats.training.evaluation import confusion, copy_weights, evaluate_readout, sample_spikes
from bats.training.failures import TrainingFailure, TrainingWarning
from bats.training.run_folder import RunFolder, describe_environment
from bats.training.trainer import Trainer


@dataclass
class Task:
    """The data of a study. `make_source(part)` gives the source of the samples `part` (indices) of the training set;
    `make_held_out(part)`, if given, that of training samples that are held out, for example without augmentation."""

    dataset: dict  # what identifies the data in a result: name, sha256, ...
    n_train: int
    make_source: Callable
    test_source: object
    class_names: list
    default_epochs: int
    make_held_out: Callable | None = None

    @property
    def title(self):
        """The data set by name and, where it says so, by what it is: full set, embedded subset, ..."""
        kind = self.dataset.get("kind")
        return f"{self.dataset['name']}, {kind}" if kind else self.dataset["name"]

    @property
    def description(self):
        return f"{self.title}: {self.n_train} training, {len(self.test_source)} test samples"


@dataclass
class Readout:
    """Another network and loss to evaluate the trained weights with (cross studies); max_simulation in seconds."""

    name: str
    network: object
    loss: object
    max_simulation: float


@dataclass
class Study:
    """What is trained. `name` is the folder under results/; max_simulation in seconds."""

    name: str
    network: object
    loss: object
    optimizer: object
    task: Task
    max_simulation: float
    schedule: object = None
    readout: Readout | None = None
    settings: dict = field(default_factory=dict)
    shuffle: bool = True  # False: every epoch in the order of the data, as some published results have it


def run(make_study, arguments):
    """Trains, evaluates, writes the run folder and prints the summary table, which it returns as a dictionary.

    `make_study()` builds the Study. Wrong options, data or folders end the program with status 2 and a message; Ctrl-C
    with status 130 and the command that resumes the run; a failure on the way (full disk, weights not finite) with 1.
    """
    try:
        study = make_study()
        trainer, sources = _prepare(study, arguments)
    except (ValueError, OSError, ImportError, CudaUnavailable) as error:  # ImportError: an extra is not installed
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{study.name}: {study.task.description} | {study.network.device} | {trainer.run_folder}", flush=True)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("always", TrainingWarning)
        try:
            trainer.fit(sources["train"], study.task.test_source, arguments.epochs, sources.get("validation"))
        except (OSError, FloatingPointError, TrainingFailure) as error:
            print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
            sys.exit(1)
    if trainer.interrupted:
        command = ["python", sys.argv[0], "--resume", str(trainer.run_folder)]
        print("Go on with:", shlex.join(command))
        sys.exit(130)
    return _report(study, trainer, arguments)


def _show_warning(message, category, *_, **__):
    print(f"warning: {message}" if category is TrainingWarning else f"{category.__name__}: {message}", file=sys.stderr)


def _prepare(study, arguments):
    task = study.task
    if arguments.epochs is None:
        arguments.epochs = task.default_epochs
        if task.dataset.get("is_subset"):
            kind = task.dataset.get("kind", "subset")
            print(f"{arguments.epochs} epochs, the default on the {kind} (--epochs N for another number)")
    n_train = task.n_train if arguments.max_train is None else arguments.max_train
    if n_train > task.n_train:
        raise ValueError(f"--max-train: expected at most the {task.n_train} training samples of the set, received {n_train}")
    parts = dict(zip(("train", "validation"), split_validation(n_train, arguments.validation, arguments.seed), strict=True))
    makers = {"train": task.make_source, "validation": task.make_held_out or task.make_source}
    sources = {name: makers[name](part) for name, part in parts.items() if len(part)}
    fused = command_line.fused(arguments)
    if fused is True:  # said now, before the run has a folder
        check_fused(study, sources["train"])
    stored = {name: value for name, value in vars(arguments).items() if name not in ("resume", "out", "no_progress")}
    config = {
        "experiment": study.name,
        "arguments": {**stored, "device": study.network.device},
        "dataset": {**task.dataset, "trained_on": len(parts["train"]), "held_out": len(parts["validation"])},
        **study.settings,
    }
    if arguments.resume is not None:
        folder = RunFolder(Path(arguments.resume).parent)
    else:
        folder = RunFolder.create(command_line.results_root(arguments.out), study.name, arguments.seed)
    trainer = Trainer(
        study.network, study.loss, study.optimizer, batch_size=arguments.batch_size,
        max_simulation=study.max_simulation, seed=arguments.seed, run_folder=folder, schedule=study.schedule,
        selection=command_line.selection(arguments), on_failure=arguments.on_failure,
        progress=not arguments.no_progress, config=config, shuffle=study.shuffle,
        fused=fused,
    )  # fmt: skip
    environment = describe_environment(study.network)
    if arguments.resume is not None:
        trainer.resume(arguments.resume)
        environment = add_resumption(folder, environment)
        print(f"Resumed at epoch {trainer.epoch + 1}, sample {trainer.position}.")
    folder.write_start(config, environment)
    return trainer, sources


def check_fused(study, source):
    """Raises ValueError, with the reason, if the study cannot be trained with the fused step."""
    network = study.network
    reason = reason_against(
        network, study.loss, study.optimizer, source.to(network.device, network.dtype), study.max_simulation
    )
    if reason is not None:
        raise ValueError(f"--fused: expected auto or off, received on, which cannot be: {reason}")


def add_resumption(folder, environment):
    """The environment of the first start, with those of later ones in a list."""
    try:
        first = json.loads((folder.path / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return environment
    return {**first, "resumed": [*first.get("resumed", []), environment]}


def _report(study, trainer, arguments):
    task, folder = study.task, trainer.run_folder
    trainer.restore_selected()
    readout = study.readout or Readout(None, study.network, study.loss, study.max_simulation)
    if readout.network is not study.network:
        copy_weights(study.network, readout.network)
    labels = np.asarray(task.test_source.labels)
    names = [str(name) for name in task.class_names]
    evaluation = Evaluation(readout.network, readout.loss, labels, names, readout.max_simulation)
    limits = arguments.batch_size, readout.max_simulation
    metrics = evaluate_readout(readout.network, readout.loss, task.test_source, *limits, evaluation.observe)
    accuracy = f"{100 * metrics['accuracy']:.2f} %"
    matrix = confusion(labels, metrics["predictions"], len(names))
    columns = [*names, "silent"][: matrix.shape[1]]
    rows = [
        ",".join(("label", *columns)),
        *(",".join(map(str, (name, *row))) for name, row in zip(names, matrix, strict=True)),
    ]
    write_text(folder.path / "confusion_matrix.csv", "\n".join(rows) + "\n")
    title_of_set = f"{task.title}\nTest accuracy {accuracy}, {len(labels)} samples"
    plots.confusion_matrix(matrix, columns, title_of_set, folder.path / "confusion_matrix.png")
    trains, prediction = sample_spikes(readout.network, readout.loss, task.test_source, 0, readout.max_simulation)
    predicted = "silent" if prediction < 0 else names[prediction]
    title = f"{study.name}, {task.title}\ntest sample 0, label {names[labels[0]]}, prediction {predicted}"
    plots.spike_raster(trains, title, folder.path / "raster.png", names)
    with atomic_file(folder.path / "predictions.npz") as file:
        np.savez(file, labels=labels, predictions=metrics["predictions"])
    figures = evaluation.write(folder.path, metrics["predictions"], f"{study.name}, {title_of_set}")
    result = summary.summarise(trainer, metrics, task.description, readout.name, figures)
    summary.write(result, folder)
    print(summary.table(result))
    return result
