"""The README: its code runs, word for word, on a small model; its first screen is one; its extras are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

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
    adapters = gw.attach(_model())
    adapters.add("rte", gw.Pfeiffer(reduction_factor=4))
    adapters.save("rte", "out/rte")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    rows = _rows(8)
    known = {
        "model": _model(),
        "Trainer": Trainer,
        "args": TrainingArguments(output_dir="run", max_steps=2, use_cpu=True, report_to=[], disable_tqdm=True),
        "mrpc": rows,
        "batch": {"input_ids": torch.stack([r["input_ids"] for r in rows[:4]])},
    }
    plain = _model().state_dict()
    exec(compile(blocks[0], str(README), "exec"), known)
    left = known["model"].state_dict()
    assert left.keys() == plain.keys()
    assert all(torch.equal(left[k], plain[k]) for k in plain)
    assert sorted(p.name for p in Path("out").iterdir()) == ["mrpc", "rte"]


def test_the_first_screen_is_one() -> None:
    text = README.read_text(encoding="utf-8")
    before, _, after = text.partition("## Why this one")
    assert len(before.splitlines()) < 50 and len(after.splitlines()) < 80
    assert "![" in before and "make demo" in before and "```python" in before
    picture = README.parent / "docs" / "attention.svg"
    assert picture.stat().st_size < 200_000 and "http://www.w3.org/2000/svg" in picture.read_text(encoding="utf-8")


def test_every_extra_of_the_installation_is_one() -> None:
    text = README.read_text(encoding="utf-8")
    extras = {name for group in re.findall(r"graftwork\[([\w,]+)\]", text) for name in group.split(",")}
    known = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"tasks", "serve"} <= extras <= known["optional-dependencies"].keys()
