"""An image data set in memory, and how a published one is read from its files."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bats.data.catalogue import IMAGE_DATASETS
from bats.data.download import sha256_of
from bats.data.image_files import idx_paths, read_arrays
from bats.data.locate import locate
from bats.data.npz import check_images


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
    class_names  one string per class; by default the numbers of the classes.
    kind       what the data are, as tables and plots say it beside the name: "full set", "embedded subset", ...; by
               default "full set", or "part of the set" for a subset.
    checked    how the content is known to be right: "sha256", that of a published file, or "structure" (sizes, shapes,
               value ranges; also where no checksum was published).
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
    class_names: tuple[str, ...] = ()
    kind: str = ""
    checked: str = "structure"

    def __post_init__(self):
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(map(str, range(self.n_classes))))
        if not self.kind:
            object.__setattr__(self, "kind", "part of the set" if self.is_subset else "full set")

    @property
    def shape(self):
        """(height, width) in pixels."""
        return self.x_train.shape[1:]

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
            "kind": self.kind,
            "checked": self.checked,
        }


def find_images(entry, folders=None):
    """Where a data set lies: (path, searched): a file (.npz, .mat, an archive) or the folder of the IDX files, or None.

    entry    bats.data.catalogue.ImageDatasetEntry.
    folders  folders to look into instead of the search folders of bats.data.locate.

    In each folder a .npz file goes before IDX files, these before the MATLAB file and the archives; an incomplete set of
    IDX files is passed over, and so are those of another data set whose files have the same names.
    """
    searched = locate(*entry.npz_names, folders=folders)[1]
    for folder in searched:
        path, _ = locate(*entry.npz_names, folders=[folder])
        if path is not None:
            return path, searched
        places = [folder / name for name in entry.idx_folders]
        for place in places:
            paths = idx_paths(entry, place)
            if paths and _owner(entry, paths) is entry:
                return place, searched
        for name in (*([entry.mat] if entry.mat else []), *(file.name for file in entry.archives)):
            for place in places:
                if (place / name).is_file():
                    return place / name, searched
    return None, searched


def _owner(entry, paths):
    """The entry that IDX files belong to: another one if the labels of the test images are published as its own."""
    others = [other for other in IMAGE_DATASETS.values() if other.name != entry.name and other.idx]
    received = sha256_of(paths[3])
    return next((other for other in others if received == other.idx[3].sha256), entry)


def read_images(entry, path, validate=True):
    """Reads a data set from a file or folder that it comes in.

    path      a .npz file; a folder with one, or with the four IDX files; where the entry has such: the MATLAB file or
              one of the published archives.
    validate  True wants the numbers of images (and of each class, where these are equal) and the image shape of the
              published set; False takes any number and any shape, as long as images and labels fit together.

    Returns an ImageDataset; its notice says when the file is not one of the published ones. Raises FileNotFoundError,
    or ValueError/TypeError naming the file and the key.
    """
    path = Path(path).expanduser().absolute()
    if path.is_dir():
        path = _inside(entry, path)
    elif not path.is_file():
        raise FileNotFoundError(f"{path}: expected {entry.title} (a .npz file, or a folder with it), there is nothing")
    arrays, names, sha256, published = read_arrays(entry, path)
    wanted = entry.shape if validate else None
    parts = []
    for part, count in (("train", entry.n_train), ("test", entry.n_test)):
        x_key, y_key = f"x_{part}", f"y_{part}"
        parts += check_images(arrays[x_key], arrays[y_key], entry.n_classes, (names[x_key], names[y_key]), wanted)
        if validate and len(parts[-1]) != count:
            received = f"received {len(parts[-1])} (validate=False accepts this)"
            raise ValueError(f"{names[x_key]}: expected {count} images, {received}")
        if validate and entry.balanced:
            _check_balance(parts[-1], entry.n_classes, names[y_key])
    notice = f"{path}: well formed, but not a published file of {entry.title} (sha256 {sha256})" if published is False else ""
    is_subset = len(parts[0]) < entry.n_train or len(parts[2]) < entry.n_test
    checked = "sha256" if published else "structure"
    return ImageDataset(
        entry.name, *parts, entry.n_classes, path, sha256, is_subset, notice, entry.class_names, checked=checked
    )


def _inside(entry, folder):
    found, _ = find_images(entry, [folder])
    if found is not None:
        return found
    paths = idx_paths(entry, folder)
    if paths:
        raise FileNotFoundError(f"{folder}: expected {entry.title}, received the IDX files of {_owner(entry, paths).title}")
    missing = [file.name for file in entry.idx if not (folder / file.name).is_file()]
    others = [*([entry.mat] if entry.mat else []), *(file.name for file in entry.archives)]
    raise FileNotFoundError(
        f"{folder}: expected {entry.name}.npz or the {len(entry.idx)} IDX files of {entry.title}"
        f"{', or ' + ', '.join(others) if others else ''}; {entry.name}.npz is not there, nor {', '.join(missing)}"
    )


def _check_balance(labels, n_classes, name):
    counts = np.bincount(labels, minlength=n_classes)
    if counts.min() != counts.max():
        wanted = f"expected {len(labels) // n_classes} of each of the {n_classes} classes"
        raise ValueError(f"{name}: {wanted}, received {counts.min()} to {counts.max()} (validate=False accepts this)")
