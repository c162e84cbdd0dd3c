"""The second scanner, played by a program that writes the report that gitleaks writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.unit.artifacts.scan.planted import GITHUB, OTHER_GITHUB, agent, scan
from turnout.artifacts.scan import find_scanners
from turnout.artifacts.scan.gitleaks import Gitleaks
from turnout.domain.errors import BuildFailed

REPORTING = """
import json, pathlib, sys
assert "--redact" in sys.argv and "--ignore-gitleaks-allow" in sys.argv and sys.argv[1] == "dir"
target = next(part for part in sys.argv if part.startswith("--report-path=")).removeprefix("--report-path=")
found = []
for path in sorted(pathlib.Path(sys.argv[-1]).iterdir()):
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if "tok = " in line:
            start, end = line.index('"') + 2 + (number > 1), len(line) - 1 + (number > 1)
            found.append({"RuleID": "github-pat", "File": path.name, "StartLine": number, "EndLine": number,
                          "StartColumn": start, "EndColumn": end, "Match": "REDACTED", "Secret": "REDACTED",
                          "Entropy": 4.2, "Tags": []})
pathlib.Path(target).write_text(json.dumps(found))
"""


def _program(folder: Path, text: str) -> Path:
    folder.mkdir()
    program = folder / "gitleaks"
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)
    return program


def test_its_findings_are_named_like_the_others(tmp_path: Path) -> None:
    scanner = Gitleaks(_program(tmp_path / "bin", REPORTING))
    folder = agent(tmp_path / "agent", lib__a_DOT_py=f'\ntok = "{GITHUB}"\n')
    (found,) = scan(folder, scanner)
    assert (found.path, found.line, found.rule, found.scanner) == ("lib/a.py", 2, "github-pat", "gitleaks")
    assert GITHUB not in repr(found)


def test_the_fingerprint_outlives_a_move_but_not_another_value(tmp_path: Path) -> None:
    """Gitleaks tells no value, not even a tag of one: one that is allowed must not let another one pass."""
    scanner = Gitleaks(_program(tmp_path / "bin", REPORTING))
    texts = (
        f'tok = "{GITHUB}"\n',
        f'# moved\n\ntok = "{GITHUB}"',
        f'tok = "{OTHER_GITHUB}"\n',
        f'# moved\ntok = "{OTHER_GITHUB}"\n',
    )
    found = [scan(agent(tmp_path / str(n), lib__a_DOT_py=text), scanner)[0].fingerprint for n, text in enumerate(texts)]
    assert found[0] == found[1] != found[2] == found[3]


def test_what_goes_over_several_lines_is_read_whole(tmp_path: Path) -> None:
    reporting = REPORTING.replace('"EndLine": number', '"EndLine": number + 1').replace(
        "start, end =", "start, end = 8, 4 #"
    )
    scanner = Gitleaks(_program(tmp_path / "bin", reporting))
    texts = ('tok = "one\ntwo"\n', 'tok = "one\ntwo" # the same\n', 'tok = "one\ntow"\n', 'tok = "ohe\ntwo"\n')
    found = [scan(agent(tmp_path / str(n), lib__a_DOT_py=text), scanner)[0].fingerprint for n, text in enumerate(texts)]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_it_is_used_when_path_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [scanner.name for scanner in find_scanners()] == ["kingfisher"]
    monkeypatch.setenv("PATH", str(_program(tmp_path / "bin", REPORTING).parent))
    assert [scanner.name for scanner in find_scanners()] == ["kingfisher", "gitleaks"]


@pytest.mark.parametrize(
    "text",
    [
        "import sys; sys.exit(1)",
        "",
        REPORTING.replace("json.dumps(found)", "'no report'"),
        REPORTING.replace("json.dumps(found)", json.dumps(json.dumps([{"Secret": GITHUB}]))),
    ],
)
def test_when_it_fails_the_build_is_refused(tmp_path: Path, text: str) -> None:
    scanner = Gitleaks(_program(tmp_path / "bin", text))
    with pytest.raises(BuildFailed, match="gitleaks") as failed:
        scan(agent(tmp_path / "agent"), scanner)
    assert failed.value.hint
    assert GITHUB not in str(failed.value)
    assert failed.value.__context__ is None
