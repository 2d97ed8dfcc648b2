"""The exceptions that this library raises.

Every message names the value that was refused, its place, and the way out.
"""

from __future__ import annotations


class GraftworkError(Exception):
    """Base class of every error that this library raises on purpose.

    Example:
        >>> try:
        ...     adapters.load(folder / "nowhere")
        ... except gw.GraftworkError as error:
        ...     print(type(error).__name__)
        CheckpointError
    """


class ConfigError(GraftworkError, ValueError):
    """An option of a configuration or a composition has a value that cannot be used.

    Example:
        >>> gw.Pfeiffer(dropout=2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.ConfigError: ...
    """


class NameTakenError(GraftworkError, ValueError):
    """An adapter, a fusion or a head of that name is there already.

    Example:
        >>> adapters.add("a", "pfeiffer")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.NameTakenError: ...
    """


class UnknownNameError(GraftworkError, KeyError):
    """No adapter, fusion or head has that name.

    Example:
        >>> adapters.activate("c")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.UnknownNameError: ...
    """

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class CompositionError(GraftworkError, ValueError):
    """A composition cannot be computed: its parts do not fit together, or its sizes do not add up.

    Example:
        >>> with adapters.using(gw.BatchSplit("a", "b", batch_sizes=[5, 5])):  # doctest: +ELLIPSIS
        ...     model(**batch)
        Traceback (most recent call last):
        graftwork.errors.CompositionError: ...
    """


class SiteError(GraftworkError, RuntimeError):
    """The sites of a model were not found, or a site that was given is not there.

    Example:
        >>> gw.attach(torch.nn.Linear(4, 4))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.SiteError: ...
    """


class AttachError(GraftworkError, RuntimeError):
    """The model cannot be attached, or is used in a way that adapters do not support.

    Example:
        >>> gw.of(torch.nn.Linear(4, 4))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.AttachError: ...
    """


class CheckpointError(GraftworkError, RuntimeError):
    """A file does not fit the model, is damaged, or was not written by this library.

    Example:
        >>> adapters.load(folder / "nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.CheckpointError: ...
    """


class HubError(GraftworkError, RuntimeError):
    """A repository of the Hub cannot be read or written: it is not there, may not be read, is too large, or holds something else.

    Example:
        >>> adapters.load("no-such-organization/no-such-adapter")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.HubError: ...
    """


class ExportError(GraftworkError, RuntimeError):
    """A model, or what is active in it, cannot be exported: the message names the block, or gives torch's own reason.

    Example:
        >>> adapters.export(folder / "exported", gw.MixedBatch(["a", "b"]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.ExportError: ...
    """


class RecipeError(GraftworkError, ValueError):
    """A recipe, or the folder of a run, cannot be used: the message names the key or the file.

    Example:
        >>> from graftwork.inference import Predictor
        >>> Predictor(folder)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.RecipeError: ...
    """


class TrainingError(GraftworkError, RuntimeError):
    """A training cannot go on: the message names it and the step, and says what is kept."""


class LostRankError(TrainingError):
    """The processes that train one model together can no longer agree, because one has failed; all of them have to end."""


class TaskError(GraftworkError, ValueError):
    """Data, or a task made of it, cannot be used: the message names the value, its place, and the way out.

    Example:
        >>> from graftwork.tasks import read_rows
        >>> read_rows(folder / "nowhere.csv")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        graftwork.errors.TaskError: ...
    """


class ServingError(GraftworkError, RuntimeError):
    """A request to a server is refused, or cannot be answered: the message says why and what to do.

    Attributes:
        status: The status of the HTTP answer.
    """

    status = 422
