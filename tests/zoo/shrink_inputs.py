"""Small inputs for the forward pass of any transformers model, guessed from the names of its arguments.

There is no one right shape for ``pixel_values`` or ``input_features``: `candidates` yields several dictionaries, and
the caller takes the first that the model runs on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

ROWS = 2
LENGTH = 8
DECODER_LENGTH = 4
SPECIAL = 60  # ordinary token ids are drawn below this; the shrinker puts special ones at the end of the vocabulary


def all_fields(config: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every field of a configuration and of those nested in it, the outer ones first."""
    values = {key: value for key, value in vars(config).items() if not key.startswith("_")}
    nested = []
    for key, value in values.items():
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            nested.append(value)
        else:
            yield key, value
    if depth < 4:
        for value in nested:
            yield from all_fields(value, depth + 1)


def field(config: Any, *names: str, default: Any = None) -> Any:
    """The first of these fields that is set, in the configuration or one nested in it."""
    fields = list(all_fields(config))
    for name in names:
        for key, value in fields:
            if key == name and value is not None:
                return value
    return default


def arguments(model: nn.Module) -> dict[str, inspect.Parameter]:
    """The named arguments of the model's forward."""
    parameters = inspect.signature(model.forward).parameters
    return {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def candidates(model: nn.Module, generator: torch.Generator, image_tokens: int = 0) -> Iterator[dict[str, Any]]:
    """Inputs to try, the fullest first: text with each form of images and audio, then fewer of them.

    Args:
        model: The model; its ``config`` tells sizes.
        generator: Source of the numbers.
        image_tokens: Number of image (video, audio) placeholder tokens to put in every row of text.
    """
    names = arguments(model)
    text = _text(model.config, names, generator, image_tokens)
    media = list(_media(model.config, names, generator))
    for extra in media:
        yield {**text, **extra}
    if text and not _required(names, text):
        yield text
    if media and text:
        yield from media
    if "attention_mask" in text:
        bare = {key: value for key, value in text.items() if key != "attention_mask"}
        for extra in media or [{}]:
            yield {**bare, **extra}


def _required(names: dict[str, inspect.Parameter], given: dict[str, Any]) -> list[str]:
    return [name for name, parameter in names.items() if parameter.default is parameter.empty and name not in given]


def _ids(config: Any, generator: torch.Generator, rows: int, length: int) -> torch.Tensor:
    vocab = min(
        [value for key, value in all_fields(config) if key == "vocab_size" and isinstance(value, int)] or [SPECIAL]
    )
    return torch.randint(4, max(8, min(vocab, SPECIAL)), (rows, length), generator=generator)


def _text(config: Any, names: dict[str, Any], generator: torch.Generator, image_tokens: int) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    if "input_ids" in names:
        ids = _ids(config, generator, ROWS, LENGTH + image_tokens)
        placeholder = field(
            config, "image_token_id", "image_token_index", "media_token_id", "audio_token_id", "audio_token_index"
        )
        if image_tokens and placeholder is not None:
            ids[:, 2 : 2 + image_tokens] = placeholder
        if image_tokens and "mm_token_type_ids" in names:
            inputs["mm_token_type_ids"] = (ids == placeholder).int()
        inputs["input_ids"] = ids
        if "attention_mask" in names and not image_tokens:
            keep = torch.ones_like(ids)
            keep[1, -2:] = 0
            inputs["attention_mask"] = keep
    if "decoder_input_ids" in names:
        inputs["decoder_input_ids"] = _ids(config, generator, ROWS, DECODER_LENGTH)
    if "bbox" in names:
        corner = torch.randint(0, 8, (ROWS, LENGTH + image_tokens, 2), generator=generator)
        inputs["bbox"] = torch.cat([corner, corner + 8], dim=-1)
    if "entity_ids" in names and "input_ids" in names and hasattr(config, "entity_vocab_size"):
        inputs["entity_ids"] = _ids(config, generator, ROWS, 2)
        inputs["entity_position_ids"] = torch.arange(2).expand(ROWS, 2, 2).clone()
        inputs["entity_attention_mask"] = torch.ones(ROWS, 2, dtype=torch.long)
    if "visual_feats" in names:
        size = field(config, "visual_feat_dim", default=32)
        inputs["visual_feats"] = torch.randn(ROWS, 3, size, generator=generator)
        inputs["visual_pos"] = torch.rand(ROWS, 3, field(config, "visual_pos_dim", default=4), generator=generator)
    return inputs


def _media(config: Any, names: dict[str, Any], generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """Images, sounds, series and hidden states, in every form some model takes them."""

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    if "pixel_values" in names:
        for shape in _image_shapes(config):
            yield {"pixel_values": noise(*shape)}
        yield from _patched_images(config, names, generator)
    if "pixel_values_videos" in names and "pixel_values" not in names:
        size = _image_size(config)
        yield {"pixel_values_videos": noise(ROWS, field(config, "frames_per_clip", default=4), 3, size, size)}
    mels = field(config, "num_mel_bins", "input_feat_per_channel", "feature_size", "mel_dim", "n_mels", default=16)
    positions = field(config, "max_source_positions", default=32)
    if "input_features" in names:
        length = 2 * positions if isinstance(positions, int) else 64
        for shape in ((ROWS, mels, length), (ROWS, 64, mels), (ROWS, length, mels), (ROWS, 1, 64, mels)):
            mask = {"input_features_mask": torch.ones(ROWS, max(shape[1:])).long()}
            yield {"input_features": noise(*shape), **(mask if "input_features_mask" in names else {})}
        size = field(config, "feature_projection_input_dim", "input_dim", default=mels)
        yield {"input_features": noise(ROWS, 24, size)}
    if "input_values" in names:
        frames = field(config, "max_length", default=64)
        channels = field(config, "audio_channels", default=1)
        for shape in ((ROWS, 1600), (ROWS, frames, mels), (ROWS, channels, 1920)):
            yield {"input_values": noise(*shape)}
    if "past_values" in names:
        yield from _series(config, names, noise)
    if "inputs" in names:
        yield {"inputs": noise(ROWS, 12, field(config, "d_model", default=32))}
    for name in ("hidden_states", "inputs_embeds"):
        if name in names and "input_ids" not in names and "pixel_values" not in names:
            yield from _hidden(config, names, name, noise)


def _image_size(config: Any) -> int:
    size = field(config, "image_size", "img_size", "input_image_size", default=64)
    return size if isinstance(size, int) else max(size) if isinstance(size, (list, tuple)) else 64


def _image_shapes(config: Any) -> Iterator[tuple[int, ...]]:
    size = field(config, "image_size", "img_size", "input_image_size", default=64)
    pair = tuple(size) if isinstance(size, (list, tuple)) and len(size) == 2 else (_image_size(config),) * 2
    frames = field(config, "num_frames", default=4)
    channels = field(config, "num_channels", "in_channels", "in_chans", default=3)
    channels = channels if isinstance(channels, int) else 3
    yield (ROWS, channels, *pair)
    if field(config, "num_frames", "tubelet_size") is not None:
        yield (ROWS, frames, channels, *pair)
    yield (ROWS, 1, channels, *pair)
    for other in (64, 128, 224):
        if other != pair[0]:
            yield (ROWS, channels, other, other)


def _patched_images(config: Any, names: dict[str, Any], generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """Images cut into flat patches, with the grid they came from (Qwen2-VL and its many relatives)."""
    patch = field(config, "patch_size", default=14)
    if not isinstance(patch, int):
        return
    frames = field(config, "temporal_patch_size", default=1)
    grid = torch.tensor([[1, 4, 4]] * ROWS)
    flat = torch.randn(ROWS * 16, 3 * frames * patch * patch, generator=generator)
    for name in ("image_grid_thw", "grid_thw"):
        if name in names:
            yield {"pixel_values": flat, name: grid}
    if "spatial_shapes" in names or "pixel_attention_mask" in names:
        shapes = {"spatial_shapes": torch.tensor([[2, 2]] * ROWS), "pixel_attention_mask": torch.ones(ROWS, 4).long()}
        rows = {"pixel_values": torch.randn(ROWS, 4, 3 * patch * patch, generator=generator)}
        yield {**rows, **{key: value for key, value in shapes.items() if key in names}}


def _series(config: Any, names: dict[str, Any], noise: Any) -> Iterator[dict[str, Any]]:
    """Time series, for forecasting models."""
    length = field(config, "context_length", default=16)
    channels = field(config, "num_input_channels", default=1)
    lags = field(config, "lags_sequence", default=[0])
    yield {"past_values": noise(ROWS, length, channels)}
    if "past_time_features" in names and isinstance(lags, list):
        past, future = length + max(lags), field(config, "prediction_length", default=4)
        features = max(1, field(config, "num_time_features", default=1))
        yield {
            "past_values": noise(ROWS, past),
            "past_time_features": noise(ROWS, past, features),
            "past_observed_mask": torch.ones(ROWS, past),
            "future_values": noise(ROWS, future),
            "future_time_features": noise(ROWS, future, features),
        }
    yield {"past_values": noise(ROWS, 64)}


def _hidden(config: Any, names: dict[str, Any], name: str, noise: Any) -> Iterator[dict[str, Any]]:
    """Hidden states, for the inner models that start from them."""
    width = field(config, "hidden_size", "d_model", "embed_dim", default=32)
    states = {name: noise(ROWS, LENGTH, width)}
    if "grid_thw" in names:
        patch = field(config, "patch_size", default=14)
        flat = 3 * field(config, "temporal_patch_size", default=1) * patch * patch
        yield {name: noise(ROWS * 16, flat), "grid_thw": torch.tensor([[1, 4, 4]] * ROWS)}
    if "encoder_hidden_states" in names:
        yield {**states, "encoder_hidden_states": noise(ROWS, LENGTH, width)}
    yield states
