"""A run that is killed again and again, its files damaged meanwhile, ends in the same results, but for timings.

With damaged files there are 2 kills by default; ``GRAFTWORK_KILLS=20`` for as many.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graftwork.experiments import Recipe, run
from tests.support.tiny_run import RECIPE, make_tiny

SCRIPT = Path(__file__).with_name("kill_run.py")
KILLS = int(os.environ.get("GRAFTWORK_KILLS", "2"))
# One of each way of going on: a pass of two, a sequence of two, single units.
MANY = 'together = 2\ncontrols = ["head", "sequential"]\n' + RECIPE


def untimed(value: Any) -> Any:
    """Without whatever says how long something took."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k != "timings"}
    return [untimed(v) for v in value] if isinstance(value, list) else value


def go(recipe: Path, out: Path, moment: str, count: int, *redo: str) -> tuple[int, str]:
    """The exit code of a run that kills itself, and what it said."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(recipe), str(out), moment, str(count), *redo],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stderr


def damage(out: Path, draw: random.Random) -> str:
    """One file of what is trained, half of the time of a checkpoint: gone, cut, empty, or with another byte."""
    files = sorted(path for part in ("units", "together") for path in (out / part).rglob("*") if path.is_file())
    going = [
        path for path in files if {"checkpoints", "steps", "together"} & {*path.parts} or path.name == "sequence.json"
    ]
    path = draw.choice(going if going and draw.random() < 0.5 else files)
    way, data = draw.choice(["gone", "cut", "empty", "flipped"]), path.read_bytes()
    at = draw.randrange(len(data)) if data else 0
    if way == "gone":
        path.unlink()
    else:
        flipped = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] if data else b"x"
        path.write_bytes({"cut": data[:at], "empty": b"", "flipped": flipped}[way])
    return f"{path.relative_to(out)}: {way}"


@pytest.mark.slow
def test_ten_kills_change_no_result(tmp_path: Path) -> None:
    recipe = make_tiny(tmp_path)
    expected = run(Recipe.read(recipe), tmp_path / "whole", root=tmp_path)
    draw = random.Random(7)
    kills = [("step", draw.randint(2, 14)) for _ in range(8)]
    kills[3:3] = [("write", 2)]
    kills[7:7] = [("write", draw.randint(3, 8))]
    assert len(kills) == 10
    out = tmp_path / "killed"
    for moment, count in kills:
        assert go(recipe, out, moment, count)[0] == -9, f"it was over before {count} of {moment}"
    found = run(Recipe.read(recipe), out, root=tmp_path)
    assert untimed(found) == untimed(expected)
    assert untimed(json.loads((out / "results.json").read_text())) == untimed(expected)
    losses = [loss for unit in found["units"] for _, loss in unit["curves"]["loss"]]
    assert len(set(losses)) > len(losses) / 2  # they are the figures of trainings that moved
    for unit in found["units"]:
        for path in ("adapter", "fusion", "head"):
            one, other = (root / "units" / unit["unit"] / path for root in (tmp_path / "whole", out))
            assert one.exists() == other.exists()
            for file in one.glob("*.safetensors") if one.exists() else ():
                assert file.read_bytes() == (other / file.name).read_bytes()
    assert not [path for path in out.rglob("*") if path.name.endswith((".new", ".old"))]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*damaged")
def test_kills_and_damaged_files_change_no_result_or_are_named(tmp_path: Path) -> None:
    recipe = make_tiny(tmp_path, MANY)
    expected = run(Recipe.read(recipe), tmp_path / "whole", root=tmp_path)
    draw, out, told = random.Random(11), tmp_path / "killed", []
    for _ in range(KILLS):
        count = draw.randint(4, 12)
        code, said = go(recipe, out, "step", count)
        if code not in (0, -9):  # only a finished training that no longer fits stops it, by its name
            assert "RecipeError" in said and "--redo" in said and told[-1].split("/")[1] in said, (told, said)
            code, said = go(recipe, out, "step", count, "redo")
        assert code in (0, -9), (told, said)
        told.append(damage(out, draw))
    found = run(Recipe.read(recipe), out, root=tmp_path, redo=True)
    assert untimed(found) == untimed(expected), told
    assert not [path for path in out.rglob("*") if "checkpoint" in str(path) or path.name.endswith((".new", ".old"))]
