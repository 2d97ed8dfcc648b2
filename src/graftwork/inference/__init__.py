"""Predictions from the files of a run: for texts and rows; and which task, and which adapters, a text belongs to."""

from graftwork.inference.adapter_soup import Soup, nearest, similarities, soup
from graftwork.inference.chat import Chat
from graftwork.inference.exported import export_task
from graftwork.inference.predictor import Predictor
from graftwork.inference.requests import answers
from graftwork.inference.several_tasks import Several
from graftwork.inference.task_finder import Found, TaskFinder
from graftwork.inference.task_routes import RunFinder, predictor_for

__all__ = [
    "Chat",
    "Found",
    "Predictor",
    "RunFinder",
    "Several",
    "Soup",
    "TaskFinder",
    "answers",
    "export_task",
    "nearest",
    "predictor_for",
    "similarities",
    "soup",
]
