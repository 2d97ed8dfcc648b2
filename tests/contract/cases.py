"""A method on a model of the zoo: what the contract's tests start from."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods.union import UnionBase
from tests.support.interpreter import unsettle
from tests.zoo.models import ZooModel, build, clone_inputs, main_output

MODELS = ("bert", "t5", "gpt2", "vit", "resnet")
CONVOLUTIONAL = {"resnet"}
# The methods that stand at convolutions and mix channels there; all others mix the last dimension.
AT_CONVOLUTIONS = {"residual_adapter"}
# Methods with parts that peft computes, for which some of the contract's laws are said: `tests/peft_bridge/test_unions.py`.
BY_PEFT = {name for name, config in gw.methods().items() if issubclass(config, UnionBase)}
METHODS = [name for name in gw.methods() if name not in BY_PEFT]
# Methods that need a generator, a model with a latent among its inputs: `test_generator.py` runs the contract for them.
OF_A_LATENT = {"self_modulation"}
# What a method is refused with by a model whose sites are none of its, or that has no latent.
REFUSED: dict[tuple[str, str], str] = {
    **{
        (method, model): "stands at" if method in AT_CONVOLUTIONS else "dimension 1|stands at|linear modules"
        for method in METHODS
        for model in MODELS
        if method not in OF_A_LATENT and (method in AT_CONVOLUTIONS) != (model in CONVOLUTIONAL)
    },
    **{(method, model): "latent cannot be guessed" for method in OF_A_LATENT for model in MODELS},
}
# Methods that stand at none of a model's sites, with the reason: an exception is made here or nowhere.
STANDS_NOWHERE: dict[tuple[str, str], str] = {
    (method, model): f"{model} has no latent" if method in OF_A_LATENT else f"{method} stands at no site of {model}"
    for method, model in REFUSED
}
# Methods with an adapter that cannot be weighed (`AdapterModule.unweighable`), with what the refusal says.
UNWEIGHABLE: dict[str, str] = {"invertible_pfeiffer": r"cannot be weighed at .*inverse.*invertible=False"}
# Sizes and targets that suit these models where a method's own are those of large ones.
OPTIONS: dict[str, dict[str, Any]] = {
    "k_adapter": {"size": 24, "heads": 4, "inner": 32},
    "llm_adapters_parallel": {"targets": ("all",), "bottleneck_size": 8},
}
# Methods that read hidden states of other layers, to which reentrant checkpointing leads no gradients back.
CROSSING: tuple[str, ...] = ("k_adapter",)

# Methods of which some weights (of their noise) have a gradient in training mode alone.
LEARNS_IN_TRAINING = {"moe"}
# Methods with a loss of their own, which reentrant checkpointing would lose: refused by name.
HAS_A_LOSS = {"moe"}
# Methods that choose: where two choices are all but equal, a narrower dtype may take the other one.
CHOOSES = {"moe"}


@functools.lru_cache
def sites_of(name: str) -> gw.SiteMap:
    """The sites of a model of the zoo, found once."""
    return gw.discover(build(name).model)


class Case:
    """A fresh model with adapters of one method, ``"a"`` at its start and ``"b"`` anywhere else."""

    def __init__(self, method: str, model: str, dtype: torch.dtype = torch.float32, **options: Any) -> None:
        self.stand(gw.methods()[method](**{**OPTIONS.get(method, {}), **options}), model, dtype)

    def stand(self, config: Any, model: str, dtype: torch.dtype) -> None:
        """Put two adapters of a configuration, ours or peft's, on a fresh model."""
        self.name = model
        self.zoo: ZooModel = build(model, dtype)
        self.model: Any = self.zoo.model
        self.adapters = gw.attach(self.model, sites=sites_of(model))
        torch.manual_seed(11)
        self.adapters.add("a", config)
        self.adapters.add("b", config)
        self.config = self.adapters.config("a")
        self.unsettle("b")

    def unsettle(self, *names: str) -> None:
        """Move every weight of an adapter off its start."""
        for name in names:
            unsettle(self.owned(name), sum(name.encode()), 0.1)

    def owned(self, name: str) -> list[nn.Module]:
        """The modules of an adapter, its norms and what its sites share included."""
        norms = self.adapters.norms_of(name).values() if name in self.adapters.names else ()
        shared = self.adapters.shared_of(name)
        return [*self.adapters.modules_of(name).values(), *norms, *([] if shared is None else [shared])]

    def weights(self, name: str) -> dict[str, nn.Parameter]:
        """The weights of an adapter by their names in the model."""
        mine = {id(p) for m in self.owned(name) for p in m.parameters()}
        return {n: p for n, p in self.model.named_parameters() if id(p) in mine}

    def fresh(self) -> nn.Module:
        """The same model, as it was before anything was attached to it."""
        return build(self.name).model

    def base(self) -> dict[str, Tensor]:
        """Copies of all weights and buffers that are not ours."""
        modules = [m for name in self.adapters.names for m in self.owned(name)]
        ours = {id(t) for m in modules for t in (*m.parameters(), *m.buffers())}
        tensors = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {n: t.detach().clone() for n, t in tensors if id(t) not in ours}

    def gradients(self, *compositions: Any) -> dict[str, Tensor]:
        """The gradients of all that learns, by name, for one loss over some compositions, all forwarded before one backward."""
        torch.manual_seed(5)
        outputs = [self.run(composition) for composition in compositions]
        sum(loss(output) for output in outputs).backward()
        found = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        self.model.zero_grad(set_to_none=True)
        return found

    def require_gradients(self, actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
        """The same, of every weight of ``"a"`` and ``"b"``, as far as float32 tells."""
        assert actual.keys() == expected.keys() == {**self.weights("a"), **self.weights("b")}.keys()
        largest = max(float(g.abs().max()) for g in expected.values())
        for name, grad in expected.items():
            assert float((actual[name] - grad).abs().max()) <= 1e-5 * largest, name

    def run(self, composition: Any, **changes: Any) -> Tensor:
        """The main output under a composition."""
        with self.adapters.using(composition):
            return main_output(self.model(**{**clone_inputs(self.zoo.inputs), **changes}))


def loss(output: Tensor) -> Tensor:
    """A scalar that every output takes part in with a weight of its own."""
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(3)).to(output.dtype)
    return (output * direction).mean()
