"""The real scanner on planted secrets: found wherever they are, named by place and rule, their values nowhere."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import sys
import zipfile
from datetime import date
from io import BytesIO
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import MANIFEST
from tests.unit.artifacts.scan.planted import (
    AWS_ID,
    AWS_SECRET,
    GITHUB,
    OTHER_GITHUB,
    PRIVATE_KEY,
    SLACK,
    VALUES,
    agent,
    scan,
)
from turnout.artifacts.scan import Finding, check_findings, kingfisher
from turnout.artifacts.scan.kingfisher import Kingfisher, find_kingfisher
from turnout.artifacts.scan.staging import Subject, staged
from turnout.domain.errors import BuildFailed

EXAMPLE = Path(__file__).parents[4] / "examples" / "docs_assistant"


def test_secrets_are_found_in_every_component(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(1 << 20)
    manifest = MANIFEST.replace('LOG_LEVEL = "info"', f'LOG_LEVEL = "info"\nWEBHOOK = "{SLACK}"')
    folder = agent(
        tmp_path / "agent",
        lib__answer_DOT_py=f'# the account\nkey_id = "{AWS_ID}"\nsecret = "{AWS_SECRET}"\n',
        prompts__system_DOT_md=f"You are kind.\n\nPost to {SLACK} when done.\n",
        prompts__key_DOT_md=f"Sign with\n{PRIVATE_KEY}\n",
        tools_DOT_json=json.dumps({"tools": [{"name": "search", "headers": {"authorization": f"Bearer {GITHUB}"}}]}),
        index__notes_DOT_txt=f"first\nsecond {GITHUB} here\n",
        index__vectors_DOT_bin=noise + f" {GITHUB} ".encode() + noise,
        turnout_DOT_toml=manifest,
    )
    found = {(finding.path, finding.rule): finding for finding in scan(folder, Kingfisher())}
    expected = {
        ("lib/answer.py", "betterleaks.aws-access-token"): 2,
        ("prompts/system.md", "betterleaks.slack-webhook-url"): 3,
        ("prompts/key.md", "betterleaks.private-key"): 2,
        ("tools.json", "betterleaks.github-pat"): 1,
        ("index/notes.txt", "betterleaks.github-pat"): 2,
        ("index/vectors.bin", "betterleaks.github-pat"): noise.count(b"\n") + 1,
        ("turnout.toml", "betterleaks.slack-webhook-url"): manifest.splitlines().index(f'WEBHOOK = "{SLACK}"') + 1,
    }
    assert {key: finding.line for key, finding in found.items()} == expected
    assert found["turnout.toml", "betterleaks.slack-webhook-url"].place == "env.WEBHOOK"


def test_what_a_manifest_declares_is_scanned_wherever_it_stands(tmp_path: Path) -> None:
    manifest = (
        MANIFEST.replace("temperature = 0.2", f'temperature = 0.2, note = "{GITHUB}"')
        .replace('"server.py", ', f'"server.py", "--hook", "{SLACK}", ')
        .replace("[rings.dev]", f'[rings.dev]\nenv = {{ SIGNING = """{PRIVATE_KEY}""" }}')
        + f'[[smoke]]\nname = "asks"\npath = "/ask"\njson = {{ nested = [{{ deep = "{OTHER_GITHUB}" }}] }}\n'
        + '[flags]\nhook = "'
        + SLACK
        + '"\n'
    )
    folder = agent(tmp_path / "agent", turnout_DOT_toml=manifest)
    places = {finding.place: finding.line for finding in scan(folder, Kingfisher())}
    assert set(places) == {
        "model.parameters.note",
        "code.start",
        "rings.dev.env.SIGNING",
        "smoke[0].json.nested[0].deep",
        "flags.hook",
    }
    lines = manifest.splitlines()
    for name, sign in {
        "model.parameters.note": "note =",
        "rings.dev.env.SIGNING": "SIGNING",
        "flags.hook": "hook =",
    }.items():
        assert sign in lines[places[name] - 1]


@pytest.mark.parametrize(
    "name",
    [
        "bower_components/x.js",
        "package-lock.json",
        "logo.png",
        "lib/x.bin",
        "lib/python3.11/site-packages/a.py",
        ".hidden.py",
        "gitleaks.toml",
    ],
)
def test_no_name_keeps_a_file_from_being_scanned(tmp_path: Path, name: str) -> None:
    manifest = 'schema = 1\nagent = "ab"\n[code]\nstart = ["./run"]\n'
    folder = tmp_path / "agent"
    (folder / name).parent.mkdir(parents=True)
    (folder / "turnout.toml").write_text(manifest)
    (folder / ".gitignore").write_text("*\n")
    (folder / name).write_text(f'token = "{GITHUB}" # kingfisher:ignore gitleaks:allow\n')
    assert [finding.path for finding in scan(folder, Kingfisher())] == [name]


def test_a_link_is_scanned_as_what_it_points_to(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent", lib__a_DOT_py=f'token = "{GITHUB}"\n')
    (folder / "lib" / "linked.py").symlink_to("a.py")
    (folder / "again").symlink_to("lib")
    paths = [finding.path for finding in scan(folder, Kingfisher())]
    assert paths == ["again/a.py", "again/linked.py", "lib/a.py", "lib/linked.py"]


def test_the_same_secret_in_two_files_is_two_findings_and_a_copy_in_one_file_is_one_fingerprint(tmp_path: Path) -> None:
    text = f'a = "{GITHUB}"\n'
    findings = scan(agent(tmp_path / "agent", a_DOT_py=text, b_DOT_py=text, c_DOT_py=text * 2), Kingfisher())
    assert [(finding.path, finding.line) for finding in findings] == [
        ("a.py", 1),
        ("b.py", 1),
        ("c.py", 1),
        ("c.py", 2),
    ]
    assert len({finding.fingerprint for finding in findings}) == 3


def test_the_fingerprint_outlives_a_move_but_not_another_value(tmp_path: Path) -> None:
    def fingerprint(number: int, text: str) -> str:
        (finding,) = scan(agent(tmp_path / str(number), a_DOT_py=text), Kingfisher())
        return finding.fingerprint

    first = fingerprint(1, f'a = "{GITHUB}"\n')
    assert fingerprint(2, f'\n\n# moved\na = "{GITHUB}"\n') == first
    assert fingerprint(3, f'a = "{OTHER_GITHUB}"\n') != first


def test_compressed_files_and_archives_are_looked_into(tmp_path: Path) -> None:
    text = f'token = "{GITHUB}"\n'.encode()
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("inner/notes.txt", text)
    folder = agent(
        tmp_path / "agent",
        index__a=gzip.compress(text * 50),
        index__b=bz2.compress(text * 50),
        index__c=archive.getvalue(),
    )
    assert sorted({finding.path for finding in scan(folder, Kingfisher())}) == [
        "index/a",
        "index/b",
        "index/c!inner/notes.txt",
    ]


def test_a_file_above_the_limit_of_kingfisher_is_scanned_and_its_line_is_counted(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent")
    with (folder / "index" / "large.bin").open("wb") as file:
        file.write(b"\n\n")
        file.truncate(300 << 20)
        file.seek(0, os.SEEK_END)
        file.write(f"\n{GITHUB}\n\n{GITHUB}\n".encode())
    assert [(finding.path, finding.line) for finding in scan(folder, Kingfisher())] == [
        ("index/large.bin", 4),
        ("index/large.bin", 6),
    ]


def test_the_sample_agent_gives_no_alarm(tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    folder.mkdir()
    for path in EXAMPLE.rglob("*"):
        inside = path.relative_to(EXAMPLE)
        if path.is_file() and inside.parts[0] not in (".turnout", "__pycache__", "index"):
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            (folder / inside).write_bytes(path.read_bytes())
    (folder / "index").mkdir()
    (folder / "index" / "pages.txt").write_text("Lists are mutable sequences.\n")
    assert scan(folder) == ()


def test_a_lock_file_with_hashes_gives_no_alarm(tmp_path: Path) -> None:
    lock = Path(__file__).parents[4] / "requirements" / "dev.txt"
    assert scan(agent(tmp_path / "agent", requirements_DOT_txt=lock.read_bytes())) == ()


def test_no_value_shows_in_findings_errors_or_the_cache(tmp_path: Path) -> None:
    content = "\n".join((AWS_ID, AWS_SECRET, GITHUB, OTHER_GITHUB, SLACK, PRIVATE_KEY))
    folder = agent(tmp_path / "agent", settings_DOT_py=content)
    os.utime(folder / "settings.py", (1, 1))
    findings = scan(folder, cache=tmp_path / "cache.json")
    with pytest.raises(BuildFailed) as refused:
        check_findings(findings, (), date(2026, 1, 1))
    cached = (tmp_path / "cache.json").read_text()
    assert "settings.py" in cached
    shown = "\n".join((repr(findings), str(refused.value), repr(refused.value), str(refused.value.hint), cached))
    for value in VALUES:
        assert value[-12:] not in shown


def test_the_files_are_as_before_and_nothing_is_left(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent", a_DOT_py=f'token = "{GITHUB}"\n')
    before = sorted((path.name, path.stat().st_mode, path.stat().st_nlink) for path in folder.rglob("*"))
    scan(folder, Kingfisher())
    assert sorted((path.name, path.stat().st_mode, path.stat().st_nlink) for path in folder.rglob("*")) == before


# --- when it does not work -------------------------------------------------------------------------------------------


def _program(place: Path, text: str) -> Path:
    place.write_text(f"#!{sys.executable}\n{text}")
    place.chmod(0o755)
    return place


def _scan_one(scanner: Kingfisher, tmp_path: Path) -> None:
    with staged([Subject("a.txt", content=GITHUB.encode())], [tmp_path]) as (folder, _):
        scanner.scan(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("print('{\"findings\": []}')", "no report that can be read"),
        (f"print('{GITHUB}')", "no report that can be read"),
        ("import sys; sys.stdout.write('x' * (65 << 20))", "larger than 64 MiB"),
    ],
)
def test_a_scanner_that_fails_refuses_the_build(tmp_path: Path, text: str, reason: str) -> None:
    scanner = Kingfisher(_program(tmp_path / "scanner", text))
    with pytest.raises(BuildFailed, match=reason) as failed:
        _scan_one(scanner, tmp_path)
    assert failed.value.hint
    assert GITHUB not in str(failed.value)
    assert failed.value.__context__ is None


def test_a_scanner_that_hangs_is_ended(tmp_path: Path) -> None:
    scanner = Kingfisher(_program(tmp_path / "scanner", "import time; time.sleep(600)"), timeout=0.5)
    with pytest.raises(BuildFailed, match="longer than"):
        _scan_one(scanner, tmp_path)


def test_a_scanner_that_passes_over_a_file_refuses_the_build(tmp_path: Path) -> None:
    report = {
        "findings": [],
        "audit": {"summary": {"scan_partial": 0, "scan_failed": 0}},
        "metadata": {"summary": {"blobs_scanned": 0}},
    }
    scanner = Kingfisher(_program(tmp_path / "scanner", f"print({json.dumps(report)!r})"))
    with pytest.raises(BuildFailed, match="0 of 1 files"):
        _scan_one(scanner, tmp_path)


def test_a_scanner_that_is_not_there_refuses_the_build(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="cannot run kingfisher") as missing:
        scan(agent(tmp_path / "agent"), Kingfisher(tmp_path / "nothing"))
    assert missing.value.hint


def test_it_is_found_without_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_kingfisher().is_file()


def test_it_gets_nothing_of_the_environment_but_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "x")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    seen = tmp_path / "seen"
    scanner = Kingfisher(
        _program(tmp_path / "scanner", f"import os; open({str(seen)!r}, 'w').write(' '.join(os.environ))")
    )
    with pytest.raises(BuildFailed):
        _scan_one(scanner, tmp_path)
    assert set(seen.read_text().split()) <= {
        "HOME",
        "XDG_CACHE_HOME",
        "KF_RULE_CACHE_DIR",
        "LANG",
        "PATH",
        "TMPDIR",
        "LC_CTYPE",
    }


def test_findings_are_values() -> None:
    finding = Finding("a.py", 3, "rule", "kingfisher", "0" * 16)
    assert finding.describe() == "a.py, line 3: rule, fingerprint 0000000000000000"
    assert (
        Finding("turnout.toml", 0, "rule", "x", "1" * 16, "env.A").describe().startswith("turnout.toml (env.A): rule")
    )


@pytest.mark.parametrize("piece", [1, 7, 40, 64, 1 << 20])
def test_lines_are_counted_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(kingfisher, "_PIECE", piece)
    lines = ["", "one", f"x {GITHUB} {GITHUB}", "", f"{OTHER_GITHUB}", GITHUB, "end"]
    (tmp_path / "large").write_text("\n".join(lines))
    found = kingfisher._find_lines(tmp_path / "large", {GITHUB.encode(), OTHER_GITHUB.encode(), b"absent", b""})
    assert {value.decode(): list(numbers) for value, numbers in found.items()} == {
        GITHUB: [3, 3, 6],
        OTHER_GITHUB: [5],
        "absent": [],
    }
