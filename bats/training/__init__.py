"""Training: the Trainer, checkpoints, run folders, monitors and the shared command line of the experiments."""

from bats.training.checkpoint import Checkpoint, load_checkpoint
from bats.training.failures import TrainingFailure, TrainingWarning
from bats.training.run_folder import RunFolder
from bats.training.schedule import StepSchedule
from bats.training.trainer import Trainer

__all__ = [
    "Checkpoint",
    "RunFolder",
    "StepSchedule",
    "Trainer",
    "TrainingFailure",
    "TrainingWarning",
    "load_checkpoint",
]
