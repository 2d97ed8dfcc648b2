"""Where an adapter can read and write, as plain data.

A transformer layer is a residual stream ``s`` that branches add to: ``s ← s + scale · y``, and in a post-norm
model ``s ← norm(s + scale · y)``. A `Site` is one such addition. It is found by discovery
(`graftwork.sites.discovery.discover`) or written by hand, and it holds nothing but names and numbers: JSON both ways.
Convolutions over images and projections (linear modules, where LoRA goes) are sites too: they have an input and an output, and
no stream.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from graftwork.errors import ConfigError, SiteError

Kind = Literal[
    "attention",
    "cross_attention",
    "feed_forward",
    "mixer",
    "composite",
    "layer",
    "embedding",
    "output_projection",
    "convolution",
    "projection",
]
KINDS: tuple[str, ...] = get_args(Kind)
_IN_NO_LAYER = ("embedding", "output_projection")


@dataclasses.dataclass(frozen=True)
class Tap:
    """A tensor at the edge of a module: one input or output of one call of it.

    Attributes:
        module: Dotted path of the module from the root of the model.
        end: Whether the tensor enters or leaves the module.
        slot: For an input, the position among the positional arguments or the name of the keyword argument. For an
            output, the index in a tuple or the key of a model output; ``None`` when the output is the tensor itself.
        call: Which call of the module within one forward pass of the model. At a site whose block is called once a layer
            (``extra["within"]`` names the module that runs all of these calls) which call of the block.

    Example:
        >>> str(gw.Tap("layers.0.attn", "output", 0))
        'layers.0.attn.output[0]'
    """

    module: str
    end: Literal["input", "output"]
    slot: int | str | None = None
    call: int = 0

    def __post_init__(self) -> None:
        if self.end not in ("input", "output"):
            raise ConfigError(f"Tap({self.module!r}): end is {self.end!r}; it must be 'input' or 'output'")
        if self.end == "input" and self.slot is None:
            raise ConfigError(
                f"Tap({self.module!r}): an input needs a slot, a position (0) or a keyword ('hidden_states')"
            )

    def __str__(self) -> str:
        slot = "" if self.slot is None else f"[{self.slot}]"
        call = f"@{self.call}" if self.call else ""
        return f"{self.module}{call}.{self.end}{slot}"


@dataclasses.dataclass(frozen=True)
class Site:
    """One place where a branch is added to the residual stream, or where a convolution returns.

    Attributes:
        stack: Dotted path of the list of blocks, ``"encoder.layer"``.
        layer: Index of the layer in its stack, counted in calls (a block that is called twice is two layers).
        kind: What the branch does: one of `KINDS`. At a site of kind ``layer`` the block's output is the stream.
        block: Dotted path of the block that the addition belongs to.
        output: The branch's output ``y``: the outermost module that returns the addend. Written to.
        residual: Where the stream ``s`` can be read before the addition, at any module inside the block.
        input: Where the branch's input ``x`` can be read: the stream in a post-norm model, what the branch's own norm
            returns in a pre-norm one.
        layer_input: Where the stream can be read as it enters the layer.
        width: Size ``d`` of the features: of the last dimension, or of the one that ``extra["channels"]`` names (1 in images).
        rows: The dimension that holds the rows of the batch in these tensors, alone or with several entries for each row
            (the windows of an image). ``None`` where that is not known, or the rows are not those of the batch (images that
            belong to some rows and not to others): compositions by rows are refused there.
        norm: Dotted path of the norm that takes ``s + scale · y`` and nothing else does (post-norm), or ``None``.
        scale: The model's own factor on the branch: a number, the dotted path of a parameter, or ``None`` for 1.
        index: Number of the site among those of its kind in its layer, in order of execution.
        extra: Facts only some kinds have, strings to JSON values.

    Example:
        >>> mlp = gw.Tap("layers.0.mlp", "output")
        >>> site = gw.Site(stack="layers", layer=0, kind="feed_forward", block="layers.0", output=mlp, width=768)
        >>> site.key
        'layers.0.feed_forward'
    """

    stack: str
    layer: int
    kind: Kind
    block: str
    output: Tap
    width: int
    residual: Tap | None = None
    input: Tap | None = None
    layer_input: Tap | None = None
    norm: str | None = None
    scale: float | str | None = None
    index: int = 0
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    rows: int | None = 0

    def __post_init__(self) -> None:
        where = f"Site {self.kind} at {self.block!r}"
        if self.kind not in KINDS:
            raise ConfigError(f"{where}: this kind is not known; it is one of {', '.join(KINDS)}")
        if self.width < 1:
            raise ConfigError(f"{where}: width is {self.width}; it must be 1 or more")
        if self.rows is not None and (type(self.rows) is not int or self.rows < 0):
            raise ConfigError(f"{where}: rows is {self.rows!r}; it must be a dimension, 0 or more, or None")

    @property
    def name(self) -> str:
        """Name of the site within its layer: its kind, numbered where the layer has several; of a projection its path there."""
        if self.kind == "projection":
            return self.output.module.removeprefix(f"{self.block}.")
        return self.kind if not self.index else f"{self.kind}_{self.index}"

    @property
    def key(self) -> str:
        """Unique name of the site in its model: ``"encoder.layer.3.feed_forward"``; of a projection its module's path."""
        if self.kind == "projection":
            return self.output.module
        return f"{self.stack}.{self.layer}.{self.name}" if self.stack else f"{self.layer}.{self.name}"

    @property
    def input_width(self) -> int:
        """Size of the features of the branch's input; of a projection it may be another than that of its output."""
        return int(self.extra.get("input_width", self.width))

    @property
    def summed(self) -> bool:
        """Whether the module of the output returns the sum of the stream and the branch."""
        return self.extra.get("returns") == "sum"

    @property
    def backwards(self) -> bool:
        """Whether a Stack is applied last to first: before the output projection it undoes what it did to the embeddings."""
        return self.kind == "output_projection"

    def holds_stream(self, stream: bool) -> bool:
        """Whether what is written is the stream itself: at the end of a layer, or (``stream``) after a post-norm."""
        return self.kind == "layer" or (stream and self.norm is not None)

    def to_dict(self) -> dict[str, Any]:
        """The site as JSON values, fields at their default left out."""
        defaults = {"index": 0, "extra": {}, "rows": 0}
        return {name: value for name, value in dataclasses.asdict(self).items() if value != defaults.get(name)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Site:
        """The inverse of `to_dict`.

        Args:
            data: What `to_dict` returned.

        Raises:
            ConfigError: If a field is unknown, missing, or of another type.
        """
        unknown = set(data) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise ConfigError(
                f"a site has unknown fields {sorted(unknown)}; it was written by a newer version, or by hand"
            )
        ends = ("output", "residual", "input", "layer_input")
        try:
            taps = {end: Tap(**data[end]) for end in ends if data.get(end) is not None}
            return cls(**{**data, **taps})
        except TypeError as error:
            raise ConfigError(f"a site lacks a field, or has one of another type: {error}") from error


class SiteMap:
    """The sites of one model, in order of execution: an iterable of `Site`, printable, JSON both ways.

    Iterating, ``len`` and the layers are those of the residual stream (and of convolutions). The projections, of which a large
    model has hundreds, are apart; keys and places cover both.

    Attributes:
        projections: The sites at linear modules inside the layers.
        places: Every site at its place in the map: first the others, then the projections.
        place_of: The place of each site, by its key.
        model_class: Name of the class the sites were found in.
        prefix: Dotted path (with its dot) from the root to the base model, ``"bert."``, or ``""``. `key_of` leaves
            it out, so that an adapter fits the base model with and without a task head around it.
        norms: Dotted paths of every norm module of the base, in order (also of those at no site: an adapter's norms can
            replace them too).
        blocks: The paths of the blocks, in order of execution.
        numbers: Every stack with the numbers of its layers, in rising order; they need not start at 0, nor be consecutive.

    Example:
        >>> adapters.sites.stacks
        {'bert.encoder.layer': 2}
        >>> adapters.sites["encoder.layer.0.attention"].width
        32
    """

    def __init__(
        self,
        sites: Iterable[Site],
        *,
        model_class: str = "",
        prefix: str = "",
        norms: Iterable[str] = (),
        projections: Iterable[Site] = (),
    ) -> None:
        self._sites = tuple(sites)
        self.projections = tuple(projections)
        self.places = (*self._sites, *self.projections)
        self.model_class = model_class
        self.prefix = prefix
        self.norms = tuple(norms)
        self._by_key: dict[str, Site] = {}
        layers: dict[str, set[int]] = {}
        for site in self.places:
            key = self.key_of(site)
            if key in self._by_key:
                raise SiteError(
                    f"two sites are called {key!r}: outputs {self._by_key[key].output} and {site.output}; "
                    "give the second one index=1"
                )
            self._by_key[key] = site
            if site.kind not in (*_IN_NO_LAYER, "projection"):
                layers.setdefault(site.stack, set()).add(site.layer)
        self.numbers = {stack: tuple(sorted(found)) for stack, found in layers.items()}
        self.blocks = tuple(dict.fromkeys(site.block for site in self._sites if site.kind not in _IN_NO_LAYER))
        self.place_of = {key: place for place, key in enumerate(self._by_key)}

    def key_of(self, site: Site) -> str:
        """The site's key without the path of the base model at its start."""
        return site.key.removeprefix(self.prefix)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def __getitem__(self, key: str) -> Site:
        try:
            return self._by_key[key.removeprefix(self.prefix)]
        except KeyError:
            known = ", ".join(list(self._by_key)[:8])
            raise SiteError(f"no site is called {key!r}; there are {len(self)}: {known}, ...") from None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.removeprefix(self.prefix) in self._by_key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SiteMap) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # holds a mapping, compared by value

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that occur, in the order of `KINDS`."""
        present = {site.kind for site in self.places}
        return tuple(kind for kind in KINDS if kind in present)

    @property
    def stacks(self) -> dict[str, int]:
        """Every stack of layers with its number of layers."""
        return {stack: len(layers) for stack, layers in self.numbers.items()}

    @property
    def projection_names(self) -> tuple[str, ...]:
        """The last parts of the projections' paths, each once: ``("q_proj", "k_proj", …)``."""
        return tuple(dict.fromkeys(site.output.module.rpartition(".")[2] for site in self.projections))

    def of_kind(self, *kinds: str) -> tuple[Site, ...]:
        """The sites of the given kinds, in order of execution."""
        return tuple(site for site in self if site.kind in kinds)

    def layers(self, stack: str) -> dict[int, tuple[Site, ...]]:
        """The sites of one stack, grouped by layer."""
        found: dict[int, tuple[Site, ...]] = {}
        for site in self:
            if site.stack == stack and site.kind not in _IN_NO_LAYER:
                found[site.layer] = (*found.get(site.layer, ()), site)
        return found

    def to_dict(self) -> dict[str, Any]:
        """The map as JSON values."""
        return {
            "model_class": self.model_class,
            "prefix": self.prefix,
            "norms": list(self.norms),
            "sites": [site.to_dict() for site in self],
            **({"projections": [site.to_dict() for site in self.projections]} if self.projections else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SiteMap:
        """The inverse of `to_dict`; a `ConfigError` for anything that is not its result."""
        try:
            return cls(
                (Site.from_dict(site) for site in data["sites"]),
                model_class=data.get("model_class", ""),
                prefix=data.get("prefix", ""),
                norms=data.get("norms", ()),
                projections=(Site.from_dict(site) for site in data.get("projections", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"this is no map of sites ({error!r:.200}); give what to_dict() or to_json() returned"
            ) from error

    def to_json(self) -> str:
        """The map as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> SiteMap:
        """The inverse of `to_json`; a `ConfigError` for anything that is not its result."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"this map of sites is no JSON ({error}); give what to_json() returned") from error
        return cls.from_dict(data)

    def __repr__(self) -> str:
        return f"SiteMap({self.model_class or '?'}: {len(self)} sites)"

    def __str__(self) -> str:
        lines = [f"{len(self)} sites in {self.model_class or 'a model'}"]
        for stack, count in self.stacks.items():
            lines.append(f"  {stack or '(root)'}: {count} layers")
            for layer, sites in self.layers(stack).items():
                for site in sites:
                    norm = f", then {site.norm}" if site.norm else ""
                    scale = f", scaled by {site.scale}" if site.scale is not None else ""
                    lines.append(f"    {layer:3d} {site.name:16s} {site.output}  (width {site.width}{scale}{norm})")
        if not self._sites:
            lines += [f"  norm: {path}" for path in self.norms]
        for site in self.of_kind(*_IN_NO_LAYER):
            lines.append(f"  {site.kind}: {site.output}  (width {site.width})")
        if self.projections:
            lines.append(f"  {len(self.projections)} projections: {', '.join(self.projection_names)}")
        return "\n".join(lines)
