"""The code in the README runs, word for word, with a small local model in the place of the one it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    TrainingArguments,
)

import graftwork as gw

README = Path(__file__).parents[1] / "README.md"


def _model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50, num_labels=2
    )
    return BertForSequenceClassification(config).eval()


def _rows(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"input_ids": torch.randint(0, 50, (6,), generator=generator), "labels": torch.tensor(n % 2)}
        for n in range(count)
    ]


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, labels in (("rte", 2), ("mnli", 3)):
        adapters = gw.attach(_model())
        adapters.add(name, gw.Pfeiffer())
        adapters.add_head(name, labels)
        adapters.save(name, f"out/{name}")
    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", lambda name: _model())
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) == 1
    rows = _rows(8)
    known = {
        "args": TrainingArguments(output_dir="run", max_steps=2, use_cpu=True, report_to=[], disable_tqdm=True),
        "mrpc": rows,
        "batch": {"input_ids": torch.stack([r["input_ids"] for r in rows[:4]])},
    }
    plain = _model().state_dict()
    exec(compile(blocks[0], str(README), "exec"), known)
    left = known["model"].state_dict()
    assert left.keys() == plain.keys()
    assert all(torch.equal(left[k], plain[k]) for k in plain)
    assert sorted(p.name for p in Path("out").iterdir()) == ["for-mrpc", "mnli", "mrpc", "rte"]
