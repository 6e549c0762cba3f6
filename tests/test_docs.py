"""The Python blocks of the documentation do what the page says: each page is run from top to bottom, in a folder of its own."""

import contextlib
import io
import os
import re
import tempfile
import unittest
import warnings
from pathlib import Path

from bats.training import TrainingWarning

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page):
    """(line of the page, code) of every Python block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)]


class Docs(unittest.TestCase):
    def run_page(self, page):
        """Runs the blocks in one namespace -> (what they printed, the namespace); an error names the line of the page."""
        printed, names, here = io.StringIO(), {"__name__": "__main__"}, Path.cwd()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("error", TrainingWarning)
            os.chdir(folder)
            try:
                with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
                    for line, code in blocks(page):
                        exec(compile("\n" * line + code, str(DOCS / page), "exec"), names)
            finally:
                os.chdir(here)
        return printed.getvalue(), names

    def test_howto(self):
        printed, names = self.run_page("howto.md")
        self.assertGreater(names["history"][7]["test_accuracy_percent"], 80)
        self.assertIn("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", printed)  # the resumed run
        for text in ("gradient of the hidden weights: (100, 64)", "accuracy", "layer small: ", "spike buffers were full (max_n_spike = 3)",
                     "expected 64 neurons on axis 1, received shape (50, 63, 1)"):  # fmt: skip
            self.assertIn(text, printed)

    def test_time_discretization(self):
        _, names = self.run_page("time_discretization.md")
        self.assertEqual([layer.grid.dt for layer in names["network"].layers], [0.005, 0.005, 0.001])

    def test_convergence(self):
        printed, names = self.run_page("convergence.md")
        self.assertEqual(names["history"].accuracy.shape, (50, 1000))
        self.assertGreater(names["history"].best_accuracy.mean(), 0.8)
        self.assertIn("'bounded'", printed)

    def test_timestep(self):
        _, names = self.run_page("timestep.md")
        self.assertEqual(names["network"].layers[1].spike_counts.shape, (8, 40))
        self.assertEqual(names["errors"].shape, (8, 3))

    def test_silent_neurons(self):
        _, names = self.run_page("silent_neurons.md")
        self.assertIs(names["network"].layers[-1].regularizer, names["alive"])

    def test_links(self):
        """Every relative link of the pages leads to a file of the repository."""
        for page in DOCS.glob("*.md"):
            for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
                self.assertTrue((DOCS / target).exists(), f"{page.name}: {target}")


if __name__ == "__main__":
    unittest.main()
