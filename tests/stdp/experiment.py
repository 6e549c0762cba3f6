"""The modules of experiments/stdp as the tests see them, without leaving their short names (models, task, ...) behind."""

import importlib
import sys
from pathlib import Path
from unittest import mock

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "stdp"
_NAMES = ("models", "models.tables", "options", "report", "results_table", "task", "train")


def _ours():
    return [name for name in sys.modules if name.split(".")[0] in _NAMES]


def _load():
    aside = {name: sys.modules.pop(name) for name in _ours()}
    try:
        with mock.patch.object(sys, "path", [str(FOLDER), *sys.path]):
            return {name: importlib.import_module(name) for name in _NAMES}
    finally:
        for name in _ours():
            del sys.modules[name]
        sys.modules.update(aside)


MODULES = _load()
models, options, report, results_table, task, train = (
    MODULES[name] for name in ("models", "options", "report", "results_table", "task", "train")
)
tables = MODULES["models.tables"]
