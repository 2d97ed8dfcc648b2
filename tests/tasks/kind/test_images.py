"""Images: from paths, pictures and numbers, with a processor of transformers, a plain one and none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTImageProcessor

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec
from graftwork.tasks.images import PlainImages
from graftwork.tasks.reading.splits import IMAGES

pillow = pytest.importorskip("PIL.Image")

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def made(*images: Any, **spec: Any) -> Task:
    rows = [{"image": image, "label": n % 2} for n, image in enumerate((*images, images[0]))]
    return Task.from_rows("im", TaskSpec(kind="image_classification", **spec), rows, rows)


def pixels(task: Task, processor: Any = None, **config: Any) -> torch.Tensor:
    features = task.features(task.train, processor)
    config = {"image_size": 8, "num_channels": 1, **config}
    return task.collate(features, processor, for_model=PlainModel(ViTConfig(**config)))["pixel_values"]


class PlainModel(torch.nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def forward(self, pixel_values: torch.Tensor) -> None: ...


def test_every_form_of_an_image_is_the_same(tmp_path: Path) -> None:
    picture = pillow.fromarray(GREY)
    picture.save(tmp_path / "a.png")
    forms = [
        GREY,
        GREY.tolist(),
        GREY / 255.0,
        picture,
        str(tmp_path / "a.png"),
        GREY[..., None],
        torch.from_numpy(GREY),
    ]
    several = pixels(made(*forms))
    expected = torch.from_numpy(GREY.astype(np.float32)) / 255 * 2 - 1
    for one in several:
        torch.testing.assert_close(one[0], expected)


def test_white_may_be_any_number() -> None:
    digits = (GREY % 17).astype(float)
    torch.testing.assert_close(pixels(made(digits, white=16))[0, 0], torch.from_numpy(digits).float() / 8 - 1)
    with pytest.raises(TaskError, match=r"im, train row:1: 'image' is .*numbers from 0\.0 to 16\.0, outside of 0 to 1"):
        pixels(made(digits))


def test_sizes_and_channels_are_the_models() -> None:
    task = made(np.zeros((5, 9, 3)), np.ones((7, 7)), np.ones((3, 20, 20)))
    assert pixels(task, image_size=(6, 4), num_channels=3).shape == (4, 3, 6, 4)
    assert pixels(task, image_size=6, num_channels=1).shape == (4, 1, 6, 6)
    torch.testing.assert_close(pixels(task, image_size=6)[1], torch.ones(1, 6, 6))
    plain = PlainImages((6, 6), 1)
    assert torch.equal(pixels(task, plain), pixels(task, image_size=6))


def test_a_processor_of_transformers() -> None:
    processor = ViTImageProcessor(size={"height": 6, "width": 6})
    task = made(np.zeros((8, 8, 3)), np.ones((8, 8)))
    found = pixels(task, processor, num_channels=3)
    assert found.shape == (3, 3, 6, 6)
    torch.testing.assert_close(found[1], torch.ones(3, 6, 6))


def test_without_a_processor_the_model_is_needed() -> None:
    task = made(GREY)
    with pytest.raises(TaskError, match="task 'im': without a processor the model says what size"):
        task.collate(task.features(task.train, None), None)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("no.png", "there is no file .*no.png; correct the path"),
        ([1, 2, 3], "finite numbers in two or three dimensions"),
        ([[1, 2], [3]], "finite numbers in two or three dimensions"),
        ([["a"]], "finite numbers in two or three dimensions"),
        ([[float("nan")]], "finite numbers in two or three dimensions"),
        (np.zeros((5, 5, 5)), r"its shape is \(5, 5, 5\); one side must be 1 or 3 channels"),
        ([[-1, 2]], "outside of 0 to 255"),
    ],
)
def test_what_is_no_image(image: Any, message: str) -> None:
    with pytest.raises(TaskError, match=rf"im, train row:1: 'image' is (?s:.*){message}"):
        pixels(made(image))


@pytest.mark.parametrize("ending", sorted(IMAGES))
def test_every_form_of_image_is_read(ending: str, tmp_path: Path) -> None:
    pillow.new("RGB", (4, 4), (255, 0, 0)).convert("L" if ending == ".pgm" else "RGB").save(tmp_path / f"a{ending}")
    rows = [{"image": str(tmp_path / f"a{ending}"), "label": n} for n in range(2)]
    task = Task.from_rows("t", TaskSpec(kind="image_classification"), rows, rows)
    image = task.features(task.train, None)[0]["image"]
    assert image.shape[-2:] == (4, 4) and image.max() > 0.2
