"""Which dimension of a tensor holds the rows of the batch, and which its features.

A shape alone does not tell: an image of 32 by 32 has as many columns as a width of 32. So the model is run with other
sizes as well (`other_sizes.py`), and the shapes are compared dimension by dimension: the rows of the batch grow with the batch
(`rows.py`), the features stay. Where more than one dimension stays, because the model takes
one size of image alone, the norms and the maps that work on the tensor tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graftwork.errors import SiteError
from graftwork.sites.discovery.feature_dimensions import dimensions_worked_on
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.ops import RESHAPES
from graftwork.sites.discovery.rows import find_rows
from graftwork.sites.discovery.shapes import Shapes


class Layout(NamedTuple):
    """The width of a site, the dimension of its features where that is not the last, and that of its rows."""

    width: int
    extra: dict[str, int]
    rows: int | None


class Axes:
    """What the dimensions of the values of one graph hold.

    Args:
        graph: The graph.
        others: Graphs of runs of the same model at other sizes, as many as there are.
        apart: Whether a part of the model was run by itself: what its rows are among those of the model is not known.
    """

    def __init__(self, graph: Graph, others: Sequence[Graph] = (), *, apart: bool = False) -> None:
        self.graph = graph
        self._apart = apart
        self._shapes = Shapes(graph, others)
        self._rows = find_rows(self._shapes)

    def rows(self, *values: int) -> int | None:
        """The dimension with the rows of the batch, alone or outermost of several; ``None`` where that is not known.

        Args:
            *values: A value, and others of its stream that tell where it does not.
        """
        return None if self._apart else self._own_rows(values)

    def _own_rows(self, values: Sequence[int]) -> int | None:
        return next((self._rows[v] for v in self._alike(values) if self._rows[v] is not None), None)

    def features(self, *values: int) -> int | None:
        """The dimension with the features, ``None`` where that is unclear.

        Args:
            *values: A value, and others of its stream that tell where it does not.
        """
        value, alike = values[0], self._alike(values)
        stream = next((v for v in values if v not in alike), None)
        if stream is not None:  # the same features in another layout
            there = self.features(*(v for v in values if v not in alike))
            sizes = None if there is None else self._shapes.sizes(stream, there)
            found = [d for d in range(len(self.graph.values[value].shape)) if self._shapes.sizes(value, d) == sizes]
            if len(found) == 1:
                return found[0]
        shape = self.graph.values[value].shape
        rows = self._own_rows(alike)
        stay = [
            d for d in range(len(shape)) if d != rows and all(len(set(self._shapes.sizes(v, d))) == 1 for v in alike)
        ]
        stay = [d for d in stay if shape[d] > 1] or stay
        dimension = stay[0] if len(stay) == 1 else self._worked_on(alike, stay)
        return self._before_reshape(values) if dimension is None else dimension

    def _before_reshape(self, values: Sequence[int]) -> int | None:
        """The dimension with the features where they were before a reshape that left them, and all after them, as they were."""
        value = self.graph.values[values[0]]
        if value.op not in RESHAPES or not value.inputs:
            return None
        source = value.inputs[0]
        there = self.features(source, *values[1:])
        if there is None:
            return None
        rank = len(self.graph.values[source].shape)
        shift = len(value.shape) - rank
        same = all(
            self._shapes.sizes(source, d) == self._shapes.sizes(value.index, d + shift) for d in range(there, rank)
        )
        return there + shift if same and there + shift >= 0 else None

    def layout(self, where: str, *values: int, width: int | None = None) -> Layout:
        """What a site says of the dimensions of its value.

        Args:
            where: The block, for the error.
            *values: A value, and others of its stream that tell where it does not.
            width: The width of what was added to it, where that is known already.

        Raises:
            SiteError: If it is unclear which dimension holds the features.
        """
        shape = self.graph.values[values[0]].shape
        dimension = self.features(*values)
        if dimension is None and width is not None:
            fitting = [d for d in range(len(shape)) if set(self._shapes.sizes(values[0], d)) == {width}]
            dimension = fitting[0] if len(fitting) == 1 else None
        if dimension is None:
            shapes = ", ".join(dict.fromkeys(str(list(s)) for s in self._shapes.of(values[0]) if s is not None))
            raise SiteError(
                f"{where}: it is unclear which dimension holds the features of what is added there, its shape was {shapes}; "
                "pass example_inputs= of other sizes, all different from the model's width, or give the site by hand with "
                "its width: gw.Site(..., width=)"
            )
        last = dimension == len(shape) - 1
        return Layout(int(shape[dimension]), {} if last else {"channels": dimension}, self.rows(*values))

    def same_shape(self, one: int, other: int) -> bool:
        """Whether two values have the same shape, at every size that was tried."""
        return self._shapes.same(one, other)

    def _alike(self, values: Sequence[int]) -> list[int]:
        return [v for v in dict.fromkeys(values) if self._shapes.same(values[0], v)]

    def _worked_on(self, values: Sequence[int], stay: Sequence[int]) -> int | None:
        """The one dimension of those that stay which norms work on around a value; where there are none, maps."""
        told = {found for v in values for found in dimensions_worked_on(self.graph, v) if found[0] in stay or not stay}
        by_norms = {dimension for dimension, is_norm in told if is_norm}
        dimensions = by_norms or {dimension for dimension, _ in told}
        return dimensions.pop() if len(dimensions) == 1 else None
