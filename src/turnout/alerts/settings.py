"""`alerts.toml` → checked targets with their secrets, or one error that names every place in the file."""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from turnout.alerts.schema import FILE_NAME, AlertsFile, Notify, Traces, Webhook
from turnout.alerts.signature import read_keys
from turnout.domain.errors import SetupFailed
from turnout.manifest.values import Faults, type_name

log = logging.getLogger(__name__)

_LARGEST = 1 << 20
_TABLES: dict[str, type[BaseModel]] = {"": AlertsFile, "webhooks": Webhook, "notify": Notify, "traces": Traces}
_EXPECTED = {
    "string_type": "a string",
    "bool_type": "a boolean",
    "tuple_type": "an array",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """A receiver of signed CloudEvents. Timeouts in seconds."""

    name: str
    url: str = field(repr=False)  # its path may be a secret
    keys: tuple[bytes, ...] = field(repr=False)
    events: tuple[str, ...]
    timeout: float


@dataclass(frozen=True, slots=True)
class NotifyTarget:
    """A chat, pager or mailbox, as an Apprise URL."""

    name: str
    url: str = field(repr=False)
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TracesTarget:
    """A collector of OTLP over HTTP."""

    endpoint: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timeout: float


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Whom to tell."""

    webhooks: tuple[WebhookTarget, ...] = ()
    notify: tuple[NotifyTarget, ...] = ()
    traces: TracesTarget | None = None


def load_alert_settings(path: Path, environ: Mapping[str, str], *, needed: bool = False) -> AlertSettings:
    """Read and check a file of alerts, and the secrets that it names. Nobody is told where there is no file.

    Files of secrets are relative to the folder of `path`. Raises `SetupFailed` naming each place that is wrong, also for
    a missing file that is `needed`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if not needed:
            return AlertSettings()
        raise SetupFailed(f"there is no file of alerts at {path}", hint="name another with --alerts") from None
    except OSError as error:
        raise SetupFailed(f"{path} cannot be read: {error.strerror}") from error
    try:
        raw = tomllib.loads(content[: _LARGEST + 1].decode("utf-8-sig")) if len(content) <= _LARGEST else None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SetupFailed(f"{path} is not valid TOML: {error}") from None
    if raw is None:
        raise SetupFailed(f"{path} is larger than 1 MiB")
    try:
        file = AlertsFile.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=True)
        raise _wrong(path, [line for detail in details for line in _problem_lines(detail)]) from None
    return _with_secrets(path, file, environ)


# --- secrets ---------------------------------------------------------------------------------------------------------


def _with_secrets(path: Path, file: AlertsFile, environ: Mapping[str, str]) -> AlertSettings:
    """Every secret is read once, at the start: one that is missing is found then, not in the night."""
    problems: list[str] = []

    def read(place: str, variable: str | None, file_name: str | None) -> str:
        try:
            return _read_secret(path.parent, environ, variable, file_name)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            return ""

    def keys(place: str, text: str) -> tuple[bytes, ...]:
        try:
            return read_keys(text) if text else ()
        except ValueError as error:
            problems.append(f"{place}: {error}")
            return ()

    webhooks = []
    for index, hook in enumerate(file.webhooks):
        place = f"webhooks[{index}].{'secret_env' if hook.secret_env else 'secret_file'}"
        signing = keys(place, read(place, hook.secret_env, hook.secret_file))
        webhooks.append(WebhookTarget(hook.name, hook.url, signing, hook.events, hook.timeout))
    notify = []
    for index, target in enumerate(file.notify):
        place = f"notify[{index}].{'url_env' if target.url_env else 'url_file'}"
        notify.append(NotifyTarget(target.name, read(place, target.url_env, target.url_file), target.events))
    traces = None
    if (wanted := file.traces) is not None:
        text = read("traces.headers_env", wanted.headers_env, None) if wanted.headers_env else ""
        traces = TracesTarget(wanted.endpoint, _read_headers(text, problems), wanted.timeout)
    if problems:
        raise _wrong(path, problems)
    return AlertSettings(tuple(webhooks), tuple(notify), traces)


def _read_secret(folder: Path, environ: Mapping[str, str], variable: str | None, file_name: str | None) -> str:
    if variable is not None:
        if not (text := environ.get(variable, "").strip()):
            raise ValueError(f"the environment variable {variable} is empty or not set")
        return text
    path = folder / (file_name or "")
    try:
        text = path.read_text(encoding="utf-8").strip()
        if path.stat().st_mode & 0o077:
            log.warning("the file %s can be read by others: chmod 600 %s", file_name, path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"the file {file_name} cannot be read: {reason}") from None
    if not text:
        raise ValueError(f"the file {file_name} is empty")
    return text


def _read_headers(text: str, problems: list[str]) -> dict[str, str]:
    """`name=value,name=value`, as OTEL_EXPORTER_OTLP_HEADERS is written."""
    headers = {}
    for part in (piece.strip() for piece in text.split(",")):
        name, equals, value = part.partition("=")
        if part and (not equals or not name.strip() or not (name + value).isprintable() or not name.isascii()):
            problems.append("traces.headers_env: expected name=value,name=value")
        elif part:
            headers[name.strip().lower()] = value.strip()
    return headers


# --- what the schema found -------------------------------------------------------------------------------------------


def _wrong(path: Path, problems: list[str]) -> SetupFailed:
    name = path if path.name != FILE_NAME else FILE_NAME
    return SetupFailed(f"{name} is wrong: {'; '.join(problems)}", hint="correct these places in " + str(path))


def _problem_lines(detail: ErrorDetails) -> Iterator[str]:
    """One line a fault. What was found is not repeated where it could be a secret."""
    location = detail["loc"]
    place = _place(location)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Faults):
        for below, message in cause.faults:
            yield f"{(place + below).lstrip('.') or FILE_NAME}: {message}"
    elif isinstance(cause, ValueError):
        yield f"{place}: {cause}"
    elif detail["type"] == "extra_forbidden":
        yield f"{place}: unknown key{_suggestion(location)}"
    elif detail["type"] == "missing":
        yield f"{place}: is missing"
    elif detail["type"] in _EXPECTED:
        yield f"{place}: expected {_EXPECTED[detail['type']]}, found {type_name(detail['input'])}"
    else:
        yield f"{place}: expected {detail['msg'].removeprefix('Input should be ')}"


def _place(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _suggestion(location: tuple[str | int, ...]) -> str:
    table = _TABLES.get(str(location[0]) if len(location) > 1 else "", AlertsFile)
    known = sorted(table.model_fields)
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = (
        " (secrets are named by secret_env or secret_file)" if location[-1] in ("secret", "token", "password") else ""
    )
    return (f'; did you mean "{nearest[0]}"?' if nearest else f"; known here: {', '.join(known)}") + hint
