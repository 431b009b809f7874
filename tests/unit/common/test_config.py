"""Settings: from the environment, refused when unknown, missing or malformed."""

import dataclasses
import datetime
import pathlib

import pytest

from services.common.config import ConfigError, Secret, load, parse_duration, shared
from services.common.server import ServerSettings


@dataclasses.dataclass(frozen=True)
class Example:
    listen: str
    dsn: Secret = shared("TUNESMITH_POSTGRES_DSN", default=Secret(""))
    workers: int = 2
    ratio: float = 0.5
    verbose: bool = False
    retention: datetime.timedelta = datetime.timedelta(days=15)
    peers: tuple[str, ...] = ()
    directory: pathlib.Path | None = None
    key: Secret = Secret("")


PREFIX = "TUNESMITH_EXAMPLE_"


def load_example(**variables: str) -> Example:
    return load(Example, PREFIX, {PREFIX + "LISTEN": "127.0.0.1:1", **variables})


def test_defaults_hold_when_only_the_required_is_given() -> None:
    assert load_example() == Example(listen="127.0.0.1:1")


def test_every_type_is_parsed() -> None:
    settings = load_example(
        TUNESMITH_EXAMPLE_WORKERS="7",
        TUNESMITH_EXAMPLE_RATIO="0.25",
        TUNESMITH_EXAMPLE_VERBOSE="True",
        TUNESMITH_EXAMPLE_RETENTION="36h",
        TUNESMITH_EXAMPLE_PEERS="a:1, b:2,",
        TUNESMITH_EXAMPLE_DIRECTORY="/data",
        TUNESMITH_POSTGRES_DSN="postgresql://x",
    )
    assert settings.workers == 7
    assert settings.ratio == 0.25
    assert settings.verbose is True
    assert settings.retention == datetime.timedelta(hours=36)
    assert settings.peers == ("a:1", "b:2")
    assert settings.directory == pathlib.Path("/data")
    assert settings.dsn == "postgresql://x"


def test_a_missing_required_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_EXAMPLE_LISTEN is not set"):
        load(Example, PREFIX, {})


def test_an_unknown_name_under_the_prefix_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_EXAMPLE_WORKER is not a setting; did you mean TUNESMITH_EXAMPLE_WORKERS"):
        load_example(TUNESMITH_EXAMPLE_WORKER="7")


def test_an_unknown_name_close_to_nothing_lists_what_is_known() -> None:
    with pytest.raises(ConfigError, match=r"known: .*TUNESMITH_EXAMPLE_LISTEN"):
        load_example(TUNESMITH_EXAMPLE_9="7")


def test_names_outside_the_prefix_are_none_of_our_business() -> None:
    assert load_example(TUNESMITH_OTHER_THING="x", PATH="y").workers == 2


@pytest.mark.parametrize(
    ("name", "text", "expectation"),
    [
        ("WORKERS", "many", "invalid literal"),
        ("VERBOSE", "maybe", "expected true or false"),
        ("RETENTION", "15", "expected a duration"),
        ("RETENTION", "15 days", "expected a duration"),
    ],
)
def test_a_malformed_value_names_variable_value_and_expectation(name: str, text: str, expectation: str) -> None:
    with pytest.raises(ConfigError, match=f"{PREFIX}{name}={text!r}: {expectation}"):
        load_example(**{PREFIX + name: text})


def test_a_secret_may_come_from_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    assert load_example(TUNESMITH_EXAMPLE_KEY_FILE=str(tmp_path / "key")).key == "hunter2"


def test_an_unreadable_secret_file_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"TUNESMITH_EXAMPLE_KEY_FILE: cannot read .*: No such file"):
        load_example(TUNESMITH_EXAMPLE_KEY_FILE=str(tmp_path / "absent"))


def test_only_secrets_are_read_from_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "workers").write_text("9")
    assert load_example(TUNESMITH_EXAMPLE_WORKERS_FILE=str(tmp_path / "workers")).workers == 2


def test_secrets_do_not_show_in_representations() -> None:
    assert "hunter2" not in repr(load_example(TUNESMITH_EXAMPLE_KEY="hunter2"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("15d", 15 * 86400), ("12h", 43200), ("30m", 1800), ("1.5s", 1.5), ("500ms", 0.5), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


def test_a_duration_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(ValueError, match="less than 1000000000d"):
        parse_duration("99999999999d")


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.8.8:0", "unix:/run/x"])
def test_loopback_needs_no_tls(listen: str) -> None:
    assert ServerSettings(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"])
def test_a_listener_off_loopback_without_tls_and_key_is_refused(listen: str, tmp_path: pathlib.Path) -> None:
    pair = {"tls_cert": tmp_path / "cert", "tls_key": tmp_path / "key"}
    for settings in ({}, pair, {"api_key": Secret("k")}):
        with pytest.raises(ConfigError, match="reachable from outside"):
            ServerSettings(listen=listen, **settings)
    assert ServerSettings(listen=listen, **pair, api_key=Secret("k")).listen == listen


def test_half_of_a_tls_pair_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="both"):
        ServerSettings(listen="127.0.0.1:1", tls_cert=tmp_path / "cert")
