"""A base that accelerate offloads, before adapters came to it and after: the same answers, training and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
import transformers as hf

import graftwork as gw
from tests.support.attached import SMALL, bert_classifier, ids, lively, made, output

POOL = gw.Fuse("a", "b", name="f")
CPU = torch.device("cpu")
INPUTS = {"input_ids": ids(4)}
COMPOSITIONS: dict[str, gw.Composition] = {
    "plain": None,
    "adapter": "a",
    "norms and attention": "h",
    "fusion": POOL,
    "rows": gw.MixedBatch(["a", "b", None, "h"]),
}


def to_cpu(model: Any, folder: Path) -> None:
    accelerate.cpu_offload(model, execution_device=CPU)


def to_disk(model: Any, folder: Path) -> None:
    accelerate.disk_offload(model, str(folder), execution_device=CPU)


def dispatched(model: Any, folder: Path) -> None:
    """One layer on the disk, the rest where it was; what is ours goes wherever the map says."""
    places = {"bert.embeddings": "cpu", "bert.encoder.layer.0": "cpu", "bert.encoder.layer.1": "disk"}
    places |= {"bert.pooler": "cpu", "classifier": "cpu", "dropout": "cpu", "graftwork": "cpu"}
    here = {path: place for path, place in places.items() if path in dict(model.named_modules())}
    accelerate.dispatch_model(model, device_map=here, offload_dir=str(folder), force_hooks=True)


WAYS: dict[str, Callable[[Any, Path], None]] = {"to the CPU": to_cpu, "to the disk": to_disk, "dispatched": dispatched}
each_way = pytest.mark.parametrize("way", WAYS)


def prepared(folder: Path, way: str | None, first: str = "attach") -> tuple[Any, gw.Adapters]:
    """A model with adapters, offloaded before or after they came to it."""
    model = bert_classifier()
    folder.mkdir(exist_ok=True)
    if way is not None and first == "offload":
        WAYS[way](model, folder)
    adapters = gw.attach(model)
    for n, (name, config) in enumerate(
        {"a": gw.Pfeiffer(), "b": gw.Pfeiffer(), "h": gw.Houlsby(bottleneck_size=4, norms="own")}.items()
    ):
        torch.manual_seed(n)
        adapters.add(name, config)
        lively(adapters, name, seed=n)
    torch.manual_seed(9)
    adapters.add_fusion(POOL)
    lively(adapters, "f")
    if way is not None and first == "attach":
        WAYS[way](model, folder)
    return model, adapters


@each_way
@pytest.mark.parametrize("first", ["attach", "offload"])
def test_answers_and_gradients_are_those_of_the_plain_model(way: str, first: str, tmp_path: Path) -> None:
    plain, expected = prepared(tmp_path, None)
    model, adapters = prepared(tmp_path, way, first)
    for composition in COMPOSITIONS.values():
        with expected.using(composition), adapters.using(composition):
            torch.testing.assert_close(output(model, INPUTS), output(plain, INPUTS))
    for what in ("a", "h", POOL):
        for one, handle in ((plain, expected), (model, adapters)):
            handle.train_only(what)
            one.train()
            one(**INPUTS, labels=torch.tensor([0, 2, 1, 1])).loss.backward()
        theirs = dict(model.named_parameters())
        learned = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
        assert learned
        for name, gradient in learned.items():
            torch.testing.assert_close(theirs[name].grad, gradient, msg=lambda text, name=name: f"{name}: {text}")
        plain.zero_grad()
        model.zero_grad()


@each_way
@pytest.mark.parametrize("first", ["attach", "offload"])
@pytest.mark.parametrize("ran", [False, True])
def test_files_are_those_of_the_plain_model(way: str, first: str, ran: bool, tmp_path: Path) -> None:
    """The base is known by its weights, wherever they are, also after a forward pass has put others in their places."""
    plain, expected = prepared(tmp_path, None)
    model, adapters = prepared(tmp_path, way, first)
    if ran:
        output(model, INPUTS)
    adapters.save(POOL, tmp_path / "w", members=True)
    expected.save(POOL, tmp_path / "v", members=True)
    for part in ("adapters/0", "fusions/0"):
        for file in ("graftwork.json", "adapter.safetensors", "fusion.safetensors"):
            here, there = tmp_path / "w" / part / file, tmp_path / "v" / part / file
            assert here.exists() == there.exists() and (not here.exists() or here.read_bytes() == there.read_bytes())
    for name in ("f", "a", "b"):
        adapters.remove(name)
    assert adapters.load(tmp_path / "v") == POOL
    with adapters.using(POOL), expected.using(POOL):
        torch.testing.assert_close(output(model, INPUTS), output(plain, INPUTS))
    other = bert_classifier()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.01)
    with pytest.raises(gw.CheckpointError, match="another revision"):
        gw.attach(other).load(tmp_path / "w")


def test_an_optimizer_made_after_train_only_moves_what_is_computed_with(tmp_path: Path) -> None:
    model, adapters = prepared(tmp_path, "to the CPU")
    adapters.train_only("a")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = output(model, INPUTS)
    model(**INPUTS, labels=torch.tensor([0, 2, 1, 1])).loss.backward()
    optimizer.step()
    assert not torch.equal(output(model, INPUTS), before)


@pytest.mark.parametrize("base", ["norms", "trained"])
def test_the_base_itself_is_not_trained(base: str, tmp_path: Path) -> None:
    _model, adapters = prepared(tmp_path, "to the CPU")
    adapters.active = "b"
    with pytest.raises(gw.AttachError, match=f"base={base!r}.*offloads.*would be lost"):
        adapters.train_only("a", base=base)
    assert adapters.active == "b" and not adapters.trainable


def test_a_difference_is_not_loaded_into_it(tmp_path: Path) -> None:
    _, plain = prepared(tmp_path, None)
    plain.train_only("a", base="norms")
    plain.save_base(tmp_path / "base")
    _, adapters = prepared(tmp_path, "to the CPU")
    with pytest.raises(gw.AttachError, match=r"load_base.*offloads"):
        adapters.load_base(tmp_path / "base")


def test_a_head_that_shares_the_word_embeddings_is_refused() -> None:
    model = made(hf.BertForMaskedLM, hf.BertConfig(**SMALL))
    accelerate.cpu_offload(model, execution_device=CPU)
    adapters = gw.attach(model)
    assert adapters.head_paths
    with pytest.raises(gw.AttachError, match=r"in common with the base.*accelerate"):
        adapters.add("a", gw.Pfeiffer())
    assert not adapters.names
