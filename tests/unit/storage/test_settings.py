"""Settings are read from the environment, and wrong ones are told by name."""

import datetime
import pathlib

import pytest

from services.common.config import ConfigError, load
from services.storage.retention import Policy
from services.storage.settings import StorageSettings

ENVIRONMENT = {
    "TUNESMITH_STORAGE_LISTEN": "127.0.0.1:50053",
    "TUNESMITH_POSTGRES_DSN": "postgresql://lab:pw@127.0.0.1/lab",
    "TUNESMITH_S3_ENDPOINT": "http://127.0.0.1:9000",
    "TUNESMITH_S3_ACCESS_KEY": "key",
    "TUNESMITH_S3_SECRET_KEY": "hush",
    "TUNESMITH_S3_BUCKET": "bucket",
}


def settings(**changes: str) -> StorageSettings:
    return load(StorageSettings, "TUNESMITH_STORAGE_", ENVIRONMENT | changes)


def test_artifacts_are_kept_fifteen_days_unless_set_otherwise() -> None:
    assert settings().artifact_retention == datetime.timedelta(days=15)
    assert settings(TUNESMITH_ARTIFACT_RETENTION="12h").artifact_retention == datetime.timedelta(hours=12)


def test_secrets_do_not_show() -> None:
    assert "hush" not in repr(settings())
    assert "pw@" not in repr(settings())


@pytest.mark.parametrize("missing", sorted(ENVIRONMENT))
def test_a_missing_setting_is_named(missing: str) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    with pytest.raises(ConfigError, match=missing):
        load(StorageSettings, "TUNESMITH_STORAGE_", environment)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "s3://bucket", "http://", "http://host:9000/path"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_S3_ENDPOINT"):
        settings(TUNESMITH_S3_ENDPOINT=endpoint)


def test_the_server_reads_models_from_nowhere_unless_told() -> None:
    assert (settings().import_root, settings().import_s3) == (None, "")


@pytest.mark.parametrize("root", ["models", "./models", "/"])
def test_an_import_root_is_a_directory_of_its_own(root: str) -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_STORAGE_IMPORT_ROOT"):
        settings(TUNESMITH_STORAGE_IMPORT_ROOT=root)
    assert settings(TUNESMITH_STORAGE_IMPORT_ROOT="/srv/models").import_root == pathlib.Path("/srv/models")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("models", ("models", "")),
        ("models/", ("models", "")),
        ("models/a/b/", ("models", "a/b/")),
        ("bucket/imports", ("bucket", "imports/")),
    ],
)
def test_an_import_prefix_has_a_bucket(given: str, expected: tuple[str, str]) -> None:
    assert settings(TUNESMITH_STORAGE_IMPORT_S3=given).import_bucket_and_prefix == expected


@pytest.mark.parametrize(
    "given", ["s3://models/x", "UPPER/x", "models/../x", "models//x", "bucket", "bucket/blobs/x", "bucket/events"]
)
def test_an_import_prefix_never_covers_what_the_service_keeps(given: str) -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_STORAGE_IMPORT_S3"):
        settings(TUNESMITH_STORAGE_IMPORT_S3=given)


@pytest.mark.parametrize("retention", ["0d", "soon", "-1d", "36501d", "99999999999d"])
def test_a_retention_must_be_a_time_to_come(retention: str) -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_ARTIFACT_RETENTION"):
        settings(TUNESMITH_ARTIFACT_RETENTION=retention)


def test_a_grace_may_be_nothing_but_not_longer_than_the_calendar() -> None:
    assert settings(TUNESMITH_ARTIFACT_EXPIRY_GRACE="0s").artifact_expiry_grace == datetime.timedelta(0)
    with pytest.raises(ConfigError, match="TUNESMITH_ARTIFACT_EXPIRY_GRACE"):
        settings(TUNESMITH_ARTIFACT_EXPIRY_GRACE="36501d")


def test_a_connection_string_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_POSTGRES_DSN") as caught:
        settings(TUNESMITH_POSTGRES_DSN="postgres//lab:pw@nowhere")
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"TUNESMITH_STORAGE_SWEEP_INTERVAL": "0s"},
        {"TUNESMITH_STORAGE_SWEEP_LIMIT": "0"},
        {"TUNESMITH_ARTIFACT_EXPIRY_GRACE": "x"},
    ],
)
def test_a_sweep_that_could_never_work_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        settings(**change)


def test_artifacts_can_be_restored_for_three_days_unless_set_otherwise() -> None:
    assert settings().retention_policy == Policy(datetime.timedelta(days=15), datetime.timedelta(hours=72))
    assert settings(TUNESMITH_ARTIFACT_EXPIRY_GRACE="1d").retention_policy.grace == datetime.timedelta(days=1)


def test_callers_reach_s3_as_the_service_does_unless_told_otherwise() -> None:
    assert settings().public_s3 == "http://127.0.0.1:9000"
    assert settings(TUNESMITH_STORAGE_S3_PUBLIC_ENDPOINT="https://s3.example").public_s3 == "https://s3.example"
    assert settings(TUNESMITH_STORAGE_S3_PUBLIC_ENDPOINT="").public_s3 == "http://127.0.0.1:9000"
    assert settings(TUNESMITH_STORAGE_S3_PUBLIC_ENDPOINT="off").public_s3 is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_PUBLIC_ENDPOINT", "s3.example"),
        ("UPLOAD_LIFETIME", "8d"),
        ("UPLOAD_LIFETIME", "1ms"),
        ("SWEEP_INTERVAL", "0s"),
        ("ANALYSES", "0"),
        ("ANALYSES", "many"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"TUNESMITH_STORAGE_{name}"):
        settings(**{f"TUNESMITH_STORAGE_{name}": value})
