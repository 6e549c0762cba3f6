"""Kernel sources: found, headers pasted in, compiled without a device."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from bats import kernels


class KernelSources(unittest.TestCase):
    def test_units(self):
        units = kernels.list_units()
        self.assertIn("lif/spike_times", units)
        for unit in units:
            self.assertTrue(kernels.kernel_names(unit), unit)
            text = kernels.source(unit)
            self.assertNotRegex(text, r'#include\s+"')
            self.assertNotIn("#pragma once", text)
            self.assertNotRegex(text, r"__expf|__logf|__fdividef|use_fast_math")  # no fast-math intrinsics

    def test_approximate_instructions_are_in_one_place(self):
        """cuda/fused/fast_math.cuh alone, whose users are tested for an error at most twice that of a naive float32 version."""
        for path in kernels.root().rglob("*.cu*"):
            if path.name != "fast_math.cuh":
                self.assertNotIn(".approx", path.read_text(encoding="utf-8"), path.name)

    def test_unknown_unit(self):
        with self.assertRaisesRegex(ValueError, "expected one of .*lif/spike_times.*, received 'lif/none'"):
            kernels.source("lif/none")

    def test_an_edited_header_changes_the_source(self):
        """CuPy's cache keys on the source: if headers were left out, an edited one would run the old code."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "lif").mkdir()
            (root / "common").mkdir()
            (root / "lif" / "a.cu").write_text('#include "common/b.cuh"\n#include "common/b.cuh"\nint a;\n')
            with mock.patch.object(kernels, "root", lambda: root):
                texts = []
                for value in ("1", "2"):
                    (root / "common" / "b.cuh").write_text(f"#pragma once\nconstexpr int B = {value};\n")
                    texts.append(kernels.source.__wrapped__("lif/a"))
        self.assertNotEqual(*texts)
        self.assertEqual(texts[0].count("constexpr"), 1)
        self.assertIn('#line 3 "cuda/lif/a.cu"\nint a;', texts[0])

    def test_every_kernel_compiles(self):
        for unit, _, error in kernels.compile_all():
            self.assertIsNone(error, f"{unit}: {error}")

    def test_nvrtc_compiles_and_reports(self):
        """The compiler that needs no CUDA toolkit; and a broken kernel gives its message with the line of its file."""
        self.assertIsNone(kernels.compile_with_nvrtc("lif/recurrent_errors"))
        broken = kernels.source("lif/recurrent_errors").replace("int bounded = 0;", "int bounded = oops;")
        with mock.patch.object(kernels, "source", lambda unit: broken):
            self.assertRegex(kernels.compile_with_nvrtc("lif/recurrent_errors"), r"recurrent_errors\.cu\(\d+\).*oops")
