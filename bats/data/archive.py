"""Files out of a published .zip archive, each whole or not at all."""

import os
import shutil
import zipfile
import zlib
from pathlib import Path

from bats.data.transfer import writing

_BLOCK = 1 << 20


def unpack(archive, names, folder):
    """Takes the files called `names` (without their folders) out of a .zip file into `folder`; returns their paths.

    A name that the archive lacks is passed over. Each file is checked (the CRC of the archive) before it gets its name.
    Raises ValueError naming the archive if it is damaged or has none of the names, OSError if a file cannot be written.
    """
    archive, folder = Path(archive), Path(folder)
    made = []
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {name.rpartition("/")[2]: name for name in opened.namelist()}
            for name in names:
                if name not in members:
                    continue
                with opened.open(members[name]) as source:
                    _write(source, folder / name)
                made.append(folder / name)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive}: expected a complete .zip archive, received a damaged or different file: {error}") from error
    if not made:
        raise ValueError(f"{archive}: expected an archive with {' or '.join(names)}, it has {len(members)} other files")
    return made


def _write(source, path):
    """Copies an open file to `path`, under a temporary name first."""
    part = path.with_name(path.name + ".unpacking")
    try:
        with writing(path, "write"), open(part, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
