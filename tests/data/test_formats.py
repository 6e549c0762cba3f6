"""IDX and .npz files, intact and damaged in every way: the message names the file, what was expected and what came."""

import gzip

import numpy as np

from bats.data import read_idx, read_npz
from bats.data.npz import check_images
from tests.data.case import DataCase, idx_bytes, small_arrays


class TestIdx(DataCase):
    def setUp(self):
        super().setUp()
        self.images = small_arrays()["x_train"]

    def test_read_compressed_and_plain(self):
        for name, compress in (("images.gz", True), ("images", False)):
            received = read_idx(self.put(name, idx_bytes(self.images, compress)), ndim=3)
            self.assertEqual(received.dtype, np.uint8)
            np.testing.assert_array_equal(received, self.images)
            self.assertTrue(received.flags.writeable)

    def check(self, content, message, name="f.gz", **options):
        path = self.put(name, content)
        with self.assertRaisesRegex(ValueError, message) as caught:
            read_idx(path, **options)
        self.assertIn(str(path), str(caught.exception))

    def test_damaged(self):
        plain, whole = idx_bytes(self.images, compress=False), idx_bytes(self.images)
        self.check(whole[:-40], "truncated or damaged")
        self.check(whole[:200] + b"\x00" + whole[201:], "truncated or damaged")
        self.check(whole[:-8] + b"\x00" * 8, "truncated or damaged")  # its checksum
        self.check(b"<html>", "expected gzip data .*received 3c 68 74 6d")
        self.check(b"", "expected gzip data .*received nothing")
        self.check(gzip.compress(b"\x00\x00"), "header of at least 4 bytes, received 2")
        self.check(gzip.compress(b"\x00\x00\x0d\x03" + plain[4:]), "unsigned bytes .*received 00 00 0d 03")
        self.check(gzip.compress(b"\x08\x00\x08\x03" + plain[4:]), "received 08 00 08 03")
        self.check(gzip.compress(plain[:10]), "header of 16 bytes, the file ends after 10")
        self.check(gzip.compress(plain[:-1]), r"truncated: expected 600 bytes for the shape \[30, 4, 5\], received 599")
        self.check(gzip.compress(plain + b"\x00"), "too long: expected 600 .*received 601")
        self.check(whole, r"expected 1 dimension\(s\), received 3", ndim=1)

    def test_missing(self):
        with self.assertRaises(FileNotFoundError):
            read_idx(self.folder / "nothing.gz")


class TestNpz(DataCase):
    def check(self, content, *messages):
        path = self.put("f.npz", content)
        with self.assertRaises(ValueError) as caught:
            read_npz(path)
        for message in (str(path), *messages):
            self.assertIn(message, str(caught.exception))

    def test_read(self):
        arrays = small_arrays()
        received = read_npz(self.put("f.npz", self.npz_bytes(arrays | {"more": np.arange(3)})))
        self.assertEqual(set(received), set(arrays))
        for key, array in arrays.items():
            np.testing.assert_array_equal(received[key], array)

    def test_damaged(self):
        whole = self.npz_bytes(small_arrays())
        self.check(whole[:-100], "damaged or different file")
        self.check(b"", "damaged or different file")
        self.check(b"<html>not a data set</html>", "damaged or different file")
        middle = whole.index(b"x_test.npy") + 200
        self.check(whole[:middle] + bytes(40) + whole[middle + 40 :], "'x_test'", "damaged")

    def test_wrong_content(self):
        arrays = small_arrays()
        arrays.pop("y_test"), arrays.pop("x_test")
        self.check(self.npz_bytes(arrays), "missing x_test, y_test", "present x_train, y_train")
        self.check(self.npz_bytes(small_arrays() | {"y_test": np.array([{}], object)}), "'y_test'")
        path = self.folder / "single.npy"
        np.save(path, np.zeros((2, 3)))
        self.check(path.read_bytes(), "a single array [2, 3]")

    def test_missing(self):
        with self.assertRaises(FileNotFoundError):
            read_npz(self.folder / "nothing.npz")


class TestCheckImages(DataCase):
    def setUp(self):
        super().setUp()
        arrays = small_arrays()
        self.images, self.labels = arrays["x_train"], arrays["y_train"]

    def check(self, kind, message, images=None, labels=None, **options):
        images, labels = self.images if images is None else images, self.labels if labels is None else labels
        with self.assertRaisesRegex(kind, message):
            check_images(images, labels, 10, ("f: x", "f: y"), **options)

    def test_other_integer_types_are_taken_when_the_values_fit(self):
        images, labels = check_images(
            self.images[..., None].astype(np.int64), self.labels.astype(np.int64), 10, ("x", "y")
        )
        np.testing.assert_array_equal(images, self.images)
        self.assertEqual((images.dtype, labels.dtype), (np.uint8, np.int32))

    def test_what_does_not_fit(self):
        self.check(
            ValueError,
            r"f: x: expected images \[n, height, width\], received the shape \[30, 20\]",
            self.images.reshape(30, 20),
        )
        self.check(
            ValueError, r"f: x: .*at least one image, received the shape \[0, 4, 5\]", self.images[:0], self.labels[:0]
        )
        self.check(ValueError, r"f: x: expected images of \[28, 28\] pixels, received \[4, 5\]", shape=(28, 28))
        self.check(TypeError, "f: x: expected integers .*received float64", self.images / 255)
        self.check(ValueError, r"f: x: expected values 0..255, received 0..300", np.where(self.images == 7, 300, 0))
        self.check(
            ValueError, r"f: y: expected one label per image, \[30\], received the shape \[29\]", labels=self.labels[1:]
        )
        self.check(TypeError, "f: y: expected integers 0..9, received float32", labels=self.labels.astype(np.float32))
        self.check(ValueError, r"f: y: expected values 0..9, received 0..10", labels=np.arange(30) % 11)
        self.check(ValueError, r"f: y: expected values 0..9, received -1..8", labels=np.arange(30) % 10 - 1)
