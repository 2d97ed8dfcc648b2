"""Vision and vision-text models of the zoo."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import nn

from tests.zoo.inputs import pixels, text
from tests.zoo.registry import AF, PAD, VOCAB, WIDTH, Expected, Unavailable, register

Built = tuple[nn.Module, dict[str, Any], Expected]
COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 4,
}


def _path(model: nn.Module, *paths: str) -> str:
    """The first of the paths that the model has: versions of transformers name the list of layers differently."""
    for path in paths:
        try:
            model.get_submodule(path)
        except AttributeError:
            continue
        return path
    raise AttributeError(f"{type(model).__name__} has none of {', '.join(paths)}")


@register("vit")
def vit(generator: torch.Generator) -> Built:
    """Dosovitskiy et al. 2021: pre-norm over patches."""
    model = hf.ViTModel(hf.ViTConfig(**COMMON))
    stack = _path(model, "layers", "encoder.layer")
    return model, {"pixel_values": pixels(generator)}, Expected({stack: (2, AF)}, "pre")


@register("beit")
def beit(generator: torch.Generator) -> Built:
    """Bao et al. 2022: pre-norm, every branch scaled by a learned vector, relative position bias."""
    model = hf.BeitModel(hf.BeitConfig(**COMMON, use_relative_position_bias=True, layer_scale_init_value=0.5))
    stack = _path(model, "layers", "encoder.layer")
    return model, {"pixel_values": pixels(generator)}, Expected({stack: (2, AF)}, "pre")


@register("swin")
def swin(generator: torch.Generator) -> Built:
    """Liu et al. 2021: two stages of two blocks, attention in shifted windows, the width doubled between them."""
    config = hf.SwinConfig(image_size=16, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)
    stages = {f"encoder.layers.{stage}.blocks": (2, AF) for stage in range(2)}
    return hf.SwinModel(config), {"pixel_values": pixels(generator)}, Expected(stages, "pre")


@register("clip")
def clip(generator: torch.Generator) -> Built:
    """Radford et al. 2021: two pre-norm towers. The text has two rows, as the images do."""
    tower = {key: value for key, value in COMMON.items() if key not in ("image_size", "patch_size")}
    tokens = {"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
    text_config = hf.CLIPTextConfig(vocab_size=VOCAB, **tower, **tokens, max_position_embeddings=20).to_dict()
    vision_config = hf.CLIPVisionConfig(**COMMON).to_dict()
    model = hf.CLIPModel(hf.CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=WIDTH))
    towers = {f"{tower}.encoder.layers": (2, AF) for tower in ("text_model", "vision_model")}
    return model, {**text(generator, rows=2), "pixel_values": pixels(generator)}, Expected(towers, "pre")


@register("timm_vit")
def timm_vit(generator: torch.Generator) -> Built:
    """timm's vision transformer: the same layers, another library."""
    try:
        from timm.models.vision_transformer import VisionTransformer
    except ImportError as error:
        raise Unavailable(f"timm cannot be imported: {error}") from error
    model = VisionTransformer(img_size=16, patch_size=4, embed_dim=WIDTH, depth=2, num_heads=4, num_classes=5)
    return model, {"x": pixels(generator)}, Expected({"blocks": (2, AF)}, "pre")
