"""Sends bodies to receivers: no redirects, no proxy of the environment, nothing of an answer but its status."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import certifi
import httpx

from turnout.alerts.attempts import Attempt, judge_status

_MOST_READ = 65_536  # bytes of an answer, so that the connection can be used again


class HttpSender:
    """Keeps connections open between events. Used by one thread."""

    def __init__(self) -> None:
        trusted = ssl.create_default_context()  # of the machine, with its own authorities
        trusted.load_verify_locations(certifi.where())
        self._client = httpx.Client(verify=trusted, follow_redirects=False, trust_env=False)

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Attempt:
        """POST a body; `timeout` in seconds for each of connecting, sending and reading."""
        deadline = time.monotonic() + timeout
        try:
            with self._client.stream("POST", url, headers=headers, content=body, timeout=timeout) as response:
                read = 0
                for chunk in response.iter_raw():
                    read += len(chunk)
                    if read > _MOST_READ or time.monotonic() > deadline:
                        break
                return judge_status(response.status_code, _retry_after(response.headers))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            return Attempt(f"it is not reached: {_describe(error)}")

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def shown_url(url: str) -> str:
    """Scheme and host; the rest may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _describe(error: Exception) -> str:
    return f"{type(error).__name__} {str(error)[:120]}".strip()
