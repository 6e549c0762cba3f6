"""An image data set in memory, and how a published one is read from its files."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bats.data.download import sha256_of
from bats.data.idx import read_idx
from bats.data.locate import locate
from bats.data.npz import KEYS, check_images, read_npz


@dataclass(frozen=True)
class ImageDataset:
    """Grey images with labels, in memory.

    name       short name of the set, "mnist".
    x_train    uint8 [n_train, height, width];  y_train  int32 [n_train], values 0..n_classes-1.
    x_test     uint8 [n_test, height, width];   y_test   int32 [n_test].
    source     the file, or the folder of the four IDX files, that was read (pathlib.Path).
    sha256     checksum of that file; for IDX files that of their four checksums, one per line, in the published order.
    is_subset  True when it holds fewer images than the published set.
    notice     what the user should know about the data ("" if they are the published set).
    """

    name: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(repr=False)
    y_test: np.ndarray = field(repr=False)
    n_classes: int
    source: Path
    sha256: str
    is_subset: bool
    notice: str = ""

    def describe(self):
        """What identifies the data in a saved result: a dict that json.dumps accepts."""
        return {
            "name": self.name,
            "n_train": len(self.x_train),
            "n_test": len(self.x_test),
            "shape": list(self.x_train.shape[1:]),
            "n_classes": self.n_classes,
            "file": Path(self.source).name,
            "sha256": self.sha256,
            "is_subset": self.is_subset,
        }


def find_images(entry, folders=None):
    """Where a data set lies: (path, searched), the .npz file or the folder of the IDX files, or None.

    entry    bats.data.catalogue.ImageDatasetEntry.
    folders  folders to look into instead of the search folders of bats.data.locate.

    In each folder a .npz file goes before IDX files; an incomplete set of IDX files is passed over.
    """
    searched = locate(*entry.npz_names, folders=folders)[1]
    for folder in searched:
        path, _ = locate(*entry.npz_names, folders=[folder])
        if path is not None:
            return path, searched
        for name in entry.idx_folders:
            if entry.idx and all((folder / name / file.name).is_file() for file in entry.idx):
                return (folder / name), searched
    return None, searched


def read_images(entry, path, validate=True):
    """Reads a data set from a .npz file, a folder with one, or a folder with the four IDX files.

    validate: True wants the numbers of images and the image shape of the published set; False takes any number and any
    shape, as long as images and labels fit together.

    Returns an ImageDataset; its notice says when the file is not one of the published ones. Raises FileNotFoundError,
    or ValueError/TypeError naming the file and the key.
    """
    path = Path(path).expanduser().absolute()
    if path.is_dir():
        found, _ = find_images(entry, [path])
        if found is None:
            missing = [file.name for file in entry.idx if not (path / file.name).is_file()]
            raise FileNotFoundError(
                f"{path}: expected {entry.name}.npz or the {len(entry.idx)} IDX files of {entry.title}; "
                f"{entry.name}.npz is not there, nor {', '.join(missing)}"
            )
        path = found
    elif not path.is_file():
        raise FileNotFoundError(f"{path}: expected {entry.title} (a .npz file, or a folder with it), there is nothing")
    read = _read_idx_folder if path.is_dir() else _read_npz_file
    arrays, names, sha256, is_published = read(entry, path)
    wanted = entry.shape if validate else None
    parts = []
    for part, count in (("train", entry.n_train), ("test", entry.n_test)):
        x_key, y_key = f"x_{part}", f"y_{part}"
        parts += check_images(arrays[x_key], arrays[y_key], entry.n_classes, (names[x_key], names[y_key]), wanted)
        if validate and len(parts[-1]) != count:
            received = f"received {len(parts[-1])} (validate=False accepts this)"
            raise ValueError(f"{names[x_key]}: expected {count} images, {received}")
    notice = "" if is_published else f"{path}: well formed, but not a published file of {entry.title} (sha256 {sha256})"
    is_subset = len(parts[0]) < entry.n_train or len(parts[2]) < entry.n_test
    return ImageDataset(entry.name, *parts, entry.n_classes, path, sha256, is_subset, notice)


def _read_npz_file(entry, path):
    names = {key: f"{path}: {key}" for key in KEYS}
    sha256 = sha256_of(path)
    return read_npz(path), names, sha256, sha256 in entry.known_npz


def _read_idx_folder(entry, folder):
    keys = ("x_train", "y_train", "x_test", "y_test")
    paths = {key: folder / file.name for key, file in zip(keys, entry.idx, strict=True)}
    arrays = {key: read_idx(path, ndim=3 if key.startswith("x") else 1) for key, path in paths.items()}
    sums = [sha256_of(path) for path in paths.values()]
    joint = hashlib.sha256("\n".join(sums).encode()).hexdigest()
    return arrays, {key: str(path) for key, path in paths.items()}, joint, sums == [file.sha256 for file in entry.idx]
