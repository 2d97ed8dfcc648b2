"""One of several labels for an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from graftwork.errors import TaskError
from graftwork.tasks.batches import array, finished, same_count
from graftwork.tasks.cells import Cells
from graftwork.tasks.images import PlainImages, as_picture, image_path, read_image
from graftwork.tasks.kind.classification import OneLabel
from graftwork.tasks.kind.contract import Feature
from graftwork.tasks.kind.registry import register
from graftwork.tasks.prediction import Prediction
from graftwork.tasks.rows import Rows


@register
class ImageClassification(OneLabel):
    """One of several labels for an image.

    The processor is one of transformers, a `PlainImages`, or ``None``: then images are resized as the model of `collate`
    wants them.
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
        return finished({"pixel_values": self._pixels(features, for_model)}, features, for_model)

    def _pixels(self, features: Sequence[Feature], model: Any) -> Tensor:
        if all("pixel_values" in feature for feature in features):
            return torch.stack([feature["pixel_values"] for feature in features])
        if model is None:
            raise TaskError(
                f"task {self.task!r}: without a processor the model says what size images have; give collate for_model=MODEL, "
                "or features a processor"
            )
        return PlainImages.for_model(model)([feature["image"] for feature in features])

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, rows, "rows")
        return [self.predict(array(output).reshape(-1)) for output in outputs]

    def lengths(self, features: Sequence[Feature]) -> list[int]:
        return [1] * len(features)
