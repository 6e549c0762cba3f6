"""The scripts of benchmarks/ as modules, and a handful of images for them."""

import contextlib
import importlib
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@contextlib.contextmanager
def scripts():
    """Gives the function that imports one. Names that others use too (unittest may know tests/training as "training") are put
    aside meanwhile."""
    names = [path.stem for path in BENCHMARKS.glob("*.py")]
    aside = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    with mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        try:
            yield importlib.import_module
        finally:
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(aside)


def few_images(n_train=120, n_test=40, seed=0):
    """Like what bats.data gives: random bars that a network can tell apart."""
    rng = np.random.default_rng(seed)
    parts = {}
    for name, n in (("train", n_train), ("test", n_test)):
        labels = rng.integers(0, 10, n)
        images = np.zeros((n, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 2 : 2 * label + 6, 4:24] = rng.integers(100, 256, (4, 20))
        parts |= {f"x_{name}": images, f"y_{name}": labels}
    return SimpleNamespace(name="bars", **parts)


def run_main(module, *options):
    """main() of a script -> what it printed."""
    said = io.StringIO()
    script = str(BENCHMARKS / f"{module.__name__}.py")
    with mock.patch.object(sys, "argv", [script, *map(str, options)]), contextlib.redirect_stdout(said):
        module.main()
    return said.getvalue()
