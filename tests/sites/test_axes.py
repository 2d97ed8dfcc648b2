"""Which dimension holds the features and which the rows, where sizes alone would mislead."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn

from graftwork.errors import SiteError
from graftwork.sites import Site, discover
from tests.support.toy_models import IDS, WIDTH, Attention, Block, Model, feed_forward


def facts(site: Site) -> tuple[int, int, int | None]:
    return site.width, site.extra.get("channels", -1), site.rows


def all_facts(model: nn.Module, inputs: object = None) -> set[tuple[int, int, int | None]]:
    return {facts(site) for site in discover(model, inputs)}  # type: ignore[arg-type]  # whatever a model takes


@pytest.mark.parametrize("shape", [(2, WIDTH), (WIDTH, WIDTH), (WIDTH, 5), (1, 7), (1, 1), (3, 2)])
def test_a_batch_or_a_length_as_large_as_the_width_is_none(shape):
    assert all_facts(Model(), (torch.zeros(shape, dtype=torch.long),)) == {(WIDTH, -1, 0)}


class Channels(nn.Module):
    """A block of ConvNeXt's form: channels last inside, channels first where it is added."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.drop = feed_forward(), nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.mlp(x.movedim(1, -1)).movedim(-1, 1))


class Images(nn.Module):
    def __init__(self, convolution: type[nn.Module] = nn.Conv2d, block: type[nn.Module] = Channels) -> None:
        super().__init__()
        self.stem = convolution(3, WIDTH, 1)
        self.blocks = nn.ModuleList([block(), block()])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("side", [5, WIDTH, 3, 2])
def test_channels_that_were_last_for_a_while_are_first(side):
    assert all_facts(Images(), (torch.zeros(2, 3, side, side),)) == {(WIDTH, 1, 0)}


class LastAtTheTap(Channels):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(x.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize("side", [5, WIDTH])
def test_a_branch_laid_out_otherwise_than_the_stream_is_told_whatever_the_sizes(side):
    for site in discover(Images(block=LastAtTheTap), (torch.zeros(2, 3, side, side),)).of_kind("feed_forward"):
        assert site.extra == {"layout": "differs"}
        assert facts(site) == (WIDTH, -1, 0)


def test_channels_of_videos():
    """A number of frames that stays is no width: the convolution at the entrance tells."""
    for frames in (4, WIDTH):
        assert all_facts(Images(nn.Conv3d), (torch.zeros(2, 3, frames, 5, 5),)) == {(WIDTH, 1, 0)}


def test_convnext_s_width_is_that_of_its_configuration():
    config = hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=64)
    sites = discover(hf.ConvNextModel(config))
    assert [facts(site) for site in sites.of_kind("mixer")] == [(8, 1, 0), (16, 1, 0)]


class OneSize(nn.Module):
    """Takes images of one size alone, whose side is the width: only the norms tell."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 2, stride=2)
        self.position = nn.Parameter(torch.zeros(1, WIDTH, WIDTH))
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return x


def test_norms_tell_where_a_model_takes_one_size():
    sites = discover(OneSize(), (torch.zeros(2, 3, 4, WIDTH),))
    assert {facts(site) for site in sites.of_kind("attention", "feed_forward", "layer")} == {(WIDTH, -1, 0)}
    assert {facts(site) for site in sites.of_kind("embedding")} == {(WIDTH, 1, 0)}  # the convolution that makes patches


class TokenMixer(nn.Module):
    """MLP-Mixer's: the map that makes the branch works on the positions, and the norm on the features."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.tokens = nn.LayerNorm(WIDTH), nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)


def test_a_map_over_positions_is_none_over_features():
    model = Images(nn.Conv1d, TokenMixer)
    model.stem = nn.Linear(3, WIDTH)
    sites = discover(model, (torch.zeros(2, 6, 3),))
    assert {facts(site) for site in sites.of_kind("layer", "embedding")} == {(WIDTH, -1, 0)}
    assert {facts(site) for site in sites.of_kind("feed_forward", "mixer")} == {
        (WIDTH, 1, 0)
    }  # where a hook reaches it


class Unclear(nn.Module):
    """A stream of tables, 4 by 6, of which nothing says which way is the width."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.zeros(4, 6, 4, 6))
        self.inner = Mapped(self.map)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class Mapped(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bij,ijkl->bkl", x, self.weight).relu()


def test_what_is_unclear_is_refused_by_its_block_and_shapes():
    model = Model(Block)
    model.blocks = nn.ModuleList([Unclear()])
    model.embed, model.norm = nn.Identity(), nn.Identity()
    with pytest.raises(
        SiteError, match=r"blocks\.0.*unclear which dimension.*\[2, 4, 6\], \[6, 4, 6\].*example_inputs="
    ):
        discover(model, (torch.zeros(2, 4, 6),))


# -- rows


@pytest.mark.parametrize("length", [7, 8, 2])
def test_xlnet_has_positions_first(length):
    config = hf.XLNetConfig(vocab_size=20, d_model=8, n_layer=2, n_head=2, d_inner=16)
    sites = discover(hf.XLNetModel(config), {"input_ids": torch.zeros(2, length, dtype=torch.long)})
    assert {site.rows for site in sites} == {1}


def test_fsmt_has_positions_first_in_its_layers_alone():
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = hf.FSMTConfig(
        langs=["en", "de"],
        src_vocab_size=20,
        tgt_vocab_size=20,
        d_model=8,
        max_position_embeddings=20,
        **sizes,
        **heads,
    )
    sites = discover(hf.FSMTModel(config))
    assert {site.rows for site in sites.of_kind("attention", "cross_attention", "feed_forward", "layer")} == {1}


@pytest.mark.parametrize(("batch_first", "rows"), [(True, 0), (False, 1)])
def test_torch_s_own_encoder(batch_first, rows):
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=batch_first)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert {site.rows for site in discover(encoder, (torch.zeros(2, 5, WIDTH),))} == {rows}


class Flattens(nn.Module):
    """The stream with rows and positions in one dimension, one or the other outermost."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.first, self.embed = first, nn.Embedding(11, WIDTH)
        self.blocks = nn.ModuleList([Mlp(), Mlp()])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        x = (x if self.first == "rows" else x.transpose(0, 1)).reshape(-1, WIDTH)
        for block in self.blocks:
            x = block(x)
        return x


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = feed_forward()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(x)


@pytest.mark.parametrize(("first", "rows"), [("rows", 0), ("positions", None)])
def test_rows_and_positions_in_one_dimension(first, rows):
    sites = discover(Flattens(first), (IDS,))
    assert {site.rows for site in sites.of_kind("feed_forward", "layer")} == {rows}
    assert {site.width for site in sites} == {WIDTH}


class Override(Flattens):
    """Runs its blocks on the positions that a mask chooses."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        chosen = x[ids > -1]
        for block in self.blocks:
            chosen = block(chosen)
        return chosen


def test_rows_that_the_data_choose_are_not_known():
    assert {site.rows for site in discover(Override(""), (IDS,)).of_kind("feed_forward")} == {None}


class Pictures(nn.Module):
    """Puts what an encoder makes of images in the places of image tokens: a row may have any number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.vision, self.text = Images(block=Patches), Model()

    def forward(self, input_ids: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        seen = self.vision(pixel_values).flatten(2).transpose(1, 2)
        x = self.text.embed(input_ids)
        x = x.masked_scatter((input_ids == 1).unsqueeze(-1).expand_as(x), seen)
        for block in self.text.blocks:
            x = block(x)
        return x


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = x.shape
        x = x.flatten(2).transpose(1, 2)
        return (x + self.attn(x)[0]).transpose(1, 2).reshape(shape)


def test_images_among_tokens_have_rows_of_their_own():
    sites = discover(Pictures(), {"input_ids": IDS, "pixel_values": torch.zeros(2, 3, 2, 1)})
    rows = {site.key: site.rows for site in sites if site.kind in ("attention", "feed_forward")}
    assert {value for key, value in rows.items() if key.startswith("vision")} == {None}
    assert {value for key, value in rows.items() if key.startswith("text")} == {0}


def test_a_part_that_is_run_by_itself_has_rows_of_its_own():
    vision = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**vision, "num_key_value_heads": 2, "vocab_size": 40}
    config = hf.LlavaConfig(
        vision_config={**vision, "model_type": "clip_vision_model", "image_size": 8, "patch_size": 4},
        text_config={**text, "model_type": "llama"},
        image_token_index=39,
    )
    sites = discover(hf.LlavaForConditionalGeneration(config))
    rows = {stack: {site.rows for layer in sites.layers(stack).values() for site in layer} for stack in sites.stacks}
    assert {key.partition(".")[2].partition(".")[0]: value for key, value in rows.items()} == {
        "language_model": {0},
        "vision_tower": {None},
    }


class Series(nn.Module):
    """As many positions as the width, a number that the model fixes, and rows that are joined with channels inside a block."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = feed_forward()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            joined = x.view(-1, WIDTH, WIDTH)
            return (joined + self.mlp(joined)).reshape(x.shape)

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, WIDTH)
        self.blocks = nn.ModuleList([Series.Block(), Series.Block()])

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        x = self.embed(values[:, :WIDTH].movedim(1, 2).unsqueeze(-1))
        for block in self.blocks:
            x = block(x)
        return x


def test_a_reshape_in_front_of_the_features_leaves_them_last():
    assert {facts(site)[:2] for site in discover(Series(), (torch.randn(2, WIDTH, 3),))} == {(WIDTH, -1)}
