"""A run that is killed again and again ends in the same results, but for timings."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graftwork.training import Recipe, run
from tests.training.tiny_run import make_tiny

SCRIPT = Path(__file__).with_name("kill_run.py")


def untimed(value: Any) -> Any:
    """Without whatever says how long something took."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k != "timings"}
    return [untimed(v) for v in value] if isinstance(value, list) else value


def go(recipe: Path, out: Path, moment: str, count: int) -> int:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(recipe), str(out), moment, str(count)],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ).returncode


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
        assert go(recipe, out, moment, count) == -9, f"it was over before {count} of {moment}"
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
