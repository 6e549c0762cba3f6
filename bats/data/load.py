"""Loading an image data set by name: from a path, from this machine, by download, or what may take its place."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from bats.data.archive import unpack
from bats.data.catalogue import command
from bats.data.download import DownloadError, advice, fetch
from bats.data.embedded import embedded_images
from bats.data.images import find_images, read_images
from bats.data.locate import VARIABLE, download_folder, environment_folders, locate

OFFLINE = "BATS_OFFLINE"
_said = set()


def load_images(entry, path=None, download=True, validate=True):
    """An ImageDataset, from the first of these that has it:

    1. `path`, if given: a file or folder that read_images takes. Nothing else is tried.
    2. this machine: BATS_DATA, `datasets/` of the checkout, the user's cache (bats.data.locate).
    3. a download into the first of those folders that can be written to; not with download=False, nor when the
       environment variable BATS_OFFLINE is set to anything but 0 or nothing.
    4. what may take its place: the stand-in of the entry from the folders of 2, or the part embedded in the package.
       is_subset is True, name and kind say what it is, and its notice is printed on stderr once per process.

    entry     bats.data.catalogue.ImageDatasetEntry.
    validate  True wants exactly the published numbers of images and image shape (see read_images).

    A file that was found but is damaged is an error (ValueError naming it), never passed over in silence. Raises
    FileNotFoundError for a `path` with nothing there, or where all four have nothing; it names the command that gets it.
    """
    if path is not None:
        return told(read_images(entry, path, validate))
    found, searched = find_images(entry)
    if found is not None:
        try:
            return told(read_images(entry, found, validate))
        except (ValueError, TypeError) as error:
            raise type(error)(f"{error}; remove it, or get it again with: {command(entry)} --force") from error
    reasons = [f"no {f'{entry.name}.npz' if entry.npz else entry.title} in {', '.join(map(str, searched))}"]
    absent = [folder for folder in environment_folders() if not folder.is_dir()]
    reasons += [f"the folder {folder} of {VARIABLE} does not exist" for folder in absent]
    if not download:
        reasons.append("downloads were turned off by the caller")
    elif os.environ.get(OFFLINE, "0") not in ("", "0"):
        reasons.append(f"downloads are turned off by {OFFLINE}")
    else:
        try:
            return told(read_images(entry, download_images(entry), validate))
        except DownloadError as error:
            reasons += [f"no download from {url}: {reason}" for url, reason in error.reasons]
        except OSError as error:
            reasons.append(f"no download: {error}")
    return told(_stand_in(entry, reasons) or embedded_images(entry, reasons))


def _stand_in(entry, reasons):
    """The data set that takes the place of an absent one, its notice saying so; None where there is none."""
    if entry.stand_in is None:
        return None
    path, _ = locate(f"{entry.stand_in.name}.npz")
    if path is None:
        return None
    from bats.data.own_images import load_npz_images

    dataset = load_npz_images(path)
    lines = [
        f"{entry.title} is not there; in its place comes the {entry.stand_in.kind}: {len(dataset.x_train)} training and "
        f"{len(dataset.x_test)} test images. Its accuracies do not compare with published ones.",
        *[f"  why: {reason}" for reason in reasons],
        f"  {entry.title}: {command(entry)}",
    ]
    return replace(dataset, notice="\n".join(lines))


def download_images(entry, folder=None, mirrors=(), force=False, progress=True):
    """Downloads a data set; returns its path: the .npz file, or the folder of the unpacked or IDX files.

    folder    where to; None takes bats.data.locate.download_folder(). All but the .npz file go to raw/<name> below it.
    mirrors   base URLs that are asked before the published ones; the file's name is appended to each.
    force     True downloads again what is there already.

    What is tried in turn: the .npz file, the IDX files, the archives. Of an archive the files of this set are kept, and
    the archive itself only if it was there before. Raises DownloadError with the reason of every mirror, OSError if the
    files cannot be written, ValueError for an archive without the files.
    """
    folder = Path(folder).expanduser() if folder is not None else download_folder()
    raw = folder / "raw" / entry.name
    unreachable, reasons = set(), []

    def get(file, target):
        urls = [*(f"{base.rstrip('/')}/{file.name}" for base in mirrors), *file.urls]
        fetch(urls, target / file.name, file.checksum, file.size, progress, unreachable, force)

    inner = (*(file.name for file in entry.idx), *([entry.mat] if entry.mat else []))
    if entry.archives and not force and _complete(entry, raw):
        return raw
    groups = [([entry.npz], folder)] if entry.npz else []
    groups += [(entry.idx, raw)] if entry.idx and all(file.urls for file in entry.idx) else []
    groups += [([archive], raw) for archive in entry.archives]
    for files, target in groups:
        there = (target / files[0].name).is_file()
        try:
            for file in files:
                get(file, target)
        except DownloadError as error:
            reasons += error.reasons
            continue
        if files[0] in entry.archives:
            unpack(target / files[0].name, inner, target)
            if not there:
                (target / files[0].name).unlink()
        return target / files[0].name if files[0] is entry.npz else target
    files, target = groups[0]
    raise DownloadError(advice(entry.title, files, target, reasons), reasons)


def _complete(entry, folder):
    """True if the files that an archive was unpacked to are there and whole."""
    archives = [file.name for file in entry.archives]
    try:
        found, _ = find_images(entry, [folder])
        return found is not None and found.name not in archives and bool(read_images(entry, found))
    except (OSError, ValueError, TypeError):
        return False


def told(dataset):
    """The data set itself, after its notice, if any, was printed on stderr; once per process."""
    if dataset.notice and dataset.notice not in _said:
        _said.add(dataset.notice)
        print(f"bats: {dataset.notice}", file=sys.stderr, flush=True)
    return dataset
