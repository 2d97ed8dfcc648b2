"""Which of several tasks a text belongs to: a logistic regression over states of the frozen base, that knows its limits.

    p(task | e) = softmax((W e + b) / T)            e the text's state at length one
    d(task, e)  = (e − m_task)ᵀ (C + εI)⁻¹ (e − m_task)

W and b are fitted with a pull to zero; m are the tasks' means and C the covariance around them (Lee et al. 2018,
arXiv:1807.03888), shrunk by ε. The temperature T, and how far from its mean a task's texts lie, are set on texts that were left
out of the fit, a fifth at a time: what is fitted says nothing of how sure it may be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError

FEWEST = 5  # texts of a task: one for each part that is left out
_PARTS = 5
_PULL = 1e-3  # of the weights to zero; states have length one
_SHRINK = 0.1  # of the covariance to a multiple of the identity
_DIRECTIONS = 256  # of the covariance that are kept: a square of the width would be large for a wide base
_WITHIN = 0.95  # the share of a task's own texts that lie within its reach


@dataclasses.dataclass(frozen=True)
class TaskHead:
    """Scores of tasks for states of texts, fitted by `TaskHead.fit`.

    Attributes:
        weight: ``(tasks, width)``, the temperature in it.
        bias: ``(tasks,)``, the same.
        means: The tasks' mean states, ``(tasks, width)``.
        directions: The largest eigenvectors of the covariance around them, ``(directions, width)``.
        spread: Their eigenvalues, ``(directions,)``.
        rest: What is added to each eigenvalue, ``(1,)``.
        reach: The distance within which 95 % of a task's own texts lie, ``(tasks,)``.
    """

    weight: Tensor
    bias: Tensor
    means: Tensor
    directions: Tensor
    spread: Tensor
    rest: Tensor
    reach: Tensor

    @classmethod
    def fit(cls, states: Mapping[str, Tensor]) -> TaskHead:
        """The head of some tasks, the same for the same states.

        Args:
            states: For each task those of its texts, ``(texts, width)``, about as many for each.

        Raises:
            ConfigError: If there are fewer than two tasks, or fewer than five texts of one.
        """
        few = [name for name, rows in states.items() if len(rows) < FEWEST]
        if len(states) < 2 or few:
            said = f"{few[0]!r} has {len(states[few[0]])} texts" if few else f"there are {len(states)} tasks"
            raise ConfigError(f"{said}; give two tasks or more, with {FEWEST} texts or more each")
        rows = _unit(torch.cat([*states.values()]))
        counts = [len(one) for one in states.values()]
        tasks = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        part = torch.cat([torch.arange(count) % _PARTS for count in counts])
        logits, away = torch.empty(len(rows), len(counts)).double(), torch.empty(len(rows)).double()
        for left_out in range(_PARTS):
            out = part == left_out
            trial = cls._fitted(rows[~out], tasks[~out], len(counts))
            logits[out] = trial.logits(rows[out])
            away[out] = trial.distances(rows[out]).gather(1, tasks[out, None])[:, 0]
        reach = torch.stack([away[tasks == task].quantile(_WITHIN) for task in range(len(counts))])
        whole, temperature = cls._fitted(rows, tasks, len(counts)), _temperature(logits, tasks)
        return dataclasses.replace(whole, weight=whole.weight / temperature, bias=whole.bias / temperature, reach=reach)

    @classmethod
    def _fitted(cls, rows: Tensor, tasks: Tensor, count: int) -> TaskHead:
        means = torch.stack([rows[tasks == task].mean(0) for task in range(count)])
        _, values, vectors = torch.linalg.svd(rows - means[tasks], full_matrices=False)
        spread = values.square() / len(rows)
        rest = (_SHRINK * spread.sum() / rows.shape[1]).clamp(min=1e-9).reshape(1)
        weight, bias = _regression(rows, tasks, count)
        return cls(weight, bias, means, vectors[:_DIRECTIONS], spread[:_DIRECTIONS], rest, torch.zeros(count).double())

    def logits(self, states: Tensor) -> Tensor:
        """Of each task for each state: ``(texts, tasks)``."""
        return _unit(states) @ self.weight.T + self.bias

    def distances(self, states: Tensor) -> Tensor:
        """From each state to each task's mean, in units of how texts vary: ``(texts, tasks)``."""
        apart = _unit(states)[:, None] - self.means
        along = (apart @ self.directions.T).square() * (self.spread / (self.spread + self.rest))
        return (apart.square().sum(-1) - along.sum(-1)) / self.rest

    def probabilities(self, states: Tensor) -> Tensor:
        """Of each task for each state: ``(texts, tasks)``."""
        return self.logits(states).softmax(-1)

    def tensors(self) -> dict[str, Tensor]:
        """What it is made of, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _unit(states: Tensor) -> Tensor:
    return nn.functional.normalize(states.double(), dim=-1)


def _regression(rows: Tensor, tasks: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression from zero, by all rows at once: nothing is drawn."""
    with torch.enable_grad():
        weight = torch.zeros(count, rows.shape[1], dtype=torch.double, requires_grad=True)
        bias = torch.zeros(count, dtype=torch.double, requires_grad=True)
        steps = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            steps.zero_grad()
            value = nn.functional.cross_entropy(rows @ weight.T + bias, tasks) + _PULL / 2 * weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]  # torch's own method has no annotations
            return value

        steps.step(loss)  # type: ignore[arg-type]  # a tensor serves, as torch's examples do it
    return weight.detach(), bias.detach()


def _temperature(logits: Tensor, tasks: Tensor) -> float:
    """By which the logits are divided, so that the probabilities of texts left out fit best (Guo et al. 2017)."""
    tried = torch.logspace(-2, 2, 161, dtype=torch.double)
    losses = [nn.functional.cross_entropy(logits / temperature, tasks) for temperature in tried]
    return float(tried[torch.stack(losses).argmin()])
