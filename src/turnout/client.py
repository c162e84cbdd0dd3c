"""The typed HTTP client. Every write carries an idempotency key, so that it can be sent again after a lost connection."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import HTTPError

from turnout.domain.errors import ServerUnreachable, TurnoutError
from turnout.schemas import (
    AgentList,
    AgentView,
    AlertAsked,
    AlertList,
    ApprovalView,
    AttestationAnswer,
    AttestationList,
    BreakerList,
    BudgetList,
    BudgetView,
    CollectionView,
    DeploymentList,
    DeploymentView,
    DiffView,
    EvalReportView,
    EvalRunList,
    EvalRunView,
    EventList,
    InstanceView,
    KeyList,
    KeyView,
    LineageView,
    MissingBlobs,
    MissingChunks,
    PreviewView,
    RecordingList,
    RecordingView,
    ReleaseList,
    ReleaseView,
    ReplayList,
    ReplayReportView,
    ReplayView,
    RolloutPlanView,
    RolloutView,
    TakenView,
    TaskList,
    TokenList,
    TokenView,
    ToolPinList,
    VerificationView,
    WhyView,
)

_TRIES = 5
_BLOCK = 1 << 20
_FIRST_PAUSE = 0.1  # seconds; doubled with every try


class Problem(TurnoutError):
    """A problem+json answer."""

    def __init__(self, body: Mapping[str, Any], status: int) -> None:
        super().__init__(str(body.get("detail", f"the server answered {status}")), hint=body.get("hint"))
        self.code = str(body.get("type", "")).rpartition(":")[2] or "internal"
        self.status = status
        self.problems = tuple(str(problem) for problem in body.get("problems", ()))


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event."""

    name: str
    data: Any


class Client:
    """Speaks to one instance. Raises `Problem` for what the server refuses, `ServerUnreachable` if it does not answer."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=3.0, read=60.0))

    # --- reading

    def instance(self) -> InstanceView:
        """The instance, and who asks."""
        return cast(InstanceView, self._call("GET", "/v1/instance"))

    def agents(self) -> AgentList:
        """All agents."""
        return cast(AgentList, self._call("GET", "/v1/agents"))

    def agent(self, agent: str) -> AgentView:
        """One agent and its rings."""
        return cast(AgentView, self._call("GET", f"/v1/agents/{quote(agent, '')}"))

    def releases(self, agent: str) -> ReleaseList:
        """All releases of an agent."""
        return cast(ReleaseList, self._call("GET", f"/v1/agents/{quote(agent, '')}/releases"))

    def release(self, agent: str, ref: str) -> ReleaseView:
        """One release."""
        return cast(ReleaseView, self._call("GET", f"/v1/agents/{quote(agent, '')}/releases/{quote(ref, '')}"))

    def tools(self, agent: str, ref: str) -> ToolPinList:
        """The tools that a release may call."""
        return cast(ToolPinList, self._call("GET", f"/v1/agents/{quote(agent, '')}/releases/{quote(ref, '')}/tools"))

    def diff(self, agent: str, a: str, b: str) -> DiffView:
        """What differs from `a` to `b`."""
        return cast(DiffView, self._call("GET", f"/v1/agents/{quote(agent, '')}/diff?{urlencode({'a': a, 'b': b})}"))

    def deployments(self, agent: str | None, ring: str | None, limit: int) -> DeploymentList:
        """Deployments, newest first."""
        query = _query(agent=agent, ring=ring, limit=limit)
        return cast(DeploymentList, self._call("GET", f"/v1/deployments{query}"))

    def deployment(self, deployment: str) -> DeploymentView:
        """One deployment with its transitions."""
        return cast(DeploymentView, self._call("GET", f"/v1/deployments/{quote(deployment, '')}"))

    def why(self, deployment: str) -> WhyView:
        """A deployment on one page."""
        return cast(WhyView, self._call("GET", f"/v1/deployments/{quote(deployment, '')}/why"))

    def alerts(self) -> AlertList:
        """Every target of alerts."""
        return cast(AlertList, self._call("GET", "/v1/alerts"))

    def events(self, **filters: str | int | bool | None) -> EventList:
        """What happened; filters as in the API."""
        return cast(EventList, self._call("GET", f"/v1/events{_query(**filters)}"))

    def tokens(self) -> TokenList:
        """All tokens."""
        return cast(TokenList, self._call("GET", "/v1/tokens"))

    def approvals(self, agent: str, ring: str, release: str | None = None) -> ApprovalView:
        """How the approvals of a release in a ring stand."""
        return cast(ApprovalView, self._call("GET", f"{_ring(agent, ring)}/approvals{_query(release=release)}"))

    def tasks(self, **filters: str | int | bool | None) -> TaskList:
        """One page of requests, newest first; filters as in the API."""
        return cast(TaskList, self._call("GET", f"/v1/tasks{_query(**filters)}"))

    def lineage(self, task: str) -> LineageView:
        """From a task, or one of its requests, back to what answered it."""
        return cast(LineageView, self._call("GET", f"/v1/tasks/{quote(task, '')}"))

    def recordings(self, agent: str, **filters: str | int | None) -> RecordingList:
        """Recordings of an agent, newest first; filters as in the API."""
        return cast(RecordingList, self._call("GET", f"/v1/agents/{quote(agent, '')}/recordings{_query(**filters)}"))

    def recording(self, agent: str, document: str) -> bytes:
        """The document of a recording, as it is stored."""
        found = self._send("GET", f"/v1/agents/{quote(agent, '')}/recordings/{quote(document, '')}")
        if found.status >= 400:
            _read(found)
        return found.data

    def breakers(self, agent: str | None = None) -> BreakerList:
        """Every breaker that is declared or open."""
        return cast(BreakerList, self._call("GET", f"/v1/breakers{_query(agent=agent)}"))

    def budgets(self) -> BudgetList:
        """Budgets, and what is spent of them."""
        return cast(BudgetList, self._call("GET", "/v1/budgets"))

    # --- writing

    def reset_breakers(self, agent: str, ring: str, body: Mapping[str, Any]) -> BreakerList:
        """Let calls through again."""
        return cast(BreakerList, self._call("POST", f"{_ring(agent, ring)}/breakers", body))

    def keep_recording(self, agent: str, body: Mapping[str, Any]) -> RecordingView:
        """Record a task now."""
        return cast(RecordingView, self._call("POST", f"/v1/agents/{quote(agent, '')}/recordings", body))

    def delete_recording(self, agent: str, document: str) -> None:
        """Forget a recording."""
        self._call("DELETE", f"/v1/agents/{quote(agent, '')}/recordings/{quote(document, '')}")

    def set_budget(self, body: Mapping[str, Any]) -> BudgetView:
        """Set a budget of the instance."""
        return cast(BudgetView, self._call("PUT", "/v1/budgets", body))

    def unset_budget(self, **which: str | float | None) -> None:
        """Forget a budget of the instance."""
        self._call("DELETE", f"/v1/budgets{_query(**which)}")

    def report(self, task: str, body: Mapping[str, Any]) -> TakenView:
        """Say what became of a task."""
        return cast(TakenView, self._call("POST", f"/v1/tasks/{quote(task, '')}/outcome", body))

    def deploy(self, agent: str, ring: str, body: Mapping[str, Any]) -> DeploymentView:
        """Start a deployment."""
        return cast(DeploymentView, self._call("POST", f"{_ring(agent, ring)}/deployments", body))

    def promote(self, agent: str, ring: str, body: Mapping[str, Any]) -> DeploymentView:
        """Start a promotion."""
        return cast(DeploymentView, self._call("POST", f"{_ring(agent, ring)}/promotions", body))

    def roll_back(self, agent: str, ring: str, body: Mapping[str, Any]) -> DeploymentView:
        """Undo the last change of a ring."""
        return cast(DeploymentView, self._call("POST", f"{_ring(agent, ring)}/rollbacks", body))

    def preview(self, agent: str, ring: str, what: str, body: Mapping[str, Any]) -> PreviewView:
        """What a write would do. `what`: deployments, promotions or rollbacks."""
        return cast(PreviewView, self._call("POST", f"{_ring(agent, ring)}/{what}", {**body, "dry_run": True}))

    def decide(self, agent: str, ring: str, body: Mapping[str, Any]) -> ApprovalView:
        """Approve or reject."""
        return cast(ApprovalView, self._call("POST", f"{_ring(agent, ring)}/approvals", body))

    def rollout(self, agent: str, ring: str) -> RolloutView:
        """The rollout of a ring, and what its judge says."""
        return cast(RolloutView, self._call("GET", f"{_ring(agent, ring)}/rollout"))

    def plan_rollout(self, agent: str, ring: str, release: str | None = None) -> RolloutPlanView:
        """What a rollout could tell."""
        return cast(RolloutPlanView, self._call("GET", f"{_ring(agent, ring)}/rollout/plan{_query(release=release)}"))

    def steer(self, agent: str, ring: str, body: Mapping[str, Any]) -> DeploymentView:
        """Advance or abort the deployment in progress."""
        return cast(DeploymentView, self._call("POST", f"{_ring(agent, ring)}/rollout", body))

    def replay_alerts(self, name: str, after: int) -> AlertAsked:
        """Send a target again what followed an event."""
        return cast(AlertAsked, self._call("POST", f"/v1/alerts/{quote(name, '')}/replay", {"after": after}))

    def test_alerts(self, name: str) -> AlertAsked:
        """Send a target a message that says that nothing happened."""
        return cast(AlertAsked, self._call("POST", f"/v1/alerts/{quote(name, '')}/test"))

    def create_token(self, name: str, role: str) -> TokenView:
        """Make a token."""
        return cast(TokenView, self._call("POST", "/v1/tokens", {"name": name, "role": role}))

    def revoke_token(self, name: str) -> None:
        """Forget a token."""
        self._call("DELETE", f"/v1/tokens/{quote(name, '')}")

    def trusted_keys(self) -> KeyList:
        """All keys that are or were trusted."""
        return cast(KeyList, self._call("GET", "/v1/keys"))

    def trust_key(self, public_key: str, *, instance: bool) -> KeyView:
        """Trust a key, given as the file of its public half."""
        return cast(KeyView, self._call("POST", "/v1/keys", {"public_key": public_key, "instance": instance}))

    def revoke_key(self, keyid: str) -> None:
        """Trust a key no longer."""
        self._call("DELETE", f"/v1/keys/{quote(keyid, '')}")

    def verification(self, agent: str, ref: str, ring: str | None) -> VerificationView:
        """What is found about a release when everything of it is read."""
        path = f"/v1/agents/{quote(agent, '')}/releases/{quote(ref, '')}/verification{_query(ring=ring)}"
        return cast(VerificationView, self._call("GET", path))

    def attestations(self, agent: str, ref: str) -> AttestationList:
        """The attestations of a release, each with whether it counts."""
        path = f"/v1/agents/{quote(agent, '')}/releases/{quote(ref, '')}/attestations"
        return cast(AttestationList, self._call("GET", path))

    def attest(self, agent: str, ref: str, envelope: str) -> AttestationAnswer:
        """Keep a signed statement about a release."""
        path = f"/v1/agents/{quote(agent, '')}/releases/{quote(ref, '')}/attestations"
        return cast(AttestationAnswer, self._call("POST", path, {"envelope": envelope}))

    def archive(self, agent: str, ref: str) -> Iterator[bytes]:
        """A release as one file, in chunks. Raises `ServerUnreachable` when it is cut."""
        path = f"/v1/agents/{quote(agent, '')}/releases/{quote(ref, '')}/archive"
        try:
            response = self._pool.request("GET", self._url + path, headers=self._headers(), preload_content=False)
            with response:
                if response.status >= 400:
                    response.read(cache_content=True)
                    _read(response)
                yield from response.stream(_BLOCK)
        except HTTPError as error:
            raise self._unreachable(error) from error

    def put_wheels(self, agent: str, ref: str, wheels: Mapping[str, str]) -> ReleaseView:
        """Let uploaded wheels, by file name, refer to a release."""
        path = f"/v1/agents/{quote(agent, '')}/releases/{quote(ref, '')}/wheels"
        return cast(ReleaseView, self._call("PUT", path, {"wheels": dict(wheels)}))

    def remove_tag(self, agent: str, tag: str) -> None:
        """Let a version name nothing any more."""
        self._call("DELETE", f"/v1/agents/{quote(agent, '')}/tags/{quote(tag, '')}")

    def collect_garbage(self, *, dry_run: bool) -> CollectionView:
        """Remove from the artifact store what nothing needs."""
        return cast(CollectionView, self._call("POST", "/v1/garbage", {"dry_run": dry_run}))

    def missing_blobs(self, agent: str, digests: list[str]) -> list[str]:
        """Which of these blobs the server does not have."""
        answer = self._call("POST", f"/v1/agents/{quote(agent, '')}/blobs/missing", {"digests": digests})
        return cast(MissingBlobs, answer)["missing"]

    def missing_chunks(self, agent: str, index: str, *, verify: bool = False) -> list[tuple[int, int]]:
        """Which chunks of the data with this index the server does not have, as (first, count)."""
        body = {"index": index, "verify": verify}
        answer = cast(MissingChunks, self._call("POST", f"/v1/agents/{quote(agent, '')}/chunks/missing", body))
        return [(first, count) for first, count in answer["missing"]]

    def put_blob(self, agent: str, digest: str, chunks: Iterable[bytes]) -> None:
        """Upload a blob. Not sent again by itself: the chunks can be read once."""
        path = f"/v1/agents/{quote(agent, '')}/blobs/{digest}"
        try:
            response = self._pool.request(
                "PUT", self._url + path, body=_bounded(chunks), headers=self._headers(), chunked=True
            )
        except HTTPError as error:
            raise self._unreachable(error) from error
        _read(response)

    def put_release(self, agent: str, digest: str, body: Mapping[str, Any]) -> ReleaseView:
        """Record a release whose blobs are uploaded."""
        path = f"/v1/agents/{quote(agent, '')}/releases/{digest}"
        return cast(ReleaseView, self._call("PUT", path, body))

    def record_replay(self, agent: str, document: str) -> ReplayView:
        """Hand in the report of a replay."""
        return cast(ReplayView, self._call("POST", f"/v1/agents/{quote(agent, '')}/replays", {"document": document}))

    def replays(self, agent: str, **which: str | int | None) -> ReplayList:
        """Replays, newest first; filters as in the API."""
        return cast(ReplayList, self._call("GET", f"/v1/agents/{quote(agent, '')}/replays{_query(**which)}"))

    def replay(self, agent: str, replay: str) -> ReplayReportView:
        """One replay with its report; `latest` is the newest."""
        return cast(ReplayReportView, self._call("GET", f"/v1/agents/{quote(agent, '')}/replays/{quote(replay, '')}"))

    def record_eval(self, agent: str, ref: str, document: str) -> EvalRunView:
        """Hand in the report of a suite."""
        path = f"/v1/agents/{quote(agent, '')}/releases/{quote(ref, '')}/evals"
        return cast(EvalRunView, self._call("POST", path, {"document": document}))

    def evals(self, agent: str, **which: str | int | None) -> EvalRunList:
        """Runs of suites, newest first."""
        return cast(EvalRunList, self._call("GET", f"/v1/agents/{quote(agent, '')}/evals{_query(**which)}"))

    def eval_run(self, agent: str, run: str) -> EvalReportView:
        """One run of a suite with its report."""
        return cast(EvalReportView, self._call("GET", f"/v1/agents/{quote(agent, '')}/evals/{quote(run, '')}"))

    # --- following

    def follow_deployment(self, deployment: str) -> Iterator[ServerEvent]:
        """Events of a deployment until `settled`. Goes on by itself after a lost connection."""
        seen = 0
        lost = 0
        while True:
            try:
                for event in self._stream(f"/v1/deployments/{quote(deployment, '')}/events"):
                    lost = 0
                    if event.name == "settled":
                        yield event
                        return
                    if event.data["seq"] > seen:
                        seen = event.data["seq"]
                        yield event
            except ServerUnreachable:
                lost += 1
                if lost > 10 * _TRIES:
                    raise
            time.sleep(0.2)

    def follow_logs(self, agent: str, ring: str, *, lines: int, follow: bool) -> Iterator[ServerEvent]:
        """Lines of a ring's logs."""
        query = _query(lines=lines, follow=follow)
        yield from self._stream(f"{_ring(agent, ring)}/logs{query}")

    def _stream(self, path: str) -> Iterator[ServerEvent]:
        headers = {**self._headers(), "Accept": "text/event-stream"}
        timeout = urllib3.Timeout(connect=3.0, read=None)
        try:
            response = self._pool.request(
                "GET", self._url + path, headers=headers, preload_content=False, timeout=timeout
            )
            if response.status >= 400:
                response.read(cache_content=True)
                _read(response)
            name = ""
            for line in _lines(response):
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield ServerEvent(name, json.loads(value))
        except HTTPError as error:
            raise self._unreachable(error) from error

    # --- the wire

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return _read(self._send(method, path, body))

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> urllib3.BaseHTTPResponse:
        """Send, and send again with the same key when the connection is lost: the server may be restarting."""
        headers = self._headers()
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        content = None if body is None else json.dumps({k: v for k, v in body.items() if v is not None}).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        pause = _FIRST_PAUSE
        for left in reversed(range(_TRIES)):
            try:
                return self._pool.request(method, self._url + path, body=content, headers=headers)
            except HTTPError as error:
                if left == 0:
                    raise self._unreachable(error) from error
                time.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable")

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            f"no turnout server answers at {self._url} ({type(error).__name__})",
            hint="start it with `turnout up`, or name another with --server or TURNOUT_SERVER",
        )


def _read(response: urllib3.BaseHTTPResponse) -> Any:
    try:
        body = json.loads(response.data) if response.data else None
    except ValueError:
        body = None
    if response.status >= 400:
        raise Problem(body if isinstance(body, dict) else {}, response.status)
    return body


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    rest = b""
    while chunk := response.read1(65_536):
        *complete, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in complete)


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunked encoding ends at an empty chunk, so that none may be sent before the end."""
    return (chunk for chunk in chunks if chunk)


def _ring(agent: str, ring: str) -> str:
    return f"/v1/agents/{quote(agent, '')}/rings/{quote(ring, '')}"


def _query(**values: str | float | bool | None) -> str:
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}
    text = urlencode({name: value for name, value in given.items() if value is not None})
    return f"?{text}" if text else ""
