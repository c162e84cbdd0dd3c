"""The secret scan of a build: what is in a release is looked through before anything is stored."""

from turnout.artifacts.scan.allow import Allowance, load_allowed, stale_allowances
from turnout.artifacts.scan.cache import ScanCache
from turnout.artifacts.scan.finding import Finding
from turnout.artifacts.scan.release import check_findings, find_scanners, scan_release
from turnout.artifacts.scan.scanner import Hit, Scanner
from turnout.manifest.load import ALLOW_NAME

__all__ = [
    "ALLOW_NAME",
    "Allowance",
    "Finding",
    "Hit",
    "ScanCache",
    "Scanner",
    "check_findings",
    "find_scanners",
    "load_allowed",
    "scan_release",
    "stale_allowances",
]
