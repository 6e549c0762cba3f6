"""The command line of experiments/stdp/train.py."""

import argparse

from models import MODELS

from bats.training.command_line import integer, parse_resumable, positive

DATASETS = ("mnist", "fmnist", "emnist")


def _share(text):
    value = positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a share in (0, 1], received {text}")
    return value


def make_parser(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", choices=sorted(MODELS), default="mozafari2018", help="(default %(default)s)")
    add("--dataset", choices=DATASETS, default="mnist", help="(default %(default)s)")
    add(
        "--epochs",
        type=integer(1),
        nargs="+",
        metavar="N",
        help="epochs of each layer in order, the decision layer last (default: the model's own, see README.md)",
    )
    add("--batch-size", type=integer(1), default=1000, help="images between two adaptations of the rates (default %(default)s)")
    add("--ratio", type=_share, default=1.0, metavar="R", help="share of the training set, drawn at random (default: all of it)")
    add("--augment", action="store_true", help="add a copy of each training image, turned by up to 30 degrees")
    add("--validation", type=_share, default=1 / 12, metavar="R", help="share of the training images that chooses the epoch (default 1/12)")
    add("--no-validation", action="store_true", help="hold out nothing and keep the last epoch")
    add("--patience", type=integer(1), metavar="N", help="stop after N decision epochs without a better one (default: never)")
    add("--decay", nargs=2, metavar=("F", "N"), help="multiply the base rates of the decision by F every N epochs (default: constant)")
    add("--rule", choices=("exact", "rounded"), default="exact", help="order of winners; rounded: as in SpykeTorch (default %(default)s)")
    add("--seed", type=integer(0, 2**32 - 1), default=0, help="fixes every random number (default %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes CUDA where it works (default %(default)s)")
    add("--data", metavar="PATH", help="folder or file with the data set (default: BATS_DATA, datasets/, the user cache)")
    add("--max-train", type=integer(2), metavar="N", help="use the first N training images only")
    add("--max-test", type=integer(1), metavar="N", help="use the first N test images only")
    add("--tensorboard", action="store_true", help="write TensorBoard events into the run folder (extra: bats[tensorboard])")
    add("--activation-maps", action="store_true", help="write pictures of every layer's spikes for the first test image of each class")
    add("--features", action="store_true", help="write pictures of what the neurons of each layer have learned")
    add("--summary", metavar="FILE", help="write the figures of the run to this JSON file as well")
    add("--out", metavar="FOLDER", help="results root (default: results/ of the checkout, or ./results)")
    add("--resume", metavar="PATH", help="go on with a run folder or checkpoint file; its options are the defaults then")
    add("--no-progress", action="store_true", help="no progress bar, no line per epoch")
    return parser


def parse(description, argv=None):
    """Parsed and checked arguments; bad values end the program with status 2 and say what was expected."""
    parser = make_parser(description)
    arguments = parse_resumable(parser, argv)
    if arguments.decay is not None:
        try:
            arguments.decay = [positive(str(arguments.decay[0])), integer(1)(str(arguments.decay[1]))]
        except argparse.ArgumentTypeError as error:
            parser.error(f"--decay: {error}")
        if arguments.decay[0] > 1:
            parser.error(f"--decay: expected a factor in (0, 1], received {arguments.decay[0]}")
    if arguments.patience is not None and arguments.no_validation:
        parser.error("--patience: expected held-out images to measure improvement on, received --no-validation")
    if arguments.epochs is None:
        arguments.epochs = list(MODELS[arguments.model].EPOCHS)
    return arguments
