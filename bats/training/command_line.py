"""The command line that every experiment shares, and where its results go."""

import argparse
import math
import sys
from pathlib import Path

from bats.training.checkpoint import checkpoint_path, load_checkpoint
from bats.training.failures import ON_FAILURE

FUSED = {"auto": "auto", "on": True, "off": False}  # --fused: what the Trainer is told


def integer(minimum, maximum=None):
    """The type of an option that is an integer from `minimum` to `maximum`, if given."""

    def parse(text):
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected an integer, received {text!r}") from None
        if value < minimum or (maximum is not None and value > maximum):
            limits = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
            raise argparse.ArgumentTypeError(f"expected an integer {limits}, received {value}")
        return value

    return parse


def positive(text):
    """The type of an option that is a positive number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, received {text!r}") from None
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a positive number, received {text}")
    return value


def non_negative(text):
    """A finite number >= 0 from the command line."""
    return 0.0 if text.strip() in ("0", "0.0") else positive(text)


def make_parser(description, *, epochs, batch_size, learning_rate):
    """The shared options with this study's defaults; `epochs` is the default on the full data set."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--epochs",
        type=integer(1),
        help=f"epochs in all (default {epochs}; fewer on the embedded subset, see the notice)",
    )
    add("--batch-size", type=integer(1), default=batch_size, help="samples per weight update (default %(default)s)")
    add("--learning-rate", type=positive, default=learning_rate, help="(default %(default)s)")
    add("--seed", type=integer(0, 2**32 - 1), default=0, help="fixes every random number (default %(default)s)")
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto takes CUDA where it works (default %(default)s)",
    )
    add(
        "--fused",
        choices=tuple(FUSED),
        default="auto",
        help="few kernels per step on CUDA: auto where the network allows it, on or an error, off (default %(default)s)",
    )
    add("--dtype", choices=("float32", "float64"), default="float32", help="(default %(default)s)")
    add(
        "--data",
        metavar="PATH",
        help="folder or file with the data set (default: BATS_DATA, datasets/, the user cache)",
    )
    add(
        "--validation",
        type=integer(0),
        default=0,
        metavar="N",
        help="hold out N training samples and keep the best epoch on them",
    )
    add("--select-on-test", action="store_true", help="keep the best epoch on the test set, the rule of the 2022 code")
    add("--max-train", type=integer(1), metavar="N", help="train on the first N samples only")
    add(
        "--on-failure",
        choices=ON_FAILURE,
        default="warn",
        help="full spike buffers, non-finite numbers (default %(default)s)",
    )
    add("--out", metavar="FOLDER", help="results root (default: results/ of the checkout, or ./results)")
    add("--resume", metavar="PATH", help="go on with a run folder or checkpoint file; its options are the defaults then")
    add("--no-progress", action="store_true", help="no progress bar, no line per epoch")
    return parser


def parse(parser, argv=None):
    """Parses and checks `argv`; with --resume, the options of the stored run become the defaults.

    Bad values end the program with status 2 and a message that says what was expected.
    """
    arguments = parse_resumable(parser, argv)
    if arguments.validation and arguments.select_on_test:
        parser.error("--validation and --select-on-test: expected one rule of selection, received both")
    return arguments


def parse_resumable(parser, argv=None):
    """What parse() does for any parser with --resume, --out, --no-progress and --data, without checks of its other options."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(argv)
    if arguments.resume is not None:
        try:
            path = checkpoint_path(arguments.resume)
            stored = load_checkpoint(path).config.get("arguments", {})
        except (OSError, ValueError) as error:
            parser.error(f"--resume: {error}")
        known = {action.dest for action in parser._actions} - {"resume", "out", "no_progress"}
        parser.set_defaults(**{name: value for name, value in stored.items() if name in known})
        arguments = parser.parse_args(argv)
        arguments.resume = str(path)
    if arguments.data is not None:
        arguments.data = str(Path(arguments.data).expanduser().resolve())
    return arguments


def fused(arguments):
    """The Trainer's `fused` that the options ask for."""
    return FUSED[arguments.fused]


def selection(arguments):
    """The Trainer's selection rule that the options ask for."""
    return "test" if arguments.select_on_test else "validation" if arguments.validation else "last"


def results_root(out=None):
    """Where runs go: `out`, else results/ of the checkout around the script or working directory, else ./results."""
    if out is not None:
        return Path(out).expanduser()
    for start in (Path(sys.argv[0]).resolve().parent, Path.cwd()):
        for folder in (start, *start.parents):
            if (folder / "bats" / "__init__.py").is_file() and (folder / "experiments").is_dir():
                return folder / "results"
    return Path("results")
