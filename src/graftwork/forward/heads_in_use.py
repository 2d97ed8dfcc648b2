"""Which heads a composition uses: an adapter's own, several over the same rows, or one for each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

from graftwork.compose import BatchSplit, Composition, Learned, MixedBatch, Replicate, Stack
from graftwork.errors import CompositionError, ConfigError
from graftwork.weights.names import unknown

OWN = "the composition's own"  # the head that is used where none is named


@dataclasses.dataclass(frozen=True)
class Labels:
    """What a head's outputs mean.

    Attributes:
        names: The labels' names, in order.
        problem_type: As in a model's configuration: ``"regression"``, ``"single_label_classification"``,
            ``"multi_label_classification"``, or ``None``: the model decides by the first labels that it is given.

    Example:
        >>> gw.Labels.given(["negative", "positive"]).names
        ('negative', 'positive')
    """

    names: tuple[str, ...]
    problem_type: str | None = None

    @classmethod
    def of(cls, config: Any) -> Labels:
        """The labels of a model's configuration."""
        names = getattr(config, "id2label", None) or {}
        return cls(tuple(str(names[k]) for k in sorted(names)), getattr(config, "problem_type", None))

    @classmethod
    def given(cls, value: int | Sequence[str]) -> Labels:
        """The labels for a number of them, called ``LABEL_0`` and so on, or for their names.

        Raises:
            ConfigError: If there are none, or two have one name.
        """
        names = tuple(f"LABEL_{n}" for n in range(value)) if isinstance(value, int) else tuple(value)
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"a head with the labels {list(names)}: give one or more, each once")
        return cls(names)


@dataclasses.dataclass(frozen=True)
class SeveralHeads:
    """Several heads over the same rows."""

    names: tuple[str, ...]


def heads_in_use(
    composition: Composition, head: Any, known: Collection[str], head_for: Callable[[str], str | None]
) -> str | SeveralHeads | tuple[Any, ...] | None:
    """The heads that a composition uses: those that are given, else its own; ``head_for`` maps a name to the head it uses.

    Raises:
        UnknownNameError: If one is not there.
        CompositionError: If several are named and nothing says which.
    """
    if head == OWN:
        return _head_name(composition, head_for)
    names = [] if head is None else [head] if isinstance(head, str) else list(head)
    found = []
    for name in names:
        one = head_for(name)
        if one is None:
            raise unknown(name, known, "head")
        found.append(one)
    if not found:
        return None
    return found[0] if len(found) == 1 else SeveralHeads(tuple(found))


def _head_name(composition: Composition, head_for: Callable[[str], str | None]) -> str | tuple[Any, ...] | None:
    """Whose head a composition uses: a name, ``None`` for the model's own, or a block with one of these a child.

    A fusion has a head of its own; in a Stack the last that has one is used; by rows each row uses its own.
    """
    if composition is None:
        return None
    if isinstance(composition, str):
        return head_for(composition)
    if isinstance(composition, Learned) and head_for(composition.name) is not None:
        return head_for(composition.name)
    inside = [_head_name(child, head_for) for child in composition.children]
    if isinstance(composition, Stack):
        last = next((h for h in reversed(inside) if h is not None), None)
        return (composition, tuple(inside)) if isinstance(last, tuple) else last
    if all(h == inside[0] for h in inside):
        return inside[0]
    if isinstance(composition, (BatchSplit, MixedBatch, Replicate)):
        return composition, tuple(inside)
    raise CompositionError(
        f"{composition!r} names several heads ({', '.join(repr(h) for h in inside)}) for one output; say which one: "
        f"adapters.using(composition, head={next(h for h in inside if isinstance(h, str))!r})"
    )


def labelled(chosen: str | tuple[Any, ...] | None, labels: Callable[[str | None], Labels]) -> str | None:
    """The head whose labels a loss is computed for: the one in use, or by rows the first where all have equally many labels."""
    if not isinstance(chosen, tuple):
        return chosen
    inside = [labelled(child, labels) for child in chosen[1]]
    return inside[0] if len({len(labels(name).names) for name in inside}) == 1 else None
