"""Which store an instance keeps its releases in: a registry if one is named, else a layout in the state folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.registry import Credentials, OciRegistryStore, parse_location
from turnout.ports import ArtifactStore

USER = "TURNOUT_REGISTRY_USER"
PASSWORD = "TURNOUT_REGISTRY_PASSWORD"  # noqa: S105  (the name of a variable)
CA_FILE = "TURNOUT_REGISTRY_CA"


def open_store(state: Path, registry: str | None, environment: Mapping[str, str]) -> ArtifactStore:
    """The store of an instance. User, password and CA file of a registry come from the environment, never from a URL.

    Raises `InvalidRequest` for a URL that names no registry.
    """
    if registry is None:
        return OciLayoutStore(state / "artifacts")
    user, password = environment.get(USER), environment.get(PASSWORD)
    ca_file = environment.get(CA_FILE)
    return OciRegistryStore(
        parse_location(registry),
        Credentials(user, password) if user and password else None,
        Path(ca_file) if ca_file else None,
        spool=state / "spool",
    )
