"""Trains a network of STDP layers and a decision layer by reward, layer by layer, and evaluates it on the test set.

python experiments/stdp/train.py --model mozafari2018 --dataset mnist [--epochs 2 4 50] [--help]
"""

import shlex
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import options
import report
from models import MODELS
from models.tables import PADDING, Maker
from task import N_BINS, prepare

from bats.device import CudaUnavailable, resolve
from bats.stdp import MNIST_BANK
from bats.stdp.event_log import EventLog, open_writer
from bats.stdp.training import LayerwiseTrainer
from bats.training.atomic import write_json
from bats.training.command_line import results_root
from bats.training.experiment import add_resumption
from bats.training.run_folder import RunFolder, describe_environment
from bats.training.schedule import StepSchedule


def prepare_run(arguments):
    """(trainer, task, log or None, environment) as the options ask for."""
    device = resolve(arguments.device)
    task = prepare(arguments, device, PADDING)
    make = Maker(task.data.n_classes, device, arguments.seed, arguments.rule, N_BINS)
    model = MODELS[arguments.model].build(len(MNIST_BANK), make)
    model.epochs_of(arguments.epochs)
    name = f"stdp_{arguments.model}"
    if arguments.resume:
        folder = RunFolder(Path(arguments.resume).parent)
    else:
        folder = RunFolder.create(results_root(arguments.out), name, arguments.seed)
    log = EventLog(open_writer(folder.path / "tensorboard")) if arguments.tensorboard else None
    stored = {key: value for key, value in vars(arguments).items() if key not in ("resume", "out", "no_progress", "summary")}
    config = {"experiment": name, "arguments": {**stored, "device": device}, "dataset": task.data.describe()}
    trainer = LayerwiseTrainer(
        model, task.parts, arguments.epochs, batch_size=arguments.batch_size, seed=arguments.seed, patience=arguments.patience,
        schedule=StepSchedule(*arguments.decay) if arguments.decay else None, folder=folder,
        progress=not arguments.no_progress, config=config, listeners=[log] if log else [],
    )  # fmt: skip
    environment = describe_environment(SimpleNamespace(device=device))
    if arguments.resume:
        trainer.resume(arguments.resume)
        environment = add_resumption(folder, environment)
    folder.write_start(config, environment)
    return trainer, task, log, environment


def main(argv=None):
    start = time.perf_counter()
    arguments = options.parse(__doc__, argv)
    try:
        trainer, task, log, environment = prepare_run(arguments)
    except (ValueError, OSError, ImportError, CudaUnavailable) as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    folder = trainer.folder
    sizes = ", ".join(f"{len(part)} {name}" for name, part in trainer.parts.items())
    device = environment["device_used"]
    print(f"{trainer.model.name}: {task.data.name} ({task.data.kind}), {sizes} images | {device} | {folder}", flush=True)
    try:
        trainer.run()
    except OSError as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        sys.exit(1)
    if trainer.interrupted:
        print("Go on with:", shlex.join(["python", sys.argv[0], "--resume", str(folder)]))
        sys.exit(130)
    report.write_history(trainer, folder)
    result = report.evaluate(trainer, task, folder)
    summary = report.summarise(trainer, task, result, arguments, environment, time.perf_counter() - start)
    for path in (folder.path / "summary.json", *([arguments.summary] if arguments.summary else [])):
        write_json(path, summary)
    drawn = report.draw_features(trainer, task, folder) if arguments.features or arguments.tensorboard else []
    if arguments.activation_maps:
        report.draw_activations(trainer, task, folder)
    if log is not None:
        for path in (folder.path / "confusion_matrix.png", *drawn):
            log.picture(path.stem, path)
        log.close()
    print(
        f"{summary['model']}, {task.data.name}: {100 * result['accuracy']:.2f} % correct, {100 * result['wrong']:.2f} % wrong, "
        f"{100 * result['silent']:.2f} % silent, epoch {trainer.best_epoch}, {summary['total_seconds']:.0f} s"
    )
    return summary


if __name__ == "__main__":
    main()
