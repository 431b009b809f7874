"""Every child of the stack: its command, its environment, its signals, and which backends are embedded."""

import sys
from signal import Signals

import pytest

from tunesmith.local import object_store, plan, postgres
from tunesmith.local.child_process import ChildSpec
from tunesmith.local.errors import LocalError
from tunesmith.local.object_store import PORT_COUNT
from tunesmith.local.plan import SERVICES, Backends, backend_specs, choose_backends, resolve_files, service_specs
from tunesmith.local.ports import pick_free
from tunesmith.local.state import KeptSettings
from tunesmith.local.supervisor import Supervisor

KEPT = KeptSettings(postgres_password="pw", s3_access_key="access", s3_secret_key="secret")
PORTS = {"storage": 1, "task_manager": 2, "trainer": 3, "inference": 4, "gateway": 5}
OWN_POSTGRES = {"TUNESMITH_POSTGRES_DSN": "postgresql://there/db"}
OWN_S3 = {"TUNESMITH_S3_ENDPOINT": "http://there", "TUNESMITH_S3_ACCESS_KEY": "mine", "TUNESMITH_S3_SECRET_KEY": "mine too"}


@pytest.fixture
def programs(monkeypatch):
    """Programs that need not be installed, run as this user."""
    monkeypatch.setattr(postgres, "binary", lambda name: f"/bin/{name}")
    monkeypatch.setattr(object_store, "binary", lambda: "/bin/weed")
    monkeypatch.setattr(plan, "identity_prefix", lambda: ("as", "nobody"))


def services(root, given=None, backends=None) -> dict[str, ChildSpec]:
    backends = backends or Backends("dsn", {"TUNESMITH_S3_BUCKET": "b"}, None, None)
    return {spec.name: spec for spec in service_specs(root, PORTS, backends, given or {})}


@pytest.mark.parametrize(
    ("given", "embedded"),
    [({}, ["postgres", "object_store"]), (OWN_POSTGRES, ["object_store"]), (OWN_S3, ["postgres"]), (OWN_POSTGRES | OWN_S3, [])],
)
def test_only_what_the_user_did_not_bring_is_embedded(tmp_path, programs, given, embedded):
    backends, kept = choose_backends(tmp_path, KEPT, given)
    assert [spec.name for spec in backend_specs(backends)] == embedded
    assert (len(kept.postgres_ports), len(kept.s3_ports)) == ("postgres" in embedded, PORT_COUNT * ("object_store" in embedded))


def test_own_s3_settings_reach_storage_unchanged(tmp_path):
    backends, _ = choose_backends(tmp_path, KEPT, OWN_S3)
    environment = services(tmp_path, OWN_S3, backends)["storage"].environment
    assert {name: environment[name] for name in OWN_S3} == OWN_S3
    assert environment["TUNESMITH_S3_BUCKET"] == plan.BUCKET


def test_a_bucket_of_ones_own_is_used_in_the_embedded_store_with_the_stores_own_keys(tmp_path):
    given = {"TUNESMITH_S3_BUCKET": "mine", "TUNESMITH_S3_ACCESS_KEY": "left over"}
    backends, _ = choose_backends(tmp_path, KEPT, given)
    assert backends.s3 == {
        "TUNESMITH_S3_BUCKET": "mine",
        "TUNESMITH_S3_ENDPOINT": backends.store.endpoint,
        "TUNESMITH_S3_ACCESS_KEY": "access",
        "TUNESMITH_S3_SECRET_KEY": "secret",
    }


def test_an_empty_dsn_is_none_given(tmp_path):
    assert choose_backends(tmp_path, KEPT, {"TUNESMITH_POSTGRES_DSN": ""})[0].cluster is not None


def test_remembered_ports_are_kept_and_secrets_never_change(tmp_path):
    kept = KeptSettings("pw", "access", "secret", postgres_ports=pick_free(1), s3_ports=pick_free(PORT_COUNT))
    backends, again = choose_backends(tmp_path, kept, {})
    assert again == kept
    assert backends.postgres_dsn == f"postgresql://tunesmith:pw@127.0.0.1:{kept.postgres_ports[0]}/tunesmith"
    assert backends.store.endpoint == f"http://127.0.0.1:{kept.s3_ports[0]}"


def test_servers_keep_their_data_below_the_root(tmp_path):
    backends, _ = choose_backends(tmp_path, KEPT, {})
    assert (backends.cluster.directory, backends.store.directory) == (tmp_path / "postgres", tmp_path / "s3")


def test_embedded_servers_need_nothing_are_prepared_and_stopped_in_their_own_way(tmp_path, programs):
    specs = {spec.name: spec for spec in backend_specs(choose_backends(tmp_path, KEPT, {})[0])}
    assert {name: (spec.needs, spec.prefix, spec.stop_signal) for name, spec in specs.items()} == {
        "postgres": ((), ("as", "nobody"), Signals.SIGINT),
        "object_store": ((), (), Signals.SIGTERM),
    }
    assert all(spec.prepare for spec in specs.values())


def test_no_password_is_ever_an_argument(tmp_path, programs):
    backends, _ = choose_backends(tmp_path, KeptSettings("hunter2", "accessaccess", "s3secret"), {})
    for spec in [*backend_specs(backends), *services(tmp_path, {}, backends).values()]:
        words = " ".join((*spec.prefix, *spec.command))
        assert not [secret for secret in ("hunter2", "accessaccess", "s3secret") if secret in words], spec.name


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_our_python_running_its_module_unbuffered(tmp_path, name):
    spec = services(tmp_path)[name]
    assert spec.command == (sys.executable, "-P", "-m", f"services.{name}")
    assert spec.environment["PYTHONUNBUFFERED"] == "1"
    assert spec.environment[f"TUNESMITH_{name.upper()}_LISTEN"] == f"127.0.0.1:{PORTS[name]}"


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_sees_the_settings_of_another(tmp_path, name):
    given = {f"TUNESMITH_{service.upper()}_X": "1" for service in SERVICES}
    found = {key for key in services(tmp_path, given)[name].environment if key.endswith("_X")}
    assert found == {f"TUNESMITH_{name.upper()}_X"}


@pytest.mark.parametrize("name", ["trainer", "inference", "gateway"])
@pytest.mark.parametrize(
    "secret", ["TUNESMITH_POSTGRES_DSN", "TUNESMITH_S3_SECRET_KEY", "TUNESMITH_S3_ENDPOINT", "TUNESMITH_API_KEY"]
)
def test_who_needs_no_secret_gets_none_even_when_the_user_set_it(tmp_path, name, secret):
    assert secret not in services(tmp_path, {secret: "x"})[name].environment


@pytest.mark.parametrize("name", SERVICES)
def test_what_the_stack_decides_goes_before_what_the_user_set(tmp_path, name):
    listen = f"TUNESMITH_{name.upper()}_LISTEN"
    assert services(tmp_path, {listen: "0.0.0.0:1"})[name].environment[listen] == f"127.0.0.1:{PORTS[name]}"


def test_trainer_and_inference_share_one_cache(tmp_path):
    specs = services(tmp_path)
    caches = {specs[name].environment[f"TUNESMITH_{name.upper()}_CACHE_DIR"] for name in ("trainer", "inference")}
    assert caches == {str(tmp_path / "cache")}


def test_children_are_stopped_dependents_first_and_the_task_manager_before_the_trainer(tmp_path, programs):
    backends, _ = choose_backends(tmp_path, KEPT, {})
    supervisor = Supervisor([*service_specs(tmp_path, PORTS, backends, {}), *backend_specs(backends)], tmp_path, lambda *_: None)
    assert [{child.spec.name for child in tier} for tier in supervisor._tiers()] == [
        {"postgres", "object_store"},
        {"storage"},
        {"trainer", "inference"},
        {"task_manager"},
        {"gateway"},
    ]
    assert {child.log_path for child in supervisor.children.values()} == {
        tmp_path / f"{name}.log" for name in ("postgres", "object_store", *SERVICES)
    }


def test_needs_that_are_not_part_of_this_stack_do_not_count(tmp_path):
    supervisor = Supervisor(list(services(tmp_path).values()), tmp_path, lambda *_: None)
    assert [child.spec.name for child in supervisor._tiers()[0]] == ["storage"]


@pytest.mark.parametrize("name", ["TUNESMITH_POSTGRES_DSN", "TUNESMITH_S3_ACCESS_KEY", "TUNESMITH_S3_SECRET_KEY"])
def test_a_secret_from_a_file_replaces_its_name_and_loses_the_line_end(tmp_path, name):
    (tmp_path / "secret").write_text("  value \n")
    assert resolve_files({f"{name}_FILE": str(tmp_path / "secret")}) == {name: "value"}


def test_files_of_other_settings_are_none_of_ours(tmp_path):
    given = {"TUNESMITH_TLS_CA_FILE": "/ca", "SSL_CERT_FILE": "/cert", "TUNESMITH_TRAINER_X_FILE": "/x"}
    assert resolve_files(given) == given


@pytest.mark.parametrize("place", ["missing", "."])
def test_a_secrets_file_that_cannot_be_read_says_which_setting_to_correct(tmp_path, place):
    with pytest.raises(LocalError) as caught:
        resolve_files({"TUNESMITH_S3_SECRET_KEY_FILE": str(tmp_path / place)})
    assert caught.value.reason == "SETTING_UNREADABLE"
    assert caught.value.message.startswith(f"TUNESMITH_S3_SECRET_KEY_FILE names {tmp_path / place}, which cannot be read: ")
    assert caught.value.hint == "Correct the path, or set TUNESMITH_S3_SECRET_KEY."


def test_resolving_does_not_change_what_was_given(tmp_path):
    (tmp_path / "dsn").write_text("x")
    given = {"TUNESMITH_POSTGRES_DSN_FILE": str(tmp_path / "dsn")}
    resolve_files(given)
    assert list(given) == ["TUNESMITH_POSTGRES_DSN_FILE"]
