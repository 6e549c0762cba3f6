"""Makes bats/data/embedded/mnist_subset.npz, the part of MNIST inside the package, from the full set on this machine.

5 000 training and 1 000 test images drawn without replacement: every image of a part gets a 64-bit key from
PCG64(seed), whose raw output NumPy guarantees never to change, and the images with the smallest keys are kept, in their
original order. The file also holds the seed and, per part, the SHA-256 of the indices (little-endian int64). The zip
members carry a fixed date, so that the same zlib gives the same bytes; another zlib (see --check) may compress the same
arrays differently.
"""

import argparse
import hashlib
import importlib.util
import io
import os
import sys
import zipfile
from pathlib import Path

if importlib.util.find_spec("bats") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from bats.data import load_mnist, sha256_of

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "bats" / "data" / "embedded" / "mnist_subset.npz"
SEED, N_TRAIN, N_TEST = 0, 5_000, 1_000


def draw(n_all, n_kept, generator):
    """Indices int64 [n_kept], ascending, of the images kept from n_all."""
    return np.sort(np.argsort(generator.random_raw(n_all), kind="stable")[:n_kept])


def subset(full, seed=SEED):
    """The arrays of the file, from an ImageDataset with the full set."""
    generator = np.random.PCG64(seed)
    train = draw(len(full.x_train), N_TRAIN, generator)
    test = draw(len(full.x_test), N_TEST, generator)
    return {
        "x_train": full.x_train[train],
        "y_train": full.y_train[train].astype(np.uint8),
        "x_test": full.x_test[test],
        "y_test": full.y_test[test].astype(np.uint8),
        "seed": np.array([seed], np.int64),
        "indices_sha256": np.array([_sha256(train), _sha256(test)]),
    }


def _sha256(indices):
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()


def write(arrays, path):
    """Writes a compressed .npz with a fixed date, under a temporary name first."""
    part = path.with_name(path.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            member = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type, member.external_attr, member.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(member, content.getvalue(), compresslevel=9)
    os.replace(part, path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="PATH", help="the full MNIST (default: where bats finds it)")
    parser.add_argument("--out", type=Path, default=TARGET, help="the file to make (default: the one in the package)")
    parser.add_argument("--check", action="store_true", help="write nothing; compare the arrays of the existing file")
    options = parser.parse_args(argv)
    full = load_mnist(options.data, download=False)
    if full.is_subset:
        print("this needs the full MNIST: python datasets/get_mnist.py", file=sys.stderr)
        return 1
    arrays = subset(full)
    if options.check:
        with np.load(options.out) as made:
            wrong = [key for key in arrays if key not in made or not np.array_equal(made[key], arrays[key])]
        print(f"{options.out}: {'differs in ' + ', '.join(wrong) if wrong else 'the arrays are equal'}")
        return 1 if wrong else 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write(arrays, options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes, sha256 {sha256_of(options.out)}, from {full.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
