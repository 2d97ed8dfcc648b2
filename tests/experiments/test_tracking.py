"""Curves and results are also written to the trackers that a recipe names, and to no others; nothing leaves the machine here."""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from graftwork.experiments import Recipe, Unit, Watcher, run
from graftwork.experiments.planning.checks import check_before
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 2")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the user's counts, and a connection to another machine is an error."""
    for name in ("WANDB_DISABLED", "WANDB_PROJECT", "WANDB_DIR", "DISABLE_MLFLOW_INTEGRATION", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        assert isinstance(address, (str, bytes)) or address[0] in ("127.0.0.1", "::1", "localhost"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)


def tracked(folder: Path, tracking: str, recipe: str = SHORT) -> Path:
    """The folder of a tiny run with a table of trackers."""
    path = make_tiny(folder, f"{recipe}\n[tracking]\n{tracking}\n")
    run(Recipe.read(path), folder / "first", root=folder)
    return folder / "first"


def wandb_runs(out: Path) -> list[dict[str, Any]]:
    """What the files of Weights & Biases in a run's folder say: the name of each run, its group, and the last values."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for file in sorted((out / "wandb").glob("offline-run-*/*.wandb")):
        one: dict[str, Any] = {"values": {}}
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                one |= {"name": record.run.display_name, "group": record.run.run_group, "project": record.run.project}
            elif kind == "history":
                keys = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                one["values"] |= {key: json.loads(value) for key, value in keys.items()}
            elif kind == "exit":
                one["exit"] = record.exit.exit_code
        found.append(one)
    return found


def records(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB, in them parts with checksum, length and type."""
    at, whole = 7, b""  # after the header
    while at + 7 <= len(data):
        if (left := -at % 2**15) and left < 7:
            at += left  # the rest of a block
        size, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # the only part of a record, or the last
            yield whole
            whole = b""


def mlflow_runs(store: str) -> dict[str, Any]:
    """The runs in a store of MLflow by their names."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    every = [
        one for experiment in client.search_experiments() for one in client.search_runs([experiment.experiment_id])
    ]
    return {one.info.run_name: one for one in every}


UNITS = ["adapter/a/0", "adapter/b/0", "fusion/a/0"]


def test_every_training_is_a_run_of_wandb_with_its_name_and_the_table_is_one_more(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    out = tracked(tmp_path, 'to = ["wandb"]\nproject = "adapters"')
    runs = wandb_runs(out)
    assert sorted(one["name"] for one in runs) == [f"first/{unit}" for unit in [*UNITS, "results"]]
    assert {(one["project"], one["group"], one["exit"]) for one in runs} == {("adapters", "first", 0)}
    for one in runs:
        if one["name"] == "first/results":
            assert one["values"]["results/nrows"] == 3, one["values"]
        else:
            score = json.loads((out / "units" / one["name"].removeprefix("first/") / "result.json").read_text())
            assert one["values"]["eval/score"] == pytest.approx(score["curves"]["score"][-1][1])
            assert "train/loss" in one["values"]
    import wandb

    assert wandb.run is None
    assert not (out / "mlflow.db").exists() and not (out / "tensorboard").exists()


def test_mlflow_has_a_store_in_the_folder_and_the_table_in_it(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    out = tracked(tmp_path, 'to = ["mlflow"]\nname = "study"')
    found = mlflow_runs(f"sqlite:///{out / 'mlflow.db'}")
    assert sorted(found) == [f"study/{unit}" for unit in [*UNITS, "results"]]
    assert {one.info.status for one in found.values()} == {"FINISHED"}
    for unit in UNITS:
        score = json.loads((out / "units" / unit / "result.json").read_text())["curves"]["score"][-1][1]
        assert found[f"study/{unit}"].data.metrics["eval_score"] == pytest.approx(score)
    table = next((out / "mlartifacts").rglob("results.md")).read_text()
    assert "| a | fusion |" in table and "| b | adapter |" in table
    assert not mlflow.is_tracking_uri_set() and mlflow.active_run() is None
    run(Recipe.read(tmp_path / "recipe.toml"), out, root=tmp_path)  # the same command again tells nothing new
    assert len(mlflow_runs(f"sqlite:///{out / 'mlflow.db'}")) == 4


def test_the_users_own_store_of_mlflow_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mine.db'}")
    monkeypatch.chdir(tmp_path)  # where MLflow puts what it makes for such a store
    out = tracked(tmp_path, 'to = ["mlflow"]', SHORT.replace('["a"]', "[]"))
    assert sorted(mlflow_runs(f"sqlite:///{tmp_path / 'mine.db'}")) == [
        "first/adapter/a/0",
        "first/adapter/b/0",
        "first/results",
    ]
    assert not (out / "mlflow.db").exists()


def test_adapters_of_one_pass_are_one_run_with_the_curves_of_each(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    out = tracked(tmp_path, 'to = ["wandb", "tensorboard"]', f"together = 2\n{SHORT}")
    runs = {one["name"]: one for one in wandb_runs(out)}
    assert sorted(runs) == ["first/fusion/a/0", "first/results", "first/together/a-0"]
    assert {"eval/a/score", "eval/b/score", "eval/b/loss"} <= {*runs["first/together/a-0"]["values"]}
    logs = sorted(str(file.parent.relative_to(out)) for file in (out / "tensorboard").rglob("events.*"))
    assert logs == ["tensorboard/fusion/a/0", "tensorboard/results", "tensorboard/together/a-0"]


def test_a_training_that_fails_is_failed_there_too(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    path = make_tiny(tmp_path, f'{SHORT}\n[tracking]\nto = ["wandb"]\n')
    with pytest.raises(gw.TrainingError, match="the results are lost"):
        run(Recipe.read(path), tmp_path / "first", root=tmp_path, watcher=Fails())
    assert {one["name"]: one["exit"] for one in wandb_runs(tmp_path / "first")} == {
        "first/adapter/a/0": 1,
        "first/adapter/b/0": 0,
        "first/results": 0,
    }


class Fails(Watcher):
    """Fails at the first score of one training."""

    def logged(self, unit: Unit, epoch: float, values: Mapping[str, float]) -> None:
        if unit.id == "adapter/a/0" and "eval_score" in values:
            raise gw.TrainingError("the results are lost")


def test_no_tracker_is_on_by_being_installed_and_each_can_be_turned_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DISABLED", "true")
    monkeypatch.setenv("DISABLE_MLFLOW_INTEGRATION", "TRUE")
    for name in ("wandb", "mlflow"):  # they would not be asked for if they were missing
        monkeypatch.setitem(sys.modules, name, None)
    out = tracked(tmp_path, 'to = ["wandb", "mlflow"]', SHORT.replace('["a"]', "[]"))
    assert {path.name for path in out.iterdir()}.isdisjoint(["wandb", "mlflow.db", "mlartifacts", "tensorboard"])


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_one_that_is_not_installed_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if tracker == "tensorboard" else tracker, None)
    recipe = Recipe.read(make_tiny(tmp_path, f'{SHORT}\n[tracking]\nto = ["{tracker}"]\n'))
    with pytest.raises(gw.RecipeError, match=rf"tracking.to: '{tracker}' is not installed .*graftwork\[trackers\]"):
        check_before(recipe, str(tmp_path / "base"))


def test_one_that_is_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(gw.RecipeError, match=r"tracking.to.0: .*did you mean 'wandb'"):
        Recipe.read(make_tiny(tmp_path, f'{SHORT}\n[tracking]\nto = ["wandbb"]\n'))


def test_a_run_that_has_begun_may_get_another_tracker(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    path = make_tiny(tmp_path, SHORT)
    recipe = Recipe.read(path)
    first = run(recipe, tmp_path / "first", root=tmp_path)
    path.write_text(f'{SHORT}\n[tracking]\nto = ["tensorboard"]\n')
    assert run(Recipe.read(path), tmp_path / "first", root=tmp_path) == first
