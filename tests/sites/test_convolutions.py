"""Convolutions as sites: of residual networks, of a user's own with and without residual sums, by hand."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graftwork.errors import SiteError
from graftwork.sites import Site, SiteMap, Tap, discover, sites_from_paths
from graftwork.sites.discovery.convolutions import facts_of, is_site
from tests.zoo.models import build


def library(name: str) -> Any:
    """A module of a library, which may be installed without its compiled parts; skips where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} cannot be imported: {error}")


def keys(sites: SiteMap) -> dict[str, str]:
    """Key and module of every convolution."""
    return {sites.key_of(site): site.output.module for site in sites.of_kind("convolution")}


# -- residual networks -------------------------------------------------------------------------------------------------


def test_resnet_of_transformers() -> None:
    model = build("resnet").model
    sites = discover(model)
    blocks = [f"encoder.stages.{stage}.layers.{layer}" for stage in range(2) for layer in range(2)]
    expected = {"embedder.embedder.0.convolution": "embedder.embedder.convolution"}
    for block in blocks:
        expected[f"{block}.convolution"] = f"{block}.layer.0.convolution"
        expected[f"{block}.convolution_1"] = f"{block}.layer.1.convolution"
    assert keys(sites) == expected
    assert [site.block for site in sites.of_kind("convolution")][1:] == [b for b in blocks for _ in range(2)]
    assert SiteMap.from_json(sites.to_json()) == sites
    first, *others = sites.of_kind("convolution")
    assert first.extra["first"] is True
    assert not any("first" in site.extra for site in others)
    halving = sites["encoder.stages.1.layers.0.convolution"]
    assert (halving.width, halving.input) == (12, Tap(f"{blocks[2]}.layer.0.convolution", "input", 0))
    assert halving.extra == {"channels": 1, "in_channels": 8, "kernel": [3, 3], "stride": [2, 2], "margins": [0] * 4}
    assert sites["encoder.stages.0.layers.1.mixer"].extra == {"channels": 1}
    (embedding,) = sites.of_kind("embedding")
    assert (embedding.width, embedding.extra) == (8, {"channels": 1})


@pytest.mark.parametrize("name", ["bert", "whisper", "vit", "swin"])
def test_what_takes_images_or_sound_in_is_no_site(name: str) -> None:
    assert not discover(build(name).model).of_kind("convolution")


def test_resnet_of_torchvision() -> None:
    sites = discover(library("torchvision.models").resnet18())
    found = keys(sites)
    assert len(found) == 17
    assert found["0.convolution"] == "conv1"
    assert found["layer3.0.convolution_1"] == "layer3.0.conv2"


def test_resnet_of_timm() -> None:
    found = keys(discover(library("timm").create_model("resnet26d")))
    assert len(found) == 3 + 8
    assert found["conv1.1.convolution"] == "conv1.3"
    assert found["layer3.0.convolution"] == "layer3.0.conv2"


# -- a user's own ------------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """Convolutions one after another, with nothing added up, for images of 28 × 28 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.wide = nn.Conv2d(4, 6, 5, stride=2, padding="valid")
        self.point = nn.Conv2d(6, 6, 1)
        self.apart = nn.Conv2d(6, 6, 3, groups=6)
        self.rest = nn.Sequential(nn.Conv2d(6, 6, 2, stride=2), nn.ReLU(), nn.Conv2d(6, 8, (1, 3)), nn.Conv2d(8, 8, 4))
        self.head = nn.Linear(8 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.apart(self.point(self.wide(torch.relu(self.stem(x))))))
        return self.head(self.rest(x).max(-1).values.flatten(1))


def test_a_network_that_adds_nothing_up_has_its_convolutions() -> None:
    sites = discover(Plain())
    assert keys(sites) == {
        "0.convolution": "stem",
        "1.convolution": "wide",
        "rest.0.convolution": "rest.2",
        "rest.1.convolution": "rest.3",
    }
    assert sites.kinds == ("convolution",)
    assert [site.extra["margins"] for site in sites] == [[0] * 4, [-2] * 4, [-1, -1, 0, 0], [-1, -2, -1, -2]]
    assert [site.extra.get("first", False) for site in sites] == [True, False, False, False]
    assert sites.stacks == {"": 2, "rest": 2}


@pytest.mark.filterwarnings("ignore:Using padding=")
def test_margins_put_a_pointwise_convolution_in_the_middle_of_the_windows() -> None:
    """A kernel that is zero but in its middle is the pointwise one."""
    torch.manual_seed(0)
    for size, stride, padding, dilation in (
        (3, 1, 1, 1),
        (3, 2, 0, 1),
        (5, 2, 1, 1),
        (4, 1, 0, 1),
        (4, 2, 3, 1),
        ((1, 3), 1, (2, 0), 1),
        (3, (2, 1), 1, (1, 3)),
        (3, 1, "same", 2),
        (4, 1, "same", 1),
    ):
        dense = nn.Conv2d(3, 5, size, stride, padding, dilation, bias=False)  # type: ignore[arg-type]
        point = torch.randn(5, 3, 1, 1)
        high, wide = dense.kernel_size
        with torch.no_grad():
            dense.weight.zero_()[:, :, (high - 1) // 2, (wide - 1) // 2] = point[:, :, 0, 0]
        x = torch.randn(2, 3, 9, 10)
        facts = facts_of(dense)
        padded = nn.functional.pad(x, facts["margins"])
        torch.testing.assert_close(nn.functional.conv2d(padded, point, stride=facts["stride"]), dense(x))


class PadsItself(nn.Conv2d):
    """A convolution that pads in its forward, by the size of the image."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(input, [input.shape[-1] % 2 + 1, 1, 1, 1]))


def test_of_padding_computed_in_the_call_nothing_is_said() -> None:
    sites = discover(nn.Sequential(nn.Conv2d(3, 4, 3), PadsItself(4, 4, 3)))
    assert ["margins" in site.extra for site in sites] == [True, False]


class Twice(nn.Module):
    """One convolution run twice inside a residual block, and one outside."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(2))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(block(x))
        return x


def test_every_call_is_a_site() -> None:
    sites = discover(Twice())
    found = [(sites.key_of(s), str(s.output)) for s in sites.of_kind("convolution")]
    assert found[0] == ("0.convolution", "stem.output")
    assert [output for _, output in found[1:]] == [
        f"blocks.{n}.0{call}.output" for n in range(2) for call in ("", "@1")
    ]
    assert len(dict(found)) == 5


def test_the_first_convolution_alone_is_not_enough() -> None:
    with pytest.raises(SiteError, match=r"no residual sums were found in a Sequential.*nor are there convolutions"):
        discover(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))


def test_images_are_made_by_the_first_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 60 * 60, 2)).bfloat16()
    assert len(discover(model)) == 2
    odd = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(SiteError, match=r"(?s)could not be run.*\[2, 2, 32, 32\].*\[2, 2, 224, 224\].*example_inputs"):
        discover(odd)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_by_hand_as_discovery_has_it() -> None:
    model = Plain()
    by_hand = sites_from_paths(model, {"convolution": ["wide", "rest.2"]})
    found = discover(model)
    for one, key in zip(by_hand, ("1.convolution", "rest.0.convolution"), strict=True):
        assert (one.output, one.input, one.width) == (found[key].output, found[key].input, found[key].width)
        assert one.extra == found[key].extra
    (other,) = sites_from_paths(nn.Sequential(nn.Linear(2, 3)), {"convolution": "0"})
    assert other == Site(stack="", layer=0, kind="convolution", block="", output=Tap("0", "output"), width=3)


def test_which_modules() -> None:
    assert is_site(nn.Conv2d(2, 2, (3, 1), stride=(1, 2)))
    assert not any(
        is_site(m) for m in (nn.Conv1d(2, 2, 3), nn.ConvTranspose2d(2, 2, 3), nn.Conv2d(2, 2, 4, stride=4), nn.ReLU())
    )
