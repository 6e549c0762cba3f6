"""Runs the whole suite and compute-sanitizer on a machine with a GPU and writes the record that is committed.

    python benchmarks/gpu_tests.py --out results/gpu_tests.json

The record is worth something only if no test was skipped for want of a device; the script fails otherwise.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import unittest

import environment

STEP = str(environment.ROOT / "benchmarks" / "short_step.py")


def source_hash():
    """sha256 over the names and contents of all sources that a test can reach."""
    digest = hashlib.sha256()
    for folder, patterns in (("bats", ("*.py",)), ("cuda", ("*.cu", "*.cuh")), ("tests", ("*.py",)), ("experiments", ("*.py",))):
        for path in sorted(path for pattern in patterns for path in (environment.ROOT / folder).rglob(pattern)):
            digest.update(path.relative_to(environment.ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def run_suite():
    sys.path.insert(0, str(environment.ROOT))
    suite = unittest.defaultTestLoader.discover(str(environment.ROOT / "tests"), top_level_dir=str(environment.ROOT))
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    reasons = [reason for _, reason in result.skipped]
    return {
        "run": result.testsRun,
        "failures": len(result.failures),
        "errors": len(result.errors),
        "skipped": sorted(set(reasons)),
        "skipped_for_want_of_a_device": sum("CUDA" in reason for reason in reasons),
    }


def sanitize():
    """{tool: "clean" or the end of its output} for a few training steps, forward, backward, both losses, both precisions."""
    if shutil.which("compute-sanitizer") is None:
        return {"compute-sanitizer": "not found"}
    found = {}
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, STEP]
        done = subprocess.run(command, capture_output=True, text=True)
        output = done.stdout + done.stderr
        clean = done.returncode == 0 and "short step done" in output
        found[tool] = "clean" if clean else output[-1500:]
        print(tool, found[tool], flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(environment.ROOT / "results" / "gpu_tests.json"))
    options = parser.parse_args()
    before = source_hash()
    sanitizer = sanitize()
    tests = run_suite()
    environment.write(options.out, environment.record(tests=tests, sanitizer=sanitizer, sources_sha256=before))
    good = tests["failures"] == tests["errors"] == tests["skipped_for_want_of_a_device"] == 0
    sys.exit(0 if good and set(sanitizer.values()) == {"clean"} else 1)


if __name__ == "__main__":
    main()
