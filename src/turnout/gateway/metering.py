"""The bill of one call: held before it, settled after it on every exit, and written to the journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from turnout.domain.budget import NANOS, Amount, Budget, BudgetScope, Refusal, Spender, Unit
from turnout.domain.calls import Ended, ModelCall
from turnout.domain.errors import CallRefused, Retryable
from turnout.gateway.failover import Candidate, Journey
from turnout.gateway.kept_answer import KeptAnswer
from turnout.gateway.prices import PriceTable, Terms
from turnout.gateway.protocols.usage import Usage
from turnout.gateway.requests import Asked
from turnout.gateway.seams import CallJournal, Spending

BEYOND_BELIEF = 100_000_000  # tokens out of one call that nothing limits
_LONGEST_NAME = 200  # characters, of a model that a caller made up
_UNTOLD = (Ended.CANCELLED, Ended.TIMEOUT)  # nobody knows what became of such a call at the provider


@dataclass(slots=True)
class Bill:
    """One call as it goes on. Times: `at` since the epoch, `began` of the event loop."""

    id: str
    at: float
    began: float
    spender: Spender
    asked: Asked
    prices: PriceTable
    budgets: tuple[Budget, ...] = ()
    most: Amount | None = None  # what is held; None where nothing is
    journey: Journey | None = None
    answered: Candidate | None = None
    answered_by: str = ""
    usage: Usage | None = None  # as the provider told it
    terms: Terms = ()  # as the provider told them
    seen_out: int = 0  # tokens out, estimated
    started: bool = False  # whether a route began to answer
    whole: bool = False  # whether the route answered in full, whatever became of the agent
    first_chunk: float | None = None
    status: int = 0
    ended: Ended = Ended.FAILED
    error: str = ""
    spent: Amount = field(default_factory=lambda: Amount(calls=0))
    charged: Usage = field(default_factory=Usage)
    estimated: bool = False
    closed: bool = False
    kept: KeptAnswer | None = None  # where the ring records what models answer

    async def hold(self, accounts: Spending, most: Amount) -> None:
        """Reserve the worst case. Raises `CallRefused` where a budget is in the way, or the ledger does not answer."""
        try:
            refusal = await accounts.reserve(self.id, self.spender, self.budgets, most)
        except Retryable:
            raise CallRefused(
                "what the budgets have left cannot be asked just now",
                status=503,
                code="ledger_unavailable",
                retry_after=1,
            ) from None
        if refusal is not None:
            raise _refused(refusal, self.spender)
        self.most = most

    def close(self, accounts: Spending, journal: CallJournal) -> None:
        """Settle what the call took, and write it down. Once."""
        if self.closed:
            return
        self.closed = True
        duration = asyncio.get_running_loop().time() - self.began
        self._charge()
        if self.most is not None:
            accounts.settle(self.id, self.spent)
        journal.write(self._record(duration))

    def _charge(self) -> None:
        """Usage, believed or estimated, and its cost: never more than was held."""
        if self.journey is None or not self.journey.attempts or self.asked.endpoint.is_free:
            return
        candidate, demand = self.answered or self.journey.last, self.asked.demand
        usage = self._usage(candidate) if self.started else Usage()
        terms = self.terms or self.asked.terms
        cost = self.prices.cost(candidate.pin, usage, terms) or 0
        if vain := self.journey.in_vain * demand.estimate_in:
            # Tries on which the provider worked, and nobody knows what it charges: what went in, each time.
            self.estimated = True
            cost += self.prices.cost(candidate.pin, Usage(tokens_in=vain), terms) or 0
            usage = replace(usage, tokens_in=usage.tokens_in + vain)
        tokens = usage.tokens_in + usage.tokens_out
        if self.most is not None and self.journey.in_vain and not self.started and self.ended in _UNTOLD:
            # The provider may have worked until the end of its limit, and charges for it, whoever hung up.
            self.estimated = True
            tokens, cost = self.most.tokens, self.most.nanos
        if self.most is not None and (tokens > self.most.tokens or cost > self.most.nanos):
            self.estimated = True
            tokens, cost = min(tokens, self.most.tokens), min(cost, self.most.nanos)
        self.charged, self.spent = usage, Amount(nanos=cost, tokens=tokens)

    def _usage(self, candidate: Candidate) -> Usage:
        """What the provider said, where that can be true; else an estimate."""
        demand = self.asked.demand
        said, most_in = self.usage, demand.most_in(candidate.rates.window if candidate.rates else None)
        if said is not None and said.tokens_in > most_in:
            # More than can be believed. Where a budget was asked for it, the most that can: never less than what was said.
            self.estimated = True
            said = Usage(tokens_in=most_in, tokens_out=said.tokens_out) if self.most is not None else None
        limited = self.most is not None or demand.limit is not None or not demand.output
        most_out = demand.most_out(candidate.route.max_output) if limited else BEYOND_BELIEF
        if said is not None and said.tokens_out <= most_out and self.whole:
            if self.journey is not None:
                self.journey.learn(candidate, reasoned=said.reasoning > 0)
            return said
        self.estimated = True
        if said is not None and self.most is not None and said.tokens_out > most_out:
            return Usage(tokens_in=said.tokens_in, tokens_out=most_out)
        known = said or Usage(tokens_in=min(demand.estimate_in, most_in))
        out = max(self.seen_out, known.tokens_out if known.tokens_out <= most_out else 0)
        if self.most is not None and not self.whole and self._may_reason(candidate):
            out = most_out
        return replace(known, tokens_out=min(out, most_out), reasoning=0)

    def _may_reason(self, candidate: Candidate) -> bool:
        """Whether the model may have written more than can be seen of a stream that broke off: that is charged, too."""
        told = self.asked.demand.reasons
        return self.journey is not None and self.journey.may_reason(candidate) if told is None else told

    def _record(self, duration: float) -> ModelCall:
        candidate = self.answered or (self.journey.last if self.journey else None)
        return ModelCall(
            id=self.id,
            at=self.at,
            duration=duration,
            agent=self.spender.agent,
            ring=self.spender.ring,
            release=self.spender.release,
            task=self.spender.task,
            endpoint=self.asked.endpoint,
            provider=candidate.pin.provider if candidate else "",
            model=self.asked.model[:_LONGEST_NAME],
            answered_by=self.answered_by,
            route=self.answered.name if self.answered else "",
            stream=self.asked.stream,
            first_chunk=self.first_chunk,
            status=self.status,
            ended=self.ended,
            tokens_in=self.charged.tokens_in,
            tokens_cached=self.charged.cached,
            tokens_out=self.charged.tokens_out,
            tokens_reasoning=self.charged.reasoning,
            estimated=self.estimated,
            nanos=self.spent.nanos,
            prices=self.prices.digest if self.spent.nanos else "",
            attempts=tuple(self.journey.attempts) if self.journey else (),
            error=self.error,
            **(self.kept.fields(self.asked.body) if self.kept is not None else {}),
        )


def _refused(refusal: Refusal, spender: Spender) -> CallRefused:
    """Such as `the task budget of $0.50 leaves no room for this call, …`."""
    budget = refusal.budget
    window = "" if budget.window is None else f" in {budget.window:g} s"
    wanted, settled, held = (_tell(amount, budget.unit) for amount in (refusal.wanted, refusal.settled, refusal.held))
    message = (
        f"the {budget.scope} budget of {_tell(budget.limit, budget.unit)}{window} leaves no room for this call, which may"
        f" take {wanted}: {settled} spent, {held} held by calls under way"
    )
    if budget.scope is BudgetScope.TASK and spender.task is None:
        message += "; the agent does not tell its tasks (header x-turnout-task), so all its calls count as one"
    return CallRefused(message, status=429, code="budget_exceeded", retry_after=refusal.retry_after)


def _tell(amount: int, unit: Unit) -> str:
    return f"${amount / NANOS:.6g}" if unit is Unit.USD else f"{amount} {unit}"
