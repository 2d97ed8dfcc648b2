"""One of several labels for an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from graftwork.errors import TaskError
from graftwork.tasks.batches import finished
from graftwork.tasks.cells import Cells
from graftwork.tasks.images import PlainImages, as_picture, image_path, read_image
from graftwork.tasks.kind.classification import OneLabel
from graftwork.tasks.kind.contract import Feature, register
from graftwork.tasks.rows import Rows


@register
class ImageClassification(OneLabel):
    """One of several labels for an image.

    The processor is one of transformers, a `PlainImages`, or ``None``: then images are resized as the model of `collate`
    needs them.
    """

    name: ClassVar[str] = "image_classification"
    processor: ClassVar[str] = "image"
    cuts: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("image",)
    options: ClassVar[frozenset[str]] = OneLabel.options | {"white"}

    def read(self, cells: Cells) -> Any:
        # the images themselves are read when they are needed: a folder of them may not fit into memory
        value = cells.value("image")
        if isinstance(value, (str, os.PathLike)):
            image_path(cells)
        return value

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        self.check(rows, answered=train)
        return [self._feature(cells, processor) for cells in self.cells(rows)]

    def _feature(self, cells: Cells, processor: Any) -> Feature:
        image, target = read_image(cells), self.target(cells)
        if processor is None:
            feature: Feature = {"image": image}
        elif isinstance(processor, PlainImages):
            feature = {"pixel_values": processor([image])[0]}
        else:
            made = processor(images=as_picture(image), return_tensors="pt")
            feature = {"pixel_values": made["pixel_values"][0]}
        return feature if target is None else {**feature, "labels": target}

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        if all("pixel_values" in feature for feature in features):
            pixels = torch.stack([feature["pixel_values"] for feature in features])
        elif for_model is None:
            raise TaskError(
                f"task {self.task!r}: without a processor the model says what size images have; give collate for_model=MODEL, "
                "or features a processor"
            )
        else:
            pixels = PlainImages.for_model(for_model)([feature["image"] for feature in features])
        return finished({"pixel_values": pixels}, features, for_model)

    def lengths(self, features: Sequence[Feature]) -> list[int]:
        return [1] * len(features)
