"""What a registry's answers and broken connections mean, as errors of turnout.

A registry says why it refuses in a JSON list of codes and messages; what it says is shown, shortened.
"""

from __future__ import annotations

import email.utils
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from turnout.domain.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    Retryable,
    SetupFailed,
    StorageFull,
    Terminal,
    TurnoutError,
)

REPEATABLE = frozenset({408, 429, 502, 503, 504})
_NO_ACCESS = (Forbidden, "give credentials that may pull from and push to this repository")
_TERMINAL: Mapping[int, tuple[type[Terminal], str]] = {
    401: _NO_ACCESS,
    403: _NO_ACCESS,
    404: (NotFound, "check the URL of the registry; some want a repository to be made before"),
    413: (InvalidRequest, "a proxy in front of the registry limits the size of requests; raise its limit"),
}
_LONGEST_TEXT = 300
_FULL = ("nospaceleftondevice", "diskquotaexceeded", '"err":28', '"err":122')  # ENOSPC, EDQUOT


class RegistryFault(Retryable):
    """The registry answers 500: it may be broken as a whole, or just unable to read what was asked for."""


class TryAgain(Exception):
    """The same may be sent again, after `pause` seconds if the registry said so. Else `error` is to be raised.

    Never leaves this package.
    """

    def __init__(self, error: TurnoutError, pause: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read. `url` is where it came from, after redirects."""

    method: str
    url: httpx.URL
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def what(self) -> str:
        """Method and path: the query may hold what nobody else should see."""
        return f"{self.method} {self.url.path[:_LONGEST_TEXT]}"

    def json(self) -> Any:
        """The body as JSON. Raises `SetupFailed` when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise not_a_registry(self) from None


def refusal(answer: Answer, redact: Callable[[str], str]) -> TurnoutError | TryAgain:
    """What an answer that was not hoped for means."""
    status, host = answer.status, answer.url.host
    reasons = redact(_reasons(answer))
    text = f"the registry {host} answers {status} to {answer.what}" + (f": {reasons}" if reasons else "")
    if _is_full(answer):
        return StorageFull(f"the disk of the registry {host} is full", hint="free space there, then do the same again")
    if status in REPEATABLE:
        return TryAgain(
            Retryable(text, hint="the registry is busy or not there; try again"), _retry_after(answer.headers)
        )
    if status in _TERMINAL:
        kind, hint = _TERMINAL[status]
        return kind(text, hint=hint)
    if status >= 500:
        return RegistryFault(text, hint="the log of the registry says why")
    return InvalidRequest(text) if status >= 400 else not_a_registry(answer)


def not_a_registry(answer: Answer) -> SetupFailed:
    """An answer that no registry gives."""
    return SetupFailed(
        f"{answer.url.host} answers {answer.status} to {answer.what}, but not as an OCI registry does",
        hint="check the URL of the registry",
    )


def broken_connection(error: httpx.HTTPError, host: str) -> TurnoutError | TryAgain:
    """What it means that no answer came, or not all of it."""
    certificate = _certificate_error(error)
    if certificate:
        return SetupFailed(
            f"the certificate of the registry {host} is not trusted: {certificate.verify_message}",
            hint="name the file of the authority that signed it as CA file",
        )
    if isinstance(error, (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.DecodingError)):
        return SetupFailed(
            f"{host} does not answer as an OCI registry does: {error}", hint="check the URL of the registry"
        )
    reason = str(error) or type(error).__name__
    return TryAgain(
        Retryable(
            f"the registry {host} cannot be reached: {reason}", hint="check that it runs and can be reached from here"
        )
    )


def error_codes(answer: Answer) -> tuple[str, ...]:
    """The codes in the body of a refusal, such as `DIGEST_INVALID`."""
    return tuple(code for code, _ in _entries(answer))


def content_length(answer: Answer) -> int:
    """Bytes that a `HEAD` promises."""
    text = answer.headers.get("content-length", "")
    if not text.isdecimal():
        raise Retryable(f"the registry {answer.url.host} does not say how large a blob is", hint="its log may say why")
    return int(text)


def _reasons(answer: Answer) -> str:
    said = ", ".join(f"{code} {message}".strip() for code, message in _entries(answer))
    return said[:_LONGEST_TEXT]


def _entries(answer: Answer) -> list[tuple[str, str]]:
    try:
        entries = json.loads(answer.body)["errors"]
        return [(str(entry.get("code", "")), str(entry.get("message", ""))) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _is_full(answer: Answer) -> bool:
    """The registry of distribution answers 500 with the error number of its operating system."""
    if answer.status == 507:
        return True
    body = answer.body[:4096].decode(errors="replace").lower().replace(" ", "")
    return answer.status == 500 and any(sign in body for sign in _FULL)


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds; the header holds seconds or a date."""
    text = headers.get("retry-after", "")
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
