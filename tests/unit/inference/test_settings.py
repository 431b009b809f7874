"""The limits of the running batch, as an operator sets them."""

import pathlib

import pytest

from services.common import config
from services.inference.settings import PREFIX, InferenceSettings

REQUIRED = {"LISTEN": "127.0.0.1:1", "STORAGE_ADDRESS": "127.0.0.1:2", "CACHE_DIR": "/cache"}


def loaded(**settings: str) -> InferenceSettings:
    values = {**REQUIRED, **settings}
    return config.load(InferenceSettings, PREFIX, {f"{PREFIX}{name}": value for name, value in values.items()})


def test_sixteen_run_unless_it_is_said_otherwise() -> None:
    settings = loaded()
    assert (settings.max_running, settings.max_waiting, settings.max_batch_tokens) == (16, 256, 65_536)


def test_nobody_may_wait_and_one_may_run() -> None:
    settings = loaded(MAX_WAITING="0", MAX_RUNNING="1", MAX_BATCH_TOKENS="1")
    assert (settings.max_running, settings.max_waiting, settings.max_batch_tokens) == (1, 0, 1)


def test_the_engine_is_ours_and_exact_unless_told_otherwise(tmp_path: pathlib.Path) -> None:
    settings = loaded()
    assert (settings.engine, settings.precision, settings.engine_python) == ("transformers", "float32", None)
    settings = loaded(ENGINE="vllm", ENGINE_PYTHON=str(tmp_path / "python"), VLLM_CACHE_BYTES="5", PRECISION="bfloat16")
    assert (settings.engine, settings.engine_python, settings.vllm_cache_bytes) == ("vllm", tmp_path / "python", 5)
    assert settings.precision == "bfloat16"


@pytest.mark.parametrize(("name", "value"), [("ENGINE", "llama"), ("PRECISION", "int4"), ("VLLM_CACHE_BYTES", "0")])
def test_what_is_not_known_is_named_with_what_is(name: str, value: str) -> None:
    with pytest.raises(config.ConfigError, match=f"{PREFIX}{name}={value}: expected"):
        loaded(**{name: value})


def test_pinned_models_are_separated_by_commas() -> None:
    assert loaded(PINNED_MODELS="tiny, models/mine@champion").pinned_models == ("tiny", "models/mine@champion")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "0") for name in ("MAX_RUNNING", "MAX_BATCH_TOKENS", "MAX_LOADED_BYTES")),
        *(
            (name, "-1")
            for name in (
                "MAX_WAITING",
                "THREADS",
                "PREFIX_TOKENS",
                "IDLE_UNLOAD_SECONDS",
                "PACK_UP_TO_BYTES",
                "CACHE_MAX_BYTES",
                "AHEAD_MAX_BYTES",
            )
        ),
    ],
)
def test_a_limit_that_makes_no_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(config.ConfigError, match=f"{PREFIX}{name}={value}: expected"):
        loaded(**{name: value})
