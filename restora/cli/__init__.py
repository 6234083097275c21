"""The command line: one module a command. A module of this package whose name has no leading underscore defines
`register(app)`; nothing else is needed to add a command. Nothing slow is imported before a command runs."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import typer

from restora import __version__
from restora.errors import RestoraError, UnknownModel, UsageError

_EPILOG = (
    "Exit codes: 0 all done, 1 some inputs failed (the rest is done and named), 2 wrong usage, 130 stopped by Ctrl-C."
)


def make_app() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="restora",
        help="Restores photographs: enlarges, sharpens, cleans.",
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _root(
        version: bool = typer.Option(
            False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ) -> None:
        pass

    for module in sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")):
        importlib.import_module(f"{__name__}.{module}").register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restora {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs a command and turns Restora's own errors into one sentence and an exit code."""
    try:
        make_app()(arguments, standalone_mode=True)
    except RestoraError as error:
        typer.echo(f"restora: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError | UnknownModel) else 1)
    except BrokenPipeError:  # the reader of our output went away (for example `| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
