"""Gates for adapters that were trained apart: Arrow, which is not trained, and PHATGOOSE, with a vector for each adapter.

    Arrow (Ostapenko et al. 2024, arXiv:2405.11157)      logit_n = |v_n · x|, v_n the first right singular vector of B_n A_n
    PHATGOOSE (Muqeeth et al. 2024, arXiv:2402.05859)    logit_n = ṽ_n · x̃ / √d, ṽ and x̃ with mean 0 and variance 1

and a softmax over the k largest. A vector of PHATGOOSE's is trained with its adapter alone, which it weighs by σ(v · x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftwork.compose.blocks import Learned
from graftwork.compose.nodes import Leaf, Node
from graftwork.errors import CompositionError
from graftwork.methods import AdapterModule
from graftwork.methods.layers.top_k_gating import Gates, best_of
from graftwork.methods.layers.weight_cache import WeightCache


class AffinityGate(nn.Module):
    """PHATGOOSE's vectors v ``(n, width)``, which start at zero."""

    def __init__(self, children: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(children, width, dtype=dtype))

    def forward(self, read: Tensor, top_k: int, rows: Sequence[int], absent: Sequence[int]) -> Gates:
        """Return the gates for a read ``(…, width)``, computed in float32 or wider.

        Args:
            read: The input of the gate.
            top_k: Number of children to choose.
            rows: Numbers of the children to choose from, in order. A single one has the gate σ(v · h).
            absent: Which of ``rows`` are not at this site; they are never chosen.
        """
        h = read.to(torch.promote_types(read.dtype, torch.float32))
        vectors = self.weight[list(rows)].to(h.dtype)
        if len(rows) == 1:
            value = nn.functional.linear(h, vectors).sigmoid()
            return Gates(torch.zeros_like(value, dtype=torch.long), value, value, value, value, None)
        logits = nn.functional.linear(standardized(h), standardized(vectors)) / math.sqrt(h.shape[-1])
        return best_of(
            logits.index_fill(-1, torch.tensor(absent, device=h.device), -math.inf) if absent else logits, top_k
        )


def standardized(values: Tensor) -> Tensor:
    """Values of mean 0 and variance 1 over the last dimension; zeros where they are all equal."""
    centred = values - values.mean(-1, keepdim=True)
    spread = centred.square().mean(-1, keepdim=True).sqrt()
    return centred / spread.clamp(min=torch.finfo(values.dtype).tiny)


class Arrows:
    """The logits of LoRAs by their own directions; one that is not there is never chosen.

    Raises:
        CompositionError: If a child is no LoRA.
    """

    def __init__(self, block: Learned, children: Sequence[Node | None]) -> None:
        self.modules: list[AdapterModule | None] = []
        for child, node in zip(block.children, children, strict=True):
            linear = (
                isinstance(node, Leaf) and node.module.banked and node.module.segments()[0].activation == "identity"
            )
            if node is not None and not (linear and node.module.reads == "input"):  # type: ignore[attr-defined]
                raise CompositionError(
                    f"{block!r}: its gate is 'arrow', and {child!r} is no LoRA, which has no direction of its own"
                )
            self.modules.append(None if node is None else node.module)  # type: ignore[attr-defined]
        self.kept: WeightCache[Tensor] = WeightCache(self._directions)

    @torch.no_grad()
    def _directions(self) -> Tensor:
        found = [None if module is None else _direction(module) for module in self.modules]
        like = next(v for v in found if v is not None)
        return torch.stack([torch.full_like(like, math.nan) if v is None else v for v in found])

    def __call__(self, read: Tensor) -> Tensor:
        """|v_n · x| for a read ``(…, width)``: ``(…, n)``, −∞ for one that is not there."""
        weights = [p for module in self.modules if module is not None for p in module.weights()]
        directions = self.kept.get(weights)
        h = read.to(torch.promote_types(read.dtype, torch.float32))
        logits = nn.functional.linear(h, directions.to(h.dtype)).abs()
        return logits.masked_fill(logits.isnan(), -math.inf) if None in self.modules else logits


def _direction(module: AdapterModule) -> Tensor:
    """The first right singular vector of U D, from matrices of the rank's size."""
    down, (up, _) = module.segments()[0].down.double(), module.readout()
    inner, lower = torch.linalg.qr(down.t())
    _, upper = torch.linalg.qr(up.double())
    return inner @ torch.linalg.svd(upper @ lower.t()).Vh[0]
