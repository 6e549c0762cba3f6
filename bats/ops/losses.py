"""Losses with their errors, read-outs and running metrics; one launch each (docs/theory.md, section 4).

times, errors [B, K, N], counts [B, N] int32, loss [B].
"""

import numpy as np

from bats import kernels
from bats.cpu import losses as cpu
from bats.device import is_cupy
from bats.ops.arguments import blocks, expect
from bats.ops.launch import run


def _launch(name, dtype, grid, block, arguments):
    kernels.kernel("losses/losses", name, dtype)((grid,), (block,), arguments)


def _expect_output(times, counts, loss, errors):
    batch, n_slots, n_neurons = times.shape
    dtype = times.dtype
    expect("times", times, (None, None, None), dtype)
    expect("counts", counts, (batch, n_neurons), np.int32, times)
    expect("loss", loss, (batch,), dtype, times)
    expect("errors", errors, (batch, n_slots, n_neurons), dtype, times)
    return batch, np.int32(n_neurons), np.int32(n_slots)


def spike_count_loss(times, counts, targets, loss, errors):
    """targets [B, N] floats: wanted spike counts."""
    batch, n_neurons, n_slots = _expect_output(times, counts, loss, errors)
    expect("targets", targets, counts.shape, times.dtype, times)
    if not is_cupy(times):
        cpu.spike_count_loss(counts, targets, loss, errors)
    elif batch:
        _launch("spike_count_loss", times.dtype, batch, 32, (counts, targets, n_neurons, n_slots, loss, errors))


def spike_count_class_loss(times, counts, labels, target_true, target_false, loss, errors):
    """labels [B] int32."""
    batch, n_neurons, n_slots = _expect_output(times, counts, loss, errors)
    expect("labels", labels, (batch,), np.int32, times)
    real = times.dtype.type
    if not is_cupy(times):
        cpu.spike_count_class_loss(counts, labels, real(target_true), real(target_false), loss, errors)
    elif batch:
        _launch(
            "spike_count_class_loss", times.dtype, batch, 32,
            (counts, labels, real(target_true), real(target_false), n_neurons, n_slots, loss, errors),
        )  # fmt: skip


def ttfs_softmax_cross_entropy(times, counts, labels, tau, silent_loss, loss, errors):
    """labels [B] int32, tau seconds."""
    batch, n_neurons, n_slots = _expect_output(times, counts, loss, errors)
    expect("labels", labels, (batch,), np.int32, times)
    real = times.dtype.type
    if not is_cupy(times):
        cpu.ttfs_softmax_cross_entropy(times, counts, labels, real(tau), real(silent_loss), loss, errors)
    elif batch:
        _launch(
            "ttfs_softmax_cross_entropy", times.dtype, batch, 32,
            (times, counts, labels, real(tau), real(silent_loss), n_neurons, n_slots, loss, errors),
        )  # fmt: skip


def spike_time_loss(times, counts, targets, loss, errors):
    """targets [B, N] seconds, inf: no target."""
    batch, n_neurons, n_slots = _expect_output(times, counts, loss, errors)
    expect("targets", targets, counts.shape, times.dtype, times)
    if not is_cupy(times):
        cpu.spike_time_loss(times, counts, targets, loss, errors)
    elif batch:
        _launch("spike_time_loss", times.dtype, batch, 32, (times, counts, targets, n_neurons, n_slots, loss, errors))


def softmax_cross_entropy(logits, counts, labels, loss, errors):
    """-ln softmax(logits)[label] with dL/dlogits; logits, errors [B, 1, N], counts [B, N] (not read), labels [B] int32."""
    batch, n_neurons, _ = _expect_output(logits, counts, loss, errors)
    expect("labels", labels, (batch,), np.int32, logits)
    if not is_cupy(logits):
        cpu.softmax_cross_entropy(logits, labels, loss, errors)
    elif batch:
        _launch("softmax_cross_entropy", logits.dtype, batch, 32, (logits, labels, n_neurons, loss, errors))


def predict(rule, times, counts, predictions):
    """rule: "most_spikes" or "first_spike", or "largest" for logits in the place of times; predictions [B] int32, -1 for a
    sample without any output spike (largest: with nothing but NaN)."""
    batch, n_slots, n_neurons = times.shape
    expect("times", times, (None, None, None), times.dtype)
    expect("counts", counts, (batch, n_neurons), np.int32, times)
    expect("predictions", predictions, (batch,), np.int32, times)
    if rule not in ("most_spikes", "first_spike", "largest"):
        raise ValueError(f'rule: expected "most_spikes", "first_spike" or "largest", received {rule!r}')
    if not is_cupy(times):
        getattr(cpu, rule)(times, counts, predictions)
    elif batch:
        arguments = (times, counts, np.int32(batch), np.int32(n_neurons), np.int32(n_slots), predictions)
        _launch(rule, times.dtype, blocks(batch, 32), 32, arguments)


def accumulate_metrics(loss, predictions, counts, labels, totals):
    """totals [4] float64 += samples, sum of the loss, correct predictions, samples whose label neuron is silent."""
    batch, n_neurons = counts.shape
    expect("loss", loss, (batch,), loss.dtype)
    expect("predictions", predictions, (batch,), np.int32, loss)
    expect("counts", counts, (None, None), np.int32, loss)
    expect("labels", labels, (batch,), np.int32, loss)
    expect("totals", totals, (4,), np.float64, loss)
    if not is_cupy(loss):
        cpu.accumulate_metrics(loss, predictions, counts, labels, totals)
    elif batch:
        arguments = (loss, predictions, counts, labels, np.int32(batch), np.int32(n_neurons), totals)
        run(kernels.kernel("losses/losses", "accumulate_metrics", loss.dtype), (1,), 256, arguments)


def spike_count_class_step(times, counts, labels, target_true, target_false, loss, errors, predictions, totals, ticket):
    """spike_count_class_loss, predict("most_spikes") and accumulate_metrics in one launch (CUDA). ticket: uint32 [1], 0."""
    batch, n_neurons, n_slots = _expect_output(times, counts, loss, errors)
    expect("labels", labels, (batch,), np.int32, times)
    expect("predictions", predictions, (batch,), np.int32, times)
    expect("totals", totals, (4,), np.float64, times)
    expect("ticket", ticket, (1,), np.uint32, times)
    real = times.dtype.type
    if batch:
        run(
            kernels.kernel("losses/losses", "spike_count_class_step", times.dtype), (batch,), 32,
            (times, counts, labels, real(target_true), real(target_false), np.int32(batch), n_neurons, n_slots, loss, errors,
             predictions, totals, ticket),
        )  # fmt: skip
