"""What a recipe or a file may say of a configuration of peft."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import graftwork as gw
from graftwork.methods import Peft, config_from_dict

peft = pytest.importorskip("peft")


def made(**options: Any) -> Any:
    return config_from_dict({"method": "peft", "peft": options}).peft  # type: ignore[attr-defined]


GOOD: dict[str, dict[str, Any]] = {
    "lora": {
        "peft_type": "LORA",
        "r": 3,
        "target_modules": ["query", "value"],
        "rank_pattern": {"query": 2},
        "bias": "none",
    },
    "a pattern": {"peft_type": "LORA", "target_modules": r".*layer\.\d\.attention.*(query|value)$"},
    "a start": {"peft_type": "LORA", "init_lora_weights": "gaussian", "layers_to_transform": [0, 1]},
    "oft": {"peft_type": "OFT", "oft_block_size": 4, "r": 0},
    "road": {"peft_type": "ROAD", "variant": "road_2"},
    "prefix": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3, "prefix_projection": True},
}


@pytest.mark.parametrize("key", GOOD)
def test_good(key: str) -> None:
    config = made(**GOOD[key])
    assert {name: getattr(config, name) for name in ("r", "num_virtual_tokens") if name in GOOD[key]} == {
        name: value for name, value in GOOD[key].items() if name in ("r", "num_virtual_tokens")
    }


@pytest.mark.parametrize("kind", sorted(str(k.value) for k in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING))
def test_what_peft_writes_of_its_defaults_may_be_said(kind: str) -> None:
    """Every method that can be made of its defaults: what its configuration says of itself makes it again."""
    cls = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)]
    try:
        config = Peft(peft=cls())
    except (TypeError, ValueError) as error:
        pytest.skip(f"{cls.__name__} cannot be made of its defaults: {error}")
    assert config_from_dict(config.to_dict()) == config


BAD: dict[str, dict[str, Any]] = {
    "an import": {"megatron_config": {"a": 1}},
    "another import": {"megatron_core": "evilmod"},
    "options of a call": {"loftq_config": {"loftq_bits": 4}},
    "a pattern that hangs": {"target_modules": "(.+)+$"},
    "one in a list": {"target_modules": ["query", "(a*)*"]},
    "many repetitions": {"target_modules": ".*.*.*.*x"},
    "a long name": {"target_modules": "x" * 400},
    "a table of texts": {"rank_pattern": {"query": "8"}},
    "a text for a number": {"r": "8"},
}


@pytest.mark.parametrize("key", BAD)
def test_bad(key: str) -> None:
    with pytest.raises(gw.ConfigError, match=f"LoraConfig: {next(iter(BAD[key]))} is .* may not say"):
        made(peft_type="LORA", **BAD[key])


def test_in_python_anything_may_be_said() -> None:
    config = peft.LoraConfig(target_modules="(a+)+")
    assert Peft(peft=config).peft.target_modules == "(a+)+"
    assert "target_modules" in {f.name for f in dataclasses.fields(config)}


@pytest.mark.parametrize("given", [{}, {"peft_type": 3}, {"peft_type": ["LORA"]}, {"peft_type": "LORA", "no": 1}])
def test_what_is_none_of_peft(given: dict[str, Any]) -> None:
    with pytest.raises(gw.ConfigError):
        made(**given)
