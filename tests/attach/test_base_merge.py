"""LoRAs in the base's weights, and out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.support.interpreter import Lab, close
from tests.zoo.models import build

TARGETS: dict[str, Any] = {"targets": ("query", "output.dense", "c_attn", "c_proj")}


@pytest.fixture(params=["bert", "gpt2"])
def lab(request: pytest.FixtureRequest) -> Lab:
    made = Lab(request.param)
    made.add("a", gw.LoRA(rank=2, **TARGETS))
    made.add("b", gw.LoRA(rank=3, **TARGETS))
    made.add("p", gw.Pfeiffer(bottleneck_size=3))
    return made


def bits(lab: Lab) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in lab.model.state_dict().items() if "graftwork" not in name}


@pytest.mark.parametrize("composition", ["a", gw.Average("a", "b", weights=[2, -1]), gw.Stack("a", None, "b")], ids=str)
def test_the_base_computes_it_and_has_its_bits_back_after(lab: Lab, composition: Any) -> None:
    before = bits(lab)
    with torch.no_grad():
        expected, above = lab.run(composition), lab.run(gw.Stack(composition, "p"))
    lab.adapters.merge_into_base(composition)
    with torch.no_grad():
        close(lab.run(None), expected, 1e-10)
        close(lab.run("p"), above, 1e-10)
    lab.adapters.unmerge()
    after = bits(lab)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        close(lab.run(composition), expected, 1e-12)


def test_detach_takes_it_back_or_leaves_it(lab: Lab) -> None:
    before = bits(lab)
    with torch.no_grad():
        expected = lab.run("a")
    lab.adapters.merge_into_base("a")
    lab.adapters.detach(keep_merged=True)
    with torch.no_grad():
        close(lab.model(**lab.inputs).last_hidden_state, expected, 1e-10)
    other = Lab("bert")
    other.add("a", gw.LoRA(**TARGETS))
    plain = bits(other)
    other.adapters.merge_into_base("a")
    other.adapters.detach()
    assert all(torch.equal(t, plain[name]) for name, t in other.model.state_dict().items())
    assert before.keys() == lab.model.state_dict().keys()


def test_what_is_merged_is_not_added_twice_nor_saved(lab: Lab, tmp_path: Path) -> None:
    lab.adapters.save("b", tmp_path / "b")
    lab.adapters.active = "a"
    lab.adapters.merge_into_base("a")
    assert lab.adapters.active is None
    with pytest.raises(gw.AttachError, match="'a' is merged into the base and would be added twice"):
        lab.adapters.active = gw.Stack("b", "a")
    with pytest.raises(gw.AttachError, match="merged into the base already"):
        lab.adapters.merge_into_base("b")
    with pytest.raises(gw.AttachError, match="before the base is trained"):
        lab.adapters.train_only("b", base="trained")
    for refused in (
        lambda: lab.adapters.save("b", tmp_path / "c"),
        lambda: lab.adapters.load(tmp_path / "b", "again"),
    ):
        with pytest.raises(gw.CheckpointError, match="is merged into the base"):
            refused()
    lab.adapters.active = "b"


def test_what_no_weight_can_hold_is_refused_and_changes_nothing(lab: Lab) -> None:
    before = bits(lab)
    with pytest.raises(gw.ConfigError, match="'p' is a pfeiffer adapter"):
        lab.adapters.merge_into_base(gw.Stack("a", "p"))
    with pytest.raises(gw.CompositionError, match="not the same for every input"):
        lab.adapters.merge_into_base(gw.MixedBatch(["a", "b", None]))
    after = bits(lab)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_quantised_base_is_refused() -> None:
    model = torch.ao.quantization.quantize_dynamic(build("bert").model, {torch.nn.Linear}, dtype=torch.qint8)
    adapters = gw.attach(model)
    adapters.add("a", gw.LoRA(targets=["query"]))
    with pytest.raises(gw.AttachError, match="no plain tensor of floats"):
        adapters.merge_into_base("a")


@pytest.mark.parametrize("rank", [2, 5])
def test_a_dora_is_refused_and_leaves_the_base_as_it_was(rank: int) -> None:
    """Its change of a weight depends on the weight; its scale and the module's bias are no part of the norm."""
    lab = Lab("bert")
    lab.add("d", gw.DoRA(rank=rank, alpha=7, **TARGETS))
    before = bits(lab)
    with pytest.raises(gw.ConfigError, match="'d' is more than two products"):
        lab.adapters.merge_into_base("d")
    assert all(torch.equal(before[name], t) for name, t in bits(lab).items())
    assert lab.adapters.in_base is None
