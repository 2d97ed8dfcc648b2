"""Training on `transformers.Trainer`, and recipes. A part of its own: importing graftwork does not import Trainer."""

from graftwork.training.answering.asking import answers
from graftwork.training.answering.finding import Found, TaskFinder
from graftwork.training.answering.predicting import Predictor
from graftwork.training.answering.routing import RunFinder, predictor_for
from graftwork.training.answering.several import Several
from graftwork.training.answering.souping import Soup, nearest, similarities, soup
from graftwork.training.comparing.choosing import comparison
from graftwork.training.comparing.compare import compare, read_comparison
from graftwork.training.costing.estimate import Estimate, estimate
from graftwork.training.planning.plan import Unit, plan
from graftwork.training.planning.recipe import Recipe
from graftwork.training.planning.sampling import TaskBatch, TaskMixing, TaskSampler
from graftwork.training.running.results import read_results
from graftwork.training.running.run import run
from graftwork.training.running.watching import Watcher
from graftwork.training.trainers.callback import GraftCallback
from graftwork.training.trainers.learner import Learner
from graftwork.training.trainers.random_depth import RandomDepth, depth_at
from graftwork.training.trainers.text_states import text_states
from graftwork.training.trainers.together import train_together
from graftwork.training.trainers.trainer import AdapterTrainer

__all__ = [
    "AdapterTrainer",
    "Estimate",
    "Found",
    "GraftCallback",
    "Learner",
    "Predictor",
    "RandomDepth",
    "Recipe",
    "RunFinder",
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
    "predictor_for",
    "read_comparison",
    "read_results",
    "run",
    "similarities",
    "soup",
    "text_states",
    "train_together",
]
