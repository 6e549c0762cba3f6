"""The kernels that layers use on CUDA where all times lie before one time origin's reach; else they give way to the general ones."""

import numpy as np

from bats import ops


class FastPath:
    """Forward and backward pass of one dense or convolutional layer with conv_forward, dense_forward and layer_backward.

    forward_* return whether they did the work, backward None if it did not. They do on CUDA, in continuous time, with t_max <= 8 tau
    and where a block's share fits shared memory; whatever depends on the data fits always.
    enabled: set to False to use the general kernels only.
    """

    WARP_BELOW = 64  # dense layers of fewer neurons, or with more than one spike per input neuron, get many events per neuron

    def __init__(self, layer):
        self.layer = layer
        self.enabled = True
        self.forget()

    def forget(self):
        """Drops all room, after the layer's workspace was replaced."""
        self._fields = self._current = None
        self.spikes = None  # ops.SpikeList, once there was use for one
        self._rooms = {}
        self._one_origin = self._prepared = False

    def _reaches(self, t_max):
        layer = self.layer
        return self.enabled and layer.xp is not np and layer.grid is None and t_max <= float(layer.neuron.length)

    # ------------------------------------------------------------------------------------------------------------------
    def drop_spikes(self):
        """Forgets the spikes of a pass that was broken off before its sort, which the next sort would take for its own."""
        if self.spikes is not None:
            self.spikes.clear()

    def _room_for_spikes(self, sorts):
        """Where a forward pass leaves its spikes if `sorts`, a sort of its trains follows; None if that makes no use of them."""
        layer = self.layer
        room = layer.n_neurons * layer.max_n_spike
        if not sorts or not ops.fits_buckets(room, layer.dtype):
            return None
        if self.spikes is None:
            self.spikes = ops.SpikeList.allocate(layer.xp, len(layer._space.counts), room, layer.dtype)
            layer.generation += 1
        return self.spikes

    def forward_dense(self, events, t_max, space, sorts):
        """sorts: whether a sort of the spikes follows."""
        self._one_origin = self._reaches(t_max)
        layer = self.layer
        if not self._one_origin or (events.n_slots == 1 and layer.n_neurons >= self.WARP_BELOW):
            return False
        ops.dense_forward(
            events, layer.matrix, layer.neuron, t_max, space.times, space.counts, space.slopes, space.status,
            spikes=self._room_for_spikes(sorts),
        )  # fmt: skip
        return True

    def prepare(self, events, t_max):
        """(geometry, neuron, fields) for ops.bucket_sort, which is about to fill `events`, or None."""
        layer = self.layer
        self._prepared = False  # also after a pass that was broken off
        if not self._reaches(t_max) or not ops.fits_fields(layer.geometry):
            return None
        shape = events.times.shape
        room = self._fields
        if room is None or room.factors.shape[1] != shape[1] or len(room.factors) < shape[0] or (layer.training and room.lists is None):
            n = max(shape[0], len(layer._space.counts))
            self._fields = ops.allocate_fields(layer.xp, n, layer.geometry, shape[1], layer.dtype, layer.training)
            layer.generation += 1
        self._current, self._prepared = self._fields.first(events.batch), True
        return layer.geometry, layer.neuron, self._current

    def forward_conv(self, events, t_max, space, sorts):
        layer, prepared = self.layer, self._prepared
        self._one_origin = prepared or self.prepare(events, t_max) is not None
        self._prepared = False
        if not self._one_origin:
            return False
        ops.conv_forward(
            events, layer.matrix, layer.geometry, layer.neuron, t_max, space.times, space.counts, space.slopes, space.status,
            self._current, layer.training, prepared, spikes=self._room_for_spikes(sorts),
        )  # fmt: skip
        return True

    def backward(self, errors, events, pre_errors, space, geometry, fields, in_parts, after_loss):
        """fields: whether the layer is a convolution, whose receptive fields forward_conv left; in_parts, after_loss: as of
        ops.layer_backward, whose result this returns."""
        layer = self.layer
        if not self._one_origin:
            return None
        scratch = self._scratch(events.batch, geometry, events.times.shape[1], 0 if pre_errors is None else pre_errors[0].size)
        if scratch is None:
            return None
        shape = geometry.weight_shape
        return ops.layer_backward(
            events, self._current if fields else None, errors, space.times, space.slopes, space.counts, layer.matrix.reshape(shape),
            geometry, layer.neuron, layer.gradient.reshape(shape), pre_errors, space.bounded, scratch, in_parts, after_loss,
        )  # fmt: skip

    def _scratch(self, batch, geometry, capacity, train_size):
        """Room of the backward pass, kept for every batch size that occurs."""
        layer, key = self.layer, (batch, capacity, train_size)
        if key not in self._rooms:
            self._rooms[key] = ops.layer_backward_scratch(layer.xp, batch, geometry, layer.max_n_spike, capacity, layer.dtype, train_size)
            layer.generation += 1
        return self._rooms[key]
