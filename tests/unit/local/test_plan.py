"""What the stack consists of, and which settings each part is given."""

from signal import Signals

import pytest

from tunesmith.local.errors import LocalError
from tunesmith.local.plan import SERVICES, choose_backends, resolve_files, service_specs
from tunesmith.local.state import KeptSettings

KEPT = KeptSettings(postgres_password="pw", s3_access_key="access", s3_secret_key="secret")
PORTS = {"storage": 1, "task_manager": 2, "trainer": 3, "inference": 4, "gateway": 5}


@pytest.fixture
def backends(tmp_path):
    return choose_backends(tmp_path, KEPT, {})[0]


def specs(tmp_path, backends, given=None):
    return {spec.name: spec for spec in service_specs(tmp_path, PORTS, backends, given or {})}


def test_without_anything_given_both_servers_are_embedded_and_their_ports_kept(tmp_path):
    backends, kept = choose_backends(tmp_path, KEPT, {})
    assert backends.cluster.port == kept.postgres_ports[0]
    assert backends.store.ports == tuple(kept.s3_ports)
    assert choose_backends(tmp_path, kept, {})[1] == kept


def test_what_is_given_is_used_and_not_embedded(tmp_path):
    given = {
        "TUNESMITH_POSTGRES_DSN": "postgresql://there/db",
        "TUNESMITH_S3_ENDPOINT": "http://there",
        "TUNESMITH_S3_BUCKET": "mine",
    }
    backends, kept = choose_backends(tmp_path, KEPT, given)
    assert (backends.cluster, backends.store) == (None, None)
    assert backends.postgres_dsn == "postgresql://there/db"
    assert backends.s3["TUNESMITH_S3_BUCKET"] == "mine"
    assert kept == KEPT


def test_the_password_is_in_the_dsn_of_those_who_need_it_only(tmp_path, backends):
    environments = {name: spec.environment for name, spec in specs(tmp_path, backends).items()}
    with_dsn = {name for name, environment in environments.items() if "TUNESMITH_POSTGRES_DSN" in environment}
    with_keys = {name for name, environment in environments.items() if "TUNESMITH_S3_SECRET_KEY" in environment}
    assert (with_dsn, with_keys) == ({"storage", "task_manager"}, {"storage"})


def test_services_are_told_where_the_others_are(tmp_path, backends):
    spec = specs(tmp_path, backends)
    assert spec["task_manager"].environment["TUNESMITH_TASK_MANAGER_TRAINER_ADDRESSES"] == "127.0.0.1:3"
    assert spec["inference"].environment["TUNESMITH_INFERENCE_STORAGE_ADDRESS"] == "127.0.0.1:1"
    assert spec["trainer"].environment["TUNESMITH_TRAINER_DATA_DIR"] == str(tmp_path / "trainer")
    assert spec["gateway"].environment["TUNESMITH_GATEWAY_INFERENCE_ADDRESS"] == "127.0.0.1:4"
    assert spec["gateway"].environment["TUNESMITH_GATEWAY_API_KEY_FILE"] == str(tmp_path / "api_key")
    assert spec["storage"].environment["TUNESMITH_S3_BUCKET"] == "tunesmith"
    assert spec["storage"].environment["TUNESMITH_STORAGE_TASK_MANAGER_ADDRESS"] == "127.0.0.1:2"


@pytest.mark.parametrize("name", ["TUNESMITH_GATEWAY_API_KEY", "TUNESMITH_GATEWAY_API_KEY_FILE"])
def test_a_key_the_user_has_chosen_goes_before_the_one_of_the_directory(tmp_path, backends, name):
    environment = specs(tmp_path, backends, {name: "mine"})["gateway"].environment
    assert {key: value for key, value in environment.items() if key.startswith("TUNESMITH_GATEWAY_API_KEY")} == {name: "mine"}


def test_a_secret_may_come_from_a_file(tmp_path):
    (tmp_path / "dsn").write_text("postgresql://there/db\n")
    resolved = resolve_files({"TUNESMITH_POSTGRES_DSN_FILE": str(tmp_path / "dsn"), "HOME": "/home"})
    assert resolved == {"TUNESMITH_POSTGRES_DSN": "postgresql://there/db", "HOME": "/home"}


def test_a_secrets_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(LocalError, match="TUNESMITH_POSTGRES_DSN_FILE"):
        resolve_files({"TUNESMITH_POSTGRES_DSN_FILE": str(tmp_path / "none")})


def test_what_is_meant_for_nobody_in_particular_reaches_everybody(tmp_path, backends):
    for spec in specs(tmp_path, backends, {"TUNESMITH_ARTIFACT_RETENTION": "1d"}).values():
        assert spec.environment["TUNESMITH_ARTIFACT_RETENTION"] == "1d"


def test_a_service_gets_only_its_own_names_of_what_the_user_set(tmp_path, backends):
    given = {
        "HOME": "/home/somebody",
        "TUNESMITH_STORAGE_RETENTION": "1d",
        "TUNESMITH_TRAINER_GRACE": "5",
        "TUNESMITH_STORAGE_ADDRESS": "for clients",
        "TUNESMITH_API_KEY": "for clients",
    }
    environment = specs(tmp_path, backends, given)["storage"].environment
    assert environment["HOME"] == "/home/somebody"
    assert environment["TUNESMITH_STORAGE_RETENTION"] == "1d"
    assert not {"TUNESMITH_TRAINER_GRACE", "TUNESMITH_STORAGE_ADDRESS", "TUNESMITH_API_KEY"} & set(environment)


def test_everything_waits_for_storage_and_storage_for_its_servers(tmp_path, backends):
    needs = {name: spec.needs for name, spec in specs(tmp_path, backends).items()}
    assert needs.pop("storage") == ("postgres", "object_store")
    assert needs.pop("gateway") == ("storage", "task_manager", "inference")
    assert set(needs.values()) == {("storage",)}


def test_the_task_manager_does_not_see_the_trainer_end_its_runs(tmp_path, backends):
    assert {name: spec.stopped_before for name, spec in specs(tmp_path, backends).items() if spec.stopped_before} == {
        "task_manager": ("trainer",)
    }


def test_the_trainer_is_told_to_end_its_runs_on_a_final_stop(tmp_path, backends):
    signals = {name: spec.stop_signal for name, spec in specs(tmp_path, backends).items()}
    assert signals == {name: Signals.SIGINT if name == "trainer" else Signals.SIGTERM for name in SERVICES}
