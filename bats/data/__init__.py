"""Data sets: finding, downloading and reading them, and tasks generated on the fly."""

from bats.data.catalogue import IMAGE_DATASETS, ImageDatasetEntry, RemoteFile
from bats.data.download import DownloadError, fetch, sha256_of
from bats.data.embedded import embedded_images
from bats.data.emnist import load_emnist
from bats.data.event_catalogue import EVENT_DATASETS, EventDatasetEntry
from bats.data.events import EventDataset, Events, check_events
from bats.data.fashion_mnist import load_fashion_mnist
from bats.data.idx import read_idx
from bats.data.images import ImageDataset, find_images, read_images
from bats.data.load import download_images, load_images
from bats.data.locate import cache_folder, download_folder, locate, search_folders
from bats.data.mnist import load_mnist
from bats.data.nmnist import convert_nmnist, download_nmnist, load_nmnist
from bats.data.npz import read_npz
from bats.data.own_images import load_image_data, load_npz_images
from bats.data.shd import download_shd, load_shd
from bats.data.yin_yang import yin_yang, yin_yang_class, yin_yang_points

__all__ = [
    "EVENT_DATASETS",
    "IMAGE_DATASETS",
    "DownloadError",
    "EventDataset",
    "EventDatasetEntry",
    "Events",
    "ImageDataset",
    "ImageDatasetEntry",
    "RemoteFile",
    "cache_folder",
    "check_events",
    "convert_nmnist",
    "download_folder",
    "download_images",
    "download_nmnist",
    "download_shd",
    "embedded_images",
    "fetch",
    "find_images",
    "load_emnist",
    "load_fashion_mnist",
    "load_image_data",
    "load_images",
    "load_mnist",
    "load_nmnist",
    "load_npz_images",
    "load_shd",
    "locate",
    "read_idx",
    "read_images",
    "read_npz",
    "search_folders",
    "sha256_of",
    "yin_yang",
    "yin_yang_class",
    "yin_yang_points",
]
