"""Several methods as one adapter (He et al. 2021, *Towards a unified view*, arXiv:2110.04366; Mao et al. 2021, arXiv:2110.07577).

    δ = Σ_k A_k(read_k)        where parts of ours stand at one site, each with its own read and write

Parts that are configurations of peft stand where peft puts them: LoRA around layers, a prefix in front of the keys and values.
One name is added, trained, saved and removed; `graftwork.methods.mam` and `graftwork.methods.unipelt` are two such unions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Place
from graftwork.methods.layers.norms import NormPlace
from graftwork.methods.layers.union import UnionModule
from graftwork.methods.peft import Peft, is_peft
from graftwork.methods.registry import config_from_dict, register_unlisted
from graftwork.options import refuse_unknown


class UnionBase(AdapterConfig):
    """Base of the configurations that are several methods at once; subclasses say which in `made_of`."""

    @property
    def at_projections(self) -> bool:
        return any(part.at_projections for part in self.made_of)

    @property
    def injected(self) -> Mapping[str, AdapterConfig]:
        return {f"{n}.": part for n, part in enumerate(self.made_of) if part.injected}

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the norms: that of the part that has some."""
        return next((part.torch_dtype for part in self.made_of if part.norms == "own"), super().torch_dtype)

    def shared(self, places: Sequence[Place]) -> nn.Module | None:
        found = {str(n): part.shared(places) for n, part in enumerate(self.made_of)}
        there = {n: shared for n, shared in found.items() if shared is not None}
        return nn.ModuleDict(there) if there else None

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        """The parts that stand at a place, as one module.

        Raises:
            ConfigError: If beside an invertible part stands another, which its inverse does not undo; or an option does not
                fit.
        """
        found = {n: part.build(place, _of(shared, n)) for n, part in enumerate(self.made_of)}
        there = {n: module for n, module in found.items() if module is not None}
        alone = next((n for n, module in there.items() if module.unweighable is not None), None)
        if alone is not None and len(there) > 1:
            other = next(n for n in there if n != alone)
            raise ConfigError(
                f"{type(self).__name__}: at {place.site.key} {_called(self, other)} cannot be added to {_called(self, alone)}, "
                f"{there[alone].unweighable}"
            )
        return UnionModule(there, shared) if there else None

    def norm_for(self, norm: nn.Module, place: NormPlace, shared: nn.Module | None = None) -> nn.Module | None:
        """What stands in for a norm: the one that a part has for it.

        Raises:
            ConfigError: If two parts have one.
        """
        made = {n: part.norm_for(norm, place, _of(shared, n)) for n, part in enumerate(self.made_of)}
        there = {n: module for n, module in made.items() if module is not None}
        if len(there) > 1:
            first, second = list(there)[:2]
            raise ConfigError(
                f"{type(self).__name__}: {_called(self, first)} and {_called(self, second)} both have norms of their own, and "
                f"one stands in for {place.path!r}; leave norms='own' to one of them"
            )
        return next(iter(there.values()), None)

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        for part in self.made_of:
            part.check(layers)


@register_unlisted
@dataclasses.dataclass(frozen=True, kw_only=True, init=False)
class Union(UnionBase):
    """Several methods as one adapter, ``gw.Union(peft.PrefixTuningConfig(num_virtual_tokens=30), gw.Parallel())``.

    A union in a union is its parts. What a part is made with (its norms, its dtype) is said there.

    Attributes:
        parts: The configurations, ours or peft's, in any order.

    Raises:
        ConfigError: If there is none, one is no configuration, or one has members.
    """

    method: ClassVar[str] = "union"

    parts: tuple[AdapterConfig, ...]

    def __new__(cls, *configs: Any, **options: Any) -> Any:
        """Take the parts one by one."""
        refuse_unknown(cls, options)
        return object.__new__(cls)

    def __init__(self, *configs: Any, parts: Sequence[Any] = (), norms: str = "base", dtype: str = "float32") -> None:
        given = [_config(part) for part in (*configs, *parts)]
        if not given:
            raise ConfigError(
                "Union() has no parts; give two or more configurations, such as gw.Union(gw.Parallel(), …)"
            )
        for name, value, default in (("norms", norms, "base"), ("dtype", dtype, "float32")):
            if value != default:
                raise ConfigError(f"Union: {name} is {value!r}; say that in the part that it is meant for")
        object.__setattr__(self, "norms", norms)
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "parts", tuple(part for config in given for part in config.made_of))
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
    """A part as a configuration of ours.

    Raises:
        ConfigError: If it is none.
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


def _of(shared: nn.Module | None, number: int) -> nn.Module | None:
    """What is shared by the sites of one part."""
    return shared[str(number)] if isinstance(shared, nn.ModuleDict) and str(number) in shared else None


def _called(config: AdapterConfig, number: int) -> str:
    return f"part {number} ({type(config.made_of[number]).__name__})"
