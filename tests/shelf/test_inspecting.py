"""What is said of a folder without loading it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graftwork.checkpoint.json_files import DIGEST, MANIFEST, dump
from graftwork.errors import CheckpointError
from graftwork.shelf import FolderInfo, inspect
from tests.support.saved_adapters import make_run


def changed(saved: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of an adapter whose manifest was changed, with the hash of the new one."""
    shutil.copytree(saved / "mrpc", to)
    data = json.loads((to / MANIFEST).read_text())
    data.pop(DIGEST)
    change(data)
    (to / MANIFEST).write_bytes(dump(data))
    return to


def test_each_kind_in_each_format_is_known(saved: Path) -> None:
    found = {path.name: inspect(path) for path in saved.iterdir()}
    facts = {name: (one.format, one.kind, one.name, one.method, one.weights) for name, one in found.items()}
    assert facts == {
        "mrpc": ("graftwork", "adapter", "mrpc", "pfeiffer", 324),
        "rte": ("graftwork", "adapter", "rte", "pfeiffer", 324),
        "fusion": ("graftwork", "fusion", "mrpc,rte", "fuse", 6272),
        "stack": ("graftwork", "composition", "stack", "composition", 648),
        "whole": ("graftwork", "composition", "whole", "composition", 648 + 6272),
        "mrpc-hub": ("adapterhub", "adapter", "mrpc", "bottleneck", 324),
        "stack-hub": ("adapterhub", "composition", "stack-hub", "composition", 648),
        "sst2-peft": ("peft", "adapter", "sst2-peft", "lora", 2048),
        "base": ("graftwork", "base", "base", "difference", found["base"].weights),
    }
    assert found["base"].weights > 0 and found["whole"].members == ("mrpc", "rte", "mrpc,rte")


def test_base_head_size_and_origin(saved: Path) -> None:
    found = inspect(saved / "mrpc")
    assert (found.base.model_type, found.base.model_class) == ("bert", "BertModel")
    assert found.base.stacks == {"encoder.layer": (2, 32)} and found.options["reduction_factor"] == 16
    assert found.head_weights == 3 * 32 + 3 and found.heads[0].kind == "BertForSequenceClassification"
    assert found.heads[0].labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert found.bytes == sum(path.stat().st_size for path in (saved / "mrpc").iterdir())
    assert found.history.written_by == "graftwork 0.1.0" and found.modified is not None and found.damage is None


def test_a_record_is_json_both_ways(saved: Path) -> None:
    for path in saved.iterdir():
        found = inspect(path)
        assert FolderInfo.model_validate_json(found.model_dump_json()) == found


def test_in_a_run_the_task_and_its_score_are_known(saved: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", saved / "mrpc")
    found = inspect(run / "units" / "adapter" / "mrpc" / "0" / "adapter")
    past = found.history
    assert (found.task, past.seed, past.metric, past.score, past.scored_on) == ("mrpc", 0, "accuracy", 0.75, "dev")
    assert past.run == run and past.unit == "adapter/mrpc/0" and found.base.name == "model"
    whole = inspect(run)
    assert (whole.kind, whole.method, whole.members) == ("run", "1 of 1 trainings done", ("adapter/mrpc/0",))


def test_a_damaged_result_does_not_hide_an_adapter(saved: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", saved / "mrpc")
    (run / "units" / "adapter" / "mrpc" / "0" / "result.json").write_text('{"score": "[')
    (run / "recipe.json").write_text('{"base": 3}')
    found = inspect(run / "units" / "adapter" / "mrpc" / "0" / "adapter")
    assert found.task == "mrpc" and found.history.score is None and found.damage is None


def test_no_module_is_built_and_no_tensor_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("it was built or read")

    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)
    monkeypatch.setattr("safetensors.torch.load", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    for path in saved.iterdir():
        inspect(path)


def lies_about_sites(data: dict[str, Any]) -> None:
    data["sites"]["encoder.layer.7.feed_forward"] = 32


def is_of_no_kind(data: dict[str, Any]) -> None:
    data["kind"] = "program"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lies_about_sites, "the site 'encoder.layer.7.feed_forward' is in its graftwork.json only"),
        (is_of_no_kind, "is of the kind 'program'"),
        (lambda data: data.update(base=[]), "is damaged"),
    ],
)
def test_a_lying_manifest(
    change: Callable[[dict[str, Any]], object], message: str, saved: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        inspect(changed(saved, tmp_path / "a", change))


def test_files_that_are_damaged(saved: Path, tmp_path: Path) -> None:
    cases: dict[str, tuple[str, bytes | None, str]] = {
        "cut": ("adapter.safetensors", (saved / "mrpc" / "adapter.safetensors").read_bytes()[:-9], "cut short"),
        "long": ("adapter.safetensors", b"\xff" * 8, "none is larger than"),
        "lacking": ("adapter.safetensors", None, "lacks adapter.safetensors"),
        "huge": ("graftwork.json", b'{"a": "' + b"x" * 9 * 2**20 + b'"}', "no graftwork.json is larger than"),
        "deep": ("graftwork.json", b"[" * 200_000, "is damaged"),
        "text": ("graftwork.json", b"\xff\x00", "is damaged"),
    }
    for name, (file, content, message) in cases.items():
        shutil.copytree(saved / "mrpc", tmp_path / name)
        (tmp_path / name / file).unlink() if content is None else (tmp_path / name / file).write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            inspect(tmp_path / name)


def test_a_pickle_is_not_run(saved: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    shutil.copytree(saved / "mrpc-hub", tmp_path / "a")
    torch.save({"x": Runs()}, tmp_path / "a" / "pytorch_adapter.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_adapter\.bin is damaged"):
        inspect(tmp_path / "a")
    assert not (tmp_path / "ran").exists()


def test_what_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no adapter"):
        inspect(tmp_path)
    with pytest.raises(CheckpointError, match="is not there"):
        inspect(tmp_path / "none")
