"""One file that holds a run between two batches: everything needed to go on as if it had never stopped.

The file is an uncompressed .npz without pickles: arrays under `weights/<layer>`, `best/<layer>` (weights of the
selected epoch), `optimizer/<name>`, `metrics/<name>` (accumulators of the running epoch), and JSON text under
`progress` (epoch, position, seed: the whole random state, see batches.py), `history`, `fingerprint` and `config`.
"""

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bats.training.atomic import atomic_file

FORMAT = 1
_ARRAYS = ("weights", "best", "optimizer", "metrics")
_JSON = ("progress", "history", "fingerprint", "config")


@dataclass
class Checkpoint:
    """The content of a checkpoint file; array dictionaries are {name: np.ndarray}, the others are JSON values."""

    weights: dict
    optimizer: dict
    progress: dict
    history: list
    fingerprint: dict
    config: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    best: dict = field(default_factory=dict)

    def store(self, path):
        """Writes the file at once (temporary name, then rename). Errors: OSError; the previous file is then intact."""
        content = {"format": np.array(FORMAT)}
        for group in _ARRAYS:
            content.update({f"{group}/{name}": np.asarray(array) for name, array in getattr(self, group).items()})
        content.update({name: np.array(json.dumps(getattr(self, name), default=str)) for name in _JSON})
        objects = [name for name, array in content.items() if array.dtype.hasobject]
        if objects:
            raise TypeError(f"a checkpoint holds plain arrays only; received Python objects in {', '.join(objects)}")
        with atomic_file(path) as file:
            np.savez(file, **content)


def checkpoint_path(path):
    """The checkpoint file meant by `path`, which is the file itself or the run folder that holds it."""
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoint.npz"
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: expected a run folder with checkpoint.npz, or a checkpoint file")
    return path


def load_checkpoint(path):
    """Reads and checks a whole checkpoint file.

    Errors: FileNotFoundError; ValueError when the file is truncated, damaged (every array has a checksum in the zip
    container) or not a checkpoint of this version.
    """
    path = checkpoint_path(path)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        NotImplementedError,
    ) as error:
        raise ValueError(f"{path} cannot be read: truncated, damaged or not a checkpoint of bats ({error})") from error
    missing = [name for name in ("format", *_JSON) if name not in content]
    if missing:
        raise ValueError(f"{path} is not a checkpoint of bats: it lacks {', '.join(missing)}")
    if int(content["format"]) != FORMAT:
        raise ValueError(f"{path}: expected checkpoint format {FORMAT}, received {int(content['format'])}")
    values = {name: json.loads(str(content[name])) for name in _JSON}
    for group in _ARRAYS:
        prefix = f"{group}/"
        values[group] = {name[len(prefix) :]: array for name, array in content.items() if name.startswith(prefix)}
    return Checkpoint(**values)
