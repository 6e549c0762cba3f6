"""datasets/get_<name>.py: one for every data set, and each runs from anywhere without an installation."""

import subprocess
import sys
from pathlib import Path

from bats.data import EVENT_DATASETS, IMAGE_DATASETS
from tests.data.case import DataCase

FOLDER = Path(__file__).resolve().parents[2] / "datasets"


class TestScripts(DataCase):
    def test_one_for_every_data_set(self):
        names = {path.stem.removeprefix("get_") for path in FOLDER.glob("get_*.py")}
        self.assertEqual(names, {*IMAGE_DATASETS, *EVENT_DATASETS})

    def test_help(self):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        entries = {**IMAGE_DATASETS, **EVENT_DATASETS}
        running = {
            name: subprocess.Popen([sys.executable, str(FOLDER / f"get_{name}.py"), "--help"], cwd=self.folder, **pipes)
            for name in entries
        }
        for name, process in running.items():
            with self.subTest(name):
                out, err = process.communicate(timeout=60)
                self.assertEqual((process.returncode, err), (0, ""))
                self.assertIn(f"Downloads {entries[name].title}", " ".join(out.split()))
                for option in ("--out", "--mirror", "--force"):
                    self.assertIn(option, out)
