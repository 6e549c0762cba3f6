"""N-MNIST: ATIS files made here by the byte, the archives served from this machine, and what is refused."""

import contextlib
import dataclasses
import hashlib
import io
import os
import zipfile
from unittest import mock

import numpy as np

from bats import __main__ as command_line
from bats.data import DownloadError, convert_nmnist, download_nmnist, load_nmnist
from bats.data.catalogue import RemoteFile
from bats.data.event_catalogue import NMNIST
from bats.data.nmnist import parse_atis
from tests.data.case import DataCase
from tests.data.mirror import Mirror


def atis(events):
    """The file of a list of (x, y, polarity, microseconds)."""
    return b"".join(bytes([x, y]) + (polarity << 23 | time).to_bytes(3, "big") for x, y, polarity, time in events)


def random_events(generator, n):
    times = np.sort(generator.integers(0, 300_000, n)).tolist()
    return [(int(x), int(y), int(p), t) for (x, y, p), t in zip(generator.integers(0, (34, 34, 2), (n, 3)), times, strict=True)]


def archive(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, part in files.items():
            opened.writestr(name, part)
    return content.getvalue()


class TestAtis(DataCase):
    def test_events_against_the_definition(self):
        events = random_events(np.random.default_rng(0), 200)
        times, units, n_late = parse_atis(atis(events), "f")
        self.assertEqual((times.dtype, units.dtype, n_late), (np.int32, np.uint16, 0))
        self.assertEqual(times.tolist(), [t for *_, t in events])
        self.assertEqual(units.tolist(), [x + 34 * y + 1156 * p for x, y, p, _ in events])
        self.assertEqual((parse_atis(atis([(33, 33, 1, 8_388_607)]), "f")[0][0]), 8_388_607)

    def test_by_hand(self):
        # x 3, y 5, polarity 1 (bit 7 of the third byte), time 0x012345
        times, units, _ = parse_atis(bytes([3, 5, 0x81, 0x23, 0x45]), "f")
        self.assertEqual((times.tolist(), units.tolist()), ([0x012345], [3 + 170 + 1156]))

    def test_overflow_markers(self):
        events = [(1, 1, 0, 8000), (0, 240, 0, 0), (2, 2, 1, 5), (200, 240, 1, 3), (77, 240, 0, 4), (3, 3, 0, 9)]
        times, units, n_late = parse_atis(atis(events), "f")
        self.assertEqual(times.tolist(), [8000, 8192 + 5, 3 * 8192 + 9])
        self.assertEqual((units.tolist(), n_late), ([35, 70 + 1156, 105], 0))

    def test_out_of_order_is_sorted_stably_and_counted(self):
        times, units, n_late = parse_atis(atis([(0, 0, 0, 5), (1, 0, 0, 9), (2, 0, 0, 5), (3, 0, 0, 1)]), "f")
        self.assertEqual((times.tolist(), units.tolist(), n_late), ([1, 5, 5, 9], [3, 0, 2, 1], 2))

    def test_empty_and_damaged(self):
        self.assertEqual([len(part) for part in parse_atis(b"", "f")[:2]], [0, 0])
        with self.assertRaisesRegex(ValueError, "a/b.bin: truncated: expected 5 bytes per event, received 9 bytes"):
            parse_atis(bytes(9), "a/b.bin")
        for pixel in ((34, 0), (0, 34), (0, 239), (255, 241)):
            with self.assertRaisesRegex(ValueError, rf"f: expected pixels 0..33, received x {pixel[0]}, y {pixel[1]} at event 1"):
                parse_atis(atis([(1, 1, 1, 1), (*pixel, 0, 5)]), "f")


class NmnistCase(DataCase):
    def setUp(self):
        super().setUp()
        self.screen = self.enterContext(contextlib.redirect_stderr(io.StringIO()))
        generator = np.random.default_rng(4)
        self.recordings, self.archives = {}, {}
        for part, n in (("Train", 23), ("Test", 11)):
            files = {}
            for i in generator.permutation(n):
                files[f"{part}/{i % 10}/{i:05d}.bin"] = random_events(generator, int(generator.integers(0, 40)))
            self.recordings[part] = [(int(name.split("/")[1]), files[name]) for name in sorted(files)]
            self.archives[f"{part}.zip"] = archive(
                {f"{part}/": b"", f"{part}/readme.txt": b"x"} | {name: atis(events) for name, events in files.items()}
            )

    def entry(self, mirror=None):
        files = []
        for name, content in self.archives.items():
            urls = (mirror.url(f"/{name}"),) if mirror else ("http://127.0.0.1:9/file_downloaded",)
            files.append(RemoteFile(name, None, None, urls, hashlib.md5(content).hexdigest()))
        return dataclasses.replace(NMNIST, n_train=23, n_test=11, files=tuple(files))

    def converted(self):
        """Path of the converted file, made without a network, and its entry."""
        entry = self.entry()
        paths = [self.put(name, content) for name, content in self.archives.items()]
        path = self.folder / "nmnist.npz"
        convert_nmnist(paths, path, entry, progress=False)
        return path, entry

    def assertHoldsEvents(self, dataset, modulus=2312):
        for part, received in (("Train", dataset.train), ("Test", dataset.test)):
            expected = self.recordings[part]
            self.assertEqual(received.labels.tolist(), [label for label, _ in expected])
            for i, (_, events) in enumerate(expected):
                span = slice(received.offsets[i], received.offsets[i + 1])
                self.assertEqual(received.times[span].tolist(), [t / 1e6 for *_, t in events])
                self.assertEqual(received.units[span].tolist(), [(x + 34 * y + 1156 * p) % modulus for x, y, p, _ in events])


class TestNmnist(NmnistCase):
    def test_convert_and_load(self):
        path, entry = self.converted()
        dataset = load_nmnist(path, entry=entry)
        self.assertHoldsEvents(dataset)
        self.assertEqual((dataset.name, dataset.n_units, dataset.n_classes, dataset.notice), ("nmnist", 2312, 10, ""))
        self.assertEqual((dataset.is_subset, dataset.source, dataset.n_dropped), (False, path, 0))
        merged = load_nmnist(self.folder, merge_polarities=True, entry=entry)
        self.assertHoldsEvents(merged, 1156)
        self.assertEqual(merged.n_units, 1156)
        with np.load(path) as file:
            types = [file[f"train_{name}"].dtype for name in ("times", "units", "offsets", "labels")]
        self.assertEqual(types, [np.int32, np.uint16, np.int64, np.uint8])
        self.assertIn("not made from the published archives", load_nmnist(path).notice)
        self.assertTrue(load_nmnist(path).is_subset)

    def test_download_converts_once_and_removes_its_archives(self):
        with Mirror({f"/{name}": content for name, content in self.archives.items()}) as mirror:
            entry, out = self.entry(mirror), self.folder / "out"
            path = download_nmnist(out, progress=False, entry=entry)
            self.assertEqual(len(mirror.requests), 2)
            download_nmnist(out, progress=False, entry=entry)
            self.assertEqual(len(mirror.requests), 2)
            self.assertHoldsEvents(load_nmnist(out, entry=entry))
            self.assertEqual((path, list((out / "raw" / "nmnist").iterdir())), (out / "nmnist.npz", []))
            before = path.read_bytes()
            download_nmnist(out, force=True, progress=False, entry=entry)
            self.assertEqual((len(mirror.requests), path.read_bytes()), (4, before))

    def test_archives_put_there_by_hand_stay(self):
        for name, content in self.archives.items():
            self.put(f"raw/nmnist/{name}", content)
        download_nmnist(self.folder, progress=False, entry=self.entry())
        self.assertEqual(sorted(path.name for path in (self.folder / "raw/nmnist").iterdir()), ["Test.zip", "Train.zip"])

    def test_wrong_checksum_and_no_mirror(self):
        with Mirror({"/Train.zip": self.archives["Train.zip"] + b"x"}) as mirror:
            with self.assertRaisesRegex(DownloadError, "N-MNIST could not be downloaded") as caught:
                download_nmnist(self.folder / "out", progress=False, entry=self.entry(mirror))
        self.assertRegex(str(caught.exception), "wrong checksum: expected md5 [0-9a-f]{32}, received")
        with self.assertRaises(DownloadError) as caught:
            download_nmnist(self.folder / "out", progress=False, entry=self.entry())
        for text in ("as Train.zip, md5", str(self.folder / "out" / "raw" / "nmnist"), "and repeat the command"):
            self.assertIn(text, str(caught.exception))

    def test_a_failed_conversion_leaves_nothing(self):
        bad = archive({"Train/3/1.bin": atis([(1, 1, 0, 1)]), "Train/3/2.bin": bytes(7)})
        cases = (
            (bad, r"Train.zip: Train/3/2.bin: truncated: expected 5 bytes per event, received 7"),
            (archive({"Train/x/1.bin": b"", "Train/3/1.dat": b""}), "expected files <digit>/<number>.bin"),
            (self.archives["Train.zip"][:-30], "complete .zip archive, received a damaged"),
            (b"<html>", "complete .zip archive"),
        )
        test = self.put("Test.zip", self.archives["Test.zip"])
        for content, message in cases:
            train = self.put("Train.zip", content)
            with self.assertRaisesRegex(ValueError, message):
                convert_nmnist([train, test], self.folder / "out.npz", self.entry(), progress=False)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir() if "npz" in path.name), [])

    def test_out_of_order_is_told(self):
        self.archives["Test.zip"] = archive({"Test/0/1.bin": atis([(0, 0, 0, 5), (1, 0, 0, 2)])})
        path, entry = self.converted()
        self.assertIn("1 events stood out of order", load_nmnist(path, entry=entry).notice)
        self.assertIn("1 events stood out of order", self.screen.getvalue())

    def test_damaged_converted_files(self):
        path, entry = self.converted()
        whole = path.read_bytes()
        with np.load(path) as file:
            arrays = dict(file)

        def check(message, **changes):
            np.savez(path, **{key: array for key, array in (arrays | changes).items() if array is not None})
            with self.assertRaisesRegex((ValueError, TypeError), message) as caught:
                load_nmnist(path, entry=entry)
            self.assertIn(str(path), str(caught.exception))

        check("missing test_units", test_units=None)
        check("train times: expected integers, received float64", train_times=arrays["train_times"] / 1.0)
        check("train units: expected values 0..2311, received .*2312", train_units=np.full_like(arrays["train_units"], 2312))
        check("train times: expected ascending times", train_times=arrays["train_times"][::-1])
        check("test labels: expected values 0..9, received .*10", test_labels=arrays["test_labels"] + 1)
        check("test units: expected one per event", test_units=arrays["test_units"][1:])
        check("test offsets: expected", test_offsets=arrays["test_offsets"] - 1)
        path.write_bytes(whole[: len(whole) // 2])
        with self.assertRaisesRegex(ValueError, "damaged or different file"):
            load_nmnist(path, entry=entry)
        with mock.patch.dict(os.environ, {"BATS_DATA": str(self.folder)}):
            with self.assertRaisesRegex(ValueError, "damaged.*get it again with: .*get nmnist --force"):
                load_nmnist(entry=entry)

    def test_nothing_there_names_the_command(self):
        with self.assertRaisesRegex(FileNotFoundError, "N-MNIST: no nmnist.npz in .*Get it with: python -m bats get nmnist"):
            load_nmnist()
        with self.assertRaisesRegex(FileNotFoundError, "get nmnist"):
            load_nmnist(self.folder / "nothing.npz")

    def test_command(self):
        out, err = io.StringIO(), io.StringIO()
        with Mirror({f"/{name}": content for name, content in self.archives.items()}) as mirror:
            with (
                mock.patch.dict("bats.data.EVENT_DATASETS", {"nmnist": self.entry(mirror)}),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                arguments = ["get", "nmnist", "--out", str(self.folder / "o"), "--quiet"]
                self.assertEqual(command_line.main(arguments), 0, err.getvalue())
                (self.folder / "o" / "nmnist.npz").write_bytes(b"damaged")
                self.assertEqual(command_line.main(arguments), 1)
        for text in ("23 training and 11 test recordings", "2312 units", f"BATS_DATA={self.folder / 'o'}"):
            self.assertIn(text, out.getvalue())
        self.assertIn("--force gets it again", err.getvalue())
