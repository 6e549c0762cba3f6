"""bats: event-based spiking neural networks trained with the exact gradient of their spike times."""

from bats._version import __version__

__all__ = ["__version__"]
