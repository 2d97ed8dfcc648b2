"""Why a request is refused, each with its status of HTTP."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from graftwork.errors import ServingError


class RefusedError(ServingError):
    """A request that cannot be answered as it is: 422."""


class QueueFullError(ServingError):
    """More rows wait than the queue holds: 429."""

    status = 429


class DeadlineError(ServingError):
    """The deadline of a request is over before its answer is there: 504."""

    status = 504


class TooLongError(ServingError):
    """A request, or a text in it, is longer than what is read: 413."""

    status = 413


class StoppingError(ServingError):
    """The server is stopping: 503."""

    status = 503


class UnauthorizedError(ServingError):
    """The token is missing or wrong: 401."""

    status = 401


class ForbiddenError(ServingError):
    """What is asked for is turned off: 403."""

    status = 403


class UnknownTaskError(ServingError):
    """No task of that name is served: 404.

    Attributes:
        near: Names that are spelt alike.
    """

    status = 404

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = list(known)
        self.near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        listed = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
        there = f"did you mean {' or '.join(map(repr, self.near))}?" if self.near else f"there are {listed or 'none'}"
        super().__init__(f"no task is called {name!r:.200}; {there} (GET /v1/tasks lists all)")
