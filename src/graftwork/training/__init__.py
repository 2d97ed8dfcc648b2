"""Training on `transformers.Trainer`, without a recipe. A part of its own: importing graftwork does not import Trainer."""

import importlib
import warnings
from typing import Any

from graftwork.training.adapter_learner import Learner
from graftwork.training.callback import AdapterCallback
from graftwork.training.random_depth import RandomDepth, depth_at
from graftwork.training.sampling import TaskBatch, TaskMixing, TaskSampler
from graftwork.training.text_states import text_states
from graftwork.training.together import train_together
from graftwork.training.trainer import AdapterTrainer

__all__ = [
    "AdapterCallback",
    "AdapterTrainer",
    "Learner",
    "RandomDepth",
    "TaskBatch",
    "TaskMixing",
    "TaskSampler",
    "depth_at",
    "text_states",
    "train_together",
]


# What was here before recipes and answers had packages of their own.
_MOVED = {
    "graftwork.experiments": (
        "Estimate Recipe Unit Watcher compare comparison estimate plan read_comparison read_results run"
    ),
    "graftwork.inference": (
        "Found Predictor RunFinder Several Soup TaskFinder answers nearest predictor_for similarities soup"
    ),
}


def __getattr__(name: str) -> Any:
    """A name that has moved, with a warning."""
    for package, names in _MOVED.items():
        if name in names.split():
            warnings.warn(f"graftwork.training.{name} is {package}.{name} now", DeprecationWarning, stacklevel=2)
            return getattr(importlib.import_module(package), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
