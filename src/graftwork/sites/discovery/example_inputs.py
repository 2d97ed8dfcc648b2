"""Small inputs to run a model on: the caller's, or made from the model's configuration."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from graftwork.errors import SiteError

BATCH, LENGTH = 2, 12
# Sides of images to try where nothing says the size: a network that ends in a linear layer may take one size alone.
_IMAGE_SIZES = (32, 28, 64, 96, 224)
# Arguments that are modalities: a model may take any of them, alone or together.
_MODALITIES = ("input_ids", "pixel_values", "pixel_values_videos", "input_features", "input_values")
_AUDIO = ("audio_config", "audio_encoder", "encoder_config", "encoder")  # names of the part of a configuration


@dataclasses.dataclass(frozen=True)
class Run:
    """One forward pass to try: of the model, or of the sub-model at a dotted path."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    entry: str = ""

    def __str__(self) -> str:
        arguments = [_describe(value) for value in self.args]
        arguments += [f"{name}={_describe(value)}" for name, value in self.kwargs.items()]
        return f"{self.entry or 'the model'}({', '.join(arguments)})"


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{list(value.shape)} {value.dtype}".replace("torch.", "")
    return repr(value)


def runs_to_try(model: torch.nn.Module, example_inputs: Mapping[str, Any] | tuple[Any, ...] | None) -> list[Run]:
    """The forward passes to try, best first: any one that succeeds will do.

    Raises:
        SiteError: If no inputs are given and none can be made.
    """
    if isinstance(example_inputs, torch.Tensor):
        return [Run(args=(example_inputs,))]
    if isinstance(example_inputs, Mapping):
        return [Run(kwargs=dict(example_inputs))]
    if example_inputs is not None:
        return [Run(args=tuple(example_inputs))]
    features = _sentence_features(model)
    if features is not None:
        return [Run(args=(features,))]
    made = inputs_for(model)
    if not made:
        if images := _images(model):
            return images
        raise SiteError(
            f"no inputs can be made for a {type(model).__name__}: it has no configuration that shows its inputs; "
            "pass example_inputs=, a mapping of keyword arguments or a tuple of positional ones, as small as possible"
        )
    runs = [Run(kwargs=made)]
    modalities = [name for name in made if name in _MODALITIES]
    if "input_ids" in modalities and len(modalities) > 1:
        # a model that puts image features in the place of image tokens runs on the text alone
        runs.append(Run(kwargs={name: value for name, value in made.items() if name not in modalities[1:]}))
    base = getattr(model, "base_model", model)
    path = next((name for name, module in model.named_modules() if module is base and name), None)
    if path is not None:  # some heads want their inputs in another form: several choices a row, for one
        runs.append(Run(kwargs=inputs_for(base), entry=path))
    return runs


def _images(model: torch.nn.Module) -> list[Run]:
    """Images of the usual sizes for a module without a configuration, with the channels that its convolutions take.

    These are the channels of the first convolution, then the fewest: modules need not be registered as they run.
    """
    channels = [m.in_channels for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    if not channels or getattr(model, "config", None) is not None:
        return []
    with torch.device("cpu"):
        shapes = [(BATCH, n, size, size) for n in dict.fromkeys((channels[0], min(channels))) for size in _IMAGE_SIZES]
        return [Run(args=(_cast(torch.zeros(shape), model),)) for shape in shapes]


def runs_of_parts(model: torch.nn.Module, reached: frozenset[str]) -> Iterator[Run]:
    """One run for each sub-model with a configuration of its own that a run of the whole has not reached."""
    taken: list[str] = []
    configured = {path: module.config for path, module in model.named_modules() if hasattr(module, "config")}
    for path in configured:
        module = model.get_submodule(path)
        if not path or path in reached or any(path.startswith(f"{other}.") for other in taken):
            continue
        is_model = hasattr(module, "main_input_name") or _is_bare_tower(path, module, configured)
        if is_model and not any(name.startswith(f"{path}.") for name in reached):
            taken.append(path)
            yield Run(kwargs=inputs_for(module), entry=path)


def _is_bare_tower(path: str, module: torch.nn.Module, configured: Mapping[str, Any]) -> bool:
    """Whether a plain module is a model all the same, as CLIP's towers are in transformers 4.

    It takes a modality, as embeddings do; but embeddings share the configuration of the module they are in.
    """
    around = max((other for other in configured if other == "" or path.startswith(f"{other}.")), key=len, default=None)
    is_own = hasattr(module.config, "to_dict") and (around is None or configured[around] is not module.config)
    taken = inspect.signature(module.forward).parameters
    return is_own and any(name in taken for name in _MODALITIES)


def inputs_for(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Keyword arguments for a model with a configuration, by the names of its forward's arguments; else an empty dict."""
    with torch.device("cpu"):  # with numbers, even inside the `with torch.device("meta")` that a model is built in
        return _inputs_for(model)


def _inputs_for(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    config = getattr(model, "config", None)
    if config is None:
        return {}
    unwrap = getattr(model, "get_base_model", None)  # peft's wrappers take anything and pass it on
    names = list(inspect.signature((unwrap() if unwrap is not None else model).forward).parameters)
    if "grid_thw" in names:
        return {name: _cast(tensor, model) for name, tensor in _patches(names[0], config).items()}
    made: dict[str, torch.Tensor] = {}
    for name in (*_MODALITIES, "decoder_input_ids", "bbox"):
        if name not in names or (name == "decoder_input_ids" and not getattr(config, "is_encoder_decoder", False)):
            continue
        tensor = _make(name, config)
        if tensor is not None:
            made[name] = tensor
            if name == "input_features" and "input_features_mask" in names:
                made["input_features_mask"] = torch.ones(BATCH, tensor.shape[-1 if _mels_first(config) else 1]).long()
    for name, dummy in (getattr(model, "dummy_inputs", None) or {}).items() if not made else ():
        if name in names and isinstance(dummy, torch.Tensor):
            made[name] = dummy
    return {name: _cast(tensor, model) for name, tensor in made.items()}


def _cast(tensor: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    dtype = next((p.dtype for p in model.parameters() if p.dtype.is_floating_point), torch.float32)
    return tensor.to(dtype) if tensor.dtype.is_floating_point and dtype.itemsize > 1 else tensor


def _make(name: str, config: Any) -> torch.Tensor | None:
    if name in ("input_ids", "decoder_input_ids"):
        return _tokens(_part(config, "text_config", "text_encoder", "decoder"))
    if name == "pixel_values":
        return _image(_part(config, "vision_config", "image_config", "image_encoder", "encoder"))
    if name == "pixel_values_videos":
        image = _image(_part(config, "vision_config"))
        frames = getattr(config, "frames_per_clip", None) or getattr(config, "num_frames", None)
        return None if frames is None else image.unsqueeze(1).repeat(1, frames, 1, 1, 1)
    if name == "input_features":
        return _spectrogram(config)
    if name == "input_values":
        return _waveform(_part(config, *_AUDIO))
    if name == "bbox":
        return torch.zeros(BATCH, LENGTH, 4, dtype=torch.long)
    return None


def _part(config: Any, *names: str) -> Any:
    return next((part for name in names if hasattr(part := getattr(config, name, None), "to_dict")), config)


def _tokens(config: Any) -> torch.Tensor | None:
    vocabulary = getattr(config, "vocab_size", None)
    if not isinstance(vocabulary, int):
        return None
    special = [getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")]
    usable = [i for i in range(min(vocabulary, LENGTH + 8)) if i not in special] or [0]
    ids = torch.tensor([usable[i % len(usable)] for i in range(LENGTH)]).repeat(BATCH, 1)
    end = special[2][0] if isinstance(special[2], list) else special[2]
    if isinstance(end, int) and 0 <= end < vocabulary:
        ids[:, -1] = end  # some heads read the position of the one end token
    return ids


def _image(config: Any) -> torch.Tensor:
    size = getattr(config, "image_size", None)
    if isinstance(size, list | tuple) and len(size) >= 2:
        height, width = size[-2:]
    elif isinstance(size, int):
        height = width = size
    else:
        patch = getattr(config, "patch_size", None)
        height = width = patch * 4 if isinstance(patch, int) else 64
    channels = getattr(config, "num_channels", None) or getattr(config, "in_channels", None) or 3
    shape = [BATCH, channels, height, width]
    frames = getattr(config, "num_frames", None)
    if isinstance(frames, int):
        shape.insert(1, frames)
    return torch.rand(shape)


def _spectrogram(config: Any) -> torch.Tensor | None:
    audio = _part(config, *_AUDIO)
    if _mels_first(config):
        return torch.rand(BATCH, audio.num_mel_bins, 2 * audio.max_source_positions)
    names = ("input_feat_per_channel", "feature_projection_input_dim", "num_mel_bins", "input_dim")
    sizes = [size for name in names if isinstance(size := getattr(audio, name, None), int)]
    return torch.rand(BATCH, 64, sizes[0]) if sizes else None


def _patches(name: str, config: Any) -> dict[str, torch.Tensor]:
    """One image as rows of flattened patches, with its grid: the inputs of the vision towers of Qwen-VL and similar models."""
    channels = next((n for k in ("in_channels", "in_chans", "num_channels") if (n := getattr(config, k, None))), 3)
    side = 2 * getattr(config, "spatial_merge_size", 2)
    features = channels * getattr(config, "temporal_patch_size", 1) * getattr(config, "patch_size", 14) ** 2
    return {name: torch.rand(side * side, features), "grid_thw": torch.tensor([[1, side, side]])}


def _mels_first(config: Any) -> bool:
    """Whether a spectrogram is of Whisper's form: mel bins first, and of one fixed length."""
    config = _part(config, *_AUDIO)
    sizes = (getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None))
    return all(isinstance(size, int) for size in sizes) and getattr(config, "input_feat_per_channel", None) is None


def _waveform(config: Any) -> torch.Tensor | None:
    if isinstance(getattr(config, "max_length", None), int) and isinstance(getattr(config, "num_mel_bins", None), int):
        return torch.rand(BATCH, config.max_length, config.num_mel_bins)
    strides = getattr(config, "conv_stride", None)
    if not isinstance(strides, list | tuple):
        return torch.rand(BATCH, 16000)
    return torch.rand(BATCH, math.prod(strides) * 32)


def _sentence_features(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """The input of a SentenceTransformer: one mapping of features, for the transformer inside it."""
    if not (isinstance(model, torch.nn.Sequential) and hasattr(model, "encode") and hasattr(model, "tokenize")):
        return None
    for module in model.modules():
        is_transformer = module is not model and hasattr(module, "main_input_name")
        if is_transformer and (ids := inputs_for(module).get("input_ids")) is not None:
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return None
