"""The bottleneck adapter with a skip past its non-linearity.

    y ← y + U relu(D y + b_D) + b_U + s ⊙ y        after attention and after the feed-forward, before the addition

Sites and initial values are Houlsby's (Houlsby et al. 2019, arXiv:1902.00751), the width is 16. The path through the
bottleneck has rank 16; the skip ``s`` gives every dimension a linear path of its own, ``d`` weights a site, and starts at zero.

``method = "bottleneck"`` in a recipe, `graftwork compare` and `graftwork recommend` mean this adapter unless they give ``skip``;
``skip = "none"`` is the plain one. A fusion of such adapters composes them by their outputs: only ``skip="low_rank"`` can be
folded.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.registry import register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class SkipBottleneck(Bottleneck):
    """Two adapters a layer on the branches' outputs, 16 wide, with a diagonal skip past the non-linearity.

    BERT-base: 627,072 weights, 18,432 of them in the skips.

    Example:
        >>> adapters.add("c", gw.SkipBottleneck(bottleneck_size=4))
    """

    method: ClassVar[str] = "skip_bottleneck"

    skip: str | None = "diagonal"
