"""Downloads the Spiking Heidelberg Digits into this folder (or --out): checksum, mirrors, resumable; see --help."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("bats") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bats.data.event_catalogue import SHD
from bats.data.get import main

if __name__ == "__main__":
    sys.exit(main(SHD))
