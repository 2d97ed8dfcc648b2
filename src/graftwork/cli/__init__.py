"""The command line, thin: every command calls one function of the library."""

# In this order the help lists them.
# isort: off
from graftwork.cli import starting, training, sweeping, looking, evaluating, predicting, serving
from graftwork.cli import exporting, chatting, sharing

# isort: on
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
    "sweeping",
    "training",
]
