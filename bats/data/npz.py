"""Image sets in one NumPy .npz file with the four arrays of the Keras convention."""

import struct
import zipfile
import zlib

import numpy as np

KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path, optional=(), keys=KEYS):
    """The arrays `keys` (x_train, y_train, x_test, y_test) of a .npz file as a dict, exactly as stored.

    optional: further keys that are read where the file has them; all others are left alone. Pickled objects are refused.
    Raises ValueError naming the file and the key, or OSError if the file cannot be opened.
    """
    with open(path, "rb") as raw:  # opened here so that a missing file keeps its OSError and a damaged one is closed
        try:
            file = np.load(raw, allow_pickle=False)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path}: expected a NumPy .npz file, received a damaged or different file: {error}"
            ) from error
        if not isinstance(file, np.lib.npyio.NpzFile):
            wanted = f"expected a .npz file with {', '.join(keys)}"
            raise ValueError(f"{path}: {wanted}, received a single array {list(file.shape)}")
        missing = [key for key in keys if key not in file.files]
        if missing:
            present = ", ".join(sorted(file.files)) or "nothing"
            wanted = f"expected the keys {', '.join(keys)}"
            raise ValueError(f"{path}: {wanted}; missing {', '.join(missing)}, present {present}")
        return {key: _member(file, key, path) for key in (*keys, *(key for key in optional if key in file.files))}


def _member(file, key, path):
    try:
        return file[key]
    except (ValueError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise ValueError(f"{path}: key {key!r} is damaged: {error}") from error


def check_images(images, labels, n_classes, where, shape=None):
    """Checks one part (training or test) of an image set and returns it as (uint8 [n, h, w], int32 [n]), contiguous.

    images     integers 0..255 of any integer type, [n, h, w] or [n, h, w, 1].
    labels     whole numbers 0..n_classes-1, [n]; n >= 1.
    where      (images_name, labels_name): how messages name the two arrays, e.g. "mnist.npz: x_train".
    shape      the (h, w) that is wanted, None for any.

    Raises ValueError (TypeError for a type that is not a number) saying what was expected and what came.
    """
    x_name, y_name = where
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3:
        raise ValueError(f"{x_name}: expected images [n, height, width], received the shape {list(images.shape)}")
    if images.size == 0:
        raise ValueError(f"{x_name}: expected at least one image, received the shape {list(images.shape)}")
    if shape is not None and images.shape[1:] != tuple(shape):
        raise ValueError(f"{x_name}: expected images of {list(shape)} pixels, received {list(images.shape[1:])}")
    if images.dtype.kind not in "iu":
        raise TypeError(f"{x_name}: expected integers 0..255 (uint8), received {images.dtype}")
    check_range(images, 0, 255, x_name)
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{y_name}: expected one label per image, [{len(images)}], received the shape {list(labels.shape)}"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{y_name}: expected integers 0..{n_classes - 1}, received {labels.dtype}")
    check_range(labels, 0, n_classes - 1, y_name)
    return np.ascontiguousarray(images, np.uint8), np.ascontiguousarray(labels, np.int32)


def check_range(values, low, high, name):
    """Raises ValueError, naming what was expected and what came, unless all integers lie in low..high; any if empty."""
    if not values.size:
        return
    least, most = int(values.min()), int(values.max())
    if least < low or most > high:
        raise ValueError(f"{name}: expected values {low}..{high}, received {least}..{most}")
