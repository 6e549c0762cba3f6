"""Trains the spike-count networks of MNIST, EMNIST or Fashion-MNIST at every step of a time grid, for several seeds.

python experiments/time_discretization/sweep.py [--dataset mnist] [--dts 0 1 5 8] [--seeds 0 1 2] [--epochs 10] [--rule clean] [--help]

One process, one copy of the data for each step, several runs at a time on CUDA. Writes <out>/time_discretization/<dataset>.csv, a
row per run as soon as it is finished, and its weights (for cross.py); runs that are in the CSV are not repeated.
"""

import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import runs
from tqdm import tqdm

from bats.device import stream_of_its_own


def one_run(lab, run, bar):
    """Trains and tests one network -> (run, its figures, its times); in a thread and CUDA stream of its own."""
    dt, begin = float(run["dt_ms"]), time.perf_counter()
    with stream_of_its_own(lab.device):
        network, train_seconds = lab.train(dt, run["seed"], bar.update)
        figures = lab.test(network, dt)
        folder = lab.weights_folder(dt, run["seed"])
        folder.mkdir(parents=True, exist_ok=True)
        network.store(folder)
    return run, figures, {"train_seconds": round(train_seconds, 2), "seconds": round(time.perf_counter() - begin, 2)}


def main(options):
    lab = runs.Laboratory(options)
    path = options.out / f"{options.dataset}.csv"
    rows = runs.read_rows(path)
    known = {runs.key_of(row) for row in rows}
    common = {"rule": options.rule, "rounding": options.rounding, "epochs": options.epochs, "n_train": lab.n_train}
    wanted = [{**common, "dt_ms": f"{dt:g}", "seed": seed} for dt in options.dts for seed in options.seeds]
    wanted = [run for run in wanted if runs.key_of(run) not in known]
    for run in wanted:
        lab.sources(float(run["dt_ms"]))  # before the threads start
    start = time.perf_counter()
    total = len(wanted) * options.epochs * lab.n_train
    at_once = (options.at_once or (6 if options.dataset == "fashion" else 2)) if lab.device == "cuda" else 1
    with (
        tqdm(total=total, desc=f"{len(wanted)} runs", unit=" samples", unit_scale=True, disable=options.no_progress) as bar,
        ThreadPoolExecutor(at_once) as pool,
    ):
        for future in as_completed([pool.submit(one_run, lab, run, bar) for run in wanted]):
            run, figures, seconds = future.result()
            rows.append({**run, **figures, **seconds, "device": lab.device})
            runs.write_rows(path, rows)
            bar.set_postfix(dt=f"{run['dt_ms']} ms", seed=run["seed"], accuracy=f"{figures['accuracy_percent']:.2f} %")
            if options.no_progress:
                print(f"{run['dt_ms']} ms, seed {run['seed']}: {figures['accuracy_percent']:.2f} %, {seconds['seconds']:.1f} s", flush=True)
    print(f"{options.dataset}, rule {options.rule}: {len(wanted)} runs in {time.perf_counter() - start:.0f} s, {path}")


if __name__ == "__main__":
    main(runs.parse(__doc__))
