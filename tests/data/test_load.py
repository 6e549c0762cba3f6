"""Loading by name: a path, this machine, a download, and the part inside the package, in this order."""

import contextlib
import hashlib
import io
import json
import os
import time
from unittest import mock

import numpy as np

from bats.data import DownloadError, download_images, find_images, load_images, read_images
from bats.data.catalogue import MNIST
from tests.data.case import DataCase, idx_bytes, small_arrays
from tests.data.mirror import Mirror, closed_port_url


class LoadCase(DataCase):
    def load(self, entry, *arguments, **options):
        """The data set and what was printed on stderr."""
        screen = io.StringIO()
        with contextlib.redirect_stderr(screen):
            return load_images(entry, *arguments, **options), screen.getvalue()


class TestPath(LoadCase):
    def test_npz_idx_folder_and_folder_with_npz(self):
        entry, arrays = self.small_entry(), small_arrays()
        npz = self.put("npz/mnist.npz", self.files["mnist.npz"])
        for file in entry.idx:
            self.put(f"idx/{file.name}", self.files[file.name])
        for path, source in ((npz, npz), (str(npz.parent), npz), (self.folder / "idx", self.folder / "idx")):
            dataset, printed = self.load(entry, path)
            self.assertHolds(dataset, arrays)
            self.assertEqual((dataset.source, dataset.is_subset, dataset.notice, printed), (source, False, "", ""))
        self.assertEqual(self.load(entry, npz)[0].sha256, entry.npz.sha256)

    def test_describe_is_json_and_identifies_the_data(self):
        entry = self.small_entry()
        described = self.load(entry, self.put("mnist.npz", self.files["mnist.npz"]))[0].describe()
        self.assertEqual(json.loads(json.dumps(described)), described)
        expected = {"name": "mnist", "n_train": 30, "n_test": 20, "file": "mnist.npz", "sha256": entry.npz.sha256}
        self.assertEqual({key: described[key] for key in expected}, expected)

    def test_idx_checksum_depends_on_every_file(self):
        entry, sums = self.small_entry(), set()
        for changed in (None, *entry.idx):
            for file in entry.idx:
                self.put(f"idx/{file.name}", self.files[file.name] + (bytes(1) if file is changed else b""))
            with mock.patch("bats.data.image_files.read_idx", lambda path, ndim: small_arrays()[_key(path)]):
                sums.add(self.load(entry, self.folder / "idx")[0].sha256)
        self.assertEqual(len(sums), 5)

    def test_unpublished_but_well_formed_file_is_taken_with_a_note(self):
        entry = self.small_entry()
        arrays = small_arrays(seed=1)
        path = self.put("mine.npz", self.npz_bytes(arrays))
        dataset, printed = self.load(entry, path)
        self.assertHolds(dataset, arrays)
        self.assertIn("not a published file of MNIST", dataset.notice)
        self.assertIn(hashlib.sha256(path.read_bytes()).hexdigest(), printed)

    def test_other_sizes_only_without_validation(self):
        entry = self.small_entry()
        arrays = small_arrays()
        arrays["x_train"], arrays["y_train"] = arrays["x_train"][:7], arrays["y_train"][:7]
        path = self.put("few.npz", self.npz_bytes(arrays))
        with self.assertRaisesRegex(ValueError, "x_train: expected 30 images, received 7"):
            load_images(entry, path)
        dataset, _ = self.load(entry, path, validate=False)
        self.assertHolds(dataset, arrays)
        self.assertTrue(dataset.is_subset)
        with self.assertRaisesRegex(ValueError, r"expected images of \[28, 28\] pixels, received \[4, 5\]"):
            read_images(MNIST, path)

    def test_nothing_there(self):
        entry = self.small_entry()
        with self.assertRaisesRegex(FileNotFoundError, "nothing.npz: expected MNIST"):
            load_images(entry, self.folder / "nothing.npz")
        for file in entry.idx[1:]:
            self.put(file.name, self.files[file.name])
        with self.assertRaisesRegex(FileNotFoundError, "mnist.npz is not there, nor train-images-idx3-ubyte.gz$"):
            load_images(entry, self.folder)

    def test_damaged_idx_file_is_named(self):
        entry = self.small_entry()
        for file in entry.idx:
            self.put(file.name, self.files[file.name])
        self.put(entry.idx[2].name, self.files[entry.idx[2].name][:-30])
        with self.assertRaisesRegex(ValueError, "t10k-images-idx3-ubyte.gz: .*truncated or damaged"):
            load_images(entry, self.folder)
        self.put(entry.idx[2].name, idx_bytes(small_arrays()["x_train"]))
        with self.assertRaisesRegex(
            ValueError, r"t10k-labels.*: expected one label per image, \[30\], received .*\[20\]"
        ):
            load_images(entry, self.folder)


class TestOrder(LoadCase):
    def test_this_machine_before_the_network(self):
        with Mirror({}) as mirror:
            entry = self.small_entry(mirror=mirror)
            self.put("data/mnist.npz", self.files["mnist.npz"])
            for file in entry.idx:
                self.put(f"cache-home/bats/raw/mnist/{file.name}", self.files[file.name])
            with mock.patch.dict(os.environ, {"BATS_DATA": str(self.folder / "data")}):
                self.assertEqual(self.load(entry)[0].source, self.folder / "data" / "mnist.npz")
            self.assertEqual(self.load(entry)[0].source, self.folder / "cache-home" / "bats" / "raw" / "mnist")
            self.assertEqual(mirror.requests, [])

    def test_incomplete_idx_set_is_passed_over(self):
        entry = self.small_entry()
        for file in entry.idx[:3]:
            self.put(file.name, self.files[file.name])
        self.assertIsNone(find_images(entry, [self.folder])[0])

    def test_damaged_file_found_is_an_error_that_says_how_to_mend_it(self):
        entry = self.small_entry()
        path = self.put("cache-home/bats/mnist.npz", self.files["mnist.npz"][:-50])
        with self.assertRaisesRegex(ValueError, f"{path}: .*damaged.*get mnist --force"):
            load_images(entry)

    def test_download_npz(self):
        with Mirror({}) as mirror:
            entry = self.small_entry(mirror=mirror)
            mirror.files["/mnist.npz"] = self.files["mnist.npz"]
            dataset, printed = self.load(entry)
        self.assertHolds(dataset, small_arrays())
        self.assertEqual(dataset.source, self.folder / "cache-home" / "bats" / "mnist.npz")
        self.assertNotIn("not the full", printed)
        self.assertEqual(self.load(entry, download=False)[0].source, dataset.source)

    def test_download_idx_when_the_npz_cannot_be_had(self):
        with Mirror({}) as mirror:
            entry = self.small_entry(mirror=mirror)
            mirror.files |= {f"/{file.name}": self.files[file.name] for file in entry.idx}
            dataset, _ = self.load(entry)
        self.assertHolds(dataset, small_arrays())
        self.assertEqual(dataset.source, self.folder / "cache-home" / "bats" / "raw" / "mnist")
        self.assertEqual(dataset.notice, "")

    def test_own_mirror_is_asked_first(self):
        with Mirror({}) as published, Mirror({}) as own:
            entry = self.small_entry(mirror=published)
            own.files["/sub/mnist.npz"] = self.files["mnist.npz"]
            download_images(entry, self.folder / "out", [own.url("/sub/")], progress=False)
            self.assertEqual((len(own.requests), published.requests), (1, []))
        with self.assertRaisesRegex(DownloadError, "MNIST could not be downloaded") as caught:
            download_images(entry, self.folder / "new", [closed_port_url("")], progress=False)
        self.assertEqual(len(caught.exception.reasons), 4)

    def test_bad_folder_for_the_download_falls_back_and_says_so(self):
        with Mirror({}) as mirror:
            entry = self.small_entry(mirror=mirror)
            mirror.files["/mnist.npz"] = self.files["mnist.npz"]
            self.put("cache-home", b"a file where the folder should be")
            dataset, printed = self.load(entry)
        self.assertEqual(len(dataset.x_train), 5000)
        self.assertIn("no download: ", printed)
        self.assertIn("cannot create the folder", printed)


class TestEmbedded(LoadCase):
    def test_notice_once_with_size_reasons_and_command(self):
        entry = self.small_entry()
        for switch, reason in (({"BATS_OFFLINE": "1"}, "turned off by BATS_OFFLINE"), ({}, "turned off by the caller")):
            with mock.patch.dict(os.environ, switch):
                dataset, printed = self.load(MNIST, download=bool(switch))
            self.assertEqual((len(dataset.x_train), len(dataset.x_test), dataset.is_subset), (5000, 1000, True))
            self.assertEqual(dataset.name, "mnist_subset")
            for text in ("not the full MNIST", "5000 of 60000", "1000 of 10000", reason, "get mnist", str(self.folder)):
                self.assertIn(text, printed)
            with mock.patch.dict(os.environ, switch):
                self.assertEqual(self.load(MNIST, download=bool(switch))[1], "")
        self.assertEqual(entry.embedded, MNIST.embedded)

    def test_no_network_falls_back_within_seconds(self):
        with Mirror({}) as mirror:
            entry = self.small_entry(mirror=mirror)
        start = time.perf_counter()
        dataset, printed = self.load(entry)
        self.assertLess(time.perf_counter() - start, 5)
        self.assertEqual(len(dataset.x_train), 5000)
        self.assertIn("no connection", printed)

    def test_absent_folder_in_the_environment_is_told(self):
        with mock.patch.dict(os.environ, {"BATS_DATA": str(self.folder / "typo")}):
            self.assertIn("typo of BATS_DATA does not exist", self.load(MNIST, download=False)[1])

    def test_set_without_an_embedded_part(self):
        import dataclasses

        entry = dataclasses.replace(self.small_entry(), embedded=None)
        with self.assertRaisesRegex(FileNotFoundError, "MNIST: no mnist.npz in .*Get it with"):
            load_images(entry, download=False)


def _key(path):
    part = "train" if path.name.startswith("train") else "test"
    return f"{'x' if 'images' in path.name else 'y'}_{part}"


class TestFrozen(DataCase):
    def test_dataset_is_frozen(self):
        entry = self.small_entry()
        dataset = read_images(entry, self.put("mnist.npz", self.files["mnist.npz"]))
        with self.assertRaises(AttributeError):
            dataset.name = "other"
        self.assertNotIn("array", repr(dataset))
        self.assertIsInstance(dataset.x_train, np.ndarray)
