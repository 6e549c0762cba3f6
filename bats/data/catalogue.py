"""What is known about a published image data set: its files, checksums and mirrors. A new set is one more entry."""

from dataclasses import dataclass

from bats.data.locate import checkout_folder


@dataclass(frozen=True)
class RemoteFile:
    """One file as published: its name, SHA-256, size in bytes (or None), and the URLs that serve it, preferred
    first."""

    name: str
    sha256: str
    size: int | None
    urls: tuple[str, ...]


@dataclass(frozen=True)
class ImageDatasetEntry:
    """A published set of grey images, in one .npz file or in four IDX files or both.

    name       short name: the stem of the .npz file and the name of the subfolder of the IDX files.
    title      how messages call it.
    shape      (height, width) in pixels.
    n_classes  labels are 0..n_classes-1.
    n_train, n_test  images in the full set.
    npz        the published .npz file, or None.
    idx        the published IDX files in the order training images, training labels, test images, test labels; or ().
    same_content  further SHA-256 sums of .npz files that hold the same arrays in another wrapping.
    embedded   file inside bats/data/embedded with a part of the set, or None.
    """

    name: str
    title: str
    shape: tuple[int, int]
    n_classes: int
    n_train: int
    n_test: int
    npz: RemoteFile | None
    idx: tuple[RemoteFile, ...]
    same_content: tuple[str, ...] = ()
    embedded: str | None = None

    @property
    def npz_names(self):
        """Relative paths where the .npz file is looked for inside a search folder."""
        return f"{self.name}.npz", f"{self.name}/{self.name}.npz"

    @property
    def idx_folders(self):
        """Relative folders where the IDX files are looked for: ours, and the one that torchvision makes."""
        return f"raw/{self.name}", self.name, f"{self.name.upper()}/raw", "."

    @property
    def known_npz(self):
        """SHA-256 sums of .npz files known to hold the published set."""
        return ((self.npz.sha256,) if self.npz else ()) + self.same_content


def _mnist_idx(name, sha256, size):
    bases = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
    return RemoteFile(name, sha256, size, tuple(base + name for base in bases))


MNIST = ImageDatasetEntry(
    name="mnist",
    title="MNIST",
    shape=(28, 28),
    n_classes=10,
    n_train=60_000,
    n_test=10_000,
    npz=RemoteFile(
        "mnist.npz",
        "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
        11_490_434,
        ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",),
    ),
    idx=(
        _mnist_idx(
            "train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422
        ),
        _mnist_idx(
            "train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881
        ),
        _mnist_idx(
            "t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877
        ),
        _mnist_idx(
            "t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542
        ),
    ),
    same_content=("06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",),
    embedded="mnist_subset.npz",
)

IMAGE_DATASETS = {entry.name: entry for entry in (MNIST,)}


def command(entry):
    """The command line that gets the full set, as a user would type it."""
    return f"python datasets/get_{entry.name}.py" if checkout_folder() else f"python -m bats get {entry.name}"
