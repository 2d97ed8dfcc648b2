"""What is saved is what is loaded: every method, fusion and composition, bit for bit."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import graftwork as gw
from graftwork.checkpoint.naming import tensors_of
from graftwork.checkpoint.tensors import equal
from tests.checkpoint.common import METHODS, added, attached, moved, output, same_state, state


@pytest.mark.parametrize("model", ["bert_classifier", "t5"])
@pytest.mark.parametrize("method", METHODS)
def test_adapters_come_back_bit_for_bit(model: str, method: str, tmp_path: Path) -> None:
    zoo, adapters = attached(model)
    added(adapters, a=METHODS[method])
    assert adapters.save("a", tmp_path / "a") == (tmp_path / "a")

    other, fresh = attached(model)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert fresh.load(tmp_path / "a") == "a"
    assert torch.equal(torch.get_rng_state(), before), "loading disturbs the random numbers"
    assert fresh.config("a") == METHODS[method]
    assert fresh.active is None
    assert equal(tensors_of(adapters, "a"), tensors_of(fresh, "a"))
    assert torch.equal(output(zoo, "a"), output(other, "a"))
    assert not torch.equal(output(zoo, "a"), output(zoo, None))


def test_a_folder_holds_two_files_that_peft_does_not_know(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.save("a", tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["adapter.safetensors", "graftwork.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"], "something is left beside"
    data = json.loads((tmp_path / "a" / "graftwork.json").read_text())
    assert data["kind"] == "adapter" and data["name"] == "a" and data["config"]["method"] == "pfeiffer"
    assert data["sites"] == {"encoder.layer.0.feed_forward": 32, "encoder.layer.1.feed_forward": 32}


@pytest.mark.parametrize(
    "name", ["train", "type", "a.b", "a/b", "../up", "a%2Eb", "déjà vu", "head", "norms/x", "n_a", "😀"]
)
def test_any_text_is_a_name(name: str, tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, **{name: METHODS["houlsby"]})
    adapters.save(name, tmp_path / "x")
    other, fresh = attached()
    assert fresh.load(tmp_path / "x") == name
    assert torch.equal(output(zoo, name), output(other, name))


def test_another_name(tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, a=METHODS["houlsby"])
    adapters.save("a", tmp_path / "a")
    assert adapters.load(tmp_path / "a", name="b") == "b"
    assert adapters.names == ("a", "b")
    assert torch.equal(output(zoo, "a"), output(zoo, "b"))
    with pytest.raises(gw.NameTakenError, match="'b' is there already"):
        adapters.load(tmp_path / "a", name="b")
    with pytest.raises(gw.ConfigError, match="cannot be the name"):
        adapters.load(tmp_path / "a", name=" ")
    assert adapters.names == ("a", "b")


def test_loading_leaves_what_is_active_and_what_learns(tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Houlsby())
    adapters.save("b", tmp_path / "b")
    adapters.remove("b")
    adapters.train_only("a")
    flags = {n: p.requires_grad for n, p in zoo.model.named_parameters()}
    before = output(zoo, "a")
    adapters.load(tmp_path / "b")
    assert adapters.active == "a" and adapters.trainable == ("a",)
    assert {n: p.requires_grad for n, p in zoo.model.named_parameters() if n in flags} == flags
    assert torch.equal(output(zoo, "a"), before)


def test_half_precision_and_wider_weights_keep_their_values(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer(dtype="bfloat16"), b=gw.Pfeiffer())
    _, fresh = attached()
    adapters.save("a", tmp_path / "a")
    fresh.load(tmp_path / "a")
    assert {t.dtype for n, t in tensors_of(fresh, "a").items() if "head" not in n} == {torch.bfloat16}
    for module in adapters.modules_of("b").values():
        module.double()
    adapters.save("b", tmp_path / "b")
    fresh.load(tmp_path / "b")
    assert equal(tensors_of(fresh, "b"), tensors_of(adapters, "b"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_on_a_model_in_training_mode_and_of_another_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    """Adapters, norms and heads keep their precision, and are computed in that of the model."""
    _, adapters = attached()
    added(adapters, a=METHODS["houlsby"])
    adapters.save(gw.Stack("a"), tmp_path / "w")
    zoo, fresh = attached(dtype=dtype)
    zoo.model.train()
    for _ in range(2):
        fresh.load(tmp_path / "w")
    mine, theirs = tensors_of(fresh, "a"), tensors_of(adapters, "a")
    assert all(torch.equal(mine[n].double(), theirs[n].double()) for n in mine)
    assert all(m.training for m in fresh.modules_of("a").values())
    assert output(zoo, "a").dtype == dtype


def test_what_is_loaded_is_fixed_until_it_is_chosen(tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, a=METHODS["houlsby"])
    adapters.save("a", tmp_path / "a")
    zoo, fresh = attached()
    fresh.load(tmp_path / "a")
    assert not any(p.requires_grad for p in zoo.model.parameters())
    fresh.train_only("a")
    assert all(t.requires_grad for t in tensors_of(fresh, "a").values())
    assert sum(p.requires_grad for p in zoo.model.parameters()) == len(tensors_of(fresh, "a"))


@pytest.mark.parametrize("method", gw.methods())
def test_every_registered_method(method: str, tmp_path: Path) -> None:
    zoo, adapters = attached()
    try:
        added(adapters, a=gw.methods()[method]())
    except gw.GraftworkError as reason:
        pytest.skip(f"{method} has no default for this model: {reason}")
    adapters.save("a", tmp_path / "a")
    other, fresh = attached()
    fresh.load(tmp_path / "a")
    assert equal(tensors_of(adapters, "a"), tensors_of(fresh, "a"))
    assert torch.equal(output(zoo, "a"), output(other, "a"))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_copied_model_saves_its_own_weights(copied: Callable, tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, a=METHODS["houlsby"])
    twin = gw.of(copied(zoo.model))
    moved(twin, "a")
    twin.save("a", tmp_path / "a")
    _other, fresh = attached()
    fresh.load(tmp_path / "a")
    assert equal(tensors_of(fresh, "a"), tensors_of(twin, "a"))
    assert not equal(tensors_of(fresh, "a"), tensors_of(adapters, "a"))


def test_tensors_shared_by_sites_are_written_once(tmp_path: Path) -> None:
    """As a method would that has one rule for all its sites."""
    _zoo, adapters = attached()
    added(adapters, a=gw.Standard(bottleneck_size=4))
    first, *others = adapters.modules_of("a").values()
    for module in others:
        module.down = first.down
    assert sum(name.endswith("/down") for name in tensors_of(adapters, "a")) == 1
    adapters.save("a", tmp_path / "a")
    with pytest.raises(gw.CheckpointError, match=r"missing: encoder\.layer\.0\.feed_forward/down"):
        adapters.load(tmp_path / "a", name="b")  # this method has no such rule: nothing may be made up


def test_fusions_come_back_with_their_pool_in_order_and_their_temperature(tmp_path: Path) -> None:
    def prepared() -> tuple:
        zoo, adapters = attached()
        added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer(), c=gw.Parallel())
        return zoo, adapters

    zoo, adapters = prepared()
    pool = gw.Fuse("c", None, "a", name="mix")
    adapters.add_fusion(pool, gw.FusionConfig(temperature=4.0, temperature_steps=10, query="output"))
    adapters.train_only(pool)
    adapters.on_optimizer_step()
    moved(adapters, "mix")
    with torch.no_grad():  # the noise moved the temperature too
        for module in adapters.modules_of("mix").values():
            module.temperature.fill_(3.7)
    adapters.save(pool, tmp_path / "mix")

    other, fresh = prepared()
    assert fresh.load(tmp_path / "mix") == "mix"
    assert fresh.fusions["mix"] == pool and fresh.config("mix") == adapters.config("mix")
    assert equal(tensors_of(adapters, "mix"), tensors_of(fresh, "mix"))
    assert {int(m.temperature_step) for m in fresh.modules_of("mix").values()} == {1}
    zoo.model.eval()
    assert torch.equal(output(zoo, pool), output(other, pool))

    renamed = fresh.load(tmp_path / "mix", name="mix2")
    assert torch.equal(output(other, fresh.fusions[renamed]), output(other, pool))


def test_a_fusion_without_its_adapters_names_them(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer())
    adapters.add_fusion(gw.Fuse("a", "b", name="mix"))
    adapters.save("mix", tmp_path / "mix")
    zoo, fresh = attached()
    added(fresh, a=gw.Pfeiffer())
    before = state(zoo.model)
    with pytest.raises(gw.UnknownNameError, match=r"needs 'b'.*load or add it"):
        fresh.load(tmp_path / "mix")
    assert same_state(state(zoo.model), before) and not fresh.fusions


def test_a_fusion_over_adapters_that_stand_elsewhere_is_refused(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer())
    adapters.add_fusion(gw.Fuse("a", "b", name="mix"))
    adapters.save("mix", tmp_path / "mix")
    _, fresh = attached()
    added(fresh, a=gw.Pfeiffer(), b=gw.Standard())
    with pytest.raises(gw.CheckpointError, match=r"its pool's adapters stand elsewhere.*attention only here"):
        fresh.load(tmp_path / "mix", other_members=True)
    assert not fresh.fusions


def nested() -> gw.Block:
    return gw.Stack("first", gw.Fuse(gw.Fuse("a", "b", name="in.ner"), "c", name="outer"))


def with_nested() -> tuple:
    zoo, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer(), c=gw.Pfeiffer(), first=METHODS["houlsby"], unused=gw.Standard())
    adapters.add_fusion(gw.Fuse("a", "b", name="in.ner"))
    adapters.add_fusion(gw.Fuse(gw.Fuse("a", "b", name="in.ner"), "c", name="outer"))
    moved(adapters, "in.ner", "outer")
    return zoo, adapters


def test_compositions_come_back_with_everything_in_them(tmp_path: Path) -> None:
    zoo, adapters = with_nested()
    adapters.save(nested(), tmp_path / "whole")
    other, fresh = attached()
    assert fresh.load(tmp_path / "whole") == nested()
    assert set(fresh.names) == {"a", "b", "c", "first"} and set(fresh.fusions) == {"in.ner", "outer"}
    assert torch.equal(output(zoo, nested()), output(other, nested()))
    assert fresh.load(tmp_path / "whole") == nested(), "what is there already, bit for bit, is left"
    with pytest.raises(gw.ConfigError, match="leave out name"):
        fresh.load(tmp_path / "whole", name="x")
    _, single = attached()
    assert single.load(tmp_path / "whole" / "adapters" / "0") in {"a", "b", "c", "first"}


def test_a_fusion_with_its_members(tmp_path: Path) -> None:
    zoo, adapters = with_nested()
    adapters.save("outer", tmp_path / "outer", members=True)
    other, fresh = attached()
    found = fresh.load(tmp_path / "outer")
    assert found == adapters.fusions["outer"]
    assert torch.equal(output(zoo, found), output(other, found))
    assert "first" not in fresh.names


def test_a_smaller_pool_brings_the_whole_pool_the_fusion_was_made_over(tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer(), c=gw.Pfeiffer())
    adapters.add_fusion(gw.Fuse("a", "b", "c", name="mix"))
    part = gw.Stack(gw.Fuse("c", "a", name="mix"))
    adapters.save(part, tmp_path / "part")
    other, fresh = attached()
    assert fresh.load(tmp_path / "part") == part
    assert set(fresh.names) == {"a", "b", "c"}
    assert torch.equal(output(zoo, part), output(other, part))


def test_a_composition_does_not_overwrite_what_has_its_names(tmp_path: Path) -> None:
    _, adapters = with_nested()
    adapters.save(nested(), tmp_path / "whole")
    zoo, fresh = attached()
    added(fresh, c=gw.Pfeiffer())
    before = state(zoo.model)
    with pytest.raises(gw.UnknownNameError, match="another 'c' is on this model"):
        fresh.load(tmp_path / "whole")
    assert fresh.names == ("c",) and same_state(state(zoo.model), before)


def test_a_composition_that_fails_half_way_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapters = with_nested()
    adapters.save(nested(), tmp_path / "whole")
    zoo, fresh = attached()
    before = state(zoo.model)
    (tmp_path / "whole" / "fusions" / "1" / "fusion.safetensors").unlink()
    with pytest.raises(gw.CheckpointError, match=r"lacks fusion\.safetensors"):
        fresh.load(tmp_path / "whole")
    assert fresh.names == () and same_state(state(zoo.model), before)

    adapters.save(nested(), tmp_path / "other")
    monkeypatch.setattr(fresh, "register_fusion", lambda *_: (_ for _ in ()).throw(RuntimeError("no room")))
    with pytest.raises(RuntimeError, match="no room"):
        fresh.load(tmp_path / "other")
    assert fresh.names == () and same_state(state(zoo.model), before)


def test_nothing_to_save() -> None:
    _, adapters = attached()
    with pytest.raises(gw.CheckpointError, match="nothing to save"):
        adapters.save(None, "x")
    with pytest.raises(gw.UnknownNameError, match="no adapter or fusion is called 'a'"):
        adapters.save("a", "x")
    with pytest.raises(gw.UnknownNameError, match="no adapter or fusion is called 'a'"):
        adapters.save(gw.Stack("a"), "x")
    assert not Path("x").exists()
