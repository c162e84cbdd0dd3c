"""The kinds of value that `turnout.toml` and the config component hold: durations, sizes, names, environment.

Each kind is an annotated type that checks itself. A check that finds several faults raises `Faults`, so that the loader
can report all of them with their places.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, JsonValue, PlainValidator

MAX_INTEGER = 2**53 - 1  # what canonical JSON (RFC 8785) can hold exactly
RESERVED_ENV = frozenset({"PORT", "HOST", "PATH", "HOME"})
RESERVED_ENV_PREFIX = "TURNOUT_"

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_BYTES = {
    "B": 1,
    "KB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_SIZE = re.compile(r"(\d+)\s?(B|KB|MB|GB|KiB|MiB|GiB)")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*[a-z0-9]")
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")


@dataclass(frozen=True, slots=True)
class Shown:
    """How the type of a field is called in the reference."""

    name: str


class Faults(ValueError):
    """Several faults of one value: (place below the value such as `.name` or `[0]`, what is wrong there)."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{place}: {message}" for place, message in faults))
        self.faults = faults


def parse_duration(value: object) -> float:
    """Seconds of `"30s"`, `"5m"`, `"1h30m"`, `"2d"` or of a number of seconds. Raises `ValueError`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise ValueError("expected a duration of zero or more seconds")
        return float(value)
    if not isinstance(value, str):
        raise ValueError(f'expected a duration such as "30s", "5m" or "1h30m", found {type_name(value)}')
    parts = _DURATION_PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError(f'"{value}" is no duration; write it as "30s", "5m", "1h30m" or "2d"')
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if not math.isfinite(seconds):
        raise ValueError(f'"{value}" is too long')
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest way to write a duration that `parse_duration` reads: 90 → `1m30s`."""
    whole = int(seconds)
    if seconds != whole:
        return f"{seconds:g}s"
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, whole = divmod(whole, int(_UNIT_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(value: object) -> int:
    """Bytes of `"512MB"`, `"1GiB"` or of a number of bytes. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ValueError(f'"{value}" is no size; write it as "512MB" or "1GiB"')
        size = int(match[1]) * _UNIT_BYTES[match[2]]
    else:
        raise ValueError(f'expected a size such as "512MB" or "1GiB", found {type_name(value)}')
    if not 0 < size <= MAX_INTEGER:
        raise ValueError("expected a size above zero and below 8 PiB")
    return size


def basis_points(percent: float) -> int:
    """A weight in percent as basis points. Raises `ValueError` unless it is a multiple of 0.01 above 0 and up to 100."""
    if not math.isfinite(percent) or not 0 < percent <= 100:
        raise ValueError("expected a weight in percent, above 0 and at most 100")
    points = round(percent * 100)
    if points < 1 or not math.isclose(points, percent * 100, rel_tol=1e-9):
        raise ValueError("expected a weight in steps of 0.01 percent")
    return points


def type_name(value: object) -> str:
    """What TOML calls a value, with its article."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a float"),
        (str, "a string"),
        ((list, tuple), "an array"),
        (Mapping, "a table"),
        (type(None), "null"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "a date or time")


def path_fault(path: str) -> str | None:
    """Why a path cannot name something inside a release's folder, or None when it can."""
    if not path or path == ".":
        return "expected a path inside the agent's folder"
    if path.startswith(("/", "~")) or re.match(r"[A-Za-z]:", path):
        return f'"{path}" is absolute; write it relative to turnout.toml'
    if "\\" in path:
        return f'"{path}" holds a backslash; separate folders with "/"'
    if ".." in PurePosixPath(path).parts:
        return f'"{path}" leaves the agent\'s folder'
    return None


def plain_json(value: object) -> JsonValue:
    """The value, if it can be written as canonical JSON. Raises `Faults` that name the places."""
    faults = list(_json_faults(value, ""))
    if faults:
        raise Faults(*faults)
    return value  # type: ignore[return-value]  # just checked


def _json_faults(value: object, place: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        keys = [fault for key in value for fault in _json_faults(key, place)]
        return keys + [fault for key, item in value.items() for fault in _json_faults(item, f"{place}.{key}")]
    if isinstance(value, list | tuple):
        return [fault for index, item in enumerate(value) for fault in _json_faults(item, f"{place}[{index}]")]
    fault = _plain_fault(value)
    return [(place, fault)] if fault else []


def _plain_fault(value: object) -> str | None:
    if isinstance(value, str):
        lone = any("\ud800" <= sign <= "\udfff" for sign in value)
        return "holds half a surrogate pair, which is no text" if lone else None
    if isinstance(value, float):
        return None if math.isfinite(value) else "is not a finite number"
    if isinstance(value, int):
        return None if abs(value) <= MAX_INTEGER else "is too large a number for JSON; write it as a string"
    return None if value is None else f"expected a value that JSON knows, found {type_name(value)}"


def _check_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character")
    return value


def _check_path(value: str) -> str:
    fault = path_fault(_check_text(value))
    if fault:
        raise ValueError(fault)
    return PurePosixPath(value).as_posix()


def _check_glob(value: str) -> str:
    fault = path_fault(_check_text(value).removeprefix("!"))
    if fault:
        raise ValueError(fault)
    return value


def check_slug(value: str, longest: int) -> str:
    """The value, if it is a name of lower-case letters, digits and dashes. Raises `ValueError`."""
    if not _SLUG.fullmatch(value) or len(value) > longest:
        raise ValueError(
            f'"{value}" is no name: lower-case letters, digits and dashes, 2 to {longest} of them, '
            "beginning and ending with a letter or digit"
        )
    return value


def _check_agent(value: str) -> str:
    return check_slug(value, 40)


def _check_ring(value: str) -> str:
    return check_slug(value, 32)


def _check_env_name(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError("expected an upper-case name of letters, digits and underscores")
    if name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIX):
        raise ValueError("is set by turnout and cannot be declared")
    return name


def _check_no_credentials(env: Mapping[str, str]) -> Mapping[str, str]:
    faults = [
        (f".{name}", "looks like a credential; values never in a release. Take it out of turnout.toml")
        for name, value in env.items()
        if _looks_like_credential(name, value)
    ]
    if faults:
        raise Faults(*faults)
    return env


def _looks_like_credential(name: str, value: str) -> bool:
    """By its name. Numbers and booleans named after tokens (`MAX_TOKENS`, `TOKENIZERS_PARALLELISM`) are settings."""
    if not value:
        return False
    words = [word for word in _SECRET_WORDS if word in name.replace("TOKENIZER", "")]
    setting = re.fullmatch(r"true|false|[0-9]{1,9}(\.[0-9]+)?", value, re.IGNORECASE)
    return bool(words) and not (words == ["TOKEN"] and setting)


def _check_flag(value: object) -> bool | int | str:
    if not isinstance(value, bool | int | str):
        raise ValueError(f"expected a boolean, an integer or a string, found {type_name(value)}")
    return _check_text(value) if isinstance(value, str) else value


def _check_flag_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError("expected a lower-case name of letters, digits and underscores")
    return name


def _check_http_path(value: str) -> str:
    if not re.fullmatch(r"/[!-~]*", value):
        raise ValueError(f'expected a path that begins with "/" and holds no blanks, found "{value}"')
    return value


def _check_method(value: str) -> str:
    if not re.fullmatch(r"[A-Z]{1,20}", value):
        raise ValueError(f'expected a method such as "GET" or "POST", found "{value}"')
    return value


def _check_header_name(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError("is no name of a header")
    return name


def _check_header_value(value: str) -> str:
    if not re.fullmatch(r"[\t -~]*", value):
        raise ValueError("a header holds printable ASCII characters only")
    return value


def _check_python(value: str) -> str:
    if not re.fullmatch(r"3\.\d{1,2}(\.\d{1,2})?", value):
        raise ValueError(f'expected a version of Python such as "3.12", found "{value}"')
    return value


def _check_lock(value: str) -> str:
    if PurePosixPath(value).name not in ("requirements.txt", "uv.lock", "pylock.toml"):
        raise ValueError(f'expected requirements.txt, uv.lock or pylock.toml, found "{value}"')
    return value


def _check_asgi(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value):
        raise ValueError(f'expected "module:app", found "{value}"')
    return value


Text = Annotated[str, AfterValidator(_check_text), Shown("string")]
Seconds = Annotated[float, BeforeValidator(parse_duration), Shown("duration")]
Size = Annotated[int, BeforeValidator(parse_size), Shown("size")]
RelativePath = Annotated[str, AfterValidator(_check_path), Shown("path")]
LockPath = Annotated[RelativePath, AfterValidator(_check_lock), Shown("path")]
Glob = Annotated[str, AfterValidator(_check_glob)]
AgentName = Annotated[str, AfterValidator(_check_agent), Shown("name")]
RingName = Annotated[str, AfterValidator(_check_ring)]
EnvName = Annotated[str, AfterValidator(_check_env_name)]
Env = Annotated[Mapping[EnvName, Text], AfterValidator(_check_no_credentials), Shown("table of strings")]
FlagName = Annotated[str, AfterValidator(_check_flag_name)]
FlagValue = Annotated[bool | int | str, PlainValidator(_check_flag)]
Flags = Annotated[Mapping[FlagName, FlagValue], Shown("table of booleans, integers or strings")]
HttpPath = Annotated[str, AfterValidator(_check_http_path), Shown("path")]
Method = Annotated[str, AfterValidator(_check_method), Shown("string")]
HeaderName = Annotated[str, AfterValidator(_check_header_name)]
HeaderValue = Annotated[str, AfterValidator(_check_header_value)]
Headers = Annotated[Mapping[HeaderName, HeaderValue], Shown("table of strings")]
PythonVersion = Annotated[str, AfterValidator(_check_python), Shown("string")]
AsgiEntry = Annotated[str, AfterValidator(_check_asgi), Shown("string")]
Json = Annotated[JsonValue, PlainValidator(plain_json), Shown("any")]
JsonTable = Annotated[Mapping[str, Json], Shown("table")]
