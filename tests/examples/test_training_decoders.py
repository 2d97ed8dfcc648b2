"""TRL's SFTTrainer and a loop of accelerate train the adapters of a tiny decoder."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

import graftwork as gw

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(("name", "library"), [("sft_trainer", "trl"), ("accelerate_loop", "accelerate")])
def test_both_adapters_learn_and_nothing_of_the_base_is_written(
    name: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for module in ("smollm2", "sums", name):
        monkeypatch.delitem(sys.modules, module, raising=False)
    example, sums, smollm2 = (importlib.import_module(module) for module in (name, "sums", "smollm2"))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--steps", "8", "--out", str(tmp_path)])
    example.main()
    printed = capsys.readouterr().out
    losses = re.findall(r"^(\w+): loss (\S+) at first, (\S+) at the end$", printed, re.MULTILINE)
    assert [adapter for adapter, *_ in losses] == ["lora", "pfeiffer"]
    assert all(float(last) < float(first) - 0.1 for _, first, last in losses)
    said = re.search(r"^How much is 0 plus 0\? (.*)$", printed, re.MULTILINE)

    model, tokenizer = sums.tiny()  # the base as it was: adapters are all that was trained
    adapters = gw.attach(model)
    for adapter in ("lora", "pfeiffer"):
        adapters.load(tmp_path / adapter)
    with adapters.using(gw.Average("lora", "pfeiffer")):
        assert said is not None and said[1] == repr(smollm2.answer(model, tokenizer, "How much is 0 plus 0?"))
    base = sum(p.numel() for n, p in model.named_parameters() if "graftwork" not in n)
    written = [path.stat().st_size for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".bin", ".pt")]
    assert max(written) < base * torch.float32.itemsize


def test_the_labels_of_the_loop_are_those_of_the_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    loop, sums = importlib.import_module("accelerate_loop"), importlib.import_module("sums")
    _, tokenizer = sums.tiny()
    features = loop.batch([sums.rows()[0], sums.rows()[99]], tokenizer)
    asked = [tokenizer.decode(row[row != -100]) for row in features["labels"]]
    assert asked == ["0<|im_end|>\n", "18<|im_end|>\n"]
    assert (features["labels"][features["attention_mask"] == 0] == -100).all()
