"""The example of self-modulation: what it prints, its picture, and its two figures."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[2] / "examples" / "self_modulation"


def test_it_prints_a_table_and_draws_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "samples.png"
    command = [sys.executable, FOLDER / "digits.py", "--steps", "2", "--seeds", "1", "--picture", picture]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split("|")[1].strip() for line in ran.stdout.splitlines() if line.startswith("|")]
    for row in ("the digits learnt from", "plain", "self-modulation", "norm0", "norm1", "norm2"):
        assert row in rows
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_two_figures() -> None:
    scores = runpy.run_path(str(FOLDER / "scores.py"))
    features = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        features[1].weight.copy_(torch.eye(4))
    images = torch.randn(500, 1, 2, 2)
    last = nn.Sequential(*features, nn.Identity())  # the figure takes what comes before the last layer
    assert scores["frechet"](last, images, images) == pytest.approx(0, abs=1e-9)
    assert scores["frechet"](last, images, images + 2) == pytest.approx(4 * 2**2, rel=1e-5)
    assert scores["frechet"](last, images, images * 3) > 4
    sure = torch.eye(10)[:, None].repeat(5, 1, 1) * 100
    assert scores["score"](nn.Flatten(), sure) == pytest.approx(10, rel=1e-6)
    assert scores["score"](nn.Flatten(), sure[:1].repeat(50, 1, 1)) == pytest.approx(1, rel=1e-6)
