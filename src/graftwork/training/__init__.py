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


def __getattr__(name: str) -> Any:
    """What was here before recipes and answers had packages of their own."""
    for package in ("graftwork.experiments", "graftwork.inference"):
        if name in (module := importlib.import_module(package)).__all__:
            warnings.warn(f"graftwork.training.{name} is {package}.{name} now", DeprecationWarning, stacklevel=2)
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
