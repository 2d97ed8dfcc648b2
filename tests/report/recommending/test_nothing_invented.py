"""Every number that is printed is a fact's, a count, a need or a measurement: none is made up."""

from __future__ import annotations

import ast
import inspect
import io
import itertools
import json
import re
import string
from collections.abc import Iterator

import pytest
from rich.console import Console

from graftwork.report.recommending import (
    Advice,
    Figure,
    Needs,
    advice_as_dict,
    print_advice,
    ranking,
)
from graftwork.report.recommending.base import CANDIDATES
from graftwork.report.recommending.ranking import BOUNDS, FACTS, RULES
from tests.report.recommending.made_up import BASE, advice, figure

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def numbers(text: str) -> set[str]:
    return {found.replace(",", "") for found in NUMBER.findall(text)}


def cases() -> Iterator[Needs]:
    sources = [{}, {"big": 392_711}, {"tiny": 97}, {f"n{n}": 51_000 + n for n in range(8)}]
    for rows, more, limit, latency in itertools.product(
        (93, 2_497, 9_433, 67_351), sources, (None, 2_000_033), (None, 1.07)
    ):
        for on in (False, True):
            kind = "text_to_text" if on else "classification"
            flags = {"changing": on, "keep_base": on, "keep_old": on, "kind": kind}
            yield Needs(
                target="t",
                tasks={"t": rows, "other": 777},
                sources=more,
                weights_a_task=limit,
                latency=latency,
                **flags,
            )


MEASURED: list[list[Figure]] = [
    [],
    [
        figure("head", 0.5173, 0.0131, milliseconds=11.37),
        figure("pfeiffer", 0.7179, 0.0117, milliseconds=12.41, seeds=5),
        figure("fusion", 0.7831, None, milliseconds=14.93, weights=21_252_099),
        figure("own", 0.7411, 0.0119, label="fusion of own alone"),
    ],
]


def allowed(needs: Needs, figures: list[Figure], shown: Advice) -> set[str]:
    """What may stand in the output, put together without looking at it."""
    texts = [f"{fact.says} {fact.source}" for fact in FACTS.values()]
    texts += [
        str(value) for value in (*(BOUNDS[key] for key in ("small", "large", "smallest")), BASE.parameters, needs.pool)
    ]
    texts += [f"{rows} {name}" for name, rows in {**needs.tasks, **needs.sources}.items()]
    texts += [str(needs.weights_a_task), f"{needs.latency or 0:g}"]
    for key, count in BASE.counts.items():
        weights = count.a_task(needs.many)
        assert weights is not None, key
        texts += [str(weights), str(count.own), f"{weights / BASE.parameters:.3%}"]
    bare = next((one.milliseconds for one in figures if one.method == "head"), None)
    for one in figures:
        texts += [f"{100 * one.mean:.1f}", f"{100 * (one.sd or 0):.1f}", str(one.seeds), str(one.weights)]
        texts += [str(value) for value in (one.mean, one.sd)]
        if one.milliseconds and bare:
            texts += [f"{one.milliseconds:.2f}", f"{one.milliseconds / bare:.2f}"]
    texts += [str(place + 1) for place in range(len(shown.choices))]  # ranks
    return {number for text in texts for number in numbers(text)}


@pytest.mark.parametrize("figures", MEASURED, ids=["nothing measured", "four measured"])
def test_no_number_is_invented(figures: list[Figure]) -> None:
    seen: set[str] = set()
    for needs in cases():
        found = advice(needs, *figures)
        out = io.StringIO()
        print_advice(found, Console(file=out, width=400))
        told = numbers(out.getvalue())
        assert told <= allowed(needs, figures, found), sorted(told - allowed(needs, figures, found))
        seen |= told
    expected = {"71.8", "5", "12.41"} if figures else {"250", "0.2"}  # the literature gives way to what was measured
    assert {"5000", "40000", "2000033", "1.07", "83.75", *expected} <= seen, "the test looks at nothing"


def test_json_says_the_same_and_comes_back() -> None:
    for needs in itertools.islice(cases(), 0, None, 7):
        found = advice(needs, *MEASURED[1])
        plain = json.loads(json.dumps(advice_as_dict(found)))
        assert plain == advice_as_dict(found)
        assert [c["method"] for c in plain["choices"]] == [c.candidate.key for c in found.choices]
        for written, choice in zip(plain["choices"], found.choices, strict=True):
            assert [r["text"] for r in written["reasons"]] == [r.text for r in choice.reasons]
            assert all(r["evidence"] for r in written["reasons"]), "a reason without evidence"
            assert (written["measured"] is None) == (choice.figure is None)


def test_every_reason_says_what_it_rests_on() -> None:
    bases = {
        one.basis
        for needs in cases()
        for choice in advice(needs, *MEASURED[1]).choices
        for reason in choice.reasons
        for one in reason.evidence
    }
    assert bases == {"measured here", "counted", "literature", "as given", "by definition"}


def test_no_rule_has_a_number_of_its_own() -> None:
    for name, _, table in RULES:
        for conditions, words in table.items():
            for word in (name, conditions, *words):
                assert not re.search(r"\d", re.sub(r"\{[^}]*\}", "", word)), f"{name}: {word!r}"


def test_the_evaluator_has_no_number_of_its_own() -> None:
    tree = ast.parse(inspect.getsource(ranking))
    documentation = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
    }
    formats = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.FormattedValue) and node.format_spec
        for part in ast.walk(node.format_spec)
    }
    # the version of Python, and what turns percent into a ratio
    tolerated = {id(part) for node in tree.body if isinstance(node, ast.If) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in formats | tolerated or node.value in documentation:
            continue
        if isinstance(node.value, str):
            assert not re.search(r"\d", node.value), f"line {node.lineno}: {node.value!r}"
        elif isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            assert node.value in (0, 1, 100), f"line {node.lineno}: {node.value!r}"  # none, more than one, percent


def test_every_rule_speaks() -> None:
    spoken = {
        r.rule for needs in cases() for figures in MEASURED for c in advice(needs, *figures).choices for r in c.reasons
    }
    names = {name for name, _, _ in RULES}
    assert names - spoken == {"stands_in_the_base", "one_task"}, "the base has everything, and there are two tasks"
    assert spoken <= names


def test_every_rule_is_made_of_what_is_known() -> None:
    """A condition that nothing has would never hold, and a fact that is not there would fail."""
    needs = Needs(target="t", tasks={"t": 1}, latency=2.0)
    figures = {key: figure(key, 0.5, milliseconds=1.0) for key in ("pfeiffer", "head", "own", "copies")}
    known: set[str] = {"measured"}
    for candidate in CANDIDATES:
        mine = figures.get(candidate.key)
        known |= {
            candidate.key,
            candidate.shape,
            *vars(candidate),
            *ranking._of_needs(needs),
            *vars(BASE.counts["pal"]),
        }
        known |= ranking._of_figures(mine, figures, 2.0).keys() | {"base", "weights", "limit", "within"}
    for name, about, table in RULES:
        assert about in ("need", "quality"), name
        for conditions, (stance, text, *grounds) in table.items():
            for word in conditions.replace("|", " ").split():
                assert word.removeprefix("not_") in known, f"{name}: {word}"
            assert {field for _, field, _, _ in string.Formatter().parse(text) if field} <= known, f"{name}: {text}"
            assert stance in ("for", "against", "out", "meets", "note"), name
            other = {"definition", "given", "counted", "measured", "own", "copies"}
            assert grounds and {*grounds} <= FACTS.keys() | other, f"{name}: {grounds}"
    used = {one for _, _, table in RULES for _, _, *grounds in table.values() for one in grounds}
    assert FACTS.keys() <= used, "a fact that nothing points to"
