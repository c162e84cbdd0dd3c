"""`turnout up`, which also writes down when the commit of a pointer was over: a line a flip in `commits.log`."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from turnout.server import serve
from turnout.settings import Settings

COMMITS = "commits.log"


def main() -> None:
    """Serve; takes the options of `turnout up` that a benchmark needs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--traffic-port", type=int, required=True)
    arguments = parser.parse_args()
    settings = Settings(state=arguments.state, port=arguments.port, traffic_port=arguments.traffic_port)
    log = os.open(arguments.state / COMMITS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(effect: str) -> None:
        if effect == "after Activate":
            os.write(log, f"{time.time():.6f}\n".encode())

    serve(settings, lambda _: None, note)


if __name__ == "__main__":
    main()
