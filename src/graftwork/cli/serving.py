"""The command that answers requests over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graftwork.cli.shared import Command, Root, UnitSeed, app, one_line, put, quiet


@app.command(cls=Command)
def serve(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN-or-FOLDER...",
            help="What is served: folders that `graftwork run` wrote into, adapters that were saved, or folders of these.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="The base of the saved adapters: a folder, a package or a name on the Hub; by default the run's."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes one that is free.", min=0, max=65535)] = 8080,
    max_batch: Annotated[int, typer.Option(help="The most rows of a batch.", min=1)] = 32,
    max_wait_ms: Annotated[float, typer.Option(help="How long a row waits for others, at most.", min=0)] = 2.0,
    max_queue: Annotated[int, typer.Option(help="The most rows that wait; more are refused with 429.", min=1)] = 1024,
    max_rows: Annotated[int, typer.Option(help="The most rows of a request; more are refused with 413.", min=1)] = 256,
    max_bytes: Annotated[int, typer.Option(help="The most bytes of a request.", min=1)] = 2**20,
    deadline_ms: Annotated[float, typer.Option(help="After this a request is given up with 504.", min=1)] = 30_000.0,
    margin: Annotated[
        float, typer.Option(help="Where the task of a text is found, how much it has to lead.", min=0, max=1)
    ] = 0.2,
    max_length: Annotated[
        int | None, typer.Option(help="The most tokens of a text, with --base; by default what the model takes.", min=1)
    ] = None,
    max_resident: Annotated[
        int | None,
        typer.Option(help="The most saved adapters in memory; others are read when they are asked for.", min=1),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="A folder of saved adapters from which tasks are added while the server runs.")
    ] = None,
    admin_token: Annotated[
        str | None,
        typer.Option(
            help="Who has this token may add and remove tasks; without it nobody may.", envvar="GRAFTWORK_ADMIN_TOKEN"
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="ray[:ADDRESS]",
            help="Serve on Ray: on this machine, or on the cluster at an address; see --replicas.",
        ),
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(help="With --on: how many processes have the base; a task's requests go to one of them.", min=1),
    ] = 1,
    seed: UnitSeed = None,
    root: Root = None,
) -> None:
    """Answer requests over HTTP for the tasks of runs and for saved adapters.

    Rows of many requests and of many tasks are computed in one batch. The
    page at / tries a task; POST /v1/predict answers with the JSON that
    `graftwork predict` prints. GET /v1/tasks lists the tasks, /metrics has
    counts for Prometheus. Ctrl-C answers what has been asked, and ends.

    For example:

        graftwork serve runs/recipe

        graftwork serve adapters/ --base bert-base-uncased --port 9000

        graftwork serve runs/recipe --store more/ --admin-token SECRET

        graftwork serve runs/recipe --on ray --replicas 2

        curl localhost:8080/v1/predict --json '{"task": "rte", "texts": ["A cat sleeps.", "An animal rests."]}'
    """
    with one_line():
        from graftwork.errors import ConfigError
        from graftwork.serving.server import Sources, serve
        from graftwork.serving.service import Limits

        quiet()
        sources = Sources(tuple(folders or ()), base, store, seed, root, margin, max_length, max_resident)
        limits = Limits(max_batch, max_wait_ms, max_queue, max_rows, max_bytes, deadline_ms)
        where: dict[str, Any] = {"host": host, "port": port, "limits": limits}

        def ready(address: str) -> None:
            put(f"serving on {address}")

        if on is None:
            serve(sources, **where, admin_token=admin_token, ready=ready)
            return
        engine, _, address = on.partition(":")
        if engine != "ray":
            raise ConfigError(f"--on is {on!r}; it begins with ray")
        if admin_token is not None:
            raise ConfigError("on Ray tasks cannot be changed while the server runs; leave --admin-token out")
        try:
            from graftwork.serving.on_ray import serve_on_ray
        except ImportError as error:
            raise ConfigError(f"graftwork serve needs {error.name}: pip install 'graftwork[serve]'") from error
        serve_on_ray(sources, address=address, replicas=replicas, **where, ready=ready)
