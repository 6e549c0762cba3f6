"""What every benchmark shares: bats from a bare checkout, the record of the machine, and writing results."""

import datetime
import importlib.util
import json
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if importlib.util.find_spec("bats") is None:
    sys.path.insert(0, str(ROOT))
for folder in ("fashion_mnist", "fastsnn", "mnist"):  # the jobs are those of the experiments
    sys.path.insert(0, str(ROOT / "experiments" / folder))

from bats.device import describe  # noqa: E402
from bats.storage import write_atomically  # noqa: E402


def record(**results):
    """Results with the date, the command and the machine."""
    options = sys.argv[1:]
    for name in ("--out", "--plot"):  # where the results went says nothing about them, and may be a path of this machine
        if name in options:
            place = options.index(name)
            options = options[:place] + options[place + 2 :]
    command = shlex.join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *options])
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    return {"date": date, "command": command, "environment": describe(), **results}


def write(path, results):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
    print(f"written: {path}")
