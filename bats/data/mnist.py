"""MNIST: 60 000 training and 10 000 test images of handwritten digits, 28 x 28 grey pixels (LeCun et al. 1998)."""

from bats.data.catalogue import MNIST
from bats.data.load import load_images


def load_mnist(path=None, download=True, validate=True):
    """The MNIST digits as an ImageDataset: uint8 images [n, 28, 28], int32 labels [n] in 0..9, in the published order.

    path      a .npz file, or a folder with mnist.npz or with the four IDX files; then nothing else is tried. Otherwise:
              BATS_DATA, the checkout's datasets/, the user's cache, a download, and last the 5 000 + 1 000 images
              inside the package, announced on stderr.
    download  False never touches the network (as does BATS_OFFLINE=1 in the environment).
    validate  False accepts other numbers of images and other image shapes than the published ones.

    Raises FileNotFoundError for a `path` with nothing there, ValueError or TypeError naming the file and the key that
    is damaged or does not fit.
    """
    return load_images(MNIST, path, download, validate)
