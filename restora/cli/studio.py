"""`restora studio`: the local web page and REST interface."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Examples: restora studio   restora studio --host 0.0.0.0 --share-folder scans/")
    def studio(
        port: Annotated[
            int,
            typer.Option("-p", "--port", min=0, max=65535, help="Port; the next free one when it is taken, 0 for any."),
        ] = 7860,
        host: Annotated[
            str,
            typer.Option(
                "--host", help="Address to listen at. Any but this machine's own needs a token, which is made."
            ),
        ] = "127.0.0.1",
        token: Annotated[
            str | None,
            typer.Option("--token", envvar="RESTORA_TOKEN", help="The token that every request must carry."),
        ] = None,
        share_folder: Annotated[
            Path | None, typer.Option("--share-folder", help="A folder whose pictures the page offers, read only.")
        ] = None,
        no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the browser.")] = False,
        workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="Jobs that run at once.")] = 1,
        allow_host: Annotated[
            list[str] | None,
            typer.Option("--allow-host", help="A further name by which the server may be called (behind a proxy)."),
        ] = None,
        state: Annotated[
            Path | None, typer.Option("--state", help="Folder for pictures, jobs and results; by default in the cache.")
        ] = None,
    ) -> None:
        """Open the studio: a page in the browser, served from this machine, to see, steer and compare.

        Nothing is loaded from the internet and nothing leaves the machine. The queue survives a restart.
        """
        import webbrowser

        from restora.studio.server import AlreadyRunning, serve
        from restora.studio.settings import settle

        settings = settle(state, host, port, token or None, share_folder, workers, tuple(allow_host or ()))
        try:
            serve(settings, lambda text: typer.echo(text, err=True), browser=not no_browser)
        except AlreadyRunning as running:
            if no_browser or not running.url:
                raise
            typer.echo(f"The studio runs already: {running.url}", err=True)
            webbrowser.open(running.url)
