"""bats.data.locate: the places, their order, and what the environment says about them."""

import os
from pathlib import Path
from unittest import mock

from bats.data import cache_folder, download_folder, locate, search_folders
from bats.data import locate as function
from bats.data.locate import checkout_folder
from tests.data.case import DataCase


class TestLocate(DataCase):
    def test_order_environment_checkout_cache(self):
        first, second, checkout = self.folder / "a", self.folder / "b", self.folder / "c"
        with (
            mock.patch.dict(os.environ, {"BATS_DATA": f"{first}{os.pathsep}{second}{os.pathsep}"}),
            mock.patch("bats.data.locate.checkout_folder", lambda: checkout),
        ):
            folders = search_folders()
            self.assertEqual(folders, [first, second, checkout, self.folder / "cache-home" / "bats"])
            for folder in reversed(folders):
                folder.mkdir(parents=True)
                (folder / "f").touch()
                self.assertEqual(locate("f"), (folder / "f", folders))

    def test_nothing_found_says_where_it_looked(self):
        self.assertEqual(locate("f", "g"), (None, [self.folder / "cache-home" / "bats"]))

    def test_names_are_tried_in_order_and_folders_are_no_files(self):
        (self.folder / "f").mkdir()
        self.put("g", b"")
        self.assertEqual(locate("f", "g", folders=[self.folder])[0], self.folder / "g")
        with self.assertRaisesRegex(ValueError, "at least one file name"):
            locate()

    def test_this_checkout_has_a_datasets_folder(self):
        root = Path(__file__).resolve().parents[2]
        with mock.patch("bats.data.locate.checkout_folder", checkout_folder):
            self.assertIn(root / "datasets", search_folders())
        self.assertIs(function, locate)

    def test_cache_folder_by_platform(self):
        home = {"HOME": str(self.folder), "XDG_CACHE_HOME": "", "LOCALAPPDATA": str(self.folder / "local")}
        with mock.patch.dict(os.environ, home):
            for platform, expected in (
                ("linux", self.folder / ".cache" / "bats"),
                ("darwin", self.folder / "Library" / "Caches" / "bats"),
                ("win32", self.folder / "local" / "bats" / "Cache"),
            ):
                with mock.patch("bats.data.locate.sys.platform", platform):
                    self.assertEqual(cache_folder(), expected)
            with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": "relative/is/ignored"}):
                self.assertEqual(cache_folder(), self.folder / ".cache" / "bats")

    def test_download_goes_to_the_first_folder_that_can_be_written(self):
        blocked = self.put("blocked", b"a file where a folder should be")
        blocked.chmod(0o755)
        good = self.folder / "new" / "folder"
        with mock.patch.dict(os.environ, {"BATS_DATA": f"{blocked}{os.pathsep}{good}"}):
            self.assertEqual(download_folder(), good)
        self.assertFalse(good.exists())
