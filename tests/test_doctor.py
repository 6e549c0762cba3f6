"""python -m bats: the doctor on healthy and broken machines, the list and compilation of kernels, the download
commands."""

import contextlib
import io
import subprocess
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

from bats import __main__ as command_line
from bats import __version__, doctor
from bats.gpu_probe import Cupy, Driver, probe_cupy
from tests.data.case import DataCase
from tests.data.mirror import Mirror, closed_port_url

ROOT = Path(__file__).resolve().parents[1]
GOOD = Cupy([("cupy-cuda13x", "14.2.0")], True, "14.2.0", "13.0", ["Some GPU, compute capability 9.0, 139 GiB"])


def report(driver, cupy):
    with (
        mock.patch.object(doctor, "probe_driver", lambda: driver),
        mock.patch.object(doctor, "probe_cupy", lambda: cupy),
    ):
        findings = doctor.examine()
    return doctor.exit_code(findings), doctor.render(findings)


class TestReport(unittest.TestCase):
    def check(self, driver, cupy, code, *texts):
        received, text = report(driver, cupy)
        for expected in texts:
            self.assertIn(expected, text)
        self.assertEqual(received, code, text)

    def test_machine_without_a_gpu_is_not_broken(self):
        driver = Driver(problem="no NVIDIA driver (libcuda.so.1: not there)")
        self.check(driver, Cupy(), 0, "only needed for a GPU", 'pip install "bats[cuda13]"', __version__)

    def test_gpu_without_cupy_names_the_extra_that_fits_the_driver(self):
        self.check(Driver((12, 4), 1), Cupy(), 0, "needed for the GPU", 'pip install "bats[cuda12]"')
        self.check(Driver((13, 0), 1), Cupy(), 0, 'pip install "bats[cuda13]"')

    def test_healthy_gpu(self):
        self.check(Driver((13, 0), 1), GOOD, 0, "14.2.0", "Some GPU", "right result", "0 broken")

    def test_cupy_without_a_device(self):
        cupy = Cupy(GOOD.packages, True, "14.2.0", "13.0")
        self.check(Driver(problem="no NVIDIA driver"), cupy, 0, "no GPU; bats runs on the CPU")
        self.check(Driver((13, 0), 1), cupy, 1, "CuPy sees none", "CUDA_VISIBLE_DEVICES")

    def test_import_error_is_shown_as_it_came(self):
        cupy = Cupy(GOOD.packages, True, error="ImportError: libnvrtc.so.13: no such file", stage="import")
        self.check(Driver((13, 0), 1), cupy, 1, cupy.error, "BROKEN", "pip uninstall -y cupy-cuda13x")
        self.check(Driver(problem="no NVIDIA driver"), cupy, 1, cupy.error)

    def test_gpu_that_does_not_compute(self):
        cupy = Cupy(GOOD.packages, True, "14.2.0", "13.0", GOOD.devices, "CompileException: no headers", "use")
        self.check(Driver((13, 0), 1), cupy, 1, "the GPU cannot be used", cupy.error)

    def test_wrong_versions_and_two_cupys(self):
        for version in ("14.1.0", "13.6.0"):
            self.check(Driver((13, 0), 1), Cupy(GOOD.packages, True, version, "13.0", GOOD.devices), 1, "14.2 or later")
        both = [("cupy-cuda12x", "14.2.0"), *GOOD.packages]
        self.check(Driver((13, 0), 1), Cupy(both, True, "14.2.0", "13.0", GOOD.devices), 1, "exclude each other")

    def test_missing_package_is_broken(self):
        with mock.patch.object(doctor, "_PACKAGES", ("numpy", "surely-not-installed-here")):
            self.check(Driver(), Cupy(), 1, "pip install surely-not-installed-here")


class TestProbe(unittest.TestCase):
    def test_the_original_error_of_the_import_is_kept(self):
        broken = types.ModuleType("cupy")  # has no __version__: the probe's own AttributeError must come through
        with mock.patch.dict(sys.modules, {"cupy": broken}):
            cupy = probe_cupy()
        self.assertEqual(cupy.stage, "import")
        self.assertRegex(cupy.error, "^AttributeError: .*__version__")

    def test_absent(self):
        with mock.patch.dict(sys.modules, {"cupy": None}):
            self.assertEqual((probe_cupy().present, probe_cupy().error), (False, ""))

    def test_a_wrong_sum_is_an_error(self):
        runtime = mock.Mock(runtimeGetVersion=lambda: 13020, getDeviceCount=lambda: 1)
        runtime.getDeviceProperties = lambda i: {"name": b"Toy", "major": 9, "minor": 0, "totalGlobalMem": 2**30}
        array = mock.MagicMock()
        array.__pow__.return_value.sum.return_value = 31
        fake = mock.Mock(__version__="14.2.0", cuda=mock.Mock(runtime=runtime), arange=lambda n: array)
        with mock.patch.dict(sys.modules, {"cupy": fake}):
            cupy = probe_cupy()
        self.assertEqual((cupy.runtime, cupy.stage), ("13.2", "use"))
        self.assertIn("came out as 31", cupy.error)
        self.assertEqual(cupy.devices, ["Toy, compute capability 9.0, 1 GiB"])


class TestCommandLine(DataCase):
    def run_it(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command_line.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def test_doctor_as_a_process(self):
        done = subprocess.run([sys.executable, "-m", "bats", "doctor"], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(done.stderr, "")
        self.assertIn("numpy", done.stdout)
        self.assertEqual(done.returncode, int("BROKEN" in done.stdout))

    def test_version(self):
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stdout(io.StringIO()) as out:
            command_line.main(["--version"])
        self.assertEqual((caught.exception.code, out.getvalue()), (0, f"bats {__version__}\n"))

    def test_kernels_and_compile(self):
        results = [("lif/a", 0.5, None), ("lif/b", 0.25, "b.cu(3): error")]
        fake = types.ModuleType("bats.kernels")
        fake.list_units, fake.compile_all = lambda: ["lif/a", "lif/b"], lambda arch: results
        with mock.patch.dict(sys.modules, {"bats.kernels": fake}), mock.patch("bats.kernels", fake, create=True):
            self.assertEqual(self.run_it("kernels"), (0, "lif/a\nlif/b\n", ""))
            code, out, err = self.run_it("compile", "--arch", "sm_80")
            self.assertEqual((code, err), (1, "b.cu(3): error\n"))
            self.assertIn("1 of 2 kernel files compile for sm_80", out)
            results.pop()
            self.assertEqual(self.run_it("compile")[0], 0)
            fake.compile_all = mock.Mock(side_effect=RuntimeError("no CUDA compiler"))
            self.assertEqual(self.run_it("compile"), (1, "", "no CUDA compiler\n"))

    def test_get(self):
        with Mirror({}) as mirror:
            entry = self.small_entry(mirror=mirror)
            mirror.files["/mnist.npz"] = self.files["mnist.npz"]
            with mock.patch.dict("bats.data.IMAGE_DATASETS", {"mnist": entry}):
                code, out, _ = self.run_it("get", "mnist", "--out", str(self.folder / "out"), "--quiet")
                self.assertEqual(code, 0)
                for text in ("30 training and 20 test images", entry.npz.sha256, f"BATS_DATA={self.folder / 'out'}"):
                    self.assertIn(text, out)
        with mock.patch.dict("bats.data.IMAGE_DATASETS", {"mnist": entry}):
            code, out, err = self.run_it(
                "get", "mnist", "--out", str(self.folder / "b"), "--mirror", closed_port_url("")
            )
        self.assertEqual((code, out), (1, ""))
        for text in ("could not be downloaded", "no connection", "BATS_DATA", entry.npz.sha256):
            self.assertIn(text, err)

    def test_get_mnist_runs_from_anywhere_without_installation(self):
        script = ROOT / "datasets" / "get_mnist.py"
        done = subprocess.run([sys.executable, str(script), "--help"], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for option in ("--out", "--mirror", "--force"):
            self.assertIn(option, done.stdout)


if __name__ == "__main__":
    unittest.main()
