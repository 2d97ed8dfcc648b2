"""A folder from who knows whom: nothing in it runs, asks, hangs, or makes more than it holds weights for."""

from __future__ import annotations

import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.migration import FORMAT, as_newest
from tests.checkpoint.common import added, attached, edit_json
from tests.fuzz.watched import Strange, Watch
from tests.zoo.models import build

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``a``, ``lora``, ``native``, ``prompt`` and ``w``, a composition."""
    peft = pytest.importorskip("peft")
    top = tmp_path_factory.mktemp("saved")
    _, adapters = attached()
    added(adapters, a=gw.Houlsby(), b=gw.Pfeiffer())
    adapters.add("lora", peft.LoraConfig(r=2, target_modules=["query"]), native=False)
    adapters.add("native", gw.LoRA(rank=2, targets=["query"]))
    adapters.add("prompt", peft.PromptTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION"))
    for name in ("a", "lora", "native", "prompt"):
        adapters.save(name, top / name)
    adapters.save(gw.Stack("a", "b"), top / "w")
    return top


def of_peft(**options: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["config"]["peft"].update(options)


LARGE: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "bottleneck": ("a", lambda data: data["config"].update(bottleneck_size=10**8, reduction_factor=None)),
    "experts": ("a", lambda data: data.update(config={"method": "moe", "experts": 10**7, "bottleneck_size": 1})),
    "rank": ("lora", of_peft(r=10**8)),
    "native rank": ("native", lambda data: data["config"].update(rank=10**8)),
    "tokens": ("prompt", of_peft(num_virtual_tokens=10**8)),
}


@linux
@pytest.mark.parametrize("key", LARGE)
def test_sizes_are_looked_at_before_anything_is_made(key: str, saved: Path, tmp_path: Path) -> None:
    name, change = LARGE[key]
    folder = Path(shutil.copytree(saved / name, tmp_path / name))
    edit_json(folder, change)
    _, adapters = attached()
    found = Watch().run(lambda: adapters.load(folder), folder)
    assert isinstance(found, gw.CheckpointError), found
    assert adapters.names == ()


REFUSED: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "a package to import": ("lora", of_peft(megatron_config={"a": 1}, megatron_core="evilmod")),
    "a pattern without an end": ("lora", of_peft(target_modules="(.+)+x")),
    "a long pattern": ("lora", of_peft(target_modules=".*a.*b.*c.*d.*e")),
    "a pattern of ranks": ("lora", of_peft(rank_pattern={"(a|a)*$": 3})),
    "a tokenizer of the Hub": ("prompt", of_peft(tokenizer_kwargs={"trust_remote_code": True})),
    "a table of objects": ("lora", of_peft(loftq_config={"__class__": "x"})),
    "something said twice": ("a", lambda data: None),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_a_file_may_not_say(key: str, saved: Path, tmp_path: Path) -> None:
    name, change = REFUSED[key]
    folder = Path(shutil.copytree(saved / name, tmp_path / name))
    edit_json(folder, change)
    if key == "something said twice":
        path = folder / "graftwork.json"
        path.write_text(path.read_text().replace('"kind"', '"kind": "fusion", "kind"', 1))
    _, adapters = attached()
    start = time.monotonic()
    with pytest.raises(gw.CheckpointError, match=r"may not say|says 'kind' twice|no option|misshapen|evilmod"):
        adapters.load(folder)
    assert time.monotonic() - start < 20
    assert "evilmod" not in sys.modules and adapters.names == ()


def test_what_weights_start_as_is_not_asked_for(saved: Path, tmp_path: Path) -> None:
    """The file has the weights: a text to start from would need a tokenizer, from the Hub perhaps."""
    folder = Path(shutil.copytree(saved / "prompt", tmp_path / "prompt"))
    start = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "x", "tokenizer_name_or_path": "who/knows"}
    edit_json(folder, of_peft(**start))
    _, adapters = attached()
    try:
        assert Watch().run(lambda: adapters.load(folder), folder) == "prompt"
    except Strange as error:
        raise AssertionError from error


@pytest.mark.parametrize("name", ["a", "w"])
def test_every_bit_of_a_manifest_counts(name: str, saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / name, tmp_path / name))
    for path in sorted(folder.rglob("graftwork.json")):
        text = path.read_text()
        data = json.loads(text)
        path.write_text(json.dumps(data))  # laid out otherwise it says the same
        _, adapters = attached()
        adapters.load(folder)
        for old, new in (('"norms": "own"', '"norms": "base"'), ('"problem_type": null', '"problem_type": "x"')):
            if old in text:
                path.write_text(text.replace(old, new, 1))
                with pytest.raises(gw.CheckpointError, match="damaged or was changed"):
                    attached()[1].load(folder)
        path.write_text(text)


def test_a_part_of_another_composition(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "w", tmp_path / "w"))
    _, adapters = attached()
    added(adapters, a=gw.Houlsby(scale=2.0), b=gw.Pfeiffer())
    adapters.save(gw.Stack("a", "b"), tmp_path / "other")
    shutil.rmtree(folder / "adapters" / "0")
    shutil.copytree(tmp_path / "other" / "adapters" / "0", folder / "adapters" / "0")
    with pytest.raises(gw.CheckpointError, match=r"is not the adapter 'a' that .* was written with"):
        attached()[1].load(folder)


def test_a_file_without_a_hash_loads_with_a_warning_where_its_format_had_none(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    path = folder / "graftwork.json"
    data = json.loads(path.read_text())
    del data["digest"]
    path.write_text(json.dumps(data))
    _, adapters = attached()
    with pytest.raises(gw.CheckpointError, match="it lacks 'digest', its hash; copy the folder again"):
        adapters.load(folder)
    path.write_text(json.dumps({**data, "format": 1}))
    with pytest.warns(UserWarning, match="load it and save it again, which adds one"):
        adapters.load(folder)
    adapters.save("a", tmp_path / "again")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attached()[1].load(tmp_path / "again")


@pytest.mark.parametrize("name", ["a", "w"])
def test_a_file_of_an_older_format_is_read_and_written_as_one_of_the_newest(
    name: str, saved: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved / name, tmp_path / name))
    for path in sorted(folder.rglob("graftwork.json"), key=lambda path: -len(path.parts)):
        edit_json(path.parent, lambda data: data.update(format=1))
    _, adapters = attached()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = adapters.load(folder)
    adapters.save(found, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "graftwork.json").read_text())["format"] == FORMAT
    for path in tmp_path.glob(f"{name}/**/*.safetensors"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder)).read_bytes()


def test_every_older_format_has_a_step_to_the_next() -> None:
    for number in range(1, FORMAT):
        assert as_newest({"format": number})["format"] == FORMAT


@pytest.mark.parametrize("depth", [300, 400])
def test_a_pool_that_is_nested_more_deeply_than_the_stack(depth: int, tmp_path: Path) -> None:
    """It is read as JSON, and its name and its adapters cannot be told."""
    _, adapters = attached()
    added(adapters, b=gw.Pfeiffer(), c=gw.Pfeiffer())
    adapters.add_fusion(gw.Fuse("b", "c", name="f"))
    adapters.save("f", tmp_path / "f")
    pool: Any = "b"
    for _ in range(depth):
        pool = {"block": "fuse", "children": [pool]}
    edit_json(tmp_path / "f", lambda data: data.update(pool=pool))
    with pytest.raises(gw.CheckpointError, match=r"graftwork\.json is nested too deeply"):
        attached()[1].load(tmp_path / "f")


@pytest.mark.parametrize("depth", [101, 400])
def test_options_of_peft_that_are_nested_too_deeply(depth: int, saved: Path, tmp_path: Path) -> None:
    _, adapters = attached()
    adapters.load(saved / "native")
    adapters.save("native", tmp_path / "p", format="peft")
    path = tmp_path / "p" / "adapter_config.json"
    value: Any = 1
    for _ in range(depth):
        value = [value]
    path.write_text(json.dumps({**json.loads(path.read_text()), "target_modules": value}))
    with pytest.raises(gw.CheckpointError, match=r"adapter_config\.json is nested too deeply"):
        attached()[1].load(tmp_path / "p")


# ------------------------------------------------------------------------------------------------- whose base it was


def test_every_weight_of_the_base_is_known_again(saved: Path) -> None:
    """One tensor altered is seen, whichever it is; heads and poolers begin anew with every task."""
    zoo = build("bert_classifier")
    model = zoo.model
    adapters = gw.attach(model)
    seen = set(Fingerprint.of(adapters).samples)
    other = {name for name, _ in model.named_parameters() if "pooler" in name or name.startswith("classifier")}
    assert {f"bert.{name}" for name in seen} == {n for n, _ in model.named_parameters()} - other
    for name, p in list(model.named_parameters()):
        before = p.detach().clone()
        with torch.no_grad():
            p.add_(0.01)
        if name in other:
            assert adapters.load(saved / "a") == "a"
            adapters.remove("a")
        else:
            with pytest.raises(gw.CheckpointError, match=f"'{name.removeprefix('bert.')}'"):
                adapters.load(saved / "a")
        with torch.no_grad():
            p.copy_(before)


def test_a_longer_vocabulary_is_the_same_base(saved: Path) -> None:
    model = build("bert_classifier").model
    model.resize_token_embeddings(model.config.vocab_size + 7)
    assert gw.attach(model).load(saved / "a") == "a"
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[:50] += 0.1
    gw.of(model).remove("a")
    with pytest.raises(gw.CheckpointError, match=r"embeddings\.word_embeddings\.weight"):
        gw.of(model).load(saved / "a")


def test_a_base_that_nothing_is_known_of(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    edit_json(folder, lambda data: data["base"].update(samples={}))
    _, adapters = attached()
    with pytest.raises(gw.CheckpointError, match="no weight of its base is known"):
        adapters.load(folder)
    assert adapters.load(folder, other_base=True) == "a"
