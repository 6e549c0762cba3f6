"""Writes the table of results in experiments/stdp/README.md from the summaries results/stdp_*.json.

python experiments/stdp/results_table.py [--results FOLDER] [--readme FILE]
"""

import argparse
import json
from pathlib import Path

from bats.training.atomic import write_text

ROOT = Path(__file__).resolve().parents[2]
START, END = "<!-- results: results_table.py -->", "<!-- end of results -->"
COLUMNS = (
    "model | data, trained on | weights | epochs | test accuracy | silent | macro F1 | ROC AUC | decision, per image | whole run | device"
)


def read_summaries(folder):
    """The summaries in the folder, by model and data set. Errors: ValueError for a file that is none."""
    found = []
    for path in sorted(Path(folder).glob("stdp_*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "microseconds_per_image" in content and "test" in content:
            found.append(content)
    if not found:
        raise ValueError(f"{folder}: expected summaries stdp_<model>_<device>.json with results of train.py, found none")
    return sorted(found, key=lambda summary: (summary["dataset"]["name"], summary["model"], summary["device"]))


def table(summaries):
    """Markdown text, a row per summary."""
    lines = [f"| {COLUMNS} |", "|" + "---|" * (COLUMNS.count("|") + 1)]
    for summary in summaries:
        test, area = summary["test"], summary["test"]["macro_roc_auc_relative"]
        cells = (
            summary["model"], f"{summary['dataset']['name']}, {_spaced(summary['images']['train'])}", _spaced(summary["weights"]),
            f"{' + '.join(map(str, summary['epochs']))}, kept {summary['selected_epoch']}",
            f"{100 * test['accuracy']:.2f} %", f"{100 * test['silent']:.2f} %", f"{test['macro_f1']:.3f}",
            "-" if area is None else f"{area:.4f}", f"{summary['microseconds_per_image']['decision']:.1f} µs",
            f"{summary['total_seconds']:.0f} s", summary["device"],
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spaced(number):
    return f"{number:,}".replace(",", " ")


def replace_table(text, rows):
    """`text` with what stands between the two marks replaced by `rows`. Errors: ValueError where a mark is missing."""
    if START not in text or END not in text:
        raise ValueError(f"expected the marks {START} and {END}, found not both")
    return f"{text[: text.index(START)]}{START}\n{rows}\n{text[text.index(END) :]}"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default=ROOT / "results", type=Path, help="folder of the summaries (default %(default)s)")
    parser.add_argument("--readme", default=ROOT / "experiments" / "stdp" / "README.md", type=Path, help="(default %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        rows = table(read_summaries(arguments.results))
        write_text(arguments.readme, replace_table(arguments.readme.read_text(encoding="utf-8"), rows))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(rows)


if __name__ == "__main__":
    main()
