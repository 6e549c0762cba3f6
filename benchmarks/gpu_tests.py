"""Runs the suite's tests for CUDA and compute-sanitizer on a machine with a GPU and writes the record that is committed.

    python benchmarks/gpu_tests.py --out results/gpu_tests.json

Test modules and sanitizers run side by side, those that took longest last time first. The record is written after each; --resume goes
on with one that was cut short, if the sources are the same. It is worth something only if it is complete and no test was skipped for
want of a device; the script fails otherwise. Tests for CUDA are those of classes whose device is "cuda"; the others, which need
compilers for the CPU more than anything else, run in CI (--all: here too).
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import environment

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
LONG = 1000  # seconds: a module of which nothing is known goes first
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


def single_tests(suite):
    for part in suite:
        yield from single_tests(part) if isinstance(part, unittest.TestSuite) else [part]


def run_module(name, every):
    """Runs the tests of one module in this process, every one or those for CUDA: {run, failures, errors, reasons of skips, seconds,
    text of what failed}."""
    start = time.perf_counter()
    sys.path.insert(0, str(environment.ROOT))
    stream, tests = io.StringIO(), single_tests(unittest.defaultTestLoader.loadTestsFromName(name))
    wanted = [test for test in tests if every or getattr(test, "device", None) == "cuda" or isinstance(test, unittest.loader._FailedTest)]
    result = unittest.TextTestRunner(stream=stream, verbosity=0).run(unittest.TestSuite(wanted))
    bad = result.failures + result.errors
    return {
        "module": name, "run": result.testsRun, "failures": len(result.failures), "errors": len(result.errors),
        "skips": [reason for _, reason in result.skipped], "seconds": time.perf_counter() - start,
        "text": "\n".join(text.replace(f"{environment.ROOT}/", "")[-1500:] for _, text in bad),
    }  # fmt: skip


def run_in_a_process(name, every):
    """The same in a process of its own, so that modules can run side by side."""
    command = [sys.executable, str(Path(__file__).resolve()), "--module", name, *(["--all"] if every else [])]
    few = {"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}  # threads: many processes share the processors
    done = subprocess.run(command, capture_output=True, text=True, cwd=environment.ROOT, env={**os.environ, **few})
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        text = (done.stdout + done.stderr)[-1500:]
        return {"module": name, "run": 0, "failures": 0, "errors": 1, "skips": [], "seconds": 0, "text": text}


def summary(results, names, every):
    reasons = [reason for result in results for reason in result["skips"]]
    done = {result["module"] for result in results}
    return {
        "scope": "all tests" if every else 'tests of classes whose device is "cuda"',
        "complete": done == set(names),
        "run": sum(result["run"] for result in results),
        "failures": sum(result["failures"] for result in results),
        "errors": sum(result["errors"] for result in results),
        "skipped": sorted(set(reasons)),
        "skipped_for_want_of_a_device": sum("CUDA" in reason for reason in reasons),
        "not_run": sorted(set(names) - done),
        "modules": sorted(results, key=lambda result: result["module"]),
    }


def sanitize(tool):
    """"clean", or the end of the tool's output, for a few training steps: forward, backward, all losses, both precisions."""
    if shutil.which("compute-sanitizer") is None:
        return "compute-sanitizer was not found"
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, STEP]
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout + done.stderr
    return "clean" if done.returncode == 0 and "short step done" in output else output[-1500:]


def former(path):
    """(results of modules, {tool: what it found}, hash of the sources) of a record; nothing where there is none."""
    try:
        record = json.loads(Path(path).read_text())
        return [dict(result) for result in record["tests"]["modules"]], record["sanitizer"], record["sources_sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return [], {}, None


def run(names, tools, every, jobs, results, found, report):
    """Runs modules and tools, `jobs` at once; adds to results and found, and calls report() after each."""
    with ThreadPoolExecutor(jobs) as pool:
        tasks = {pool.submit(sanitize, tool): tool for tool in tools}
        tasks |= {pool.submit(run_in_a_process, name, every): None for name in names}
        for done in as_completed(tasks):
            if tasks[done]:
                found[tasks[done]] = done.result()
                print(tasks[done], found[tasks[done]], flush=True)
            else:
                result = done.result()
                results.append(result)
                bad = result["failures"] + result["errors"]
                print(f"{result['module']}: {result['run']} run, {bad} bad, {result['seconds']:.0f} s", result["text"], flush=True)
            report()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(environment.ROOT / "results" / "gpu_tests.json"))
    parser.add_argument("--jobs", type=int, default=14, help="test modules and tools side by side (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="keep what the record at --out holds, if it is of the same sources")
    parser.add_argument("--all", action="store_true", help="tests for the CPU too")
    parser.add_argument("--module", help="run this test module only and print what came of it as JSON")
    options = parser.parse_args()
    if options.module:
        print(json.dumps(run_module(options.module, options.all)))
        return
    before, modules, committed = source_hash(), test_modules(), environment.ROOT / "results" / "gpu_tests.json"
    results, found, known = former(options.out) if options.resume else ([], {}, before)
    if known != before:
        parser.error(f"--resume: expected a record of these sources ({before[:12]}), received {known and known[:12]} in {options.out}")
    took = {result["module"]: result["seconds"] for result in [*former(committed)[0], *results]}
    finished = {result["module"] for result in results}
    names = sorted((name for name in modules if name not in finished), key=lambda name: -took.get(name, LONG))

    def report():
        tests = summary(results, modules, options.all)
        environment.write(options.out, environment.record(tests=tests, sanitizer=found, sources_sha256=before))

    run(names, [tool for tool in TOOLS if tool not in found], options.all, options.jobs, results, found, report)
    report()
    tests = summary(results, modules, options.all)
    good = tests["complete"] and tests["failures"] == tests["errors"] == tests["skipped_for_want_of_a_device"] == 0
    sys.exit(0 if good and [found[tool] for tool in TOOLS] == ["clean"] * len(TOOLS) else 1)


if __name__ == "__main__":
    main()
