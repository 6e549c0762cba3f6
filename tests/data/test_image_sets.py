"""Fashion-MNIST and EMNIST-balanced in every form they come in, small; the stand-in; data of the user's own."""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import os
import struct
import zipfile
from unittest import mock

import numpy as np
import scipy.io

from bats.data import DownloadError, download_images, embedded_images, load_image_data, load_images, load_npz_images, read_images
from bats.data import own_images as own
from bats.data.archive import unpack
from bats.data.catalogue import EMNIST, FASHION_MNIST, IMAGE_DATASETS, MNIST, RemoteFile
from bats.data.get import main
from tests.data.case import IDX_KEYS, DataCase, idx_bytes, small_arrays
from tests.data.mirror import Mirror

N_CLASSES, N_EACH = 47, {"train": 3, "test": 2}


def characters(seed=0):
    """Upright images [n, 4, 4], 3 training and 2 test images of each of 47 classes."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for part, n in N_EACH.items():
        arrays[f"x_{part}"] = generator.integers(0, 256, (n * N_CLASSES, 4, 4), np.uint8)
        arrays[f"y_{part}"] = generator.permutation(np.repeat(np.arange(N_CLASSES), n)).astype(np.uint8)
    return arrays


def stored(array):
    """As NIST stores images: each transposed."""
    return np.ascontiguousarray(array.transpose(0, 2, 1)) if array.ndim == 3 else array


def mat_bytes(arrays, **changes):
    """The MATLAB file of EMNIST: dataset.train/test.images [n, pixels] uint8, .labels [n, 1] double, .mapping."""
    parts = {}
    for part in ("train", "test"):
        images = stored(arrays[f"x_{part}"])
        labels = arrays[f"y_{part}"].astype(np.float64)[:, None]
        writers = np.zeros((len(labels), 1))
        parts[part] = {"images": images.reshape(len(images), -1), "labels": labels, "writers": writers}
    mapping = np.array([[i, ord(name)] for i, name in enumerate(EMNIST.class_names)], np.uint8)
    content = io.BytesIO()
    scipy.io.savemat(content, {"dataset": {**parts, "mapping": mapping} | changes}, do_compression=True)
    return content.getvalue()


def zip_bytes(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in files.items():
            archive.writestr(name, part)
    return content.getvalue()


class EmnistCase(DataCase):
    def setUp(self):
        super().setUp()
        self.arrays = characters()
        self.idx = {file.name: idx_bytes(stored(self.arrays[key])) for file, key in zip(EMNIST.idx, IDX_KEYS, strict=True)}
        self.archives = {
            "gzip.zip": zip_bytes({f"gzip/{name}": part for name, part in self.idx.items()} | {"gzip/emnist-mnist.txt": b"x"}),
            "matlab.zip": zip_bytes({"matlab/emnist-balanced.mat": mat_bytes(self.arrays), "matlab/emnist-letters.mat": b"x"}),
        }

    def entry(self, mirror=None):
        remote = []
        for name, content in self.archives.items():
            urls = (mirror.url(f"/{name}"),) if mirror else ()
            remote.append(RemoteFile(name, hashlib.sha256(content).hexdigest(), len(content), urls))
        return dataclasses.replace(
            EMNIST, shape=(4, 4), n_train=3 * N_CLASSES, n_test=2 * N_CLASSES, archives=tuple(remote)
        )

    def quietly(self, function, *arguments, **options):
        screen = io.StringIO()
        with contextlib.redirect_stderr(screen), contextlib.redirect_stdout(screen):
            value = function(*arguments, **options)
        return value, screen.getvalue()


class TestEmnist(EmnistCase):
    def test_every_form_gives_the_same_upright_images(self):
        entry = self.entry()
        for name, content in self.idx.items():
            self.put(f"packed/{name}", content)
            self.put(f"unzipped/gzip/{name}", content)
            self.put(f"torch/EMNIST/raw/{name.removesuffix('.gz')}", gzip.decompress(content))
        self.put("matlab/emnist-balanced.mat", mat_bytes(self.arrays))
        self.put("own/emnist.npz", self.npz_bytes(self.arrays))
        for name, content in self.archives.items():
            self.put(f"zips/{name}", content)
        places = ("packed", "unzipped", "torch", "matlab", "matlab/emnist-balanced.mat", "own", "own/emnist.npz")
        for place in (*places, "zips", "zips/gzip.zip", "zips/matlab.zip"):
            with self.subTest(place):
                dataset, printed = self.quietly(load_images, entry, self.folder / place)
                self.assertHolds(dataset, self.arrays)
                self.assertEqual(dataset.x_train.flags.c_contiguous, True)
                self.assertEqual((dataset.name, dataset.n_classes, dataset.is_subset, printed), ("emnist", 47, False, ""))
                self.assertEqual("".join(dataset.class_names), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
                self.assertEqual(dataset.checked, "sha256" if "zips" in place else "structure")
                self.assertEqual(json.loads(json.dumps(dataset.describe())), dataset.describe())

    def test_archive_that_is_not_the_published_one_is_told(self):
        path = self.put("gzip.zip", self.archives["gzip.zip"] + b"\0")
        entry = self.entry()
        dataset, printed = self.quietly(load_images, entry, path)
        self.assertIn("not a published file of EMNIST-balanced", printed)
        self.assertEqual(dataset.checked, "structure")

    def check(self, name, content, message):
        path = self.put(name, content)
        with self.assertRaisesRegex((ValueError, TypeError), message) as caught:
            read_images(self.entry(), path)
        self.assertIn(str(path), str(caught.exception))

    def test_damaged_and_different_matlab_files(self):
        whole = mat_bytes(self.arrays)
        for content in (whole[:-200], b"", b"<html>", whole[:300] + bytes(60) + whole[360:]):
            self.check("a.mat", content, "expected a MATLAB file, received a damaged or different file")
        self.check("a.mat", mat_bytes(self.arrays, test={"images": np.zeros((2, 16))}), r"struct dataset\.test\.labels, it is not")
        self.check("a.mat", mat_bytes(self.arrays, train=3), r"expected the struct dataset\.train\.images")
        content = io.BytesIO()
        scipy.io.savemat(content, {"other": 1})
        self.check("a.mat", content.getvalue(), r"expected the struct dataset\.train\.images")
        header = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49)
        self.check("a.mat", header + bytes(100), "version 5, received one of version 7.3")
        labels = self.arrays["y_test"]
        test = {"images": np.zeros((len(labels), 15), np.uint8), "labels": labels}
        self.check("a.mat", mat_bytes(self.arrays, test=test), r"test.images: expected \[n, 16\], received the shape \[94, 15\]")
        test = {"images": np.zeros((len(labels), 16), np.uint8), "labels": labels + 0.5}
        self.check("a.mat", mat_bytes(self.arrays, test=test), "y_test: expected integers 0..46, received float64")
        test["labels"] = labels + 1.0
        self.check("a.mat", mat_bytes(self.arrays, test=test), r"y_test: expected values 0..46, received 1..47")

    def test_damaged_and_different_archives(self):
        whole = self.archives["gzip.zip"]
        self.check("a.zip", whole[:-40], "complete .zip archive, received a damaged")
        middle = whole.index(b"train-images") + 100
        self.check("a.zip", whole[:middle] + bytes(20) + whole[middle + 20 :], "damaged")
        self.check("a.zip", zip_bytes({"x/other": b"1"}), "expected an archive with emnist-balanced-train.* one of 1 other files")
        self.check("a.zip", zip_bytes(self.idx | {EMNIST.idx[2].name: b"<html>"}), "emnist-balanced-test-images.*expected gzip data")

    def test_classes_that_are_not_balanced(self):
        arrays = self.arrays | {"y_test": np.where(self.arrays["y_test"] == 5, 6, self.arrays["y_test"])}
        path = self.put("emnist.npz", self.npz_bytes(arrays))
        with self.assertRaisesRegex(ValueError, "y_test: expected 2 of each of the 47 classes, received 0 to 4"):
            read_images(self.entry(), path)
        self.assertHolds(read_images(self.entry(), path, validate=False), arrays)

    def test_nothing_there_names_the_command_and_every_form(self):
        with self.assertRaisesRegex(FileNotFoundError, "EMNIST-balanced: no EMNIST-balanced in .*Get it with: .*get emnist"):
            load_images(EMNIST, download=False)
        with self.assertRaisesRegex(FileNotFoundError, "emnist.npz or the 4 IDX files .*or emnist-balanced.mat, gzip.zip, matlab.zip"):
            load_images(EMNIST, self.folder)


class TestEmnistDownload(EmnistCase):
    def test_archive_is_unpacked_and_removed_and_not_fetched_twice(self):
        for name in ("gzip.zip", "matlab.zip"):
            with self.subTest(name), Mirror({f"/{name}": self.archives[name]}) as mirror:
                entry, out = self.entry(mirror), self.folder / name
                place = download_images(entry, out, progress=False)
                self.assertEqual(place, out / "raw" / "emnist")
                kept = set(self.idx) if name == "gzip.zip" else {"emnist-balanced.mat"}
                self.assertEqual({path.name for path in place.iterdir()}, kept)
                self.assertHolds(read_images(entry, out), self.arrays)
                n_requests = len(mirror.requests)
                download_images(entry, out, progress=False)
                self.assertEqual(len(mirror.requests), n_requests)
                next(place.iterdir()).write_bytes(b"damaged since")
                download_images(entry, out, progress=False)
                self.assertHolds(read_images(entry, out), self.arrays)
                download_images(entry, out, force=True, progress=False)
                self.assertGreater(len(mirror.requests), n_requests + 1)

    def test_archive_put_there_by_hand_is_used_and_stays(self):
        entry = self.entry()
        entry = dataclasses.replace(entry, archives=tuple(dataclasses.replace(a, urls=("http://127.0.0.1:9/x",)) for a in entry.archives))
        path = self.put("raw/emnist/gzip.zip", self.archives["gzip.zip"])
        download_images(entry, self.folder, progress=False)
        self.assertTrue(path.is_file())
        self.assertTrue((path.parent / EMNIST.idx[0].name).is_file())

    def test_member_that_is_damaged_leaves_nothing_behind(self):
        content = bytearray(zip_bytes({"gzip/a": bytes(range(250)) * 9, "gzip/b": b"x" * 5000}))
        content[content.index(b"x" * 5000) + 2500] ^= 1
        path = self.put("in/gzip.zip", content)
        with self.assertRaisesRegex(ValueError, f"{path}: expected a complete .zip archive, received a damaged"):
            unpack(path, ["a", "b", "c"], self.folder)
        self.assertEqual(sorted(file.name for file in self.folder.iterdir()), ["a", "in"])

    def test_every_mirror_fails(self):
        with Mirror({"/gzip.zip": b"x" * len(self.archives["gzip.zip"])}) as mirror:
            with self.assertRaisesRegex(DownloadError, "EMNIST-balanced could not be downloaded") as caught:
                download_images(self.entry(mirror), self.folder, progress=False)
        self.assertIn("wrong checksum", str(caught.exception))
        self.assertIn("HTTP 404", str(caught.exception))

    def test_archive_without_the_files(self):
        self.archives = {"gzip.zip": zip_bytes({"other": b"1"})}
        with Mirror({"/gzip.zip": self.archives["gzip.zip"]}) as mirror:
            code, printed = self.quietly(main, self.entry(mirror), ["--out", str(self.folder / "o"), "--quiet"])
        self.assertEqual(code, 1)
        self.assertRegex(printed, "gzip.zip: expected an archive with emnist-balanced-train-images")

    def test_command_says_what_the_check_was(self):
        with Mirror({"/gzip.zip": self.archives["gzip.zip"]}) as mirror:
            code, printed = self.quietly(main, self.entry(mirror), ["--out", str(self.folder / "o"), "--quiet"])
        self.assertEqual(code, 0)
        for text in ("141 training and 94 test images", "structure", f"BATS_DATA={self.folder / 'o'}"):
            self.assertIn(text, printed)


class TestStandIn(EmnistCase):
    def setUp(self):
        super().setUp()
        arrays = small_arrays() | {"classes": np.array(list("0123456789"))}
        self.subset = self.put("data/emnist_bymerge_subset.npz", self.npz_bytes(arrays))
        self.enterContext(mock.patch.dict(os.environ, {"BATS_DATA": str(self.folder / "data")}))

    def test_takes_the_place_of_the_absent_set_and_says_so(self):
        dataset, printed = self.quietly(load_images, EMNIST, download=False)
        for text in ("EMNIST-balanced is not there", "EMNIST ByMerge subset, not EMNIST-balanced", "30 training", "do not compare"):
            self.assertIn(text, printed)
        self.assertEqual((dataset.name, dataset.is_subset), ("emnist_bymerge_subset", True))
        described = dataset.describe()
        self.assertEqual(described["kind"], "EMNIST ByMerge subset, not EMNIST-balanced")
        self.assertEqual(dataset.class_names, tuple("0123456789"))

    def test_the_set_itself_goes_first(self):
        for name, content in self.idx.items():
            self.put(f"cache-home/bats/raw/emnist/{name}", content)
        self.assertHolds(load_images(self.entry(), download=False), self.arrays)

    def test_by_path_it_is_labelled_too_under_whatever_name_is_asked(self):
        for name in ("emnist", "mnist"):
            dataset, printed = self.quietly(load_image_data, name, self.subset)
            self.assertEqual((dataset.name, dataset.kind), ("emnist_bymerge_subset", EMNIST.stand_in.kind))
        self.assertIn("not EMNIST-balanced", printed + dataset.notice)
        renamed = self.put("renamed.npz", self.subset.read_bytes())
        known = dataclasses.replace(EMNIST.stand_in, sha256=hashlib.sha256(self.subset.read_bytes()).hexdigest())
        with mock.patch.dict(own.IMAGE_DATASETS, {"emnist": dataclasses.replace(EMNIST, stand_in=known)}):
            dataset, _ = self.quietly(load_npz_images, renamed)
        self.assertEqual((dataset.name, dataset.checked), ("emnist_bymerge_subset", "sha256"))

    def test_other_sets_have_none(self):
        with self.assertRaisesRegex(FileNotFoundError, "Fashion-MNIST: no Fashion-MNIST in .*Get it with: .*get fashion_mnist"):
            load_images(FASHION_MNIST, download=False)


class TestOwnImages(DataCase):
    def test_any_sizes_and_names(self):
        arrays = small_arrays()
        path = self.put("mine.npz", self.npz_bytes(arrays))
        dataset = load_npz_images(str(path))
        self.assertHolds(dataset, arrays)
        self.assertEqual((dataset.name, dataset.n_classes, dataset.class_names[-1], dataset.shape), ("mine", 10, "9", (4, 5)))
        self.assertEqual((dataset.kind, dataset.is_subset, dataset.notice), ("own .npz file", False, ""))
        named = arrays | {"classes": np.array([f"c{i}".encode() for i in range(12)])}
        dataset = load_npz_images(self.put("mine.npz", self.npz_bytes(named)))
        self.assertEqual((dataset.n_classes, dataset.class_names[10]), (12, "c10"))

    def check(self, message, error=ValueError, **changes):
        path = self.put("mine.npz", self.npz_bytes(small_arrays() | changes))
        with self.assertRaisesRegex(error, message) as caught:
            load_npz_images(path)
        self.assertIn(str(path), str(caught.exception))

    def test_what_does_not_fit(self):
        self.check("y_train: expected values 0..2, received 0..9", classes=np.array(["a", "b", "c"]))
        self.check(r"classes: expected names \[n_classes\], received float64 \[3\]", classes=np.zeros(3))
        self.check(r"x_test: expected images of \[4, 5\] pixels, received \[5, 4\]", x_test=np.zeros((20, 5, 4), np.uint8))
        self.check("y_train: expected integers", TypeError, y_train=np.zeros(30))
        self.check("y_train: expected values 0..9, received -1..9", y_train=np.arange(30) % 11 - 1)
        with self.assertRaisesRegex(FileNotFoundError, "expected a .npz file with images, there is nothing"):
            load_npz_images(self.folder / "nothing.npz")
        with self.assertRaisesRegex(FileNotFoundError, "there is a folder"):
            load_npz_images(self.folder)

    def test_data_of_an_experiment(self):
        entry, arrays = self.small_entry(), small_arrays(seed=3)
        fashion = dataclasses.replace(entry, name="fashion_mnist", title="Fashion-MNIST", embedded=None, idx=())
        path = self.put("a.npz", self.npz_bytes(arrays))
        fashion = dataclasses.replace(fashion, npz=None, same_content=(hashlib.sha256(path.read_bytes()).hexdigest(),))
        published = self.put("b.npz", self.files["mnist.npz"])
        few = self.put("few.npz", self.npz_bytes({key: array[:20] for key, array in arrays.items()}))
        with mock.patch.dict(IMAGE_DATASETS, {"mnist": entry, "fashion_mnist": fashion}):
            for asked in ("mnist", "fashion_mnist"):  # a known file is called by what it is
                self.assertEqual(load_image_data(asked, published).name, "mnist")
                self.assertEqual(load_image_data(asked, path).name, "fashion_mnist")
            self.assertEqual(load_image_data("mnist", few).name, "few")
            other = self.put("other.npz", self.npz_bytes(small_arrays(seed=4)))
            with contextlib.redirect_stderr(io.StringIO()):
                dataset = load_image_data("mnist", other)  # the sizes of the set, another content: told
                self.assertEqual(load_image_data("mnist", download=False).name, "mnist_subset")
            self.assertIn("not a published file of MNIST", dataset.notice)
            with self.assertRaisesRegex(ValueError, "damaged"):
                load_image_data("mnist", self.put("bad.npz", b"x"))
        with self.assertRaisesRegex(ValueError, "expected one of mnist, fashion_mnist, emnist, received 'cifar'"):
            load_image_data("cifar")


class TestFashion(DataCase):
    def test_idx_files_of_mnist_are_not_taken_for_fashion(self):
        mnist = self.small_entry()
        other = small_arrays(seed=9)
        other["y_test"] = other["y_test"][::-1]
        remote = tuple(
            RemoteFile(file.name, hashlib.sha256(idx_bytes(other[key])).hexdigest(), None, ())
            for file, key in zip(MNIST.idx, IDX_KEYS, strict=True)
        )
        fashion = dataclasses.replace(mnist, name="fashion_mnist", title="Fashion-MNIST", npz=None, idx=remote, embedded=None)
        for file, key in zip(MNIST.idx, IDX_KEYS, strict=True):
            self.put(f"both/{file.name}", self.files[file.name])
            self.put(f"both/fashion_mnist/{file.name}", idx_bytes(other[key]))
            self.put(f"mnist/{file.name}", self.files[file.name])
        with mock.patch.dict(IMAGE_DATASETS, {"mnist": mnist, "fashion_mnist": fashion}):
            self.assertHolds(read_images(fashion, self.folder / "both"), other)
            self.assertHolds(read_images(mnist, self.folder / "both"), small_arrays())
            with self.assertRaisesRegex(FileNotFoundError, "expected Fashion-MNIST, received the IDX files of MNIST"):
                read_images(fashion, self.folder / "mnist")

    def test_set_without_an_npz_file_is_downloaded_as_idx_files(self):
        with Mirror({}) as mirror, contextlib.redirect_stderr(io.StringIO()):
            entry = dataclasses.replace(self.small_entry(mirror=mirror), name="fashion_mnist", npz=None, embedded=None)
            mirror.files |= {f"/{file.name}": self.files[file.name] for file in entry.idx}
            dataset = load_images(entry)
            self.assertHolds(dataset, small_arrays())
            self.assertEqual(dataset.source, self.folder / "cache-home" / "bats" / "raw" / "fashion_mnist")
            load_images(entry)
            self.assertEqual((len(mirror.requests), dataset.checked), (4, "sha256"))
            self.put("cache-home/bats/raw/fashion_mnist/" + entry.idx[0].name, b"damaged")
            with self.assertRaisesRegex(ValueError, "expected gzip data.*get fashion_mnist --force"):
                load_images(entry)

    def test_catalogue(self):
        self.assertEqual([file.name for file in FASHION_MNIST.idx], [file.name for file in MNIST.idx])
        for entry in IMAGE_DATASETS.values():
            self.assertEqual((len(entry.class_names), len(entry.idx)), (entry.n_classes, 4))
            files = [*entry.idx, *entry.archives, *([entry.npz] if entry.npz else [])]
            sums = [file.checksum for file in files if file.urls]
            self.assertEqual(len(set(sums)), len(sums))
            for file in files:
                self.assertEqual(bool(file.urls), file.checksum is not None)
                for url in file.urls:
                    self.assertTrue(url.endswith(f"/{file.name}"), url)

    def test_no_embedded_part(self):
        with self.assertRaisesRegex(FileNotFoundError, "Fashion-MNIST: because"):
            embedded_images(FASHION_MNIST, ["because"])
