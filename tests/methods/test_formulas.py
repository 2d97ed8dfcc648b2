"""Every registered method is held against its formula, written out plainly in float64."""

from __future__ import annotations

from collections.abc import Callable

import graftwork as gw
from tests.methods import (
    test_hyperformer,
    test_invertible,
    test_k_adapter,
    test_lora,
    test_lora_kin,
    test_moe,
    test_pal,
    test_presets,
    test_residual_adapter,
    test_self_modulation,
)
from tests.peft_bridge import test_unions

# Which test that is: a new method says it here.
FORMULAS: dict[str, Callable[..., None]] = {
    **dict.fromkeys((c.method for c in test_presets.PRESETS.values()), test_presets.test_equals_its_formula),
    "hyperformer": test_hyperformer.test_t5_equals_the_formula_for_each_task,
    "hyperformer_plus_plus": test_hyperformer.test_t5_equals_the_formula_for_each_task,
    "invertible_pfeiffer": test_invertible.test_with_its_layers_it_equals_the_formula,
    "k_adapter": test_k_adapter.test_equals_its_formula,
    "dora": test_lora_kin.test_dora_is_its_formula,
    "ia3": test_lora_kin.test_ia3_is_its_formula,
    "lora": test_lora.test_it_is_the_formula,
    "mam": test_unions.test_mam_is_a_prefix_and_a_parallel_adapter_in_a_stack,
    "moe": test_moe.test_a_model_with_it_is_its_formula,
    "pal": test_pal.test_equals_its_formula,
    "residual_adapter": test_residual_adapter.test_resnet_equals_the_formula,
    "self_modulation": test_self_modulation.test_it_is_its_formula,
    "unipelt": test_unions.test_unipelt_is_its_formula,
    "vera": test_lora_kin.test_vera_is_its_formula,
}


def test_every_method_has_its_formula() -> None:
    assert set(FORMULAS) == set(gw.methods())
    assert {config.method for config in test_hyperformer.BOTH.values()} == {
        name for name, test in FORMULAS.items() if test is test_hyperformer.test_t5_equals_the_formula_for_each_task
    }
