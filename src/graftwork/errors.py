"""The exceptions a user of this library can meet.

Every message names the value that was refused, the place it was met, and the way out.
"""

from __future__ import annotations


class GraftworkError(Exception):
    """Base of every error that this library raises on purpose."""


class ConfigError(GraftworkError, ValueError):
    """An option of a configuration or a composition has a value that cannot be used."""


class NameTakenError(GraftworkError, ValueError):
    """An adapter, a fusion or a head of that name is there already."""


class UnknownNameError(GraftworkError, KeyError):
    """A name that nothing has."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class CompositionError(GraftworkError, ValueError):
    """A composition that cannot be computed: its parts do not meet, or its sizes do not add up."""


class SiteError(GraftworkError, RuntimeError):
    """The places to attach to could not be found, or what was given by hand is not there."""


class AttachError(GraftworkError, RuntimeError):
    """The model cannot be attached to, or it is used in a way that attaching cannot serve."""


class CheckpointError(GraftworkError, RuntimeError):
    """A file does not fit the model, is damaged, or is not one of ours."""


class RecipeError(GraftworkError, ValueError):
    """A recipe, or a folder of its runs, that cannot be used: the message names the key or the file."""


class TrainingError(GraftworkError, RuntimeError):
    """A training that cannot go on: the message says which, at what step, and what is kept."""


class TaskError(GraftworkError, ValueError):
    """Data, or a task made of it, that cannot be used: the message says which value, where it stands, and the way out."""
