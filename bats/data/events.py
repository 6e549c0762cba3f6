"""An event data set in memory: recordings of spikes from many units, as ragged arrays."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bats.data.npz import check_range


@dataclass(frozen=True)
class Events:
    """Recordings in one piece: recording i holds the events offsets[i] .. offsets[i + 1] - 1, in the order of time.

    times    float64 [n_events], seconds from the start of the recording, ascending within a recording, >= 0.
    units    int32 [n_events], the input line of each event, 0..n_units-1. The same event may occur more than once.
    offsets  int64 [n + 1], from 0 to n_events, ascending; equal neighbours are a recording without events.
    labels   int32 [n], 0..n_classes-1.

    Made by check_events, which refuses anything else.
    """

    times: np.ndarray = field(repr=False)
    units: np.ndarray = field(repr=False)
    offsets: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __len__(self):
        return len(self.labels)

    def subset(self, indices):
        """The same with only these recordings, in this order: whole numbers 0..n-1 (repetition allowed), or a slice.

        Raises IndexError for a number outside, TypeError for anything else.
        """
        if isinstance(indices, slice):
            indices = np.arange(len(self))[indices]
        indices = np.atleast_1d(np.asarray(indices))
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise TypeError(f"subset: expected whole numbers [k], received {indices.dtype} {list(indices.shape)}")
        indices = indices.astype(np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"subset: expected indices 0..{len(self) - 1}, received {indices.min()}..{indices.max()}")
        counts = np.diff(self.offsets)[indices]
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        kept = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], counts)
        return Events(self.times[kept], self.units[kept], offsets, self.labels[indices])


@dataclass(frozen=True)
class EventDataset:
    """A training and a test set of event recordings.

    name         short name of the set, "nmnist", "shd".
    train, test  Events.
    n_units      input lines;  n_classes  labels are 0..n_classes-1;  class_names  one string per class.
    source       the file, or the folder of the files, that was read (pathlib.Path).
    sha256       checksum of that file; of several, that of their checksums, one per line.
    is_subset    True when it holds fewer recordings than the published set.
    n_dropped    events left out while reading because they are not finite or out of range.
    notice       what the user should know about the data ("" if they are the published set, read whole).
    """

    name: str
    train: Events
    test: Events
    n_units: int
    n_classes: int
    class_names: tuple
    source: Path
    sha256: str
    is_subset: bool
    n_dropped: int = 0
    notice: str = ""

    @property
    def duration(self):
        """Time of the latest event of both parts, seconds; 0 without events."""
        return max((float(part.times.max()) for part in (self.train, self.test) if part.times.size), default=0.0)

    def describe(self):
        """What identifies the data in a saved result: a dict that json.dumps accepts."""
        return {
            "name": self.name,
            "n_train": len(self.train),
            "n_test": len(self.test),
            "n_units": self.n_units,
            "n_classes": self.n_classes,
            "n_events": [len(self.train.times), len(self.test.times)],
            "n_dropped": self.n_dropped,
            "duration": self.duration,
            "file": Path(self.source).name,
            "sha256": self.sha256,
            "is_subset": self.is_subset,
        }


def check_events(times, units, offsets, labels, n_units, n_classes, where):
    """Checks one part (training or test) of an event set and returns it as Events; times in seconds.

    where: how messages name the arrays, e.g. "nmnist.npz: train". Raises ValueError (TypeError for a type that is not
    a number of the kind wanted) saying what was expected and what came.
    """
    times, units, offsets, labels = map(np.asarray, (times, units, offsets, labels))
    for name, array in (("times", times), ("units", units), ("offsets", offsets), ("labels", labels)):
        if array.ndim != 1:
            raise ValueError(f"{where} {name}: expected one dimension, received the shape {list(array.shape)}")
        kinds, wanted = ("f", "floating-point numbers") if name == "times" else ("iu", "integers")
        if array.dtype.kind not in kinds:
            raise TypeError(f"{where} {name}: expected {wanted}, received {array.dtype}")
    if not labels.size:
        raise ValueError(f"{where} labels: expected at least one recording, received none")
    if len(units) != len(times):
        raise ValueError(f"{where} units: expected one per event, [{len(times)}], received the shape [{len(units)}]")
    if len(offsets) != len(labels) + 1:
        raise ValueError(f"{where} offsets: expected [{len(labels) + 1}] for {len(labels)} labels, received [{len(offsets)}]")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(times) or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"{where} offsets: expected ascending numbers from 0 to the {len(times)} events, received {offsets[0]}..{offsets[-1]}"
            f"{', not ascending' if (np.diff(offsets) < 0).any() else ''}"
        )
    check_range(labels, 0, n_classes - 1, f"{where} labels")
    check_range(units, 0, n_units - 1, f"{where} units")
    times = np.ascontiguousarray(times, np.float64)
    if times.size and not (np.isfinite(times).all() and times.min() >= 0):
        index = int(np.argmax(~(np.isfinite(times) & (times >= 0))))
        raise ValueError(f"{where} times: expected finite seconds >= 0, received {times[index]} at event {index}")
    late = np.flatnonzero(times[1:] < times[:-1]) + 1
    late = late[~np.isin(late, offsets)]  # a smaller time is right where the next recording begins
    if late.size:
        recording = int(np.searchsorted(offsets, late[0], side="right")) - 1
        received = f"{times[late[0]]:g} s after {times[late[0] - 1]:g} s in recording {recording}"
        raise ValueError(f"{where} times: expected ascending times within a recording, received {received}")
    return Events(times, np.ascontiguousarray(units, np.int32), offsets, np.ascontiguousarray(labels, np.int32))
