"""`model ls`, `model show` and `model add --hub`: the catalogue as people see it."""

import json
import struct

import pytest
from typer.testing import CliRunner
from unit.client.test_hub import SmallHub, serving

from tunesmith.cli.app import app
from tunesmith.v1.base_model_pb2 import BaseModel
from tunesmith.v1.model_service_pb2 import ListBaseModelsRequest

HEADER = b'{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}'
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + bytes(12)


@pytest.fixture
def run(platform):
    return lambda *arguments: CliRunner().invoke(app, ["model", *map(str, arguments)])


@pytest.fixture
def tiny(platform):
    model = BaseModel(
        name="baseModels/tiny", display_name="Tiny", family="llama", dtype="BF16", context_length=512, license="MIT"
    )
    platform.models.stored[model.name] = model
    return model


@pytest.fixture
def hub(monkeypatch):
    with serving(SmallHub()) as hub:
        hub.files |= {"config.json": b'{"model_type": "llama", "max_position_embeddings": 512}', "model.safetensors": WEIGHTS}
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def test_a_list_asks_for_what_the_options_say(run, platform, tiny):
    options = ("--family", "llama", "--license", "MIT", "--text", "ti", "--max-parameters", "0.5", "--conversations")
    result = run("ls", *options, "--sort", "parameters")
    assert result.exit_code == 0, result.stderr
    assert platform.models.listed[-1] == ListBaseModelsRequest(
        family="llama", license="MIT", text="ti", max_parameter_count=500_000, trains_conversations=True, order="PARAMETERS"
    )


def test_without_options_everything_is_listed_by_id(run, platform, tiny):
    assert run("ls").exit_code == 0
    assert platform.models.listed[-1] == ListBaseModelsRequest()


@pytest.mark.parametrize(("problem", "trains"), [("", "yes"), ("no end of turn", "text only")])
def test_the_list_tells_format_and_what_can_be_learned(run, tiny, problem, trains):
    tiny.chat_template_problem = problem
    header, row = run("ls").stdout.splitlines()
    assert header.split() == ["ID", "NAME", "FAMILY", "PARAMETERS", "DTYPE", "CONTEXT", "SIZE", "LICENCE", "TRAINS"]
    assert row.startswith("tiny")
    assert "BF16" in row
    assert row.rstrip().endswith(trains)


def test_one_model_tells_what_it_can_be_tuned_with_and_the_memory(run, tiny):
    lines = run("show", "tiny").stdout.splitlines()
    assert "dtype          BF16" in lines
    assert "conversations  can learn them" in lines
    assert "memory of a run by default, with rows of 2,048 tokens:" in lines
    assert [line.split() for line in lines[-3:-1]] == [["METHOD", "LORA", "QLORA"], ["sft", "3.2", "GB", "refused"]]
    assert lines[-1] == "refused: qlora: needs a GPU"


def test_one_model_as_json_has_the_memory_as_well(run, tiny):
    content = json.loads(run("show", "tiny", "--json").stdout)
    assert (content["name"], content["license"]) == ("baseModels/tiny", "MIT")
    assert {each["method"] for each in content["tunings"]} >= {"SFT"}


def test_a_task_manager_that_is_away_takes_only_its_own_part(run, tiny, monkeypatch):
    monkeypatch.setenv("TUNESMITH_TASK_MANAGER_ADDRESS", "127.0.0.1:1")
    result = run("show", "tiny")
    assert result.exit_code == 0
    assert "BF16" in result.stdout
    assert "memory" not in result.stdout
    assert "what it can be tuned with is not known" in result.stderr


def test_a_model_of_the_hub_becomes_a_base_model(run, platform, hub, monkeypatch):
    monkeypatch.setattr("unit.client.test_hub.FILES", hub.files)
    result = run("add", "--hub", "owner/tiny@v1", "--id", "tiny", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["display_name"], told["license"], told["family"]) == ("owner/tiny", "apache-2.0", "llama")
    assert told["parameter_count"] == "6"
    assert platform.models.bytes["model.safetensors"] == WEIGHTS
    assert "pytorch_model.bin" not in platform.models.bytes
    assert "at commit 0123456789ab" in result.stderr


@pytest.mark.parametrize(("asked", "told"), [("MIT", False), ("Apache-2.0", True)])
def test_files_that_were_registered_under_another_licence_say_so(run, tiny, asked, told):
    result = run("add", "--from-server", "tiny", "--id", "tiny", "--license", asked)
    assert result.exit_code == 0
    assert ("registered before, under MIT" in result.stderr) == told


def test_a_hub_that_refuses_is_told_with_what_to_do(run, hub):
    hub.status = 401
    result = run("add", "--hub", "owner/tiny", "--id", "tiny")
    assert result.exit_code != 0
    assert "HUB_REFUSED" in result.stderr
    assert "HF_TOKEN" in result.stderr


@pytest.mark.parametrize("places", [(), ("--hub", "o/t", "--from-server", "x"), ("--hub", "o/t", "--from-s3", "x")], ids=str)
def test_one_place_is_named(run, places):
    result = run("add", *places, "--id", "tiny")
    assert result.exit_code == 2
    assert "name one of DIRECTORY, --from-server and --from-s3, or --hub" in " ".join(result.stderr.replace("│", " ").split())
