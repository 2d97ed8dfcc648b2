"""Any configuration of peft as a method: LoRA, DoRA, (IA)³, prefix and prompt tuning, and what peft adds next.

The configuration is peft's own, and its modules are made by peft (`graftwork.attach` puts them into the model); this file
keeps, compares and writes the configuration. peft is imported when a configuration of it is used, not before.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Place
from graftwork.methods.layers.peft_values import refuse_unlisted
from graftwork.methods.registry import register_unlisted
from graftwork.options import flags, plain

# The methods of peft that can have a gate.
GATED = ("lora", "prefix_tuning")
# Options that depend on the machine or the model, not on the method.
NOT_KEPT = ("auto_mapping", "base_model_name_or_path", "revision", "runtime_config")


@register_unlisted
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Peft(AdapterConfig):
    """A configuration of peft, ``adapters.add("x", peft.LoraConfig(r=8))``.

    Attributes:
        peft: The configuration, or its values including the ``peft_type``.
        gate: Whether each layer has a trainable gate (Mao et al. 2021, arXiv:2110.07577) on what LoRA adds there, or on a
            prefix's keys and values: the mean over unpadded positions of sigmoid(w · h + b), each position for itself in
            decoders.

    Raises:
        ConfigError: If the configuration is none of peft's, or cannot have a gate.

    Example:
        >>> adapters.add("c", gw.Peft(peft={"peft_type": "LORA", "r": 4}, gate=True))
    """

    method: ClassVar[str] = "peft"

    peft: Any
    gate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        given = copy.deepcopy(self.peft)
        object.__setattr__(self, "peft", _from_values(given) if isinstance(given, Mapping) else given)
        if not is_peft(self.peft):
            raise ConfigError(f"Peft: peft is {given!r}; give a configuration of peft, such as peft.LoraConfig(r=8)")
        if self.norms != "base":
            raise ConfigError("Peft: norms is 'own'; what peft trains is in its own configuration (LNTuningConfig)")
        flags(self, "gate")
        if self.gate and (self.kind not in GATED or getattr(self.peft, "use_dora", False)):
            raise ConfigError(
                f"Peft: gate is True, and {type(self.peft).__name__} adds nothing of its own that could be gated; give a plain "
                "LoraConfig or a PrefixTuningConfig"
            )
        self.to_dict()  # refuses an option that cannot be written

    @property
    def injected(self) -> Mapping[str, AdapterConfig]:
        return {"": self}

    @property
    def kind(self) -> str:
        """The method of peft, such as ``"lora"``."""
        return str(plain(self.peft.peft_type)).lower()

    @property
    def display_name(self) -> str:
        return f"{'gated ' if self.gate else ''}peft {self.kind}"

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        """Return ``None``: peft puts its modules into the model itself."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values.

        Raises:
            ConfigError: If an option cannot be written.
        """
        values = {k: plain(v) for k, v in self.peft.to_dict().items() if k not in NOT_KEPT}
        try:
            json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{type(self.peft).__name__} has an option that cannot be written: {error}") from error
        return {"method": self.method, "norms": self.norms, "dtype": self.dtype, "peft": values, "gate": self.gate}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peft) and _as_json(self) == _as_json(other)

    def __hash__(self) -> int:
        return hash(_as_json(self))


def is_peft(config: object) -> bool:
    """Whether an object is a configuration of peft; never imports it."""
    known = sys.modules.get("peft")
    return known is not None and isinstance(config, known.PeftConfig)


def _as_json(config: Peft) -> str:
    return json.dumps(config.to_dict(), sort_keys=True)


def _from_values(values: Mapping[str, Any]) -> Any:
    """The configuration of peft with these values.

    Raises:
        ConfigError: If peft is not installed, its version does not know the method or an option, or a value is refused.
    """
    try:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as known
    except ImportError as error:
        raise ConfigError(f"a configuration of peft needs peft: pip install peft ({error})") from error
    kinds = {plain(kind): cls for kind, cls in known.items()}
    kind = values.get("peft_type")
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"peft_type is {kind!r}; this version of peft has {', '.join(sorted(kinds))}")
    refuse_unlisted(kinds[kind], values)
    try:
        return kinds[kind](**{k: v for k, v in values.items() if k != "peft_type"})
    except (TypeError, ValueError) as error:
        written = values.get("peft_version")
        by = f" (written by peft {written})" if written else ""
        raise ConfigError(f"{kinds[kind].__name__}{by}: {error}") from error
