"""The four arrays of a published image set, from each kind of file that it comes in."""

import hashlib
import zipfile
import zlib

import numpy as np

from bats.data.download import checksum_like, sha256_of
from bats.data.idx import parse_idx, read_idx
from bats.data.npz import KEYS, read_npz

IDX_KEYS = ("x_train", "y_train", "x_test", "y_test")  # the order of ImageDatasetEntry.idx


def read_arrays(entry, path):
    """The arrays in `path`: (arrays, names, sha256, published).

    entry   bats.data.catalogue.ImageDatasetEntry;  path  a .npz file, a folder with the IDX files (packed or not), a
            MATLAB file, or one of the published archives (the last two where the entry has such).

    arrays     {x_train, y_train, x_test, y_test}, images upright;  names  how messages call each.
    sha256     of the file; of IDX files that of their four checksums, one per line.
    published  True when the checksum is that of a published file, False when it is not, None when none is known.

    Raises ValueError or TypeError naming the file and what is wrong with it.
    """
    if path.is_dir():
        arrays, names, sha256, published = _idx_folder(entry, path)
    elif entry.archives and path.suffix == ".zip":
        arrays, names, sha256, published = _archive(entry, path)
    elif entry.mat and path.suffix == ".mat":
        with open(path, "rb") as file:
            arrays = _mat(file, path, entry.shape)
        names, sha256, published = {key: f"{path}: {key}" for key in KEYS}, sha256_of(path), None
    else:  # upright by convention, whatever the published files are
        sha256 = sha256_of(path)
        known = sha256 in entry.known_npz if entry.known_npz else None
        return read_npz(path), {key: f"{path}: {key}" for key in KEYS}, sha256, known
    if entry.transposed:
        for key in ("x_train", "x_test"):
            arrays[key] = arrays[key].swapaxes(1, 2)
    return arrays, names, sha256, published


def idx_paths(entry, folder):
    """The four IDX files of a data set in a folder, each as published or unpacked (without .gz), or None."""
    paths = []
    for file in entry.idx:
        path = next((p for p in (folder / file.name, folder / file.name.removesuffix(".gz")) if p.is_file()), None)
        if path is None:
            return None
        paths.append(path)
    return paths or None


def _idx_folder(entry, folder):
    paths = dict(zip(IDX_KEYS, idx_paths(entry, folder), strict=True))
    arrays = {key: read_idx(path, ndim=3 if key.startswith("x") else 1) for key, path in paths.items()}
    sums = [sha256_of(path) for path in paths.values()]
    known = [file.sha256 for file in entry.idx]
    joint = hashlib.sha256("\n".join(sums).encode()).hexdigest()
    return arrays, {key: str(path) for key, path in paths.items()}, joint, sums == known if all(known) else None


def _archive(entry, path):
    """The IDX files, or the MATLAB file, inside one of the published archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.rpartition("/")[2]: name for name in archive.namelist()}
            names = {key: f"{path}: {file.name}" for key, file in zip(IDX_KEYS, entry.idx, strict=True)}
            if all(file.name in members for file in entry.idx):
                arrays = {}
                for key, file in zip(IDX_KEYS, entry.idx, strict=True):
                    content = archive.read(members[file.name])
                    arrays[key] = parse_idx(content, names[key], 3 if key.startswith("x") else 1)
            elif entry.mat in members:
                names = {key: f"{path}: {entry.mat}: {key}" for key in KEYS}
                with archive.open(members[entry.mat]) as file:
                    arrays = _mat(file, f"{path}: {entry.mat}", entry.shape)
            else:
                wanted = f"{', '.join(file.name for file in entry.idx)}, or {entry.mat}"
                raise ValueError(f"{path}: expected an archive with {wanted}; received one of {len(members)} other files")
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: expected a complete .zip archive, received a damaged or different file: {error}") from error
    published = any(checksum_like(path, file.checksum) == file.checksum for file in entry.archives)
    return arrays, names, sha256_of(path), published


def _mat(file, path, shape):
    """The arrays of the MATLAB format of EMNIST: dataset.train and .test, each with images [n, pixels] and labels [n, 1]."""
    from scipy.io import loadmat  # here, because it takes a while and most data sets need none

    try:
        content = loadmat(file, variable_names=["dataset"], simplify_cells=True)
    except NotImplementedError as error:  # version 7.3 is HDF5
        raise ValueError(f"{path}: expected a MATLAB file of version 5, received one of version 7.3: {error}") from error
    except Exception as error:  # loadmat answers a damaged file with whatever went wrong inside it
        raise ValueError(f"{path}: expected a MATLAB file, received a damaged or different file: {error}") from error
    arrays = {}
    for part in ("train", "test"):
        for key, name in ((f"x_{part}", "images"), (f"y_{part}", "labels")):
            try:
                arrays[key] = np.asarray(content["dataset"][part][name])
            except (KeyError, TypeError, IndexError) as error:
                raise ValueError(f"{path}: expected the struct dataset.{part}.{name}, it is not there") from error
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.ndim != 2 or images.shape[1] != shape[0] * shape[1]:
            wanted = f"expected [n, {shape[0] * shape[1]}]"
            raise ValueError(f"{path}: dataset.{part}.images: {wanted}, received the shape {list(images.shape)}")
        arrays[f"x_{part}"] = images.reshape(-1, *shape)
        # MATLAB's numbers are floating-point unless told otherwise; whole ones are labels all the same
        if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
            labels = labels.astype(np.int64)
        arrays[f"y_{part}"] = labels.reshape(-1)
    return arrays
