"""The values that everything else speaks of. All are frozen; a change returns a new value.

Times are seconds since the epoch (float, UTC), durations are seconds, weights are basis points (10,000 = 100 %).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from turnout.domain.budget import Budget
from turnout.domain.margins import MARGINS, NO_MARGINS, Margins
from turnout.domain.phases import Phase

Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits."""

FULL_WEIGHT = 10_000
ATTESTATION_KINDS = ("provenance", "test-result", "approval")
COMPONENT_NAMES = ("code", "model", "prompts", "tools", "data", "config")
DEFAULT_RINGS = ("dev", "staging", "production")


def short_digest(digest: str) -> str:
    """The first twelve hexadecimal digits, for people."""
    return digest.removeprefix("sha256:")[:12]


# --- what a release declares -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How to tell that a replica is ready: GET `path` answers 2xx."""

    path: str = "/ping"
    interval: float = 1.0
    timeout: float = 2.0
    start_timeout: float = 60.0
    unhealthy_after: int = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a replica may use. None: no limit of its own."""

    memory: int | None = None  # bytes of data segment (heap and private mappings)
    cpus: int | None = None  # cores that it may run on
    open_files: int | None = None


@dataclass(frozen=True, slots=True)
class SmokeTask:
    """One request that a release must answer as declared before it may get a caller's request."""

    name: str
    path: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    expect_status: int = 200
    expect_text: str | None = None  # a part that the answer must hold
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class CanaryStep:
    """A weight to hold until both `duration` has passed and `tasks` tasks came to the candidate."""

    weight: int
    duration: float = 0.0
    tasks: int = 0


class Ramp(StrEnum):
    """What a rollout has to show at each step."""

    WATCH = "watch"  # time and tasks; the judge only takes the candidate back
    TIMED = "timed"  # time and tasks; active only when the judge says pass
    EVIDENCE = "evidence"  # each step must be earned by evidence


class Inconclusive(StrEnum):
    """What becomes of a rollout that could not be decided within its limit."""

    HOLD = "hold"  # wait for a person
    EXTEND = "extend"  # wait for more tasks
    BACK = "back"  # take the candidate back


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How the rollouts of a ring are judged. `ceiling`: what one task may cost at most; without it cost is not judged."""

    ramp: Ramp = Ramp.WATCH
    ages: tuple[float, ...] = (120.0, 600.0, 3600.0)
    ceiling: float | None = None
    margins: Margins = MARGINS
    tolerance: Margins = NO_MARGINS
    minimum_tasks: int = 20  # of the candidate, before anything is proven
    limit: float = 259_200.0
    inconclusive: Inconclusive = Inconclusive.HOLD
    bake: float = 0.0  # how long the judge stays on after 100 %
    holdback: int = 0  # basis points that last-good keeps meanwhile, so that there is something to compare with


class BreakerScope(StrEnum):
    """Over what a breaker looks."""

    RUN = "run"  # a single task
    DEPLOYMENT = "deployment"  # one release in one ring
    WORKSPACE = "workspace"  # all rings of the instance


@dataclass(frozen=True, slots=True)
class Breaker:
    """A rule that takes the active release back by itself when `metric` is above `above`.

    `error_rate`, `intervention_rate`: shares of the tasks in the window; `model_error_rate`: of the calls of models; `cost`:
    the sum of what was reported, and of what the gateway metered where nothing was. For one task (`run`): the number of its
    failed requests, of its interventions, of its failed calls, its cost.
    """

    scope: BreakerScope
    metric: str  # one of `breakers.METRICS`
    above: float
    window: float = 300.0
    tasks: int = 20  # or calls; fewer say nothing


@dataclass(frozen=True, slots=True)
class Capture:
    """What is kept of requests and answers. Nothing when `size` is 0."""

    size: int = 0  # bytes of each, at most
    redact: tuple[str, ...] = ()  # regular expressions; what they match is not kept


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """What a change of any of these components needs."""

    of: tuple[str, ...]
    evals: tuple[str, ...] = ()  # suites that must have passed
    approvals: int = 0
    approvers: tuple[str, ...] = ()  # of whom one must approve; () for anybody


@dataclass(frozen=True, slots=True)
class Record:
    """Which tasks of the stable release are kept for replay, and what of them."""

    share: float = 1.0  # of the tasks
    keep: float = 2_592_000.0  # seconds
    models: bool = True  # the answers of models too
    size: int = 256_000  # bytes of each payload, at most


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Recorded tasks that a release is asked before it starts in a ring. `changed`: what share may come out otherwise."""

    source: str  # the ring whose tasks were recorded
    tasks: int = 50  # the newest
    changed: float | None = None  # held against the upper bound; None: the report is only shown
    models: str = "recorded"  # or "live"
    answers: bool = False  # whether another text counts as changed
    parallel: int = 1
    timeout: float = 60.0  # seconds for all requests of a task


@dataclass(frozen=True, slots=True)
class RingSettings:
    """What a release asks of one ring."""

    name: str
    replicas: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    approvals: int = 0
    approval_expiry: float = 86_400.0
    require: tuple[str, ...] = ()  # kinds of attestations without which no release starts here
    canary: tuple[CanaryStep, ...] = ()
    warm: float = 600.0  # how long a release that left the traffic keeps running; last-good is always kept
    drain: float = 30.0  # how long requests in flight may take to finish when a release is stopped
    stop_grace: float = 10.0  # between SIGTERM and SIGKILL
    floating_models: bool = False  # whether names of models that change their meaning are accepted
    judge: JudgeSettings | None = None  # None: canaries are watched, with the defaults
    breakers: tuple[Breaker, ...] = ()
    capture: Capture = field(default_factory=Capture)
    budgets: tuple[Budget, ...] = ()  # of tasks, of the release, of the ring
    evals: tuple[str, ...] = ()  # suites that every release must have passed
    eval_age: float = 2_592_000.0  # how old the result of a suite may be
    changes: tuple[ChangeRule, ...] = ()  # what a change of some components needs
    replay: ReplaySettings | None = None
    record: Record | None = None  # None: no task is kept for replay


@dataclass(frozen=True, slots=True)
class ReleaseSpec:
    """The config component, read: everything that is needed to run a release. Flags are in `env` as `FEATURE_*`."""

    agent: str
    start: tuple[str, ...]  # `{port}` in an argument stands for the port; PORT is also in the environment
    rings: tuple[RingSettings, ...]  # in promotion order
    lock: str | None = None  # path of the lock file in the release: requirements.txt, uv.lock or pylock.toml
    python: str | None = None  # version for the environment, such as "3.12"
    env: Mapping[str, str] = field(default_factory=dict)
    health: HealthCheck = field(default_factory=HealthCheck)
    limits: Limits = field(default_factory=Limits)
    smoke: tuple[SmokeTask, ...] = ()
    paths: Mapping[str, str] = field(
        default_factory=dict
    )  # component name → folder or file of it, relative to the release's folder
    success: str = "status"  # how a task is known to have succeeded; see `outcomes.read_task`
    suites: tuple[str, ...] = ()  # the names of its eval suites

    def ring(self, name: str) -> RingSettings | None:
        """The settings of a ring, or None if the release does not declare it."""
        return next((ring for ring in self.rings if ring.name == name), None)


@dataclass(frozen=True, slots=True)
class ComponentRef:
    """One component of a release: the digest of its uncompressed bytes, and their number."""

    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Release:
    """An immutable, content-addressed set of components. Author, time and Git SHA are about it, not part of it."""

    digest: Digest
    agent: str
    version: str
    components: Mapping[str, ComponentRef]
    spec: ReleaseSpec
    author: str
    created_at: float
    git_sha: str | None = None


# --- what is running -------------------------------------------------------------------------------------------------


class ReplicaState(StrEnum):
    """What the runtime sees of a replica."""

    STARTING = "starting"  # its process runs, it has not answered yet
    READY = "ready"
    UNREADY = "unready"  # it answered once and does not now
    STOPPING = "stopping"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """What a runtime needs to start one replica. The id is derived from the rest, so that a start is idempotent."""

    agent: str
    ring: str
    digest: Digest
    index: int
    attempt: int  # 1 for the first start; a restart counts up
    start: tuple[str, ...]
    env: Mapping[str, str]
    health: HealthCheck
    limits: Limits
    lock: str | None = None
    python: str | None = None

    @property
    def id(self) -> str:
        """`agent.ring.digest12.index`, unique on an instance."""
        return replica_id(self.agent, self.ring, self.digest, self.index)


def replica_id(agent: str, ring: str, digest: str, index: int) -> str:
    """The name of a replica: the same for every start of it."""
    return f"{agent}.{ring}.{short_digest(digest)}.{index}"


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """What a runtime observes of one replica. `address` is host:port, None while it has none."""

    agent: str
    ring: str
    digest: Digest
    index: int
    attempt: int
    state: ReplicaState
    address: str | None = None
    pid: int | None = None
    started_at: float = 0.0
    exited_at: float | None = None
    exit_code: int | None = None  # negative: ended by that signal
    message: str = ""  # why it is not ready, for a person

    @property
    def id(self) -> str:
        """The same as the id of the spec it was started from."""
        return replica_id(self.agent, self.ring, self.digest, self.index)


# --- what is wanted --------------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """How a deployment came to be."""

    DEPLOY = "deploy"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a deployment waits for inside a state."""

    type: str
    message: str
    since: float


@dataclass(frozen=True, slots=True)
class Abort:
    """A wish to end a deployment in progress."""

    actor: str
    reason: str
    quarantine: bool = False


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far the canary of a deployment has come. `step` counts from 0; -1 before the first."""

    step: int = -1
    entered_at: float = 0.0
    advance: bool = False  # somebody asked to leave this step without waiting
    began_at: float = 0.0  # when the first step began
    paused: bool = False  # somebody asked not to go on
    paused_at: float = 0.0
    tripped: str | None = None  # what tripped where there was nothing to go back to
    tripped_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """One attempt to make a release the active one of a ring."""

    id: str
    agent: str
    ring: str
    digest: Digest
    kind: Kind
    phase: Phase
    actor: str
    created_at: float
    phase_at: float  # when the present state was entered
    reason: str = ""  # why it was asked for, in the words of the actor
    quarantine: bool = False  # a rollback: whether the release that it replaces goes into quarantine
    condition: Condition | None = None
    source_ring: str | None = None
    override: str | None = None  # the reason given for overriding a policy
    rollout: Rollout = field(default_factory=Rollout)
    prepared: bool = False
    smoke_passed: bool = False
    active_at: float | None = None  # when it became active, if it ever did
    abort: Abort | None = None


@dataclass(frozen=True, slots=True)
class Retired:
    """A release that left the traffic and still runs, since when."""

    digest: Digest
    at: float


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which releases a ring routes to. Changing it is one transaction. `weight` is the candidate's."""

    agent: str
    ring: str
    stable: Digest | None = None
    candidate: Digest | None = None
    weight: int = 0
    last_good: Digest | None = None
    active_deployment: str | None = None
    retired: tuple[Retired, ...] = ()
    generation: int = 0
    changed_at: float = 0.0
    rollout: str | None = None  # the deployment whose tasks are judged
    holdback: int = 0  # what last-good still gets while the stable release bakes


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody's decision about one digest in one ring."""

    agent: str
    ring: str
    digest: Digest
    approver: str
    approved: bool  # False: rejected
    at: float
    expires_at: float
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A release that was taken back for a fault in a ring; deploying it again, in any ring, needs an override."""

    agent: str
    digest: Digest
    ring: str
    reason: str
    actor: str
    at: float

    def is_answered_for(self, deployment: Deployment) -> bool:
        """Whether who asked for a deployment knew of it, and wanted the release to serve all the same."""
        return deployment.override is not None and self.at <= deployment.created_at


class Arm(StrEnum):
    """On which side of a rollout a task was."""

    STABLE = "stable"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class Task:
    """One request, as the proxy logged it: when it began, and again when it ended. `release` is None when none was chosen.

    A task (a conversation) may have many requests. `probability` is the share of the candidate when this one came; arm,
    probability and rollout are None outside of rollouts, and for callers who pinned a release.
    """

    request: str  # unique id of the request
    task: str
    agent: str
    ring: str
    release: Digest | None
    at: float
    duration: float | None  # None: it is under way
    status: int  # 0 while it is under way
    method: str = ""
    path: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    flags: str = ""  # the proxy's response flags, "" when all went well
    arm: Arm | None = None
    probability: float | None = None
    rollout: str | None = None  # the deployment that was judged
    pinned: bool = False
    judged_by: Digest | None = None  # the release whose rule says whether it succeeded: of a rollout, the stable one
    report: str | None = None  # what the agent said of it in the header x-turnout-outcome
    question: bytes | None = None  # the beginning of the request, if the ring captures
    answer: bytes | None = None


# --- what the proxy is told ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backend:
    """The replicas of one release in one ring, as host:port. `pinnable`: a caller may ask for it by header."""

    digest: Digest
    endpoints: tuple[str, ...]
    pinnable: bool = True


@dataclass(frozen=True, slots=True)
class RingRoute:
    """How one ring routes. Weights are (digest, basis points), candidate first; they add up to 10,000 or are empty.

    The candidate comes first so that raising its weight moves only the added band of sticky keys.
    """

    agent: str
    ring: str
    weights: tuple[tuple[Digest, int], ...]
    backends: tuple[Backend, ...]
    rollout: str | None = None  # the deployment that is judged; the candidate of it comes first in `weights`
    capture: int = 0  # bytes of request and answer to log


@dataclass(frozen=True, slots=True)
class Routes:
    """Everything the proxy routes. Ordered by agent and ring, so that equal routes are equal values."""

    rings: tuple[RingRoute, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge of a rollout says now, as far as a plan needs it."""

    kind: str  # of `judge.Kind`
    metric: str | None
    proven: int  # levels of margins that are proven, from the coarsest
    levels: int  # how many there are
    against: float  # evidence against the candidate; 1 is none
    summary: str  # for people


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """What became of the smoke tasks: passed, or the first that failed and why."""

    passed: bool
    message: str = ""
