"""No option of any method of peft in a file imports a package, asks the Hub, reads another file, or hangs: all are tried."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import graftwork as gw
from graftwork.methods.layers.peft_values import refuse_unlisted
from tests.checkpoint.common import attached
from tests.fuzz.watched import Watch

peft = pytest.importorskip("peft")
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as KINDS  # noqa: E402  # only where peft is there

HOSTILE: tuple[Any, ...] = (
    "evilmod.layers",
    "../../etc/passwd",
    {"trust_remote_code": True, "pretrained_model_name_or_path": "who/knows"},
    {"__class__": "evilmod.Evil", "query": "evilmod"},
    ["evilmod", "who/knows"],
    "(.+)+$",
)

# peft compiles an extension of its own for it, whatever a file says.
COMPILES = {"BOFT"}


@pytest.mark.skipif(sys.platform != "linux", reason="imports are told by an audit hook, memory by /proc")
@pytest.mark.parametrize("kind", [kind for one in KINDS if (kind := str(getattr(one, "value", one))) not in COMPILES])
def test_no_option_runs_imports_downloads_or_reads(kind: str, tmp_path: Path) -> None:
    config_class = {str(getattr(one, "value", one)): cls for one, cls in KINDS.items()}[kind]
    _, adapters = attached()
    (tmp_path / "a").mkdir()
    safetensors.torch.save_file({"base_model.model.x": torch.zeros(1)}, tmp_path / "a" / "adapter_model.safetensors")
    names = {field.name for field in dataclasses.fields(config_class)}
    plain = {"peft_type": kind, **({"target_modules": ["query"]} if "target_modules" in names else {})}
    watch: Watch | None = None
    for name in sorted(
        {*names, "auto_mapping", "custom_modules", "trust_remote_code", "runtime_config"} - {"peft_type"}
    ):
        for value in HOSTILE:
            try:
                refuse_unlisted(config_class, {name: value})
            except gw.ConfigError:
                continue
            if watch is None:  # what this method imports in any case
                load(adapters, tmp_path / "a", plain)
                watch = Watch()
            start = time.monotonic()
            found = watch.run(
                lambda name=name, value=value: load(adapters, tmp_path / "a", {**plain, name: value}), tmp_path
            )
            assert isinstance(found, (str, gw.GraftworkError)), (name, value, found)
            assert time.monotonic() - start < 5, (name, value)
            assert "evilmod" not in sys.modules


def load(adapters: gw.Adapters, folder: Path, values: dict[str, Any]) -> str:
    """Load a folder of peft with these options; takes away again what is loaded."""
    (folder / "adapter_config.json").write_text(json.dumps(values))
    try:
        name = adapters.load(folder)
    except gw.GraftworkError as error:
        return str(error)
    adapters.remove(name)  # type: ignore[arg-type]  # a name
    return str(name)


# Patterns that take exponentially many steps on a path, or many: by themselves, or where peft puts its own around them.
SLOW = {
    "a group repeated": "(.+)+x",
    "a group repeated so many times": "(.+){9}x",
    "a group with a comment before its sign": "(.+)(?#)+x",
    "a group with spaces before its sign": "(?x)(.+) +x",
    "a sign that peft's own group comes before": "+x",
    "optional letters": ".?" * 60 + "x",
    "alternatives that overlap": "(.|.)" * 40 + "x",
    "many repetitions": ".*.*.*.*.*.*x",
    "what cannot be compiled": "(((",
    "a repetition too large to compile": "x{99999999999}",
    "more letters than any name has": "x" * 1000,
}
FIELDS: dict[str, Any] = {
    "target_modules": lambda text: text,
    "exclude_modules": lambda text: text,
    "modules_to_save": lambda text: [text],
    "layers_pattern": lambda text: [text],
    "rank_pattern": lambda text: {text: 3},
    "alpha_pattern": lambda text: {text: 3},
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("pattern", SLOW)
def test_patterns_that_could_take_forever_are_refused_at_once(pattern: str, field: str) -> None:
    start = time.monotonic()
    with pytest.raises(gw.ConfigError, match="may not say"):
        gw.Peft(peft={"peft_type": "LORA", field: FIELDS[field](SLOW[pattern])})
    assert time.monotonic() - start < 1


def test_many_patterns_together_are_refused_where_one_is_not() -> None:
    pattern = r".*layers\.\d+\.self_attn\.q_proj"
    assert gw.Peft(peft={"peft_type": "LORA", "rank_pattern": {pattern: 3}})
    with pytest.raises(gw.ConfigError, match="may not say"):
        gw.Peft(peft={"peft_type": "LORA", "rank_pattern": {f"{pattern}{n}": 3 for n in range(2000)}})


@pytest.mark.parametrize(
    "pattern",
    [
        "query",
        "model.layers.31.mlp.down_proj",
        r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$",
        r"^(?!.*vision).*layers.*\.(q|k|v)_proj$",
        r"(model\.)?decoder.*?(fc1|fc2)",
        r"transformer\.h\.[0-9]{1,2}\.attn\.c_attn",
    ],
)
def test_patterns_that_people_write_are_not(pattern: str) -> None:
    assert gw.Peft(peft={"peft_type": "LORA", "target_modules": pattern})


def test_thousands_of_names_are_not_refused() -> None:
    names = {f"model.layers.{n}.self_attn.q_proj": 4 for n in range(1500)}
    assert gw.Peft(peft={"peft_type": "LORA", "rank_pattern": names})
