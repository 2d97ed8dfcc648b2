"""Sites with something odd: a module that returns s + y at once, another layout, a computed factor, channels first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw

WIDTH = 8


class Adding(nn.Module):
    """A feed-forward that takes the stream and returns it with the branch added."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, stream: Tensor) -> Tensor:
        return stream + torch.tanh(self.inner(hidden))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.adding = Adding()

    def forward(self, x: Tensor) -> Tensor:
        return self.adding(self.norm(x), x)


def _site(**extra: object) -> gw.Site:
    return gw.Site(
        stack="",
        layer=0,
        kind="feed_forward",
        block="",
        output=gw.Tap("adding", "output"),
        residual=gw.Tap("norm", "input", 0),
        width=WIDTH,
        extra=extra,
    )


def _prepared() -> tuple[Model, Tensor]:
    torch.manual_seed(0)
    return Model().double(), torch.randn(3, 5, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("reads", ["output", "stream", "normed"])
def test_a_sum_that_one_module_returns(reads: str) -> None:
    model, x = _prepared()
    y = torch.tanh(model.adding.inner(model.norm(x)))
    adapters = gw.attach(model, sites=[_site(returns="sum")])
    adapters.add("a", gw.Bottleneck(sites=("feed_forward",), reads=reads, init_std=0.3, dtype="float64"))
    adapters.active = "a"
    adapter = adapters.modules_of("a")["0.feed_forward"]
    read = y if reads == "output" else x + y
    delta = torch.relu(read @ adapter.down.T + adapter.down_bias) @ adapter.up.T + adapter.up_bias
    torch.testing.assert_close(model(x), x + y + delta, rtol=1e-12, atol=1e-12)
    with adapters.using(gw.Stack("a", "a")):
        again = read + delta
        second = torch.relu(again @ adapter.down.T + adapter.down_bias) @ adapter.up.T + adapter.up_bias
        torch.testing.assert_close(model(x), x + y + delta + second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("extra", "config", "says"),
    [
        ({"layout": "differs"}, gw.Pfeiffer(bottleneck_size=2), "laid out otherwise"),
        ({"factor": "computed"}, gw.Pfeiffer(bottleneck_size=2), "factor that it computes"),
        ({"channels": 1}, gw.Standard(bottleneck_size=2), "channels are dimension 1"),
    ],
)
def test_what_cannot_be_read_is_refused(extra: dict[str, object], config: gw.Bottleneck, says: str) -> None:
    adapters = gw.attach(_prepared()[0], sites=[_site(**extra)])
    with pytest.raises(gw.SiteError, match=says):
        adapters.add("a", config)
    assert adapters.names == ()


def test_rows_of_a_model_that_takes_positions_first_are_refused() -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, dim_feedforward=16)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(6, 3, WIDTH)  # 6 positions of 3 rows
    adapters = gw.attach(model, example_inputs={"src": x})
    adapters.add("a", gw.Pfeiffer(bottleneck_size=2))
    with adapters.using("a"):
        model(x)
    with (
        pytest.raises(gw.CompositionError, match="rows of the batch are dimension 1"),
        adapters.using(gw.MixedBatch(["a", None, "a"])),
    ):
        model(x)
