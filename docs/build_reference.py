"""Writes docs/reference/ from the code. `make docs` runs it; a test fails when a page differs from what it writes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
from pydantic import BaseModel

from turnout.api.app import create_app
from turnout.cli.exits import EXIT_CODES
from turnout.cli.main import VERBS, cli
from turnout.domain import errors, events
from turnout.domain.phases import TRANSITIONS
from turnout.gateway.schema import GatewayFile
from turnout.manifest import Manifest, field_reference
from turnout.services.office import Office

FOLDER = Path(__file__).parent / "reference"
_MADE = "<!-- Made from the code by `make docs`. -->"

EVENT_MEANINGS: dict[str, str] = {
    "release.pushed": "a release was recorded for the first time",
    "release.quarantined": "a release was taken back for a fault; deploying it again needs an override",
    "release.cleared": "it became active by an override, and is in quarantine no more: `digest`, `reason` of the override",
    "deployment.created": "somebody asked for a deployment, promotion or rollback",
    "deployment.transitioned": "a deployment entered another state: `from`, `to`, `reason`",
    "deployment.waiting": "what a deployment waits for inside its state: `condition`, `message`",
    "deployment.prepared": "the release is unpacked and its environment is built",
    "deployment.smoke_passed": "the smoke tasks passed",
    "deployment.abort_requested": "somebody asked to end it: `reason`, `quarantine`",
    "rollout.stepped": "the canary entered a step: `step` (from 1), `weight` in per cent",
    "rollout.advance_requested": "somebody asked to leave a canary step",
    "rollout.judged": "what the judge decided, with its evidence: `kind`, `metric`, `against`, `message`",
    "rollout.paused": "somebody keeps a rollout at its step",
    "rollout.resumed": "a paused rollout may go on",
    "replica.restarted": "a replica ended by itself and was started again: `digest`, `replica` (its number), `message`",
    "rollout.baked": "the active release is judged no more: `reason`",
    "breaker.tripped": "a breaker tripped: `scope`, `metric`, `value`, `above`, `window`, `digest`, `task`, `message`",
    "breaker.reset": "calls of a release are let through again: `digest`, `state`, `metrics`, `reason`",
    "budget.set": "a budget of the instance was set: `agent`, `ring`, `unit`, `limit`, `window`",
    "budget.unset": "a budget of the instance is no more: `agent`, `ring`, `unit`, `window`",
    "tool.refused": "a tool is no longer what a release pinned, and calls of it are refused: `digest`, `server`, `tool`, "
    "`pinned`, `found`, `task`, `message`; once for each description",
    "calls.lost": "the gateway's journal had no room for calls, which are in no lineage: `lost`, `journal`",
    "replay.recorded": "recorded tasks were asked of a release: `replay`, `digest`, `baseline`, `tasks`, `same`, `message`",
    "recording.kept": "somebody had a task recorded: `task`, `digest`, `document`",
    "recording.deleted": "somebody had a recording deleted: `task`, `digest`, `document`",
    "route.down": "a route to a provider fails, and is left alone for a while: `route` (and model), `journal`, `message`",
    "route.up": "a route that was down answered again: `route`, `journal`, `message`",
    "pointer.changed": "what a ring routes to: `stable`, `candidate`, `weight` in basis points, `last_good`, `generation`",
    "eval.recorded": "a suite was run against a release: `digest`, `suite`, `passed`, `run`",
    "approval.given": "a release was approved for the ring: `digest`, `expires_at`, `comment`",
    "approval.rejected": "a release was rejected for the ring",
    "release.untagged": "a version names nothing any more: `version`, `digest`",
    "store.collected": "garbage was removed from the artifact store: `releases`, `blobs`, `bytes`",
    "key.trusted": "signatures of a key count from now on: `keyid`, `name`, `instance`",
    "key.revoked": "nothing that a key ever signed counts any more: `keyid`",
    "policy.overridden": "an admin passed over a policy: `overridden`, `reason`",
    "token.created": "a token was made: `name`, `role`",
    "token.revoked": "a token was revoked: `name`",
}


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """File name → text."""
    return {
        "commands.md": "\n".join(_commands()),
        "manifest.md": "\n".join(_manifest()),
        "gateway.md": "\n".join(_gateway()),
        "events.md": "\n".join(_events()),
        "errors.md": "\n".join(_errors()),
        "api.md": "\n".join(_api()),
    }


def _commands() -> Iterator[str]:
    yield f"# Commands\n\n{_MADE}\n"
    yield "Every verb knows `--help`; those that print a result know `--json`. Results go to standard output, progress and"
    yield "notes to standard error. Exit codes are in [errors](errors.md).\n"
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        yield from _command(f"turnout {verb}", command)


def _command(name: str, command: click.Command) -> Iterator[str]:
    # With the names that the command line uses: a command remembers the help option of its first context.
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    yield f"## `{name}`\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            assert found is not None
            yield from _command(f"{name} {sub}", found)
        return
    yield f"```text\n{name} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    options = [option for option in command.params if isinstance(option, click.Option)]
    if options:
        yield "| option | meaning |\n|---|---|"
        yield from (_option(option, context) for option in options)
        yield ""


def _option(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    return f"| `{record[0].replace('|', chr(92) + '|')}` | {record[1].replace('|', chr(92) + '|')} |"


def _manifest() -> Iterator[str]:
    yield f"# turnout.toml\n\n{_MADE}\n"
    yield "The schema is closed: an unknown key is an error that names its path and the nearest known key. `turnout init`"
    yield "writes a commented file.\n"
    yield from _fields(Manifest)


def _gateway() -> Iterator[str]:
    yield f"# gateway.toml\n\n{_MADE}\n"
    yield "The schema is closed: an unknown key is an error that names its path and the nearest known key. Secrets are named"
    yield "by where they are, `env:NAME` or `file:PATH` (relative to the folder of the file). What it is for:"
    yield "[the guide](../guides/gateway.md).\n"
    yield from _fields(GatewayFile)


def _fields(root: type[BaseModel]) -> Iterator[str]:
    yield "| path | type | default | meaning |\n|---|---|---|---|"
    for field in field_reference(root):
        cells = (f"`{field.path}`", field.type, field.default, field.meaning)
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _events() -> Iterator[str]:
    yield f"# Events\n\n{_MADE}\n"
    yield "Append-only; each is written in the same transaction as the change it tells of, with actor and time."
    yield "`GET /v1/events` and `turnout history` show them.\n"
    yield "| event | meaning |\n|---|---|"
    yield from (f"| `{event}` | {EVENT_MEANINGS[event]} |" for event in events.EventType)
    yield "\n## States of a deployment\n"
    yield "| from | to |\n|---|---|"
    for origin, targets in TRANSITIONS.items():
        yield f"| `{origin}` | {', '.join(f'`{target}`' for target in sorted(targets)) or 'terminal'} |"
    yield ""


def _errors() -> Iterator[str]:
    yield f"# Errors and exit codes\n\n{_MADE}\n"
    yield "The API answers errors as `application/problem+json` (RFC 9457): `type` is `urn:turnout:problem:` and the"
    yield "code, `detail` says what is wrong, `hint` what to do, `problems` names each fault of a manifest. The command"
    yield "line prints the same and exits with the code's number. 0: done. 130: interrupted.\n"
    yield "| code | HTTP | exit | meaning |\n|---|---|---|---|"
    for error in _error_types(errors.TurnoutError):
        yield f"| `{error.code}` | {error.status} | {EXIT_CODES[error.code]} | {_first_line(error)} |"
    yield f"| `usage` | | {EXIT_CODES['usage']} | The command line was called in a wrong way. |"
    yield f"| `deployment_ended` | | {EXIT_CODES['deployment_ended']} | The deployment failed or was rolled back. |"
    yield ""


def _api() -> Iterator[str]:
    yield f"# HTTP API\n\n{_MADE}\n"
    yield "Every endpoint but `/healthz` needs `Authorization: Bearer TOKEN`. The whole of it as OpenAPI is served at"
    yield "`/v1/openapi.json`. A `POST` may carry an `Idempotency-Key` (8 to 128 characters): sent again with the same body"
    yield "it is done once and answered alike, for a day. Errors are problem+json, see [errors](errors.md).\n"
    yield "| method | path | meaning |\n|---|---|---|"
    app = create_app(cast(Office, None))
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            meaning = operation["description"].split("\n\n")[0].replace("\n", " ")
            yield f"| {method.upper()} | `{path}` | {meaning} |"
    yield ""


def _error_types(root: type[errors.TurnoutError]) -> Iterator[type[errors.TurnoutError]]:
    """One type a code, in the order of `domain/errors.py`."""
    ordered = [member for member in vars(errors).values() if inspect.isclass(member) and issubclass(member, root)]
    for code in dict.fromkeys(member.code for member in ordered):
        yield next(member for member in ordered if member.code == code)


def _first_line(error: type[errors.TurnoutError]) -> str:
    if error is errors.TurnoutError:
        return "A fault of turnout itself; the server's log has the details."
    if error is errors.Retryable:
        return "Not possible just now; the same may succeed later."
    return inspect.cleandoc(error.__doc__ or "").replace("\n", " ")


if __name__ == "__main__":
    main()
