"""A base is known by what it holds: modules may be called otherwise than when a file was written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.checkpoint.renaming import Renaming, find
from tests.checkpoint.common import moved, output
from tests.checkpoint.written_by_4_57 import make
from tests.zoo.models import build

WRITTEN = Path(make.__file__).parent


# --------------------------------------------------------------------------------------- files of another transformers


@pytest.mark.parametrize("name", make.MODELS)
def test_files_written_by_transformers_4_57(name: str) -> None:
    """ViT's stack and all modules in it are called otherwise in 5; Mixtral's experts are two tensors."""
    model = make.MODELS[name].from_pretrained(WRITTEN / name / "base").eval()
    adapters = gw.attach(model)
    for part in ("a", "b", "f"):
        assert adapters.load(WRITTEN / name / part) == part
    expected = torch.load(WRITTEN / name / "outputs.pt", weights_only=True)
    for key, found in make.outputs(model, name).items():
        torch.testing.assert_close(found, expected[key], msg=lambda text, key=key: f"{name}, {key}: {text}")


@pytest.mark.parametrize("name", make.MODELS)
def test_another_revision_is_seen_under_other_names(name: str, tmp_path: Path) -> None:
    model = make.MODELS[name].from_pretrained(WRITTEN / name / "base").eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.001)
    adapters = gw.attach(model)
    with pytest.raises(gw.CheckpointError, match="another revision of the base"):
        adapters.load(WRITTEN / name / "b")
    assert adapters.load(WRITTEN / name / "b", other_base=True) == "b"


# ------------------------------------------------------------------------------------------------- a model in a wrapper


class Wrapped(nn.Module):
    """What a SentenceTransformer is to the model inside it: a path in front of every name."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first = nn.Module()
        self.first.model = inner
        self.config = inner.config

    def forward(self, **inputs: Tensor) -> Any:
        return self.first.model(**inputs)


def wrapped(seed: int = 0) -> tuple[Any, gw.Adapters]:
    zoo = build("bert", seed=seed)
    model = Wrapped(zoo.model).eval()
    return model, gw.attach(model, example_inputs=zoo.inputs)


def computed(model: nn.Module, inputs: dict[str, Tensor], composition: gw.Composition) -> Tensor:
    with torch.no_grad(), gw.of(model).using(composition):
        return model(**inputs).last_hidden_state


@pytest.mark.parametrize("method", [gw.Houlsby(bottleneck_size=4, norms="own"), gw.Pfeiffer(leave_out=("LAST",))])
def test_files_of_a_wrapper_and_of_the_model_inside_it(method: gw.AdapterConfig, tmp_path: Path) -> None:
    _outer, adapters = wrapped()
    zoo = build("bert")
    inner = gw.attach(zoo.model)
    for handle, stack, other in ((adapters, "first.model.encoder.layer", inner), (inner, "encoder.layer", adapters)):
        config = gw.Pfeiffer(leave_out=(f"{stack}.1",)) if isinstance(method, gw.Pfeiffer) else method
        handle.add("a", config)
        moved(handle, "a")
        handle.save("a", tmp_path / "a")
        expected = computed(handle.model, zoo.inputs, "a")
        assert not torch.equal(expected, computed(handle.model, zoo.inputs, None))
        other.load(tmp_path / "a", name="b")
        assert torch.equal(computed(other.model, zoo.inputs, "b"), expected)
        handle.remove("a")
        other.remove("b")
        shutil.rmtree(tmp_path / "a")


def test_another_model_in_the_wrapper_is_refused(tmp_path: Path) -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    adapters.add("a", gw.Pfeiffer())
    adapters.save("a", tmp_path / "a")
    _, other = wrapped(seed=1)
    with pytest.raises(gw.CheckpointError, match=r"another revision of the base: (\d+) of \1 "):
        other.load(tmp_path / "a")
    assert other.load(tmp_path / "a", other_base=True) == "a"


def test_lora_goes_where_its_modules_are(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    adapters.add("l", peft.LoraConfig(r=2, target_modules=["query"]))
    moved(adapters, "l")
    adapters.save("l", tmp_path / "l")
    outer, other = wrapped()
    other.load(tmp_path / "l")
    torch.testing.assert_close(computed(outer, zoo.inputs, "l"), output(zoo, "l"))


def test_a_composition_leaves_out_the_same_layers(tmp_path: Path) -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    adapters.add("a", gw.Pfeiffer())
    moved(adapters, "a")
    adapters.save(gw.Drop("a", layers=["encoder.layer.1"]), tmp_path / "w")
    outer, other = wrapped()
    block = other.load(tmp_path / "w")
    expected = output(zoo, gw.Drop("a", layers=["encoder.layer.1"]))
    torch.testing.assert_close(computed(outer, zoo.inputs, block), expected)


# --------------------------------------------------------------------------------------------------------- the matching


def none(old: str, new: str) -> int:
    return 0


def test_stacks_are_matched_by_their_sizes() -> None:
    assert find({"a": (2, 8), "b": (3, 8)}, {"x": (3, 8), "y": (2, 8)}, none) == {"a": "y", "b": "x"}
    assert find({"a": (2, 8)}, {"a": (2, 8), "x": (2, 8)}, none) == {"a": "a"}


def test_stacks_of_one_size_are_matched_by_what_they_hold_or_not_at_all() -> None:
    files, here = {"a": (2, 8), "b": (2, 8)}, {"x": (2, 8), "y": (2, 8)}
    assert find(files, here, none) == {}
    assert find(files, here, lambda old, new: {"ay": 3, "bx": 3}.get(old + new, 0)) == {"a": "y", "b": "x"}
    assert find(files, here, lambda old, new: 3) == {}, "the same weights in both"
    assert find(files, here, lambda old, new: 3 if new == "x" else 0) == {}, "two of the file are one here"


def test_names() -> None:
    renaming = Renaming({"vision.encoder.layers": "encoder.layers", "text.layers": "text.layers"})
    assert renaming.changes
    assert renaming.layer("vision.encoder.layers.3.attention") == "encoder.layers.3.attention"
    assert renaming.layer("text.layers.0.x") == "text.layers.0.x"
    assert renaming.path("vision.post_norm") == "post_norm"
    assert renaming.path("text.norm") == "text.norm"
    assert renaming.tensor("vision.encoder.layers.1.feed_forward/down") == "encoder.layers.1.feed_forward/down"
    assert renaming.tensor("norms/vision.post_norm/weight") == "norms/post_norm/weight"
    assert (
        renaming.tensor("shared/vision.encoder.layers.1.q.lora_A.weight") == "shared/encoder.layers.1.q.lora_A.weight"
    )
    assert renaming.tensor("shared/0.vision.encoder.layers.1.q.weight") == "shared/0.encoder.layers.1.q.weight"
    assert renaming.tensor("head/classifier/weight") == "head/classifier/weight"
    assert renaming.data({"a": ["vision.encoder.layers.1", "vision"], "vision.encoder.layers.0": 3}) == {
        "a": ["encoder.layers.1", "vision"],
        "encoder.layers.0": 3,
    }
