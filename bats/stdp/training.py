"""Training layer by layer: each layer on the stored output of the frozen ones before it, then the read-out by reward.

A run is a list of phases, one per layer; its state between two batches of images is the weights, rates and counters of the
layers, three integers (phase, epoch, position) and the counts of the running epoch. That is what a checkpoint holds, and a
run that goes on from it ends with the same bits as one that was never stopped.
"""

import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from bats.device import to_numpy
from bats.stdp import metrics
from bats.stdp.history import decision_line, decision_row, layer_row
from bats.training.atomic import atomic_file
from bats.training.batches import epoch_permutation
from bats.training.checkpoint import Checkpoint, load_checkpoint
from bats.training.fingerprint import check_fingerprint
from bats.training.interrupt import InterruptGuard, StopRequested

_PHASE_STREAM = 2**20  # epochs of different phases draw their orders from different streams


@dataclass
class Part:
    """Images of one part of the data: padded latencies uint8 [n, C, H, W] on the device, labels int32 [n] (NumPy)."""

    latencies: object
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)


class LayerwiseTrainer:
    """Trains a LayeredModel.

    parts          {"train": Part, "test": Part, "validation": Part or absent}. Without validation the last epoch is kept,
                   else the best one on it (most correct; the earlier of two alike); the test part never chooses anything.
    epochs         one number per stage and one for the read-out (LayeredModel.epochs_of).
    batch_size     images between two adaptations of the rates, and between two chances to stop.
    patience       stop after so many decision epochs without improvement on the validation part; None: never.
    schedule       bats.training.StepSchedule for the base rates of the read-out, or None.
    folder         RunFolder for checkpoint.npz and best_model/<layer>.npz, or None.
    listeners      called as listener(kind, row) after each epoch, kind "layer" or "decision".

    `interrupted` says whether Ctrl-C ended run(). Raises ValueError for numbers of epochs, patience or parts that do not fit.
    """

    def __init__(
        self, model, parts, epochs, *, batch_size=1000, seed=0, patience=None, schedule=None, folder=None, progress=True,
        config=None, listeners=(),
    ):  # fmt: skip
        for name in ("train", "test"):
            if not len(parts[name]):
                raise ValueError(f"{name}: expected at least 1 image, received none")
        if patience is not None and "validation" not in parts:
            raise ValueError("patience: expected a validation part to measure improvement on, received none")
        self.model, self.parts, self.epochs = model, dict(parts), model.epochs_of(epochs)
        self.batch_size, self.seed, self.patience, self.schedule = batch_size, seed, patience, schedule
        self.folder, self.progress, self.config, self.listeners = folder, progress, config or {}, listeners
        self.phase = self.epoch = self.position = 0
        self.tally = np.zeros(2, dtype=np.int64)  # without labels: winners, images without one; decisions: correct, silent
        self.layer_history, self.history = [], []
        self.best_epoch, self.best_correct, self.best = 0, -1.0, {}
        self.seconds = 0.0  # of the running epoch
        self.interrupted = False

    # ------------------------------------------------------------------------------------------------- the whole run

    def run(self):
        """Trains what is left to train; afterwards the model has the weights of the kept epoch."""
        try:
            with InterruptGuard() as guard:
                self._run(guard)
        except StopRequested:
            self.interrupted = True
            self.store()

    def _run(self, guard):
        inputs = {name: part.latencies for name, part in self.parts.items()}
        index = 0
        for stage in self.model.stages:
            for name, layer in stage.layers.items():
                self._train_layer(index, name, layer, inputs["train"], guard)
                index += 1
            inputs = {name: stage.output(latencies) for name, latencies in inputs.items()}
        for name, layer in self.model.readout.pretraining.items():
            self._train_layer(index, name, layer, inputs["train"], guard)
            index += 1
        self._train_readout(index, inputs, guard)
        self.inputs = inputs

    def _bar(self, description, total):
        return tqdm(total=total, initial=self.position, desc=description, unit="img", leave=False, disable=not self.progress)

    def _batches(self, n_images):
        """Indices of the batches that are left of the running epoch, int32."""
        order = epoch_permutation(self.seed, self.phase * _PHASE_STREAM + self.epoch, n_images).astype(np.int32)
        return (order[start : start + self.batch_size] for start in range(self.position, n_images, self.batch_size))

    # ---------------------------------------------------------------------------------------------- without labels

    def _train_layer(self, index, name, layer, latencies, guard):
        if self.phase > index:
            return
        n_images = len(latencies)
        while self.epoch < self.epochs[index]:
            with self._bar(f"{name} {self.epoch + 1}/{self.epochs[index]}", n_images) as bar:
                for part in self._batches(n_images):
                    guard.check()
                    start = time.perf_counter()
                    winners = to_numpy(layer.learn(latencies, part))[:, :, 0] >= 0
                    self.seconds += time.perf_counter() - start
                    self.tally += (winners.sum(), len(part) - winners.any(axis=1).sum())
                    self.position += len(part)
                    bar.update(len(part))
                    bar.set_postfix_str(f"{self.tally[0] / self.position:.1f} winners, rate {layer.rates[0]:.3g}")
            self._end_epoch("layer", layer_row(name, self.epoch + 1, layer, self.tally, n_images, self.seconds))
        self.phase, self.epoch = index + 1, 0
        if self.folder is not None:
            self._store_layer(name, layer)
        self.store()

    # -------------------------------------------------------------------------------------------------- by reward

    def _train_readout(self, index, inputs, guard):
        readout, labels = self.model.readout, {name: part.labels for name, part in self.parts.items()}
        n_images = len(labels["train"])
        if self.epoch == self.position == 0:
            readout.begin()
        while self.epoch < self.epochs[index] and not self._patience_is_over():
            factor = 1.0 if self.schedule is None else self.schedule.learning_rate(1.0, self.epoch)
            readout.scale_rates(factor)
            with self._bar(f"decision {self.epoch + 1}/{self.epochs[index]}", n_images) as bar:
                for part in self._batches(n_images):
                    guard.check()
                    start = time.perf_counter()
                    number = self.epoch * -(-n_images // self.batch_size) + self.position // self.batch_size
                    decisions = readout.learn(inputs["train"], labels["train"], part, number)
                    self.seconds += time.perf_counter() - start
                    self.tally += (np.sum(decisions == labels["train"][part]), np.sum(decisions == metrics.SILENT))
                    self.position += len(part)
                    bar.update(len(part))
                    bar.set_postfix_str(f"{100 * self.tally[0] / self.position:.2f} % correct")
            correct, silent = (int(count) / n_images for count in self.tally)
            shares = {"train": {"correct": correct, "wrong": 1 - correct - silent, "silent": silent}}
            start = time.perf_counter()
            for name in ("validation", "test"):
                if name in inputs:
                    shares[name] = metrics.rates(readout.evaluate(inputs[name])[0], labels[name])
            elapsed = time.perf_counter() - start
            self._keep_best(shares)
            row = decision_row(self.epoch + 1, factor, shares, n_images, self.seconds, elapsed)
            self._end_epoch("decision", row)
            if self.progress:
                tqdm.write(decision_line(row))
            self.store()
        self._restore_best()
        if self.folder is not None:
            for name, layer in {**readout.pretraining, **readout.decision_layers}.items():
                self._store_layer(name, layer)

    def _patience_is_over(self):
        return self.patience is not None and self.epoch - self.best_epoch >= self.patience

    def _readout_state(self):
        names = {*self.model.readout.pretraining, *self.model.readout.decision_layers}
        return {key: value for key, value in self.model.state().items() if key.split("/", 1)[0] in names}

    def _keep_best(self, shares):
        measure = shares.get("validation", {"correct": float(self.epoch)})["correct"]
        if measure > self.best_correct:
            self.best_correct, self.best_epoch, self.best = measure, self.epoch + 1, self._readout_state()

    def _restore_best(self):
        if self.best:
            self.model.load_state({**self.model.state(), **self.best})

    # ------------------------------------------------------------------------------------------- epochs and files

    def _end_epoch(self, kind, row):
        (self.layer_history if kind == "layer" else self.history).append(row)
        self.epoch, self.position, self.seconds = self.epoch + 1, 0, 0.0
        self.tally[:] = 0
        for listener in self.listeners:
            listener(kind, row)

    def _store_layer(self, name, layer):
        with atomic_file(self.folder.best_model / f"{name}.npz") as file:
            np.savez(file, **layer.state())

    def _fingerprint(self):
        shapes = {name: list(layer.weights.shape) for name, layer in self.model.layers().items()}
        rules = {name: str(layer.rule) for name, layer in self.model.layers().items()}
        sizes = {name: len(part) for name, part in self.parts.items()}
        sums = {name: int(part.latencies.sum(dtype=np.int64)) for name, part in self.parts.items()}
        settings = {"seed": self.seed, "batch_size": self.batch_size, "schedule": str(self.schedule)}
        return {"model": self.model.name, "weights": shapes, "rules": rules, "images": sizes, "latency sums": sums, **settings}

    def store(self):
        """Writes checkpoint.npz into the folder, if there is one."""
        if self.folder is None:
            return
        names = ("phase", "epoch", "position", "seconds", "best_epoch", "best_correct")
        Checkpoint(
            weights=self.model.state(), optimizer={}, metrics={"tally": self.tally}, best=self.best,
            progress={name: getattr(self, name) for name in names},
            history=[self.layer_history, self.history], fingerprint=self._fingerprint(), config=self.config,
        ).store(self.folder.checkpoint)  # fmt: skip

    def resume(self, path):
        """Takes over a checkpoint. Errors: ValueError naming what differs from this run, FileNotFoundError."""
        saved = load_checkpoint(path)
        check_fingerprint(self._fingerprint(), saved.fingerprint, str(path))
        self.model.load_state(saved.weights)
        for name, value in saved.progress.items():
            setattr(self, name, value)
        self.tally = saved.metrics["tally"].astype(np.int64)
        self.best = saved.best
        self.layer_history, self.history = saved.history
