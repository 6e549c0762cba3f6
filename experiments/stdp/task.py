"""The data of a run: images read, drawn, split, turned and encoded as latencies."""

import time
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import rotate
from tqdm import tqdm

from bats.data import load_emnist, load_fashion_mnist, load_mnist
from bats.stdp import MNIST_BANK, encode, pad
from bats.stdp.training import Part
from bats.training.batches import split_validation

LOADERS = {"mnist": load_mnist, "fmnist": load_fashion_mnist, "emnist": load_emnist}
N_BINS = 15
MAX_DEGREES = 30
_RATIO_STREAM, _TURN_STREAM = 1, 2


@dataclass
class Encoded:
    """The data set (bats.data.ImageDataset), its parts {"train" | "validation" | "test": Part}, test images as they were
    read, seconds that the encoding took."""

    data: object
    parts: dict
    test_images: np.ndarray
    seconds: float


def turned(images, seed):
    """A copy of each image, turned about its centre by a random angle of up to 30 degrees: uint8 [n, H, W]."""
    angles = np.random.default_rng([seed, _TURN_STREAM]).uniform(-MAX_DEGREES, MAX_DEGREES, len(images))
    copies = [rotate(image, angle, reshape=False, order=1) for image, angle in zip(images, angles, strict=True)]
    return np.stack(copies) if copies else images[:0]


def prepare(arguments, device, padding):
    """Encoded data as the options ask for; padding: silent pixels around the maps. Errors: ValueError for impossible sizes."""
    data = LOADERS[arguments.dataset](arguments.data)
    n_train = len(data.x_train) if arguments.max_train is None else arguments.max_train
    if n_train > len(data.x_train):
        raise ValueError(f"--max-train: expected at most the {len(data.x_train)} training images of the set, received {n_train}")
    chosen = np.arange(n_train)
    if arguments.ratio < 1:
        draw = np.random.default_rng([arguments.seed, _RATIO_STREAM]).permutation(n_train)
        chosen = np.sort(draw[: max(1, round(arguments.ratio * n_train))])
    held_out = 0 if arguments.no_validation else round(arguments.validation * len(chosen))
    if not arguments.no_validation and not 0 < held_out < len(chosen):
        split = f"{held_out} of {len(chosen)} training images held out"
        raise ValueError(f"--validation: expected images on both sides of the split, received {split}")
    train, validation = (chosen[part] for part in split_validation(len(chosen), held_out, arguments.seed))
    images = {"train": data.x_train[train], "validation": data.x_train[validation], "test": data.x_test[: arguments.max_test]}
    labels = {"train": data.y_train[train], "validation": data.y_train[validation], "test": data.y_test[: arguments.max_test]}
    if arguments.augment:
        images["train"] = np.concatenate([images["train"], turned(images["train"], arguments.seed)])
        labels["train"] = np.tile(labels["train"], 2)
    total = sum(map(len, images.values()))
    start = time.perf_counter()
    with tqdm(total=total, desc="encoding", unit="img", leave=False, disable=arguments.no_progress) as bar:
        parts = {
            name: Part(pad(encode(images[name], MNIST_BANK, N_BINS, device=device, progress=bar.update), padding, N_BINS), labels[name])
            for name in images
            if len(images[name])
        }
    return Encoded(data, parts, images["test"], time.perf_counter() - start)
