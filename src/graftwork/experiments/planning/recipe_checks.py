"""What cannot be asked for together in one recipe, refused before anything is read or trained.

Each function raises a `ValueError` that names the key, and what can be asked for instead.
"""

from __future__ import annotations

import re
from collections import Counter

from graftwork.experiments.kinds import ALL, SHARED, UNIT_KINDS
from graftwork.experiments.planning.recipe_tables import RecipeTables, table_of
from graftwork.experiments.planning.tables import check_name
from graftwork.methods import LoRA
from graftwork.options import hint
from graftwork.tasks import TaskError, kinds
from graftwork.tasks.scoring import find_metric

_TABLES = {"language": "languages", "knowledge": "knowledge"}


def check_recipe(recipe: RecipeTables) -> None:
    """Refuse what does not go together."""
    _refuse_targets(recipe)
    _refuse_folds(recipe)
    _refuse_base_rows(recipe)
    _refuse_sources_and_orders(recipe)
    _refuse_unservable(recipe)
    _refuse_one_pass(recipe)
    _refuse_metrics(recipe)
    _refuse_names(recipe)
    _refuse_prompts(recipe)
    _refuse_adapters_below(recipe)


def _refuse_targets(recipe: RecipeTables) -> None:
    weighs = any(UNIT_KINDS[kind].weighs for kind in recipe.wanted)
    for target in recipe.targets:
        if target not in recipe.tasks:
            raise ValueError(f"the target {target!r} is no task; the tasks are {', '.join(recipe.tasks)}")
        if weighs and len(recipe.tasks) + len(recipe.tasks[target].beside) < 2:
            raise ValueError("a fusion needs two tasks or more; give more [tasks.NAME], fuse = false, or no targets")
    fused = ["adapter"] if recipe.targets and weighs else []
    fused += ["knowledge"] if any(recipe.tasks[target].beside for target in recipe.targets) else []
    for kind in fused:
        if recipe.adapter_config(kind).norms == "own":
            table = table_of(kind)
            raise ValueError(
                f"{table}: {getattr(recipe, table)['method']} trains norms of its own, which cannot be fused or averaged; "
                f'say norms = "base" in [{table}], or no targets'
            )

    if "arrow" in recipe.controls and recipe.targets and type(recipe.adapter_config()) is not LoRA:
        raise ValueError(
            f'controls: arrow chooses among LoRAs, and [adapter] is {recipe.adapter["method"]}; say method = "lora" there, or '
            "leave arrow out (route trains a gate for any adapters)"
        )


def _refuse_folds(recipe: RecipeTables) -> None:
    """Refuse folds that would not each be scored as often as any other, or that would be trained on and scored."""
    for name, task in recipe.tasks.items():
        if task.folds is None:
            continue
        where = f"tasks.{name}.folds is {task.folds}"
        if name not in recipe.targets:
            raise ValueError(
                f"{where}, and only a target is trained with every seed, each on another fold; give targets = [{name!r}], or "
                "leave folds out"
            )
        times = Counter(seed % task.folds for seed in recipe.seeds)
        if len(times) < task.folds or len({*times.values()}) > 1:
            raise ValueError(
                f"{where}, and a training with the seed n is scored on fold n % {task.folds}: with the seeds "
                f"{', '.join(map(str, recipe.seeds))} some folds are scored more often than others; give "
                f"seeds = {[*range(task.folds)]}"
            )
        if "copies" in recipe.controls and "controls" in recipe.model_fields_set:
            raise ValueError(
                f"{where}, and copies fuses adapters of other seeds, which are trained on the rows that it is scored on; "
                "leave one of the two out"
            )


def _refuse_base_rows(recipe: RecipeTables) -> None:
    """Refuse rows of the frozen base that are asked for, and that no target can have."""
    if "controls" not in recipe.model_fields_set:
        return
    targets = [recipe.tasks[target] for target in recipe.targets]
    answering = [task for task in targets if task.kind in kinds and not kinds[task.kind].has_weights]
    if "zero_shot" in recipe.controls and targets and not answering:
        raise ValueError("controls: zero_shot asks the base in words, and no target is answered in words; leave it out")
    if "few_shot" in recipe.controls and targets and not any(task.shots for task in answering):
        raise ValueError(
            "controls: few_shot puts training rows before a prompt; say how many in a target's task: shots = 4"
        )


def _refuse_sources_and_orders(recipe: RecipeTables) -> None:
    asking = [control for control in recipe.controls if control in ("intermediate", "intermediate_full")]
    if asking and recipe.source is None:
        raise ValueError(f'controls: {asking[0]} starts from a task\'s training; say which: source = "NAME"')
    if recipe.source is not None and recipe.source not in recipe.tasks:
        raise ValueError(f"source: {recipe.source!r} is no task; the tasks are {', '.join(recipe.tasks)}")
    if asking and recipe.targets == (recipe.source,):
        raise ValueError(f"source: {recipe.source!r} is the only target; {asking[0]} needs another task to start from")
    if recipe.order and sorted(recipe.order) != sorted(recipe.tasks):
        raise ValueError(
            f"order names {', '.join(recipe.order)}; it must name every task once: {', '.join(recipe.tasks)}"
        )
    of_all = [control for control in recipe.controls if UNIT_KINDS[control].of_all]
    if of_all and len(recipe.tasks) < 2:
        raise ValueError(f"controls: {of_all[0]} is of several tasks; give more [tasks.NAME]")
    stacked = [name for name, task in recipe.tasks.items() if task.language or task.knowledge]
    if of_all and stacked:
        raise ValueError(
            f"controls: {of_all[0]} trains all tasks at once, and tasks.{stacked[0]} is stacked on another adapter; leave one "
            "out"
        )


def _refuse_unservable(recipe: RecipeTables) -> None:
    """Refuse what an adapter that serves several tasks cannot do."""
    for kind in ("language", "knowledge"):
        if len(recipe.adapter_config(kind).members) > 1:
            raise ValueError(
                f"{kind}_adapter: an adapter of several tasks is trained on one text here; leave its tasks out"
            )
    if recipe.served():
        _refuse_single(recipe)
    for method in (*recipe.methods, ""):
        if tasks := recipe.served(method):
            _refuse_served(recipe, f"methods.{method}" if method else "adapter", tasks)


def _refuse_single(recipe: RecipeTables) -> None:
    """Refuse, where ``[adapter]`` is one adapter for all tasks, what needs an adapter of a single task."""
    name = recipe.adapter["method"]
    if single := _of_single(recipe):
        raise ValueError(
            f"adapter: {name} is one adapter for all tasks, and {single[0]} needs one of a single task; say fuse = false and "
            'controls = ["mt_shared"], or put it into a table [methods.NAME] and leave [adapter] to another method'
        )
    if recipe.together > 1:
        raise ValueError(
            f"together is {recipe.together} and the adapter is {name}, which all tasks train at once already; leave together out"
        )


def _of_single(recipe: RecipeTables) -> list[str]:
    """The kinds of the recipe that use an adapter of a single task."""
    return [kind for kind in recipe.wanted if UNIT_KINDS[kind].of_single] if recipe.targets else []


def _refuse_served(recipe: RecipeTables, where: str, tasks: tuple[str, ...]) -> None:
    strange = next((task for task in tasks if task not in recipe.tasks), None)
    if strange is not None:
        near = hint(strange, [*recipe.tasks])
        raise ValueError(
            f"{where}.tasks: {strange!r} is no task of this recipe; {f'{near} ' if near else ''}the tasks are "
            f"{', '.join(recipe.tasks)}. Leave tasks out to train all of them together"
        )
    if len(tasks) < 2:
        raise ValueError(
            f"{where}.tasks names {tasks[0]} alone; name two or more that are trained together (every other task joins later by "
            "its own part), or leave tasks out"
        )
    stacked = next(
        (name for name, task in recipe.tasks.items() if task.language or task.knowledge or task.beside), None
    )
    if stacked is not None:
        raise ValueError(
            f"{where}: one adapter serves all tasks, and tasks.{stacked} is stacked on or beside another one; leave one of the "
            "two out"
        )


def _refuse_one_pass(recipe: RecipeTables) -> None:
    if recipe.together < 2:
        return
    budget = recipe.budget("adapter")
    for key, wanted in (
        ("accumulation", budget.accumulation > 1),
        ("gradient_checkpointing", budget.gradient_checkpointing),
        ("early_stopping", budget.stops_by is not None),
        ("precision", budget.precision == "float16"),
    ):
        if wanted:
            raise ValueError(
                f"together is {recipe.together} and training.{key} is {getattr(budget, key)}: a pass of several adapters has one "
                "batch of each a step, and no checkpointing of its own; leave one of the two out"
            )
    packed = next((name for name, task in recipe.tasks.items() if task.packing), None)
    if packed is not None:
        raise ValueError(
            f"together is {recipe.together} and tasks.{packed}.packing is true: blocks of several rows cannot be in a batch with "
            "rows of other tasks; leave one of the two out"
        )
    if recipe.adapter_config().injected:
        raise ValueError(
            f"together is {recipe.together} and the adapter is one of peft's, which is the same for all rows of a pass; leave "
            "together out, or take a method of graftwork"
        )


def _refuse_metrics(recipe: RecipeTables) -> None:
    """Refuse a metric of ``early_stopping`` that some task of the recipe does not have."""
    forms = {
        (kind, f"tasks.{name}"): spec.kind
        for name, spec in recipe.tasks.items()
        for kind in ("adapter", *recipe.wanted)
    }
    forms |= {
        (kind, f"the {kind}"): "masked_lm" for kind in ("language", "knowledge") if getattr(recipe, _TABLES[kind])
    }
    for (unit_kind, where), kind in forms.items():
        metric = recipe.budget(unit_kind).stops_by
        if metric in (None, "loss") or kind not in kinds:
            continue
        try:
            find_metric(str(metric), kinds[kind].form, f"training.early_stopping.metric, for {where}")
        except TaskError as error:
            raise ValueError(f'{error}; or "loss"') from error


def _refuse_names(recipe: RecipeTables) -> None:
    names = [*recipe.tasks, *recipe.languages, *recipe.knowledge, *recipe.trained]
    if len(names) == len(recipe.trained):
        raise ValueError("there is nothing to train; give a [tasks.NAME], a [languages.NAME] or a [knowledge.NAME]")
    fusions = {f"{kind}-{task}" for kind in UNIT_KINDS for task in recipe.tasks}
    for name in names:
        check_name(name, "the task")
        copy = re.fullmatch(r"(.+)@-?\d+", name)
        if (copy and copy[1] in recipe.tasks) or name in fusions:
            raise ValueError(f"the task {name!r}: what is made for another task is called so; give it another name")
        if name in (ALL, SHARED):
            raise ValueError(f"the task {name!r}: what is trained for all tasks is called so; give it another name")
        if names.count(name) > 1:
            raise ValueError(
                f"{name!r} is the name of two of tasks, languages, knowledge and what is trained; their adapters are on one "
                "model, so give each a name of its own"
            )


def _refuse_prompts(recipe: RecipeTables) -> None:
    described: dict[str, str] = {}
    for name, task in recipe.tasks.items():
        for text in task.described:
            other = described.setdefault(" ".join(text.lower().split()), name)
            if other != name:
                raise ValueError(f"tasks.{name}: {text!r} describes {other!r} too; give each task words of its own")


def _refuse_adapters_below(recipe: RecipeTables) -> None:
    for name, task in recipe.tasks.items():
        named = [("language", "languages", task.language)] if task.language is not None else []
        named += [("evaluate_in", "languages", place) for place in task.evaluate_in if task.language is not None]
        named += [("knowledge", "knowledge", one) for one in task.knowledge]
        named += [("beside", "knowledge", one) for one in task.beside]
        for key, table, one in named:
            known = [*getattr(recipe, table), *recipe.trained]
            if one not in known:
                there = f"there are {', '.join(known)}" if known else "there are none"
                raise ValueError(f"tasks.{name}.{key}: {one!r} is neither in [{table}] nor in [trained]; {there}")
        twice = [one for one in task.knowledge if [*task.knowledge, *task.beside].count(one) > 1]
        if twice:
            raise ValueError(f"tasks.{name}: the knowledge {twice[0]!r} is named twice; name it once")
        _refuse_second_stage(recipe, name)
        if task.beside and name not in recipe.targets:
            raise ValueError(f"tasks.{name}.beside: only for a target is anything fused; give targets = [{name!r}]")


def _refuse_second_stage(recipe: RecipeTables, name: str) -> None:
    """Refuse what a task cannot have where its base is trained on top of adapters."""
    task = recipe.tasks[name]
    if task.base == "frozen":
        if task.adapters == "trained":
            raise ValueError(
                f'tasks.{name}.adapters: "trained" is together with the base; say base = "trained" too, or leave it out'
            )
        return
    where = f'tasks.{name}.base: "trained" tunes the base'
    if not task.knowledge:
        raise ValueError(
            f"{where} over the adapters of its knowledge, and it has none; give knowledge = [...]; without any this is "
            f'full fine-tuning: targets = ["{name}"], controls = ["full"]'
        )
    if task.language or task.beside:
        key = "language" if task.language else "beside"
        raise ValueError(
            f"{where}, and the adapter of its {key} is for the base as it was; leave {key} out, or the base frozen"
        )
    if single := _of_single(recipe):
        raise ValueError(
            f"{where}, so that it has no adapter that {single[0]} could use; say fuse = false and controls without "
            f"{', '.join(single)}"
        )
