"""A batch of reports over HTTP, and what to do when it does not arrive."""

from __future__ import annotations

import http.client
import json
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from urllib.parse import urlsplit

FIRST_PAUSE = 0.2  # seconds; doubled with every try
LONGEST_PAUSE = 30.0
LONGEST_WISH = 300.0  # a server may ask for a pause, but not silence an agent for a day
_SMALL = 64 << 10  # bytes of a body that nobody closes a connection because of; one report is always smaller


class Fate(Enum):
    """What became of a batch."""

    TAKEN = "taken"
    LATER = "later"  # the same may arrive later
    TOO_LARGE = "too large"  # a part of it may arrive now
    REFUSED = "refused"  # it never will


@dataclass(frozen=True)
class Answer:
    """What became of a batch: how many of its reports were refused, after how many seconds the server wishes to be asked
    again, and why it was not taken.
    """

    fate: Fate
    refused: int = 0
    wish: float | None = None
    why: str = ""


class Delivery:
    """Sends batches to one server. Raises `ValueError` for what is no URL of one, and for what cannot be a token."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the URL of a turnout server begins with http:// or https://")
        if not (token.isascii() and token.isprintable()):
            raise ValueError("a token of turnout has printable characters only")
        secure = parts.scheme == "https"
        self._connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port or (443 if secure else 80)
        self._path = f"{parts.path.rstrip('/')}/v1/outcomes"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._timeout = timeout

    def send(self, body: bytes, reports: int) -> Answer:
        """Send so many reports on a connection of its own. Never raises for what a network or a server does."""
        connection = self._connect(self._host, self._port, timeout=self._timeout)
        try:
            connection.request("POST", self._path, body, self._headers)
            response = connection.getresponse()
            wish = response.headers.get("Retry-After")
            return read_answer(response.status, wish, response.read(), reports)
        except (OSError, http.client.HTTPException, ValueError) as error:
            # Who refuses a body before it is read may close the connection, and the answer is lost with it.
            cut = isinstance(error, BrokenPipeError | ConnectionResetError) and len(body) > _SMALL and reports > 1
            why = f"the server is not reached: {type(error).__name__}"
            return Answer(Fate.TOO_LARGE if cut else Fate.LATER, why=why)
        finally:
            connection.close()


def read_answer(status: int, wish: str | None, body: bytes, reports: int) -> Answer:
    """What an answer to so many reports means. `wish`: its header Retry-After, in seconds or as a date."""
    if status == 200:
        return Answer(Fate.TAKEN, refused=_count_invalid(body))
    why = f"the server answered {status}"
    if status in (408, 425, 429) or status >= 500:
        return Answer(Fate.LATER, wish=_parse_wish(wish), why=why)
    if status == 413:
        return Answer(Fate.TOO_LARGE, why=why) if reports > 1 else Answer(Fate.REFUSED, refused=1, why=why)
    return Answer(Fate.REFUSED, why=why)


def choose_pause(failures: int, wish: float | None) -> float:
    """Seconds until the next try: twice as long with every failure, never all callers at once, and as the server wishes."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    pause = longest * random.uniform(0.5, 1.0)  # noqa: S311  (spreads callers, hides nothing)
    return max(pause, wish or 0.0)


def _count_invalid(body: bytes) -> int:
    try:
        found = json.loads(body)["outcomes"]
        return sum(item["state"] in ("invalid", "refused") for item in found)
    except (ValueError, TypeError, KeyError):
        return 0


def _parse_wish(text: str | None) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_WISH)
