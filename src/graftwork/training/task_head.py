"""Which of several tasks a text belongs to: a calibrated logistic regression over states of the frozen base.

    p(task | e) = softmax((W e + b) / T)            e the text's state, normalised to length one
    d(task, e)  = (e − m_task)ᵀ (C + εI)⁻¹ (e − m_task)

W and b are fitted with weight decay; m are the tasks' means and C the covariance around them (Lee et al. 2018,
arXiv:1807.03888), shrunk by ε. The temperature T, and the distance of a task's texts from its mean, are computed on texts that
were left out of the fit, a fifth at a time: on the fitted texts they would be too confident.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError

FEWEST = 5  # texts of a task: one for each part that is left out
_PARTS = 5
_DECAY = 1e-3  # of the weights to zero; states have length one
_SHRINK = 0.1  # of the covariance to a multiple of the identity
_DIRECTIONS = 256  # of the covariance that are kept: a width × width matrix would be large for a wide base
_WITHIN = 0.95  # the share of a task's own texts that are within its reach


@dataclasses.dataclass(frozen=True)
class TaskHead:
    """Scores of tasks for states of texts, fitted by `TaskHead.fit`.

    Attributes:
        weight: W / T, ``(tasks, width)``.
        bias: b / T, ``(tasks,)``.
        means: The tasks' mean states, ``(tasks, width)``.
        directions: The largest eigenvectors of the covariance around them, ``(directions, width)``.
        spread: Their eigenvalues, ``(directions,)``.
        rest: ε, which is added to each eigenvalue, ``(1,)``.
        reach: The distance within which 95 % of a task's own texts are, ``(tasks,)``.
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
        """The head of some tasks; equal states give an equal head.

        Args:
            states: The states of each task's texts, ``(texts, width)``, about as many for each task.

        Raises:
            ConfigError: If there are fewer than two tasks, or fewer than five texts of one.
        """
        few = [name for name, rows in states.items() if len(rows) < FEWEST]
        if len(states) < 2 or few:
            problem = f"{few[0]!r} has {len(states[few[0]])} texts" if few else f"there are {len(states)} tasks"
            raise ConfigError(f"{problem}; give two tasks or more, with {FEWEST} texts or more each")
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
        """The logit of each task for each state: ``(texts, tasks)``."""
        return _unit(states) @ self.weight.T + self.bias

    def distances(self, states: Tensor) -> Tensor:
        """The squared Mahalanobis distance of each state from each task's mean: ``(texts, tasks)``."""
        apart = _unit(states)[:, None] - self.means
        along = (apart @ self.directions.T).square() * (self.spread / (self.spread + self.rest))
        return (apart.square().sum(-1) - along.sum(-1)) / self.rest

    def probabilities(self, states: Tensor) -> Tensor:
        """The probability of each task for each state: ``(texts, tasks)``."""
        return self.logits(states).softmax(-1)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return dict(vars(self))


def _unit(states: Tensor) -> Tensor:
    return nn.functional.normalize(states.double(), dim=-1)


def _regression(rows: Tensor, tasks: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The weight and bias of a multinomial logistic regression, which starts at zero and sees all rows at once."""
    with torch.enable_grad():
        weight = torch.zeros(count, rows.shape[1], dtype=torch.double, requires_grad=True)
        bias = torch.zeros(count, dtype=torch.double, requires_grad=True)
        steps = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            steps.zero_grad()
            value = nn.functional.cross_entropy(rows @ weight.T + bias, tasks) + _DECAY / 2 * weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]  # torch's own method has no annotations
            return value

        steps.step(loss)  # type: ignore[arg-type]  # a tensor serves, as torch's examples do it
    return weight.detach(), bias.detach()


def _temperature(logits: Tensor, tasks: Tensor) -> float:
    """The temperature that fits the logits of texts left out best (Guo et al. 2017)."""
    tried = torch.logspace(-2, 2, 161, dtype=torch.double)
    losses = [nn.functional.cross_entropy(logits / temperature, tasks) for temperature in tried]
    return float(tried[torch.stack(losses).argmin()])
