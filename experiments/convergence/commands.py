"""What the three commands of the convergence study do: train, write the tables and pictures, print a summary."""

import time

import convergence
import heat_maps


def one_map(name, description):
    """The map of one loss: convergence/<name>.csv and .json, figures/convergence_<name>.png and .pdf."""
    start = time.perf_counter()
    options = convergence.parse(description)
    study = convergence.run(name, options)
    _write_map(study, options)
    seconds = time.perf_counter() - start
    convergence.write_record(options.out / "convergence" / f"{name}.json", options, seconds, **{name: study.record()})
    _say(options, [study], seconds)


def both_maps(description):
    """Both maps and their difference: the files of one_map (without the .json), those of the difference, and convergence.json."""
    start = time.perf_counter()
    options = convergence.parse(description)
    count, ttfs = (convergence.run(name, options) for name in ("count", "ttfs"))
    for study in (count, ttfs):
        _write_map(study, options)
    pairs = count.best - ttfs.best
    difference = convergence.compare(count, ttfs)
    columns = ["difference" if column == "accuracy" else column for column in convergence.COLUMNS]
    convergence.write_csv(options.out / "convergence" / "difference.csv", options, pairs, columns)
    subtitle = f"mean {_percent(difference['mean'], difference['standard_error'], 'points', sign='+')}"
    stem = options.out / "figures" / "convergence_difference"
    heat_maps.difference_map(stem, options.values, pairs.mean(axis=-1), "multi-spike minus single spike", subtitle)
    seconds = time.perf_counter() - start
    records = {"count": count.record(), "ttfs": ttfs.record(), "difference": difference}
    convergence.write_record(options.out / "convergence.json", options, seconds, **records)
    _say(options, [count, ttfs], seconds)
    shares = " / ".join(f"{100 * share:.1f}" for share in difference["cells"].values())
    print(f"{'difference':27s}{_percent(difference['mean'], difference['standard_error'], 'points', sign='+')}")
    print(f"{'cells':27s}multi-spike better / equal / worse in {shares} %")


def _write_map(study, options):
    convergence.write_csv(options.out / "convergence" / f"{study.name}.csv", options, study.best)
    average = _percent(*convergence.map_average(study.best))
    subtitle = f"{options.repeats} networks per cell, {options.epochs} epochs; mean {average}"
    stem = options.out / "figures" / f"convergence_{study.name}"
    heat_maps.accuracy_map(stem, options.values, study.best.mean(axis=-1), convergence.TITLES[study.name], subtitle)


def _percent(value, error, unit="%", sign=""):
    spread = "" if error is None else f" ± {100 * error:.2f}"
    return f"{100 * value:{sign}.2f}{spread} {unit}"


def _say(options, studies, seconds):
    n_networks = len(options.values) ** 2 * options.repeats
    where = f"{options.device} {options.dtype} seed {options.seed}"
    print(f"{n_networks} networks per map, {options.epochs} epochs | {where} | {seconds:.1f} s in all")
    for study in studies:
        best = _percent(*convergence.map_average(study.best))
        print(f"{convergence.TITLES[study.name]:27s}best accuracy {best} | trained in {study.seconds:.2f} s")
    print(f"written: {options.out}")
