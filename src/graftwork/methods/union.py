"""Several methods as one adapter (He et al. 2021, *Towards a unified view*, arXiv:2110.04366; Mao et al. 2021, arXiv:2110.07577).

    δ = Σ_k A_k(read_k)        for the parts that are not peft's, each with its own read and write at a site

Parts of peft are where peft puts them: LoRA around layers, a prefix before the keys and values. The union has one name, by which
it is added, trained, saved and removed; `graftwork.methods.mam` and `graftwork.methods.unipelt` are two such unions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Context, Place, Segment
from graftwork.methods.layers.norms import NormPlace
from graftwork.methods.peft import Peft, is_peft
from graftwork.methods.registry import config_from_dict, register_unlisted
from graftwork.options import refuse_unknown


class UnionBase(AdapterConfig):
    """Base of the configurations that are several methods at once; subclasses define `made_of`."""

    @property
    def at_projections(self) -> bool:
        return any(part.at_projections for part in self.made_of)

    @property
    def injected(self) -> Mapping[str, AdapterConfig]:
        return {f"{n}.": part for n, part in enumerate(self.made_of) if part.injected}

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the norms: that of the part with norms of its own."""
        return next((part.torch_dtype for part in self.made_of if part.norms == "own"), super().torch_dtype)

    def shared(self, places: Sequence[Place]) -> nn.Module | None:
        made = {str(n): part.shared(places) for n, part in enumerate(self.made_of)}
        shared = {n: module for n, module in made.items() if module is not None}
        return nn.ModuleDict(shared) if shared else None

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        """Return the modules of all parts at a place, as one module.

        Raises:
            ConfigError: If an invertible part is not the only one, since its inverse would not undo the other; or an option
                does not fit.
        """
        made = {n: part.build(place, _shared_of(shared, n)) for n, part in enumerate(self.made_of)}
        parts = {n: module for n, module in made.items() if module is not None}
        alone = next((n for n, module in parts.items() if module.unweighable is not None), None)
        if alone is not None and len(parts) > 1:
            other = next(n for n in parts if n != alone)
            raise ConfigError(
                f"{type(self).__name__}: at {place.site.key} {self._part(other)} cannot be added to {self._part(alone)}, "
                f"{parts[alone].unweighable}"
            )
        return UnionModule(parts, shared) if parts else None

    def norm_for(self, norm: nn.Module, place: NormPlace, shared: nn.Module | None = None) -> nn.Module | None:
        """Return what replaces a norm: that of the one part that has norms.

        Raises:
            ConfigError: If two parts have them.
        """
        made = {n: part.norm_for(norm, place, _shared_of(shared, n)) for n, part in enumerate(self.made_of)}
        norms = {n: module for n, module in made.items() if module is not None}
        if len(norms) > 1:
            first, second = list(norms)[:2]
            raise ConfigError(
                f"{type(self).__name__}: {self._part(first)} and {self._part(second)} both have norms of their own, and only "
                f"one can replace {place.path!r}; leave norms='own' to one of them"
            )
        return next(iter(norms.values()), None)

    def _part(self, number: int) -> str:
        """The name of a part in messages."""
        return f"part {number} ({type(self.made_of[number]).__name__})"

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        for part in self.made_of:
            part.check(layers)


@register_unlisted
@dataclasses.dataclass(frozen=True, kw_only=True, init=False)
class Union(UnionBase):
    """Several methods as one adapter, ``gw.Union(peft.PrefixTuningConfig(num_virtual_tokens=30), gw.Parallel())``.

    The parts of a union in a union are parts of the outer one. Norms and dtype are options of each part.

    Attributes:
        parts: The configurations, graftwork's or peft's, in any order.

    Raises:
        ConfigError: If there is none, one is no configuration, or one has members.

    Example:
        >>> adapters.add("c", gw.Union(gw.Parallel(bottleneck_size=8), gw.Pfeiffer(bottleneck_size=8)))
    """

    method: ClassVar[str] = "union"

    parts: tuple[AdapterConfig, ...]

    def __new__(cls, *configs: Any, **options: Any) -> Any:
        """Accept parts by position, unlike other configurations."""
        refuse_unknown(cls, options)
        return object.__new__(cls)

    def __init__(self, *configs: Any, parts: Sequence[Any] = (), norms: str = "base", dtype: str = "float32") -> None:
        configurations = [_config(part) for part in (*configs, *parts)]
        if not configurations:
            raise ConfigError(
                "Union() has no parts; give two or more configurations, such as gw.Union(gw.Parallel(), …)"
            )
        for name, value, default in (("norms", norms, "base"), ("dtype", dtype, "float32")):
            if value != default:
                raise ConfigError(f"Union: {name} is {value!r}; give that in the part that it is meant for")
        object.__setattr__(self, "norms", norms)
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "parts", tuple(part for config in configurations for part in config.made_of))
        for part in self.parts:
            if part.members:
                raise ConfigError(
                    f"Union: {type(part).__name__} serves several tasks ({', '.join(part.members)}), and a union has no members; "
                    "add it by itself, and use Stack"
                )

    @property
    def display_name(self) -> str:
        return f"union of {len(self.parts)}"

    @property
    def made_of(self) -> tuple[AdapterConfig, ...]:
        return self.parts

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "parts": [part.to_dict() for part in self.parts]}


def _config(part: Any) -> AdapterConfig:
    """A part as an `AdapterConfig`.

    Raises:
        ConfigError: If it is no configuration.
    """
    if isinstance(part, Mapping):
        return config_from_dict(part)
    if is_peft(part):
        return Peft(peft=part)
    if not isinstance(part, AdapterConfig):
        raise ConfigError(
            f"Union: {part!r} is no configuration; give one, such as gw.Pfeiffer() or peft.LoraConfig(r=8)"
        )
    return part


def _shared_of(shared: nn.Module | None, number: int) -> nn.Module | None:
    """What the sites of one part share."""
    return shared[str(number)] if isinstance(shared, nn.ModuleDict) and str(number) in shared else None


class UnionModule(AdapterModule):
    """``δ = Σ_k A_k(read_k)``, every part with its own read.

    It is banked where its parts are only features of one read: their features and readouts are concatenated.

    Args:
        parts: The modules, by the number of their configuration in the union.
        shared: What the parts share over all sites, as one module.
    """

    def __init__(self, parts: Mapping[int, AdapterModule], shared: nn.Module | None = None) -> None:
        modules = list(parts.values())
        reads = dict.fromkeys([*(m.reads for m in modules), *(role for m in modules for role in m.also_reads)])
        super().__init__(reads=modules[0].reads, writes=modules[0].writes, shared=shared)
        self.also_reads = tuple(reads)[1:]
        self.has_randomness = any(m.has_randomness for m in modules)
        self.mixes_positions = any(m.mixes_positions for m in modules)
        self.causal = any(m.causal for m in modules)
        self.unweighable = next((m.unweighable for m in modules if m.unweighable is not None), None)
        self.dimension = modules[0].dimension
        self.part = nn.ModuleDict({str(n): module for n, module in parts.items()})
        # Past nn.Module's bookkeeping: these have the same parts and are no children of their own.
        self.__dict__["_by_place"] = {
            where: UnionModule({n: m for n, m in parts.items() if m.writes == where})
            for where in dict.fromkeys(m.writes for m in modules)
            if len({m.writes for m in modules}) > 1
        }

    @property
    def parts(self) -> Mapping[int, AdapterModule]:
        return {int(n): module for n, module in self.part.items()}  # type: ignore[misc]

    def set_trainable(self, trainable: bool) -> None:
        self.trainable = trainable
        for module in self.parts.values():
            module.set_trainable(trainable)

    def writing(self, where: str) -> AdapterModule | None:
        by_place: dict[str, AdapterModule] = self.__dict__["_by_place"]
        return by_place.get(where) if by_place else super().writing(where)

    @property
    def random(self) -> bool:
        return any(module.random for module in self.parts.values())

    @property
    def banked(self) -> bool:
        return not self.also_reads and all(
            m.banked and m.foldable and not m.has_randomness for m in self.parts.values()
        )

    @property
    def foldable(self) -> bool:
        return self.banked

    def segments(self) -> tuple[Segment, ...]:
        return tuple(segment for module in self.parts.values() for segment in module.segments())

    def readout(self) -> tuple[Tensor, Tensor | None]:
        ups, constants = zip(*(module.readout() for module in self.parts.values()), strict=True)
        present = [c for c in constants if c is not None]
        return torch.cat(ups, dim=1), sum(present[1:], present[0]) if present else None

    def forward(self, read: Tensor, context: Context, *also: Tensor) -> Tensor:
        reads = dict(zip((self.reads, *self.also_reads), (read, *also), strict=True))
        total: Any = None
        for module in self.parts.values():
            delta: Tensor = module(reads[module.reads], context, *(reads[role] for role in module.also_reads))
            total = delta if total is None else total + delta.to(total.dtype)
        return total
