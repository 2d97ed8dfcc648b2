"""The command line as ``python -m graftwork``."""

from graftwork.cli import app

if __name__ == "__main__":
    app(prog_name="graftwork")
