"""AdapterHub's library itself, in one process: what it writes is read here with the same outputs, and the reverse.

It needs `adapters` 1.3.0 and the transformers that this wants: ``make test-interop``.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from tests.interop.common import (
    METHODS,
    MODELS,
    WITH_RULE,
    ah,
    differs,
    eager,
    headed,
    run,
    theirs,
)
from tests.interop.table import Shown
from tests.support.interpreter import close
from tests.zoo.models import build


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_read_as_they_write_it_and_written_as_they_read_it(
    name: str, method: str, tmp_path: Path, shown: Shown
) -> None:
    cell = "adapters", method, name
    lacking = {("invertible", "vit"): "invertible adapters for images", ("dora", "gpt2"): "DoRA at merged projections"}
    if (method, name) in lacking:
        shown(*cell, "not there")
        pytest.skip(f"they have no {lacking[method, name]}")
    zoo = build(name)
    # With sdpa, their masks of keys with a prefix are wrong in these two.
    make = eager if "prefix" in method and name in ("bart", "distilbert") else copy.deepcopy
    plain = run(zoo.model, zoo.inputs)
    model = make(zoo.model)
    theirs(model, METHODS[method])
    expected = run(model, zoo.inputs)
    if name != "gpt2" or "prefix" not in method:
        differs(expected, plain)
    model.save_adapter(tmp_path / "theirs", "a", use_safetensors=method != "norms" and "prefix" not in method)
    adapters = gw.attach(zoo.model)
    if method == "invertible" and name in ("t5", "bart"):
        with pytest.raises(gw.CheckpointError, match="encoder's embeddings alone"):
            adapters.load(tmp_path / "theirs")
        shown(*cell, "refused")
        return
    if "prefix" in method and name == "deberta_v2":
        adapters.load(tmp_path / "theirs")
        with pytest.raises(gw.GraftworkError), adapters.using("a"):  # it does not go in front of this attention
            run(zoo.model, zoo.inputs)
        shown(*cell, "refused")
        return
    if "prefix" in method and name in ("gpt2", "t5"):
        with pytest.raises(gw.CheckpointError, match=r"positions of the text|distances between"):
            adapters.load(tmp_path / "theirs")
        shown(*cell, "refused")
        return
    if method == "dora" and name != "t5":
        with pytest.raises(gw.CheckpointError, match="scales the bias"):
            adapters.load(tmp_path / "theirs")
        shown(*cell, "refused")
        return
    assert adapters.load(tmp_path / "theirs") == "a"
    with adapters.using("a"):
        close(run(zoo.model, zoo.inputs), expected, 1e-5)
    shown(*cell, "read")
    if name == "gpt2" and method.startswith("lora"):
        with pytest.raises(gw.CheckpointError, match="one LoRA for each"):
            adapters.save("a", tmp_path / "ours", format="adapterhub")
        return
    adapters.save("a", tmp_path / "ours", format="adapterhub")
    again = make(build(name).model)
    ah.init(again)
    found: dict[str, Any] = {}
    again.load_adapter(str(tmp_path / "ours"), loading_info=found, set_active=True)
    missing = [key for key in found["missing_keys"] if ".pool." not in key]  # the same tensors again, in every layer
    assert not missing and not found["unexpected_keys"]
    close(run(again.eval(), zoo.inputs), expected, 1e-5)
    shown(*cell, "written")


@pytest.mark.parametrize("method", [*WITH_RULE, "seq_bn", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_from_and_to_a_model_with_a_head(name: str, method: str, tmp_path: Path, shown: Shown) -> None:
    cell = "adapters of a model with a head", method, name
    plain, inputs = headed(name)
    model = copy.deepcopy(plain)
    theirs(model, {**METHODS, **WITH_RULE}[method])
    expected = run(model, inputs)
    differs(expected, run(plain, inputs))
    model.save_adapter(tmp_path / "theirs", "a", with_head=False)
    adapters = gw.attach(plain)
    if name == "t5" and method in WITH_RULE:  # where a model is its own base they leave it out too
        with pytest.raises(gw.CheckpointError, match="lacks the rule"):
            adapters.load(tmp_path / "theirs")
        shown(*cell, "refused")
        return
    adapters.load(tmp_path / "theirs")
    with adapters.using("a"):
        close(run(plain, inputs), expected, 1e-5)
    shown(*cell, "read")
    if name == "gpt2" and method == "lora":
        return
    adapters.save("a", tmp_path / "ours", format="adapterhub")
    again, _ = headed(name)
    ah.init(again)
    again.load_adapter(str(tmp_path / "ours"), set_active=True)
    close(run(again.eval(), inputs), expected, 1e-5)
    shown(*cell, "written")


def test_a_rule_that_they_left_out_is_named(tmp_path: Path) -> None:
    zoo = build("bert")
    model = copy.deepcopy(zoo.model)
    theirs(model, WITH_RULE["compacter"])
    model.save_adapter(tmp_path / "theirs", "a")
    with pytest.raises(gw.CheckpointError, match="lacks the rule"):
        gw.attach(zoo.model).load(tmp_path / "theirs")
