"""Training on `transformers.Trainer`, and recipes. A part of its own: importing graftwork does not import Trainer."""

from graftwork.training.asking import answers
from graftwork.training.callback import GraftCallback
from graftwork.training.choosing import comparison
from graftwork.training.comparing import compare, read_comparison
from graftwork.training.estimate import Estimate, estimate
from graftwork.training.finding import Found, TaskFinder
from graftwork.training.learner import Learner
from graftwork.training.plan import Unit, plan
from graftwork.training.predicting import Predictor
from graftwork.training.random_depth import RandomDepth, depth_at
from graftwork.training.recipe import Recipe
from graftwork.training.results import read_results
from graftwork.training.run import run
from graftwork.training.sampling import TaskBatch, TaskMixing, TaskSampler
from graftwork.training.several import Several
from graftwork.training.souping import Soup, nearest, similarities, soup, text_states
from graftwork.training.together import train_together
from graftwork.training.trainer import AdapterTrainer
from graftwork.training.watching import Watcher

__all__ = [
    "AdapterTrainer",
    "Estimate",
    "Found",
    "GraftCallback",
    "Learner",
    "Predictor",
    "RandomDepth",
    "Recipe",
    "Several",
    "Soup",
    "TaskBatch",
    "TaskFinder",
    "TaskMixing",
    "TaskSampler",
    "Unit",
    "Watcher",
    "answers",
    "compare",
    "comparison",
    "depth_at",
    "estimate",
    "nearest",
    "plan",
    "read_comparison",
    "read_results",
    "run",
    "similarities",
    "soup",
    "text_states",
    "train_together",
]
