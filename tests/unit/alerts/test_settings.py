"""`alerts.toml`: closed, every fault with its place, and no secret in it, nor in what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.alerts.settings import AlertSettings, load_alert_settings
from turnout.domain.errors import SetupFailed

SECRET = "a secret of tests that is long"
ENV = {"OPS_SECRET": SECRET, "CHAT_URL": "slack://tokenA/tokenB/tokenC", "HEADERS": "authorization=Bearer x, a=b=c"}
WHOLE = """
[[webhooks]]
name = "ops"
url = "https://hooks.example.com/turnout?key=hidden"
secret_env = "OPS_SECRET"
events = ["deployment.*", "breaker.tripped"]
timeout = "5s"

[[webhooks]]
name = "local"
url = "http://127.0.0.1:9000/"
secret_file = "secret"

[[notify]]
name = "chat"
url_env = "CHAT_URL"

[traces]
endpoint = "http://localhost:4318/v1/traces"
headers_env = "HEADERS"
"""


def load(folder: Path, text: str, env: dict[str, str] | None = None) -> AlertSettings:
    path = folder / "alerts.toml"
    path.write_text(text)
    return load_alert_settings(path, ENV if env is None else env)


def webhook(**fields: str) -> str:
    given = {"name": '"ops"', "url": '"https://a.example/"', "secret_env": '"OPS_SECRET"', **fields}
    return "[[webhooks]]\n" + "\n".join(f"{name} = {value}" for name, value in given.items() if value)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("another secret, also long\n")
    settings = load(tmp_path, WHOLE)
    ops, local = settings.webhooks
    assert (ops.name, ops.events, ops.timeout) == ("ops", ("deployment.*", "breaker.tripped"), 5.0)
    assert (local.events, local.keys) == (("*",), (b"another secret, also long",))
    usual = ("deployment.transitioned:rolling_back", "breaker.tripped", "tool.refused", "route.down", "route.up")
    assert settings.notify[0].events == usual
    assert settings.traces is not None
    assert settings.traces.headers == {"authorization": "Bearer x", "a": "b=c"}


def test_settings_show_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("another secret, also long\n")
    shown = repr(load(tmp_path, WHOLE))
    for secret in (SECRET, "another secret", "tokenA", "Bearer", "hidden"):
        assert secret not in shown


def test_without_a_file_nobody_is_told(tmp_path: Path) -> None:
    assert load_alert_settings(tmp_path / "alerts.toml", {}) == AlertSettings()
    with pytest.raises(SetupFailed, match="no file of alerts"):
        load_alert_settings(tmp_path / "other.toml", {}, needed=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense = [", "not valid TOML"),
        ("webhook = []", 'webhook: unknown key; did you mean "webhooks"?'),
        ("webhooks = 5", "webhooks: expected an array, found an integer"),
        (webhook(evnets='["*"]'), 'webhooks[0].evnets: unknown key; did you mean "events"?'),
        (webhook(secret='"abc"'), "webhooks[0].secret: unknown key"),
        (webhook(name=""), "webhooks[0].name: is missing"),
        (webhook(name='"Ops Team"'), 'webhooks[0].name: "Ops Team" cannot be a name'),
        (webhook(name='"traces"'), "webhooks[0].name"),
        (webhook(name='"' + "a" * 41 + '"'), "at most 40"),
        (webhook(url='"ftp://a.example/"'), "webhooks[0].url: expected a URL such as"),
        (webhook(url='"https://"'), "webhooks[0].url: expected a URL such as"),
        (webhook(url='"http://a.example/"'), "webhooks[0].url: http is read by everybody on the way"),
        (webhook(url='"http://10.0.0.7/"'), "use https, or say insecure = true"),
        (webhook(url='"http://[::1"'), "webhooks[0].url: is not a URL"),
        (webhook(url='"https://user:pw@a.example/"'), "holds a user or password"),
        (webhook(url='"https://169.254.169.254/latest"'), "169.254.169.254 is no address of a receiver"),
        (webhook(url='"https://[::ffff:169.254.169.254]/"'), "is no address of a receiver"),
        (webhook(url='"https://[fe80::1]/"'), "fe80::1 is no address of a receiver"),
        (webhook(url='"http://0.0.0.0/"', insecure="true"), "0.0.0.0 is no address of a receiver"),
        (webhook(secret_env=""), "webhooks[0]: give secret_env or secret_file"),
        (webhook(secret_file='"x"'), "webhooks[0]: give secret_env or secret_file"),
        (webhook(secret_env='"whsec_abc=="'), "expected the name of an environment variable, not its value"),
        (
            webhook(secret_env='"NOWHERE"'),
            "webhooks[0].secret_env: the environment variable NOWHERE is empty or not set",
        ),
        (webhook(secret_env="", secret_file='"nowhere"'), "webhooks[0].secret_file: the file nowhere cannot be read"),
        (webhook(events='["deploiment.*"]'), 'webhooks[0].events[0]: no event is called "deploiment.*"'),
        (webhook(events='["*", "breaker.triped"]'), 'events[1]: no event is called "breaker.triped"; did you mean'),
        (webhook(events="[]"), "webhooks[0].events"),
        (webhook(timeout='"2m"'), "webhooks[0].timeout: expected less than or equal to 30"),
        (webhook(insecure='"yes"'), "webhooks[0].insecure: expected a boolean, found a string"),
        (webhook() + "\n" + webhook(), 'webhooks[1].name: "ops" names another target already'),
        ('[[notify]]\nname = "chat"', "notify[0]: give url_env or url_file"),
        ('[[notify]]\nname = "chat"\nurl = "slack://a/b/c"', "notify[0].url: unknown key"),
        ("[traces]", "traces.endpoint: is missing"),
        ('[traces]\nendpoint = "http://collector:4318"', "traces.endpoint: http is read by everybody"),
        ('[traces]\nendpoint = "https://c/"\nheaders_env = "OPS_SECRET"', "traces.headers_env: expected name=value"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SetupFailed) as refused:
        load(tmp_path, text)
    assert says in refused.value.message
    assert SECRET not in refused.value.message


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SetupFailed) as refused:
        load(tmp_path, webhook(timeout="-1", color='"red"') + '\n[[notify]]\nname = "b"')
    assert [place in refused.value.message for place in ("timeout", "color", "notify[0]")] == [True] * 3


def test_a_short_secret_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SetupFailed) as refused:
        load(tmp_path, webhook(), {"OPS_SECRET": "hunter2"})
    assert "webhooks[0].secret_env: the secret is too short" in refused.value.message
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_http_on_this_machine_needs_no_leave(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, webhook(url=f'"http://{host}:9000/"')).webhooks[0].url == f"http://{host}:9000/"


def test_a_secret_that_others_can_read_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    for mode, told in ((0o600, False), (0o640, True)):
        secret.chmod(mode)
        caplog.clear()
        load(tmp_path, webhook(secret_env="", secret_file='"secret"'))
        assert ("secret can be read by others" in caplog.text) is told


def test_http_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    assert load(tmp_path, webhook(url='"http://receiver.internal/"', insecure="true")).webhooks[0].name == "ops"
