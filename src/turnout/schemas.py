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
    replay: NotRequired[ReplayView | None]  # that was made before it started


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
    """What is where in one ring.

    `last_good`: what was stable before. `way_back`: what a rollback leaves in place: while a canary runs stable, else
    last-good, or what was active before where that is in quarantine.
    """

    ring: str
    stable: str | None
    candidate: str | None
    weight: float
    last_good: str | None
    way_back: str | None
    active_deployment: str | None
    url: str
    stable_version: str | None
    candidate_version: str | None
    last_good_version: str | None
    way_back_version: str | None
    in_progress: DeploymentView | None
    failed: DeploymentView | None
    retired: list[RetiredView]
    replicas: list[ReplicaView]
    requests: dict[str, RequestCounts]
    judged: str | None  # the kind of verdict on the rollout that is judged now
    holdback: float  # percent that last-good keeps while the stable release bakes
    tripped: str | None  # what tripped a breaker where there was nothing to go back to


class RetiredView(TypedDict):
    """A release that left the traffic and still runs."""

    digest: str
    version: str | None
    quarantine: str | None


class RequestCounts(TypedDict):
    """Requests of a release in a ring since it is known; under `none` those that reached no replica.

    `failed`: by their status, which was 5xx, whatever became of their tasks.
    """

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
    """One release. `version` is its first tag; `success`: how a task is known to have succeeded."""

    digest: str
    agent: str
    version: str
    tags: list[str]
    components: dict[str, ComponentView]
    author: str
    created_at: str
    git_sha: str | None
    success: str
    quarantine: str | None


class KeyView(TypedDict):
    """A public key that is or was trusted. `instance`: it belongs to an instance of turnout."""

    keyid: str
    name: str
    public: str
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
    later: dict[str, list[str]]  # what the rings after it will ask, by ring
    overrides: list[str]
    changed: list[str]
    config: list[str]


class ReplaySummaryView(TypedDict):
    """What the tasks of a replay add up to. `share`: of those that did not come out the same, with bounds of 95 % each.

    Ratios: after over before, over the tasks that have both; null without any.
    """

    tasks: int
    same: int
    changed: int
    failed: int
    unusable: int
    divergences: int
    share: float
    low: float
    high: float
    cost_ratio: float | None
    latency_ratio: float | None
    strays: int
    message: str


class ReplayView(TypedDict):
    """Recorded tasks of one release that were asked of another. `deployment`: whose gate it was."""

    id: str
    agent: str
    ring: str
    baseline: str
    baseline_version: str
    candidate: str
    candidate_version: str
    at: str
    actor: str
    deployment: str | None
    summary: ReplaySummaryView
    report: str


class ReplayList(TypedDict):
    """Replays, newest first."""

    replays: list[ReplayView]


class ReplayReportView(ReplayView):
    """One of them with its report, as it was handed in."""

    document: str


class EvalFinding(TypedDict):
    """One demand of a suite, and what was found."""

    metric: str
    kind: str
    limit: float
    mean: float | None
    bound: float | None
    passed: bool
    stable: float | None
    note: str


class EvalVerdict(TypedDict):
    """What came of a suite. `baseline`: it was run of a stable release, only for another to be compared with."""

    baseline: bool
    confidence: float
    passed: bool
    cases: int
    runs: int
    failed: list[str]
    problems: list[str]
    findings: list[EvalFinding]


class EvalRunView(TypedDict):
    """One run of a suite against a release."""

    id: str
    agent: str
    digest: str
    version: str
    suite: str
    suite_digest: str
    at: str
    actor: str
    passed: bool
    stable: str | None
    report: str
    verdict: EvalVerdict


class EvalRunList(TypedDict):
    """Runs of suites, newest first."""

    runs: list[EvalRunView]


class EvalReportView(EvalRunView):
    """One of them with its report, as it was handed in."""

    document: str


class ApprovalView(TypedDict):
    """How the approvals of a release in a ring stand."""

    agent: str
    ring: str
    digest: str
    needed: int
    approvers: list[str]
    satisfied: bool
    message: str
    changed: list[str]  # components that differ from what is stable
    evals: list[EvalRunView]  # of each suite the newest run
    replay: ReplayView | None  # the newest of recorded tasks


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


class TakenView(TypedDict):
    """What became of a report. `state`: counted, repeated, waiting, contradicts, foreign, refused or invalid.

    `message` says what that means and what to do. `agent` and `ring`: where the task was, null until it was seen.
    """

    task: str
    state: str
    message: str
    agent: str | None
    ring: str | None


class TakenList(TypedDict):
    """What became of each report of a batch, in its order."""

    outcomes: list[TakenView]


class OutcomeView(TypedDict):
    """What is known of a task; null is unknown."""

    success: bool | None
    intervention: bool | None
    cost: float | None


class ReportView(TypedDict):
    """One report about a task. `counts`: which of its values do. `agent`, `ring`: null while the task is unknown."""

    at: str
    agent: str | None
    ring: str | None
    source: str
    reporter: str
    success: bool | None
    intervention: bool | None
    cost: float | None
    detail: str
    state: str
    counts: list[str]


class TaskView(TypedDict):
    """One request. `duration` in seconds and null while it is under way; `probability`: of the candidate when it came."""

    request: str
    task: str
    agent: str
    ring: str
    digest: str | None
    version: str | None
    at: str
    duration: float | None
    status: int
    method: str
    path: str
    bytes_in: int
    bytes_out: int
    flags: str
    arm: str | None
    probability: float | None
    rollout: str | None
    pinned: bool
    outcome: OutcomeView


class TaskList(TypedDict):
    """Requests, newest first. `next`: the cursor of the page after this one, null at the end."""

    tasks: list[TaskView]
    next: str | None


class RecordingView(TypedDict):
    """A task that is kept for replay. `size` in bytes.

    `faults`: why it cannot be replayed where models answer for real; `model_faults`: and why models cannot answer from it.
    `problem`: what is wrong with what is stored, null where nothing is.
    """

    agent: str
    ring: str
    task: str
    digest: str
    version: str | None
    document: str
    size: int
    at: str
    kept_until: str
    requests: int
    tool_calls: int
    model_calls: int
    faults: list[str]
    model_faults: list[str]
    problem: str | None


class RecordingList(TypedDict):
    """Recordings, newest first."""

    recordings: list[RecordingView]


class PayloadView(TypedDict):
    """What was captured of a request or an answer: as text, or in base64 where it is none.

    `whole`: all of it, nothing was cut off or redacted.
    """

    text: str | None
    base64: str | None
    bytes: int
    whole: bool


class RequestView(TaskView):
    """One request with what was captured of it."""

    question: PayloadView | None
    answer: PayloadView | None


class PromptView(TypedDict):
    """A file of the prompts. `text` is null where `note` says why."""

    path: str
    size: int
    digest: str
    text: str | None
    note: str


class DecisionView(TypedDict):
    """Somebody's decision about a release in a ring."""

    approver: str
    approved: bool
    at: str
    comment: str


class OverrideView(TypedDict):
    """A policy that an admin passed over."""

    actor: str
    at: str
    overridden: list[str]
    reason: str


class AdmissionView(TypedDict):
    """How a release came into a ring."""

    deployment: str
    kind: str
    actor: str
    reason: str
    at: str
    source_ring: str | None
    approvals: list[DecisionView]
    overrides: list[OverrideView]


class LineageRelease(TypedDict):
    """A release that served requests of a task, exactly as it was. `env`: as the release declares it for the ring."""

    agent: str
    ring: str
    release: ReleaseView
    model: dict[str, Any] | None
    prompts: list[PromptView]
    start: list[str]
    env: dict[str, str]
    success: str
    admission: AdmissionView | None
    problems: list[str]


class LineageVerdict(TypedDict):
    """How the rollout stood that a task was part of: when the task came, and what the judge says now.

    `against` is the evidence against the candidate by metric, 1 is none; `kind` what it meant; null where nothing is kept.
    """

    rollout: str
    at: str
    step: int | None
    weight: float | None
    kind: str | None
    against: dict[str, float]
    latest: str | None
    latest_at: str | None
    decided: str | None
    events: list[EventView]


class AttemptView(TypedDict):
    """One try of a call at one route. `status` is null where there was no answer."""

    route: str
    model: str
    seconds: float
    status: int | None
    error: str


class ModelCallView(TypedDict):
    """A call of a model through the gateway. `cost` in dollars, null where nothing has a price; times in seconds.

    `ended`: done, refused, failed, cut, cancelled or timeout. `estimated`: tokens and cost are an estimate.
    """

    id: str
    at: str
    duration: float
    agent: str
    ring: str
    digest: str
    endpoint: str
    provider: str
    model: str
    answered_by: str | None
    route: str | None
    stream: bool
    first_chunk: float | None
    status: int
    ended: str
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    tokens_reasoning: int
    estimated: bool
    cost: float | None
    prices: str | None
    attempts: list[AttemptView]
    error: str


class ToolCallView(TypedDict):
    """A call of a tool through the gateway. Arguments and result are JSON texts, null where the ring keeps none.

    `found`: the digest of what the server described, or `gone`, where that was not the pinned one and the call was refused.
    """

    id: str
    at: str
    duration: float
    agent: str
    ring: str
    digest: str
    server: str
    tool: str
    ended: str
    failed: bool
    arguments: str | None
    arguments_digest: str | None
    result: str | None
    result_digest: str | None
    pinned: str | None
    found: str | None
    error: str


class MeteredView(TypedDict):
    """What the calls of models that a task made took together. `cost` in dollars, null where no call has a price."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    estimated: bool


class LineageView(TypedDict):
    """From a task back to what answered it. `more`: there are requests beyond those shown; `more_calls`: calls."""

    task: str
    outcome: OutcomeView
    requests: list[RequestView]
    more: bool
    releases: list[LineageRelease]
    verdicts: list[LineageVerdict]
    reports: list[ReportView]
    metered: MeteredView
    model_calls: list[ModelCallView]
    tool_calls: list[ToolCallView]
    more_calls: bool


class ToolPinView(TypedDict):
    """A tool that a release may call. `server`, `sha256`: null where there is none, and it cannot be called."""

    server: str | None
    name: str
    sha256: str | None
    rules: dict[str, Any] | None
    timeout: float
    side_effects: bool


class ToolPinList(TypedDict):
    """The tools of a release."""

    agent: str
    digest: str
    version: str
    tools: list[ToolPinView]


class BreakerView(TypedDict):
    """A breaker, for a release in a ring. `state`: closed, open or half_open; `value`: what it sees now, null for too few.

    `since`, `reason`, `actor`, `tripped_with`: of when it tripped or was reset last; null for one that never tripped.
    """

    agent: str
    ring: str
    digest: str
    version: str | None
    scope: str
    metric: str
    above: float
    window: float
    tasks: int
    state: str
    value: float | None
    task: str | None
    since: str | None
    tripped_with: float | None
    reason: str | None
    actor: str | None


class BreakerList(TypedDict):
    """Breakers, by agent and ring."""

    breakers: list[BreakerView]


class BudgetView(TypedDict):
    """A budget of the instance. `limit` in dollars, tokens or calls; `window` in seconds."""

    scope: str
    agent: str | None
    ring: str | None
    unit: str
    limit: float
    window: float | None
    actor: str
    at: str


class DeclaredBudgetView(TypedDict):
    """A budget that a release declares for a ring that it is routed in. `window` null: in all."""

    agent: str
    ring: str
    digest: str
    version: str
    scope: str
    unit: str
    limit: float
    window: float | None


class AccountView(TypedDict):
    """What is on an account. In dollars, tokens or calls; `held`: what calls under way may take at most."""

    name: str
    unit: str
    settled: float
    held: float
    limit: float


class BudgetList(TypedDict):
    """Budgets and accounts; of accounts of tasks the fullest. `more`: how many are not shown."""

    budgets: list[BudgetView]
    declared: list[DeclaredBudgetView]
    accounts: list[AccountView]
    more: int


class TokenView(TypedDict):
    """A token. `token` itself is shown once, when it is made."""

    name: str
    role: str
    created_at: str
    token: NotRequired[str]


class TokenList(TypedDict):
    """All tokens."""

    tokens: list[TokenView]


class GatewayProcessView(TypedDict):
    """A process of the gateway. `restarts`: how often it was started again since the server began."""

    kind: str  # model or tool
    index: int
    address: str
    running: bool
    restarts: int


class InstanceView(TypedDict):
    """The instance that answers."""

    version: str
    traffic: str
    actor: str
    role: str
    gateway: list[GatewayProcessView]  # empty: there is no gateway


class LogLine(TypedDict):
    """One line of a replica's log."""

    replica: str
    line: str


class WhyCause(TypedDict):
    """What decided about a deployment. `kind`: judge, breaker, person, check (smoke, health, a gate), waiting or none."""

    kind: str
    text: str
    by: str
    at: str | None
    metric: str | None


class WhyArm(TypedDict):
    """One arm under one metric: units, those without a report, mean, and bounds that hold at all times."""

    units: int
    missing: int
    mean: float
    low: float
    high: float | None


class WhyMetric(TypedDict):
    """A metric of the judge; `against` is 1 without evidence, null beyond all numbers."""

    metric: str
    against: float | None
    stable: WhyArm
    candidate: WhyArm


class WhyTask(TypedDict):
    """A task that multiplied the evidence of a metric with `factor`."""

    task: str
    metric: str
    at: str
    factor: float


class WhyEvidence(TypedDict):
    """What the judge said, and on what grounds. `units`: tasks that began in both arms, `candidates`: in the candidate's."""

    kind: str
    metric: str | None
    at: str
    against: float | None
    hold_at: float
    abort_at: float
    units: int
    candidates: int
    expected: float
    metrics: list[WhyMetric]
    tasks: list[WhyTask]


class WhyBreaker(TypedDict):
    """A breaker that tripped: `value` was above `above` within `window` seconds."""

    scope: str
    metric: str
    value: float
    above: float
    window: float
    task: str | None


class WhyPoint(TypedDict):
    """The evidence against the candidate at one moment, `seconds` after the first."""

    seconds: float
    against: dict[str, float]


class WhyDiff(TypedDict):
    """What the release brings against another. `lines`: the most telling; `problem`: why it cannot be said."""

    a_version: str
    b_version: str
    text: str
    lines: list[str]
    left_out: int
    problem: str | None


class WhyApproval(TypedDict):
    """Somebody's decision about the release in the ring."""

    by: str
    approved: bool
    at: str
    comment: str


class WhyOverride(TypedDict):
    """A policy that was passed over."""

    by: str
    at: str
    reason: str
    overridden: list[str]


class WhyStep(TypedDict):
    """Something that was done. `after`: seconds after the deployment was asked for."""

    at: str
    after: float
    by: str
    what: str


class WhyNext(TypedDict):
    """What somebody can do now."""

    what: str
    command: str


class WhyServing(TypedDict):
    """What the ring routes to now. `weight`: per cent that the candidate gets."""

    stable: str | None
    stable_version: str | None
    candidate: str | None
    candidate_version: str | None
    weight: float


class WhyDecision(TypedDict):
    """How long it took to decide: seconds since the candidate got its first share, and what it was given until then."""

    seconds: float
    tasks: int | None


class WhyView(TypedDict):
    """A deployment on one page: what happened, why, on what evidence, what was done and what to do next."""

    at: str
    headline: str
    deployment: DeploymentView
    release: ReleaseView | None
    cause: WhyCause
    decision: WhyDecision | None
    evidence: WhyEvidence | None
    breaker: WhyBreaker | None
    series: list[WhyPoint]
    diff: WhyDiff | None
    approvals: list[WhyApproval]
    overrides: list[WhyOverride]
    done: list[WhyStep]
    serving: WhyServing
    next: list[WhyNext]


class AlertView(TypedDict):
    """A target of alerts. `state`: delivering, behind, failing or idle (no server has served it yet).

    `cursor`: the last event that is done with; `lag` events follow it, the oldest `lag_seconds` old. `test`, `test_error`:
    the last test that was sent, and why it failed.
    """

    name: str
    kind: str
    to: str
    events: list[str]
    state: str
    cursor: int | None
    lag: int
    lag_seconds: float
    sent: int
    sent_at: str | None
    error: str
    failing_since: str | None
    skipped: int
    skipped_note: str
    test: str
    test_error: str | None


class AlertList(TypedDict):
    """All targets of alerts, by name."""

    alerts: list[AlertView]


class AlertAsked(TypedDict):
    """A wish that was noted; the target's courier sees to it within moments. `id` names it."""

    name: str
    id: str


class Problem(TypedDict):
    """RFC 9457. `type` is `urn:turnout:problem:` and the code of the error."""

    type: str
    title: str
    status: int
    detail: str
    hint: NotRequired[str]
    problems: NotRequired[list[str]]


class RolloutView(TypedDict):
    """A rollout and what its judge says; `verdict` as the judge shows it, null while it has said nothing. Times in s."""

    deployment: DeploymentView
    running: bool
    paused: bool
    baking: bool
    holdback: float  # percent
    ramp: str
    limit: float
    inconclusive: str
    began_at: str | None
    verdict: dict[str, object] | None
    decided: str | None
    unknown_reports: int


class RolloutStepView(TypedDict):
    """A canary step of a planned rollout: what it waits for, and when half of the equal releases leave it.

    `proof`: evidence is waited for too, longest for the metric `slowest`. Null hours: not within the limit.
    """

    share: float
    seconds: float
    tasks: int
    proof: bool
    leaves_at_hours: float | None
    slowest: str | None


class DetectionView(TypedDict):
    """When half of the releases with a fault are taken back (null: not within the limit).

    `in_time`: before the rollout is over. Otherwise `tasks` and `hours` are those that its first share would need.
    """

    metric: str
    effect: float
    tasks: int | None
    hours: float | None
    in_time: bool


class RolloutPlanView(TypedDict):
    """What a rollout could tell.

    `rates`: of the `seen` tasks of the release that serves; `assumed` where these are too few. `over_after_hours`: when a
    canary that is only watched is over (null: it waits for proof, or not within the limit); the judge compares for
    `bake_hours` after that.
    """

    tasks_per_hour: float
    rates: dict[str, float]
    seen: int
    assumed: bool
    ramp: str
    limit_hours: float
    decides: bool
    hours_to_pass: float | None
    over_after_hours: float | None
    bake_hours: float
    steps: list[RolloutStepView]
    detections: list[DetectionView]
