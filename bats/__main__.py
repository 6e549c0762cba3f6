"""`python -m bats`: an installation check, the kernels, and data sets."""

import argparse
import sys

from bats._version import __version__


def main(argv=None):
    """Command line of the package; returns the exit code: 0, 1 for a failure, 2 for a wrong command line (argparse)."""
    parser = argparse.ArgumentParser(prog="python -m bats", description="Event-based spiking neural networks.")
    parser.add_argument("--version", action="version", version=f"bats {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("doctor", help="what is there, what is missing, and the command that mends it")
    commands.add_parser("kernels", help="list the CUDA kernel files")
    compiling = commands.add_parser("compile", help="compile every CUDA kernel file; needs no GPU")
    compiling.add_argument("--arch", default="sm_90", help="GPU architecture (default: %(default)s)")
    getting = commands.add_parser("get", help="download a data set")
    _add_get(getting)
    options = parser.parse_args(argv)
    return {"doctor": _doctor, "kernels": _kernels, "compile": _compile, "get": _get}[options.command](options)


def _add_get(parser):
    from bats.data import EVENT_DATASETS, IMAGE_DATASETS
    from bats.data.get import add_arguments

    parser.add_argument("name", choices=sorted({**IMAGE_DATASETS, **EVENT_DATASETS}), help="which one")
    add_arguments(parser)


def _get(options):
    from bats.data import EVENT_DATASETS, IMAGE_DATASETS
    from bats.data.get import get

    return get({**IMAGE_DATASETS, **EVENT_DATASETS}[options.name], options)


def _doctor(options):
    from bats import doctor

    return doctor.main()


def _kernels(options):
    from bats import kernels

    for unit in kernels.list_units():
        print(unit)
    return 0


def _compile(options):
    from bats import kernels

    try:
        results = kernels.compile_all(options.arch)
    except RuntimeError as error:  # there is no compiler
        print(error, file=sys.stderr)
        return 1
    for unit, seconds, error in results:
        print(f"{'FAILED' if error else 'ok':8}{seconds:7.2f} s  {unit}")
        if error:
            print(error, file=sys.stderr)
    n_failed = sum(error is not None for _, _, error in results)
    print(f"{len(results) - n_failed} of {len(results)} kernel files compile for {options.arch}")
    return int(n_failed > 0)


if __name__ == "__main__":
    sys.exit(main())
