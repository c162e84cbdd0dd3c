"""The whole error tree.

Each error says what is wrong, and where known what to do about it (`hint`). Retryable or terminal is in the type; foreign
errors are translated into these at the edge where they arise. `code` is part of the interface: it is the `type` of a
problem+json answer and decides the exit code of the command line.
"""

from __future__ import annotations


class TurnoutError(Exception):
    """The root. `message` is a sentence for a person; `hint` says what to do next."""

    code = "internal"
    status = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Terminal(TurnoutError):
    """Trying the same again cannot help."""


class Retryable(TurnoutError):
    """The same may succeed later."""

    code = "unavailable"
    status = 503


class ManifestError(Terminal):
    """`turnout.toml` is wrong. `problems` holds one line per fault, each opening with the path in the file."""

    code = "invalid_manifest"
    status = 422

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class BuildFailed(Terminal):
    """A release or its environment could not be built."""

    code = "build_failed"
    status = 422


class NotFound(Terminal):
    """No such agent, ring, release, deployment."""

    code = "not_found"
    status = 404


class Conflict(Terminal):
    """What was asked does not fit the state that the ring is in."""

    code = "conflict"
    status = 409


class PolicyRefused(Terminal):
    """A gate refused: order of rings, approvals, quarantine."""

    code = "policy_refused"
    status = 409


class VerificationFailed(Terminal):
    """A release is not what it should be, or what a ring demands of its attestations is not there."""

    code = "verification_failed"
    status = 422


class Unauthenticated(Terminal):
    """No token, or one that is not known."""

    code = "unauthenticated"
    status = 401


class Forbidden(Terminal):
    """The token is known, but its role does not allow this."""

    code = "forbidden"
    status = 403


class InvalidRequest(Terminal):
    """A request that cannot be understood."""

    code = "invalid_request"
    status = 422


class DamagedContent(Terminal):
    """Stored bytes do not have the digest that they are stored under. Never served."""

    code = "damaged_content"
    status = 500


class UnsafeArchive(Terminal):
    """An archive holds an entry that would leave its folder, or is not a plain file or folder."""

    code = "unsafe_archive"
    status = 422


class SetupFailed(Terminal):
    """The server cannot start here: a port is taken, the state folder is in use or newer than this version."""

    code = "setup_failed"


class IllegalTransition(Terminal):
    """A state change that the transition table does not hold. A fault of turnout itself."""

    code = "illegal_transition"


class LeaseLost(Retryable):
    """Another worker holds this ring now; what was planned must not be applied."""

    code = "lease_lost"


class RouterUnavailable(Retryable):
    """The proxy does not run or has not taken the configuration in time."""

    code = "router_unavailable"


class LedgerUnavailable(Retryable):
    """What budgets have left cannot be asked just now."""

    code = "ledger_unavailable"


class RouteFailed(Retryable):
    """A route to a provider of models gave no proper answer; another one may.

    `answered` is the status of its answer, None where there was none. `retry_after`: seconds, where the provider asks for a
    pause. `sent`: whether the provider may have worked on the call, and may charge for it.
    """

    code = "route_failed"
    status = 502

    def __init__(
        self,
        message: str,
        *,
        answered: int | None = None,
        retry_after: float | None = None,
        sent: bool = False,
        timeout: bool = False,
    ) -> None:
        super().__init__(message)
        self.answered = answered
        self.retry_after = retry_after
        self.sent = sent
        self.timeout = timeout


class CallRefused(Terminal):
    """The gateway does not let a call of an agent through. `retry_after`: seconds, where it would then."""

    def __init__(
        self, message: str, *, status: int, code: str, retry_after: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class ReplayNotHeld(Terminal):
    """A replay does not show that few enough tasks change."""

    code = "replay_not_held"
    status = 409


class EvalsNotPassed(Terminal):
    """A release has not passed a suite that it has to pass."""

    code = "evals_not_passed"
    status = 409


class RuntimeUnavailable(Retryable):
    """A replica could not be started or asked just now."""

    code = "runtime_unavailable"


class TooManyRequests(Retryable):
    """One caller asks more than it may. `retry_after`: seconds."""

    code = "too_many_requests"
    status = 429

    def __init__(self, message: str, *, retry_after: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class StorageFull(Retryable):
    """The disk that holds the state is full."""

    code = "storage_full"
    status = 507


class ServerUnreachable(Retryable):
    """The client cannot reach the server."""

    code = "server_unreachable"
