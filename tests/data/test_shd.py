"""SHD: HDF5 files of the published layout, packed and served from this machine, and what is refused."""

import contextlib
import dataclasses
import gzip
import hashlib
import importlib.util
import io
import os
import sys
import unittest
from unittest import mock

import numpy as np

from bats import __main__ as command_line
from bats.data import DownloadError, download_shd, load_shd
from bats.data.catalogue import RemoteFile
from bats.data.event_catalogue import SHD
from tests.data.case import DataCase
from tests.data.mirror import Mirror

HAS_H5PY = importlib.util.find_spec("h5py") is not None


def recordings(generator, n):
    """[(times float16, units uint16, label)], as the publisher stores them."""
    made = []
    for _ in range(n):
        k = int(generator.integers(0, 30))
        times = np.sort(generator.uniform(0, 1.3, k)).astype(np.float16)
        made.append((times, generator.integers(0, 700, k).astype(np.uint16), int(generator.integers(0, 20))))
    return made


def hdf5(made, times_type=np.float16, units_type=np.uint16, labels_type=np.uint16, leave_out=()):
    """The bytes of an HDF5 file with spikes/times, spikes/units (of variable length), labels and extra/keys."""
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, kind, column in (("spikes/times", times_type, 0), ("spikes/units", units_type, 1)):
            if name not in leave_out:
                data = file.create_dataset(name, (len(made),), h5py.vlen_dtype(kind))
                for i, recording in enumerate(made):
                    data[i] = recording[column]
        if "labels" not in leave_out:
            file["labels"] = np.array([label for *_, label in made], labels_type)
        file["extra/keys"] = np.array([name.encode() for name in SHD.class_names])
    return content.getvalue()


class ShdCase(DataCase):
    def setUp(self):
        super().setUp()
        self.screen = self.enterContext(contextlib.redirect_stderr(io.StringIO()))
        generator = np.random.default_rng(6)
        self.made = {"train": recordings(generator, 25), "test": recordings(generator, 9)}
        self.plain = {f"shd_{part}.h5": hdf5(made) for part, made in self.made.items()}
        self.packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in self.plain.items()}

    def entry(self, mirror=None):
        files = []
        for name, content in self.packed.items():
            urls = (mirror.url(f"/{name}"),) if mirror else ("http://127.0.0.1:9/" + name,)
            files.append(RemoteFile(name, None, None, urls, hashlib.md5(content).hexdigest()))
        unpacked = tuple(hashlib.md5(content).hexdigest() for content in self.plain.values())
        return dataclasses.replace(SHD, n_train=25, n_test=9, files=tuple(files), unpacked_md5=unpacked)

    def assertHoldsEvents(self, dataset):
        for part, received in (("train", dataset.train), ("test", dataset.test)):
            expected = self.made[part]
            self.assertEqual(received.labels.tolist(), [label for *_, label in expected])
            for i, (times, units, _) in enumerate(expected):
                span = slice(received.offsets[i], received.offsets[i + 1])
                np.testing.assert_array_equal(received.times[span], times.astype(np.float64))
                np.testing.assert_array_equal(received.units[span], units)


@unittest.skipUnless(HAS_H5PY, "h5py is not installed")
class TestShd(ShdCase):
    def test_load_packed_and_unpacked(self):
        for name in self.packed:
            self.put(f"packed/{name}", self.packed[name])
            self.put(f"plain/SHD/{name.removesuffix('.gz')}", self.plain[name.removesuffix(".gz")])
        sums = set()
        for folder in ("packed", "plain"):
            with mock.patch.dict(os.environ, {"BATS_DATA": str(self.folder / folder)}):
                dataset = load_shd(entry=self.entry())
            self.assertHoldsEvents(dataset)
            self.assertEqual((dataset.name, dataset.n_units, dataset.n_classes), ("shd", 700, 20))
            self.assertEqual((dataset.class_names[0], dataset.class_names[19]), ("zero", "neun"))
            self.assertEqual((dataset.notice, dataset.n_dropped, dataset.is_subset), ("", 0, False))
            self.assertEqual(dataset.train.times.dtype, np.float64)
            sums.add(dataset.sha256)
        self.assertEqual(len(sums), 2)
        published = load_shd(self.folder / "packed")
        self.assertRegex(published.notice, "shd_train.h5.gz: well formed, but not a published file of .*md5 [0-9a-f]{32}")
        self.assertTrue(published.is_subset)

    def write(self, train, **options):
        """Puts a training file made from these recordings, and the good test file, unpacked."""
        content = train if isinstance(train, bytes) else hdf5(train, **options)
        self.put("d/shd_test.h5", self.plain["shd_test.h5"])
        return self.put("d/shd_train.h5", content)

    def test_events_not_finite_or_out_of_range_are_dropped_and_counted(self):
        self.made["train"][3] = (np.array([0.1, np.nan, 0.3], np.float16), np.array([1, 2, 3], np.uint16), 4)
        self.made["train"][4] = (np.array([-0.5, 0.2, 0.4, np.inf], np.float16), np.array([5, 6, 700, 7], np.uint16), 5)
        self.made["train"][5] = (np.array([2.0], np.float16), np.array([5], np.uint16), 6)
        self.write(self.made["train"])
        self.made["train"][3] = (np.array([0.1, 0.3], np.float16), np.array([1, 3]), 4)
        self.made["train"][4] = (np.array([0.2], np.float16), np.array([6]), 5)
        self.made["train"][5] = (np.array([], np.float16), np.array([]), 6)
        dataset = load_shd(self.folder / "d", entry=self.entry())
        self.assertHoldsEvents(dataset)
        self.assertEqual(dataset.n_dropped, 5)
        self.assertIn("5 events that are not finite or out of range were left out", dataset.notice)
        self.assertEqual(dataset.describe()["n_dropped"], 5)
        self.assertIn("5 events that are not finite or out of range were left out", self.screen.getvalue())

    def test_out_of_order_is_sorted_stably_and_told(self):
        self.made["train"][2] = (np.array([0.5, 0.25, 0.5], np.float16), np.array([1, 2, 3], np.uint16), 4)
        self.write(self.made["train"])
        self.made["train"][2] = (np.array([0.25, 0.5, 0.5], np.float16), np.array([2, 1, 3]), 4)
        dataset = load_shd(self.folder / "d", entry=self.entry())
        self.assertHoldsEvents(dataset)
        self.assertIn("1 recordings were not in the order of time", dataset.notice)

    def test_other_number_types(self):
        self.write([(t.astype(np.float64), u, label) for t, u, label in self.made["train"]], times_type=np.float64, units_type=np.int64)
        self.assertHoldsEvents(load_shd(self.folder / "d", entry=self.entry()))

    def check(self, message, train, error=ValueError, **options):
        path = self.write(train, **options)
        with self.assertRaisesRegex(error, message) as caught:
            load_shd(self.folder / "d", entry=self.entry())
        self.assertIn(str(path), str(caught.exception))

    def test_damaged_and_different_files(self):
        whole, made = self.plain["shd_train.h5"], self.made["train"]
        for content in (whole[: len(whole) // 2], b"", b"<html>", b"\0" * 8 + whole[8:]):
            self.check("expected an HDF5 file, received a damaged or different one", content)
        for name in ("spikes/times", "spikes/units", "labels"):
            self.check(f"expected the data set {name}, it is not there", made, leave_out=(name,))
        message = "spikes/times: expected arrays of floating-point numbers of any length, received int32"
        self.check(message, made, TypeError, times_type=np.int32)
        self.check("spikes/units: expected arrays of integers", made, TypeError, units_type=np.float32)
        self.check("labels: expected integers, received float64", made, TypeError, labels_type=np.float64)
        times, units, _ = made[0]
        self.check("labels: expected values 0..19, received .*20", [(times, units, 20), *made[1:]])
        self.check("recording 1: expected one unit per time, received 2 and 3", [made[0], (np.zeros(3), np.zeros(2), 1)])
        import h5py

        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file["spikes/times"], file["spikes/units"], file["labels"] = np.zeros((2, 3)), np.zeros(2, int), np.zeros(2, int)
        self.check(r"spikes/times: expected one dimension, received the shape \[2, 3\]", content.getvalue())
        content = io.BytesIO(hdf5(made))
        with h5py.File(content, "r+") as file:
            del file["labels"]
            file["labels"] = np.zeros(24, int)
        self.check("equally many spikes/times, spikes/units and labels, received 25, 25 and 24", content.getvalue())

    def test_damaged_gzip(self):
        self.put("d/shd_test.h5.gz", self.packed["shd_test.h5.gz"])
        path = self.put("d/shd_train.h5.gz", self.packed["shd_train.h5.gz"][:-20])
        with self.assertRaisesRegex(ValueError, f"{path}: expected complete gzip data"):
            load_shd(self.folder / "d")
        with mock.patch.dict(os.environ, {"BATS_DATA": str(self.folder / "d")}):
            with self.assertRaisesRegex(ValueError, "expected complete gzip data.*get shd --force"):
                load_shd()

    def test_download_and_command(self):
        out, err = io.StringIO(), io.StringIO()
        with Mirror({f"/{name}": content for name, content in self.packed.items()}) as mirror:
            entry = self.entry(mirror)
            self.assertEqual(download_shd(self.folder / "o", progress=False, entry=entry), self.folder / "o" / "raw" / "shd")
            self.assertHoldsEvents(load_shd(self.folder / "o", entry=entry))
            with (
                mock.patch.dict("bats.data.EVENT_DATASETS", {"shd": entry}),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                arguments = ["get", "shd", "--out", str(self.folder / "o"), "--quiet"]
                self.assertEqual(command_line.main(arguments), 0, err.getvalue())
            self.assertEqual(len(mirror.requests), 2)
        self.assertIn("25 training and 9 test recordings", out.getvalue())
        with self.assertRaisesRegex(DownloadError, r"Spiking Heidelberg Digits could not .*(?s:.*)shd_test.h5.gz\s+\(md5"):
            download_shd(self.folder / "p", progress=False, entry=self.entry())


class TestShdWithoutFiles(DataCase):
    def test_nothing_there_names_the_command(self):
        message = "Spiking Heidelberg Digits: no shd_train.h5.gz and shd_test.h5.gz in .*Get them with: python -m bats get shd"
        with self.assertRaisesRegex(FileNotFoundError, message):
            load_shd()
        self.put("shd_train.h5.gz", b"x")
        with self.assertRaisesRegex(FileNotFoundError, message):
            load_shd(self.folder)
        with self.assertRaisesRegex(ValueError, "expected the folder with both files"):
            load_shd(self.folder / "shd_train.h5.gz")

    def test_without_h5py_the_extra_is_named(self):
        for part in ("train", "test"):
            self.put(f"shd_{part}.h5", b"x")
        with mock.patch.dict(sys.modules, {"h5py": None}):
            with self.assertRaisesRegex(ImportError, r'needs h5py, which is not installed: pip install "bats\[events\]"'):
                load_shd(self.folder)
