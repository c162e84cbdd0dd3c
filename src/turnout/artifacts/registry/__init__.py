"""The artifact store in an OCI registry: any that speaks the distribution specification 1.1, or 1.0 with its fallbacks."""

from __future__ import annotations

from turnout.artifacts.registry.auth import Credentials
from turnout.artifacts.registry.location import RegistryLocation, parse_location
from turnout.artifacts.registry.store import OciRegistryStore

__all__ = ["Credentials", "OciRegistryStore", "RegistryLocation", "parse_location"]
