"""SHD, the Spiking Heidelberg Digits: spoken digits, English and German, as spikes of 700 cochlear channels (Cramer,
Stradmann, Schemmel, Zenke 2020, arXiv 1910.07407): 8156 + 2264 recordings of up to 1.4 s, 20 classes.

Published as HDF5 files, which are read as they are: spikes/times (float16, seconds), spikes/units, labels.
"""

import gzip
import hashlib
import io
import zlib
from pathlib import Path

import numpy as np

from bats.data.catalogue import command
from bats.data.download import checksum_like, sha256_of
from bats.data.event_catalogue import SHD, fetch_files, naming_the_remedy
from bats.data.events import EventDataset, check_events
from bats.data.load import told
from bats.data.locate import locate


def download_shd(folder=None, mirrors=(), force=False, progress=True, entry=SHD):
    """Downloads the two files to raw/shd below `folder`; returns that folder. Arguments and errors as fetch_files."""
    return fetch_files(entry, folder, mirrors, force, progress)[0].parent


def find_shd(folders=None, entry=SHD):
    """(folder with both files, or None, the folders that were searched); each file as published or unpacked (.h5)."""
    searched = locate(entry.files[0].name, folders=folders)[1]
    for folder in searched:
        for place in (folder / f"raw/{entry.name}", folder / entry.name, folder / entry.name.upper(), folder):
            if _paths(place, entry):
                return place, searched
    return None, searched


def _paths(folder, entry):
    """The two files in a folder, the published one before the unpacked one, or None."""
    names = [(file.name, file.name.removesuffix(".gz")) for file in entry.files]
    paths = [next((folder / name for name in pair if (folder / name).is_file()), None) for pair in names]
    return None if None in paths else paths


def load_shd(path=None, entry=SHD):
    """The Spiking Heidelberg Digits as an EventDataset: 700 units, 20 classes, times in seconds.

    path  a folder with shd_train.h5.gz and shd_test.h5.gz, or both unpacked; None searches BATS_DATA, the checkout's
          datasets/ and the user's cache. Nothing is downloaded here: `python -m bats get shd` does that.

    Events that are not finite, or out of range (time below 0 or from entry.max_seconds on, unit not 0..699), are left
    out, counted in n_dropped and told in the notice; recordings out of the order of time are sorted and told. Raises
    ImportError that names the extra if h5py is missing, FileNotFoundError with the command that gets the set, ValueError
    or TypeError naming the file and what is damaged or does not fit.
    """
    if path is not None:
        path = Path(path).expanduser().absolute()
        if path.is_file():
            raise ValueError(f"{path}: expected the folder with both files of {entry.title}, received a file")
    folder, searched = find_shd(None if path is None else [path], entry)
    if folder is None:
        names, where = " and ".join(file.name for file in entry.files), ", ".join(map(str, searched))
        raise FileNotFoundError(f"{entry.title}: no {names} in {where}. Get them with: {command(entry)}")
    if path is not None:
        return told(_read(folder, entry))
    with naming_the_remedy(entry):
        return told(_read(folder, entry))


def _read(folder, entry):
    paths = _paths(folder, entry)
    parts, n_dropped, n_sorted = [], 0, 0
    for file in paths:
        events, dropped, unsorted = _read_file(file, entry)
        parts.append(events)
        n_dropped += dropped
        n_sorted += unsorted
    notes = []
    for i, file in enumerate(paths):
        known = [entry.files[i].checksum, *entry.unpacked_md5[i : i + 1]]
        received = checksum_like(file, known[0])
        if received not in known:
            notes.append(f"{file}: well formed, but not a published file of {entry.title} (md5 {received})")
    if n_dropped:
        notes.append(f"{entry.title}: {n_dropped} events that are not finite or out of range were left out")
    if n_sorted:
        notes.append(f"{entry.title}: {n_sorted} recordings were not in the order of time and were sorted")
    joint = hashlib.sha256("\n".join(map(sha256_of, paths)).encode()).hexdigest()
    is_subset = len(parts[0]) < entry.n_train or len(parts[1]) < entry.n_test
    return EventDataset(
        entry.name, *parts, entry.n_units, entry.n_classes, entry.class_names, folder, joint, is_subset, n_dropped,
        "\n".join(notes),
    )  # fmt: skip


def _read_file(path, entry):
    """(Events, number of events left out, number of recordings sorted) of one HDF5 file."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f'{path}: reading HDF5 needs h5py, which is not installed: pip install "bats[events]"') from error
    try:
        with h5py.File(_opened(path), "r") as file:
            for name in ("spikes/times", "spikes/units", "labels"):
                if not isinstance(file.get(name), h5py.Dataset):
                    raise ValueError(f"{path}: expected the data set {name}, it is not there")
                if file[name].ndim != 1:
                    raise ValueError(f"{path}: {name}: expected one dimension, received the shape {list(file[name].shape)}")
            for name, kinds in (("spikes/times", "f"), ("spikes/units", "iu")):
                base = h5py.check_vlen_dtype(file[name].dtype)
                if base is None or np.dtype(base).kind not in kinds:
                    wanted = "floating-point numbers" if kinds == "f" else "integers"
                    raise TypeError(f"{path}: {name}: expected arrays of {wanted} of any length, received {base or file[name].dtype}")
            times, units, labels = file["spikes/times"][:], file["spikes/units"][:], file["labels"][:]
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path}: expected an HDF5 file, received a damaged or different one: {error}") from error
    if not len(times) == len(units) == len(labels):
        received = f"{len(times)}, {len(units)} and {len(labels)}"
        raise ValueError(f"{path}: expected equally many spikes/times, spikes/units and labels, received {received}")
    for i, (t, u) in enumerate(zip(times, units, strict=True)):
        if len(t) != len(u):
            raise ValueError(f"{path}: recording {i}: expected one unit per time, received {len(u)} and {len(t)}")
    return _clean(path, times, units, labels, entry)


def _clean(path, times, units, labels, entry):
    counts = np.array([len(part) for part in times], np.int64)
    recordings = np.repeat(np.arange(len(counts)), counts)
    times = np.concatenate([np.empty(0), *times]).astype(np.float64)
    units = np.concatenate([np.empty(0, np.int64), *(np.asarray(part, np.int64) for part in units)])
    with np.errstate(invalid="ignore"):
        kept = np.isfinite(times) & (times >= 0) & (units >= 0) & (units < entry.n_units)
        if entry.max_seconds is not None:
            kept &= times < entry.max_seconds
    n_dropped = int(np.count_nonzero(~kept))
    if n_dropped:
        times, units, recordings = times[kept], units[kept], recordings[kept]
        counts = np.bincount(recordings, minlength=len(counts))
    late = (np.diff(times) < 0) & (np.diff(recordings) == 0)
    n_sorted = len(np.unique(recordings[1:][late]))
    if n_sorted:
        order = np.lexsort((times, recordings))  # a stable sort
        times, units = times[order], units[order]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    return check_events(times, units, offsets, labels, entry.n_units, entry.n_classes, str(path)), n_dropped, n_sorted


def _opened(path):
    """What h5py opens: the path itself, or the unpacked content of a .gz file in memory."""
    if path.suffix != ".gz":
        return path
    try:
        return io.BytesIO(gzip.decompress(path.read_bytes()))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: expected complete gzip data, received a truncated or damaged file: {error}") from error
