"""TensorBoard: the figures of each epoch, the confusion matrix and the learned features. Needs the extra `tensorboard`."""

import numpy as np


def open_writer(folder):
    """A SummaryWriter into `folder`. Raises ImportError, with the command that installs it, where tensorboardX is missing."""
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as error:
        if error.name != "tensorboardX":
            raise
        raise ImportError('--tensorboard needs tensorboardX: pip install "bats[tensorboard]"') from error
    return SummaryWriter(logdir=str(folder))


class EventLog:
    """Listener of a LayerwiseTrainer that writes its rows as scalars, by epoch, to a writer with add_scalar and add_image."""

    def __init__(self, writer):
        self.writer = writer

    def __call__(self, kind, row):
        prefix = row["layer"] if kind == "layer" else kind
        for name, value in row.items():
            if name not in ("layer", "epoch"):
                self.writer.add_scalar(f"{prefix}/{name}", value, row["epoch"])

    def picture(self, tag, path):
        """The .png file `path` as an image."""
        from matplotlib.image import imread

        pixels = (255 * imread(path)[..., :3]).astype(np.uint8)
        self.writer.add_image(tag, pixels, dataformats="HWC")

    def close(self):
        self.writer.close()
