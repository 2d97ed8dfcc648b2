"""A configuration of any model type of transformers, made small by rules over the names of its fields.

No table of architectures: `shrink` takes the default configuration apart, replaces what is a width, a number of heads,
of layers, of experts, ... by a small number, and puts it together again, nested configurations included.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

MAX_KINDS = 4  # a hybrid gets as many layers as it has kinds of layers, up to this


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The small numbers. Some architectures need other proportions: `VARIANTS` are tried in order."""

    width: int = 32
    heads: int = 4
    head_dim: int = 8
    inner: int = 48
    layers: int = 2
    decoder_layers: int = 3
    vocab: int = 99
    positions: int = 64
    image: int = 16
    patch: int = 4
    stage_image: int = 128
    experts: int = 4
    rank: int = 16
    mels: int = 16
    keep_heads_equal: bool = False
    keep_unknown: bool = True


VARIANTS: tuple[Sizes, ...] = (
    Sizes(),
    Sizes(heads=2, head_dim=16, keep_heads_equal=True),
    Sizes(width=64, heads=4, head_dim=16, inner=64, image=32, patch=8, mels=32, keep_heads_equal=True),
    Sizes(width=256, heads=2, head_dim=128, inner=64),  # sections of rotary dimensions that are written in the code
    Sizes(width=64, heads=2, head_dim=32, inner=128, image=64, patch=16, mels=80, positions=256),
)

DROPPED = {
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "label_names",
    "model_type",
    "num_labels",
    "out_features",
    "out_indices",
    "per_layer_config",
    "stage_names",
    "torch_dtype",
    "transformers_version",
    "true_hidden_size",
}
LAYERS = re.compile(
    r"^(num_hidden_layers|n_layers?|num_layers|layers|depth|num_(hidden_)?blocks|nlayers|resampler_depth|[lrx]_layers"
    r"|(num_)?(encoder|text|vision|audio|temporal|spatial|auxiliary|latent|cross_attention|prediction|memory_attention)"
    r"_(num_)?(hidden_)?layers|(pred|mit)_num_hidden_layers|encoder_depth|num_mel_attn_blocks|num_layers_per_stack)$"
)
DECODER_LAYERS = re.compile(r"^(num_)?decoder_(num_)?(hidden_)?layers$|^num_decoder_hidden_layers$")
LAYER_LISTS = ("layer_types", "layers_block_type", "block_types")
STAGES = ("depths", "blocks_per_stage", "num_blocks_per_stage")

# Fields that the default configuration leaves open although the model needs them.
UNSET: dict[str, Callable[[Sizes], Any]] = {
    "head_dim": lambda sizes: sizes.head_dim,
    "num_key_value_heads": lambda sizes: sizes.heads,
    "prediction_length": lambda sizes: 4,
    "eos_token_id": lambda sizes: 3,
    "vocab_size": lambda sizes: sizes.vocab,
    "pad_token_id": lambda sizes: 1,
    "num_experts_per_tok": lambda sizes: 2,
    "attn_layer_indices": lambda sizes: [1],
    "default_language": lambda sizes: "en_XX",
}

Rule = tuple[re.Pattern[str], Callable[[int, Sizes, Mapping[str, Any]], int]]


def _kv_heads(value: int, sizes: Sizes, fields: Mapping[str, Any]) -> int:
    heads = fields.get("num_attention_heads") or fields.get("num_heads") or fields.get("n_head")
    if value == 1:
        return 1
    return sizes.heads if value == heads or sizes.keep_heads_equal else max(1, sizes.heads // 2)


def _mamba_heads(value: int, sizes: Sizes, fields: Mapping[str, Any]) -> int:
    return max(1, sizes.width * int(fields.get("mamba_expand") or fields.get("expand") or 1) // sizes.head_dim)


def _image(value: int, sizes: Sizes, fields: Mapping[str, Any]) -> int:
    return sizes.stage_image if any(name in fields for name in STAGES) else sizes.image


def _patch(value: int, sizes: Sizes, fields: Mapping[str, Any]) -> int:
    return value if any(name in fields for name in STAGES) else min(value, sizes.patch)


def _window(value: int, sizes: Sizes, fields: Mapping[str, Any]) -> int:
    return min(value, 4 if any(name in fields for name in STAGES) else 8)


def _at_most(limit: int) -> Callable[[int, Sizes, Mapping[str, Any]], int]:
    return lambda value, sizes, fields: min(value, limit)


def _rules(*rules: tuple[str, Callable[[int, Sizes, Mapping[str, Any]], int]]) -> tuple[Rule, ...]:
    return tuple((re.compile(f"^({pattern})$"), number) for pattern, number in rules)


RULES: tuple[Rule, ...] = _rules(
    (r"mamba_n_heads|mamba_num_heads|n_mamba_heads", _mamba_heads),
    (r".*(key_value|kv)_heads", _kv_heads),
    (r".*_num_(attention_)?heads|num_(attention_)?heads|n_heads?|.*attention_heads|num_.*_heads|.*n_heads|heads|nhead",
     lambda v, s, f: min(v, s.heads) if v < 3 else s.heads),
    (r"qk_head_dim", lambda v, s, f: 2 * s.head_dim),
    (r".*head_dim|mamba_d_head|d_kv|dim_head|.*head_size|kv_channels|d_head|attention_key_size|rotary_dim|.*head_width",
     lambda v, s, f: s.head_dim),
    (r"query_pre_attn_scalar", lambda v, s, f: s.head_dim),
    (r".*lora_rank|.*_lora_dim|lora_r", lambda v, s, f: s.rank),
    (r"moe_.*intermediate_size|.*expert.*intermediate_size|moe_intermediate_size|expert_ffn_hidden_size",
     lambda v, s, f: s.inner // 2 if v else 0),
    (r".*intermediate_size|.*ffn_dim|d_ff|n_inner|.*ffn_hidden_size|.*mlp_dim|.*_ffn_size|.*feedforward_dim|ffn_hidden.*"
     r"|dim_feedforward|.*intermediate_dim|linear_units|hidden_ffn|d_inner",
     lambda v, s, f: s.inner if v else v),
    (r"hidden_size_per_layer_input", lambda v, s, f: 8),
    (r"hidden_size|d_model|n_embd|dim|embed_dim|emb_dim|.*embedding_size|.*hidden_size|.*hidden_dim|.*embedding_dim"
     r"|projection_dim|.*_projection_dim|embedding_dim|model_dim|.*_embed_dim|dim_model|word_embed_proj_dim|output_dim"
     r"|width|proj_dim|projection_size|dim_bbox_projection|output_channels|hidden_channels|pooler_output_size|attention_hidden_size|.*_proj_size|out_dim|vision_output_dim"
     r"|num_filters_|d_latents|latent_size|model_dimension|projector_.*_dim|.*_width|cross_attention_dim",
     lambda v, s, f: s.width if v > 4 else v),
    (r"vocab_size|.*_vocab_size|vocab_size_.*", lambda v, s, f: min(v, s.vocab)),
    (r"max_position_embeddings|n_positions|max_.*position.*|n_ctx|.*context_length|max_seq_len|max_sequence_length"
     r"|max_target_positions|max_source_positions|seq_length|max_length|num_position_embeddings|original_max_.*",
     lambda v, s, f: min(v, s.positions)),
    (r".*image_size|img_size|input_image_size|crop_size", _image),
    (r"input_size", lambda v, s, f: s.image if v >= 64 else v),
    (r".*patch_size", _patch),
    (r"num_experts|n_routed_experts|.*num_local_experts|moe_num_experts|num_.*experts|n_experts",
     lambda v, s, f: min(v, s.experts)),
    (r"index_topk", lambda v, s, f: 16),
    (r"upsample_groups", lambda v, s, f: s.width),
    (r"num_experts_per_tok(en)?|.*top_?k|num_selected_experts|moe_k|.*experts_per_tok", _at_most(2)),
    (r"n_group|topk_group|n_groups|num_expert_group|mamba_n_groups|num_groups", _at_most(1)),
    (r"first_k_dense_replace|num_dense_layers", _at_most(1)),
    (r"num_queries|num_query_tokens|num_latents|num_image_tokens|resampler_n_latents", _at_most(5)),
    (r"num_mel_bins|n_mels|mel_bins|mel_dim", lambda v, s, f: s.mels),
    (r"sliding_window|.*window_size|local_attention|attention_window|attention_chunk_size", _window),
    (r"(attn|expert)_layer_period", _at_most(2)),
    (r"(attn|expert)_layer_offset", _at_most(1)),
    (r"block_size|chunk_size|mamba_chunk_size|.*_chunk_length", _at_most(8)),
    (r".*state_size|.*d_state|ssm_state_size", _at_most(8)),
    (r"time_step_rank|dt_rank|mamba_dt_rank", _at_most(4)),
    (r"num_buckets|position_buckets", _at_most(8)),
    (r"intra_bottleneck_size", lambda v, s, f: s.width // 2),
    (r"num_frames|.*max_frames|frames_per_clip", _at_most(4)),
)  # fmt: skip


def shrink(model_type: str, sizes: Sizes = VARIANTS[0]) -> Any:
    """A small configuration of a model type.

    Raises:
        Exception: Whatever the configuration's own class raises where the rules do not fit it.
    """
    cls = CONFIG_MAPPING[model_type]
    if "num_heads" in (fields := cls().to_dict()) and "expand" in fields and "head_dim" in fields:  # Mamba 2
        return cls(**{**_shrink_fields(fields, sizes, {}), "num_heads": _mamba_heads(0, sizes, fields)})
    ids: dict[int, int] = {}
    return cls(**_shrink_fields(cls().to_dict(), sizes, ids))


def _shrink_fields(fields: Mapping[str, Any], sizes: Sizes, ids: dict[int, int]) -> dict[str, Any]:
    number = _number_of_layers(fields, sizes)
    full = {value for name, value in fields.items() if LAYERS.match(name) and isinstance(value, int)}
    if any(name in fields for name in STAGES):
        full = set()  # a list has an entry a stage
    small: dict[str, Any] = {}
    for name, value in fields.items():
        if name in DROPPED or (name.startswith("_") and name != "_attn_implementation"):
            continue
        if isinstance(value, Mapping):
            nested = "model_type" in value
            shrunk = _shrink_fields(value, sizes, ids) if nested else _shrink_mapping(value, sizes, ids)
            small[name] = {"model_type": value["model_type"], **shrunk} if nested else shrunk
        elif isinstance(value, (list, tuple)) and len(value) in full and len(value) > number and name not in STAGES:
            small[name] = _sample(list(value), number)
        elif isinstance(value, (list, tuple)):
            small[name] = _shrink_list(name, list(value), sizes, fields, number)
        elif isinstance(value, int) and not isinstance(value, bool):
            small[name] = _shrink_number(name, value, sizes, fields, number, ids)
        elif name == "use_cache":
            small[name] = False
        elif value is None and name in UNSET:
            small[name] = UNSET[name](sizes)
        else:
            small[name] = value
    return small


def _shrink_mapping(value: Mapping[str, Any], sizes: Sizes, ids: dict[int, int]) -> dict[str, Any]:
    """Rotary parameters and the like: sections of a head sum up to half of it; nested mappings are shrunk."""
    small: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            small[key] = _shrink_mapping(item, sizes, ids)
        elif key.endswith("mrope_section"):
            small[key] = _sections(len(item), sizes.head_dim // 2)
        else:
            small[key] = item
    return small


def _sections(parts: int, total: int) -> list[int]:
    base = [total // parts] * parts
    base[0] += total - sum(base)
    return base


def _number_of_layers(fields: Mapping[str, Any], sizes: Sizes) -> int:
    """Two, or one of each kind where ``layer_types`` lists more kinds."""
    for name in (*LAYER_LISTS, "attention_layers"):
        kinds = fields.get(name)
        if isinstance(kinds, (list, tuple)) and kinds and all(isinstance(kind, str) for kind in kinds):
            if name == "block_types":  # a pattern that repeats
                return len(kinds)
            return min(max(sizes.layers, len(set(kinds))), MAX_KINDS)
    return sizes.layers


def _sample(values: list[Any], number: int) -> list[Any]:
    """So many of the values, in order, each kind at least once where there is room."""
    try:
        first = sorted(values.index(kind) for kind in set(values))[:number]
    except TypeError:
        return values[:number]
    rest = (k for k in range(len(values)) if k not in first)
    while len(first) < number:
        first.append(next(rest))
    return [values[k] for k in sorted(first)]


def _shrink_list(name: str, values: list[Any], sizes: Sizes, fields: Mapping[str, Any], number: int) -> list[Any]:
    numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if not numbers:
        return values
    if name == "axial_pos_embds_dim":
        return [sizes.width // 2] * 2
    if name == "axial_pos_shape":
        return [8, 8]
    if name in STAGES:
        return [min(value, 2) for value in values]
    if re.match(
        r"hidden_sizes|embed_dims?|embed_dim_per_stage|neck_hidden_sizes|encoder_hidden_sizes|num_channels", name
    ):
        return [sizes.width * (k + 1) if "embed" not in name or len(values) < 2 else sizes.width * 2**k
                for k in range(len(values))]  # fmt: skip
    if re.match(r"num_(attention_)?heads|num_attention_heads.*|num_head", name):
        return [min(value, 2) for value in values]
    if re.match(r"(.*_)?image_size|img_size", name):
        return [_image(value, sizes, fields) for value in values]
    if re.match(r".*(indices|indexes|layers?|layer_ids|block_ids|_idx)$", name):
        return [value for value in values if -number <= value < number] or [number - 1] * bool(values)
    if name == "conv_dim":
        return [sizes.width for _ in values]
    return values


def _shrink_number(
    name: str, value: int, sizes: Sizes, fields: Mapping[str, Any], number: int, ids: dict[int, int]
) -> int:
    if DECODER_LAYERS.match(name):
        return min(value, sizes.decoder_layers)
    if LAYERS.match(name):
        return min(value, number)
    if re.search(r"(token_id|token_index|_id|_token)$", name) and value >= sizes.vocab - 20:
        return ids.setdefault(value, sizes.vocab - 1 - len(ids))  # the same id everywhere, within the vocabulary
    for pattern, rule in RULES:
        if pattern.match(name):
            return rule(value, sizes, fields)
    return value
