"""The Yin-Yang task: points of the Yin-Yang symbol as spike times, generated on the fly.

L. Kriener, J. Göltz, M. A. Petrovici, "The Yin-Yang dataset", NICE 2022, doi 10.1145/3517343.3517380 (arXiv
2102.08211). The symbol is a disc of radius r_big around (r_big, r_big). Its two eyes are discs of radius r_small,
half-way between the centre and the rim, to the left and to the right; around each eye lies a disc of radius r_big/2
that belongs to one side whole. The spike times follow Göltz, Kriener et al. 2021 (Fast & Deep).
"""

import numpy as np

R_SMALL, R_BIG = 0.1, 0.5
CLASS_NAMES = ("yin", "yang", "dot")
N_CLASSES, N_INPUTS = 3, 5
_MAX_POINTS = 1 << 20  # candidates drawn at once


def yin_yang_class(x, y, r_small=R_SMALL, r_big=R_BIG):
    """Class of each point of the symbol: 0 yin, 1 yang, 2 dot (the eyes), -1 outside; int32, x and y broadcast.

    x, y are coordinates in [0, 2 r_big]. The numbers are those of the published data: yang (1) is the upper half
    without the disc around the right eye, and the disc around the left eye; points at exactly r_small from an eye's
    centre are not part of the left eye but belong to yang on the right (a set of measure zero, kept for equality with
    the original).
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    right, left = np.hypot(x - 1.5 * r_big, y - r_big), np.hypot(x - 0.5 * r_big, y - r_big)
    eye = (right < r_small) | (left < r_small)
    around_left = (left > r_small) & (left <= 0.5 * r_big)
    upper = (y > r_big) & (right > 0.5 * r_big)
    yang = (right <= r_small) | around_left | upper
    inside = np.hypot(x - r_big, y - r_big) <= r_big
    return np.where(inside, np.where(eye, 2, yang), -1).astype(np.int32)


def yin_yang_points(n_samples, seed, r_small=R_SMALL, r_big=R_BIG):
    """Points of the symbol with balanced classes: (points float64 [n_samples, 2], labels int32 [n_samples]).

    The label of each sample is drawn first, each class with probability 1/3, then a point uniformly from that class (by
    rejection), as in the publication. The same seed gives the same points. Raises ValueError/TypeError for bad
    arguments.
    """
    n_samples = _whole("n_samples", n_samples)
    seed = _whole("seed", seed)
    if not 0 < r_small < 0.5 * r_big:
        raise ValueError(f"yin_yang: expected 0 < r_small < r_big / 2, received r_small {r_small}, r_big {r_big}")
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, N_CLASSES, n_samples, dtype=np.int32)
    points = np.empty((n_samples, 2))
    waiting = [np.flatnonzero(labels == c) for c in range(N_CLASSES)]
    while any(map(len, waiting)):
        # the rarest class, the eyes, has 1/16 of the square at the default radii; the bound keeps memory small
        candidates = generator.random((min(1024 + 16 * n_samples, _MAX_POINTS), 2)) * (2 * r_big)
        classes = yin_yang_class(candidates[:, 0], candidates[:, 1], r_small, r_big)
        for c, places in enumerate(waiting):
            found = np.flatnonzero(classes == c)[: len(places)]
            points[places[: len(found)]] = candidates[found]
            waiting[c] = places[len(found) :]
    return points, labels


def yin_yang(n_samples, seed, t_early=0.15, t_late=2.0, t_bias=0.9):
    """The Yin-Yang task as input spike trains.

    n_samples, seed   how many samples; the same seed gives the same samples.
    t_early, t_late   seconds: the coordinate values 0 and 1 become spikes at these times, those between linearly.
    t_bias            seconds: the spike of the fifth input, the same in every sample.

    The defaults are those of Fast & Deep, whose tau_s is 1: multiply all three by tau_s of the network.

    Returns (times float64 [n_samples, 5, 1], counts int32 [n_samples, 5], all 1, labels int32 [n_samples]: 0 yin, 1
    yang, 2 dot). Inputs: x, y, 1 - x, 1 - y, bias. The published sets have 5000 / 1000 / 1000 samples for training /
    validation / test. Raises ValueError or TypeError naming the argument.
    """
    for name, value in (("t_early", t_early), ("t_late", t_late), ("t_bias", t_bias)):
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"yin_yang: expected a finite {name} >= 0 s, received {value}")
    if t_late <= t_early:
        raise ValueError(f"yin_yang: expected t_early < t_late, received {t_early} and {t_late} s")
    points, labels = yin_yang_points(n_samples, seed)
    times = np.empty((len(labels), N_INPUTS, 1))
    coordinates = np.concatenate([points, 1.0 - points], axis=1)
    times[:, :4, 0] = t_early + coordinates * (t_late - t_early)
    times[:, 4, 0] = t_bias
    return times, np.ones((len(labels), N_INPUTS), np.int32), labels


def _whole(name, value):
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"yin_yang: expected a whole number for {name}, received {value!r}")
    if value < (1 if name == "n_samples" else 0):
        raise ValueError(f"yin_yang: expected {name} >= {1 if name == 'n_samples' else 0}, received {value}")
    return int(value)
