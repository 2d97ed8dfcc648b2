"""Repositories that are not there, private, too large, or hold something else: refused by name, and nothing of them is kept."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.hub.test_round_trip import computed, fresh
from tests.support.hub_server import OTHER_TOKEN, Hub


def saved(folder: Path, form: str = "graftwork", config: gw.AdapterConfig | None = None) -> Path:
    _, adapters = fresh(a=config or gw.Pfeiffer())
    adapters.save("a", folder, format=form)
    return folder


def refused(hub: Hub, message: str, *, where: str = "org/a", **options: Any) -> None:
    """It is refused with a message, and the model is as it was."""
    _, adapters = fresh()
    with pytest.raises(gw.HubError, match=message):
        adapters.load(where, **options)
    assert adapters.names == ()


def test_a_private_repository_wants_a_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapters = fresh(a=gw.Pfeiffer())
    adapters.push("a", "org/a", private=True)
    assert hub.repositories["org/a"].private
    again, others = fresh()
    others.load("org/a")
    assert torch.equal(computed(again, others, "a"), computed(model, adapters, "a"))
    monkeypatch.delenv("HF_TOKEN")
    refused(
        hub, r"has no repository org/a that you may read; if it is private, log in \(`hf auth login`, or set HF_TOKEN\)"
    )
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    refused(hub, "has no repository org/a that you may read")


def test_a_repository_that_is_not_there(hub: Hub) -> None:
    refused(
        hub, r"load\('runs/mrpc'\), which is no folder here: the Hub has no repository runs/mrpc", where="runs/mrpc"
    )


@pytest.mark.parametrize("size", [10 * 10**9, 10**15])
def test_ten_gigabytes_are_not_asked_for(hub: Hub, tmp_path: Path, size: int) -> None:
    hub.put("org/a", saved(tmp_path / "a"), sizes={"adapter.safetensors": size})
    refused(hub, rf"announces [\d,]+ bytes \(adapter.safetensors alone {size:,d}\), and for this model at most")
    assert hub.downloaded() == []


def test_json_of_a_gigabyte_is_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/a", saved(tmp_path / "a"), sizes={"graftwork.json": 10**9})
    refused(hub, "graftwork.json announces 1,000,000,000 bytes; no such file is larger than")
    assert hub.downloaded() == []


def test_a_million_files_are_not_listed_to_the_end(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/a", saved(tmp_path / "a"))
    (files,) = hub.repositories["org/a"].commits.values()
    files.update({f"more/{n}": files["graftwork.json"] for n in range(10_001)})
    refused(hub, "lists more than 10,000 files")
    assert hub.downloaded() == []


def test_of_peft_a_pickle_is_never_downloaded(hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", "peft", gw.LoRA(targets=["query"]))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    hub.put("org/a", folder)
    refused(
        hub,
        "its weights only in adapter_model.bin, a pickle, which may run code when it is read; nothing was downloaded",
    )
    assert hub.downloaded() == []


class Runs:
    """What runs a function when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("it-ran"),))


def test_of_adapterhub_a_pickle_is_read_as_tensors_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path / "a", "adapterhub")
    assert (folder / "pytorch_adapter.bin").is_file()
    hub.put("org/good", folder)
    assert fresh()[1].load("org/good") == "a"
    (folder / "pytorch_adapter.bin").write_bytes(pickle.dumps({"weights": Runs()}))
    hub.put("org/a", folder)
    _, adapters = fresh()
    with pytest.raises(gw.CheckpointError, match=r"pytorch_adapter\.bin is damaged, or holds more than tensors"):
        adapters.load("org/a")
    assert adapters.names == () and not Path("it-ran").exists()


@pytest.mark.parametrize("form", ["graftwork", "adapterhub", "peft"])
def test_only_files_of_the_format_are_downloaded(hub: Hub, tmp_path: Path, form: str) -> None:
    folder = saved(tmp_path / "a", form, gw.LoRA(targets=["query"]))
    written = sorted(path.name for path in folder.iterdir())
    for name in (
        "modeling_evil.py",
        "setup.py",
        "adapters/evil.py",
        "pytorch_model.bin",
        "training_args.bin",
        "x.ipynb",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise SystemExit")
    hub.put("org/a", folder)
    fresh()[1].load("org/a")
    assert sorted({*hub.downloaded()}) == written
    assert not list((tmp_path / "cache").rglob("*.py"))


def test_nothing_is_sent_for_statistics(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/a", saved(tmp_path / "a"))
    fresh()[1].load("org/a")
    assert not [request for request in hub.requests if "telemetry" in request or request.startswith("POST")]


def test_a_repository_without_an_adapter(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    hub.put("org/a", tmp_path / "a")
    refused(
        hub,
        r"holds no adapter: none of graftwork\.json, .* \(it has config\.json\); if the adapter is in a folder inside",
    )
    refused(hub, "has no such folder or file", subfolder="nowhere")
    _, adapters = fresh()
    for subfolder in ("../x", "/x", "", "a\\b"):
        with pytest.raises(gw.ConfigError, match="give the path of a folder inside the repository"):
            adapters.load("org/a", subfolder=subfolder)


def test_weights_that_are_missing(hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", "adapterhub")
    (folder / "pytorch_adapter.bin").unlink()
    hub.put("org/a", folder)
    refused(hub, r"has adapter_config\.json, and its weights in none of adapter\.safetensors, pytorch_adapter\.bin")
    assert hub.downloaded() == []


# -- pushing -----------------------------------------------------------------------------------------------------------


def test_without_a_token_nothing_is_made(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapters = fresh(a=gw.Pfeiffer())
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(gw.HubError, match=r"you may not do that in org/a .* log in with a token that may"):
        adapters.push("a", "org/a")
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    with pytest.raises(gw.HubError, match="don't have the rights to create a model under org"):
        adapters.push("a", "org/a")
    assert hub.repositories == {}


def test_what_should_be_private_is_not_sent_where_all_can_read_it(hub: Hub) -> None:
    _, adapters = fresh(a=gw.Pfeiffer())
    adapters.push("a", "org/a", private=False)
    before = hub.files("org/a")
    with pytest.raises(gw.HubError, match="the repository is public, and should be private; nothing was sent"):
        adapters.push("a", "org/a", private=True)
    assert hub.files("org/a") == before


def test_another_adapter_is_not_replaced(hub: Hub) -> None:
    _, adapters = fresh(a=gw.Pfeiffer(), b=gw.LoRA(targets=["query"]))
    adapters.push("a", "org/a")
    with pytest.raises(gw.HubError, match="holds the adapter 'a', not the adapter 'b'; nothing was sent"):
        adapters.push("b", "org/a")
    with pytest.raises(gw.HubError, match=r"holds an adapter in another format \(graftwork\)"):
        adapters.push("b", "org/a", format="peft")
    assert len(hub.repositories["org/a"].commits) == 2


def test_files_of_the_push_before_go_and_those_of_others_stay(hub: Hub) -> None:
    _, adapters = fresh(a=gw.Pfeiffer(), b=gw.Pfeiffer())
    adapters.push(gw.Stack("a", "b"), "org/a", format="adapterhub")
    repository = hub.repositories["org/a"]
    now = repository.commits[repository.refs["main"]]
    some = now["a/pytorch_adapter.bin"]
    repository.commit({**now, "notes.txt": some, "a/adapter.safetensors": some, "data/rows.bin": some})
    adapters.push(gw.Stack("a", "b"), "org/a", format="adapterhub")
    assert {"notes.txt", "data/rows.bin", ".gitattributes", "a/pytorch_adapter.bin"} < hub.files("org/a").keys()
    assert "a/adapter.safetensors" not in hub.files("org/a"), "which a reader would have preferred"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"license": "Apache 2"}, "license is 'Apache 2'; give it as the Hub names it"),
        ({"tags": ["a\nb"]}, "a tag is"),
        ({"revision": "0" * 40}, "what is sent goes to a branch"),
        ({"base_model": "../base"}, "give the id of a model of the Hub"),
        ({"format": "onnx"}, "format is 'onnx'"),
    ],
)
def test_options_are_checked_before_anything_is_asked(hub: Hub, options: dict[str, Any], message: str) -> None:
    _, adapters = fresh(a=gw.Pfeiffer())
    with pytest.raises(gw.ConfigError, match=message):
        adapters.push("a", "org/a", **options)
    with pytest.raises(gw.ConfigError, match="cannot be the id of a repository"):
        adapters.push("a", "a")
    with pytest.raises(gw.UnknownNameError):
        adapters.push("b", "org/a")
    assert hub.requests == []
