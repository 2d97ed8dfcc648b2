"""The quickstart in a tiny form, as a user runs it: a process of its own, a model from a folder."""

from __future__ import annotations

import importlib
import json
import os
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, TrainerState

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    """A BERT with random weights, and a tokenizer that spells."""
    folder = tmp_path_factory.mktemp("tiny")
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *",.;:'?!-"]
    spelling = BertWordPieceTokenizer({piece: number for number, piece in enumerate(pieces)})
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=spelling._tokenizer, **special).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory) -> tuple[str, Path, Path]:
    """What a tiny run printed, its folder, its Markdown."""
    out, page = tmp_path_factory.mktemp("quickstart") / "out", tmp_path_factory.mktemp("page") / "table.md"
    command = [sys.executable, str(EXAMPLES / "quickstart.py"), "--model", str(tiny_model), "--out", str(out)]
    command += ["--markdown", str(page), "--rows", "24", "--seeds", "2", "--max-length", "48", "--no-bf16"]
    command += ["--epochs", "1", "--target-epochs", "1", "--fusion-epochs", "1"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=offline, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout, out, page


def test_the_table_has_the_result_and_its_controls(run):
    printed, _, page = run
    rows = [line.split("|")[1].strip() for line in page.read_text().splitlines() if line.startswith("| ")]
    for what in ("majority class", "head only", "single adapter", "fusion of all 3", "fusion of the own adapter alone"):
        assert what in rows
        assert what in printed
    assert {"entailment", "sentiment"} <= set(rows)
    assert page.read_text().count("±") >= 4 + 1, "a standard deviation in every row of two seeds"


def test_the_page_on_the_examples_explains_every_row_of_the_table(run):
    _, _, page = run
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    explained = re.findall(r"^- \*\*(.+?)\*\*", told[told.index("## What the table compares") :], re.MULTILINE)
    table = page.read_text(encoding="utf-8").split("contradiction: ")[1]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][2:]
    assert [re.sub(r"fusion of all \d+", "fusion of all", row) for row in rows] == ["majority class", *explained]


def test_a_log_gets_whole_lines(run):
    printed, _, _ = run
    assert all(line.isprintable() for line in printed.split("\n")), "nothing that moves a cursor"


def test_a_long_training_says_every_few_seconds_how_far_it_is(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("fit", "tasks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    fit = importlib.import_module("fit")
    now = 0.0
    monkeypatch.setattr(fit.time, "perf_counter", lambda: now)
    bar = fit.HowFar("entailment: adapter")
    bar.on_train_begin(None, None, None)
    for step in range(1, 101):  # four a second
        now += 0.25
        bar.on_step_end(None, TrainerState(global_step=step, max_steps=100), None)
    bar.on_train_end(None, None, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  entailment: adapter, step 21 of 100" and len(lines) == 4


def test_a_fresh_process_predicts_the_same(run):
    printed, out, _ = run
    assert "a fresh process says: consistent" in printed
    note = json.loads((out / "quickstart.json").read_text())
    command = [sys.executable, str(EXAMPLES / "predict.py"), str(out), note["row"]["text"], note["row"]["text_pair"]]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
    assert list(said) == note["labels"] == ["consistent", "contradiction"]
    assert list(said.values()) == pytest.approx(note["probabilities"], abs=1e-5)


def test_only_small_files_are_saved(run, tiny_model):
    _, out, _ = run
    base = (tiny_model / "model.safetensors").stat().st_size
    for name in ("entailment", "sentiment", "contradiction"):
        files = [file for file in (out / name).rglob("*") if file.is_file()]
        assert files
        assert sum(file.stat().st_size for file in files) < base / 2
