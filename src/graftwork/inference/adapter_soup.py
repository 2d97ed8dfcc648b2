"""AdapterSoup (Chronopoulou et al. 2023, arXiv:2302.07027): average the adapters of the domains nearest to a new one.

    similarity(n) = mean over pairs of cos(e(x), e(t)),   x of domain n's texts, t of the target's

and the new adapter has the mean of the weights of the k nearest. e is the mean of the plain base's last hidden states over
unpadded positions. (The paper tries sentence similarity and clusters of texts, and finds clusters the better; `similarities`
takes any features.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from graftwork.api import Adapters
from graftwork.attach import Merged
from graftwork.errors import ConfigError
from graftwork.training.text_states import text_states


@dataclasses.dataclass(frozen=True)
class Soup:
    """The result of `soup`.

    Attributes:
        chosen: The adapters that were averaged, nearest first.
        similarity: The similarity of every adapter's domain to the target, from −1 to 1.
        merged: The adapters of the average, and how similar their weights are.
    """

    chosen: tuple[str, ...]
    similarity: Mapping[str, float]
    merged: Merged

    def __str__(self) -> str:
        lines = [
            f"{name:20s} {value:7.4f}{' (chosen)' if name in self.chosen else ''}"
            for name, value in self.similarity.items()
        ]
        return "\n".join([*lines, str(self.merged)])


def soup(
    adapters: Adapters,
    name: str,
    domains: Mapping[str, Sequence[str]],
    target: Sequence[str],
    tokenizer: Any,
    *,
    k: int = 5,
    least: float | None = None,
    head_from: str | None = None,
    batch_size: int = 32,
) -> Soup:
    """Add an adapter that is the average of the k adapters whose domains are nearest to some texts.

    Args:
        adapters: The handle.
        name: The new adapter's name.
        domains: For each adapter some texts of the domain that it was trained on.
        target: Some texts of the new domain.
        tokenizer: The base's tokenizer.
        k: How many adapters are averaged, at most.
        least: The similarity below which a domain is left out.
        head_from: As for `Adapters.merge`.
        batch_size: How many texts are in a batch.

    Returns:
        The chosen adapters, the similarities, and what was merged; printable.

    Raises:
        UnknownNameError: If an adapter is not there.
        NameTakenError: If the name is taken.
        ConfigError: If texts are missing, no domain is near enough, or the adapters cannot be merged.
    """
    for member in domains:
        adapters.kind_of(member)
    features = {member: text_states(adapters, texts, tokenizer, batch_size) for member, texts in domains.items()}
    similarity = similarities(features, text_states(adapters, target, tokenizer, batch_size))
    chosen = nearest(similarity, k, least)
    return Soup(chosen, similarity, adapters.merge(name, chosen, head_from=head_from))


def similarities(features: Mapping[str, Tensor], target: Tensor) -> dict[str, float]:
    """The mean cosine between the rows of each domain and those of the target, the nearest domain first.

    Args:
        features: For each domain a tensor ``(texts, width)``.
        target: A tensor ``(texts, width)``.
    """
    goal = _unit(target)
    found = {name: float(_unit(rows) @ goal) for name, rows in features.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def nearest(similarity: Mapping[str, float], k: int, least: float | None = None) -> tuple[str, ...]:
    """The names of the k largest similarities, without those below ``least``.

    Raises:
        ConfigError: If ``k`` is not a number of adapters, or none is near enough.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise ConfigError(f"k is {k!r}; give the number of adapters that are averaged, 1 or more")
    ordered = sorted(similarity, key=lambda name: -similarity[name])
    chosen = tuple(name for name in ordered if least is None or similarity[name] >= least)[:k]
    if not chosen:
        scores = ", ".join(f"{name} {similarity[name]:.3f}" for name in ordered) or "there are none"
        raise ConfigError(
            f"no adapter's domain is as near as least={least!r}: {scores}; give a smaller one, or more domains"
        )
    return chosen


def _unit(rows: Tensor) -> Tensor:
    """The mean of the normalised rows: the product of two such means is the mean cosine over all pairs of rows."""
    return nn.functional.normalize(rows.double(), dim=-1).mean(0)
