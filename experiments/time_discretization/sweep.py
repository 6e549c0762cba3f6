"""Trains the spike-count networks of MNIST, EMNIST or Fashion-MNIST at every step of a time grid, for several seeds.

python experiments/time_discretization/sweep.py [--dataset mnist] [--dts 0 1 5 8] [--seeds 0 1 2] [--epochs 10] [--rule clean] [--help]

One process, one copy of the data. Writes <out>/time_discretization/<dataset>.csv, a row per run as soon as it is finished, and its
weights (for cross.py); runs that are in the CSV are not repeated.
"""

import time

import runs
from tqdm import tqdm


def main(options):
    lab = runs.Laboratory(options)
    path = options.out / f"{options.dataset}.csv"
    rows = runs.read_rows(path)
    known = {runs.key_of(row) for row in rows}
    common = {"rule": options.rule, "rounding": options.rounding, "epochs": options.epochs, "n_train": lab.n_train}
    wanted = [{**common, "dt_ms": f"{dt:g}", "seed": seed} for dt in options.dts for seed in options.seeds]
    wanted = [run for run in wanted if runs.key_of(run) not in known]
    start = time.perf_counter()
    total = len(wanted) * options.epochs * lab.n_train
    with tqdm(total=total, desc=f"{len(wanted)} runs", unit=" samples", unit_scale=True, disable=options.no_progress) as bar:
        for run in wanted:
            dt, begin = float(run["dt_ms"]), time.perf_counter()
            network, train_seconds = lab.train(dt, run["seed"], bar.update)
            figures = lab.test(network, dt)
            folder = lab.weights_folder(dt, run["seed"])
            folder.mkdir(parents=True, exist_ok=True)
            network.store(folder)
            seconds = {"train_seconds": round(train_seconds, 2), "seconds": round(time.perf_counter() - begin, 2)}
            rows.append({**run, **figures, **seconds, "device": lab.device})
            runs.write_rows(path, rows)
            bar.set_postfix(dt=f"{dt:g} ms", seed=run["seed"], accuracy=f"{figures['accuracy_percent']:.2f} %")
            if options.no_progress:
                print(f"{dt:g} ms, seed {run['seed']}: {figures['accuracy_percent']:.2f} %, {seconds['seconds']:.1f} s", flush=True)
    print(f"{options.dataset}, rule {options.rule}: {len(wanted)} runs in {time.perf_counter() - start:.0f} s, {path}")


if __name__ == "__main__":
    main(runs.parse(__doc__))
