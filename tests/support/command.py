"""The command line, called in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from graftwork.cli import app


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result) -> str:
    """The message of a command that failed as it should: on stderr alone, no traceback."""
    assert result.exit_code == 1 and result.stdout == "" and isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.stderr
    return result.stderr.strip()
