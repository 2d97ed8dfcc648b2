"""The command line, thin: every command calls one function of the library."""

# In this order the help lists them.
from graftwork.cli import training, looking, predicting, serving, chatting, models, recommending  # isort: skip
from graftwork.cli.shared import app

__all__ = ["app", "chatting", "looking", "models", "predicting", "recommending", "serving", "training"]
