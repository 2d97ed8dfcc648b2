"""Adapters with members: naming one in a composition, training what is one's alone, adding, dropping, heads, files."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods.layers.hypernetwork import TaskAdapter
from tests.support.attached import SMALL as SMALL_BERT
from tests.support.attached import bert_classifier, ids, lively, made, output

INPUTS = {"input_ids": ids()}
CONFIG = gw.HyperformerPlusPlus(tasks=("mnli", "qqp"), bottleneck_size=4)


def setup(config: gw.AdapterConfig = CONFIG, model: Any = None) -> tuple[Any, gw.Adapters]:
    model = bert_classifier() if model is None else model
    adapters = gw.attach(model)
    adapters.add("hyper", config)
    lively(adapters, "hyper", seed=3, size=0.1)
    return model, adapters


def run(model: Any, adapters: gw.Adapters, composition: Any, **how: Any) -> Tensor:
    with adapters.using(composition, **how):
        return output(model, INPUTS)


def tensors(adapters: gw.Adapters, but: tuple[nn.Module, ...] = ()) -> dict[str, Tensor]:
    left = {id(p) for m in but for p in m.parameters()}
    return {n: p.detach().clone() for n, p in adapters.model.named_parameters() if id(p) not in left}


def step(model: Any, adapters: gw.Adapters) -> None:
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    model(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    optimiser.step()
    optimiser.zero_grad()


# -- names -------------------------------------------------------------------------------------------------------------


def test_members_compose_as_adapters_do() -> None:
    model, adapters = setup()
    mnli, qqp, plain = (run(model, adapters, c) for c in ("hyper:mnli", "hyper:qqp", None))
    assert not torch.allclose(mnli, qqp, atol=1e-4)
    rows = run(model, adapters, gw.MixedBatch(["hyper:mnli", None, "hyper:qqp", "hyper:mnli"]))
    for row, alone in enumerate((mnli, plain, qqp, mnli)):
        torch.testing.assert_close(rows[row], alone[row], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(run(model, adapters, gw.Stack("hyper:mnli")), mnli)
    torch.testing.assert_close(run(model, adapters, gw.Average("hyper:qqp", "hyper:qqp")), qqp, atol=1e-5, rtol=1e-4)
    adapters.add_fusion(gw.Fuse("hyper:mnli", "hyper:qqp", name="both"))
    assert run(model, adapters, "both").isfinite().all()
    adapters.remove("both")
    adapters.remove("hyper")
    assert not [name for name in model.state_dict() if "n_hyper" in name]


def test_the_adapters_own_name_means_a_member_only_where_there_is_one() -> None:
    model, adapters = setup()
    with pytest.raises(gw.CompositionError, match="'hyper' serves several tasks; say which: 'hyper:mnli', 'hyper:qqp'"):
        adapters.active = "hyper"
    with pytest.raises(gw.CompositionError, match="say which"):
        adapters.train_only("hyper")
    with pytest.raises(gw.CompositionError, match="say which"):
        adapters.add_fusion(gw.Fuse("hyper", "hyper:mnli", name="f"))
    adapters.remove("hyper:qqp")
    assert torch.equal(run(model, adapters, "hyper"), run(model, adapters, "hyper:mnli"))


@pytest.mark.parametrize("wrong", ["hyper:mnl", "hyper:", "hyper:mnli:x", "other:mnli", "hyper.mnli"])
def test_what_is_no_member_is_refused(wrong: str) -> None:
    _, adapters = setup()
    with pytest.raises(gw.UnknownNameError, match=r"did you mean|there are"):
        adapters.active = wrong


def test_names_are_taken_once() -> None:
    _, adapters = setup()
    with pytest.raises(gw.NameTakenError, match="'hyper:mnli' is there already"):
        adapters.add("hyper:mnli", gw.Pfeiffer())
    adapters.add("a:b", gw.Pfeiffer())
    adapters.active = "a:b"  # a colon in a name is no member
    adapters.add("other:mnli", gw.Pfeiffer())
    with pytest.raises(gw.NameTakenError, match="a member 'other:mnli' is there already"):
        adapters.add("other", CONFIG)
    assert adapters.names == ("hyper", "a:b", "other:mnli")
    assert adapters.members == ("hyper:mnli", "hyper:qqp")
    assert adapters.kind_of("hyper:mnli") == "member"
    assert adapters.config("hyper:mnli") == CONFIG


@pytest.mark.parametrize("tasks", [(), ("a", "a"), ("a:b",), ("",), (" a",), 3, (3,)])
def test_names_that_cannot_be_members(tasks: Any) -> None:
    with pytest.raises(gw.ConfigError, match="HyperformerPlusPlus: tasks"):
        gw.HyperformerPlusPlus(tasks=tasks)


# -- learning ----------------------------------------------------------------------------------------------------------


def test_a_new_task_learns_only_its_embedding_and_its_head() -> None:
    model, adapters = setup()
    assert adapters.add_member("hyper", "new") == "hyper:new"
    before = {name: run(model, adapters, name) for name in ("hyper:mnli", "hyper:qqp")}
    shared: Any = adapters.shared_of("hyper")
    new, head = shared.of("new"), adapters.head_of("hyper:new")["classifier"]
    rest = tensors(adapters, (new, head))
    start = new.vector.detach().clone()
    adapters.train_only("hyper:new")
    learning = {id(p) for p in model.parameters() if p.requires_grad}
    assert learning == {id(p) for p in (new.vector, *head.parameters())}
    for _ in range(2):
        step(model, adapters)
    assert not torch.equal(new.vector, start)
    after = tensors(adapters, (new, head))
    assert after.keys() == rest.keys()
    for name, tensor in rest.items():
        assert torch.equal(tensor, after[name]), name
    for name, expected in before.items():
        assert torch.equal(run(model, adapters, name), expected)


def test_the_whole_learns_by_the_adapters_name() -> None:
    model, adapters = setup()
    adapters.add_head("hyper:qqp", 3)
    adapters.train_only("hyper", active=gw.MixedBatch(["hyper:mnli", "hyper:qqp", "hyper:mnli", "hyper:qqp"]))
    here = [p for n, p in model.named_parameters() if "graftwork" in n.split(".")]
    assert all(p.requires_grad for p in here)
    model(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in here)
    assert adapters.trainable == adapters.trainable_parts == ("hyper",)


@pytest.mark.parametrize(
    ("norms", "base"), [("base", "frozen"), ("own", "frozen"), ("base", "norms"), ("base", "trained")]
)
def test_the_base_is_frozen_or_its_norms_or_all_of_it_learn(norms: str, base: str) -> None:
    """Norms of the adapter's own in place of the base's, as published; those of the base itself; or the whole base."""
    model, adapters = setup(dataclasses.replace(CONFIG, norms=norms))
    here = [n for n, _ in model.named_parameters() if "graftwork" in n.split(".")]
    mine = {id(p) for norm in adapters.norms_of("hyper").values() for p in norm.parameters()}
    own = {n for n in here if id(model.get_parameter(n)) in mine}
    adapters.train_only("hyper", active="hyper:mnli", base=base)
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    of_the_base = learning - set(here)
    assert set(here) <= learning
    assert bool(own) is (norms == "own")
    expected = {
        "frozen": set(),
        "norms": {n for n, _ in model.named_parameters() if "LayerNorm" in n} - set(here),
        "trained": {n for n, _ in model.named_parameters()} - set(here),
    }
    assert of_the_base == expected[base]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    step(model, adapters)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= learning
    assert bool(moved - set(here)) is (base != "frozen")
    assert own <= moved


def test_made_weights_are_kept_until_what_they_are_made_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapters = setup()
    count = {"made": 0}
    make = TaskAdapter._make

    def counted(self: TaskAdapter) -> Any:
        count["made"] += 1
        return make(self)

    monkeypatch.setattr(TaskAdapter, "_make", counted)
    first = run(model, adapters, "hyper:mnli")
    assert count["made"] == 4  # a site
    run(model, adapters, "hyper:mnli")
    run(model, adapters, gw.MixedBatch(["hyper:mnli"] * 4))
    assert count["made"] == 4
    run(model, adapters, "hyper:qqp")
    assert count["made"] == 8
    shared: Any = adapters.shared_of("hyper")
    with torch.no_grad():
        shared.of("mnli").vector.mul_(-2)
    assert not torch.equal(run(model, adapters, "hyper:mnli"), first)
    run(model, adapters, "hyper:qqp")
    assert count["made"] == 12  # the other task's are kept
    adapters.train_only("hyper:mnli")
    run(model, adapters, "hyper:qqp")
    assert count["made"] == 12
    for _ in range(2):
        run(model, adapters, "hyper:mnli")
    assert count["made"] == 20


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_tasks_of_its_own(how: Any) -> None:
    model, adapters = setup()
    adapters.active = "hyper:mnli"
    expected = output(model, INPUTS)
    other = how(model)
    assert torch.equal(output(other, INPUTS), expected)
    with torch.no_grad():
        gw.of(other).shared_of("hyper").of("mnli").vector.zero_()  # type: ignore[union-attr, operator]
    assert not torch.equal(output(other, INPUTS), expected)
    assert torch.equal(output(model, INPUTS), expected)


# -- members come and go -----------------------------------------------------------------------------------------------


def test_a_member_starts_like_another() -> None:
    model, adapters = setup()
    adapters.add_head("hyper:mnli", 3)
    lively(adapters, "hyper", seed=8)
    adapters.add_member("hyper", "twin", like="mnli")
    assert adapters.config("hyper").tasks == ("mnli", "qqp", "twin")  # type: ignore[union-attr]
    assert torch.equal(run(model, adapters, "hyper:twin"), run(model, adapters, "hyper:mnli"))
    assert adapters.head_of("hyper:twin")["classifier"] is not adapters.head_of("hyper:mnli")["classifier"]
    assert not any(p.requires_grad for p in model.parameters())
    adapters.remove("hyper:twin")
    assert adapters.members == ("hyper:mnli", "hyper:qqp")
    assert not [n for n in model.state_dict() if "twin" in n]


def test_members_that_cannot_be_added_or_removed() -> None:
    _, adapters = setup()
    adapters.add("plain", gw.Pfeiffer())
    with pytest.raises(gw.ConfigError, match="'plain' has no members"):
        adapters.add_member("plain", "x")
    with pytest.raises(gw.UnknownNameError, match="no adapter is called 'hyp'"):
        adapters.add_member("hyp", "x")
    with pytest.raises(gw.NameTakenError, match="there already"):
        adapters.add_member("hyper", "qqp")
    with pytest.raises(gw.UnknownNameError, match="no member of 'hyper' is called 'rte'"):
        adapters.add_member("hyper", "x", like="rte")
    with pytest.raises(gw.ConfigError, match="cannot be a member's name"):
        adapters.add_member("hyper", "a:b")
    adapters.active = "hyper:qqp"
    with pytest.raises(gw.CompositionError, match="'hyper:qqp' is active"):
        adapters.remove("hyper:qqp")
    with pytest.raises(gw.CompositionError, match="'hyper' is active"):
        adapters.remove("hyper")
    adapters.remove("hyper:mnli")
    adapters.active = None
    with pytest.raises(gw.CompositionError, match="the last member"):
        adapters.remove("hyper:qqp")
    adapters.active = "hyper"
    with pytest.raises(gw.CompositionError, match="'hyper' is active, which of two"):
        adapters.add_member("hyper", "x")


def test_export_gives_a_plain_adapter_that_computes_the_same_to_the_bit() -> None:
    model, adapters = setup()
    adapters.add_head("hyper:mnli", 2)
    lively(adapters, "hyper:mnli", seed=5)
    expected = run(model, adapters, "hyper:mnli")
    adapters.materialize("hyper:mnli", "mnli")
    assert isinstance(adapters.config("mnli"), gw.Bottleneck)
    assert torch.equal(run(model, adapters, "mnli"), expected)
    adapters.remove("hyper")
    assert torch.equal(run(model, adapters, "mnli"), expected)
    with pytest.raises(gw.ConfigError, match="Bottleneck is no adapter that is made of other weights"):
        adapters.materialize("mnli", "again")


# -- heads -------------------------------------------------------------------------------------------------------------


def test_a_member_uses_its_own_head_else_its_adapters() -> None:
    model, adapters = setup()
    adapters.add_head("hyper:mnli", ["yes", "no"])
    assert adapters.head_for("hyper:mnli") == "hyper:mnli"
    assert adapters.head_for("hyper:qqp") == "hyper"
    assert run(model, adapters, "hyper:mnli").shape[-1] == 2
    assert run(model, adapters, "hyper:qqp").shape[-1] == 3
    assert run(model, adapters, "hyper:mnli", head="hyper:qqp").shape[-1] == 3
    assert adapters.lone_heads == ()
    with pytest.raises(gw.UnknownNameError, match="no member of 'hyper'"):
        adapters.add_head("hyper:rte", 2)


def test_members_of_a_headless_base_own_heads_of_any_kind() -> None:
    import transformers as hf

    model = gw.ModelWithHeads(made(hf.BertModel, hf.BertConfig(**SMALL_BERT)))
    _, adapters = setup(model=model)
    adapters.add_head("hyper:mnli", gw.heads.Classification(labels=3))
    adapters.add_head("hyper:qqp", gw.heads.Classification(labels=2))
    assert adapters.lone_heads == ()
    with pytest.raises(gw.UnknownNameError, match="no member of 'hyper'"):
        adapters.add_head("hyper:typo", gw.heads.Classification(labels=2))
    with adapters.using(gw.MixedBatch(["hyper:mnli", "hyper:qqp", "hyper:mnli", "hyper:qqp"])), torch.no_grad():
        out = model(**INPUTS)
    assert {name: part.logits.shape[-1] for name, part in out.by_head.items()} == {"hyper:mnli": 3, "hyper:qqp": 2}
    adapters.add_member("hyper", "new", like="qqp")
    adapters.train_only("hyper:new")
    learning = [n for n, p in model.named_parameters() if p.requires_grad]
    assert any(n.endswith("vector") for n in learning)
    assert all("n_hyper:new" in n or n.endswith("own.2.vector") for n in learning)


# -- files -------------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_with_members_and_their_heads(tmp_path: Path) -> None:
    model, adapters = setup()
    adapters.add_member("hyper", "new")
    adapters.add_head("hyper:mnli", ["yes", "no"])
    lively(adapters, "hyper:mnli", seed=4)
    expected = {name: run(model, adapters, name) for name in adapters.members}
    adapters.save("hyper", tmp_path / "hyper")
    with pytest.raises(gw.CheckpointError, match="'hyper:mnli' is a member of 'hyper' and is saved with it"):
        adapters.save("hyper:mnli", tmp_path / "mnli")
    fresh = bert_classifier()
    there = gw.attach(fresh)
    there.load(tmp_path / "hyper", "again")
    assert there.members == ("again:mnli", "again:qqp", "again:new")
    for name, value in expected.items():
        assert torch.equal(run(fresh, there, name.replace("hyper", "again")), value)
    assert there.labels("again:mnli").names == ("yes", "no")  # type: ignore[union-attr]
    assert there.labels("again:qqp") is None
    headless = gw.attach(bert_classifier())
    headless.load(tmp_path / "hyper", head=False)
    assert headless.labels("hyper:mnli") is None


def test_a_composition_of_members_is_a_file_too(tmp_path: Path) -> None:
    model, adapters = setup()
    pool = gw.Fuse("hyper:mnli", "hyper:qqp", name="both")
    adapters.add_fusion(pool)
    lively(adapters, "both", seed=6)
    whole = gw.Stack("hyper:mnli", pool)
    expected = run(model, adapters, whole)
    adapters.save(whole, tmp_path / "whole")
    fresh = bert_classifier()
    there = gw.attach(fresh)
    assert there.load(tmp_path / "whole") == whole
    assert torch.equal(run(fresh, there, whole), expected)
    assert there.load(tmp_path / "whole") == whole  # the very same is left as it is


def test_what_a_member_learned_is_put_back(tmp_path: Path) -> None:
    from graftwork.checkpoint.progress import restore_progress, save_progress

    model, adapters = setup()
    adapters.add_member("hyper", "new")
    adapters.train_only("hyper:new")
    assert (adapters.trainable, adapters.trainable_parts) == (("hyper:new",), ("hyper",))
    step(model, adapters)
    expected = output(model, INPUTS)
    save_progress(adapters, tmp_path)
    step(model, adapters)
    assert not torch.equal(output(model, INPUTS), expected)
    restore_progress(adapters, tmp_path)
    assert torch.equal(output(model, INPUTS), expected)


def test_the_summary_has_a_row_for_each_member() -> None:
    _, adapters = setup()
    adapters.train_only("hyper:qqp")
    rows = {row.name: row for row in adapters.summary().rows}
    assert list(rows) == ["hyper", "hyper:mnli", "hyper:qqp"]
    assert [r.weights for r in rows.values()][1:] == [64, 64]
    assert rows["hyper:qqp"].trainable and rows["hyper:qqp"].active and rows["hyper"].active
    assert not rows["hyper:mnli"].trainable and not rows["hyper"].trainable


def test_members_are_merged_as_what_they_are_exported_to() -> None:
    _, adapters = setup()
    with pytest.raises(
        gw.ConfigError, match=r"'hyper:mnli' is made of the weights of 'hyper'; materialize\('hyper:mnli', …\)"
    ):
        adapters.merge("both", ["hyper:mnli", "hyper:qqp"])
    for task in ("mnli", "qqp"):
        adapters.materialize(f"hyper:{task}", task)
    adapters.merge("both", ["mnli", "qqp"])
    assert adapters.names == ("hyper", "mnli", "qqp", "both")
