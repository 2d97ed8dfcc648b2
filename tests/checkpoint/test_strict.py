"""A folder that is damaged, or does not fit, is an error that names what differs; the model is as before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.checkpoint import json_files
from tests.checkpoint.common import METHODS, added, attached, edit_json, edit_tensors, same_state, state
from tests.zoo.encoders import COMMON
from tests.zoo.models import build


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``a`` (Houlsby with own norms), ``f`` (a fusion) and ``w`` (a composition)."""
    top = tmp_path_factory.mktemp("saved")
    _, adapters = attached()
    added(adapters, a=METHODS["houlsby"], b=gw.Pfeiffer(), c=gw.Pfeiffer())
    adapters.add_fusion(gw.Fuse("b", "c", name="f"))
    adapters.save("a", top / "a")
    adapters.save("f", top / "f")
    adapters.save(gw.Stack("a", "b"), top / "w")
    return top


def refused(
    folder: Path, match: str, *, model: Any = None, error: type[Exception] = gw.CheckpointError, **options: Any
) -> str:
    """Loading fails with a message, and leaves the model as it was."""
    model = build("bert_classifier").model if model is None else model
    adapters = gw.attach(model)
    before, modules = state(model), [n for n, _ in model.named_modules()]
    with pytest.raises(error, match=match) as caught:
        adapters.load(folder, **options)
    assert adapters.names == () and not adapters.fusions
    assert same_state(state(model), before)
    assert [n for n, _ in model.named_modules()] == modules
    return str(caught.value)


TENSOR_DAMAGE: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "missing": (
        lambda t: t.pop("encoder.layer.0.attention/down"),
        "missing: encoder.layer.0.attention/down",
    ),
    "a missing norm": (
        lambda t: t.pop("norms/encoder.layer.1.output.LayerNorm/weight"),
        "missing: norms/encoder.layer.1.output.LayerNorm/weight",
    ),
    "a missing head": (lambda t: t.pop("head/classifier/bias"), "missing: head/classifier/bias"),
    "extra": (lambda t: t.update({"encoder.layer.0.attention/gate": torch.zeros(2)}), "not expected: .*attention/gate"),
    "misshapen": (
        lambda t: t.update({"encoder.layer.0.attention/down": torch.zeros(5, 32)}),
        r"misshapen: encoder.layer.0.attention/down is \(5, 32\), not \(4, 32\)",
    ),
    "integers": (
        lambda t: t.update({"encoder.layer.0.attention/up_bias": torch.zeros(32, dtype=torch.long)}),
        "of another type: encoder.layer.0.attention/up_bias is torch.int64",
    ),
    "other values": (lambda t: t["encoder.layer.0.attention/down"].add_(1), "not the file that graftwork.json"),
    "nothing": (lambda t: t.clear(), "missing: .* and [0-9]+ more"),
}


@pytest.mark.parametrize("damage", TENSOR_DAMAGE)
def test_tensors_that_do_not_fit(damage: str, saved: Path, tmp_path: Path) -> None:
    change, match = TENSOR_DAMAGE[damage]
    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    edit_tensors(folder, change)
    message = refused(folder, match)
    assert "adapter 'a'" in message or str(folder) in message


def test_every_kind_of_difference_is_told_at_once(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    edit_tensors(folder, lambda t: (t.pop("encoder.layer.0.attention/up"), t.update(more=torch.zeros(1))))
    refused(folder, "missing: encoder.layer.0.attention/up; not expected: more")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.9, 0.999])
def test_a_file_cut_short(share: float, saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    path = folder / "adapter.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(folder, "adapter.safetensors is damaged or cut short")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_manifest_cut_short(share: float, saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    path = folder / "graftwork.json"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(folder, "graftwork.json is damaged")


MANIFEST_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "an unknown method": (
        lambda d: d["config"].update(method="telepathy"),
        "method 'telepathy' is not known; it is one of",
    ),
    "an unknown option": (lambda d: d["config"].update(depth=3), "has no options? .*'depth'"),
    "an impossible option": (lambda d: d["config"].update(dropout=2), "dropout is 2"),
    "an option of another type": (lambda d: d["config"].update(sites=5), "cannot be loaded"),
    "another size": (lambda d: d["config"].update(bottleneck_size=8), r"misshapen: .* is \(4, 32\), not \(8, 32\)"),
    "other sites": (lambda d: d["config"].update(sites=["attention"]), "feed_forward.* only in the file"),
    "no norms": (lambda d: d["config"].update(norms="base"), "not expected: norms/"),
    "a newer format": (
        lambda d: d.update(format=3),
        "has the format 3, written by graftwork .* reads the formats 1 to 2: .* or newer",
    ),
    "no format there ever was": (lambda d: d.update(format=0), "has the format 0, .*save it anew"),
    "a format of another type": (lambda d: d.update(format="1"), "'format' is '1'"),
    "another kind": (lambda d: d.update(kind="hypernetwork"), "of the kind 'hypernetwork'"),
    "a kind of the other sort": (lambda d: d.update(kind="fusion"), "fusion with the pool None"),
    "an unknown field": (lambda d: d.update(more=1), r"unknown fields \['more'\]"),
    "a missing field": (lambda d: d.pop("config"), "it lacks 'config'"),
    "a missing base": (lambda d: d["base"].pop("stacks"), "it lacks 'stacks'"),
    "a name of another type": (lambda d: d.update(name=3), "'name' is 3"),
    "an unusable name": (lambda d: d.update(name=""), "cannot be the name"),
    "samples that are no numbers": (lambda d: d["base"]["samples"].update(x="one two"), "is damaged"),
    "a pool that is none": (lambda d: d.update(pool={"block": "warp", "children": []}), "block 'warp' is not known"),
    "other labels": (lambda d: d["head"].update(labels=["x", 2]), "'labels' is"),
    "other head modules": (
        lambda d: d["head"]["modules"].update(classifier="MLP"),
        "classifier is a MLP, not a Linear",
    ),
    "another head path": (
        lambda d: d["head"].update(modules={"score": "Linear"}),
        r"its head is \['score'\].*head=False",
    ),
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGE)
def test_a_manifest_that_does_not_hold(damage: str, saved: Path, tmp_path: Path) -> None:
    change, match = MANIFEST_DAMAGE[damage]
    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    edit_json(folder, change)
    refused(folder, match, error=gw.GraftworkError)


@pytest.mark.parametrize("part", ["a", "f", "w"])
def test_no_value_of_the_manifest_breaks_loading(part: str, saved: Path, tmp_path: Path) -> None:
    """Every field, at every depth, replaced by something else: one of our errors, or it loads."""
    original = json.loads((saved / part / "graftwork.json").read_text())
    folder = Path(shutil.copytree(saved / part, tmp_path / part))
    model = build("bert_classifier").model
    adapters = gw.attach(model)
    adapters.add("b", gw.Pfeiffer())
    adapters.add("c", gw.Pfeiffer())
    for path in _paths(original):
        for value in (None, -1, 1e300, "", "x", [], [[1]], {}, {"x": {}}, True):
            data = json.loads(json.dumps(original))
            _replace(data, path, value)
            (folder / "graftwork.json").write_bytes(json_files.dump(data))
            try:
                name = adapters.load(folder)
            except gw.GraftworkError:
                assert set(adapters.names) == {"b", "c"} and not adapters.fusions
            else:
                assert isinstance(name, str)
                adapters.remove(name)


def _paths(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if here[:1] == ("base",) and len(here) > 2 and here[1] == "samples" and here[2] != next(iter(data or [None]), None):
        return [here]
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [*([here] if here else []), *(p for key, value in inside for p in _paths(value, (*here, key)))]


def _replace(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


def test_folders_that_are_none_of_ours(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere is not there")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "is a file")
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_config.json").write_text("{}")
    refused(tmp_path / "peft", "adapter_config.json: peft_type is None")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "graftwork.json").write_text("[1]")
    refused(tmp_path / "list", "it holds list, not an object")


def test_a_folder_without_its_tensors(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    (folder / "adapter.safetensors").unlink()
    refused(folder, "lacks adapter.safetensors")


def test_parts_swapped_inside_a_composition(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "w", tmp_path / "w"))
    (folder / "adapters" / "0").rename(folder / "adapters" / "x")
    (folder / "adapters" / "1").rename(folder / "adapters" / "0")
    (folder / "adapters" / "x").rename(folder / "adapters" / "1")
    refused(folder, "does not hold the adapter 'a'")


def test_a_composition_that_names_more_than_it_has(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "w", tmp_path / "w"))
    edit_json(folder, lambda d: d["composition"]["children"].append("zz"))
    refused(folder, "needs 'zz'", error=gw.UnknownNameError)


# ------------------------------------------------------------------------------------------------- another base


def bert(**changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return hf.BertForSequenceClassification(hf.BertConfig(**{**COMMON, **changes}, num_labels=3))


def test_another_size_of_the_same_type(saved: Path) -> None:
    for changes, what in (
        ({"hidden_size": 64}, "encoder.layer is 32 wide in its base, 64 here"),
        ({"num_hidden_layers": 1}, "encoder.layer has 2 layers in its base, 1 here"),
        ({"num_hidden_layers": 3}, "encoder.layer has 2 layers in its base, 3 here"),
    ):
        refused(
            saved / "a",
            f"trained on a 'bert' model of another size: {what}; load it on a 'bert' model of that size",
            model=bert(**changes),
            other_base=True,
        )


def test_another_type(saved: Path) -> None:
    refused(
        saved / "a",
        "trained on a model of another type: its model type is 'bert', this one's 'roberta'; load it on a 'bert' model",
        model=build("roberta").model,
        other_base=True,
    )
    refused(saved / "a", "encoder.layer is a stack of layers in its base only", model=build("t5").model)


def test_another_class_of_the_same_type_and_size(saved: Path, tmp_path: Path) -> None:
    """Sites at the vocabulary's projection are in a language model alone."""

    def at_the_vocabulary(data: dict[str, Any]) -> None:
        data["sites"]["cls.predictions.decoder"] = 32

    folder = Path(shutil.copytree(saved / "a", tmp_path / "a"))
    edit_json(folder, at_the_vocabulary)
    refused(
        folder,
        "a 'bert' model of the same size and another class: its sites cls.predictions.decoder are not in this "
        "BertForSequenceClassification",
    )


def test_another_revision_of_the_same_sizes(saved: Path) -> None:
    model = build("bert_classifier", seed=1).model
    message = refused(saved / "a", r"another revision of the base: (\d+) of \1 sampled weights differ", model=model)
    assert "the weights of another model" in message and "type and size are the same" in message
    assert "load_base" in message and "other_base=True" in message
    gw.of(model).load(saved / "a", other_base=True)
    assert gw.of(model).names == ("a",)


def test_one_layer_trained_a_little_further(saved: Path) -> None:
    model = build("bert_classifier").model
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight.mul_(1 + 1e-4)
    told = r"1 of \d+ sampled weights differ, such as 'encoder.layer.1.output.dense.weight', so that a part of it"
    refused(saved / "a", told, model=model)


# ------------------------------------------------------------------------------------- what could not be read again


def test_labels_that_are_no_text_are_not_written(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.add_head("a", [0, 1])  # type: ignore[list-item]
    with pytest.raises(gw.CheckpointError, match="'a' cannot be saved: 0 among its labels could not be read again"):
        adapters.save("a", tmp_path / "a")
    assert not (tmp_path / "a").exists()
