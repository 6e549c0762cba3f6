"""Learning-rate schedules: pure functions of the epoch, so that a resumed run needs no state of its own for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepSchedule:
    """Multiplies the initial learning rate by `factor` every `every` epochs, never below `minimum`.

    Errors: ValueError for a factor outside (0, 1], a period below one epoch or a negative minimum.
    """

    factor: float
    every: int
    minimum: float = 0.0

    def __post_init__(self):
        if not 0 < self.factor <= 1:
            raise ValueError(f"factor: expected a number in (0, 1], received {self.factor}")
        if self.every < 1:
            raise ValueError(f"every: expected at least 1 epoch, received {self.every}")
        if self.minimum < 0:
            raise ValueError(f"minimum: expected a learning rate of at least 0, received {self.minimum}")

    def learning_rate(self, initial, epoch):
        """Learning rate of epoch `epoch`, counted from 0."""
        return max(self.minimum, initial * self.factor ** (epoch // self.every))
