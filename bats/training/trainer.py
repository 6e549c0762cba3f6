"""The training loop: epochs of batches, evaluation, selection of an epoch, checkpoints, resume.

A run is a function of its seed: the order of the samples follows from (seed, epoch), and everything else a batch needs
is in the checkpoint. A run that was stopped, in the middle of an epoch or between two, and resumed gives the same
weights and figures, bit for bit on the same device, as one that was never stopped (wall times excepted).
"""

import sys
import time
import warnings

import numpy as np
from tqdm import tqdm

from bats.device import to_numpy
from bats.training import failures, fingerprint
from bats.training.batches import epoch_permutation
from bats.training.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from bats.training.evaluation import evaluate_readout, evaluate_step, load_weights, network_weights
from bats.training.history import epoch_line, make_row
from bats.training.interrupt import InterruptGuard, StopRequested
from bats.training.run_folder import RunFolder

SELECTIONS = {
    "last": "last epoch, no selection",
    "validation": "best epoch on held-out training samples",
    "test": "selected on the test set, for comparison with the 2022 code",
}
FUSED, PLAIN = "fused step", "plain step"
_SECONDS_BETWEEN_READINGS = 0.3  # reading the metrics waits for the device


class Trainer:
    """Trains `network` with `loss` and `optimizer`.

    batch_size      samples per weight update; the last batch of an epoch may be smaller
    max_simulation  end of every simulation, seconds
    seed            fixes the order of the samples
    run_folder      RunFolder or path for metrics.csv, checkpoint.npz, best_model/ and the monitors; None writes nothing
    schedule        object with learning_rate(initial, epoch), such as StepSchedule; None keeps the optimizer's
    selection       "last": the last epoch counts; "validation": the best epoch on the validation source;
                    "test": the best on the test source (the rule of the 2022 code, labelled as such in every result)
    on_failure      "warn", "raise" or "ignore" full spike buffers, non-finite numbers and weights
    config          JSON-like dictionary stored with the checkpoint
    shuffle         False takes the samples in the order of the source in every epoch, as some published results did
    on_epoch        called with the row of every finished epoch
    fused           "auto" trains and evaluates with the fused step where it can be used and is faster (bats.step.Step), False takes
                    the plain step, True insists on the fused one for the training. A fused step leaves no spike trains in the layers

    After fit: history (a row per epoch), interrupted (stopped by Ctrl-C), selected_epoch (counted from 1), step_kind ("fused step",
    or "plain step: " and why).
    """

    def __init__(
        self, network, loss, optimizer, *, batch_size, max_simulation, seed=0, run_folder=None, schedule=None,
        selection="last", on_failure="warn", progress=True, config=None, shuffle=True,
        on_epoch=None, fused="auto",
    ):  # fmt: skip
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, received {batch_size}")
        if not max_simulation > 0:
            raise ValueError(f"max_simulation: expected a positive duration in seconds, received {max_simulation}")
        if selection not in SELECTIONS:
            raise ValueError(f"selection: expected one of {', '.join(SELECTIONS)}, received {selection!r}")
        if on_failure not in failures.ON_FAILURE:
            raise ValueError(f"on_failure: expected one of {', '.join(failures.ON_FAILURE)}, received {on_failure!r}")
        if fused not in (True, False, "auto"):
            raise ValueError(f'fused: expected True, False or "auto", received {fused!r}')
        self.network, self.loss, self.optimizer, self.schedule = network, loss, optimizer, schedule
        self.batch_size, self.max_simulation, self.seed = int(batch_size), max_simulation, seed
        self.selection, self.on_failure, self.progress, self.config = selection, on_failure, progress, config or {}
        self.shuffle, self.on_epoch, self.fused = bool(shuffle), on_epoch, fused
        self.run_folder = run_folder if run_folder is None or isinstance(run_folder, RunFolder) else RunFolder(run_folder)
        self.epoch = 0  # finished epochs
        self.position = 0  # samples already seen in the running epoch
        self.history = []
        self.interrupted = False
        self.selected_epoch = None
        self.step_kind = None
        self._initial_learning_rate = float(optimizer.learning_rate)
        self._best_weights = {}
        self._elapsed = 0.0
        self._epoch_metrics = {}  # accumulators of an epoch whose training is finished and whose evaluation is not
        self._resumed = None  # the checkpoint, until fit has compared its data with the training source

    # ---------------------------------------------------------------- training

    def fit(self, train_source, test_source, epochs, validation_source=None):
        """Trains until `epochs` epochs are finished in all, those of a resumed run included.

        Returns the history: one dictionary per epoch, the columns of metrics.csv. Ctrl-C finishes the running batch,
        stores the checkpoint and returns. Errors: ValueError (no validation source to select on, resumed on other
        data), OSError (folder not writable: before the training starts), FloatingPointError (weights not finite and
        on_failure="raise"; the checkpoint then holds the last finite state), TrainingFailure.
        """
        if self.selection == "validation" and validation_source is None:
            raise ValueError("selection='validation' expects a validation_source, received None")
        self._fingerprint = self._describe_run(train_source)
        train_step = self._step(train_source, self.loss, self.optimizer)
        held_out = {"validation": validation_source, "test": test_source}
        steps = {name: self._step(source, self.loss) for name, source in held_out.items() if source is not None}
        self._announce_step(train_step)
        self._start(train_step)
        self.interrupted = False
        with InterruptGuard() as guard:
            try:
                self._store(train_step)
                while self.epoch < epochs:
                    row = self._run_epoch(train_step, steps, guard, epochs)
                    self._close_epoch(row, train_step)
                    guard.check()
            except StopRequested:
                self.interrupted = True
                self._store(train_step)
                self._announce_stop(len(train_source))
        if self.run_folder is not None and self.history:
            self.run_folder.write_monitors(self.history)
        return self.history

    def _start(self, train_step):
        """Begins an epoch afresh, or goes on within the one a checkpoint stopped in."""
        train_step.reset_metrics()
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            fingerprint.check_fingerprint(self._fingerprint, resumed.fingerprint, "the checkpoint")
            if self.position:
                train_step.load_metrics_state(resumed.metrics)
            before = resumed.progress.get("step", PLAIN)  # checkpoints that do not say come from plain steps
            if before.split(":")[0] != self.step_kind.split(":")[0]:
                message = f"resumed with another setting: {before} before, {self.step_kind} from here on; results agree to rounding only"
                warnings.warn(message, failures.TrainingWarning, stacklevel=3)

    def _run_epoch(self, step, held_out_steps, guard, epochs):
        n_samples = len(step.source)
        order = epoch_permutation(self.seed, self.epoch, n_samples) if self.shuffle else np.arange(n_samples)
        if self.schedule is not None:
            self.optimizer.learning_rate = self.schedule.learning_rate(self._initial_learning_rate, self.epoch)
        if self.position == 0:
            step.reset_metrics()
        started = next_reading = time.perf_counter() - self._elapsed
        with tqdm(
            total=n_samples, initial=self.position, desc=f"epoch {self.epoch + 1}/{epochs}", unit=" samples",
            leave=False, disable=not (self.progress and _shows_bars()), dynamic_ncols=True,
        ) as bar:  # fmt: skip
            step.source.begin_epoch(self.epoch)
            step.start(order[self.position :])
            while self.position < n_samples:
                guard.check()
                trained = step.train_next(steps=step.steps_at_once)
                self.position += trained
                self._elapsed = time.perf_counter() - started
                bar.update(trained)
                if not bar.disable and time.perf_counter() > next_reading:
                    bar.set_postfix_str(_reading(step.metrics()), refresh=False)
                    next_reading = time.perf_counter() + _SECONDS_BETWEEN_READINGS
        metrics = {"train": step.metrics()}
        self._epoch_metrics = step.metrics_state()  # the evaluation resets the counters of the layers
        train_seconds = self._elapsed = time.perf_counter() - started
        for name, held_out_step in held_out_steps.items():
            metrics[name] = evaluate_step(held_out_step, self.batch_size, guard.check)
        return make_row(
            self.epoch + 1, metrics, learning_rate=float(self.optimizer.learning_rate),
            weights=network_weights(self.network), train_seconds=train_seconds,
            evaluation_seconds=time.perf_counter() - started - train_seconds,
        )  # fmt: skip

    def _close_epoch(self, row, train_step):
        """Books a finished epoch: history, selection, files, failures."""
        self.history.append(row)
        self.epoch, self.position, self._elapsed, self._epoch_metrics = self.epoch + 1, 0, 0.0, {}
        if self.progress:
            tqdm.write(epoch_line(row))
        if self.on_epoch is not None:
            self.on_epoch(row)
        weights = network_weights(self.network)
        broken = failures.non_finite_weights(weights)
        if broken:
            kept = f"; {self.run_folder.checkpoint} holds the last finite state" if self.run_folder else ""
            broken = [f"epoch {self.epoch}: weights are not finite{kept}", *broken]
            self.selected_epoch = self.epoch if self.selection == "last" else self.selected_epoch
        else:
            self._select(weights)
            self._store(train_step)
        if self.run_folder is not None:
            self.run_folder.write_metrics(self.history)
        lines = failures.describe_failures(self.network, row)
        if broken:
            failures.report([*broken, *lines], self.on_failure, FloatingPointError)
        elif lines:
            failures.report([f"epoch {self.epoch}", *lines], self.on_failure)

    def _select(self, weights):
        column = f"{self.selection}_accuracy_percent"
        if self.selection != "last":
            earlier = [row[column] for row in self.history[:-1]]
            if self.selected_epoch is not None and earlier and self.history[-1][column] <= max(earlier):
                return
        self.selected_epoch = self.epoch
        if self.selection != "last":
            self._best_weights = weights
        if self.run_folder is not None:
            self.network.store(str(self.run_folder.best_model))

    def restore_selected(self):
        """Puts the weights of the selected epoch into the network (nothing to do for selection="last")."""
        load_weights(self.network, self._best_weights)

    @property
    def selected_row(self):
        """History row of the selected epoch; None before the first epoch is finished."""
        return self.history[self.selected_epoch - 1] if self.selected_epoch else None

    # ---------------------------------------------------------------- evaluation

    def evaluate(self, source, loss=None):
        """Metrics of `source` without any weight change: Step.metrics() plus "predictions" (np.int32 [n], -1 = silent).

        `loss` replaces the read-out and its loss; see bats.training.evaluation for other spike limits, and for the spikes themselves.
        """
        loss = self.loss if loss is None else loss
        fused = "auto" if self.fused else False
        return evaluate_readout(self.network, loss, source, self.batch_size, self.max_simulation, fused=fused)

    def _step(self, source, loss, optimizer=None):
        from bats.step import Step

        if not len(source):
            raise ValueError("expected a source with at least 1 sample, received an empty one")
        fused = "auto" if self.fused and optimizer is None else self.fused  # what is evaluated need not fit the kernels
        return Step(self.network, loss, source, self.batch_size, self.max_simulation, optimizer, fused=fused)

    def _announce_step(self, step):
        """Says which kind of step trains, on the screen and in the run folder."""
        self.step_kind = FUSED if step.fused else f"{PLAIN}: {step.fused_reason}" if self.fused else PLAIN
        self.config = {**self.config, "step": self.step_kind}
        if self.progress:
            tqdm.write(self.step_kind)
        if self.run_folder is not None:
            self.run_folder.write_config(self.config)

    # ---------------------------------------------------------------- checkpoints

    def resume(self, path):
        """Takes the state of a checkpoint (run folder or file); fit then goes on from there.

        Errors: FileNotFoundError; ValueError for a damaged file, or naming every difference from this run's network,
        loss, optimizer, batch size and seed (the training data are compared when fit starts).
        """
        path = checkpoint_path(path)
        checkpoint = load_checkpoint(path)
        described = {name: part for name, part in checkpoint.fingerprint.items() if name != "data"}
        fingerprint.check_fingerprint(self._describe_run(None), described, str(path))
        load_weights(self.network, checkpoint.weights)
        self.optimizer.load_state(checkpoint.optimizer)
        progress = checkpoint.progress
        self.epoch, self.position, self._elapsed = progress["epoch"], progress["position"], progress["elapsed_seconds"]
        self.selected_epoch = progress["selected_epoch"]
        self.history, self._best_weights = checkpoint.history, checkpoint.best
        self._resumed = checkpoint

    def _describe_run(self, train_source):
        optimizer = {"kind": type(self.optimizer).__name__, "learning_rate": self._initial_learning_rate}
        description = {
            "network": fingerprint.describe_network(self.network),
            "loss": fingerprint.describe_object(self.loss),
            "optimizer": optimizer,
            "schedule": fingerprint.describe_object(self.schedule),
            "batch_size": self.batch_size,
            "max_simulation": float(self.max_simulation),
            "seed": int(self.seed),
            "selection": self.selection,
        }
        if not self.shuffle:
            description["shuffle"] = False
        return description if train_source is None else {**description, "data": fingerprint.describe_source(train_source)}

    def _store(self, train_step):
        weights = network_weights(self.network)
        if self.run_folder is None or failures.non_finite_weights(weights):
            return
        state = (self._epoch_metrics or train_step.metrics_state()) if self.position else {}
        Checkpoint(
            weights=weights,
            best=self._best_weights,
            optimizer=self.optimizer.state(),
            metrics={name: to_numpy(array) for name, array in state.items()},
            progress={
                "epoch": self.epoch,
                "position": self.position,
                "seed": int(self.seed),
                "elapsed_seconds": self._elapsed,
                "selected_epoch": self.selected_epoch,
                "step": self.step_kind,
            },
            history=self.history,
            fingerprint=self._fingerprint,
            config=self.config,
        ).store(self.run_folder.checkpoint)

    def _announce_stop(self, n_samples):
        where = f"epoch {self.epoch + 1} at sample {self.position} of {n_samples}"
        if not self.position:
            where = f"epoch {self.epoch}, at its end"
        kept = "the state is kept in memory only (no run folder)"
        if self.run_folder is not None:
            broken = failures.non_finite_weights(network_weights(self.network))
            state = "weights are not finite: the last finite state is in" if broken else "the state is in"
            kept = f"{state} {self.run_folder.checkpoint}"
        tqdm.write(f"Stopped by Ctrl-C in {where}; {kept}")


def _shows_bars():
    """Whether a moving bar makes sense: on a terminal or in a notebook, not in a log file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _reading(metrics):
    accuracy, silent = 100 * metrics["accuracy"], 100 * metrics["silent_labels"]
    return f"loss {metrics['loss']:.4g}, accuracy {accuracy:.2f} %, silent labels {silent:.2f} %"
