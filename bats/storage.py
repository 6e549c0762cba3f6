"""Parameters on disk: <layer name>_<parameter>.npy; for weights the format of the 2022 BATS code."""

import os
import tempfile
from pathlib import Path

import numpy as np

from bats.device import to_numpy


def write_atomically(path, write):
    """Calls write(binary file) on a temporary file beside `path` and renames it: path is never half written.

    Raises OSError naming the path (disk full, read-only folder, ...); the old file, if any, stays as it was.
    """
    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(path):
    if path is not None and os.path.exists(path):
        os.unlink(path)


def _files(directory, layers):
    """(layer, parameter's name, its array, its file) of every parameter."""
    for layer in layers:
        for name, array in layer.parameters.items():
            yield layer, name, array, Path(directory) / f"{layer.name}_{name}.npy"


def store_weights(directory, layers):
    """One file per parameter; makes the directory."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    for _, _, array, path in _files(directory, layers):
        values = np.ascontiguousarray(to_numpy(array))
        write_atomically(path, lambda file, values=values: np.save(file, values))


def restore_weights(directory, layers):
    """Reads and checks every file first, then sets the parameters."""
    if not Path(directory).is_dir():
        raise FileNotFoundError(f"weights: expected a directory with <layer name>_weights.npy files, received {directory}")
    read = []
    for layer, name, array, path in _files(directory, layers):
        if not path.is_file():
            raise FileNotFoundError(f"{name} of layer {layer.name!r}: expected the file {path}, it does not exist")
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{name} of layer {layer.name!r}: cannot read {path}: {error}") from error
        if values.shape != array.shape:
            raise ValueError(f"{name} of layer {layer.name!r}: expected shape {array.shape}, {path} holds {values.shape}")
        if values.dtype.kind not in "fiu":
            raise ValueError(f"{name} of layer {layer.name!r}: expected numbers, {path} holds dtype {values.dtype}")
        read.append((layer, name, values))
    for layer, name, values in read:
        setattr(layer, name, values)
