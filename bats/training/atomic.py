"""Whole files or none: what a run leaves on disk is written to a temporary name beside its target, then renamed.

A process killed in the middle, a second Ctrl-C or a full disk therefore leave the previous version of a file untouched.
"""

import contextlib
import json
import os
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path, mode="wb"):
    """Opens a temporary file beside `path`; renames it to `path` when the block ends well, removes it when it does not.

    Errors: OSError (read-only folder, full disk) with the target's name in the message; the old file is then intact.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}; any earlier version is kept") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Writes `text` as UTF-8 at once."""
    with atomic_file(path, "w") as file:
        file.write(text)


def write_json(path, value):
    """Writes `value` as indented JSON at once; anything JSON does not know is written as its string."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")
