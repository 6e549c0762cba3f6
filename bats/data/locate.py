"""Where a named data set is looked for on this machine.

In this order: the folders of the environment variable BATS_DATA (one, or several separated by os.pathsep), the
`datasets/` folder of the repository when bats runs from a checkout, and the cache folder of the user. Nothing is
created by looking.
"""

import os
import sys
import tempfile
from pathlib import Path

VARIABLE = "BATS_DATA"


def environment_folders():
    """Folders named in BATS_DATA, in order, `~` expanded; [] when it is unset or empty."""
    names = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [Path(name.strip()).expanduser().absolute() for name in names if name.strip()]


def checkout_folder():
    """`datasets/` of the repository that this package runs from, or None when bats is installed somewhere else."""
    root = Path(__file__).resolve().parents[2]
    inside = (root / "pyproject.toml").is_file() and (root / "datasets" / "get_mnist.py").is_file()
    return root / "datasets" if inside else None


def cache_folder():
    """The user's cache folder for bats, absolute; it need not exist.

    $XDG_CACHE_HOME/bats where that variable holds an absolute path, otherwise the custom of the platform:
    ~/.cache/bats, ~/Library/Caches/bats on macOS, %LOCALAPPDATA%\\bats\\Cache on Windows; a temporary folder for a user
    without a home.
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if chosen and Path(chosen).is_absolute():
        return Path(chosen) / "bats"
    local = os.environ.get("LOCALAPPDATA", "")
    if sys.platform == "win32" and local:
        return Path(local) / "bats" / "Cache"
    try:
        home = Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "bats"
    return home / "Library" / "Caches" / "bats" if sys.platform == "darwin" else home / ".cache" / "bats"


def search_folders():
    """Every folder that is looked into, in order, without repetition."""
    checkout = checkout_folder()
    folders = [*environment_folders(), *([checkout] if checkout else []), cache_folder()]
    return list(dict.fromkeys(folders))


def download_folder():
    """Where a download goes: the first folder of the search order that can be written to (created later if need be)."""
    folders = search_folders()
    return next((folder for folder in folders if _writable(folder)), folders[-1])


def _writable(folder):
    existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
    return existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def locate(*names, folders=None):
    """The first existing file among `names` in the search folders.

    names    relative paths, the preferred one first, e.g. "mnist.npz", "mnist/mnist.npz".
    folders  folders to look into instead of search_folders().

    Returns (path, searched): the file found or None, and the list of folders that were looked into. A folder is
    exhausted (all names) before the next one is looked at.
    """
    if not names:
        raise ValueError("locate: expected at least one file name, received none")
    searched = search_folders() if folders is None else [Path(folder) for folder in folders]
    for folder in searched:
        for name in names:
            path = folder / name
            if path.is_file():
                return path, searched
    return None, searched
