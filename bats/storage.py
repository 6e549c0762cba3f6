"""Weights on disk: one <layer name>_weights.npy per layer, the format of the 2022 BATS code."""

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


def _file(directory, layer):
    return Path(directory) / f"{layer.name}_weights.npy"


def store_weights(directory, layers):
    """One file per layer with weights; makes the directory."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    for layer in layers:
        if layer.weights is not None:
            weights = np.ascontiguousarray(to_numpy(layer.weights))
            write_atomically(_file(directory, layer), lambda file, weights=weights: np.save(file, weights))


def restore_weights(directory, layers):
    """Reads and checks every file first, then sets the weights."""
    if not Path(directory).is_dir():
        raise FileNotFoundError(f"weights: expected a directory with <layer name>_weights.npy files, received {directory}")
    read = []
    for layer in layers:
        if layer.weights is None:
            continue
        path = _file(directory, layer)
        if not path.is_file():
            raise FileNotFoundError(f"weights of layer {layer.name!r}: expected the file {path}, it does not exist")
        try:
            weights = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"weights of layer {layer.name!r}: cannot read {path}: {error}") from error
        if weights.shape != layer.weights.shape:
            raise ValueError(f"weights of layer {layer.name!r}: expected shape {layer.weights.shape}, {path} holds {weights.shape}")
        if weights.dtype.kind not in "fiu":
            raise ValueError(f"weights of layer {layer.name!r}: expected numbers, {path} holds dtype {weights.dtype}")
        read.append((layer, weights))
    for layer, weights in read:
        layer.weights = weights
