"""Compositions as data: how much of which adapter, and in what order.

A composition is a name, ``None`` (the adapter that adds nothing), or a block whose children are compositions, nested to
any depth. Blocks are immutable, compare by value, and go to JSON and back; what they *do* is in
`graftwork.compose.nodes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, Union

from graftwork.errors import CompositionError

Composition: TypeAlias = Union[str, "Block", None]

_BLOCKS: dict[str, type[Block]] = {}


class Block:
    """Base of the composition blocks.

    Attributes:
        children: The compositions inside, in order.
        options: The block's own settings, by name.
    """

    kind: ClassVar[str] = ""
    children: tuple[Composition, ...]
    options: Mapping[str, Any]

    def __init_subclass__(cls) -> None:
        if cls.kind:
            _BLOCKS[cls.kind] = cls

    def __init__(self, *children: Composition, **options: Any) -> None:
        if not children:
            raise CompositionError(f"{type(self).__name__}() has no children; name at least one adapter")
        for child in children:
            if child is not None and not isinstance(child, (str, Block)):
                raise CompositionError(
                    f"{type(self).__name__} has the child {child!r}; a child is an adapter's name, None, or a block"
                )
        object.__setattr__(self, "children", tuple(children))
        object.__setattr__(self, "options", options)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; make a new one")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.to_dict() == other.to_dict()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.kind, self.children, tuple((k, _hashable(v)) for k, v in self.options.items())))

    def __repr__(self) -> str:
        parts = [repr(c) for c in self.children] + [f"{k}={v!r}" for k, v in self.options.items() if v is not None]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return composition_from_dict, (self.to_dict(),)

    @classmethod
    def from_children(cls, *children: Composition, **options: Any) -> Block:
        """A block of its children and options, as `to_dict` has them."""
        return cls(*children, **options)

    def to_dict(self) -> dict[str, Any]:
        """The block as JSON values."""
        children = [composition_to_dict(c) for c in self.children]
        return {"block": self.kind, "children": children, **{k: _listed(v) for k, v in self.options.items()}}

    def walk(self) -> Iterator[Composition]:
        """Every composition in the tree, this one first."""
        yield self
        for child in self.children:
            if isinstance(child, Block):
                yield from child.walk()
            else:
                yield child


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class Stack(Block):
    """One update after another: each child sees the branch's output with the additions of those before it.

    Example:
        >>> adapters.active = gw.Stack("a", "b")  # b reads the stream with what a added
    """

    kind = "stack"

    def __init__(self, *children: Composition) -> None:
        super().__init__(*children)


class Average(Block):
    """The weighted mean of the children's additions.

    Args:
        *children: What is averaged.
        weights: One number a child; equal where not given.
        normalize: Whether the weights are divided by their sum.
        norms: ``"base"`` uses the base's norms where the children's own differ; without it that is an error.

    Example:
        >>> adapters.activate(gw.Average("a", "b", weights=[0.3, 0.7]), head="a")
    """

    kind = "average"

    def __init__(
        self,
        *children: Composition,
        weights: Sequence[float] | None = None,
        normalize: bool = True,
        norms: str | None = None,
    ) -> None:
        weights = None if weights is None else numbers("Average", "weights", weights, len(children), (int, float))
        super().__init__(*children, weights=weights, normalize=bool(normalize), norms=norms_option(norms))
        if weights is not None and normalize and sum(weights) == 0:
            raise CompositionError(f"Average: the weights {list(weights)} add up to 0; give normalize=False or others")

    @property
    def weights(self) -> tuple[float, ...]:
        """One number a child, as they are applied."""
        given = self.options["weights"] or (1.0,) * len(self.children)
        total = sum(given) if self.options["normalize"] else 1.0
        return tuple(w / total for w in given)


class Learned(Block):
    """Base of the blocks that learn how to combine their children (see `graftwork.compose.fusion.learned`).

    Args:
        *children: The pool, in no particular order.
        name: The name that its weights belong to, beside those of adapters. By default made of the children.
        norms: ``"base"`` uses the base's norms where the children's own differ; without it that is an error.
    """

    def __init__(self, *children: Composition, name: str | None = None, norms: str | None = None) -> None:
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise CompositionError(
                f"{type(self).__name__}: {name!r} cannot be the name of a fusion; give a text that is not empty"
            )
        super().__init__(*children, name=name, norms=norms_option(norms))

    @property
    def name(self) -> str:
        """The name of the weights."""
        return self.options["name"] or "+".join(sorted(_label(c) for c in self.children))


class Fuse(Learned):
    """AdapterFusion (Pfeiffer et al. 2020, arXiv:2005.00247): a learned attention over the children, for each token.

    Args:
        *children: The pool, in no particular order.
        name: The fusion's name. Its weights belong to the name: a smaller or larger pool under one name shares them,
            and two fusions of different names may share one pool. By default made of the children.
        norms: ``"base"`` uses the base's norms where the children's own differ; without it that is an error.

    Example:
        >>> adapters.add_fusion(gw.Fuse("a", "b", name="ab"))
        >>> adapters.train_only("ab")
    """

    kind = "fuse"


class Concat(Learned):
    """One learned linear map over what each child makes of the site (as K-Adapter combines, Wang et al. 2020, arXiv:2002.01808).

    Args:
        *children: The pool; weights belong to each child.
        name: The name that its weights belong to, beside those of adapters. By default made of the children.
        norms: ``"base"`` uses the base's norms where the children's own differ; without it that is an error.

    Example:
        >>> adapters.add_fusion(gw.Concat("a", "b", name="ab"))
        >>> adapters.train_only("ab")
    """

    kind = "concat"


class Drop(Block):
    """A composition without its first layers (AdapterDrop, Rücklé et al. 2021, arXiv:2010.11918).

    At the layers that are left out nothing of it is computed, fusions included; its head and its norms stay. A site at
    the embeddings or the output is of no layer, and stays too.

    Args:
        child: What is computed at the other layers.
        layers: The number of layers that are left out, the first ones with sites of each stack; or a list of layers: the
            numbers of their sites (`Site.layer`, the model's own numbers), or ``"decoder.block.3"``.

    Example:
        >>> adapters.active = gw.Drop("a", layers=1)
    """

    kind = "drop"

    def __init__(self, child: Composition, *, layers: int | Sequence[int | str]) -> None:
        first = type(layers) is int and layers >= 0
        several = isinstance(layers, Iterable) and not isinstance(layers, (str, bytes))
        listed = tuple(layers) if several else ()  # type: ignore[arg-type]  # mypy does not follow `several`
        if not (first or several) or any(type(x) not in (int, str) for x in listed):
            raise CompositionError(
                f"Drop: layers is {layers!r}; give the number of first layers that are left out, or a list of layers"
            )
        super().__init__(child, layers=layers if first else listed)

    def leaves_out(self, stack: str, layer: int, nth: int) -> bool:
        """Whether nothing is computed at a layer of that number, which is the ``nth`` (from 0) of its stack with sites."""
        layers = self.options["layers"]
        if isinstance(layers, int):
            return nth < layers
        return any(str(x) in (str(layer), f"{stack}.{layer}") for x in layers)


def numbers(owner: str, field: str, values: object, children: int, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """One finite number a child, as a tuple."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise CompositionError(f"{owner}: {field} is {values!r}; give a list with one number a child")
    found = tuple(values)
    if len(found) != children:
        name = field.replace("_", " ")
        raise CompositionError(f"{owner} has {children} children and {len(found)} {name}; give one a child")
    for value in found:
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):  # type: ignore[arg-type]
            kind = "a number" if float in kinds else "a whole number"
            raise CompositionError(f"{owner}: {field} has {value!r}, which is no number for a child; give {kind}")
    return found


def norms_option(value: str | None) -> str | None:
    """The option ``norms`` of a block, checked."""
    if value not in (None, "base"):
        raise CompositionError(f"norms is {value!r}; it is 'base' or not given")
    return value


def _label(child: Composition) -> str:
    return child if isinstance(child, str) else "none" if child is None else repr(child)


def composition_to_dict(composition: Composition) -> Any:
    """A composition as JSON values.

    Example:
        >>> gw.composition_to_dict(gw.Stack("a", "b"))["children"]
        ['a', 'b']
    """
    return composition.to_dict() if isinstance(composition, Block) else composition


def composition_from_dict(data: Any) -> Composition:
    """The inverse of `composition_to_dict`.

    Raises:
        CompositionError: If the block is unknown or its options do not fit.

    Example:
        >>> gw.composition_from_dict(gw.composition_to_dict(gw.Stack("a", "b")))
        Stack('a', 'b')
    """
    if data is None or isinstance(data, str):
        return data
    if not isinstance(data, Mapping):
        raise CompositionError(f"{data!r} is no composition; it is a name, None, or a mapping with a 'block'")
    options = dict(data)
    kind = options.pop("block", None)
    if kind not in _BLOCKS:
        raise CompositionError(f"block {kind!r} is not known; it is one of {', '.join(_BLOCKS)}")
    children = [composition_from_dict(c) for c in options.pop("children", [])]
    make: Any = _BLOCKS[kind].from_children
    try:
        return make(*children, **options)  # type: ignore[no-any-return]
    except TypeError as error:
        raise CompositionError(f"block {kind!r} does not fit: {error}") from error


def names_in(composition: Composition) -> list[str]:
    """The adapters' names in a composition, in order, each once."""
    parts = composition.walk() if isinstance(composition, Block) else [composition]
    return list(dict.fromkeys(p for p in parts if isinstance(p, str)))


def fusions_in(composition: Composition) -> list[Learned]:
    """The blocks of a composition that learn how to combine, outermost first."""
    parts = composition.walk() if isinstance(composition, Block) else [composition]
    return [p for p in parts if isinstance(p, Learned)]
