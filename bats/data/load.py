"""Loading an image data set by name: from a path, from this machine, by download, or the part inside the package."""

import os
import sys
from pathlib import Path

from bats.data.catalogue import command
from bats.data.download import DownloadError, advice, fetch
from bats.data.embedded import embedded_images
from bats.data.images import ImageDataset, find_images, read_images
from bats.data.locate import VARIABLE, download_folder, environment_folders

OFFLINE = "BATS_OFFLINE"
_said = set()


def load_images(entry, path=None, download=True, validate=True):
    """An ImageDataset, from the first of these that has it:

    1. `path`, if given: a .npz file, or a folder with one or with the four IDX files. Nothing else is tried.
    2. this machine: BATS_DATA, `datasets/` of the checkout, the user's cache (bats.data.locate).
    3. a download into the first of those folders that can be written to; not with download=False, nor when the
       environment variable BATS_OFFLINE is set to anything but 0 or nothing.
    4. the part embedded in the package: is_subset is True, and its notice is printed on stderr once per process.

    entry     bats.data.catalogue.ImageDatasetEntry.
    validate  True wants exactly the published numbers of images and image shape (see read_images).

    A file that was found but is damaged is an error (ValueError naming it), never passed over in silence. Raises
    FileNotFoundError for a `path` with nothing there.
    """
    if path is not None:
        return _told(read_images(entry, path, validate))
    found, searched = find_images(entry)
    if found is not None:
        try:
            return _told(read_images(entry, found, validate))
        except (ValueError, TypeError) as error:
            raise type(error)(f"{error}; remove it, or get it again with: {command(entry)} --force") from error
    reasons = [f"no {entry.name}.npz in {', '.join(map(str, searched))}"]
    absent = [folder for folder in environment_folders() if not folder.is_dir()]
    reasons += [f"the folder {folder} of {VARIABLE} does not exist" for folder in absent]
    if not download:
        reasons.append("downloads were turned off by the caller")
    elif os.environ.get(OFFLINE, "0") not in ("", "0"):
        reasons.append(f"downloads are turned off by {OFFLINE}")
    else:
        try:
            return _told(read_images(entry, download_images(entry), validate))
        except DownloadError as error:
            reasons += [f"no download from {url}: {reason}" for url, reason in error.reasons]
        except OSError as error:
            reasons.append(f"no download: {error}")
    return _told(embedded_images(entry, reasons))


def download_images(entry, folder=None, mirrors=(), force=False, progress=True):
    """Downloads a data set; returns its path: the .npz file, or the folder of the IDX files if only those can be had.

    folder    where to; None takes bats.data.locate.download_folder(). The IDX files go to raw/<name> below it.
    mirrors   base URLs that are asked before the published ones; the file's name is appended to each.
    force     True downloads again what is there already.

    Raises DownloadError with the reason of every mirror, or OSError if the files cannot be written.
    """
    folder = Path(folder).expanduser() if folder is not None else download_folder()
    unreachable, reasons = set(), []
    groups = [([entry.npz], folder)] if entry.npz else []
    groups += [(entry.idx, folder / "raw" / entry.name)] if entry.idx else []
    for files, target in groups:
        try:
            for file in files:
                urls = [*(f"{base.rstrip('/')}/{file.name}" for base in mirrors), *file.urls]
                fetch(urls, target / file.name, file.sha256, file.size, progress, unreachable, force)
        except DownloadError as error:
            reasons += error.reasons
            continue
        return target / files[0].name if files[0] is entry.npz else target
    files, target = groups[0]
    raise DownloadError(advice(entry.title, files, target, reasons), reasons)


def _told(dataset: ImageDataset):
    """The data set itself, after its notice, if any, was printed on stderr; once per process."""
    if dataset.notice and dataset.notice not in _said:
        _said.add(dataset.notice)
        print(f"bats: {dataset.notice}", file=sys.stderr, flush=True)
    return dataset
