"""`tunesmith data`, every command; the checker and the renderer are the real ones."""

import json

import pytest
from fake_platform import part_store
from tiny_model import make_tiny_model
from typer.testing import CliRunner

from tunesmith import dataset_parts
from tunesmith.cli import data_upload
from tunesmith.cli.app import app
from tunesmith.v1.dataset_pb2 import Dataset

GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
BAD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistent", "content": "a"}]}\n'


@pytest.fixture
def run(platform):
    return lambda *arguments, **options: CliRunner().invoke(app, [str(a) for a in arguments], **options)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(GOOD + BAD)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


class TestCheck:
    @pytest.fixture(autouse=True)
    def _without_a_server(self, run, monkeypatch):
        monkeypatch.setenv("TUNESMITH_STORAGE_ADDRESS", "127.0.0.1:1")

    def test_bad_rows_are_printed_as_by_a_compiler(self, run, file):
        result = run("data", "check", file)
        assert result.exit_code == 1
        lines = result.stdout.splitlines()
        assert lines[0].startswith("error[DATASET_ROLE_UNKNOWN] train.jsonl:2")
        assert "messages[1].role: " in lines[0]
        assert "assistent" in lines[0]
        assert lines[1].startswith("  hint: ")
        assert lines[2] == "bad rows by code (each has a page in docs/errors):"
        assert lines[3].split() == ["DATASET_ROLE_UNKNOWN", "1"]
        assert lines[-1] == "refused: train.jsonl has 1 bad row, 1 good"

    def test_a_good_file_is_accepted_with_its_statistics(self, run, tmp_path):
        path = tmp_path / "good.jsonl"
        path.write_text(GOOD * 12)
        result = run("data", "check", path)
        assert result.exit_code == 0
        assert "turns     1: 12" in result.stdout
        assert "12 examples" in result.stdout
        assert "warning[DATASET_DUPLICATES]" in result.stdout
        assert result.stdout.splitlines()[-1].startswith("accepted: 12 examples")

    def test_a_budget_covers_bad_rows(self, run, file):
        result = run("data", "check", file, "--max-invalid-rows", 1)
        assert result.exit_code == 0
        assert "1 bad row left out within the budget" in result.stdout
        assert run("data", "check", file, "--max-invalid-ratio", 0.1).exit_code == 1

    def test_labels_are_bars(self, run, tmp_path):
        path = tmp_path / "labels.jsonl"
        row = {"messages": [{"role": "user", "content": "x"}]}
        path.write_text("".join(json.dumps({**row, "label": label}) + "\n" for label in ["spam"] * 12 + ["ham"] * 4))
        output = run("data", "check", path).stdout
        assert "spam  ████████████████████████  12 (75.0 %)" in output
        assert "ham   ████████                  4 (25.0 %)" in output

    def test_with_a_model_directory_tokens_are_counted_still_without_a_server(self, run, tmp_path, model):
        path = tmp_path / "good.jsonl"
        path.write_text(GOOD * 3)
        assert "trainable  " in run("data", "check", path, "--model", model).stdout
        both = json.loads(run("data", "check", path, "--model", model, "--json").stdout)
        assert (both["report"]["valid"], both["tokens"]["example_count"]) == (True, "3")

    def test_a_missing_file_is_a_usage_error(self, run, tmp_path):
        result = run("data", "check", tmp_path / "none.jsonl")
        assert (result.exit_code, "error[FILE_NOT_FOUND]" in result.stderr) == (2, True)

    def test_control_characters_of_the_data_never_reach_the_terminal(self, run, tmp_path):
        path = tmp_path / "bad.jsonl"
        path.write_text('{"messages": [{"role": "\\u001b[31m", "content": "a"}]}\n{"messages": "\x1b[31m"}\n')
        assert "\x1b" not in run("data", "check", path).stdout


class TestPreview:
    def test_a_dataset_is_previewed_by_the_service(self, run, platform):
        result = run("data", "preview", "d1", "--model", "tiny", "--row", 2, "--rows", 2, "--max-seq-length", 9)
        assert result.exit_code == 0, result.stderr
        assert "⟦yes<|end|>⟧⟪ more⟫" in result.stdout
        asked = platform.datasets.asked[0]
        assert (asked.row, asked.row_count, asked.max_seq_length) == (2, 2, 9)

    def test_a_file_is_previewed_here_with_the_files_of_the_base_model(self, run, platform, tmp_path, model):
        path = tmp_path / "train.json"
        path.write_text("\ufeff[" + GOOD.strip() + "]")
        run("model", "ls")
        from tunesmith import Client

        with Client() as client:
            client.register_base_model("tiny", model, revision="r")
        result = run("data", "preview", path, "--model", "tiny")
        assert result.exit_code == 0, result.stderr
        assert "⟦" in result.stdout
        assert platform.datasets.asked == []
        preview = json.loads(run("data", "preview", path, "--model", "tiny", "--json").stdout)
        assert preview["renderings"][0]["trainable_token_count"]

    def test_rows_behind_the_end_are_refused_with_their_number(self, run, file, model):
        result = run("data", "preview", file, "--model", model, "--row", 5)
        assert result.exit_code == 1
        assert "has 1 usable rows, there is no row 5" in result.stderr

    def test_a_file_without_a_usable_row_is_refused(self, run, tmp_path, model):
        path = tmp_path / "bad.jsonl"
        path.write_text(BAD)
        result = run("data", "preview", path, "--model", model)
        assert "error[DATASET_INVALID]" in result.stderr
        assert f"tunesmith data check {path}" in result.stderr


class TestConvert:
    @pytest.fixture
    def csv(self, tmp_path):
        path = tmp_path / "tickets.csv"
        path.write_text("subject,team\nBroken,repair\nLost,\n")
        return path

    def test_rows_are_written_and_those_left_out_are_named(self, run, csv, tmp_path):
        out = tmp_path / "out.jsonl"
        columns = ["--input-column", "subject", "--output-column", "team", "--system", "Name the team."]
        result = run("data", "convert", csv, out, *columns)
        assert result.exit_code == 1
        assert result.stdout.splitlines() == ["error: tickets.csv:3: team is empty", "columns → chat: 1 rows, 1 left out"]
        (row,) = [json.loads(line) for line in out.read_text().splitlines()]
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]

    def test_a_file_is_replaced_only_by_force(self, run, csv, tmp_path):
        out = tmp_path / "out.jsonl"
        out.write_text("mine")
        refused = run("data", "convert", csv, out, "--input-column", "subject", "--output-column", "subject")
        assert (refused.exit_code, out.read_text()) == (2, "mine")
        forced = run("data", "convert", csv, out, "--input-column", "subject", "--output-column", "subject", "--force")
        assert (forced.exit_code, len(out.read_text().splitlines())) == (0, 2)

    def test_a_conversion_that_fails_leaves_no_file(self, run, csv, tmp_path):
        result = run("data", "convert", csv)
        assert result.exit_code == 2
        assert "error[FORMAT_UNKNOWN]" in result.stderr
        assert "subject, team" in result.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["tickets.csv"]

    def test_rows_can_go_to_the_standard_output(self, run, csv):
        result = run("data", "convert", csv, "-", "--input-column", "subject", "--output-column", "subject")
        assert len([json.loads(line) for line in result.stdout.splitlines()]) == 2
        assert "columns → chat: 2 rows" in result.stderr

    @pytest.mark.parametrize("option", ["--from", "--to"])
    def test_an_unknown_format_is_a_usage_error(self, run, csv, option):
        assert run("data", "convert", csv, option, "word").exit_code == 2


class TestUpload:
    @pytest.fixture(autouse=True)
    def _small_is_big(self, monkeypatch):
        monkeypatch.setattr(data_upload, "PARTS_FROM_BYTES", 50)
        monkeypatch.setattr(dataset_parts, "_FIRST_DELAY_SECONDS", 0.0)

    def test_a_big_file_goes_in_parts(self, run, platform, file):
        with part_store(platform.datasets):
            result = run("data", "upload", file, "--max-invalid-rows", 1)
        assert result.exit_code == 0, result.stderr
        assert len(platform.datasets.arrived) > 1
        assert platform.datasets.uploads[0][1] == file.read_bytes()

    def test_where_there_is_no_way_for_parts_the_service_takes_it(self, run, platform, file):
        result = run("data", "upload", file, "--max-invalid-rows", 1)
        assert result.exit_code == 0, result.stderr
        assert "through the service" in result.stderr
        assert platform.datasets.uploads[0][1] == file.read_bytes()

    def test_a_store_that_cannot_be_reached_is_no_way(self, run, platform, file):
        platform.datasets.parts_url = "http://127.0.0.1:1"
        result = run("data", "upload", file, "--max-invalid-rows", 1)
        assert (result.exit_code, len(platform.datasets.aborted)) == (0, 1)

    def test_parts_that_were_asked_for_are_not_given_up(self, run, file):
        result = run("data", "upload", file, "--parts")
        assert (result.exit_code, "error[PRESIGNED_UPLOADS_OFF]" in result.stderr) == (1, True)

    def test_no_parts_are_sent_when_none_are_wanted(self, run, platform, file):
        with part_store(platform.datasets):
            run("data", "upload", file, "--no-parts", "--max-invalid-rows", 1)
        assert platform.datasets.arrived == {}

    def test_rows_left_out_are_told_with_how_to_see_them(self, run, file):
        result = run("data", "upload", file, "--max-invalid-rows", 1)
        assert "left out  1 bad rows (DATASET_ROLE_UNKNOWN: 1)" in result.stdout
        assert "--content dropped" in result.stderr


class TestRest:
    def test_ls_filters(self, run, platform):
        platform.datasets.add(display_name="chat.jsonl", format=Dataset.CHAT, version=2)
        platform.datasets.add(display_name="text.jsonl", format=Dataset.TEXT)
        assert run("data", "ls", "--format", "CHAT").stdout.splitlines()[1].split()[1:4] == ["chat.jsonl", "2", "chat"]
        assert len(run("data", "ls", "--contains", "TEXT").stdout.splitlines()) == 2
        assert len(run("data", "ls", "--name", "chat.jsonl").stdout.splitlines()) == 2
        assert run("data", "ls", "--format", "poem").exit_code == 2

    def test_show_has_warnings(self, run, platform):
        dataset = platform.datasets.add()
        dataset.warnings.add(reason="DATASET_DUPLICATES", message="3 rows repeat", hint="Remove them.", lines=[4, 9])
        output = run("data", "show", dataset.name).stdout
        assert "warning[DATASET_DUPLICATES]: 3 rows repeat (lines 4, 9)\n  hint: Remove them.\n" in output

    def test_show_counts_tokens_and_overlap_when_asked(self, run, platform):
        dataset = platform.datasets.add()
        output = run("data", "show", dataset.name, "--model", "tiny", "--against", "d2").stdout
        assert "model      tiny 0123456789ab" in output
        assert "trainable  250 (25.0 %)" in output
        assert "2 of 10 longer than 64; 1 answers lose tokens" in output
        assert "3 rows have the same input, 2 are equal (rows 4, 9)" in output

    def test_rm_asks(self, run, platform):
        dataset = platform.datasets.add()
        assert run("data", "rm", dataset.name, input="n\n").exit_code == 1
        assert platform.datasets.stored == [dataset]
        assert run("data", "rm", dataset.name, input="y\n").exit_code == 0
        assert platform.datasets.stored == []

    def test_rm_of_several_needs_no_answer_with_yes_and_all_must_exist(self, run, platform):
        names = [platform.datasets.add().name for _ in range(2)]
        assert run("data", "rm", *names, "missing", "--yes").exit_code == 1
        assert len(platform.datasets.stored) == 2
        assert run("data", "rm", *names, "--yes").exit_code == 0
        assert platform.datasets.stored == []

    def test_rm_of_what_is_needed_is_refused(self, run, platform):
        dataset = platform.datasets.add()
        platform.datasets.in_use = {dataset.name}
        assert "error[DATASET_IN_USE]" in run("data", "rm", dataset.name, "--yes").stderr

    def test_download_names_the_file_by_the_id_and_never_by_the_display_name(self, run, platform, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        dataset = platform.datasets.add(b"[1]", "../../evil.json")
        expected = dataset.name.split("/")[1] + ".json"
        assert run("data", "download", dataset.name).stdout == expected + "\n"
        assert (tmp_path / expected).read_bytes() == b"[1]"
        assert run("data", "download", dataset.name).exit_code == 2, "it exists"
        assert run("data", "download", dataset.name, "--force").exit_code == 0

    def test_download_to_the_standard_output(self, run, platform):
        dataset = platform.datasets.add()
        platform.datasets.contents[dataset.name, 3] = b'{"line":2}\n'
        assert run("data", "download", dataset.name, "-", "--content", "dropped").stdout == '{"line":2}\n'
