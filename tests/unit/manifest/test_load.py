"""What the loader accepts, and how it names every problem by its place in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.domain.errors import ManifestError
from turnout.manifest import load_manifest

MINIMAL = """
schema = 1
agent = "support"
[code]
start = ["python", "server.py"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "server.py").write_text("")
    return agent


def problems(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "turnout.toml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        load_manifest(folder)
    return caught.value.problems


def test_a_minimal_manifest_has_the_three_default_rings(folder: Path) -> None:
    (folder / "turnout.toml").write_text(MINIMAL)
    manifest = load_manifest(folder)
    assert manifest.agent == "support"
    assert manifest.code.command == ("python", "server.py")
    assert list(manifest.ring_tables) == ["dev", "staging", "production"]


def test_rings_keep_the_order_of_the_file(folder: Path) -> None:
    (folder / "turnout.toml").write_text(MINIMAL + "[rings.zeta]\n[rings.alpha]\n[rings.mid]\nreplicas = 2\n")
    assert list(load_manifest(folder).ring_tables) == ["zeta", "alpha", "mid"]


@pytest.mark.parametrize(
    ("source", "why"), [("dev", "dev is before staging"), ("elsewhere", 'there is no ring "elsewhere"')]
)
def test_a_replay_asks_for_tasks_of_its_own_ring_or_of_a_later_one(folder: Path, source: str, why: str) -> None:
    rings = '[rings.dev]\n[rings.staging.replay]\nfrom = "SOURCE"\n[rings.production]\n'

    assert any(
        problem.startswith(f"rings.staging.replay.from: {why}")
        for problem in problems(folder, MINIMAL + rings.replace("SOURCE", source))
    )
    (folder / "turnout.toml").write_text(MINIMAL + rings.replace("SOURCE", "staging"))
    assert load_manifest(folder).rings["staging"].replay is not None


def test_an_asgi_entry_point_is_served_by_uvicorn(folder: Path) -> None:
    (folder / "turnout.toml").write_text('schema = 1\nagent = "ab"\n[code]\nasgi = "pkg.mod:app"')
    command = load_manifest(folder).code.command
    assert command == ("python", "-m", "uvicorn", "pkg.mod:app", "--host", "127.0.0.1", "--port", "{port}")


def test_a_misspelt_key_is_named_with_the_nearest_known_one(folder: Path) -> None:
    found = problems(folder, MINIMAL + "[[rings.production.canary]]\nweigth = 10\n")
    assert 'rings.production.canary[0].weigth: unknown key; did you mean "weight"?' in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[health]\nintervall = 1", 'health.intervall: unknown key; did you mean "interval"?'),
        ("[zzz]", "zzz: unknown key; known here: agent, code, data, env, evals, flags"),
        ("[health]\npath = 3", "health.path: expected a string, found an integer"),
        ("[health]\nunhealthy_after = true", "health.unhealthy_after: expected an integer, found a boolean"),
        ("[health]\npath = 'ping'", 'health.path: expected a path that begins with "/"'),
        ("[health]\ntimeout = 'soon'", 'health.timeout: "soon" is no duration'),
        ("[health]\ninterval = 0", "health.interval: expected greater than 0, found 0"),
        ("[limits]\nmemory = '1 gig'", 'limits.memory: "1 gig" is no size'),
        ("[limits]\nmemory = 2026-01-01", "limits.memory: expected a size such as"),
        ("[outcomes]\nsuccess = 'always'", "outcomes.success: expected status, report, silence, or a path"),
        ("[rings.a.judge]\nages = ['10m', '2m']", "rings.a.judge.ages: ages grow"),
        ("[rings.a.judge]\nages = ['1ms']", "rings.a.judge.ages: ages grow, and none is under"),
        ("[rings.a.judge]\nramp = 'fast'", "rings.a.judge.ramp: expected"),
        ("[rings.a.judge.margins]\nfailure = 0", "rings.a.judge.margins.failure: a margin is above 0"),
        ("[rings.a.judge.tolerance]\ncost = 0.5", "rings.a.judge.tolerance.cost: must be less than the margin"),
        ("[rings.a.judge]\nholdback = 2", "rings.a.judge.bake: say how long last-good keeps its share"),
        ("[rings.a.judge]\nbake = '1h'\nholdback = 60", "rings.a.judge.holdback: at most 50"),
        ("[rings.a.judge]\nceiling = nan", "rings.a.judge.ceiling: "),
        ("[[rings.a.breakers]]\nmetric = 'mood'\nabove = 1", "rings.a.breakers[0].metric: expected"),
        ("[[rings.a.breakers]]\nmetric = 'cost'", "rings.a.breakers[0].above: "),
        ("[rings.a.capture]\nsize = '2MB'", "rings.a.capture.size: "),
        ("[rings.a.record]\nshare = 0", "rings.a.record.share: "),
        ("[rings.a.record]\nshare = 1.5", "rings.a.record.share: "),
        ("[rings.a.record]\nsize = '2MB'", "rings.a.record.size: "),
        ("[rings.a.record]\nredact = ['x']", "rings.a.record.redact: "),
        ("[rings.a.capture]\nredact = ['(']", "rings.a.capture.redact[0]: not a regular expression"),
        ("[rings.dev]\nreplicas = '2'", "rings.dev.replicas: expected an integer, found a string"),
        ("[rings.Dev]", 'rings.Dev: "Dev" is no name'),
        ("[rings]\ndev = 1", "rings.dev: expected a table, found an integer"),
        ("[rings.dev]\ncanary = [{weight = 0}]", "rings.dev.canary[0].weight: expected a weight in percent"),
        (
            "[rings.dev]\ncanary = [{weight = 10}, {weight = 10}]",
            "rings.dev.canary[1].weight: must be more than 10, the weight of the step before",
        ),
        ("[[smoke]]\nname = 'a'", "smoke[0].path: is missing: path of the request"),
        ("[[smoke]]\nname = 'a'\npath = '/'\njson = 1\nbody = 'x'", "smoke[0].body: json and body are both given"),
        (
            "[[smoke]]\nname = 'a'\npath = '/'\njson = [1979-05-27]",
            "smoke[0].json[0]: expected a value that JSON knows",
        ),
        ("[env]\nPORT = '1'", "env.PORT: is set by turnout"),
        ("[env]\nTURNOUT_X = '1'", "env.TURNOUT_X: is set by turnout"),
        ("[env]\nlower = '1'", "env.lower: expected an upper-case name"),
        ("[env]\n'a.b' = '1'", 'env."a.b": expected an upper-case name'),
        ("[env]\nX = 1", "env.X: expected a string, found an integer"),
        ('[env]\nX = "a\\u0000"', "env.X: holds a NUL character"),
        ("[env]\nOPENAI_API_KEY = 'sk-1'", "env.OPENAI_API_KEY: looks like a credential; values never in a release"),
        ("[rings.dev.env]\nDB_PASSWORD = '1'", "rings.dev.env.DB_PASSWORD: looks like a credential"),
        ("[flags]\nX = true", "flags.X: expected a lower-case name"),
        ("[flags]\nx = 1.5", "flags.x: expected a boolean, an integer or a string, found a float"),
        ("[env]\nFEATURE_X = '1'\n[flags]\nx = true", "flags.x: FEATURE_X is in env too"),
        ("[prompts]\nfiles = ['../x']", 'prompts.files[0]: "../x" leaves the agent\'s folder'),
        ("[tools]\nmanifest = '/etc/tools.json'", 'tools.manifest: "/etc/tools.json" is absolute'),
        ("[tools]\nmanifest = 'tools.json'", "tools.manifest: tools.json is not there"),
        ("[data]\npath = '.'", "data.path: expected a path inside the agent's folder"),
        ("[data]\npath = 'index'", "data.path: index is not there; create it, or give data.build"),
    ],
)
def test_a_problem_opens_with_its_place(folder: Path, text: str, problem: str) -> None:
    found = problems(folder, MINIMAL + text)
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("", "code: say how to start the agent"),
        ("start = ['python', 'server.py']\nasgi = 'a:b'", "code.asgi: start and asgi are both given"),
        ("start = 'python server.py'", "code.start: expected an array, found a string"),
        ("start = ['python', 3]", "code.start[1]: expected a string, found an integer"),
        ("start = ['python', 'sever.py']", 'code.start[1]: sever.py is not there; did you mean "server.py"?'),
        ("asgi = 'app'", 'code.asgi: expected "module:app"'),
        ("asgi = 'a:b'\nlock = 'Pipfile.lock'", "code.lock: expected requirements.txt, uv.lock or pylock.toml"),
        ("asgi = 'a:b'\nlock = 'requirements.txt'", "code.lock: requirements.txt is not there"),
        ("asgi = 'a:b'\npython = 'three'", "code.python: expected a version of Python"),
    ],
)
def test_a_problem_of_the_code_opens_with_its_place(folder: Path, code: str, problem: str) -> None:
    found = problems(folder, f'schema = 1\nagent = "ab"\n[code]\n{code}\n')
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize("agent", ["a", "-ab", "ab-", "Ab", "a_b", "a" * 41, ""])
def test_an_agent_needs_a_plain_name(folder: Path, agent: str) -> None:
    (found,) = problems(folder, MINIMAL.replace("support", agent))
    assert found.startswith("agent: ")


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    text = (
        MINIMAL.replace("schema = 1", "schema = 2")
        + "[health]\npth = 1\n[tools]\nmanifest = 'gone.json'\n[env]\nA_KEY='x'\nB_KEY='y'"
    )
    found = problems(folder, text)
    assert [line.split(":")[0] for line in found] == [
        "schema",
        "env.A_KEY",
        "env.B_KEY",
        "health.pth",
        "tools.manifest",
    ]


@pytest.mark.parametrize("setting", ["MAX_TOKENS = '4096'", "TOKENIZERS_PARALLELISM = 'false'", "API_KEY = ''"])
def test_a_setting_that_only_sounds_like_a_credential_is_accepted(folder: Path, setting: str) -> None:
    (folder / "turnout.toml").write_text(MINIMAL + f"[env]\n{setting}\n")
    assert len(load_manifest(folder).env) == 1


def test_a_link_that_leaves_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "secret.json").write_text("{}")
    (folder / "tools.json").symlink_to(folder.parent / "secret.json")
    (found,) = problems(folder, MINIMAL + "[tools]\nmanifest = 'tools.json'")
    assert found == "tools.manifest: tools.json is a link that leaves the agent's folder"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not valid JSON: Expecting property name"),
        (b'{"a": 1, "a": 2}', 'the key "a" is there twice'),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 9007199254740993}', "too large a number"),
        (b'"\\ud800"', "surrogate"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 100_000, "cannot be used"),
    ],
)
def test_a_tool_manifest_must_be_json_that_has_a_canonical_form(folder: Path, content: bytes, reason: str) -> None:
    (folder / "tools.json").write_bytes(content)
    (found,) = problems(folder, MINIMAL + "[tools]\nmanifest = 'tools.json'")
    assert found.startswith("tools.manifest: ")
    assert reason in found


def test_a_uv_lock_needs_its_project_file(folder: Path) -> None:
    (folder / "uv.lock").write_text("")
    text = MINIMAL + "lock = 'uv.lock'\n"
    assert problems(folder, text) == ("code.lock: uv.lock needs pyproject.toml beside it",)
    (folder / "pyproject.toml").write_text("")
    assert load_manifest(folder).code.lock == "uv.lock"


@pytest.mark.parametrize(
    "text", ["a==1.0\n# note\nb @ https://example.com/b.whl\n", "a==1 \\\n    --hash=sha256:00\n", ""]
)
def test_a_lock_of_exact_versions_is_accepted(folder: Path, text: str) -> None:
    (folder / "requirements.txt").write_text(text)
    (folder / "turnout.toml").write_text(MINIMAL + "lock = 'requirements.txt'\n")
    assert load_manifest(folder).code.lock == "requirements.txt"


def test_a_requirement_without_an_exact_version_is_refused(folder: Path) -> None:
    (folder / "requirements.txt").write_text("a==1.0\nfastapi>=0.1\n")
    (problem,) = problems(folder, MINIMAL + "lock = 'requirements.txt'\n")
    assert problem.startswith("code.lock: requirements.txt, line 2: fastapi>=0.1 is not pinned")


def test_a_missing_manifest_says_how_to_write_one(folder: Path) -> None:
    with pytest.raises(ManifestError, match=r"there is no turnout\.toml") as caught:
        load_manifest(folder)
    assert "turnout init" in (caught.value.hint or "")


def test_bad_toml_is_reported_with_line_and_column(folder: Path) -> None:
    (found,) = problems(folder, 'schema = 1\nagent = "x\n')
    assert "line 2" in found
    assert "column" in found


@pytest.mark.parametrize("content", [b"schema = 1\n# \xff\n", b"a = " + b"[" * 100_000, b"#" * (1 << 20) + b"##"])
def test_what_cannot_be_read_as_toml_is_refused(folder: Path, content: bytes) -> None:
    (folder / "turnout.toml").write_bytes(content)
    with pytest.raises(ManifestError, match=r"UTF-8|nested|larger"):
        load_manifest(folder)


def test_a_manifest_that_is_a_folder_is_refused(folder: Path) -> None:
    (folder / "turnout.toml").mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(folder)


def test_windows_line_ends_and_a_byte_order_mark_are_accepted(folder: Path) -> None:
    (folder / "turnout.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_manifest(folder).agent == "support"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('scope = "agent"\nlimit = 1', "scope: expected 'task', 'deployment' or 'ring'"),
        ('scope = "task"\nlimit = 0', "limit: expected greater than 0"),
        ('scope = "task"\nlimit = 1e-10', "limit: from a nano-dollar to nine million dollars"),
        ('scope = "task"\nlimit = 1e10', "limit: from a nano-dollar to nine million dollars"),
        ('scope = "task"\nlimit = 1.5\nunit = "calls"', "limit: calls are counted in whole numbers"),
        ('scope = "ring"\nlimit = 1', "window: a ring never ends: say in which time"),
        ('scope = "ring"\nlimit = 1\nwindow = "10ms"', "window: between 1 s and 366 days"),
        ('scope = "task"\nlimt = 1', 'limt: unknown key; did you mean "limit"?'),
    ],
)
def test_a_budget_that_makes_no_sense_is_named(folder: Path, table: str, problem: str) -> None:
    found = problems(folder, f"{MINIMAL}[[rings.dev.budgets]]\n{table}\n")
    assert any(line.startswith(f"rings.dev.budgets[0].{problem}") for line in found), found


UV_LOCK = """
version = 1
[[package]]
name = "opentelemetry-instrumentation-FastAPI"
version = "1"
[[package]]
name = "opentelemetry_instrumentation"
version = "1"
[[package]]
name = "opentelemetry-instrumentation-httpx"
version = "1"
"""
INSTRUMENTED = MINIMAL + "instrument = true\n"


def test_an_instrumented_agent_has_all_it_needs_in_its_lock(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("")
    (folder / "uv.lock").write_text(UV_LOCK)
    (folder / "turnout.toml").write_text(INSTRUMENTED + 'lock = "uv.lock"\n')
    assert load_manifest(folder).code.instrument


@pytest.mark.parametrize(
    ("lock", "missing"),
    [
        (None, ["needs a code.lock that contains opentelemetry-instrumentation"]),
        ("httpx==1\n", ["opentelemetry-instrumentation and", "of the server (", "of the client ("]),
        (
            "opentelemetry-instrumentation==1\nopentelemetry-instrumentation-flask==1\n",
            [
                "requirements.txt does not contain an instrumentation of the client (opentelemetry-instrumentation-httpx,"
            ],
        ),
    ],
)
def test_what_an_instrumented_agent_lacks_is_named(folder: Path, lock: str | None, missing: list[str]) -> None:
    text = INSTRUMENTED
    if lock is not None:
        (folder / "requirements.txt").write_text(lock)
        text += 'lock = "requirements.txt"\n'
    (line,) = problems(folder, text)
    assert line.startswith("code.instrument: ")
    assert all(part in line for part in missing)
