"""A stage whose releases are in an artifact store, with attestations beside them, and checked before they start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from tests.contract.store_support import open_empty
from tests.unit.artifacts.agents import MANIFEST, build, write_agent
from tests.unit.artifacts.attest.people import ALICE, BOB, CI, HOME, NOW, provenance
from tests.unit.controller.stage import ADMIN, Stage, build_stage
from tests.unit.domain.values import AGENT
from turnout.artifacts.attest.envelope import sign_statement
from turnout.artifacts.attest.keys import SigningKey, export_public
from turnout.artifacts.attest.notary import StoreNotary
from turnout.artifacts.attest.statement import Statement
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.intake import Intake
from turnout.artifacts.release import read_release
from turnout.db.store import SqlStore
from turnout.domain.models import Deployment, Digest, Release
from turnout.services import keys
from turnout.services.office import Actor, Office, ReadRelease, find_release
from turnout.services.releases import add_release
from turnout.services.verification import attest_release, verify_deployment

DEMANDING = '[rings.dev]\nrequire = ["provenance"]\n'


@dataclass
class SigningStage(Stage):
    """A stage that attests and verifies. `folder` takes the agents that are built."""

    folder: Path = field(default_factory=Path)
    verified: list[tuple[str, ...]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def verify(self, deployment: Deployment, release: Release, demanded: tuple[str, ...]) -> str | None:
        """See `Parts`."""
        self.verified.append(demanded)
        return verify_deployment(self.office, deployment, release, demanded)

    def another_server(self, holder: str, **options: Any) -> SigningStage:
        """See `Stage`."""
        return SigningStage(
            self.store, self.runtime, self.router, self.prober, self.clock, self.office, holder, **options
        )

    @property
    def artifacts(self) -> MemoryArtifactStore:
        """The store of releases."""
        assert isinstance(self.office.artifacts, MemoryArtifactStore)
        return self.office.artifacts

    def push(self, rings: str = DEMANDING, *, signer: SigningKey | None = None, actor: Actor = ADMIN) -> Release:
        """A new release; with its provenance if somebody signs it."""
        number = next(self._numbers)
        manifest = f"{MANIFEST[: MANIFEST.index('[rings.')]}{rings}"
        agent = write_agent(self.folder / str(number), manifest=manifest.replace('"info"', f'"{number}"'))
        built = build(agent, self.artifacts)
        add_release(self.office, actor, AGENT, built.digest, [], tag=None, git_sha=None)
        with self.store.snapshot() as snapshot:
            release = find_release(snapshot, AGENT, built.digest)
        if signer is not None:
            self.attest(release, provenance(), signer)
        return release

    def attest(self, release: Release, statement: Statement, signer: SigningKey = CI) -> str | None:
        """Attach a statement of `people`, as one about this release."""
        envelope = sign_statement(replace(statement, subject=release.digest), signer)
        return attest_release(self.office, ADMIN, AGENT, release.digest, envelope)

    def trust(self, key: SigningKey) -> None:
        """Somebody trusts a key."""
        keys.trust_key(self.office, ADMIN, export_public(key.key), instance=key.key.instance)

    def started(self, release: Release) -> bool:
        """Whether a replica of a release was ever started."""
        return any(call == "start" and release.digest[7:19] in name for call, name in self.runtime.calls)


@contextmanager
def signing_stage(folder: Path) -> Iterator[SigningStage]:
    """A stage on which nothing was pushed yet, and the keys of ci, alice, bob and the instance are trusted."""
    engine = open_empty(folder / "turnout.db")
    plain = build_stage(SqlStore(engine))
    artifacts = MemoryArtifactStore()
    office = replace(
        plain.office,
        artifacts=artifacts,
        intake=Intake(artifacts),
        notary=StoreNotary(artifacts, lambda: HOME),
        read_release=partial(_read, artifacts),
    )
    stage = SigningStage(plain.store, plain.runtime, plain.router, plain.prober, plain.clock, office, folder=folder)
    stage.clock.at = NOW
    for key in (CI, ALICE, BOB, HOME):
        stage.trust(key)
    yield stage
    engine.dispose()


def events(office: Office, kind: str) -> list[dict[str, Any]]:
    """The data of all events of a kind, oldest first."""
    with office.store.snapshot() as snapshot:
        return [dict(item.event.data) for item in snapshot.events(limit=1_000) if item.event.type == kind]


def _read(artifacts: MemoryArtifactStore, digest: Digest) -> ReadRelease:
    read = read_release(artifacts, digest)
    return ReadRelease(read.components, read.spec, artifacts.read_all(read.components["config"].digest))
