"""What is pushed to a Hub and loaded from it computes the same, in each format, by the requests that the client really makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf

import graftwork as gw
from tests.support.attached import bert_classifier, ids, lively, output
from tests.support.hub_client import set_client
from tests.support.hub_server import Hub
from tests.zoo.models import build, main_output

INPUTS = {"input_ids": ids()}


def fresh(**configs: Any) -> tuple[hf.PreTrainedModel, gw.Adapters]:
    """The same classifier each time, with adapters whose weights are all moved."""
    model = bert_classifier()
    adapters = gw.attach(model)
    for n, (name, config) in enumerate(configs.items()):
        torch.manual_seed(n)
        adapters.add(name, config)
        lively(adapters, name, seed=n + 1)
    return model, adapters


def computed(model: Any, adapters: gw.Adapters, composition: gw.Composition) -> torch.Tensor:
    with adapters.using(composition):
        return output(model, INPUTS)


@pytest.mark.parametrize(
    ("form", "config"),
    [("graftwork", gw.Houlsby()), ("adapterhub", gw.Pfeiffer()), ("peft", gw.LoRA(targets=["query"]))],
    ids=["graftwork", "adapterhub", "peft"],
)
def test_an_adapter_with_its_head(hub: Hub, form: str, config: gw.AdapterConfig) -> None:
    model, adapters = fresh(mrpc=config)
    pushed = adapters.push("mrpc", "org/mrpc-adapter", format=form)
    assert hub.repositories["org/mrpc-adapter"].refs["main"] == pushed.commit and not pushed.card_kept
    again, others = fresh()
    name = others.load("org/mrpc-adapter")
    assert name == ("mrpc-adapter" if form == "peft" else "mrpc")
    torch.testing.assert_close(computed(again, others, name), computed(model, adapters, "mrpc"))
    assert not torch.allclose(computed(again, others, name), computed(again, others, None))


def test_what_peft_itself_has_written(hub: Hub, tmp_path: Path) -> None:
    zoo = build("bert")
    wrapped = peft.get_peft_model(zoo.model, peft.LoraConfig(r=4)).eval()
    with torch.no_grad():
        for n, p in enumerate(p for name, p in wrapped.named_parameters() if "lora_" in name):
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(n)), alpha=0.2)
        expected = main_output(wrapped(**zoo.inputs))
    wrapped.save_pretrained(tmp_path / "theirs")
    hub.put("org/lora", tmp_path / "theirs")
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    with adapters.using(adapters.load("org/lora")):
        torch.testing.assert_close(output(zoo.model, zoo.inputs), expected)


@pytest.mark.parametrize("form", ["graftwork", "adapterhub"])
def test_a_fusion_brings_its_pool_along(hub: Hub, form: str) -> None:
    model, adapters = fresh(a=gw.Pfeiffer(), b=gw.Pfeiffer())
    name = "a,b" if form == "adapterhub" else "both"
    adapters.add_fusion(gw.Fuse("a", "b", name=name), head_from="a")
    lively(adapters, name, seed=5)
    adapters.push(name, "org/fusion", format=form)
    again, others = fresh()
    found = others.load("org/fusion")
    assert found == gw.Fuse("a", "b", name=name)
    torch.testing.assert_close(computed(again, others, found), computed(model, adapters, gw.Fuse("a", "b", name=name)))


def test_a_fusion_alone_is_loaded_over_its_pool(hub: Hub) -> None:
    model, adapters = fresh(a=gw.Pfeiffer(), b=gw.Pfeiffer())
    adapters.add_fusion(gw.Fuse("a", "b", name="both"))
    lively(adapters, "both", seed=5)
    adapters.push("both", "org/fusion", members=False)
    assert "# load 'a', 'b' first" in hub.files("org/fusion")["README.md"].decode()
    again, others = fresh(a=gw.Pfeiffer(), b=gw.Pfeiffer())
    assert others.load("org/fusion") == "both"
    torch.testing.assert_close(computed(again, others, "both"), computed(model, adapters, "both"))


def test_a_composition_is_one_repository_and_its_parts_are_folders_in_it(hub: Hub) -> None:
    model, adapters = fresh(en=gw.InvertiblePfeiffer(), sst=gw.Pfeiffer())
    stack = gw.Stack("en", "sst")
    adapters.push(stack, "org/whole")
    again, others = fresh()
    assert others.load("org/whole") == stack
    torch.testing.assert_close(computed(again, others, stack), computed(model, adapters, stack))
    assert others.labels("sst") == adapters.labels("sst")
    third, part = fresh()
    assert part.load("org/whole", subfolder="adapters/1") == "sst"
    torch.testing.assert_close(computed(third, part, "sst"), computed(model, adapters, "sst"))


def test_revisions_are_branches_and_commits(hub: Hub) -> None:
    model, adapters = fresh(a=gw.Pfeiffer())
    first = adapters.push("a", "org/a")
    before = computed(model, adapters, "a")
    lively(adapters, "a", seed=9)
    adapters.push("a", "org/a")
    adapters.push("a", "org/a", revision="wider", message="another try")
    assert hub.repositories["org/a"].messages[-1] == "another try"
    again, others = fresh()
    for name, revision, expected in (
        ("old", first.commit, before),
        ("new", None, computed(model, adapters, "a")),
        ("branch", "wider", computed(model, adapters, "a")),
    ):
        others.load("org/a", name, revision=revision)
        torch.testing.assert_close(computed(again, others, name), expected)
    assert "revision='wider'" in hub.files("org/a", "wider")["README.md"].decode()
    with pytest.raises(gw.HubError, match="no such revision; give a branch, a tag or a commit"):
        others.load("org/a", "c", revision="nowhere")


def test_offline_what_was_downloaded_is_loaded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapters = fresh(a=gw.Pfeiffer())
    adapters.push("a", "org/a")
    fresh()[1].load("org/a")
    set_client(monkeypatch, HF_HUB_OFFLINE=True)
    hub.clear()
    again, others = fresh()
    others.load("org/a")
    torch.testing.assert_close(computed(again, others, "a"), computed(model, adapters, "a"))
    assert hub.requests == []
    with pytest.raises(gw.HubError, match=r"load\('org/b'\), which is no folder here: offline mode is on"):
        others.load("org/b")


def test_a_hub_that_is_out_of_order_is_warned_of(hub: Hub) -> None:
    model, adapters = fresh(a=gw.Pfeiffer())
    adapters.push("a", "org/a")
    fresh()[1].load("org/a")
    hub.failing = True
    again, others = fresh()
    with pytest.warns(UserWarning, match="what was downloaded before is used"):
        others.load("org/a")
    torch.testing.assert_close(computed(again, others, "a"), computed(model, adapters, "a"))
    with pytest.raises(gw.HubError, match="what it asks for was not downloaded before"):
        others.load("org/b")


def test_a_folder_is_a_folder(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapters = fresh(a=gw.Pfeiffer())
    monkeypatch.chdir(tmp_path)
    adapters.save("a", "org/a")
    _, others = fresh()
    assert others.load("org/a") == "a" and hub.requests == []
    with pytest.raises(gw.ConfigError, match="revision is 'main', which is for a repository of the Hub alone"):
        others.load("org/a", "b", revision="main")


@pytest.mark.parametrize("where", ["nowhere", "./org/a", "a/b/c", "org/a.git", "org/a--b", "/nowhere/a"])
def test_what_is_neither_is_told_both(hub: Hub, where: str) -> None:
    with pytest.raises(gw.CheckpointError, match="is no folder that is there, and cannot be the id of a repository"):
        fresh()[1].load(where)
    assert hub.requests == []
