"""What is known about the published event data sets: their files, checksums and mirrors; and how they are fetched.

Only MD5 sums are known, those of several independent loaders: N-MNIST in tonic and SpikingJelly, SHD in norse.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from bats.data.catalogue import RemoteFile, command
from bats.data.download import DownloadError, advice, fetch
from bats.data.locate import download_folder


@dataclass(frozen=True)
class EventDatasetEntry:
    """A published set of event recordings, in one file for training and one for test.

    name         short name;  title  how messages call it.
    n_units      input lines;  class_names  one string per class.
    n_train, n_test  recordings in the full set.
    files        the published files: training, test (bats.data.catalogue.RemoteFile).
    unpacked_md5 MD5 of the two files without their compression, () where it has no meaning.
    max_seconds  later events are out of range, or None.
    """

    name: str
    title: str
    n_units: int
    class_names: tuple[str, ...]
    n_train: int
    n_test: int
    files: tuple[RemoteFile, RemoteFile]
    unpacked_md5: tuple[str, ...] = ()
    max_seconds: float | None = None

    @property
    def n_classes(self):
        return len(self.class_names)


_MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"
_DROPBOX = "https://www.dropbox.com/sh/tg2ljlbmtzygrag/"

NMNIST = EventDatasetEntry(
    name="nmnist",
    title="N-MNIST",
    n_units=2 * 34 * 34,
    class_names=tuple("0123456789"),
    n_train=60_000,
    n_test=10_000,
    files=(
        RemoteFile(
            "Train.zip",
            None,
            None,
            (
                f"{_MENDELEY}39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
                f"{_DROPBOX}AABlMOuR15ugeOxMCX0Pvoxga/Train.zip?dl=1",
            ),
            "20959b8e626244a1b502305a9e6e2031",
        ),
        RemoteFile(
            "Test.zip",
            None,
            None,
            (
                f"{_MENDELEY}05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
                f"{_DROPBOX}AADSKgJ2CjaBWh75HnTNZyhca/Test.zip?dl=1",
            ),
            "69ca8762b2fe404d9b9bad1103e97832",
        ),
    ),
)

_ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_GERMAN = ("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun")


def _shd(part, md5):
    name = f"shd_{part}.h5.gz"
    bases = ("https://zenkelab.org/datasets/", "https://compneuro.net/datasets/")
    return RemoteFile(name, None, None, tuple(base + name for base in bases), md5)


SHD = EventDatasetEntry(
    name="shd",
    title="Spiking Heidelberg Digits",
    n_units=700,
    class_names=_ENGLISH + _GERMAN,
    n_train=8_156,
    n_test=2_264,
    files=(_shd("train", "d47c9825dee33347913e8ce0f2be08b0"), _shd("test", "3062a80ec0c5719404d5b02e166543b1")),
    unpacked_md5=("8e9877c85f29a28dd353ea6a54402667", "207ad1295a0ab611e22d1734989c254e"),
    max_seconds=2.0,  # the published recordings end before 1.4 s
)

EVENT_DATASETS = {entry.name: entry for entry in (NMNIST, SHD)}


def fetch_files(entry, folder=None, mirrors=(), force=False, progress=True, then=None):
    """Downloads the published files of a set to raw/<name> below `folder`; returns their paths (training, test).

    Arguments and errors as bats.data.download_images; `then` as in bats.data.download.advice.
    """
    target = (Path(folder).expanduser() if folder is not None else download_folder()) / "raw" / entry.name
    unreachable = set()
    try:
        for file in entry.files:
            urls = [*(f"{base.rstrip('/')}/{file.name}" for base in mirrors), *file.urls]
            fetch(urls, target / file.name, file.checksum, file.size, progress, unreachable, force)
    except DownloadError as error:
        raise DownloadError(advice(entry.title, entry.files, target, error.reasons, then), error.reasons) from error
    return [target / file.name for file in entry.files]


@contextlib.contextmanager
def naming_the_remedy(entry):
    """Adds to a ValueError or TypeError inside, about a file that was found, how to replace the file."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise type(error)(f"{error}; remove it, or get it again with: {command(entry)} --force") from error
