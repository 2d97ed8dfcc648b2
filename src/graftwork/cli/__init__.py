"""The command line, thin: every command calls one function of the library."""

# In this order the help lists them.
from graftwork.cli import starting, training, looking, evaluating, predicting, serving, exporting, chatting, sharing  # isort: skip
from graftwork.cli import models, recommending, files, searching  # isort: skip
from graftwork.cli.shared import app

__all__ = [
    "app",
    "chatting",
    "evaluating",
    "exporting",
    "files",
    "looking",
    "models",
    "predicting",
    "recommending",
    "searching",
    "serving",
    "sharing",
    "starting",
    "training",
]
