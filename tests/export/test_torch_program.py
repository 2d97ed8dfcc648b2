"""Exports to programs of torch: every kind of block, equal at several sizes; LoRAs cost nothing; no graftwork to run them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.support.attached import assert_same, snapshot, with_adapters
from tests.support.exports import assert_equal_everywhere, batch, classifier, in_torch, learned, logits

SMALL = gw.Pfeiffer(bottleneck_size=4)


def pool(block: Any, config: Any = None) -> Callable[[], tuple[Any, gw.Adapters]]:
    def make() -> tuple[Any, gw.Adapters]:
        model, adapters = classifier(x=SMALL, y=SMALL, z=SMALL)
        learned(adapters, block("x", "y", "z", name="learned"), config)
        return model, adapters

    return make


def active(composition: Any, head: str, **methods: Any) -> Callable[[], tuple[Any, gw.Adapters]]:
    def make() -> tuple[Any, gw.Adapters]:
        model, adapters = classifier(**methods)
        adapters.activate(composition, head=head)
        return model, adapters

    return make


CASES = {
    "route": pool(gw.Route, gw.RouteConfig(top_k=2)),
    "scalearn": pool(gw.ScaLearn),
    "ia3": active("x", "x", x=gw.IA3()),
    "invertible in a stack": active(gw.Stack("x", "y"), "y", x=gw.InvertiblePfeiffer(reduction_factor=4), y=SMALL),
}


@pytest.mark.parametrize("case", CASES)
def test_a_block_is_the_model(case: str, tmp_path: Path) -> None:
    model, adapters = CASES[case]()
    before = snapshot(model)
    assert adapters.export(tmp_path / "x", format="torch").max_error < 1e-5
    assert_same(before, snapshot(model))
    assert_equal_everywhere(in_torch, tmp_path / "x", model)


def test_a_lora_costs_nothing_and_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    """Alone, and beside a bottleneck, which costs what it does without the LoRA."""
    model, adapters = classifier(low=gw.LoRA(rank=2), x=SMALL)
    before = snapshot(model)
    bare = adapters.export(tmp_path / "bare", format="torch", head="low")
    lora = adapters.export(tmp_path / "lora", "low", format="torch")
    assert (lora.operators, lora.merged) == (bare.operators, ("low",))
    bottleneck = adapters.export(tmp_path / "bottleneck", "x", format="torch")
    both = adapters.export(tmp_path / "both", gw.Stack("low", "x"), format="torch")
    assert (both.operators, both.merged) == (bottleneck.operators, ("low",))
    assert_same(before, snapshot(model))
    adapters.active = gw.Stack("low", "x")
    assert_equal_everywhere(in_torch, tmp_path / "both", model)
    assert not torch.equal(logits(model, batch(2, 5)), in_torch(tmp_path / "bottleneck", batch(2, 5)))


def test_a_lora_stays_apart_where_another_adapter_looks_at_its_module(tmp_path: Path) -> None:
    """(IA)³ scales what the module gives, in which a LoRA behind it must not be."""
    model, adapters = classifier(low=gw.LoRA(rank=2, targets=["query"]), scale=gw.IA3(targets=["query"]))
    adapters.active = gw.Stack("scale", "low")
    assert adapters.export(tmp_path / "x", format="torch").merged == ()
    assert_equal_everywhere(in_torch, tmp_path / "x", model)


ELSEWHERE = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
inputs, expected = torch.load(sys.argv[2])
found = program(**inputs)["logits"]
torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
print(sorted({"graftwork", "transformers"} & sys.modules.keys()))
"""


def test_a_process_without_graftwork_runs_it(tmp_path: Path) -> None:
    model, adapters = pool(gw.Fuse)()
    adapters.export(tmp_path / "x", format="torch")
    torch.save((batch(3, 9), logits(model, batch(3, 9))), tmp_path / "batch.pt")
    words = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "x" / "model.pt2"), str(tmp_path / "batch.pt")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    saved = torch.export.load(tmp_path / "x" / "model.pt2")
    assert not any("graftwork" in name for name in saved.state_dict if "heads" not in name)  # all of it is folded


@pytest.mark.parametrize("name", ["t5_generation", "vit", "llama_causal"])
def test_other_models(name: str, tmp_path: Path) -> None:
    """An encoder with a decoder is one pass without a cache; images have one size; each with an adapter."""
    model, adapters, inputs = with_adapters(name, x=SMALL)
    adapters.active = "x"
    before = snapshot(model)
    made = adapters.export(tmp_path / "x", format="torch")
    assert_same(before, snapshot(model))
    assert made.max_error < 1e-5 and all(sizes[0] == "batch" for sizes in made.inputs.values())
    run = torch.export.load(tmp_path / "x" / "model.pt2").module()
    mine = {key: value for key, value in inputs.items() if key in made.inputs}
    mine.update({key: torch.ones_like(inputs["input_ids"]) for key in made.inputs if key not in mine})
    with torch.no_grad():
        expected = model(**mine)
        for key, value in run(**mine).items():
            torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=1e-5)
