"""Projections that are sums of Kronecker products (Mahabadi et al. 2021, arXiv:2106.04647).

    W = Σ_{i=1..n} A_i ⊗ B_i  (in, out)          B_i whole, or s_i t_i

``x W`` is computed without W where that takes fewer multiplications. With x as n rows x_a of in/n:

    (x W)_b = Σ_{i,a} A_i[a, b] (x_a s_i) t_i

One product of every x_a with all s_i gives n²k numbers, and a second one multiplies these with ``M = (A_i[a, b] t_i)``:
in·n·k + n²·k·out multiplications a position in place of in·out. `Projection` counts them, and makes W where these are not
fewer: at n = 12, k = 1 the up-projection would take six times as many. ``python -m benchmarks.kronecker`` times both ways,
and the times agree with the count on a CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graftwork.methods.layers.contract import cast


class Rule(nn.Module):
    """The matrices A_i ``(n, n, n)`` that all projections of an adapter share."""

    def __init__(self, n: int, std: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.empty(n, n, n, dtype=dtype))
        nn.init.normal_(self.matrices, std=std)


class Projection(nn.Module):
    """``Σ_i A_i ⊗ B_i`` from ``width_in`` to ``width_out``.

    Attributes:
        rule: The A_i ``(n, n, n)``, ``None`` where this projection has none of its own.
        left: The s_i ``(n, in/n, k)``, or the B_i ``(n, in/n, out/n)`` where they are whole.
        right: The t_i ``(n, k, out/n)``, ``None`` where the B_i are whole.
    """

    def __init__(
        self, width_in: int, width_out: int, n: int, rank: int | None, *, own_rule: bool, dtype: torch.dtype
    ) -> None:
        super().__init__()

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, dtype=dtype))

        rows, columns = width_in // n, width_out // n
        self.rule = weight(n, n, n) if own_rule else None
        self.left = weight(n, rows, columns if rank is None else rank)
        self.right = None if rank is None else weight(n, rank, columns)
        self.around = rank is not None and width_in * n * rank + n * n * rank * width_out < width_in * width_out

    @torch.no_grad()
    def start(self, std: float, *, zero: bool) -> None:
        """Set the initial values; with ``zero`` those of the last factor are 0."""
        if self.rule is not None:
            nn.init.normal_(self.rule, std=std)
        factors = [self.left] if self.right is None else [self.left, self.right]
        for factor in factors:
            for one in factor:
                nn.init.xavier_uniform_(one, gain=math.sqrt(2))
        if zero:
            factors[-1].zero_()

    def weight(self, shared: Tensor | None) -> Tensor:
        """Return W transposed, ``(out, in)``; ``shared`` has the A_i of a projection without its own, ``None`` if n is 1."""
        blocks = self.left if self.right is None else self.left @ self.right
        rule = self.rule if self.rule is not None else shared
        if rule is None:
            return blocks[0].T
        out, width = rule.shape[2] * blocks.shape[2], rule.shape[1] * blocks.shape[1]
        return torch.einsum("iab,icd->bdac", rule, blocks).reshape(out, width)

    def forward(self, read: Tensor, shared: Tensor | None) -> Tensor:
        """Return ``x W`` ``(…, out)`` for x ``(…, in)``, computed the cheaper way."""
        if not self.around or self.right is None:
            return nn.functional.linear(read, cast(self.weight(shared), read))
        n, rows, rank = self.left.shape
        parts = read.reshape(-1, rows) @ cast(self.left.transpose(0, 1).reshape(rows, n * rank), read)
        rule = self.rule if self.rule is not None else shared
        if rule is None:
            mixed = self.right[0]
        else:
            mixed = torch.einsum("iab,ikd->aikbd", rule, self.right).reshape(n * n * rank, -1)
        return (parts.reshape(-1, n * n * rank) @ cast(mixed, read)).unflatten(0, read.shape[:-1])
