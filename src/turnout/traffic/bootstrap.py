"""Settings → what Envoy is started with. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from turnout.traffic.begun import BEGUN, REQUEST_HEADER, build_filter
from turnout.traffic.snapshot import CAPTURE_FILTER, NAMESPACE, RELEASE_HEADER, ROUTE_CONFIG_NAME, TASK_HEADER

STAT_PREFIX = "turnout"
OUTCOME_HEADER = "x-turnout-outcome"
TASK_MEMBER = "turnout.task"  # of the baggage
LONGEST_TASK_ID = 256
LONGEST_BAGGAGE = 4_096  # of callers; some agents read no header of more than 8,192
STREAM_IDLE_SECONDS = 900
MOST_CALLERS = 100_000  # connections

_TYPE = "type.googleapis.com/envoy."

# Brings both ways to reach a ring to one, so that the route table holds one entry a ring and way: a host name becomes the
# path, and the path of a ring ends with a slash. The first name of a task that is there counts; one that is empty, too long
# or holds control characters is replaced. The task goes into the W3C baggage too, which instrumented agents pass on to what
# they call: first, so that nothing that a caller has in it comes before it or cuts it off.
_LUA = f"""
local function ring_path(path, host)
  local ring, agent = host:lower():match("^([a-z0-9-]+)%.([a-z0-9-]+)%.localhost:?%d*$")
  if ring then return "/" .. agent .. "/" .. ring .. path end
  return (path:gsub("^(/[^/?]+/[^/?]+)$", "%1/"):gsub("^(/[^/?]+/[^/?]+)%?", "%1/?"))
end

local function cookie(headers)
  return ((";" .. (headers:get("cookie") or "")):match("[;%s]turnout%-task=([^;]*)"))
end

local function baggage(task, given)
  local escaped = task:gsub("[^%w%-._~]", function(sign) return ("%%%02X"):format(sign:byte()) end)
  local members = {{"{TASK_MEMBER}=" .. escaped}}
  for member in given:gmatch("[^,]+") do
    if member:match("^%s*([^=;%s]*)") ~= "{TASK_MEMBER}" then members[#members + 1] = member end
  end
  return table.concat(members, ",")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path and path:sub(1, 1) == "/" then
    headers:replace(":path", ring_path(path, headers:get(":authority") or ""))
  end
  local task = headers:get("{TASK_HEADER}")
    or headers:get("x-amzn-bedrock-agentcore-runtime-session-id")
    or headers:get("x-a2a-context-id")
    or cookie(headers)
  if not task or task == "" or #task > {LONGEST_TASK_ID} or task:find("%c") then
    task = headers:get("{REQUEST_HEADER}")
  end
  headers:replace("{TASK_HEADER}", task)
  local given = headers:get("baggage")
  headers:remove("baggage")
  headers:add("baggage", baggage(task, given and #given <= {LONGEST_BAGGAGE} and given or ""))
  if headers:get("{RELEASE_HEADER}") == "" then headers:remove("{RELEASE_HEADER}") end
  handle:clearRouteCache()
end
"""


# Keeps the beginning of request and answer in the access log, where a route asks for it. Nothing is held back for it.
# Whoever breaks off is never heard of here: so what there is is kept each time that it has doubled.
# It is no filter that a route enables: Envoy asks for those before a host name has become the path, so of another route.
_CAPTURE_LUA = """
local function keep(handle, name)
  local limit, parts, size, saved = handle:filterContext():get("size"), {}, 0, -1
  if not limit then return end
  local function save()
    handle:streamInfo():dynamicMetadata():set("turnout.capture", name, handle:base64Escape(table.concat(parts)))
    saved = size
  end
  for chunk in handle:bodyChunks() do
    local length = math.min(chunk:length(), limit - size)
    if length > 0 then
      parts[#parts + 1] = chunk:getBytes(0, length)
      size = size + length
      if size >= 2 * saved or size == limit then save() end
    end
  end
  if size > saved then save() end
end

function envoy_on_request(handle) keep(handle, "question") end
function envoy_on_response(handle) keep(handle, "answer") end
"""


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """Where Envoy listens and which files it reads and writes. `host` is an IP address, all paths are absolute."""

    host: str
    port: int
    admin_path: str  # a unix socket
    clusters_path: str
    routes_path: str
    access_log_path: str
    begun_path: str  # see `begun.py`


def build_bootstrap(settings: EnvoySettings) -> dict[str, Any]:
    """The bootstrap configuration: one listener, clusters and routes from files."""
    return {
        "node": {"id": "turnout", "cluster": "turnout"},
        "admin": {"address": {"pipe": {"path": settings.admin_path, "mode": 0o600}}},
        "overload_manager": {"resource_monitors": [_CONNECTION_LIMIT]},
        "dynamic_resources": {"cds_config": _from_file(settings.clusters_path)},
        "static_resources": {
            "listeners": [
                {
                    "name": "traffic",
                    "address": {"socket_address": {"address": settings.host, "port_value": settings.port}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": _build_http(settings)}]}],
                }
            ]
        },
    }


def render_bootstrap(settings: EnvoySettings) -> str:
    """The bootstrap as the text of its file."""
    return json.dumps(build_bootstrap(settings), indent=1) + "\n"


def _build_http(settings: EnvoySettings) -> dict[str, Any]:
    """Callers are not trusted: what they claim in `x-envoy-*` headers is dropped, their paths are normalised first."""
    return {
        "@type": _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": STAT_PREFIX,
        "rds": {"route_config_name": ROUTE_CONFIG_NAME, "config_source": _from_file(settings.routes_path)},
        "use_remote_address": True,
        "normalize_path": True,
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": f"{STREAM_IDLE_SECONDS}s",
        "request_headers_timeout": "60s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "early_header_mutation_extensions": [_REQUEST_ID],
        "http_filters": [
            {
                "name": "envoy.filters.http.lua",
                "typed_config": {
                    "@type": _TYPE + "extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": _LUA},
                },
            },
            {
                "name": CAPTURE_FILTER,
                "typed_config": {
                    "@type": _TYPE + "extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": _CAPTURE_LUA},
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": _TYPE + "extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                    "upstream_log": [{**_build_log(settings), "filter": _ONLY_BEGUN}],
                    "upstream_log_options": {"flush_upstream_log_on_upstream_stream": True},
                    "upstream_http_filters": [build_filter(settings.begun_path), _UPSTREAM_CODEC],
                },
            },
        ],
        "local_reply_config": _LOCAL_REPLIES,
        "access_log": [_build_log(settings)],
    }


def _build_log(settings: EnvoySettings) -> dict[str, Any]:
    """A line when a request is given to a replica, before it can answer, and one when it ends."""
    return {
        "name": "file",
        "typed_config": {
            "@type": _TYPE + "extensions.access_loggers.file.v3.FileAccessLog",
            "path": settings.access_log_path,
            "log_format": {"json_format": _ACCESS_LINE},
        },
    }


def _from_file(path: str) -> dict[str, Any]:
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}


_CONNECTION_LIMIT = {
    "name": "envoy.resource_monitors.global_downstream_max_connections",
    "typed_config": {
        "@type": _TYPE + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": MOST_CALLERS,
    },
}

_REQUEST_ID = {
    "name": "envoy.http.early_header_mutation.header_mutation",
    "typed_config": {
        "@type": _TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [
            {
                "append": {
                    "header": {"key": REQUEST_HEADER, "value": "%UNIQUE_ID%"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            }
        ],
    },
}

_UPSTREAM_CODEC = {
    "name": "envoy.filters.http.upstream_codec",
    "typed_config": {"@type": _TYPE + "extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
}

_ONLY_BEGUN = {"log_type_filter": {"types": [BEGUN]}}

# The path goes without its query, which may carry secrets.
_ACCESS_LINE = {
    "type": "%ACCESS_LOG_TYPE%",
    "request": f"%REQ({REQUEST_HEADER})%",
    "task": f"%REQ({TASK_HEADER})%",
    "agent": f"%METADATA(ROUTE:{NAMESPACE}:agent)%",
    "ring": f"%METADATA(ROUTE:{NAMESPACE}:ring)%",
    "release": f"%METADATA(CLUSTER:{NAMESPACE}:release)%",
    **{name: f"%METADATA(ROUTE:{NAMESPACE}:{name})%" for name in ("rollout", "candidate", "share", "beside", "pinned")},
    "start": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
    "duration": "%DURATION%",
    "status": "%RESPONSE_CODE%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:PATH)%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "flags": "%RESPONSE_FLAGS%",
    "upstream": "%UPSTREAM_HOST%",
    "outcome": f"%RESP({OUTCOME_HEADER})%",
    "encodings": "%REQ(content-encoding)% %RESP(content-encoding)%",
    "question": "%DYNAMIC_METADATA(turnout.capture:question)%",
    "answer": "%DYNAMIC_METADATA(turnout.capture:answer)%",
}


def _problem(kind: str, title: str, detail: str = "%LOCAL_REPLY_BODY%") -> dict[str, Any]:
    return {
        "json_format": {"type": kind, "title": title, "status": "%RESPONSE_CODE%", "detail": detail},
        "content_type": "application/problem+json",
    }


def _status(op: str, value: int) -> dict[str, Any]:
    comparison = {"op": op, "value": {"default_value": value, "runtime_key": f"turnout.status_{op.lower()}_{value}"}}
    return {"status_code_filter": {"comparison": comparison}}


# What the proxy answers itself, as problem+json. The types are the codes of the error tree; the first that fits counts.
_LOCAL_REPLIES = {
    "mappers": [
        {
            "filter": {"response_flag_filter": {"flags": ["UH"]}},
            "body_format_override": _problem("unavailable", "Unavailable", "no replica of this release is live"),
        },
        {"filter": _status("EQ", 404), "body_format_override": _problem("not_found", "Not found")},
        {"filter": _status("EQ", 409), "body_format_override": _problem("conflict", "Conflict")},
        {"filter": _status("LE", 499), "body_format_override": _problem("invalid_request", "Refused by the proxy")},
    ],
    "body_format": _problem("unavailable", "Unavailable"),
}
