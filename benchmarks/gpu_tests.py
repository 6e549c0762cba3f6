"""Runs the whole suite and compute-sanitizer on a machine with a GPU and writes the record that is committed.

    python benchmarks/gpu_tests.py --out results/gpu_tests.json

The record is worth something only if no test was skipped for want of a device; the script fails otherwise.
"""

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import environment

STEP = str(environment.ROOT / "benchmarks" / "short_step.py")


def source_hash():
    """sha256 over the names and contents of all sources that a test can reach."""
    digest = hashlib.sha256()
    for folder, patterns in (("bats", ("*.py",)), ("cuda", ("*.cu", "*.cuh")), ("tests", ("*.py",)), ("experiments", ("*.py",))):
        for path in sorted(path for pattern in patterns for path in (environment.ROOT / folder).rglob(pattern)):
            digest.update(path.relative_to(environment.ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def test_modules():
    """Names of all modules with tests."""
    paths = sorted((environment.ROOT / "tests").rglob("test_*.py"))
    return [".".join(path.relative_to(environment.ROOT).with_suffix("").parts) for path in paths]


def run_module(name):
    """Runs the tests of one module in this process: {run, failures, errors, reasons of skips, seconds, text of what failed}."""
    start = time.perf_counter()
    sys.path.insert(0, str(environment.ROOT))
    stream = io.StringIO()
    result = unittest.TextTestRunner(stream=stream, verbosity=0).run(unittest.defaultTestLoader.loadTestsFromName(name))
    bad = result.failures + result.errors
    return {
        "module": name, "run": result.testsRun, "failures": len(result.failures), "errors": len(result.errors),
        "skips": [reason for _, reason in result.skipped], "seconds": time.perf_counter() - start,
        "text": "\n".join(text[-1500:] for _, text in bad),
    }  # fmt: skip


def run_in_a_process(name):
    """The same in a process of its own, so that modules can run side by side."""
    command = [sys.executable, str(Path(__file__).resolve()), "--module", name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=environment.ROOT)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        text = (done.stdout + done.stderr)[-1500:]
        return {"module": name, "run": 0, "failures": 0, "errors": 1, "skips": [], "seconds": 0, "text": text}


def summary(results, n_modules):
    reasons = [reason for result in results for reason in result["skips"]]
    return {
        "complete": len(results) == n_modules,
        "run": sum(result["run"] for result in results),
        "failures": sum(result["failures"] for result in results),
        "errors": sum(result["errors"] for result in results),
        "skipped": sorted(set(reasons)),
        "skipped_for_want_of_a_device": sum("CUDA" in reason for reason in reasons),
        "modules": {result["module"]: result["run"] for result in sorted(results, key=lambda result: result["module"])},
        "not_run": [],
    }


def run_suite(jobs, report):
    """All modules, `jobs` of them side by side; report(summary) after each, so that what has run is kept whatever comes."""
    modules, results = test_modules(), []
    with ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(run_in_a_process, name) for name in modules]):
            result = done.result()
            results.append(result)
            bad = result["failures"] + result["errors"]
            print(f"{result['module']}: {result['run']} run, {bad} bad, {result['seconds']:.0f} s", result["text"], flush=True)
            found = summary(results, len(modules))
            found["not_run"] = sorted(set(modules) - set(found["modules"]))
            report(found)
    return found


def sanitize():
    """{tool: "clean" or the end of its output} for a few training steps, forward, backward, both losses, both precisions."""
    if shutil.which("compute-sanitizer") is None:
        return {"compute-sanitizer": "not found"}

    def run(tool):
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, STEP]
        done = subprocess.run(command, capture_output=True, text=True)
        output = done.stdout + done.stderr
        found = "clean" if done.returncode == 0 and "short step done" in output else output[-1500:]
        print(tool, found, flush=True)
        return found

    tools = ("memcheck", "racecheck", "initcheck", "synccheck")
    with ThreadPoolExecutor(len(tools)) as pool:
        return dict(zip(tools, pool.map(run, tools), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(environment.ROOT / "results" / "gpu_tests.json"))
    parser.add_argument("--jobs", type=int, default=8, help="test modules side by side (default: %(default)s)")
    parser.add_argument("--module", help="run this test module only and print what came of it as JSON")
    options = parser.parse_args()
    if options.module:
        print(json.dumps(run_module(options.module)))
        return
    before, sanitizer = source_hash(), {}

    def report(tests):
        environment.write(options.out, environment.record(tests=tests, sanitizer=sanitizer, sources_sha256=before))

    tests = run_suite(options.jobs, report)
    sanitizer = sanitize()
    report(tests)
    good = tests["failures"] == tests["errors"] == tests["skipped_for_want_of_a_device"] == 0
    sys.exit(0 if good and set(sanitizer.values()) == {"clean"} else 1)


if __name__ == "__main__":
    main()
