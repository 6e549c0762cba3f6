"""Tests networks that sweep.py trained at one step at every other step: a full matrix.

python experiments/time_discretization/cross.py [--dataset mnist] [--dts 0 1 5 8] [--seeds 0] [the options of the sweep] [--help]

Writes <out>/time_discretization/<dataset>_cross.csv with a row per seed, step of training and step of test. Needs the weights that
sweep.py left under the same --out.
"""

import runs
from tqdm import tqdm


def main(options):
    lab = runs.Laboratory(options)
    trained = [(dt, seed) for dt in options.dts for seed in options.seeds]
    missing = [f"{dt:g} ms, seed {seed}" for dt, seed in trained if not lab.weights_folder(dt, seed).is_dir()]
    if missing:
        raise SystemExit(f"cross.py: error: expected weights of sweep.py with these options, none for {'; '.join(missing)}")
    rows = []
    with tqdm(total=len(trained) * len(options.dts), desc="tests", disable=options.no_progress) as bar:
        for dt_test in options.dts:  # outermost: its samples stay on the device
            for dt_train, seed in trained:
                network = lab.network(dt_test, seed)
                network.restore(lab.weights_folder(dt_train, seed))
                figures = lab.test(network, dt_test)
                run = {"rule": options.rule, "rounding": options.rounding, "dt_train_ms": f"{dt_train:g}", "dt_test_ms": f"{dt_test:g}"}
                rows.append({**run, "seed": seed, "epochs": options.epochs, "n_train": lab.n_train, **figures})
                bar.set_postfix(train=f"{dt_train:g} ms", test=f"{dt_test:g} ms", accuracy=f"{figures['accuracy_percent']:.2f} %")
                bar.update()
    path = options.out / f"{options.dataset}_cross.csv"
    runs.write_rows(path, rows)
    print(f"{len(rows)} tests, {path}")


if __name__ == "__main__":
    main(runs.parse(__doc__))
