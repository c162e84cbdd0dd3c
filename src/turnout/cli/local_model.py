"""`turnout local-model`: a small language model on this machine, to try things without a provider."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import click

from turnout.cli.connection import print_json

PORT = 9090


@click.command("local-model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=PORT, show_default=True, type=click.IntRange(0, 65_535), help="Port; 0 takes a free one."
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A GGUF file. Default: the small Gemma of the extra local-model.",
)
@click.option("--threads", default=0, type=click.IntRange(0, 1024), help="Threads that compute. Default: one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print where it listens as JSON.")
def local_model(host: str, port: int, weights: Path | None, threads: int, as_json: bool) -> None:
    """Serve a small language model with an OpenAI-compatible API, until Ctrl-C.

    It needs the extra: pip install 'turnout[local-model]'.
    """
    from turnout.local_model import NAME, serve_model

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with serve_model(host, port, weights, threads) as url:
        name = NAME if weights is None else weights.stem
        if as_json:
            print_json({"url": url, "model": name})
        else:
            click.echo(f"{name} answers at {url}; Ctrl-C ends it")
        sys.stdout.flush()
        ended.wait()
