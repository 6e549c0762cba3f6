"""Fashion-MNIST: 60 000 training and 10 000 test images of clothes, 28 x 28 grey pixels (Xiao, Rasul, Vollgraf 2017)."""

from bats.data.catalogue import FASHION_MNIST
from bats.data.load import load_images


def load_fashion_mnist(path=None, download=True, validate=True):
    """Fashion-MNIST as an ImageDataset: uint8 images [n, 28, 28], int32 labels [n] in 0..9.

    path      a .npz file, or a folder with fashion_mnist.npz or with the four IDX files; then nothing else is tried.
              Otherwise: BATS_DATA, the checkout's datasets/, the user's cache, a download. No part of it is inside the
              package.
    download  False never touches the network (as does BATS_OFFLINE=1 in the environment).
    validate  False accepts other numbers of images and other image shapes than the published ones.

    The IDX files have the names of MNIST's: those of MNIST are told apart by their checksum and refused. Raises
    FileNotFoundError, with the command that gets the set, where it is not found; ValueError or TypeError naming the file
    and the key that is damaged or does not fit.
    """
    return load_images(FASHION_MNIST, path, download, validate)
