"""Layers of event-based networks."""

from bats.layers.base import Layer
from bats.layers.input import InputLayer
from bats.layers.lif import LIFLayer

__all__ = ["InputLayer", "LIFLayer", "Layer"]
