"""The greedy variant of deepr2024: its third and fourth layer learn by reward in turns, a batch each."""

from functools import partial

from . import deepr2024
from .deepr2024 import EPOCHS

build = partial(deepr2024.build, greedy=True)

__all__ = ["EPOCHS", "build"]
