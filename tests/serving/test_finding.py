"""A request that names no task: it is found by the run's finder, or refused under a margin."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftwork.experiments import Recipe, run
from graftwork.inference import Predictor, RunFinder
from tests.support.tiny_run import RECIPE, make_tiny
from tests.support.tiny_serving import serving

TEXT = "the film was good"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two targets whose texts are of one sort, so that no finder can tell them apart for sure."""
    folder = tmp_path_factory.mktemp("found")
    recipe = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 1").replace(
        'targets = ["a"]', 'targets = ["a", "b"]'
    )
    run(Recipe.read(make_tiny(folder, recipe.replace("copies = 2\n", ""))), folder / "run", root=folder)
    return folder / "run"


def test_the_task_with_the_best_score_is_asked(done: Path) -> None:
    with serving(done, margin=0.0) as running:
        status, found = running.predict(texts=[TEXT])
    (wanted,) = RunFinder(done, margin=0.0).find([TEXT])
    assert status == 200 and found["task"] == wanted.name == wanted.candidates[0][0]
    assert found["scores"] == pytest.approx(dict(wanted.candidates), abs=1e-4)
    (alone,) = Predictor(done, wanted.name).predict([{"text": TEXT}])
    assert found["predictions"][0]["probabilities"] == pytest.approx(alone.probabilities, abs=1e-5)


def test_where_it_is_not_clear_the_request_is_refused_with_the_scores(done: Path) -> None:
    with serving(done, margin=0.9) as running:
        status, said = running.predict(texts=[TEXT])
        assert status == 422 and "is not clear" in said["error"] and "'a' 0." in said["error"]
        assert '"task": NAME' in said["error"]
        status, said = running.predict(rows=[{"text": TEXT}])
        assert status == 422 and "give texts instead of rows" in said["error"]
