"""The parts of data sets that travel inside the package, in bats/data/embedded/."""

import dataclasses
from pathlib import Path

from bats.data.catalogue import command
from bats.data.images import read_images


def path_of(entry):
    """Path of the embedded part of a data set (bats.data.catalogue.ImageDatasetEntry), or None if it has none."""
    return Path(__file__).resolve().parent / "embedded" / entry.embedded if entry.embedded else None


def embedded_images(entry, reasons=()):
    """The part of a data set inside the package, as an ImageDataset whose notice says what it is.

    reasons: sentences that say why the full set is not used. Raises FileNotFoundError if the package has no part of it.
    """
    if entry.embedded is None:
        raise FileNotFoundError(f"{entry.title}: {'; '.join(reasons)}. Get it with: {command(entry)}")
    part = read_images(entry, path_of(entry), validate=False)
    notice = "\n".join(
        [
            f"This is not the full {entry.title} but the part of it that comes with bats: {len(part.x_train)} of "
            f"{entry.n_train} training and {len(part.x_test)} of {entry.n_test} test images.",
            *[f"  why: {reason}" for reason in reasons],
            f"  full set: {command(entry)}",
        ]
    )
    return dataclasses.replace(part, name=f"{entry.name}_subset", notice=notice, kind="embedded subset")
