"""The head of an AutoModelForX is saved with its adapter, and comes back where it belongs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

import graftwork as gw
from graftwork.checkpoint.naming import tensors_of
from graftwork.checkpoint.tensors import equal
from tests.checkpoint.common import added, attached, edit_json, moved, output
from tests.zoo.encoders import COMMON
from tests.zoo.models import build


def model_of(cls: type, **changes: Any) -> gw.Adapters:
    """A model of another class over the very same base as the zoo's classifier."""
    zoo, _ = attached()
    model = cls(hf.BertConfig(**COMMON, **changes)).eval()
    state = {k: v for k, v in zoo.model.state_dict().items() if k.startswith("bert.")}
    target = model if hasattr(model, "bert") else None
    if target is None:
        model.load_state_dict({k.removeprefix("bert."): v for k, v in state.items()})
    else:
        model.load_state_dict(state, strict=False)
    return gw.attach(model)


def test_two_heads_with_different_labels_on_one_model(tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, ner=gw.Pfeiffer(), rte=gw.Pfeiffer())
    adapters.add_head("ner", ["O", "PER", "LOC", "ORG", "MISC"])
    adapters.add_head("rte", 1)
    moved(adapters, "ner", "rte")
    for name in ("ner", "rte"):
        adapters.save(name, tmp_path / name)
    other, fresh = attached()
    fresh.load(tmp_path / "rte")
    fresh.load(tmp_path / "ner")
    assert (
        output(other, "ner").shape[-1] == 5
        and output(other, "rte").shape[-1] == 1
        and output(other, None).shape[-1] == 3
    )
    for name in ("ner", "rte"):
        assert fresh.labels(name) == adapters.labels(name)
        assert torch.equal(output(other, name), output(zoo, name))
    assert fresh.labels("ner").names == ("O", "PER", "LOC", "ORG", "MISC")


def test_what_the_first_labels_showed_is_kept(tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.add_head("a", 1)
    adapters.active = "a"
    zoo.model(**zoo.inputs, labels=torch.rand(len(zoo.inputs["input_ids"])))
    adapters.save("a", tmp_path / "a")
    _, fresh = attached()
    fresh.load(tmp_path / "a")
    assert fresh.labels("a") == gw.Labels(("LABEL_0",), "regression")


def test_from_a_classifier_to_its_base_and_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    zoo, adapters = attached()
    added(adapters, a=gw.Houlsby(bottleneck_size=4))
    adapters.save("a", tmp_path / "a")
    base = model_of(hf.BertModel)
    with caplog.at_level(logging.INFO, logger="graftwork"):
        base.load(tmp_path / "a")
    assert "left aside on a BertModel" in caplog.text
    assert base.labels("a") is None
    with pytest.raises(gw.CheckpointError, match=r"head=False"):
        base.load(tmp_path / "a", name="b", head=True)
    with torch.no_grad(), adapters.using("a"), base.using("a"):
        expected = zoo.model.bert(**zoo.inputs).last_hidden_state
        assert torch.equal(base.model(**zoo.inputs).last_hidden_state, expected)

    base.save("a", tmp_path / "from base")
    _, fresh = attached()
    fresh.load(tmp_path / "from base")
    assert equal(tensors_of(fresh, "a"), {**tensors_of(adapters, "a"), **_own_head(fresh)}), (
        "the model's own head, as with add"
    )
    with pytest.raises(gw.CheckpointError, match="has no head"):
        fresh.load(tmp_path / "from base", name="b", head=True)


def _own_head(adapters: gw.Adapters) -> dict[str, torch.Tensor]:
    return {f"head/classifier/{n}": p for n, p in adapters.model.classifier.named_parameters()}


def test_the_head_of_another_task_is_left_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both call it ``classifier``, both have three labels; yet a tagger's is not a classifier's."""
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    moved(adapters, "a")
    adapters.save("a", tmp_path / "a")
    tagger = model_of(hf.BertForTokenClassification, num_labels=3)
    with caplog.at_level(logging.WARNING, logger="graftwork"):
        tagger.load(tmp_path / "a")
    assert "is that of a BertForSequenceClassification and is left aside on a BertForTokenClassification" in caplog.text
    own = tagger.model.classifier.weight
    assert torch.equal(tagger.head_of("a")["classifier"].weight, own) and tagger.labels("a") is not None
    tagger.load(tmp_path / "a", name="b", head=True)
    assert torch.equal(tagger.head_of("b")["classifier"].weight, adapters.head_of("a")["classifier"].weight)


def test_a_language_models_head(tmp_path: Path) -> None:
    """Its output embeddings are the base's and are not in the file; what is tied inside is there once."""
    language = model_of(hf.BertForMaskedLM)
    added(language, en=gw.Pfeiffer())
    language.save("en", tmp_path / "en")
    names = set(tensors_of(language, "en"))
    assert "head/cls/predictions.transform.dense.weight" in names
    assert not any("decoder.weight" in name for name in names)
    assert len({n for n in names if n.endswith("predictions.bias") or n.endswith("decoder.bias")}) == 1
    fresh = model_of(hf.BertForMaskedLM)
    fresh.load(tmp_path / "en")
    assert equal(tensors_of(fresh, "en"), tensors_of(language, "en"))
    _, classifier = attached()
    assert classifier.load(tmp_path / "en") == "en"


def test_a_head_left_aside_on_purpose(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.add_head("a", 7)
    adapters.save("a", tmp_path / "a")
    _, fresh = attached()
    fresh.load(tmp_path / "a", head=False)
    assert fresh.head_of("a")["classifier"].weight.shape == (3, 32)


def test_a_head_of_the_users_own_modules(tmp_path: Path) -> None:
    def own() -> nn.Module:
        return nn.Sequential(nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 2))

    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.add_head("a", own())
    adapters.save("a", tmp_path / "a")
    _, fresh = attached()
    with pytest.raises(gw.CheckpointError, match=r"classifier is a Sequential, not a Linear.*add_head\('a', module\)"):
        fresh.load(tmp_path / "a")
    assert fresh.names == ()
    fresh.load(tmp_path / "a", head=False)


def test_a_head_that_cannot_be_resized_to_the_file(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.add_head("a", nn.Linear(32, 3, bias=False))
    adapters.save("a", tmp_path / "a")
    _, fresh = attached()
    with pytest.raises(gw.CheckpointError, match="missing: head/classifier/bias"):
        fresh.load(tmp_path / "a")


def test_a_fusions_head(tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer())
    adapters.add_fusion(gw.Fuse("a", "b", name="mix"), head_from="b")
    adapters.add_head("mix", 4)
    adapters.save("mix", tmp_path / "mix")
    other, fresh = attached()
    added(fresh, a=gw.Pfeiffer(), b=gw.Pfeiffer())
    fresh.load(tmp_path / "mix")
    assert fresh.labels("mix") == adapters.labels("mix")
    assert torch.equal(output(zoo, adapters.fusions["mix"]), output(other, fresh.fusions["mix"]))


@pytest.mark.parametrize("form", ["graftwork", "adapterhub"])
def test_more_labels_than_there_are_weights_for_are_refused_before_they_are_named(form: str, tmp_path: Path) -> None:
    adapters = gw.attach(gw.ModelWithHeads(build("bert").model))
    added(adapters, a=gw.Pfeiffer())
    adapters.add_head("a", gw.heads.Classification(labels=3))
    adapters.save("a", tmp_path / "a", format=form)
    if form == "graftwork":
        edit_json(tmp_path / "a", lambda data: data["head"]["config"].update(labels=10**9))
    else:
        path = tmp_path / "a" / "head_config.json"
        data = json.loads(path.read_text())
        data["config"].update(num_labels=10**9, label2id=None)
        path.write_text(json.dumps(data))
    again = gw.attach(gw.ModelWithHeads(build("bert").model))
    with pytest.raises(gw.CheckpointError, match="it names 1,000,000,000 labels, and its tensors have"):
        again.load(tmp_path / "a")
    assert not again.names
