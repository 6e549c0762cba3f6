"""N-MNIST: MNIST digits as seen by an event camera (Orchard, Jayawant, Cohen, Thakor 2015, doi 10.3389/fnins.2015.00437).

60 000 + 10 000 recordings of three camera movements, 0.3 s together, by a sensor of 34 x 34 pixels. Published as two
.zip archives with one ATIS file per recording (Train/<digit>/<number>.bin); here they become one .npz file, once.
"""

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bats.data.catalogue import command
from bats.data.download import checksum_like, sha256_of
from bats.data.event_catalogue import NMNIST, fetch_files, naming_the_remedy
from bats.data.events import EventDataset, check_events
from bats.data.load import told
from bats.data.locate import download_folder, locate
from bats.data.npz import check_range, read_npz

SIDE = 34  # pixels
OVERFLOW_ROW, OVERFLOW_MICROSECONDS = 240, 1 << 13
FILE_NAME = "nmnist.npz"
_ARRAYS = ("times", "units", "offsets", "labels")
_KEYS = tuple(f"{part}_{name}" for part in ("train", "test") for name in _ARRAYS)
_MEMBER = re.compile(r"(?:^|/)(\d)/([^/]+)\.bin$")


def parse_atis(content, name):
    """The events of an ATIS file: (times int32 [n], microseconds, units uint16 [n], number of events out of order).

    content  bytes, 5 per event, big-endian: x, y, then polarity (1 bit) and time (23 bits, microseconds).
    name     how messages name the file.

    unit = x + 34 y + 1156 polarity. An event with y = 240 is a marker, not a spike: the clock overflowed, and 2^13
    microseconds are added to its time and all later ones (as the readers of the publisher, event-Python, and of tonic
    do). Events out of order are sorted by time, those of equal time stay as they are. Raises ValueError for a file that
    ends within an event and for a pixel outside the sensor.
    """
    if len(content) % 5:
        raise ValueError(f"{name}: truncated: expected 5 bytes per event, received {len(content)} bytes")
    raw = np.frombuffer(content, np.uint8).reshape(-1, 5).astype(np.int32)
    x, y, polarity = raw[:, 0], raw[:, 1], raw[:, 2] >> 7
    times = (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]
    marker = y == OVERFLOW_ROW
    if marker.any():
        times = times + OVERFLOW_MICROSECONDS * np.cumsum(marker, dtype=np.int32)
        x, y, polarity, times = x[~marker], y[~marker], polarity[~marker], times[~marker]
    outside = (x >= SIDE) | (y >= SIDE)
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(f"{name}: expected pixels 0..{SIDE - 1}, received x {x[first]}, y {y[first]} at event {first}")
    units = (x + SIDE * y + SIDE * SIDE * polarity).astype(np.uint16)
    n_late = int(np.count_nonzero(np.diff(times) < 0))
    if n_late:
        order = np.argsort(times, kind="stable")
        times, units = times[order], units[order]
    return times.astype(np.int32), units, n_late


def convert_nmnist(archives, destination, entry=NMNIST, progress=True):
    """Makes the one .npz file from the two published archives (training, test); returns the number of recordings.

    The file holds, for train and test, times int32 [n_events] (microseconds), units uint16 [n_events], offsets int64
    [n + 1], labels uint8 [n], in the order of digit and file name; and the MD5 sums of the archives. It gets its name
    only when it is complete. Raises ValueError naming the archive and the file inside that is damaged, OSError if it
    cannot be written.
    """
    from bats.training.atomic import atomic_file  # here: importing bats.training draws in matplotlib

    arrays, n_late = {}, 0
    for part, archive in zip(("train", "test"), archives, strict=True):
        converted, late = _convert_archive(Path(archive), f"{entry.title}, {part}", progress)
        arrays |= {f"{part}_{name}": array for name, array in zip(_ARRAYS, converted, strict=True)}
        n_late += late
    sums = [checksum_like(path, file.checksum) for path, file in zip(archives, entry.files, strict=True)]
    with atomic_file(destination) as file:
        np.savez(file, **arrays, archives=np.array(sums), n_out_of_order=np.array([n_late], np.int64))
    return len(arrays["train_labels"]) + len(arrays["test_labels"])


def _convert_archive(path, title, progress):
    """((times, units, offsets, labels), number of events out of order) of one archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [(match, info) for info in archive.infolist() if (match := _MEMBER.search(info.filename))]
            if not found:
                raise ValueError(f"{path}: expected files <digit>/<number>.bin, received an archive without any")
            found.sort(key=lambda pair: (pair[0][1], pair[0][2]))
            room = sum(info.file_size for _, info in found) // 5
            times, units = np.empty(room, np.int32), np.empty(room, np.uint16)
            offsets, n_late = np.zeros(len(found) + 1, np.int64), 0
            for i, (_, info) in enumerate(tqdm(found, desc=title, unit="file", disable=not progress)):
                t, u, late = parse_atis(archive.read(info), f"{path}: {info.filename}")
                start, stop = offsets[i], offsets[i] + len(t)
                times[start:stop], units[start:stop], offsets[i + 1] = t, u, stop
                n_late += late
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: expected a complete .zip archive, received a damaged or different file: {error}") from error
    labels = np.array([int(match[1]) for match, _ in found], np.uint8)
    return (times[: offsets[-1]], units[: offsets[-1]], offsets, labels), n_late


def download_nmnist(folder=None, mirrors=(), force=False, progress=True, entry=NMNIST):
    """Downloads the two archives (over 1 GB) and makes nmnist.npz (1.8 GB) in `folder`; returns its path.

    Archives that were in raw/nmnist before stay there; those downloaded now are removed. Arguments and errors as
    bats.data.download_images, and ValueError for a damaged archive.
    """
    folder = Path(folder).expanduser() if folder is not None else download_folder()
    destination = folder / FILE_NAME
    if destination.is_file() and not force:
        return destination
    raw = folder / "raw" / entry.name
    kept = [file.name for file in entry.files if (raw / file.name).is_file()]
    archives = fetch_files(entry, folder, mirrors, force, progress, "and repeat the command.")
    convert_nmnist(archives, destination, entry, progress)
    for archive in archives:
        if archive.name not in kept:
            archive.unlink()
    return destination


def find_nmnist(folders=None):
    """(path of nmnist.npz or None, the folders that were searched)."""
    return locate(FILE_NAME, f"nmnist/{FILE_NAME}", folders=folders)


def load_nmnist(path=None, merge_polarities=False, entry=NMNIST):
    """N-MNIST as an EventDataset: 2312 units, x + 34 y + 1156 polarity, or 1156 with merge_polarities; times in seconds.

    path  the converted file nmnist.npz or a folder with it; None searches BATS_DATA, the checkout's datasets/ and the
          user's cache. Nothing is downloaded here: `python -m bats get nmnist` does that, and the conversion, once.

    With merge_polarities both polarities of a pixel are one unit, as in FastSNN. The full set has about 290 million
    events: 3.5 GB in memory, twice that while it is read. Raises FileNotFoundError with that command, ValueError or
    TypeError naming the file and the array that is damaged or does not fit.
    """
    if path is not None:
        path = Path(path).expanduser().absolute()
        found = find_nmnist([path])[0] if path.is_dir() else path if path.is_file() else None
        if found is None:
            raise FileNotFoundError(f"{entry.title}: no {FILE_NAME} in {path}. Get it with: {command(entry)}")
        return told(_read(found, merge_polarities, entry))
    found, searched = find_nmnist()
    if found is None:
        where = ", ".join(map(str, searched))
        raise FileNotFoundError(f"{entry.title}: no {FILE_NAME} in {where}. Get it with: {command(entry)}")
    with naming_the_remedy(entry):
        return told(_read(found, merge_polarities, entry))


def _read(found, merge_polarities, entry):
    arrays = read_npz(found, optional=("archives", "n_out_of_order"), keys=_KEYS)
    n_units = SIDE * SIDE if merge_polarities else entry.n_units
    parts = []
    for part in ("train", "test"):
        times, units, offsets, labels = (arrays[f"{part}_{name}"] for name in _ARRAYS)
        for name, array in (("times", times), ("units", units)):
            if array.dtype.kind not in "iu":
                raise TypeError(f"{found}: {part} {name}: expected integers, received {array.dtype}")
        check_range(units, 0, entry.n_units - 1, f"{found}: {part} units")
        units = units % n_units if merge_polarities else units
        parts.append(check_events(times / 1e6, units, offsets, labels, n_units, entry.n_classes, f"{found}: {part}"))
    published = [file.checksum for file in entry.files]
    notes = []
    if np.asarray(arrays.get("archives", ())).tolist() != published:
        notes.append(f"{found}: well formed, but not made from the published archives of {entry.title}")
    n_late = int(np.asarray(arrays.get("n_out_of_order", 0)).sum())
    if n_late:
        notes.append(f"{entry.title}: {n_late} events stood out of order in the published files and were sorted by time")
    is_subset = len(parts[0]) < entry.n_train or len(parts[1]) < entry.n_test
    return EventDataset(
        entry.name, *parts, n_units, entry.n_classes, entry.class_names, found, sha256_of(found), is_subset,
        notice="\n".join(notes),
    )  # fmt: skip
