"""Images: from the value of a row to the input of a model, with a processor of transformers or without one."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from graftwork.errors import TaskError
from graftwork.options import needed
from graftwork.tasks.cells import Cells
from graftwork.tasks.reading.paths import path_of
from graftwork.tasks.reading.text import require_bounded

_DEFAULT_SIZE = 224
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # none that starts a program, as EPS does


@dataclasses.dataclass(frozen=True)
class PlainImages:
    """A processor for a base without one: it resizes, and scales 0 to 1 to -1 to 1.

    Attributes:
        size: Height and width that the base needs; ``None`` where it takes any.
        channels: 1 for grey, 3 for colours.
    """

    size: tuple[int, int] | None = None
    channels: int = 3

    @classmethod
    def for_model(cls, model: Any) -> PlainImages:
        """The processor for a model, by its configuration."""
        config = getattr(model, "config", model)
        size = getattr(config, "image_size", None)
        if isinstance(size, int):
            size = (size, size)
        return cls(None if size is None else (int(size[0]), int(size[1])), int(getattr(config, "num_channels", 3)))

    def __call__(self, images: list[Tensor]) -> Tensor:
        """Images ``(channels, height, width)`` of 0 to 1, in grey or in colours, as one batch."""
        one_size = len({image.shape[1:] for image in images}) == 1
        size = self.size or (None if one_size else (_DEFAULT_SIZE, _DEFAULT_SIZE))
        return torch.stack([self._one(image, size) for image in images])

    def _one(self, image: Tensor, size: tuple[int, int] | None) -> Tensor:
        if image.shape[0] != self.channels:
            image = image.mean(0, keepdim=True).expand(self.channels, -1, -1)
        if size is not None and image.shape[1:] != size:
            image = F.interpolate(
                image.unsqueeze(0), size, mode="bilinear", antialias=True, align_corners=False
            ).squeeze(0)
        return image * 2 - 1


def read_image(cells: Cells) -> Tensor:
    """The image of a row, ``(channels, height, width)`` with one or three channels of 0 to 1.

    A row has a path, which is relative to the file of the row, an image of Pillow, or numbers ``(height, width)``,
    ``(height, width, channels)`` or ``(channels, height, width)``.
    """
    value = _value(cells)
    if isinstance(value, (str, os.PathLike, bytes)):
        value = _opened(value, cells)
    if hasattr(value, "convert"):
        grey = value.mode in ("1", "L", "I", "I;16", "F")
        numbers = np.asarray(value) if grey else np.asarray(value.convert("RGB"))
        white = {"1": 1.0, "L": 255.0}.get(value.mode, 65535.0 if grey else 255.0)
    else:
        numbers, white = _numbers(value, cells)
    return _channels_first(torch.from_numpy(numbers.astype(np.float32)) / white, cells)


def image_path(cells: Cells) -> Path:
    """The file of a row's image, which must be there."""
    path = path_of(os.fspath(_value(cells)), Path(cells.place.file).parent)
    if not path.is_file():
        raise cells.wrong("image", f"there is no file {path}; correct the path, which is relative to the rows' file")
    return path


def as_picture(image: Tensor) -> np.ndarray:
    """An image as bytes ``(height, width, 3)``, as processors of transformers take it."""
    colours = image.expand(3, -1, -1) if image.shape[0] == 1 else image
    return (colours * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def _value(cells: Cells) -> Any:
    value = cells.value("image")
    if isinstance(value, dict):  # as the library `datasets` has it
        return value.get("bytes") or value.get("path")
    return value


def _opened(source: str | os.PathLike[str] | bytes, cells: Cells) -> Any:
    pillow = needed("PIL.Image", "an image file")
    if not isinstance(source, bytes):
        source = image_path(cells).read_bytes()
    try:
        image = pillow.open(io.BytesIO(source), formats=_FORMATS)
        require_bounded(cells.place, len(source), image.width * image.height * len(image.getbands()))
        image.load()
    except TaskError:
        raise
    except Exception as error:  # whatever Pillow's readers say of a file that is damaged, or larger than it lets any be
        raise cells.wrong("image", f"it cannot be read ({error}); take the row out, or save the image again") from error
    return image


def _numbers(value: Any, cells: Cells) -> tuple[np.ndarray, float]:
    try:
        numbers = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
        fits = numbers.dtype.kind in "iufb" and numbers.ndim in (2, 3) and numbers.size and np.isfinite(numbers).all()
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise cells.wrong(
            "image", "it must be a path, an image, or finite numbers in two or three dimensions; give one"
        )
    white = cells.spec.white or (255.0 if numbers.dtype.kind in "iu" else 1.0)
    if numbers.min() < 0 or numbers.max() > white:
        raise cells.wrong(
            "image",
            f"it has numbers from {numbers.min()} to {numbers.max()}, outside of 0 to {white:g}; give white = NUMBER",
        )
    return numbers, float(white)


def _channels_first(image: Tensor, cells: Cells) -> Tensor:
    if image.dim() == 2:
        return image.unsqueeze(0)
    if image.shape[-1] in (1, 3, 4):
        image = image.permute(2, 0, 1)
    if image.shape[0] not in (1, 3, 4):
        raise cells.wrong(
            "image", f"its shape is {tuple(image.shape)}; one side must be 1 or 3 channels, first or last"
        )
    return image[:3] if image.shape[0] == 4 else image
