"""Pictures of an evaluation: sparsity and latency."""

import numpy as np

from bats.training.plots import COLOURS, new_figure, save, tidy


def sparsity(gathered, title, path):
    """A row per layer: spikes per sample over the samples, and spikes per sample of the neurons, busiest first."""
    names = gathered.layers
    figure = new_figure(8.4, 0.9 + 1.9 * len(names))
    panels = np.atleast_2d(figure.subplots(len(names), 2))
    for row, name in enumerate(names):
        colour = COLOURS[row % len(COLOURS)]
        spikes, neurons = gathered.per_sample(name), np.sort(gathered.per_neuron(name))[::-1]
        left, right = panels[row]
        left.hist(spikes, bins=min(40, int(np.ptp(spikes)) + 1), color=colour)
        left.axvline(spikes.mean(), color="#333333", linewidth=1, linestyle="--", label=f"mean {spikes.mean():.1f}")
        left.set(xlabel="spikes in a sample", ylabel=f"{name}\nsamples")
        left.legend(frameon=False, fontsize=8)
        marker = "o" if len(neurons) <= 60 else None
        right.plot(np.arange(1, len(neurons) + 1), neurons, color=colour, linewidth=1.6, marker=marker, markersize=3)
        right.set(xlabel="neurons, busiest first", ylabel="spikes per sample", ylim=(0, None))
        silent = int((neurons == 0).sum())
        right.set_title(f"{silent} of {len(neurons)} never fired", loc="right", fontsize=8, color="#555555")
        tidy(left)
        tidy(right)
    figure.suptitle(title, fontsize=11)
    save(figure, path)


def latency(curve, title, path):
    """Accuracy if the answer is read at time t, and the share of samples whose decision is final by then."""
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    final = curve.decision_times
    share = [100 * (final <= time).mean() if len(final) else 0.0 for time in curve.times]
    milliseconds = 1000 * curve.times
    axes.plot(milliseconds, 100 * curve.accuracy, color=COLOURS[0], linewidth=1.8, label="accuracy if read then")
    axes.plot(milliseconds, 100 * curve.answered, color=COLOURS[5], linewidth=1.2, linestyle=":", label="any output spike by then")
    axes.plot(milliseconds, share, color=COLOURS[1], linewidth=1.4, linestyle="--", label="decision final by then")
    spoke = final[np.isfinite(final)]
    if spoke.size:
        axes.axvline(1000 * np.median(spoke), color="#999999", linewidth=1, label=f"median decision {1000 * np.median(spoke):.1f} ms")
    axes.set(title=title, xlabel="time (ms)", ylabel="samples (%)", ylim=(0, 102), xlim=(0, milliseconds[-1]))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    save(figure, path)
