"""Layers of event-based networks."""

from bats.layers.base import Layer
from bats.layers.conv import ConvInputLayer, ConvLIFLayer
from bats.layers.input import InputLayer
from bats.layers.lif import LIFLayer
from bats.layers.pooling import PoolingLayer

__all__ = ["ConvInputLayer", "ConvLIFLayer", "InputLayer", "LIFLayer", "Layer", "PoolingLayer"]
