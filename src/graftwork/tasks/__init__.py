"""Tasks: data, what is asked of it, and how well it is answered."""

from graftwork.errors import TaskError
from graftwork.tasks.kind import Kind, kinds
from graftwork.tasks.prediction import Prediction
from graftwork.tasks.reading import read_rows
from graftwork.tasks.rows import Place, Rows
from graftwork.tasks.scoring import Metric, metrics
from graftwork.tasks.spec import TaskSpec
from graftwork.tasks.task import Task

__all__ = [
    "Kind",
    "Metric",
    "Place",
    "Prediction",
    "Rows",
    "Task",
    "TaskError",
    "TaskSpec",
    "kinds",
    "metrics",
    "read_rows",
]
