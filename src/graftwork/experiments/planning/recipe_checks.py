"""What cannot be asked for together in one recipe, refused before anything is read or trained."""

from __future__ import annotations

from graftwork.experiments.kinds import ALL, SHARED, UNIT_KINDS
from graftwork.experiments.planning.multi_task_adapters import served
from graftwork.experiments.planning.names import check_apart, check_name
from graftwork.experiments.planning.recipe_tables import RecipeTables, table_of
from graftwork.options import hint

_OF_A_SOURCE = ("intermediate", "intermediate_full")


def check_recipe(recipe: RecipeTables) -> None:
    """Refuse what does not go together.

    Raises:
        ValueError: Naming the key, and what can be asked in its place.
    """
    _refuse_targets(recipe)
    _refuse_sources_and_orders(recipe)
    _refuse_unservable(recipe)
    _refuse_one_pass(recipe)
    _refuse_names(recipe)
    _refuse_prompts(recipe)
    _refuse_adapters_below(recipe)


def _refuse_targets(recipe: RecipeTables) -> None:
    for target in recipe.targets:
        if target not in recipe.tasks:
            raise ValueError(f"the target {target!r} is no task; the tasks are {', '.join(recipe.tasks)}")
        if _weighs(recipe) and len(recipe.tasks) + len(recipe.tasks[target].beside) < 2:
            raise ValueError("a fusion needs two tasks or more; give more [tasks.NAME], fuse = false, or no targets")
    fused = ["adapter"] * bool(recipe.targets and _weighs(recipe))
    fused += ["knowledge"] * any(recipe.tasks[target].beside for target in recipe.targets)
    for kind in fused:
        if recipe.adapter_config(kind).norms == "own":
            table = table_of(kind)
            raise ValueError(
                f"{table}: {getattr(recipe, table)['method']} trains norms of its own, which cannot be fused or averaged; "
                f'say norms = "base" in [{table}], or no targets'
            )


def _weighs(recipe: RecipeTables) -> bool:
    return any(UNIT_KINDS[kind].weighs for kind in recipe.wanted)


def _refuse_sources_and_orders(recipe: RecipeTables) -> None:
    asking = [control for control in recipe.controls if control in _OF_A_SOURCE]
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
    over = [name for name, task in recipe.tasks.items() if task.language or task.knowledge]
    if of_all and over:
        raise ValueError(
            f"controls: {of_all[0]} trains all tasks at once, and tasks.{over[0]} is stacked on another adapter; leave one out"
        )


def _refuse_one_pass(recipe: RecipeTables) -> None:
    budget = recipe.budget("adapter")
    asked = {
        "accumulation": budget.accumulation > 1,
        "gradient_checkpointing": budget.gradient_checkpointing,
        "tensorboard": budget.tensorboard,
    }
    unable = [key for key, is_asked in asked.items() if is_asked]
    if recipe.together > 1 and unable:
        raise ValueError(
            f"together is {recipe.together} and training.{unable[0]} is {getattr(budget, unable[0])}: a pass of several adapters "
            "has one batch of each a step, and no checkpointing or TensorBoard of its own; leave one of the two out"
        )
    if recipe.together > 1 and recipe.adapter_config().injected:
        raise ValueError(
            f"together is {recipe.together} and the adapter is one of peft's, which is the same for all rows of a pass; leave "
            "together out, or take a method of graftwork"
        )


def _refuse_names(recipe: RecipeTables) -> None:
    names = [*recipe.tasks, *recipe.languages, *recipe.knowledge, *recipe.trained]
    if len(names) == len(recipe.trained):
        raise ValueError("there is nothing to train; give a [tasks.NAME], a [languages.NAME] or a [knowledge.NAME]")
    for name in names:
        check_name(name, "the task")
        check_apart(name, UNIT_KINDS, recipe.tasks)
        if name in (ALL, SHARED):
            raise ValueError(f"the task {name!r}: what is trained for all tasks is called so; give it another name")
        if names.count(name) > 1:
            raise ValueError(
                f"{name!r} is the name of two of tasks, languages, knowledge and what is trained; their adapters stand on one "
                "model, so give each a name of its own"
            )


def _refuse_prompts(recipe: RecipeTables) -> None:
    told: dict[str, str] = {}
    for name, task in recipe.tasks.items():
        for text in task.described:
            other = told.setdefault(" ".join(text.lower().split()), name)
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
            raise ValueError(f"tasks.{name}: the knowledge {twice[0]!r} is named twice; an adapter stands there once")
        _refuse_second_stage(recipe, name)
        if task.beside and name not in recipe.targets:
            raise ValueError(f"tasks.{name}.beside: only for a target is anything fused; give targets = [{name!r}]")


def _refuse_second_stage(recipe: RecipeTables, name: str) -> None:
    """Refuse what a task cannot have where its base is tuned over adapters.

    Raises:
        ValueError: Naming the key, and what can be asked in its place.
    """
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
    single = [kind for kind in recipe.wanted if UNIT_KINDS[kind].of_single] if recipe.targets else []
    if single:
        raise ValueError(
            f"{where}, so that it has no adapter that {single[0]} could use; say fuse = false and controls without "
            f"{', '.join(single)}"
        )


def _refuse_unservable(recipe: RecipeTables) -> None:
    """Refuse what adapters that serve several tasks cannot do.

    Raises:
        ValueError: Naming the table, and what can be asked in its place.
    """
    for table in ("language_adapter", "knowledge_adapter"):
        if len(recipe.adapter_config(table.removesuffix("_adapter")).members) > 1:
            raise ValueError(f"{table}: an adapter of several tasks learns one text here; leave its tasks out")
    shared = {f"methods.{name}": name for name in recipe.methods if served(recipe, name)}
    if served(recipe):
        shared["adapter"] = ""
        _refuse_single(recipe)
    for where, method in shared.items():
        _refuse_tasks_of(recipe, where, method)


def _refuse_single(recipe: RecipeTables) -> None:
    """Refuse, where ``[adapter]`` is one adapter for all tasks, what needs an adapter of a single task."""
    name = recipe.adapter["method"]
    single = [kind for kind in recipe.wanted if UNIT_KINDS[kind].of_single] if recipe.targets else []
    if single:
        raise ValueError(
            f"adapter: {name} is one adapter for all tasks, and {single[0]} needs one of a single task; say fuse = false and "
            'controls = ["mt_shared"], or put it into a table [methods.NAME] and leave [adapter] to another method'
        )
    if recipe.together > 1:
        raise ValueError(
            f"together is {recipe.together} and the adapter is {name}, which all tasks train at once already; leave together out"
        )


def _refuse_tasks_of(recipe: RecipeTables, where: str, method: str) -> None:
    tasks = served(recipe, method)
    strange = next((task for task in tasks if task not in recipe.tasks), None)
    if strange is not None:
        near = hint(strange, [*recipe.tasks])
        raise ValueError(
            f"{where}.tasks: {strange!r} is no task of this recipe; {f'{near} ' if near else ''}the tasks are "
            f"{', '.join(recipe.tasks)}. Leave tasks out and all of them learn together"
        )
    if len(tasks) < 2:
        raise ValueError(
            f"{where}.tasks names {tasks[0]} alone; name two or more that learn together (every other task then joins by what "
            "is its own), or leave tasks out"
        )
    over = next((name for name, task in recipe.tasks.items() if task.language or task.knowledge or task.beside), None)
    if over is not None:
        raise ValueError(
            f"{where}: one adapter serves all tasks, and tasks.{over} is stacked on or beside another one; leave one of the two out"
        )
