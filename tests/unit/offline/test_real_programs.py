"""The very programs of the storage service, on real files and a tiny model."""

import json

import pytest
from tiny_model import make_tiny_model

from tunesmith import Client
from tunesmith.offline import renderer
from tunesmith.offline.checker import check, rows_from
from tunesmith.offline.tokenizer_files import TOKENIZER_FILES, model_directory


def row(number):
    return {"messages": [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": f"a {number}"}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row(number)) + "\n" for number in range(1, 21)))
    return path


def test_a_good_file_is_accepted_with_its_rows(file, tmp_path):
    with (tmp_path / "rows").open("w+b") as rows:
        checked = check(file, rows=rows)
        rows.seek(0)
        assert len(rows.readlines()) == checked.report.statistics.example_count == 20
    assert checked.accepted


def test_a_bad_row_is_refused_unless_there_is_a_budget(file):
    with file.open("a") as end:
        end.write('{"messages": [{"role": "assistent", "content": "x"}]}\n')
    checked = check(file)
    assert (checked.accepted, checked.report.violations[0].line) == (False, 21)
    covered = check(file, max_invalid_rows=1)
    assert (covered.accepted, covered.dropped_row_count) == (True, 1)


@pytest.mark.parametrize("as_array", [False, True])
def test_rows_are_taken_by_their_number_among_usable_ones(tmp_path, as_array):
    path = tmp_path / "file.json"
    rows = [row(1), {"messages": []}, row(2), row(3)]
    path.write_text("\ufeff" + (json.dumps(rows, indent=1) if as_array else "\n".join(map(json.dumps, rows))))
    lines, _ = rows_from(path, range(2, 4))
    assert [json.loads(line)["messages"][0]["content"] for line in lines] == ["q 2", "q 3"]


def test_rows_behind_the_end_are_none_and_the_usable_ones_are_counted(file):
    lines, checked = rows_from(file, range(21, 25))
    assert (lines, checked.report.statistics.example_count) == ([], 20)


def test_a_large_file_is_not_read_to_its_end_for_its_first_row(tmp_path, monkeypatch):
    path = tmp_path / "large.jsonl"
    line = json.dumps(row(1)) + "\n"
    path.write_text(line * (8_000_000 // len(line)))
    fed = []

    def chunks_of(file):
        with file.open("rb") as source:
            while chunk := source.read(2**20):
                fed.append(len(chunk))
                yield chunk

    monkeypatch.setattr("tunesmith.offline.checker.chunks_of", chunks_of)
    lines, _ = rows_from(path, range(1, 2))
    assert len(lines) == 1
    assert sum(fed) <= path.stat().st_size


def test_a_preview_tells_what_is_learned_and_what_is_cut(file, model):
    lines, _ = rows_from(file, range(3, 4))
    (preview,) = renderer.preview(lines, model, first_row=3, max_seq_length=8)
    (rendering,) = preview.renderings
    assert preview.row == 3
    assert "q 3" in rendering.text
    assert any(token.trained for token in rendering.tokens)
    assert [token.cut for token in rendering.tokens] == [False] * 8 + [True] * (len(rendering.tokens) - 8)


def test_tokens_are_counted(file, model):
    counted = renderer.count([file.read_bytes()], model)
    assert counted.example_count == 20
    assert 0 < counted.trainable_token_count < counted.token_count


class TestTokenizerFiles:
    @pytest.fixture
    def client(self, platform, model):
        with Client() as client:
            client.register_base_model("tiny", model, revision="r1")
            yield client

    def test_a_directory_is_taken_as_it_is(self, client, platform, tmp_path):
        assert model_directory(client, str(tmp_path)) == tmp_path
        assert platform.models.downloads == []

    def test_files_are_fetched_once_a_revision_and_never_weights(self, client, platform, model):
        first = model_directory(client, "tiny")
        fetched = list(platform.models.downloads)
        assert set(fetched) == {path for path in TOKENIZER_FILES if (model / path).exists()}
        assert model_directory(client, "baseModels/tiny") == first
        assert platform.models.downloads == fetched
        platform.models.stored["baseModels/tiny"].revision = "r2"
        assert model_directory(client, "tiny") != first
        assert sorted(path.name for path in first.iterdir()) == sorted(fetched)

    def test_a_revision_never_names_a_place(self, client, platform, tmp_path):
        platform.models.stored["baseModels/tiny"].revision = "../../../evil"
        assert model_directory(client, "tiny").is_relative_to(tmp_path / "data" / "cache" / "tokenizers")

    def test_a_fetch_that_breaks_leaves_nothing(self, client, platform, tmp_path, monkeypatch):
        def broken(*arguments):
            raise ConnectionError

        monkeypatch.setattr(client, "download_base_model", broken)
        with pytest.raises(ConnectionError):
            model_directory(client, "tiny")
        assert list((tmp_path / "data" / "cache" / "tokenizers").iterdir()) == []
