"""EMNIST-balanced: 112 800 training and 18 800 test images of handwritten characters, 47 classes, 28 x 28 grey pixels
(Cohen, Afshar, Tapson, van Schaik 2017, arXiv 1702.05373).

The classes are the digits, the capitals, and the 11 small letters that do not look like their capital: 0-9, A-Z, a b d e
f g h n q r t. The published files hold the images with rows and columns exchanged; here they are upright.
"""

from bats.data.catalogue import EMNIST
from bats.data.load import load_images


def load_emnist(path=None, download=True, validate=True):
    """EMNIST-balanced as an ImageDataset: uint8 images [n, 28, 28], upright, int32 labels [n] in 0..46.

    path      one of: a folder with the four IDX files (emnist-balanced-train-images-idx3-ubyte.gz, ...; also unpacked)
              or with emnist-balanced.mat; that MATLAB file; NIST's gzip.zip or matlab.zip; a .npz file with upright images.
              Then nothing else is tried. Otherwise: BATS_DATA, the checkout's datasets/, the user's cache, a download
              (562 MB, of which 20 MB are kept), and last a stand-in from those folders, announced on stderr:
              emnist_bymerge_subset.npz, whose name and kind say that it is not EMNIST-balanced.
    download  False never touches the network (as does BATS_OFFLINE=1 in the environment).
    validate  False accepts other numbers of images, other numbers per class and other image shapes.

    No checksum of the files inside the archives was published: they are known by the archive's, when downloaded, and by
    their structure (numbers, shape, 2400 + 400 images of each class). Raises FileNotFoundError, with the command that
    gets the set, where nothing is found; ValueError or TypeError naming the file and what does not fit.
    """
    return load_images(EMNIST, path, download, validate)
