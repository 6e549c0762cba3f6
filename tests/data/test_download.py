"""bats.data.download against a server on this machine: every way a download is known to go wrong."""

import builtins
import contextlib
import errno
import hashlib
import io
import os
import stat
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from bats.data import DownloadError, fetch
from bats.data import download as download_module
from tests.data.mirror import Mirror, closed_port_url

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class DownloadCase(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.folder / "file.bin"
        self.part = self.folder / "file.bin.part"
        self.enterContext(mock.patch.object(download_module, "PAUSE_SECONDS", 0.001))
        self.enterContext(mock.patch.dict(os.environ, {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}))

    if not hasattr(unittest.TestCase, "enterContext"):  # Python 3.10

        def enterContext(self, manager):
            value = manager.__enter__()
            self.addCleanup(manager.__exit__, None, None, None)
            return value

    def mirror(self, content=CONTENT, **behaviour):
        return self.enterContext(Mirror({"/file": content}, **behaviour))

    def fetch(self, *urls, **options):
        return fetch(urls, self.file, SHA256, len(CONTENT), progress=False, **options)

    def assertComplete(self):
        self.assertEqual(self.file.read_bytes(), CONTENT)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["file.bin"])


class TestGoodMirror(DownloadCase):
    def test_plain(self):
        mirror = self.mirror()
        self.assertEqual(self.fetch(mirror.url("/file")), self.file)
        self.assertComplete()
        self.assertEqual(mirror.requests, [("/file", None)])

    def test_new_folder_and_unknown_size(self):
        mirror = self.mirror()
        path = fetch(mirror.url("/file"), self.folder / "a" / "b" / "f", SHA256.upper(), progress=False)
        self.assertEqual(path.read_bytes(), CONTENT)

    def test_existing_file_is_not_downloaded_again_unless_forced(self):
        mirror = self.mirror()
        self.file.write_bytes(CONTENT)
        self.fetch(mirror.url("/file"))
        self.assertEqual(mirror.requests, [])
        self.fetch(mirror.url("/file"), force=True)
        self.assertEqual(len(mirror.requests), 1)
        self.assertComplete()

    def test_existing_file_with_another_content_is_replaced(self):
        self.file.write_bytes(b"damaged")
        self.fetch(self.mirror().url("/file"))
        self.assertComplete()

    def test_progress_bar_counts_the_bytes(self):
        mirror, screen = self.mirror(), io.StringIO()
        with contextlib.redirect_stderr(screen):
            fetch(mirror.url("/file"), self.file, SHA256, len(CONTENT))
        self.assertIn("100%", screen.getvalue())
        self.assertIn("file.bin", screen.getvalue())


class TestResume(DownloadCase):
    def test_resume(self):
        mirror = self.mirror()
        self.part.write_bytes(CONTENT[:1000])
        self.fetch(mirror.url("/file"))
        self.assertComplete()
        self.assertEqual(mirror.requests, [("/file", "bytes=1000-")])

    def test_server_that_ignores_range(self):
        mirror = self.mirror(ignore_range=True)
        self.part.write_bytes(CONTENT[:1000])
        self.fetch(mirror.url("/file"))
        self.assertComplete()
        self.assertEqual(mirror.requests, [("/file", "bytes=1000-")])

    def test_server_that_answers_another_range(self):
        mirror = self.mirror(shifted=True)
        self.part.write_bytes(CONTENT[:1000])
        self.fetch(mirror.url("/file"))
        self.assertComplete()
        self.assertEqual(mirror.requests, [("/file", "bytes=1000-"), ("/file", None)])

    def test_another_range_is_refused_and_not_written(self):
        mirror = self.mirror(shifted=True)
        self.part.write_bytes(CONTENT[:1000])
        with (
            mock.patch.object(download_module, "ATTEMPTS", 1),
            self.assertRaisesRegex(DownloadError, "asked for the bytes from 1000, received 'bytes 999-"),
        ):
            self.fetch(mirror.url("/file"))

    def test_interrupted_transfer_of_unannounced_length(self):
        mirror = self.mirror(cut={"/file": 300_000}, no_length=True)
        self.fetch(mirror.url("/file"))
        self.assertComplete()
        self.assertEqual(mirror.requests, [("/file", None), ("/file", "bytes=300000-")])

    def test_garbage_part(self):
        mirror = self.mirror()
        self.part.write_bytes(b"garbage")
        self.fetch(mirror.url("/file"))
        self.assertComplete()
        self.assertEqual(mirror.requests, [("/file", "bytes=7-"), ("/file", None)])

    def test_part_longer_than_the_file(self):
        mirror = self.mirror()
        self.part.write_bytes(CONTENT + b"more")
        self.fetch(mirror.url("/file"))
        self.assertComplete()

    def test_part_longer_than_the_file_of_unknown_size(self):
        mirror = self.mirror()
        self.part.write_bytes(CONTENT + b"more")
        fetch(mirror.url("/file"), self.file, SHA256, progress=False)
        self.assertComplete()

    def test_complete_part_needs_no_request(self):
        mirror = self.mirror()
        self.part.write_bytes(CONTENT)
        self.fetch(mirror.url("/file"))
        self.assertComplete()
        self.assertEqual(mirror.requests, [])

    def test_complete_part_of_unknown_size(self):
        mirror = self.mirror()
        self.part.write_bytes(CONTENT)
        fetch(mirror.url("/file"), self.file, SHA256, progress=False)
        self.assertComplete()
        self.assertEqual(mirror.requests, [("/file", f"bytes={len(CONTENT)}-")])

    def test_interrupted_transfer_goes_on_where_it_stopped(self):
        mirror = self.mirror(cut={"/file": 300_000})
        self.fetch(mirror.url("/file"))
        self.assertComplete()
        self.assertEqual(mirror.requests[0], ("/file", None))
        self.assertRegex(mirror.requests[1][1], r"^bytes=[1-9]\d*-$")

    def test_interrupted_transfer_goes_on_at_another_mirror_and_call(self):
        broken = self.mirror(status={"/file": [500, 500, 500]})
        with mock.patch.object(download_module, "ATTEMPTS", 1):
            cut = self.mirror(cut={"/file": 300_000})
            with self.assertRaises(DownloadError) as caught:
                self.fetch(cut.url("/file"), broken.url("/file"))
        self.assertIn("broke off", str(caught.exception))
        self.assertFalse(self.file.exists())
        kept = self.part.stat().st_size
        self.assertGreater(kept, 0)
        mirror = self.mirror()
        self.fetch(mirror.url("/file"))
        self.assertEqual(mirror.requests, [("/file", f"bytes={kept}-")])
        self.assertComplete()

    def test_keyboard_interrupt_keeps_the_part(self):
        mirror = self.mirror()
        with (
            mock.patch("bats.data.transfer._blocks", lambda response: _then_interrupt(CONTENT[:5000])),
            self.assertRaises(KeyboardInterrupt),
        ):
            self.fetch(mirror.url("/file"))
        self.assertEqual(self.part.read_bytes(), CONTENT[:5000])
        self.assertFalse(self.file.exists())


class TestBadMirror(DownloadCase):
    def test_wrong_checksum_then_good_mirror(self):
        wrong, good = self.mirror(b"x" * len(CONTENT)), self.mirror()
        self.fetch(wrong.url("/file"), good.url("/file"))
        self.assertComplete()
        self.assertEqual((len(wrong.requests), good.requests), (1, [("/file", None)]))

    def test_wrong_size_is_not_even_read(self):
        page = self.mirror(b"<html>please log in</html>")
        with self.assertRaisesRegex(DownloadError, f"expected a file of {len(CONTENT)} bytes, there it has 26"):
            self.fetch(page.url("/file"))
        self.assertFalse(self.part.exists())

    def test_server_error_is_tried_again(self):
        mirror = self.mirror(status={"/file": [503, 503]})
        self.fetch(mirror.url("/file"))
        self.assertEqual(len(mirror.requests), 3)
        self.assertComplete()

    def test_every_mirror_fails_and_each_reason_is_given(self):
        wrong, absent = self.mirror(b"x" * len(CONTENT)), self.mirror(status={"/file": [404]})
        closed = closed_port_url()
        start = time.perf_counter()
        with self.assertRaises(DownloadError) as caught:
            self.fetch(wrong.url("/file"), absent.url("/file"), closed)
        self.assertLess(time.perf_counter() - start, 5)
        error = caught.exception
        self.assertEqual([url for url, _ in error.reasons], [wrong.url("/file"), absent.url("/file"), closed])
        for text in ("wrong checksum", "HTTP 404", "no connection", SHA256, str(self.folder), "BATS_DATA"):
            self.assertIn(text, str(error))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_existing_file_survives_a_failed_forced_download(self):
        self.file.write_bytes(CONTENT)
        with self.assertRaises(DownloadError):
            self.fetch(closed_port_url(), force=True)
        self.assertComplete()

    def test_silent_host_fails_fast_and_is_asked_once(self):
        unreachable = set()
        with (
            mock.patch.object(download_module, "CONNECT_SECONDS", 0.1),
            mock.patch.object(download_module.socket, "create_connection", side_effect=_hang),
        ):
            for limit in (0.5, 0.05):  # the second time it is not asked at all
                start = time.perf_counter()
                with self.assertRaises(DownloadError):
                    self.fetch("http://127.0.0.1:9/file", unreachable=unreachable)
                self.assertLess(time.perf_counter() - start, limit)
        self.assertEqual(unreachable, {"127.0.0.1:9"})

    def test_bad_arguments(self):
        with self.assertRaisesRegex(ValueError, "at least one URL"):
            fetch([], self.file, SHA256)
        with self.assertRaisesRegex(ValueError, "64 hexadecimal digits, received 'abc'"):
            fetch(["http://127.0.0.1/"], self.file, "abc")


class TestDisk(DownloadCase):
    def test_disk_full_keeps_the_part_and_the_next_call_goes_on(self):
        mirror = self.mirror()
        with (
            mock.patch("bats.data.transfer.open", _open_on_a_full_disk(400_000), create=True),
            self.assertRaises(OSError) as caught,
        ):
            self.fetch(mirror.url("/file"))
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        self.assertNotIsInstance(caught.exception, DownloadError)
        for text in (str(self.part), "No space left", "free some space"):
            self.assertIn(text, str(caught.exception))
        self.assertFalse(self.file.exists())
        kept = self.part.stat().st_size
        self.assertGreater(kept, 0)
        self.fetch(mirror.url("/file"))
        self.assertEqual(mirror.requests[-1], ("/file", f"bytes={kept}-"))
        self.assertComplete()

    def test_full_disk_does_not_blame_the_mirrors(self):
        first, second = self.mirror(), self.mirror()
        with mock.patch("bats.data.transfer.open", _open_on_a_full_disk(0), create=True), self.assertRaises(OSError):
            self.fetch(first.url("/file"), second.url("/file"))
        self.assertEqual((len(first.requests), second.requests), (1, []))

    def test_read_only_folder(self):
        mirror = self.mirror()
        refused = PermissionError(errno.EACCES, "Permission denied")
        with (
            mock.patch("bats.data.transfer.open", mock.Mock(side_effect=refused), create=True),
            self.assertRaises(PermissionError) as caught,
        ):
            self.fetch(mirror.url("/file"))
        self.assertIn(f"cannot write {self.part}: Permission denied", str(caught.exception))
        self.assertEqual(list(self.folder.iterdir()), [])

    @unittest.skipIf(not hasattr(os, "geteuid") or os.geteuid() == 0, "the superuser may write everywhere")
    def test_read_only_folder_for_real(self):
        self.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        self.addCleanup(self.folder.chmod, stat.S_IRWXU)
        with self.assertRaisesRegex(PermissionError, "cannot write"):
            self.fetch(self.mirror().url("/file"))

    def test_folder_that_cannot_be_made(self):
        self.file.write_bytes(b"a file, not a folder")
        with self.assertRaisesRegex(OSError, "cannot create the folder .*file.bin"):
            fetch(self.mirror().url("/file"), self.file / "below" / "f", SHA256, progress=False)


def _then_interrupt(block):
    yield block
    raise KeyboardInterrupt


def _hang(*arguments, **options):
    time.sleep(1)
    raise OSError("too late")


def _open_on_a_full_disk(room):
    """An open() whose files take `room` bytes and then no more."""

    class Full(io.FileIO):
        def write(self, block):
            if self.tell() + len(block) > room:
                super().write(block[: max(0, room - self.tell())])
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(block)

    return lambda path, mode="r": Full(path, mode.replace("b", "")) if mode != "rb" else builtins.open(path, mode)


if __name__ == "__main__":
    unittest.main()
