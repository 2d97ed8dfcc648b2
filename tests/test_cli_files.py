"""The commands about files: what they print, and their exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.command import call, refused
from tests.support.saved_adapters import make_run, make_saved


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_saved(tmp_path_factory.mktemp("made"))
    make_run(folder / "run", folder / "saved" / "rte", task="rte")
    return folder


def test_inspect(made: Path) -> None:
    lines = call("inspect", made / "saved" / "mrpc").stdout.splitlines()
    assert lines[0] == "what:       adapter 'mrpc', in the format graftwork"
    assert "weights:    324, and 99 of heads" in lines and "layers:     encoder.layer: 2 × 32" in lines
    past = call("inspect", made / "run" / "units" / "adapter" / "rte" / "0" / "adapter").stdout
    assert "task:       rte" in past and "score:      accuracy 75.0 % (dev)" in past


def test_inspect_says_whether_it_fits(made: Path) -> None:
    told = call("inspect", made / "saved" / "mrpc", "--model", "roberta").stdout
    assert "fits roberta: no, it was trained on a model of another type" in told
    found = json.loads(call("inspect", made / "saved" / "mrpc", "--model", made / "model", "--json").stdout)
    assert (found["fits"], found["why_not"], found["options"]["reduction_factor"]) == (True, None, 16)


def test_what_cannot_be_inspected(made: Path, tmp_path: Path) -> None:
    assert "holds no adapter" in refused(call("inspect", tmp_path))
    shutil.copytree(made / "saved" / "mrpc", tmp_path / "a")
    (tmp_path / "a" / "adapter.safetensors").write_bytes(b"x")
    assert "cut short" in refused(call("inspect", tmp_path / "a"))


def test_verify(made: Path, tmp_path: Path) -> None:
    right = call("verify", made / "saved" / "mrpc", made / "model")
    assert right.exit_code == 0 and right.stdout.endswith(f"{made / 'saved' / 'mrpc'}: OK\n")
    shutil.copytree(made / "saved" / "mrpc", tmp_path / "a")
    shutil.copy(made / "saved" / "rte" / "adapter.safetensors", tmp_path / "a")
    assert "is not the file that graftwork.json" in refused(call("verify", tmp_path / "a", made / "model"))
    assert "is a run; give one of its folders" in refused(call("verify", made / "run", made / "model"))


def test_convert(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call("convert", made / "saved" / "mrpc", out, "--to", "adapterhub", "--model", made / "model")
    assert done.exit_code == 0 and "the outputs on a small input are the same" in done.stdout
    assert "is there already" in refused(call("convert", made / "saved" / "mrpc", out, "--to", "adapterhub"))
    said = refused(call("convert", made / "saved" / "mrpc", tmp_path / "new", "--to", "graftwork"))
    assert "does not say which base it was trained on; give --model" in said and not (tmp_path / "new").exists()


def test_list_and_find(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "saved" / "mrpc", tmp_path / "bad" / "x")
    (tmp_path / "bad" / "x" / "graftwork.json").write_text("\x1b[31m")
    index = ("--index", tmp_path / "index.sqlite")
    listed = call("list", made / "saved", made / "run", tmp_path / "bad", *index)
    lines = listed.stdout.splitlines()
    assert (
        listed.exit_code == 0
        and lines[0] == "10 found"
        and lines[2].split()[:4] == ["name", "format", "method", "base"]
    )
    assert (
        any(line.startswith(f"damaged: {tmp_path / 'bad' / 'x'}: ") for line in lines) and "\x1b" not in listed.stdout
    )
    (row,) = json.loads(call("find", made / "saved", made / "run", "--base", "model", *index, "--json").stdout)
    assert (row["history"]["task"], row["name"], row["base"]["name"]) == ("rte", "rte", "model")
    fits = call("find", made / "saved", "--base", made / "model", "--method", "fuse", *index)
    assert fits.exit_code == 0 and fits.stdout.startswith("1 found")
    none = call("find", made / "saved", "--task", "cola", *index)
    assert none.exit_code == 1 and none.stdout.startswith("0 found")
    assert "is not there; give a folder" in refused(call("list", tmp_path / "gone", *index))
