"""results/<experiment>/<time>-<seed>/: where a run writes, made by the run itself.

config.json  environment.json  metrics.csv  checkpoint.npz  best_model/  output_metrics/
confusion_matrix.csv  confusion_matrix.png  raster.png  summary.json  summary.txt
"""

import datetime
import errno
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from bats.training import monitors
from bats.training.atomic import atomic_file, write_json, write_text
from bats.training.history import history_csv

_FREE_BYTES = 64 * 2**20  # a run of the largest study so far leaves less than this


class RunFolder:
    """Paths and writers of one run. Making it checks that the folder can be written and the disk has room, so that a
    run fails before the training and not after it.

    Errors: OSError naming the folder (a read-only or full disk, a file in the way).
    """

    def __init__(self, path, required_bytes=_FREE_BYTES):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "output_metrics").mkdir(exist_ok=True)
            (self.path / "best_model").mkdir(exist_ok=True)
            probe = self.path / f".writable-{os.getpid()}"
            with atomic_file(probe) as file:
                file.write(b"probe")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise OSError(error.errno, f"results cannot be written to {self.path}: {reason}; choose another folder with --out") from error
        free = shutil.disk_usage(self.path).free
        if free < required_bytes:
            need, have = (f"{size / 2**20:.0f} MiB" for size in (required_bytes, free))
            raise OSError(errno.ENOSPC, f"results need {need} at {self.path}, {have} are free; choose --out elsewhere")

    @classmethod
    def create(cls, root, experiment, seed, required_bytes=_FREE_BYTES):
        """A new folder <root>/<experiment>/<time>-<seed>; a number is appended for runs of the same second."""
        stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        path = Path(root) / experiment / f"{stamp}-{seed}"
        number = 1
        while path.exists():
            number += 1
            path = path.with_name(f"{stamp}-{seed}-{number}")
        return cls(path, required_bytes)

    checkpoint = property(lambda self: self.path / "checkpoint.npz")
    best_model = property(lambda self: self.path / "best_model")
    output_metrics = property(lambda self: self.path / "output_metrics")

    def write_start(self, config, environment):
        """What was asked for and where it ran, before the training starts."""
        self.write_config(config)
        write_json(self.path / "environment.json", environment)

    def write_config(self, config):
        """config.json, replaced as a whole."""
        write_json(self.path / "config.json", config)

    def write_metrics(self, history):
        """metrics.csv up to the last epoch, replaced as a whole."""
        write_text(self.path / "metrics.csv", history_csv(history))

    def write_monitors(self, history):
        """output_metrics/: an .npz (epochs, values) per monitor and a plot per quantity."""
        monitors.export(history, self.output_metrics)

    def __fspath__(self):
        return str(self.path)

    def __str__(self):
        return str(self.path)


def _git_commit():
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        options = {"cwd": root, "capture_output": True, "text": True, "check": True, "timeout": 10}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **options).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + (" with local changes" if changed else "")


def describe_environment(network):
    """Versions, device and driver, git commit where there is one, command line, time."""
    import matplotlib

    import bats
    from bats import device

    return {
        "bats": bats.__version__,
        "git_commit": _git_commit(),
        "command_line": [sys.executable, *sys.argv],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "matplotlib": matplotlib.__version__,
        "device_used": network.device,
        "device": device.describe(),
    }
