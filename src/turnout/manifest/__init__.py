"""`turnout.toml`: its closed schema, its loader, the config component made of it, and the file of `turnout init`."""

from turnout.manifest.config import build_config, parse_config
from turnout.manifest.detect import Detected, detect_project, render_manifest
from turnout.manifest.load import MANIFEST_NAME, load_manifest
from turnout.manifest.reference import FieldDoc, field_reference
from turnout.manifest.schema import Manifest

__all__ = [
    "MANIFEST_NAME",
    "Detected",
    "FieldDoc",
    "Manifest",
    "build_config",
    "detect_project",
    "field_reference",
    "load_manifest",
    "parse_config",
    "render_manifest",
]
