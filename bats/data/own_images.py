"""Image sets of the user's own, in a .npz file, and the one function that every image experiment loads its data with."""

import zipfile
from pathlib import Path

import numpy as np

from bats.data.catalogue import IMAGE_DATASETS
from bats.data.download import sha256_of
from bats.data.images import ImageDataset, read_images
from bats.data.load import load_images, told
from bats.data.npz import check_images, read_npz


def load_npz_images(path):
    """Any .npz file with x_train, y_train, x_test, y_test as an ImageDataset, whatever its sizes.

    Images are uint8 [n, height, width] (or integers 0..255), upright, of one shape; labels are whole numbers from 0. An
    optional key `classes` [n_classes] names the classes; without it there are as many as the largest label says.

    The name of the data set is that of the file, and its kind says that it is a file of the user's, or, for a file
    that bats knows (emnist_bymerge_subset.npz), what it is. Raises FileNotFoundError, or ValueError/TypeError naming the
    file and the key.
    """
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a .npz file with images, there is {'a folder' if path.is_dir() else 'nothing'}")
    arrays = read_npz(path, optional=("classes",))
    names = _class_names(arrays, path)
    x_train, y_train = check_images(
        arrays["x_train"], arrays["y_train"], len(names), (f"{path}: x_train", f"{path}: y_train")
    )
    x_test, y_test = check_images(
        arrays["x_test"], arrays["y_test"], len(names), (f"{path}: x_test", f"{path}: y_test"), x_train.shape[1:]
    )
    sha256 = sha256_of(path)
    known = next((entry.stand_in for entry in _with_stand_in() if _is(entry.stand_in, path, sha256)), None)
    kind = known.kind if known else "own .npz file"
    notice = f"{path.name} is the {known.kind}: its accuracies do not compare with published ones" if known else ""
    return ImageDataset(
        known.name if known else path.stem, x_train, y_train, x_test, y_test, len(names), path, sha256,
        is_subset=known is not None, notice=notice, class_names=names, kind=kind,
        checked="sha256" if known and sha256 == known.sha256 else "structure",
    )  # fmt: skip


def load_image_data(name, path=None, download=True):
    """The data of an image experiment, as an ImageDataset.

    name  of a published set (bats.data.IMAGE_DATASETS): "mnist", "fashion_mnist", "emnist".
    path  None: the set is searched, downloaded or replaced as bats.data.load_images says. A folder, MATLAB file or
          archive: the set is read from there. A .npz file: the set itself, or any other one (load_npz_images), called by
          what the file holds, not by `name`.

    Raises ValueError for an unknown name, and what load_images and load_npz_images raise.
    """
    if name not in IMAGE_DATASETS:
        raise ValueError(f"data set: expected one of {', '.join(IMAGE_DATASETS)}, received {name!r}")
    entry = IMAGE_DATASETS[name]
    path = None if path is None else Path(path).expanduser().absolute()
    if path is None or path.suffix != ".npz" or not path.is_file():
        return load_images(entry, path, download)
    sha256 = sha256_of(path)
    published = next((other for other in IMAGE_DATASETS.values() if sha256 in other.known_npz), None)
    if published is None and _has_sizes_of(entry, path):
        published = entry
    return told(read_images(published, path) if published else load_npz_images(path))


def _with_stand_in():
    return [entry for entry in IMAGE_DATASETS.values() if entry.stand_in]


def _is(stand_in, path, sha256):
    return sha256 == stand_in.sha256 or path.stem == stand_in.name


def _class_names(arrays, path):
    if "classes" in arrays:
        names = np.asarray(arrays["classes"])
        if names.ndim != 1 or not names.size or names.dtype.kind not in "USiu":
            raise ValueError(f"{path}: classes: expected names [n_classes], received {names.dtype} {list(names.shape)}")
        return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist())
    labels = [np.asarray(arrays[key]) for key in ("y_train", "y_test")]
    largest = max((int(part.max()) for part in labels if part.size and part.dtype.kind in "iu"), default=0)
    return tuple(map(str, range(max(largest, 0) + 1)))


def _has_sizes_of(entry, path):
    """True if the labels of a .npz file are as many as those of a published set; a damaged file has the sizes of none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return (len(file["y_train"]), len(file["y_test"])) == (entry.n_train, entry.n_test)
    except (ValueError, KeyError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        return False
