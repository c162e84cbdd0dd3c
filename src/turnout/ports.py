"""What turnout asks of the outside, one narrow Protocol each.

Adapters implement these and are built in `server.py` only. Each port has one contract suite in `tests/contract/` that runs
on every implementation, the fake included.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from turnout.domain.breakers import BreakerRecord, Span, Window
from turnout.domain.budget import Amount, Budget, Order, Refusal, Spender, StoredBudget
from turnout.domain.calls import Call, ToolCall
from turnout.domain.events import Event
from turnout.domain.evidence import EvalRun
from turnout.domain.models import (
    Approval,
    Breaker,
    Deployment,
    Digest,
    HealthCheck,
    Pointer,
    Quarantine,
    Release,
    ReplicaSpec,
    ReplicaStatus,
    Routes,
    SmokeResult,
    SmokeTask,
    Task,
)
from turnout.domain.outcomes import Known, Observation, Outcome, Taken, Tally, TallyKey, TaskKey
from turnout.domain.phases import Phase
from turnout.domain.policy import Role
from turnout.domain.replays import KeptReplay

ACCESS_LOG = "access_log"  # the cursor of the proxy's access log


class Clock(Protocol):
    """The time, as an argument of everything else."""

    def now(self) -> float:
        """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to another; `size` in bytes."""

    digest: Digest
    media_type: str
    size: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


class ArtifactStore(Protocol):
    """Content-addressed blobs and the tags that name releases. Every read is verified against its digest."""

    def has(self, digest: Digest) -> bool:
        """Whether a blob is stored under the digest (its bytes are checked when they are read)."""

    def size(self, digest: Digest) -> int:
        """Number of bytes. Raises `NotFound`."""

    def write(self, chunks: Iterable[bytes], expected: Digest | None = None) -> Digest:
        """Store a blob and return its digest. Atomic: a reader sees all of it or nothing.

        Raises `DamagedContent` when the bytes do not have the expected digest, `StorageFull` when the disk is full;
        nothing is kept then. Writing what is already there changes nothing.
        """

    def read(self, digest: Digest) -> Iterator[bytes]:
        """The bytes in chunks. Raises `NotFound`; `DamagedContent` at the latest before the last chunk is given out."""

    def read_all(self, digest: Digest, limit: int = 16 << 20) -> bytes:
        """A small blob, verified before it is returned. Raises `NotFound`, `DamagedContent`, `InvalidRequest` if larger."""

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """Some bytes of a blob as they are stored. They are not verified: who asks knows what they must be.

        Raises `NotFound`; `DamagedContent` when the blob ends before.
        """

    def put_release(self, manifest: bytes, release: Digest, tags: Iterable[str] = ()) -> None:
        """Record an OCI image manifest for a release (all its blobs must be stored) and let the tags name it.

        Raises `NotFound` naming the first missing blob, `DamagedContent` for a manifest that is not of that release.
        """

    def release_manifest(self, release: Digest) -> bytes:
        """The image manifest of a recorded release, verified. Raises `NotFound`, `DamagedContent`."""

    def releases(self) -> dict[Digest, tuple[str, ...]]:
        """Every recorded release and its tags."""

    def put_referrer(self, subject: Digest, manifest: bytes) -> Digest:
        """Store a manifest whose `subject` is the manifest with this digest. Returns its own digest. Idempotent.

        Raises `InvalidRequest` for a manifest of another subject, `NotFound` when a blob that it names is not stored.
        """

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Referrer, ...]:
        """What refers to the manifest with this digest, of one artifact type if it is given. Read one with `read_all`."""

    def damages(self, release: Digest | None = None) -> Iterator[tuple[Digest, str]]:
        """Read everything, or all of one release; give each blob that is damaged or missing with a sentence that says
        which and why.
        """


class Intake(Protocol):
    """The door of the artifact store for releases. `known`: releases in it, of the same agent, the likeliest first."""

    def missing_chunks(self, index: Digest, known: Iterable[Digest], *, verify: bool = False) -> list[tuple[int, int]]:
        """The chunks of data that have to be pushed, as (first, count) in the order of the index, which must be stored.

        `verify`: read what is stored, and do not count on what is damaged.
        """

    def damages(self, release: Digest) -> Iterator[tuple[Digest, str]]:
        """Read everything of one release; give each blob that is damaged or missing with a sentence."""

    def hand_over(self, release: Digest, tag: str) -> tuple[int, Iterator[bytes]]:
        """The archive of a release, with all that refers to it: its size in bytes, and its content.

        Raises `NotFound`; `DamagedContent`, also while it is read.
        """

    def attach_wheels(self, release: Digest, wheels: Mapping[str, Digest]) -> None:
        """Let stored wheels of its dependencies, by file name, refer to a release. Raises `InvalidRequest`, `NotFound`."""

    def collect(self, keep: Container[Digest], *, dry_run: bool) -> tuple[tuple[Digest, ...], int, int]:
        """Remove the releases that are not to be kept and every blob that nothing needs; fresh ones stay.

        Returns what was removed, or would be: releases, number and bytes of blobs. Raises `InvalidRequest` where the store
        is shared and cannot know what others keep.
        """

    def record(self, release: Digest, bundles: Sequence[Digest], known: Iterable[Digest]) -> bytes:
        """Record a release whose document, components and new bundles are stored. Returns its image manifest.

        Raises `NotFound` when something of it is not stored, `InvalidRequest`, `DamagedContent`.
        """


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A public key that the instance trusts. `instance`: it belongs to an instance, which attests what others decided."""

    keyid: str
    name: str
    public: str  # 64 hexadecimal digits: Ed25519
    created_at: float
    expires_at: float
    instance: bool
    added_by: str
    added_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class AttestationRecord:
    """An attestation that was found. None for what cannot be known of one that does not count."""

    kind: str | None
    signer: str | None
    keyid: str | None
    at: float | None
    counts: bool
    verdict: str
    envelope: Digest


@dataclass(frozen=True, slots=True)
class Assessment:
    """The attestations of a release, oldest first, and a sentence for each thing that is missing or wrong."""

    attestations: tuple[AttestationRecord, ...]
    problems: tuple[str, ...]


class Notary(Protocol):
    """The attestations of releases."""

    def read_key(self, public: bytes, *, instance: bool, added_by: str, now: float) -> KeyRecord:
        """A public key from its file. Raises `InvalidRequest` for anything else, above all for a private key."""

    def accept(self, release: Digest, envelope: bytes, keys: Sequence[KeyRecord], now: float) -> str | None:
        """Keep an attestation that somebody made. Returns why it does not count as the keys are now, if so.

        Raises `InvalidRequest` for one that never can: malformed, changed, or about another release.
        """

    def attest(self, deployment: Deployment, approvals: Iterable[Approval]) -> None:
        """Attest, as the instance, the decisions about a release and its promotion. Idempotent."""

    def assess(
        self,
        release: Release,
        ring: str | None,
        demanded: Sequence[str],
        keys: Sequence[KeyRecord],
        now: float,
        approvals: int = 0,
    ) -> Assessment:
        """What there is, and what is missing for a ring (None: no ring is asked for). `approvals`: how many it needs."""


class Runtime(Protocol):
    """Runs replicas. Survives a restart of the server: what ran goes on running and is observed again."""

    def prepare(self, release: Release) -> None:
        """Unpack the release and build its locked environment. Blocking, idempotent, safe to repeat after a crash.

        Raises `BuildFailed` (a dependency does not install), `StorageFull`, `DamagedContent`.
        """

    def start(self, replica: ReplicaSpec) -> None:
        """Start a replica that was prepared; returns at once. Idempotent per (id, attempt). Raises `RuntimeUnavailable`."""

    def stop(self, replica_id: str, grace: float) -> None:
        """Ask a replica to end, and end it by force after `grace` seconds; returns at once. Idempotent.

        A stopped replica leaves `observe()` once it has ended.
        """

    def observe(self) -> tuple[ReplicaStatus, ...]:
        """All replicas that run here, or that ended without being stopped. Cheap: called several times a second."""

    def log_files(self, agent: str, ring: str) -> tuple[Path, ...]:
        """The log files of a ring's replicas, oldest first."""


class Router(Protocol):
    """The proxy in the callers' path."""

    def apply(self, routes: Routes) -> None:
        """Route so; returns when the proxy serves it. Make before break: a backend is known before a route names it.

        Idempotent. Raises `RouterUnavailable`; the proxy then keeps what it had.
        """

    def active_requests(self, agent: str, ring: str, digest: Digest) -> int:
        """Requests, streams and upgraded connections under way on a backend; 0 for one it does not know."""


class Prober(Protocol):
    """Asks replicas over HTTP."""

    def healthy(self, address: str, check: HealthCheck) -> str | None:
        """None when the health endpoint answers 2xx, else why not."""

    def smoke(self, address: str, tasks: tuple[SmokeTask, ...]) -> SmokeResult:
        """Run the smoke tasks in order until one fails. Blocking."""


@dataclass(frozen=True, slots=True)
class AccessLogChunk:
    """Complete lines of the proxy's access log, or of another, and the cursor after them. `ended`: none was left."""

    lines: tuple[bytes, ...]
    cursor: str
    ended: bool


class AccessLog(Protocol):
    """The proxy's durable record of every request."""

    def read(self, cursor: str | None, limit: int = 5_000) -> AccessLogChunk:
        """Complete lines after the cursor (None: from the oldest kept). Survives rotation."""

    def rotate(self) -> bool:
        """Begin a new file if the present one has grown large, and remove those that were read."""


class CallLog(Protocol):
    """What the processes of the gateway wrote of their calls: a log for each of them."""

    def names(self) -> tuple[str, ...]:
        """The logs that there are."""

    def read(self, name: str, cursor: str | None, limit: int = 2_000) -> AccessLogChunk:
        """Complete lines of a log after the cursor (None: from the oldest kept). Survives rotation."""

    def forget(self, name: str, cursor: str) -> None:
        """Remove the files of a log that are read to their end by now."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on something. `token` grows with every change of holder and guards every write."""

    name: str
    holder: str
    token: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as it is stored: its SHA-256, never itself."""

    name: str
    role: Role
    digest: str
    created_at: float


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event with its place in the order of all events."""

    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which requests to show. None: any. Times in seconds since the epoch."""

    task: str | None = None
    agent: str | None = None
    ring: str | None = None
    release: Digest | None = None
    arm: str | None = None
    rollout: str | None = None
    failed: bool | None = None  # by status or outcome; False: the others that were answered
    since: float | None = None
    until: float | None = None
    limit: int = 100
    payloads: bool = False  # with what was captured


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """A report about a task, and what became of it (see `Taken`)."""

    outcome: Outcome
    state: str


@dataclass(frozen=True, slots=True)
class StoredJudgement:
    """What the judge of a rollout said last: for people and pages, and its own state to go on from."""

    at: float
    cursor: int  # the last observation that it was fed with
    verdict: Mapping[str, object]  # as `judge.view_evidence` gives it
    state: Mapping[str, object]
    decided: str | None = None  # the kind of verdict that was acted on


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What a write with an idempotency key answered the first time."""

    fingerprint: str
    status: int
    body: str


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """A task that is kept for replay. `digest` and `size` (bytes) are those of its document."""

    agent: str
    ring: str
    task: str
    release: Digest
    at: float  # when the task began
    kept_until: float
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class RecordingQuery:
    """Which recordings to show. None: any."""

    agent: str | None = None
    ring: str | None = None
    release: Digest | None = None
    task: str | None = None
    digest: Digest | None = None
    limit: int = 100
    skip: int = 0


class RecordingStore(Protocol):
    """Documents of recordings under the SHA-256 of their bytes. Every read is verified."""

    def put(self, content: bytes) -> Digest:
        """Store a document, as a whole or not at all. Idempotent. Raises `StorageFull`."""

    def read(self, digest: Digest) -> bytes:
        """A document. Raises `NotFound`, `DamagedContent`."""

    def delete(self, digest: Digest) -> None:
        """Remove a document; one that is not there is no error."""

    def digests(self) -> tuple[Digest, ...]:
        """What is stored."""


class Snapshot(Protocol):
    """Consistent reads."""

    def agents(self) -> tuple[str, ...]:
        """All agents, by name."""

    def release(self, digest: Digest) -> Release | None:
        """One release."""

    def release_tagged(self, agent: str, tag: str) -> Release | None:
        """The release that a version tag points at."""

    def releases(self, agent: str) -> tuple[Release, ...]:
        """All releases of an agent, newest first."""

    def tags(self, agent: str) -> dict[str, Digest]:
        """Every version tag of an agent."""

    def deployment(self, deployment_id: str) -> Deployment | None:
        """One deployment."""

    def deployments(self, agent: str | None = None, ring: str | None = None, limit: int = 50) -> tuple[Deployment, ...]:
        """Deployments, newest first."""

    def unfinished(self, agent: str, ring: str) -> tuple[Deployment, ...]:
        """Those of a ring that are in progress or rolling back, oldest first."""

    def activations(self, agent: str, ring: str) -> tuple[Digest, ...]:
        """The releases that became active in a ring, newest first, at most a thousand."""

    def unprepared(self) -> int:
        """How many deployments are in `building` and occupy a build slot."""

    def pointer(self, agent: str, ring: str) -> Pointer:
        """The pointer of a ring; an empty one if nothing was ever routed there."""

    def pointers(self, agent: str | None = None) -> tuple[Pointer, ...]:
        """All pointers, by agent and ring."""

    def approvals(self, agent: str, ring: str, digest: Digest) -> tuple[Approval, ...]:
        """Every decision about a digest in a ring, oldest first."""

    def eval_runs(
        self, agent: str, release: Digest | None = None, *, suite: str | None = None, limit: int = 1_000
    ) -> tuple[EvalRun, ...]:
        """Runs of suites, newest first."""

    def eval_run(self, run_id: str) -> EvalRun | None:
        """One of them."""

    def eval_report(self, run_id: str) -> bytes | None:
        """Its whole report."""

    def replays(
        self, agent: str, candidate: Digest | None = None, *, deployment: str | None = None, limit: int = 100
    ) -> tuple[KeptReplay, ...]:
        """Replays, newest first."""

    def replay(self, replay_id: str) -> KeptReplay | None:
        """One of them."""

    def replay_report(self, replay_id: str) -> bytes | None:
        """Its whole report."""

    def quarantine(self, agent: str, digest: Digest) -> Quarantine | None:
        """Why a release is in quarantine, if it is."""

    def replicas(self, agent: str | None = None) -> tuple[ReplicaStatus, ...]:
        """The replicas as the controller last saw them."""

    def events(
        self,
        after: int = 0,
        *,
        agent: str | None = None,
        ring: str | None = None,
        deployment: str | None = None,
        newest_first: bool = False,
        limit: int = 200,
    ) -> tuple[StoredEvent, ...]:
        """Events with a sequence number above `after`, in order."""

    def count_tasks(self, rollout: str, since: float) -> int:
        """Tasks that a rollout gave to its candidate since a time."""

    def tasks(self, query: TaskQuery) -> tuple[Task, ...]:
        """The requests that a query asks for, newest first."""

    def outcomes(self, task: str) -> tuple[StoredOutcome, ...]:
        """Every report about a task, in the order in which they came."""

    def known(self, tasks: Iterable[str]) -> dict[TaskKey, Known]:
        """What counts of the reports of some tasks, and what their calls cost where nobody reported a cost. Only what
        anything is known of.
        """

    def calls(self, task: str, limit: int = 1_000) -> tuple[Call, ...]:
        """The first calls that a task made, of models and of tools, oldest first."""

    def due_costs(self, rollout: str, after: float, until: float, age: float) -> tuple[Observation, ...]:
        """What the gateway knows of the cost of tasks that the judge of a rollout was told no cost of.

        Of tasks that began after a time, and until another; what they cost until they had an age, as of then.
        """

    def due_failures(
        self, rollout: str, after: float, until: float, age: float, *, unread: bool
    ) -> tuple[Observation, ...]:
        """Tasks that the judge of a rollout knows no success or failure of, and that have failed by an age, as of then.

        Of tasks that began after a time, and until another: those with a request that was not answered yet; and where
        success is read from answers (`unread`), those of one request whose answer could not be read.
        """

    def unknown_reports(self) -> int:
        """Reports that wait for a task that has not been seen."""

    def observations(self, rollout: str, after: int = 0, limit: int = 5_000) -> tuple[Observation, ...]:
        """What the judge of a rollout is fed with, in order."""

    def judgement(self, rollout: str) -> StoredJudgement | None:
        """What the judge of a rollout said last."""

    def tallies(self, since: float, agent: str | None = None, ring: str | None = None) -> dict[TallyKey, Tally]:
        """Sums since a time (in whole steps of `TALLY_SECONDS`), by release and ring."""

    def heaviest_run(
        self, agent: str, ring: str, digest: Digest, since: float, began: float = 0.0
    ) -> dict[str, tuple[str, float]]:
        """`error_rate`, `intervention_rate`, `model_error_rate`, `cost` → the task with most failed requests,
        interventions, failed calls, cost; how much.

        All since a time; but calls of tasks that made one since then cost what they did since `began`.
        """

    def breakers(self, agent: str | None = None, ring: str | None = None) -> tuple[BreakerRecord, ...]:
        """Every breaker that ever tripped. One whose release was deployed to the ring again since then is closed."""

    def window(self, agent: str, ring: str, watched: Iterable[Digest], breaker: Breaker, span: Span) -> Window:
        """What a breaker of a ring sees of some releases in a span of time."""

    def budgets(self) -> tuple[StoredBudget, ...]:
        """The budgets that people set for the instance."""

    def recordings(self, query: RecordingQuery) -> tuple[StoredRecording, ...]:
        """The recordings that a query asks for, newest first."""

    def kept_digests(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of some documents of the recording store that something refers to."""

    def begun_tasks(
        self, agent: str, ring: str, after: tuple[float, str], until: float, limit: int = 500
    ) -> tuple[Task, ...]:
        """Requests of a ring in the order in which they began, after (time, request) and until a time."""

    def cursor(self, name: str) -> str | None:
        """How far something has come."""

    def task_counts(self, agent: str) -> dict[tuple[str, str], tuple[int, int]]:
        """(ring, digest) → requests, and how many of them failed (status 5xx); digest "" where no replica was reached."""

    def token(self, digest: str) -> TokenRecord | None:
        """The token with this SHA-256."""

    def tokens(self) -> tuple[TokenRecord, ...]:
        """All tokens, by name."""

    def trusted_keys(self) -> tuple[KeyRecord, ...]:
        """All keys that are or were trusted, by name and age."""

    def response(self, actor: str, key: str) -> StoredResponse | None:
        """The answer recorded under an idempotency key of an actor."""


class Transaction(Snapshot, Protocol):
    """Reads and writes that commit together, or not at all when an exception leaves the block."""

    def add_agent(self, name: str, at: float) -> None:
        """Make an agent known; changes nothing if it is."""

    def add_release(self, release: Release, config: bytes) -> None:
        """Record a release with its config component; its version becomes a tag."""

    def add_rings(self, agent: str, rings: Iterable[str]) -> None:
        """Give each ring a pointer that names nothing yet; changes nothing if it has one."""

    def add_tag(self, agent: str, tag: str, digest: Digest) -> None:
        """Let a tag point at a release. Raises `Conflict` when it points at another."""

    def remove_tag(self, agent: str, tag: str) -> None:
        """Let a tag name nothing. Raises `NotFound`."""

    def add_deployment(self, deployment: Deployment) -> None:
        """Record a new deployment. Raises `Conflict` when one is in progress in the ring."""

    def save_deployment(self, deployment: Deployment) -> None:
        """Write everything of a deployment but its state."""

    def move(self, deployment: Deployment, target: Phase, *, at: float, actor: str, reason: str) -> Deployment:
        """The one door for state changes: checks the table, writes state and event. Returns what is stored now.

        Raises `IllegalTransition`; `LeaseLost` when the stored state is no longer the one of `deployment`.
        """

    def save_pointer(self, pointer: Pointer, *, actor: str, reason: str) -> None:
        """Write a pointer and its event."""

    def add_approval(self, approval: Approval) -> None:
        """Record a decision."""

    def add_eval_run(self, run: EvalRun, report: bytes) -> None:
        """Keep a run of a suite with its report."""

    def add_replay(self, replay: KeptReplay, report: bytes) -> None:
        """Keep a replay with its report."""

    def add_quarantine(self, quarantine: Quarantine) -> None:
        """Put a release into quarantine; the first reason stays."""

    def clear_quarantine(self, quarantine: Quarantine, *, at: float, actor: str, reason: str) -> None:
        """Let a release out of quarantine: somebody answers for it."""

    def save_replicas(self, agent: str, ring: str, statuses: Iterable[ReplicaStatus]) -> None:
        """Replace what is known of the replicas of a ring."""

    def emit(self, event: Event) -> int:
        """Append an event; returns its sequence number."""

    def add_tasks(self, tasks: Iterable[Task], said: Mapping[str, Outcome], cursor: str) -> int:
        """Record requests as they begin and end, with what follows for tallies and rollouts, and the cursor after them
        together. `said`: by request, what its answer says of the task. What is known changes nothing; returns how many
        were new or are over now.
        """

    def add_outcomes(self, outcomes: Iterable[Outcome]) -> tuple[Taken, ...]:
        """Record reports about tasks, known or not; what is new of them goes to the judges of their rollouts."""

    def add_calls(self, calls: Iterable[Call], name: str, cursor: str) -> tuple[Call, ...]:
        """Record calls with what follows for tallies, and the cursor after them together. Returns those that were new."""

    def add_observations(self, rollout: str, due: Iterable[Observation]) -> None:
        """Tell the judge of a rollout what became of tasks; see `due_costs` and `due_failures`."""

    def changed_before(self, call: ToolCall, new: Iterable[str]) -> bool:
        """Whether a call of the same release and tool, none of the `new` ones, was refused for the same description."""

    def save_judgement(self, rollout: str, judgement: StoredJudgement) -> None:
        """Write what a judge says, and how it can go on."""

    def save_breaker(self, record: BreakerRecord) -> None:
        """Write what became of a breaker."""

    def set_budget(self, budget: StoredBudget) -> None:
        """Set a budget, or its limit anew."""

    def unset_budget(self, budget: StoredBudget) -> bool:
        """Forget a budget; its limit does not matter. False when there is none."""

    def add_recording(self, recording: StoredRecording) -> bool:
        """Record a recording; False when there is one of the task already, which stays."""

    def remove_recordings(self, removed: Iterable[StoredRecording]) -> None:
        """Forget recordings; what is not there is no error. Their documents are left."""

    def prune_recordings(self, before: float, limit: int = 500) -> int:
        """Forget recordings that are kept until a time; at most `limit` at once. Returns how many."""

    def save_cursor(self, name: str, value: str) -> None:
        """Note how far something has come."""

    def prune(self, before: float, limit: int = 5_000) -> int:
        """Forget requests, reports, calls and captured payloads from before a time, and what judges of rollouts that are
        over were fed with. At most `limit` of each kind at once; returns how many of the most frequent one.
        """

    def acquire_lease(self, name: str, holder: str, now: float, ttl: float) -> Lease | None:
        """The lease if it is free, expired or already the holder's; None if another holds it."""

    def check_lease(self, lease: Lease, now: float) -> None:
        """Raise `LeaseLost` unless the lease is still held."""

    def add_token(self, token: TokenRecord) -> None:
        """Record a token. Raises `Conflict` when the name is taken."""

    def remove_token(self, name: str) -> None:
        """Forget a token. Raises `NotFound`."""

    def add_key(self, key: KeyRecord) -> bool:
        """Trust a key; False when it is known already."""

    def revoke_key(self, keyid: str, at: float) -> None:
        """Trust a key no longer, nor anything that it signed. Raises `NotFound`."""

    def save_response(self, actor: str, key: str, response: StoredResponse, at: float) -> None:
        """Record what a write answered, for a day; status 0 while it is not known yet."""


class Store(Protocol):
    """The state of an instance."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Reads of one moment."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Reads and writes that commit together. Raises `StorageFull` when the disk is full."""


@dataclass(frozen=True, slots=True)
class Account:
    """What an account of the ledger holds now. Amounts are in the unit of its budgets."""

    name: str
    settled: int  # in the window
    held: int
    limit: int  # that was given last


class Ledger(Protocol):
    """What calls of the gateway's processes spend, on the accounts of their budgets. Used by several processes at once."""

    def reserve(
        self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount, until: float
    ) -> Refusal | None:
        """Hold the worst case of a call on all its accounts, or on none; then the budget that is in the way.

        A hold that is not settled until `until` (seconds since the epoch, by the clock of this machine) can be reaped.
        Raises `LedgerUnavailable`.
        """

    def settle(self, call: str, spent: Amount) -> None:
        """End the hold of a call with what it took; no more than was held counts. Idempotent, also for unknown calls."""

    def write(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...]:
        """Many of both, in their order, all durable when it returns. What each reservation answers; None for the others.

        Raises `LedgerUnavailable` or `StorageFull`, after which all can be asked again: each order counts once.
        """

    def write_at_once(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...] | None:
        """`write`, where that takes well under a millisecond; None, and nothing is written, where it might take longer.

        It is for the thread of an event loop: it waits for no other writer and for no network. Raises as `write`.
        """

    def extend(self, calls: Iterable[str], until: float) -> None:
        """Let the holds of calls that are still under way count for longer."""

    def reap(self) -> int:
        """Settle in full the holds that nobody settled in time, and forget accounts that are over; returns how many holds.

        Of rings with too many tasks the idlest are forgotten too, but maybe not at every reap.
        """

    def accounts(self) -> tuple[Account, ...]:
        """Every account, by name."""
