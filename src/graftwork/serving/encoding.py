"""From the rows of a request to features: checked one by one, so that a bad row is refused alone; what is too long is refused."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.errors import GraftworkError
from graftwork.serving.base import Asked, Base, ServedTask
from graftwork.serving.refusals import RefusedError, TooLongError
from graftwork.tasks import Kind, Place, Rows
from graftwork.tasks.kind.decoder import DecoderKind
from graftwork.tasks.tokens import longest

MOST_FEATURES = 256  # of one row: windows of a long context, choices


class Encoder:
    """Makes features of rows, with a tokenizer of its own: one thread uses it while another computes.

    Args:
        base: The base whose inputs are made.
    """

    def __init__(self, base: Base) -> None:
        self.base, self.processor = base, copy.deepcopy(base.processor)

    def encode(self, task: ServedTask, rows: Sequence[Mapping[str, Any]], *, cut: bool) -> list[Asked | GraftworkError]:
        """Return each row with its features, or why it cannot be predicted.

        Args:
            task: The task.
            rows: The rows.
            cut: Whether a text that is longer than what is read is cut off, as `graftwork predict` does, and not refused.
        """
        return [self._one(task, row, n, cut) for n, row in enumerate(rows, 1)]

    def _one(self, task: ServedTask, row: Mapping[str, Any], number: int, cut: bool) -> Asked | GraftworkError:
        try:
            if task.kind.processor == "image":
                _refuse_paths(task, row)
            rows = Rows([row], [Place(f"row {number}")])
            limit = None if cut else self._limit(task.kind)
            kind = task.kind if limit is None else _reading(task.kind, limit + 1)
            kind.check(rows, answered=False)
            features = kind.features(rows, self.processor, max_length=self.base.max_length, train=False)
            if limit is not None and max(kind.lengths(features), default=0) > limit:
                raise TooLongError(
                    f"row {number}: its text has more than the {limit} tokens that the task {task.name!r} reads; give a shorter "
                    'one, or say "cut": true, and the rest is left out'
                )
            if len(features) > MOST_FEATURES:
                raise TooLongError(
                    f"row {number}: it is read in {len(features)} parts, and one row may have {MOST_FEATURES}; give a shorter one"
                )
        except GraftworkError as error:
            return error
        except (
            TypeError,
            ValueError,
            RecursionError,
            OverflowError,
        ) as error:  # values of a form that nobody has thought of
            return RefusedError(f"row {number} cannot be read: {error!r:.200}")
        return Asked(task, rows, features)

    def _limit(self, kind: Kind) -> int | None:
        """The tokens that a kind reads of a text, where it leaves the rest out; a dialogue loses its beginning instead."""
        if not kind.cuts or isinstance(kind, DecoderKind):
            return None
        return longest(kind.spec, self.base.max_length, self.processor)


def _reading(kind: Kind, tokens: int) -> Kind:
    """A kind that reads so many tokens. With one more than the limit, a text that is too long shows itself; others are the same."""
    return type(kind)(
        kind.spec.model_copy(update={"max_length": tokens}), kind.labels, kind.task, numbered=kind.numbered
    )


def _refuse_paths(task: ServedTask, row: Mapping[str, Any]) -> None:
    """Refuse the path of an image: a request must not have files of the server read."""
    column = task.kind.spec.image
    if column in row and not isinstance(row[column], list):
        raise RefusedError(f"the {column!r} of a row must be numbers, [height][width] or [height][width][channels]")
