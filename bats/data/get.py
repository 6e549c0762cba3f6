"""The command line that downloads an image data set: `python datasets/get_<name>.py`, `python -m bats get <name>`."""

import argparse
import sys
import time
from pathlib import Path

from bats.data.download import DownloadError
from bats.data.images import find_images, read_images
from bats.data.load import download_images
from bats.data.locate import VARIABLE, download_folder


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

    entry    bats.data.catalogue.ImageDatasetEntry;  options  what the parser of add_arguments gave.
    """
    start = time.perf_counter()
    try:
        path = download_images(entry, options.out, options.mirror, options.force, progress=not options.quiet)
        dataset = read_images(entry, path)
    except DownloadError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError, TypeError) as error:
        print(f"{entry.title}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{entry.title}: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    counts = f"{len(dataset.x_train)} training and {len(dataset.x_test)} test images"
    checks = {
        "sha256": "checksum right",
        "structure": "structure right; there is no published checksum of these files",
    }
    print(f"{entry.title}: {counts}, {checks[dataset.checked]}, in {path} ({time.perf_counter() - start:.1f} s)")
    print(f"sha256 {dataset.sha256}")
    found, _ = find_images(entry)
    if found is None:
        print(f"bats does not look there by itself: set {VARIABLE}={Path(options.out).absolute()} in the environment")
    return 0


def main(entry, argv=None):
    """Command line for one data set; returns the exit code."""
    parser = argparse.ArgumentParser(description=f"Downloads {entry.title}, checks it and puts it where bats finds it.")
    add_arguments(parser)
    return get(entry, parser.parse_args(argv))
