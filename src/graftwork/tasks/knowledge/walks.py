"""Random walks over the relations of a graph."""

from __future__ import annotations

import random
from collections.abc import Sequence

from graftwork.tasks.knowledge.triples import Triple


def walks(triples: Sequence[Triple], *, each: int = 1, length: int = 3, seed: int = 0) -> list[list[Triple]]:
    """Walks along the relations, each from a subject to an object and on from there.

    Every triple begins the same number of walks, so that none is left out. A walk ends where no triple leads on, or only triples
    that it already has.

    Args:
        triples: The graph.
        each: The number of walks that begin with each triple.
        length: The most triples of a walk.
        seed: The seed of the draw: the same seed and triples give the same walks.
    """
    draw = random.Random(seed)
    leading: dict[str, list[Triple]] = {}
    for triple in triples:
        leading.setdefault(triple.subject, []).append(triple)
    found = []
    for _ in range(each):
        order = list(triples)
        draw.shuffle(order)
        found += [_walk(first, leading, length, draw) for first in order]
    return found


def _walk(first: Triple, leading: dict[str, list[Triple]], length: int, draw: random.Random) -> list[Triple]:
    walk = [first]
    while len(walk) < length:
        onward = [triple for triple in leading.get(walk[-1].object, ()) if triple not in walk]
        if not onward:
            break
        walk.append(draw.choice(onward))
    return walk
