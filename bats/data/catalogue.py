"""What is known about a published image data set: its files, checksums and mirrors. A new set is one more entry."""

from dataclasses import dataclass

from bats.data.locate import checkout_folder


@dataclass(frozen=True)
class RemoteFile:
    """One file as published.

    name    as it is called on disk.
    sha256  its SHA-256, or None where only another checksum, or none, was published.
    size    in bytes, or None.
    urls    that serve it, the preferred first; () for a file that only comes inside an archive.
    md5     its MD5, where that is what was published.
    """

    name: str
    sha256: str | None
    size: int | None
    urls: tuple[str, ...]
    md5: str | None = None

    @property
    def checksum(self):
        """The strongest checksum that is known, in hexadecimal digits (64 SHA-256, 32 MD5), or None."""
        return self.sha256 or self.md5


@dataclass(frozen=True)
class StandIn:
    """A .npz file that may take the place of a set that is not there, said aloud: it is not that set.

    name  its stem, and the name of the data set;  sha256  of the known file;  kind  how results call it.
    """

    name: str
    sha256: str
    kind: str


@dataclass(frozen=True)
class ImageDatasetEntry:
    """A published set of grey images, in one .npz file, in four IDX files, in a MATLAB file, or in several of these.

    name       short name: the stem of the .npz file and the name of the subfolder of the IDX files.
    title      how messages call it.
    shape      (height, width) in pixels.
    n_classes  labels are 0..n_classes-1.
    n_train, n_test  images in the full set.
    npz        the published .npz file, or None.
    idx        the published IDX files in the order training images, training labels, test images, test labels; or ().
    same_content  further SHA-256 sums of .npz files that hold the same arrays in another wrapping.
    embedded   file inside bats/data/embedded with a part of the set, or None.
    class_names  one string per class.
    archives   published .zip files that hold the IDX files or the MATLAB file, the preferred first.
    mat        name of the MATLAB file (version 5, struct `dataset`), or None.
    transposed the IDX and MATLAB files hold the images with rows and columns exchanged.
    balanced   every class has equally many images, in training and in test: known structure where checksums are not.
    stand_in   StandIn, or None.
    torchvision  the folder that torchvision makes, where it is not the name in capitals.
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
    class_names: tuple[str, ...] = ()
    archives: tuple[RemoteFile, ...] = ()
    mat: str | None = None
    transposed: bool = False
    balanced: bool = False
    stand_in: StandIn | None = None
    torchvision: str = ""

    @property
    def npz_names(self):
        """Relative paths where the .npz file is looked for inside a search folder."""
        return f"{self.name}.npz", f"{self.name}/{self.name}.npz"

    @property
    def idx_folders(self):
        """Relative folders where the published files are looked for: ours, those that torchvision and unzip make."""
        own = f"raw/{self.name}", self.name, f"{self.torchvision or self.name.upper()}/raw", "."
        return own + (("gzip", "matlab") if self.archives else ())

    @property
    def known_npz(self):
        """SHA-256 sums of .npz files known to hold the published set."""
        return ((self.npz.sha256,) if self.npz else ()) + self.same_content


_IDX_PARTS = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


def _idx(bases, *sums_and_sizes):
    """The four files of the MNIST family from (sha256, size) of each; `bases` are the folders that serve them."""
    files = zip(_IDX_PARTS, sums_and_sizes, strict=True)
    return tuple(RemoteFile(name, *known, tuple(base + name for base in bases)) for name, known in files)


_DIGITS = tuple("0123456789")

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
    idx=_idx(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    ),
    same_content=("06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",),
    embedded="mnist_subset.npz",
    class_names=_DIGITS,
)

# Checksums and sizes: tensorflow_datasets (url_checksums/fashion_mnist.txt); the MD5 sums of torchvision and of the
# project's README belong to the same files.
FASHION_MNIST = ImageDatasetEntry(
    name="fashion_mnist",
    title="Fashion-MNIST",
    shape=(28, 28),
    n_classes=10,
    n_train=60_000,
    n_test=10_000,
    npz=None,
    idx=_idx(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    ),
    # the arrays in one .npz of the Keras kind, as it is handed round; not a published file
    same_content=("5b6d2c4c694a91887af8ab7d039c04f80af3c29378d731c93a538d2e831aa469",),
    class_names=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    torchvision="FashionMNIST",
)

_NIST = ("https://biometrics.nist.gov/cs_links/EMNIST/", "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/")

# The archives' checksums: tensorflow_datasets (url_checksums/emnist.txt) and MLDatasets.jl; torchvision's MD5 belongs to
# the same gzip.zip. Of the files inside no checksum was published: they are known by their structure (`balanced`).
EMNIST = ImageDatasetEntry(
    name="emnist",
    title="EMNIST-balanced",
    shape=(28, 28),
    n_classes=47,
    n_train=112_800,
    n_test=18_800,
    npz=None,
    idx=tuple(
        RemoteFile(f"emnist-balanced-{name.replace('t10k', 'test')}", None, None, ()) for name in _IDX_PARTS
    ),
    class_names=tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
    archives=(
        RemoteFile(
            "gzip.zip",
            "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
            561_753_746,
            tuple(base + "gzip.zip" for base in _NIST),
        ),
        RemoteFile(
            "matlab.zip",
            "e1fa805cdeae699a52da0b77c2db17f6feb77eed125f9b45c022e7990444df95",
            None,
            tuple(base + "matlab.zip" for base in _NIST),
        ),
    ),
    mat="emnist-balanced.mat",
    transposed=True,
    balanced=True,
    stand_in=StandIn(
        "emnist_bymerge_subset",
        "1d01bf9b47baaa7463bd259dd0f8f5fd946367d674b73bff261047f925e75751",
        "EMNIST ByMerge subset, not EMNIST-balanced",
    ),
)

IMAGE_DATASETS = {entry.name: entry for entry in (MNIST, FASHION_MNIST, EMNIST)}


def command(entry):
    """The command line that gets the full set, as a user would type it."""
    return f"python datasets/get_{entry.name}.py" if checkout_folder() else f"python -m bats get {entry.name}"
