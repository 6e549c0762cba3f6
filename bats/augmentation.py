"""Sources for training that show every image a little differently in every epoch."""

import numbers

import numpy as np

from bats import ops
from bats.device import array_module, check_dtype, resolve
from bats.layers.base import positive
from bats.sources import LatencyImages, Resident, _encode_images


class ElasticImages(LatencyImages):
    """LatencyImages that are deformed elastically, on the device, anew in every epoch.

    images [n, height, width] uint8; labels [n]; seed: integer from 0 to 2^64 - 1; sigma: pixels by which each corner of an image
    moves in either direction (standard deviation), the rest by interpolation (ops.elastic_deformation); t_max in seconds.
    The deformation of a sample follows from (seed, epoch, index), not from batches or device, so a run can be repeated and
    resumed; the Trainer sets the epoch, counted from 0. For training only: evaluate on LatencyImages.

    Raises TypeError or ValueError for other dtypes, shapes, labels, seeds.
    """

    def __init__(self, images, labels, seed, sigma=1.0, t_max=0.1, n_classes=None):
        images = np.asarray(images)
        if images.ndim != 3:
            raise ValueError(f"images: expected shape [n, height, width], received {images.shape}")
        if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
            raise TypeError(f"seed: expected an integer, received {seed!r}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: expected an integer from 0 to 2^64 - 1, received {seed}")
        self.seed, self.sigma = int(seed), positive("sigma", sigma)
        self.image_shape = images.shape[1:]
        super().__init__(images, labels, t_max, n_classes)

    def subset(self, indices):
        images = self.images[indices].reshape(-1, *self.image_shape)
        return ElasticImages(images, self.labels[indices], self.seed, self.sigma, self.t_max, self.n_classes)

    def to(self, device, dtype):
        """Copy on a device, able to deform and encode batches."""
        return _ResidentElastic(array_module(resolve(device)), check_dtype(dtype), self)


class _ResidentElastic(Resident):
    def __init__(self, xp, dtype, source):
        latencies = source.t_max * (1 - np.arange(256) / 255)
        super().__init__(xp, dtype, source, lambda resident: source._keep(resident, latencies), _encode_images)
        self.image_shape, self.seed, self.sigma = source.image_shape, source.seed, source.sigma
        self._epoch = xp.zeros(1, dtype=np.int64)

    def begin_epoch(self, epoch):
        """From now on, images are deformed as in epoch `epoch` (from 0)."""
        self._epoch.fill(epoch)

    def allocate(self, batch):
        """A place for batches of up to `batch` samples."""
        place = super().allocate(batch)
        place.deformed = self.xp.zeros((batch, *self.image_shape), dtype=np.uint8)
        place.rows = self.xp.arange(batch, dtype=np.int32)
        return place

    def load(self, order, cursor, batch, place):
        """The next `batch` samples of order, deformed -> (their event list, their labels), in the arrays of `place`."""
        indices, labels, deformed = place.indices[:batch], place.labels[:batch], place.deformed[:batch]
        ops.next_batch(order, cursor, self.labels, indices, labels, self.dtype)
        images = self.images.reshape(-1, *self.image_shape)
        ops.elastic_deformation(images, indices, self._epoch, self.seed, self.sigma, deformed, self.dtype)
        events = place.events.first(batch)
        scratch = None if place.scratch is None else place.scratch[:batch]
        ops.encode_latency(deformed.reshape(batch, -1), place.rows[:batch], self.latencies, events, scratch)
        return events, labels
