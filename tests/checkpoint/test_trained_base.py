"""The difference of a trained base: it makes the original the trained base to the bit, and no other base anything."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from graftwork.checkpoint import folders, json_files
from tests.checkpoint.common import added, attached, edit_json, edit_tensors, output, same_state, state
from tests.zoo.models import ZooModel, build, main_output

ADAPTERS: dict[str, gw.AdapterConfig] = {
    "bert_classifier": gw.Pfeiffer(),
    "t5_generation": gw.Houlsby(norms="base"),
    "resnet": gw.ResidualAdapter(norms="base"),
}


def train(zoo: ZooModel, what: Any, base: str, steps: int = 3) -> None:
    """Some steps of an optimiser on a loss that reaches everything."""
    adapters = gw.of(zoo.model)
    adapters.train_only(what, base=base)
    zoo.model.train()
    learners = [p for p in zoo.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learners, lr=1e-2)
    for _ in range(steps):
        main_output(zoo.model(**zoo.inputs)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    zoo.model.eval()


def trained(name: str, base: str = "trained", **options: Any) -> tuple[ZooModel, gw.Adapters]:
    zoo, adapters = attached(name, **options)
    added(adapters, a=ADAPTERS[name])
    train(zoo, "a", base)
    return zoo, adapters


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """All there is in the base, without adapters and the model's own head."""
    found = state(model)
    return {n: t for n, t in found.items() if "graftwork" not in n.split(".") and not n.startswith("classifier.")}


@pytest.mark.parametrize("base", ["trained", "norms"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_and_the_base_that_learned_with_it(name: str, base: str, tmp_path: Path) -> None:
    zoo, adapters = trained(name, base)
    plain, expected = output(zoo, None), output(zoo, "a")
    assert adapters.save_base(tmp_path / "base") == tmp_path / "base"
    adapters.save("a", tmp_path / "a")

    other, fresh = attached(name)
    flags = {n: p.requires_grad for n, p in other.model.named_parameters()}
    with pytest.raises(gw.CheckpointError, match=r"if its base was trained with it, .*\(load_base\)"):
        fresh.load(tmp_path / "a")
    fresh.load_base(tmp_path / "base")
    assert {n: p.requires_grad for n, p in other.model.named_parameters()} == flags
    assert same_state(base_state(zoo.model), base_state(other.model))
    assert fresh.load(tmp_path / "a") == "a"
    assert torch.equal(output(other, None), plain) or name == "bert_classifier"  # whose own head is another
    assert torch.equal(output(other, "a"), expected)
    assert not same_state(base_state(attached(name)[0].model), base_state(other.model))


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_kept_of_a_base(name: str, tmp_path: Path) -> None:
    """Norms alone make a smaller file; a tied tensor is written once and stays tied; statistics go with a whole base."""
    sizes = {}
    for base in ("trained", "norms"):
        _, adapters = trained(name, base)
        adapters.save_base(tmp_path / base)
        sizes[base] = (tmp_path / base / "base.safetensors").stat().st_size
        tensors = json_files.read_manifest(tmp_path / base)["tensors"]
        assert sorted(p.name for p in (tmp_path / base).iterdir()) == ["base.safetensors", "graftwork.json"]
        assert any("running_mean" in n for n in tensors) == (name == "resnet" and base == "trained")
        assert not any("classifier" in n or "graftwork" in n for n in tensors)
        if name == "t5_generation":
            assert not {"encoder.embed_tokens.weight", "lm_head.weight"} & set(tensors)
            other, fresh = attached(name)
            fresh.load_base(tmp_path / base)
            assert other.model.encoder.embed_tokens.weight is other.model.shared.weight  # type: ignore[union-attr]
    assert sizes["norms"] < sizes["trained"]


def test_one_tensor_that_learned_is_looked_at(tmp_path: Path) -> None:
    """A single tensor that learned tells the base from its original, wherever it is."""

    def deep() -> gw.Adapters:
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 11}
        model = hf.BertModel(hf.BertConfig(num_hidden_layers=20, **sizes)).eval()
        for p in model.parameters():
            p.requires_grad_(False)
        model.encoder.layer[13].attention.self.key.bias.requires_grad_(True)
        return gw.attach(model)

    adapters = deep()
    added(adapters, a=gw.Pfeiffer(bottleneck_size=2))
    adapters.train_only("a", base="trained")
    with torch.no_grad():
        adapters.model.encoder.layer[13].attention.self.key.bias.add_(1)  # type: ignore[union-attr, index]
    adapters.save("a", tmp_path / "a")
    with pytest.raises(gw.CheckpointError, match=r"encoder\.layer\.13\.attention\.self\.key\.bias"):
        deep().load(tmp_path / "a")
    adapters.save_base(tmp_path / "base")
    assert json_files.read_manifest(tmp_path / "base")["tensors"] == ["encoder.layer.13.attention.self.key.bias"]
    fresh = deep()
    fresh.load_base(tmp_path / "base")
    fresh.load(tmp_path / "a")


def test_a_headed_base_and_a_class_with_a_head_are_one_base(tmp_path: Path) -> None:
    def headed() -> gw.Adapters:
        return gw.attach(gw.ModelWithHeads(build("bert").model).eval())

    inputs = build("bert").inputs
    adapters = headed()
    adapters.add("a", gw.Pfeiffer())
    adapters.add_head("a", gw.heads.Classification(labels=2))
    adapters.train_only("a", base="trained")
    loss = adapters.model(**inputs, labels=torch.zeros(3, dtype=torch.long)).loss
    loss.backward()
    torch.optim.SGD([p for p in adapters.model.parameters() if p.requires_grad], lr=0.1).step()
    adapters.save_base(tmp_path / "base")
    adapters.save("a", tmp_path / "a")
    expected = adapters.model(**inputs).logits
    fresh = headed()
    with pytest.raises(gw.CheckpointError, match="load_base"):
        fresh.load(tmp_path / "a")
    fresh.load_base(tmp_path / "base")
    fresh.load(tmp_path / "a")
    fresh.activate("a")
    assert torch.equal(fresh.model(**inputs).logits, expected)
    plain = gw.attach(build("bert").model)
    plain.load_base(tmp_path / "base")
    assert same_state(
        base_state(plain.model), {n.removeprefix("base."): t for n, t in base_state(adapters.model).items()}
    )


def test_against_the_original(tmp_path: Path) -> None:
    """Whoever changed it: what differs in a bit is kept, and nothing else."""
    zoo, adapters = attached()
    with pytest.raises(gw.CheckpointError, match=r"nothing of the base was trained.*against=model"):
        adapters.save_base(tmp_path / "base")
    original = build("bert_classifier").model
    with pytest.raises(gw.CheckpointError, match="nothing of the base differs"):
        adapters.save_base(tmp_path / "base", against=original)
    assert not (tmp_path / "base").exists()
    with torch.no_grad():
        zoo.model.bert.encoder.layer[1].output.dense.bias[3] += 1e-6  # type: ignore[union-attr, index]
    for against in (original, original.state_dict(), original.bert):
        adapters.save_base(tmp_path / "base", against=against)
        assert json_files.read_manifest(tmp_path / "base")["tensors"] == ["encoder.layer.1.output.dense.bias"]
    other, fresh = attached()
    fresh.load_base(tmp_path / "base")
    assert same_state(base_state(zoo.model), base_state(other.model))
    with pytest.raises(gw.CheckpointError, match=r"against= is another model: .* it lacks it"):
        adapters.save_base(tmp_path / "x", against={})
    longer = build("bert_classifier").model
    longer.resize_token_embeddings(107)
    with pytest.raises(gw.CheckpointError, match=r"word_embeddings.weight.* has it as \(107, 32\)"):
        adapters.save_base(tmp_path / "x", against=longer)


def refused(adapters: gw.Adapters, folder: Path, match: str) -> None:
    before, history = state(adapters.model), copy.copy(adapters.base_history)
    with pytest.raises(gw.CheckpointError, match=match):
        adapters.load_base(folder, keep=True)
    assert same_state(state(adapters.model), before)
    assert (adapters.base_history.before, adapters.base_history.changed) == (history.before, history.changed)
    assert adapters.base_history.kept is history.kept


@pytest.mark.parametrize("base", ["trained", "norms"])
def test_other_bases_are_refused(base: str, tmp_path: Path) -> None:
    _, adapters = trained("bert_classifier", base)
    adapters.save_base(tmp_path / "base")
    refused(attached(seed=1)[1], tmp_path / "base", r"made over another base: \d+ of \d+ weights differ, such as '")
    refused(attached("t5_generation")[1], tmp_path / "base", "its model type is 'bert', this one's 't5'")
    zoo = build("bert_classifier")
    with torch.no_grad():
        zoo.model.bert.encoder.layer[1].output.dense.bias.add_(1)  # type: ignore[union-attr, index]
    refused(gw.attach(zoo.model), tmp_path / "base", "such as 'encoder.layer.1.output.dense.bias'")
    tagger = build("bert_classifier")
    del tagger.model.bert.pooler
    refused(gw.attach(tagger.model, sites=attached()[1].sites), tmp_path / "base", "pooler.* is in its base only")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda f: edit_tensors(f, lambda t: t.pop("pooler.dense.bias")), "missing: pooler.dense.bias"),
    "extra": (lambda f: edit_tensors(f, lambda t: t.update(more=torch.zeros(1))), "not expected: more"),
    "other values": (lambda f: edit_tensors(f, lambda t: t["pooler.dense.bias"].add_(1)), "is not the file that"),
    "cut short": (
        lambda f: (f / "base.safetensors").write_bytes((f / "base.safetensors").read_bytes()[:-7]),
        "damaged or cut short",
    ),
    "no tensors": (lambda f: (f / "base.safetensors").unlink(), "lacks base.safetensors"),
    "no manifest": (lambda f: (f / "graftwork.json").unlink(), "has no graftwork.json"),
    "no field": (lambda f: edit_json(f, lambda d: d.pop("original")), "lacks 'original'"),
    "another field": (lambda f: edit_json(f, lambda d: d.update(x=1)), r"unknown fields \['x'\]"),
    "samples": (lambda f: edit_json(f, lambda d: d["original"]["samples"].update(x="a b")), "is damaged"),
    "nowhere": (shutil.rmtree, "is not there"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("saved")
    _, adapters = trained("bert_classifier")
    adapters.save_base(top / "base")
    adapters.save("a", top / "a")
    adapters.save(gw.Stack("a"), top / "w")
    return top


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage(damage: str, saved: Path, tmp_path: Path) -> None:
    change, match = DAMAGE[damage]
    folder = Path(shutil.copytree(saved / "base", tmp_path / "base"))
    change(folder)
    refused(attached()[1], folder, match)


def test_any_field_replaced(saved: Path, tmp_path: Path) -> None:
    """One of our errors, and nothing changed; or it loads."""
    folder = Path(shutil.copytree(saved / "base", tmp_path / "base"))
    written = (folder / "graftwork.json").read_bytes()
    zoo, adapters = attached()
    before = state(zoo.model)
    fields = [(name,) for name in json_files.read_manifest(folder)]
    fields += [("original", name) for name in json_files.read_manifest(folder)["original"]]
    for *outer, last in fields:
        for value in (None, -1, 1e300, "", "x", [], [[1]], {}, {"x": {}}, {"x": "1 2"}, True):
            (folder / "graftwork.json").write_bytes(written)
            edit_json(folder, lambda d: (d[outer[0]] if outer else d).update({last: value}))  # noqa: B023  # used at once
            try:
                adapters.load_base(folder, keep=True)
            except gw.GraftworkError:
                assert same_state(state(zoo.model), before)
            else:
                adapters.unload_base()


def test_a_tensor_of_another_shape(saved: Path, tmp_path: Path) -> None:
    zoo = build("bert_classifier")
    zoo.model.resize_token_embeddings(107)
    refused(
        gw.attach(zoo.model), saved / "base", r"misshapen: embeddings.word_embeddings.weight is \(\d+, 32\), not \(107"
    )


def test_folders_of_another_kind(saved: Path, tmp_path: Path) -> None:
    _, adapters = trained("bert_classifier")
    refused(adapters, saved / "a", "holds the adapter 'a', not the difference of a base; use load")
    refused(adapters, saved / "w", "holds a composition, not the difference of a base; use load")
    with pytest.raises(gw.CheckpointError, match=r"holds the difference of a trained base.*load_base"):
        adapters.load(saved / "base")
    for kind, match in (("a", "holds the adapter 'a', not the diff"), ("w", "holds the composition, not the diff")):
        with pytest.raises(gw.CheckpointError, match=match):
            adapters.save_base(saved / kind)
    with pytest.raises(gw.CheckpointError, match="holds the difference of a base, not the adapter 'a'"):
        adapters.save("a", saved / "base")


def test_a_save_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, adapters = trained("bert_classifier", "norms")
    folder = adapters.save_base(tmp_path / "base")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    train(zoo, "a", "norms", steps=1)

    def failing(*args: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "fsync", failing)
        for place in (folder, tmp_path / "new"):
            with pytest.raises(gw.CheckpointError, match="cannot be written: no space left"):
                adapters.save_base(place)
    assert [p.name for p in tmp_path.iterdir()] == ["base"]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    adapters.save_base(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} != before


def test_going_back_and_on(saved: Path, tmp_path: Path) -> None:
    """The trained base is taken for itself, trained on it is saved against the same original, and can be undone."""
    zoo, adapters = attached()
    original = state(zoo.model)
    with pytest.raises(gw.CheckpointError, match="no original is kept"):
        adapters.unload_base()
    adapters.load_base(saved / "base", keep=True)
    adapters.load_base(saved / "base")
    added(adapters, b=gw.Pfeiffer())
    adapters.save_base(tmp_path / "again")
    assert (tmp_path / "again" / "base.safetensors").read_bytes() == (saved / "base" / "base.safetensors").read_bytes()
    train(zoo, "b", "norms")
    refused(adapters, saved / "base", r"made over another base.*unload_base\(\)")
    adapters.save_base(tmp_path / "on")
    further = base_state(zoo.model)
    adapters.unload_base()
    adapters.active = None
    adapters.remove("b")
    assert same_state({n: t for n, t in state(zoo.model).items() if "graftwork" not in n}, original)
    with pytest.raises(gw.CheckpointError, match="nothing of the base was trained"):
        adapters.save_base(tmp_path / "none")
    adapters.load_base(tmp_path / "on")
    assert same_state(base_state(zoo.model), further)
    with pytest.raises(gw.CheckpointError, match="is the trained one already"):
        adapters.load_base(tmp_path / "on", keep=True)
    adapters.detach()
    assert same_state(base_state(zoo.model), further)
    again = gw.attach(zoo.model)
    again.load_base(tmp_path / "on")
    again.save_base(tmp_path / "same")
    assert (tmp_path / "same" / "base.safetensors").read_bytes() == (tmp_path / "on" / "base.safetensors").read_bytes()


def test_what_was_made_of_weights_sees_the_change(saved: Path) -> None:
    zoo, adapters = attached()
    added(adapters, b=gw.Pfeiffer(), c=gw.Pfeiffer())
    adapters.add_fusion(gw.Fuse("b", "c", name="f"))
    adapters.active = gw.Fuse("b", "c", name="f")
    before = output(zoo, adapters.active)
    adapters.load_base(saved / "base")
    after = output(zoo, adapters.active)
    other, fresh = attached()
    fresh.load_base(saved / "base")
    added(fresh, b=gw.Pfeiffer(), c=gw.Pfeiffer())
    fresh.add_fusion(gw.Fuse("b", "c", name="f"))
    assert torch.equal(after, output(other, gw.Fuse("b", "c", name="f")))
    assert not torch.equal(after, before)


def test_a_copy_in_half_precision(saved: Path) -> None:
    """The model keeps its dtype: the trained weights are rounded to it, and the adapter is known to belong there."""
    zoo = build("bert_classifier", torch.bfloat16)
    adapters = gw.attach(zoo.model)
    adapters.load_base(saved / "base")
    adapters.load_base(saved / "base")
    assert adapters.load(saved / "a") == "a"
    other, fresh = attached()
    fresh.load_base(saved / "base")
    rounded = {n: t.to(torch.bfloat16) if t.is_floating_point() else t for n, t in base_state(other.model).items()}
    assert same_state(base_state(zoo.model), rounded)


def test_the_models_own_head_where_it_learned_by_itself(tmp_path: Path) -> None:
    zoo, adapters = attached()
    train(zoo, None, "trained")
    adapters.save_base(tmp_path / "base")
    expected = output(zoo, None)
    other, fresh = attached()
    before = output(other, None)
    fresh.load_base(tmp_path / "base", keep=True)
    assert torch.equal(output(other, None), expected)
    fresh.unload_base()
    assert torch.equal(output(other, None), before)
    headed = gw.attach(gw.ModelWithHeads(build("bert_classifier").model.bert))
    headed.load_base(tmp_path / "base")
    head = {n: t for n, t in state(zoo.model).items() if n.startswith("classifier.")}
    assert head and not any("classifier" in name for name in headed.model.state_dict())
