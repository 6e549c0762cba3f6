"""The command line that downloads a data set: `python datasets/get_<name>.py`, `python -m bats get <name>`."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from bats.data.catalogue import ImageDatasetEntry
from bats.data.download import DownloadError
from bats.data.images import find_images, read_images
from bats.data.load import download_images
from bats.data.locate import VARIABLE, download_folder
from bats.data.nmnist import download_nmnist, find_nmnist, load_nmnist
from bats.data.shd import download_shd, find_shd, load_shd


def add_arguments(parser):
    """Adds the options that all download commands share to an argparse parser."""
    parser.add_argument("--out", metavar="FOLDER", help=f"where to put it (default here: {download_folder()})")
    parser.add_argument(
        "--mirror", metavar="URL", action="append", default=[], help="a folder that is asked first; may be repeated"
    )
    parser.add_argument("--force", action="store_true", help="download again what is there already")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def get(entry, options):
    """Downloads and checks a data set, prints what was done, and returns the exit code: 0, or 1 if it cannot be had.

    entry    one of bats.data.IMAGE_DATASETS or EVENT_DATASETS;  options  what the parser of add_arguments gave.
    """
    start = time.perf_counter()
    download, read, find = _tools(entry)
    try:
        path = download(options.out, options.mirror, options.force, progress=not options.quiet)
        content, sha256, notice = read(path)
    except DownloadError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError, TypeError, ImportError) as error:
        damaged = isinstance(error, ValueError | TypeError) and not options.force
        print(f"{entry.title}: {error}{'; --force gets it again' if damaged else ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{entry.title}: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{entry.title}: {content}, in {path} ({time.perf_counter() - start:.1f} s)")
    print(f"sha256 {sha256}")
    if notice:
        print(notice)
    found, _ = find()
    if found is None:
        print(f"bats does not look there by itself: set {VARIABLE}={Path(options.out).absolute()} in the environment")
    return 0


def _tools(entry):
    """(download, read -> (what is in it, sha256, notice), find) of a data set."""
    if isinstance(entry, ImageDatasetEntry):
        return partial(download_images, entry), partial(_read_images, entry), partial(find_images, entry)
    if entry.name == "shd":
        return partial(download_shd, entry=entry), partial(_read_events, load_shd, entry), partial(find_shd, entry=entry)
    return partial(download_nmnist, entry=entry), partial(_read_events, load_nmnist, entry), find_nmnist


def _read_images(entry, path):
    dataset = read_images(entry, path)
    checks = {
        "sha256": "checksum right",
        "structure": "structure right; there is no published checksum of these files",
    }
    content = f"{len(dataset.x_train)} training and {len(dataset.x_test)} test images, {checks[dataset.checked]}"
    return content, dataset.sha256, dataset.notice


def _read_events(load, entry, path):
    dataset = load(path, entry=entry)
    counts = f"{len(dataset.train)} training and {len(dataset.test)} test recordings"
    n_events = len(dataset.train.times) + len(dataset.test.times)
    return f"{counts}, {n_events} events in {dataset.n_units} units", dataset.sha256, ""  # load told its notice


def main(entry, argv=None):
    """Command line for one data set; returns the exit code."""
    parser = argparse.ArgumentParser(description=f"Downloads {entry.title}, checks it and puts it where bats finds it.")
    add_arguments(parser)
    return get(entry, parser.parse_args(argv))
