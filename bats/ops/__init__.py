"""Operations: each checks its arguments, then runs its CPU twin (bats/cpu) or its CUDA kernel (cuda/), by where the arrays are."""

from bats.ops.conv_forward import allocate_fields, conv_forward
from bats.ops.conv_forward import fits as fits_fields
from bats.ops.conv_presynaptic_errors import conv_presynaptic_errors
from bats.ops.conv_spike_times import conv_spike_times
from bats.ops.conv_spike_times import scratch_for as conv_forward_scratch
from bats.ops.conv_weight_gradient import conv_weight_gradient
from bats.ops.conv_weight_gradient import scratch_for as conv_gradient_scratch
from bats.ops.dense_forward import dense_forward
from bats.ops.densify import densify_events, densify_latencies
from bats.ops.elastic_deformation import elastic_deformation
from bats.ops.encode_latency import encode_latency, encode_next, gather_spike_trains, next_batch
from bats.ops.ensemble_gradient import ensemble_gradient
from bats.ops.grid_spike_times import grid_recurrent_errors, grid_spike_times
from bats.ops.grid_spike_times import scratch_for as grid_forward_scratch
from bats.ops.later_sums import later_sums
from bats.ops.layer_backward import Parts, add_partial, layer_backward
from bats.ops.layer_backward import scratch_for as layer_backward_scratch
from bats.ops.losses import (
    accumulate_metrics,
    predict,
    softmax_cross_entropy,
    spike_count_class_loss,
    spike_count_class_step,
    spike_count_loss,
    spike_time_loss,
    ttfs_softmax_cross_entropy,
)
from bats.ops.matrix_product import matrix_product, product_scratch
from bats.ops.optimizers import MOST_PARAMETERS, adam, adam_step, gradient_descent, tick
from bats.ops.pool_events import pool_events
from bats.ops.presynaptic_errors import presynaptic_errors, wants_later_sums
from bats.ops.recurrent_errors import recurrent_errors
from bats.ops.sort_events import bucket_sort, fits_buckets, sort_events
from bats.ops.sort_events import scratch_for as sort_scratch
from bats.ops.spike_list import SpikeList
from bats.ops.spike_rates import raise_silent, spike_rate_errors, spike_rates
from bats.ops.spike_times import scratch_for as forward_scratch
from bats.ops.spike_times import spike_times
from bats.ops.stepped_neurons import (
    SteppedNeuron,
    bias_gradient,
    lif_steps,
    lif_steps_backward,
    readout_backward,
    readout_steps,
    single_spike_backward,
    single_spike_steps,
)
from bats.ops.temporal_filter import filter_scratch, temporal_filter, temporal_filter_backward, temporal_filter_gradient
from bats.ops.weight_gradient import event_factors, weight_gradient
from bats.ops.weight_gradient import scratch_for as gradient_scratch

__all__ = [
    "MOST_PARAMETERS",
    "Parts",
    "SpikeList",
    "SteppedNeuron",
    "accumulate_metrics",
    "adam",
    "adam_step",
    "add_partial",
    "allocate_fields",
    "bias_gradient",
    "bucket_sort",
    "conv_forward",
    "conv_forward_scratch",
    "conv_gradient_scratch",
    "conv_presynaptic_errors",
    "conv_spike_times",
    "conv_weight_gradient",
    "dense_forward",
    "densify_events",
    "densify_latencies",
    "elastic_deformation",
    "encode_latency",
    "encode_next",
    "ensemble_gradient",
    "event_factors",
    "filter_scratch",
    "fits_buckets",
    "fits_fields",
    "forward_scratch",
    "gather_spike_trains",
    "gradient_descent",
    "gradient_scratch",
    "grid_forward_scratch",
    "grid_recurrent_errors",
    "grid_spike_times",
    "later_sums",
    "layer_backward",
    "layer_backward_scratch",
    "lif_steps",
    "lif_steps_backward",
    "matrix_product",
    "next_batch",
    "pool_events",
    "predict",
    "presynaptic_errors",
    "product_scratch",
    "raise_silent",
    "readout_backward",
    "readout_steps",
    "recurrent_errors",
    "single_spike_backward",
    "single_spike_steps",
    "softmax_cross_entropy",
    "sort_events",
    "sort_scratch",
    "spike_count_class_loss",
    "spike_count_class_step",
    "spike_count_loss",
    "spike_rate_errors",
    "spike_rates",
    "spike_time_loss",
    "spike_times",
    "temporal_filter",
    "temporal_filter_backward",
    "temporal_filter_gradient",
    "tick",
    "ttfs_softmax_cross_entropy",
    "wants_later_sums",
    "weight_gradient",
]
