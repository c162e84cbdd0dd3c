"""Agents: what is where, and what happened."""

from __future__ import annotations

from turnout.domain.policy import Verb
from turnout.schemas import AgentList, AgentView, EventList
from turnout.services.office import Actor, Office, check_agent, check_ring
from turnout.services.views import view_agent, view_event


def show_agent(office: Office, actor: Actor, agent: str) -> AgentView:
    """What is where in each ring of an agent."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        return view_agent(snapshot, agent, office.traffic_url)


def list_agents(office: Office, actor: Actor) -> AgentList:
    """All agents."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        return {"agents": [view_agent(snapshot, agent, office.traffic_url) for agent in snapshot.agents()]}


def list_events(
    office: Office,
    actor: Actor,
    *,
    agent: str | None = None,
    ring: str | None = None,
    deployment: str | None = None,
    after: int = 0,
    newest_first: bool = False,
    limit: int = 200,
) -> EventList:
    """What happened, oldest first unless asked otherwise."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        if agent is not None:
            check_agent(snapshot, agent)
            if ring is not None:
                check_ring(snapshot, agent, ring)
        found = snapshot.events(
            after, agent=agent, ring=ring, deployment=deployment, newest_first=newest_first, limit=limit
        )
        return {"events": [view_event(stored) for stored in found]}
