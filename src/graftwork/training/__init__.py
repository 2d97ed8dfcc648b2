"""Training on `transformers.Trainer`. A part of its own: importing graftwork does not import Trainer."""

from graftwork.training.callback import GraftCallback
from graftwork.training.trainer import AdapterTrainer

__all__ = ["AdapterTrainer", "GraftCallback"]
