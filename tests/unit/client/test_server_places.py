"""Verbs and commands that name a place of the server: the name is sent, and nothing of what lies there."""

import pytest
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.client import Client
from tunesmith.server_place import server_place


@pytest.mark.parametrize(
    ("given", "kind", "value"), [({"directory": "a/b"}, "directory", "a/b"), ({"s3_prefix": "c"}, "s3_prefix", "c")]
)
def test_a_place_is_one_of_two(given: dict[str, str], kind: str, value: str) -> None:
    place = server_place(given.get("directory", ""), given.get("s3_prefix", ""))
    assert (place.WhichOneof("place"), getattr(place, kind)) == (kind, value)


@pytest.mark.parametrize("given", [("", ""), ("a", "b")])
def test_none_and_both_are_refused(given: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="either directory or s3_prefix"):
        server_place(*given)


def test_an_import_sends_its_names_and_a_request_id_of_its_own(platform) -> None:
    with Client() as client:
        version = client.import_server_model("mine", directory="runs/7", base_model="tiny", alias="best", description="d")
        first = platform.models.from_server.header.request_id
        client.import_server_model("mine", s3_prefix="runs/7", request_id="r")
    assert version.name == "models/mine/versions/1"
    sent = platform.models.from_server
    assert (sent.header.model, sent.header.base_model, sent.header.request_id) == ("models/mine", "", "r")
    assert first not in ("", "r")
    assert sent.source.s3_prefix == "runs/7"


def test_a_registration_leaves_to_the_server_what_it_does_not_know(platform) -> None:
    with Client() as client:
        client.register_server_base_model("tiny", directory="whole", license="MIT")
    sent = platform.models.from_server
    assert (sent.header.name, sent.header.license, sent.header.context_length) == ("baseModels/tiny", "MIT", 0)
    assert sent.source.directory == "whole"


@pytest.mark.parametrize("option", ["--from-server", "--from-s3"])
def test_model_add_names_a_place_of_the_server(platform, option: str) -> None:
    platform.models.chat_template_problem = ""
    result = CliRunner().invoke(app, ["model", "add", option, "whole", "--id", "mine", "--license", "MIT"])
    assert result.exit_code == 0, result.stderr
    assert "baseModels/mine" in result.stdout
    assert "tunesmith task create --model mine" in result.stderr
    sent = platform.models.from_server
    assert (sent.header.display_name, sent.header.license, sent.header.parameter_count) == ("mine", "MIT", 0)
    assert sent.source.WhichOneof("place") == {"--from-server": "directory", "--from-s3": "s3_prefix"}[option]
