"""A secret in an agent's folder never reaches an instance, and its value is shown to nobody."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.tiny_agent import write_agent
from tests.live import LiveInstance
from tests.unit.artifacts.scan.planted import GITHUB, SLACK, VALUES
from turnout.client import Problem

TODAY = datetime.now(UTC).date()


def plant(folder: Path, agent: str) -> Path:
    """An agent with a secret in its prompts."""
    write_agent(folder, agent=agent)
    (folder / "prompts" / "tools.md").write_text(f"Use the forge.\n\nIts token: {GITHUB}\n")
    return folder


def allow(folder: Path, rule: str, fingerprint: str, expires: date) -> None:
    """Allow what was found in the prompts."""
    (folder / "turnout-allow.toml").write_text(
        f'[[allow]]\npath = "prompts/tools.md"\nrule = "{rule}"\nfingerprint = "{fingerprint}"\n'
        f'reason = "an example of the manual"\nexpires = {expires}\n'
    )


def test_a_planted_secret_is_not_deployed_until_it_is_allowed(instance: LiveInstance, tmp_path: Path) -> None:
    folder = plant(tmp_path / "agent", "scan-prompt")

    refused = instance.run("deploy", str(folder), check=False)
    assert refused.returncode == 3
    assert "the release would hold a secret; nothing was built" in refused.stderr
    found = re.search(r"prompts/tools\.md, line 3: (\S+), fingerprint ([0-9a-f]{16})", refused.stderr)
    assert found is not None, refused.stderr
    with pytest.raises(Problem, match="scan-prompt"):
        instance.client().releases("scan-prompt")

    skipped = instance.run("deploy", str(folder), "--skip-build", check=False)
    assert skipped.returncode == 4
    assert "nothing was built in this folder yet" in skipped.stderr

    allow(folder, found[1], found[2], TODAY - timedelta(days=2))
    expired = instance.run("build", str(folder), "--no-push", check=False)
    assert expired.returncode == 3
    assert "expired in turnout-allow.toml: prompts/tools.md: " in expired.stderr

    allow(folder, found[1], found[2], TODAY + timedelta(days=30))
    deployed = instance.run("deploy", str(folder))
    assert "scan-prompt v1 in dev: active" in deployed.stdout
    for done in (refused, skipped, expired, deployed):
        assert GITHUB not in done.stdout + done.stderr


def test_a_secret_in_the_environment_of_a_ring_is_named_by_its_key_and_line(
    instance: LiveInstance, tmp_path: Path
) -> None:
    rings = f'[rings.dev]\n[rings.dev.env]\nHOOK = "{SLACK}"\n'
    folder = write_agent(tmp_path / "agent", agent="scan-env", rings=rings)
    line = next(
        number for number, text in enumerate((folder / "turnout.toml").read_text().splitlines(), 1) if "HOOK" in text
    )

    done = instance.run("deploy", str(folder), "--dry-run", "--json", check=False)
    assert done.returncode == 3
    dry = json.loads(done.stdout)
    assert dry["type"] == "urn:turnout:problem:build_failed"
    assert f"turnout.toml, line {line} (rings.dev.env.HOOK): " in dry["detail"]
    assert not any(value in str(dry) for value in VALUES)
    with pytest.raises(Problem, match="scan-env"):
        instance.client().releases("scan-env")
