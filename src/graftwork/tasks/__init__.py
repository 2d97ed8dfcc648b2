"""Tasks: rows of data, the kinds of tasks, and metrics."""

from graftwork.errors import TaskError
from graftwork.tasks.kind import Kind, kinds
from graftwork.tasks.knowledge import Knowledge, KnowledgeSpec, read_knowledge
from graftwork.tasks.languages import LanguageSpec, language_task
from graftwork.tasks.reading import read_rows
from graftwork.tasks.rows import Place, Prediction, Rows
from graftwork.tasks.scoring import Metric, metrics
from graftwork.tasks.spec import TaskSpec
from graftwork.tasks.survey import Survey, survey
from graftwork.tasks.task import Task

__all__ = [
    "Kind",
    "Knowledge",
    "KnowledgeSpec",
    "LanguageSpec",
    "Metric",
    "Place",
    "Prediction",
    "Rows",
    "Survey",
    "Task",
    "TaskError",
    "TaskSpec",
    "kinds",
    "language_task",
    "metrics",
    "read_knowledge",
    "read_rows",
    "survey",
]
