"""Replays recordings against a release in a sandbox: where the parts meet, and the process that a gate starts for it.

    python -m turnout.replay_process SPEC.json

It writes JSON lines: {"say": …}, {"done": 3, "of": 50, "task": …, "verdict": …}, and at the end {"report": DIGEST} or
{"error": …}. It ends, with all that it started, when its standard input is closed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from turnout.artifacts.open import open_store
from turnout.artifacts.release import read_release
from turnout.domain.captures import redact_patterns
from turnout.domain.errors import InvalidRequest, TurnoutError
from turnout.domain.grants import Grant
from turnout.domain.models import Capture, Digest, Release
from turnout.domain.recordings import Recording
from turnout.domain.replay_document import LARGEST_REPORT, render_within
from turnout.domain.replay_lines import read_recordings
from turnout.domain.replays import ReplayReport, TaskDiff, Unreadable
from turnout.gateway.accounts import Accounts
from turnout.gateway.asgi import Application
from turnout.gateway.config import load_gateway_config, resolve_secret
from turnout.gateway.ledger import MemoryLedger
from turnout.gateway.values import GatewayConfig
from turnout.playback import Playback
from turnout.ports import ArtifactStore
from turnout.replay.engine import OnProgress, Replay, run_replay
from turnout.replay.launch import Spec, parse_spec
from turnout.runtimes.environment import Environments
from turnout.sandbox import sandbox
from turnout.sandbox_calls import (
    CallLog,
    OneGrant,
    Purse,
    SandboxGateway,
    build_live_models,
    build_sandbox_grant,
    most_nanos,
)

LONGEST_PAYLOAD = 1 << 20  # bytes of arguments and results that are compared as texts
END_SECONDS = 15.0  # for everything to end, once nobody listens any more


def replay_release(
    release: Release,
    artifacts: ArtifactStore,
    recordings: Sequence[Recording | Unreadable],
    replay: Replay,
    workspace: Path,
    *,
    environments: Environments,
    gateway: Path | None = None,
    hidden: Iterable[Path] = (),
    say: Callable[[str], None] = lambda _: None,
    on_progress: OnProgress | None = None,
) -> ReplayReport:
    """Replay recordings against a release. `workspace`: a new folder, for this alone; `gateway`: a gateway.toml;
    `hidden`: folders that the release does not reach.

    Tools with side effects never reach a server. The configuration of a gateway is needed for live models and live tools.
    Raises `InvalidRequest` without it, `BuildFailed` where the release does not start.
    """
    if gateway is None and (replay.live_tools or (replay.models == "live" and "model" in release.components)):
        raise InvalidRequest(
            "models and tools cannot be asked live without the configuration of a gateway",
            hint="name a gateway.toml, or let the recordings answer: models = recorded",
        )
    config = load_gateway_config(gateway) if gateway is not None else GatewayConfig()
    replay = replace(replay, hide=redact_patterns(release.spec, replay.ring))
    playback = Playback()
    own = _build_gateway(release, artifacts, replay, config, playback, workspace)
    with sandbox(release, artifacts, workspace, environments=environments, gateway=own, hidden=hidden, say=say) as live:
        return run_replay(live, playback, recordings, replay, on_progress)


def found_release(artifacts: ArtifactStore, digest: Digest, version: str) -> Release:
    """A release as its artifact tells of it. Raises what the store raises."""
    read = read_release(artifacts, digest)
    return Release(digest, read.spec.agent, version, read.components, read.spec, author="", created_at=0.0)


# --- what the release calls -------------------------------------------------------------------------------------------


def _build_gateway(
    release: Release,
    artifacts: ArtifactStore,
    replay: Replay,
    config: GatewayConfig,
    playback: Playback,
    workspace: Path,
) -> SandboxGateway:
    from turnout.gateway.recorded_models import RecordedModels, follow

    key = f"tk_{secrets.token_urlsafe(24)}"
    capture = Capture(LONGEST_PAYLOAD, replay.hide if replay.redact is None else replay.redact)
    grant = replace(build_sandbox_grant(release, artifacts, key, replay.ring), capture=capture)
    own = SandboxGateway(key, CallLog())
    if "model" in release.components and replay.models == "recorded":
        own.models = RecordedModels(OneGrant(grant), playback, time.time)
    elif "model" in release.components:
        own.models = follow(build_live_models(grant, config, Purse(most_nanos(), playback)), playback)
    if "tools" in release.components:
        own.tools = _build_tools(grant, config, replay, playback, workspace / "tools")
    return own


def _build_tools(grant: Grant, config: GatewayConfig, replay: Replay, playback: Playback, logs: Path) -> Application:
    from turnout.gateway.tools.app import build_tool_app
    from turnout.gateway.tools.recorded import RecordedToolCalls
    from turnout.gateway.tools.upstream import Upstreams

    servers = config.tool_servers if replay.live_tools else {}
    upstreams = Upstreams(lambda: servers, lambda reference: resolve_secret(reference, os.environ), logs=logs)
    calls = RecordedToolCalls(playback, upstreams, Accounts(MemoryLedger()), live_tools=replay.live_tools)
    return build_tool_app(OneGrant(grant), calls, upstreams)


# --- the process ------------------------------------------------------------------------------------------------------


def main() -> None:
    """Run what a spec says."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    try:
        spec = parse_spec(Path(sys.argv[1]).read_bytes())
        content = _run(spec)
    except TurnoutError as error:
        _tell({"error": error.message + (f" ({error.hint})" if error.hint else "")})
        sys.exit(1)
    _tell({"report": f"sha256:{hashlib.sha256(content).hexdigest()}"})


def _run(spec: Spec) -> bytes:
    replay, workspace = spec.replay, Path(spec.workspace)
    artifacts = open_store(Path(spec.state), spec.registry, os.environ)
    release = found_release(artifacts, replay.candidate, replay.candidate_version)
    with Path(spec.recordings).open("rb") as file:
        recordings = list(read_recordings(file))
    try:
        report = replay_release(
            release,
            artifacts,
            recordings,
            replay,
            workspace,
            environments=Environments(Path(spec.state) / "runtime" / "envs"),
            gateway=Path(spec.gateway) if spec.gateway is not None else None,
            hidden=(Path(spec.state),),
            say=lambda text: _tell({"say": text}),
            on_progress=_tell_progress,
        )
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    content = render_within(report, LARGEST_REPORT)
    Path(spec.report).write_bytes(content)
    return content


def _tell_progress(done: int, of: int, diff: TaskDiff) -> None:
    _tell({"done": done, "of": of, "task": diff.task, "verdict": diff.verdict.value})


def _tell(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _end_with_stdin() -> None:
    """Whoever started this is gone, or wants no more of it."""
    while os.read(0, 1 << 16):  # not by sys.stdin, whose lock must be free at the end
        continue
    threading.Timer(END_SECONDS, os._exit, (1,)).start()
    os.kill(os.getpid(), signal.SIGTERM)


def _end(_signal: int, _frame: object) -> None:
    raise SystemExit(1)


if __name__ == "__main__":
    main()
