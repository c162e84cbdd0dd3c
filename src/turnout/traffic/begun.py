"""What a killed proxy leaves behind: which requests it had given to a replica, noted before the replica could answer.

Envoy writes its access log by a thread of its own, and a kill may come between an answer and that thread's turn. So whoever
serves a request also notes it in a file, by a write that is over when the request goes on, and that outlives the process.
Each thread has two such files by turns, `begun-{identity}.{thread}.0` and `.1`. Nobody reads them while their Envoy runs.
Once it has ended, the next that starts (of one that was replaced, the next server) brings what they hold of its last minute
to the access log; most of that is there already, which does no harm, as a request is recorded once.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from turnout.traffic.snapshot import NAMESPACE, RELEASE_HEADER, TASK_HEADER

REQUEST_HEADER = "x-turnout-request"
BEGUN = "UpstreamPoolReady"  # the type of a line that tells of a request which was given to a replica
LARGEST_FILE = 1 << 20  # bytes; some two thousand requests
WRITTEN_AFTER = timedelta(seconds=60)  # what Envoy logged so long ago is in its log, however busy the machine was

logger = logging.getLogger(__name__)

_TYPE = "type.googleapis.com/envoy."
_LINE = re.compile(rb'\{"start":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z".*\}')

# A filter beside the one that writes to the replica: by then the release is chosen, and the path is the agent's own. Where
# the file cannot be written, the request goes on without a note.
_LUA = """
local PATH, LARGEST = "%(path)s", %(largest)d
local file, size, turn, thread = nil, LARGEST, 1, {}

local function note(line)
  if size + #line > LARGEST then
    if file then file:close() end
    turn = 1 - turn
    file, size = io.open(PATH .. "." .. tostring(thread):match("%%w+$") .. "." .. turn, "w"), 0
    if file then file:setvbuf("no") end
  end
  if file then file:write(line) end
  size = size + #line
end

local function quote(text)
  return '"' .. text:gsub('[%%c"\\\\]', function(sign) return ("\\\\u%%04x"):format(sign:byte()) end) .. '"'
end

function envoy_on_request(handle)
  local headers, now = handle:headers(), handle:timestamp()
  local parts = {
    '{"start":"' .. os.date("!%%Y-%%m-%%dT%%H:%%M:%%S", math.floor(now / 1000)) .. (".%%03dZ"):format(now %% 1000),
    '","type":"%(begun)s","request":' .. quote(headers:get("%(request)s")),
    ',"task":' .. quote(headers:get("%(task)s")),
    ',"release":' .. quote(headers:get("%(release)s")),
    ',"method":' .. quote(headers:get(":method")),
    ',"path":' .. quote(headers:get(":path"):match("^[^?]*")),
  }
  for name, value in pairs(handle:metadata()) do
    parts[#parts + 1] = ("," .. quote(name) .. ":") .. (type(value) == "string" and quote(value) or tostring(value))
  end
  parts[#parts + 1] = ',"status":0,"bytes_in":0,"bytes_out":0,"flags":"-"}\\n'
  note(table.concat(parts))
end
"""


def build_filter(path: str) -> dict[str, Any]:
    """The filter that notes; `path` as of `begun_path`. It is named like the metadata in which routes tell what they are."""
    code = _LUA % {
        "path": re.sub(
            r"[^\w/.-]", lambda sign: "".join(f"\\{byte:03d}" for byte in os.fsencode(sign[0])), path, flags=re.A
        ),
        "largest": LARGEST_FILE,
        "begun": BEGUN,
        "request": REQUEST_HEADER,
        "task": TASK_HEADER,
        "release": RELEASE_HEADER,
    }
    lua = {"@type": _TYPE + "extensions.filters.http.lua.v3.Lua", "default_source_code": {"inline_string": code}}
    return {"name": NAMESPACE, "typed_config": lua}


def begun_path(config: Path) -> Path:
    """Where an Envoy notes that was started with a bootstrap file: the name of its files but for their endings."""
    return config.with_name(config.stem.replace("bootstrap", "begun"))


def recover(path: Path, log: Path) -> bool:
    """Bring what an Envoy that has ended noted to the access log, and remove its notes; a half line there is ended.

    May be done again when it was broken off. False where a file cannot be read or written, which a warning says: callers
    wait for the next Envoy, and the notes are kept.
    """
    try:
        files = sorted(path.parent.glob(f"{path.name}.*"))
        _append(log, _latest(line for file in files for line in file.read_bytes().split(b"\n")))
        for file in files:
            file.unlink()
    except OSError as error:
        logger.warning("requests that were under way when Envoy ended may be missing from the records: %s", error)
        return False
    return True


def _append(log: Path, lines: list[bytes]) -> None:
    with log.open("a+b") as file:
        size = file.tell()
        broken = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write(b"\n" * broken + b"".join(line + b"\n" for line in lines))


def _latest(lines: Iterable[bytes]) -> list[bytes]:
    """The complete lines of the last minute before the newest, as UTF-8."""
    begun = {line: found[1].decode() for line in lines if (found := _LINE.fullmatch(line))}
    if not begun:
        return []
    since = datetime.fromisoformat(max(begun.values())) - WRITTEN_AFTER
    earliest = since.isoformat(timespec="milliseconds")
    return [_to_utf8(line) for line, at in begun.items() if at >= earliest]


def _to_utf8(line: bytes) -> bytes:
    """Headers may hold any bytes; those that are no text are told as Envoy tells them."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1").encode()
    return line
