"""A convolutional layer that learns by STDP, without labels."""

from bats.stdp import ops
from bats.stdp.layer import OnlineLayer
from bats.stdp.rule import Rule


class STDPConvolution(OnlineLayer):
    """Convolution of non-leaky neurons that fire at most once (Kheradpisheh et al. 2018, Mozafari et al. 2019).

    n_inputs, n_features: channels in and out; kernel: pixels, one number or two; threshold of the potential, crossed strictly.
    winners: how many neurons learn from an image, at most one per feature, and further than `radius` apart (0: anywhere).
    rates: (LTP > 0, LTD < 0) added to the weights, times (w - lower)(upper - w) with the stabilizer; every `doubling` images
    LTP doubles, up to max_rate, and LTD becomes -0.75 LTP (None: never). rule: "exact" order of winners, or the
    float32-"rounded" score of earlier implementations. Weights start as N(mean, std).
    Raises ValueError for values outside their ranges.
    """

    def __init__(
        self, n_inputs, n_features, kernel, threshold, *, n_bins=15, winners=1, radius=0, rates=(0.004, -0.003), stabilizer=True,
        bounds=(0.0, 1.0), doubling=500, max_rate=0.15, mean=0.8, std=0.05, rule="exact", device="auto", seed=None,
    ):  # fmt: skip
        settings = Rule(threshold, n_bins, winners, radius, rule, stabilizer, tuple(bounds), doubling or 0, max_rate)
        super().__init__(n_inputs, n_features, kernel, settings, (rates, rates), mean, std, device, seed)

    @property
    def rates(self):
        """(LTP, LTD) now; may be set."""
        return float(self.pairs[0, 0]), float(self.pairs[0, 1])

    @rates.setter
    def rates(self, values):
        self.pairs[0] = values

    def forward(self, latencies, batch=1000, inhibition=False):
        """Latencies uint8 [n, C, H, W] (padded) -> [n, F, Ho, Wo]; batch: images at a time; inhibition: point-wise, as in training."""
        out = self.xp.empty((len(latencies), *self.output_shape(*latencies.shape[2:])), dtype="uint8")
        for start in range(0, len(latencies), batch):
            fired, potentials = self.convolve(latencies[start : start + batch])
            if inhibition:
                fired, _ = ops.inhibit(fired, potentials, self.rule.n_bins)
            out[start : start + batch] = fired
        return out

    def learn(self, latencies, order=None, progress=None):
        """Online STDP over the images in the given order; winners int32 [n, k, 3] (feature, row, column; -1: none).

        For each image: forward, rates (doubled when due), point-wise inhibition, winners, update of their weights, clamp.
        progress: called with the number of images done after each part.
        """
        return self.run(latencies, order, None, progress)
