"""Filter banks in front of a spiking network: differences of Gaussians and Gabor filters."""

import dataclasses

import numpy as np


def difference_of_gaussians(size, sigma_1, sigma_2):
    """float64 [size, size]: a Gaussian of width sigma_1 (pixels) minus one of sigma_2, without its mean, largest value 1.

    sigma_1 < sigma_2 answers to a bright centre (ON), sigma_1 > sigma_2 to a dark one (OFF). size is odd.
    """
    squares = _offsets(size) ** 2
    squares = squares[:, None] + squares[None, :]
    kernel = (_gaussian(squares, sigma_1) - _gaussian(squares, sigma_2)) / (2 * np.pi)
    return _normalized(kernel)


def gabor(size, degrees, div=4):
    """float64 [size, size]: Gabor filter of wavelength 2 size / div pixels whose stripes lie at an angle, mean 0, largest value 1."""
    wavelength, theta = 2 * size / div, np.deg2rad(degrees)
    sigma, gamma = 0.8 * wavelength, 0.3
    rows, columns = np.meshgrid(_offsets(size), _offsets(size), indexing="ij")
    across = columns * np.sin(theta) + rows * np.cos(theta)
    along = columns * np.cos(theta) - rows * np.sin(theta)
    envelope = np.exp(-(across**2 + gamma**2 * along**2) / (2 * sigma**2))
    return _normalized(envelope * np.cos(2 * np.pi * across / wavelength))


def _offsets(size):
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size: expected an odd number of pixels, received {size}")
    return np.arange(size) - size // 2


def _gaussian(squares, sigma):
    return np.exp(-squares / (2 * sigma**2)) / sigma**2


def _normalized(kernel):
    kernel = kernel - kernel.mean()
    return kernel / kernel.max()


@dataclasses.dataclass(frozen=True)
class FilterBank:
    """Square kernels of odd sizes, applied to the same image and centred on each other.

    padding: zeros around the image, in pixels; threshold: a response below it becomes 0 (a number, or one per kernel);
    absolute: whether the sign of what remains is dropped.
    """

    kernels: tuple
    padding: int
    threshold: float | tuple
    absolute: bool = False

    def __post_init__(self):
        if not self.kernels:
            raise ValueError("kernels: expected at least one, received none")
        for kernel in self.kernels:
            if np.ndim(kernel) != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
                raise ValueError(f"kernels: expected square ones of odd size, received shape {np.shape(kernel)}")
        if np.ndim(self.threshold) and len(self.threshold) != len(self.kernels):
            raise ValueError(f"threshold: expected one number or {len(self.kernels)}, received {len(self.threshold)}")

    def __len__(self):
        return len(self.kernels)

    @property
    def window(self):
        """Size of the largest kernel, in pixels."""
        return max(kernel.shape[0] for kernel in self.kernels)

    def output_shape(self, height, width):
        """(kernels, rows, columns) of the responses to an image."""
        grow = 2 * self.padding - self.window + 1
        if min(height, width) + grow < 1:
            raise ValueError(f"image: expected at least {1 - grow} pixels a side, received {height} x {width}")
        return len(self), height + grow, width + grow

    def arrays(self):
        """kernels float32 [K, window, window] (each in the corner), sizes int32 [K], thresholds float32 [K]."""
        kernels = np.zeros((len(self), self.window, self.window), dtype=np.float32)
        for k, kernel in enumerate(self.kernels):
            kernels[k, : kernel.shape[0], : kernel.shape[1]] = kernel
        sizes = np.array([kernel.shape[0] for kernel in self.kernels], dtype=np.int32)
        return kernels, sizes, np.broadcast_to(np.float32(self.threshold), len(self)).copy()


def _on_off(*sizes):
    pairs = (((size, size / 9, 2 * size / 9), (size, 2 * size / 9, size / 9)) for size in sizes)
    return tuple(difference_of_gaussians(*arguments) for pair in pairs for arguments in pair)


MNIST_BANK = FilterBank(_on_off(3, 7, 13), padding=6, threshold=50.0)
"""ON and OFF differences of Gaussians at three scales (Mozafari et al. 2019), for pixels 0..255."""
