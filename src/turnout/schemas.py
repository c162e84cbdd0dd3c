"""Wire models shared by API and client: what the answers look like.

TypedDicts rather than classes: the command line starts in a fraction of the time, and the API still documents and checks
them. Times are ISO 8601 in UTC, weights are per cent, digests are `sha256:…`.
"""

from __future__ import annotations

from typing import Any

# Not from `typing`: before Python 3.12 Pydantic asks for this one.
from typing_extensions import NotRequired, TypedDict  # noqa: UP035


class ConditionView(TypedDict):
    """What a deployment waits for inside its state."""

    type: str
    message: str
    since: str


class DeploymentView(TypedDict):
    """One deployment."""

    id: str
    agent: str
    ring: str
    digest: str
    version: str
    state: str
    kind: str
    condition: ConditionView | None
    actor: str
    reason: str
    created_at: str
    state_since: str
    step: int
    steps: int
    weight: float
    tasks: int
    transitions: NotRequired[list[TransitionView]]


# `from` is a keyword, hence the call form.
TransitionView = TypedDict("TransitionView", {"from": str | None, "to": str, "at": str, "actor": str, "reason": str})


class ReplicaView(TypedDict):
    """One replica as it was last seen."""

    id: str
    digest: str
    state: str
    address: str | None
    restarts: int
    message: str


class RingView(TypedDict):
    """What is where in one ring."""

    ring: str
    stable: str | None
    candidate: str | None
    weight: float
    last_good: str | None
    active_deployment: str | None
    url: str
    stable_version: str | None
    candidate_version: str | None
    last_good_version: str | None
    in_progress: DeploymentView | None
    failed: DeploymentView | None
    retired: list[RetiredView]
    replicas: list[ReplicaView]
    requests: dict[str, RequestCounts]


class RetiredView(TypedDict):
    """A release that left the traffic and still runs."""

    digest: str
    version: str | None
    quarantine: str | None


class RequestCounts(TypedDict):
    """Requests of a release in a ring since it is known; under `none` those that reached no replica."""

    total: int
    failed: int


class AgentView(TypedDict):
    """An agent and its rings in promotion order."""

    agent: str
    rings: list[RingView]


class AgentList(TypedDict):
    """All agents."""

    agents: list[AgentView]


class ComponentView(TypedDict):
    """One component of a release."""

    digest: str
    media_type: str
    size: int


class ReleaseView(TypedDict):
    """One release. `version` is its first tag."""

    digest: str
    agent: str
    version: str
    tags: list[str]
    components: dict[str, ComponentView]
    author: str
    created_at: str
    git_sha: str | None
    quarantine: str | None


class KeyView(TypedDict):
    """A public key that is or was trusted. `instance`: it belongs to an instance of turnout."""

    keyid: str
    name: str
    instance: bool
    created_at: str
    expires_at: str
    added_by: str
    added_at: str
    revoked_at: str | None


class KeyList(TypedDict):
    """Keys, by name."""

    keys: list[KeyView]


class AttestationView(TypedDict):
    """A signed statement about a release; null for what cannot be known of one that does not count."""

    kind: str | None
    signer: str | None
    keyid: str | None
    at: str | None
    counts: bool
    verdict: str
    envelope: str


class AttestationList(TypedDict):
    """The attestations of a release, oldest first."""

    attestations: list[AttestationView]


class VerificationView(TypedDict):
    """What was found about a release, and what is missing for a ring (null: none was named)."""

    agent: str
    digest: str
    version: str
    ring: str | None
    demanded: list[str]
    verified: bool
    damages: list[str]
    problems: list[str]
    attestations: list[AttestationView]


class AttestationAnswer(TypedDict):
    """What became of an attestation: `note` says why it does not count as the keys are now, or is null."""

    note: str | None


class CollectionView(TypedDict):
    """What was removed from the artifact store, or would be."""

    releases: list[str]
    blobs: int
    bytes: int
    dry_run: bool


class MissingChunks(TypedDict):
    """Chunks of data that are not stored yet, as [first, count] in the order in which the index first names them."""

    missing: list[list[int]]


class MissingBlobs(TypedDict):
    """Blobs that have to be uploaded."""

    missing: list[str]


class ReleaseList(TypedDict):
    """Releases, newest first."""

    releases: list[ReleaseView]


class DeploymentList(TypedDict):
    """Deployments, newest first."""

    deployments: list[DeploymentView]


class PreviewView(TypedDict):
    """What a deployment would do. Nothing was changed."""

    agent: str
    ring: str
    digest: str
    version: str
    kind: str
    steps: list[str]
    overrides: list[str]
    changed: list[str]
    config: list[str]


class ApprovalView(TypedDict):
    """How the approvals of a release in a ring stand."""

    agent: str
    ring: str
    digest: str
    needed: int
    approvers: list[str]
    satisfied: bool
    message: str


class EventView(TypedDict):
    """One event."""

    seq: int
    type: str
    at: str
    actor: str
    agent: str | None
    ring: str | None
    deployment: str | None
    data: dict[str, Any]


class EventList(TypedDict):
    """Events in order."""

    events: list[EventView]


class ChangeView(TypedDict):
    """One thing that differs. `kind`: what it is (prompt, tool, parameter, dependency, file, document, env, ring, …).

    `change`: added, removed, changed or renamed. `path`: where it is in its component. `before` and `after`: a value as
    JSON, of a file its size, digest and executable bit; absent on a side where it is not. `diff`: a unified diff, where
    both sides are text. `note`: what the rest does not say. `id`: of a document within a file. `bytes`: how much of a
    data file differs.
    """

    kind: str
    path: str
    change: str
    before: NotRequired[Any]
    after: NotRequired[Any]
    diff: NotRequired[str]
    note: NotRequired[str]
    id: NotRequired[str | int]
    bytes: NotRequired[ByteCounts]


class ChangeCounts(TypedDict):
    """How many things differ, and how."""

    added: int
    removed: int
    changed: int
    renamed: int


class ByteCounts(TypedDict):
    """Data in bytes: how many there are, how many went and came. `share` is of both sides together, from 0 to 1."""

    before: int
    after: int
    removed: int
    added: int
    share: float


class ComponentSummary(TypedDict):
    """A component that differs, in a sentence and in numbers by kind of thing."""

    text: str
    kinds: dict[str, ChangeCounts]
    bytes: NotRequired[ByteCounts]


class ComponentDiff(TypedDict):
    """One component that differs. `left_out`: changes beyond those that are listed; the summary counts all of them."""

    component: str
    a: str | None
    b: str | None
    summary: ComponentSummary
    changes: list[ChangeView]
    left_out: int


class DiffSummary(TypedDict):
    """What differs, short enough for an alert. `components` holds those that differ."""

    same: bool
    text: str
    total: ChangeCounts
    components: dict[str, ComponentSummary]


class DiffView(TypedDict):
    """What differs between two releases, by component."""

    a: str
    b: str
    a_version: str
    b_version: str
    changed: list[str]
    summary: DiffSummary
    components: list[ComponentDiff]


class TokenView(TypedDict):
    """A token. `token` itself is shown once, when it is made."""

    name: str
    role: str
    created_at: str
    token: NotRequired[str]


class TokenList(TypedDict):
    """All tokens."""

    tokens: list[TokenView]


class InstanceView(TypedDict):
    """The instance that answers."""

    version: str
    traffic: str
    actor: str
    role: str


class LogLine(TypedDict):
    """One line of a replica's log."""

    replica: str
    line: str


class Problem(TypedDict):
    """RFC 9457. `type` is `urn:turnout:problem:` and the code of the error."""

    type: str
    title: str
    status: int
    detail: str
    hint: NotRequired[str]
    problems: NotRequired[list[str]]
