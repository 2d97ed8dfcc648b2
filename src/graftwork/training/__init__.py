"""Training on `transformers.Trainer`, without a recipe. `import graftwork` does not import it, nor Trainer with it."""

import importlib
import warnings
from typing import Any

from graftwork.training.adapter_learner import Learner
from graftwork.training.consistency import ConsistencyTrainer
from graftwork.training.random_depth import RandomDepth, depth_at
from graftwork.training.sampling import TaskBatch, TaskMixing, TaskSampler
from graftwork.training.sharded import leave_adapters_out
from graftwork.training.text_states import text_states
from graftwork.training.together import train_together
from graftwork.training.trainer import AdapterCallback, AdapterTrainer

__all__ = [
    "AdapterCallback",
    "AdapterTrainer",
    "ConsistencyTrainer",
    "Learner",
    "RandomDepth",
    "TaskBatch",
    "TaskMixing",
    "TaskSampler",
    "depth_at",
    "leave_adapters_out",
    "text_states",
    "train_together",
]


# Names that were in this package in earlier versions, by the package that has them now.
_MOVED = {
    "experiments": "Estimate Recipe Unit Watcher compare comparison estimate plan read_comparison read_results run work",
    "inference": "Found Predictor RunFinder Several Soup TaskFinder answers nearest predictor_for similarities soup",
}


def __getattr__(name: str) -> Any:
    """The object of a name that has moved to another package, with a warning."""
    for package, names in _MOVED.items():
        if name in names.split():
            now = f"graftwork.{package}"
            warnings.warn(f"graftwork.training.{name} is {now}.{name} now", DeprecationWarning, stacklevel=2)
            return getattr(importlib.import_module(now), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
