"""Verbs on datasets beyond the plain upload: parts, budgets, filters, downloads, previews, analyses; mixtures and splits."""

import hashlib

import pytest
from fake_platform import part_store

from tunesmith import Client, dataset_parts
from tunesmith.errors import DataLoss, FailedPrecondition, InvalidArgument, Unreachable
from tunesmith.transfers import CHUNK_BYTES
from tunesmith.v1.dataset_pb2 import Dataset

BODY = b"0123456789" * 5 + b"rest\n"


@pytest.fixture
def client(platform):
    with Client() as client:
        yield client


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(BODY)
    return path


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(dataset_parts, "_FIRST_DELAY_SECONDS", 0.0)


def test_a_file_that_cannot_be_read_to_its_end_is_that_error_and_no_dataset(platform, client, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(bytes(2 * CHUNK_BYTES))

    def leaving(done, total):
        raise OSError(5, "Input/output error", str(path))

    with pytest.raises(OSError, match="Input/output error"):
        client.upload_dataset(path, progress=leaving)
    assert platform.datasets.uploads == []


class TestParts:
    def test_every_part_goes_to_the_object_store(self, platform, client, file):
        seen = []
        with part_store(platform.datasets):
            dataset = client.upload_dataset_in_parts(file, "mine", lambda done, total: seen.append((done, total)))
        ((header, received),) = platform.datasets.uploads
        assert (received, dataset.display_name) == (BODY, "mine")
        assert header.sha256 == hashlib.sha256(BODY).hexdigest()
        assert sorted(platform.datasets.arrived) == [1, 2, 3, 4, 5, 6]
        assert seen[-1] == (len(BODY), len(BODY))
        assert platform.datasets.aborted == []

    def test_a_part_that_is_refused_is_sent_again(self, platform, client, file):
        seen = []
        with part_store(platform.datasets, [500, 503, 500]):
            client.upload_dataset_in_parts(file, progress=lambda done, total: seen.append(done))
        assert platform.datasets.uploads[0][1] == BODY
        assert seen[-1] == len(BODY), "what was sent twice is counted once"

    def test_a_part_that_is_always_refused_ends_the_upload(self, platform, client, file):
        with part_store(platform.datasets, [403] * 1000), pytest.raises(Unreachable) as caught:
            client.upload_dataset_in_parts(file)
        assert caught.value.reason == "PART_NOT_SENT"
        assert "403" in caught.value.message
        assert "signature" not in caught.value.message, "a presigned URL is a secret"
        assert len(platform.datasets.aborted) == 1

    def test_a_store_that_is_not_there_is_named(self, platform, client, file):
        with part_store(platform.datasets):
            pass
        with pytest.raises(Unreachable) as caught:
            client.upload_dataset_in_parts(file)
        assert platform.datasets.parts_url.removeprefix("http://") in caught.value.message
        assert "--no-parts" in caught.value.hint
        assert len(platform.datasets.aborted) == 1

    def test_parts_that_got_lost_are_sent_again(self, platform, client, file):
        platform.datasets.incomplete = ["2, 5"]
        with part_store(platform.datasets):
            client.upload_dataset_in_parts(file)
        assert platform.datasets.uploads[0][1] == BODY

    def test_parts_that_get_lost_again_and_again_end_the_upload(self, platform, client, file):
        platform.datasets.incomplete = ["1, 2, …"] * 5
        with part_store(platform.datasets), pytest.raises(FailedPrecondition) as caught:
            client.upload_dataset_in_parts(file)
        assert (caught.value.reason, len(platform.datasets.aborted)) == ("UPLOAD_INCOMPLETE", 1)

    @pytest.mark.parametrize(
        ("missing", "numbers"), [("2 parts are missing: 2, 3", [2, 3]), ("9 are missing: 1, …", [1, 2, 3]), ("?", [1, 2, 3])]
    )
    def test_missing_parts_are_those_behind_the_colon(self, missing, numbers):
        parts = [dataset_parts.DatasetUploadPart(number=number) for number in (1, 2, 3)]
        found = dataset_parts._missing(parts, FailedPrecondition(f"datasetUploads/1-2-3: {missing}"))
        assert [part.number for part in found] == numbers

    def test_an_interrupted_upload_is_ended(self, platform, client, file):
        def interrupt(done, total):
            raise KeyboardInterrupt

        with part_store(platform.datasets), pytest.raises(KeyboardInterrupt):
            client.upload_dataset_in_parts(file, progress=interrupt)
        assert len(platform.datasets.aborted) == 1

    def test_a_bad_file_is_refused_as_by_the_other_upload(self, platform, client, tmp_path):
        path = tmp_path / "bad.jsonl"
        path.write_bytes(b'{"role": "assistent"}\n')
        with part_store(platform.datasets), pytest.raises(InvalidArgument) as caught:
            client.upload_dataset_in_parts(path)
        assert (caught.value.reason, len(platform.datasets.aborted)) == ("DATASET_INVALID", 1)

    def test_where_parts_are_off_it_says_so(self, client, file):
        with pytest.raises(FailedPrecondition) as caught:
            client.upload_dataset_in_parts(file)
        assert caught.value.reason == "PRESIGNED_UPLOADS_OFF"


@pytest.mark.parametrize(("rows", "ratio"), [(None, None), (0, None), (3, 0.25), (None, 0.0)])
def test_a_budget_is_sent_when_there_is_one_and_zero_is_one(platform, client, file, rows, ratio):
    client.upload_dataset(file, max_invalid_rows=rows, max_invalid_ratio=ratio)
    header = platform.datasets.uploads[0][0]
    assert header.HasField("max_invalid_rows") == (rows is not None)
    assert header.HasField("max_invalid_ratio") == (ratio is not None)
    assert (header.max_invalid_rows, header.max_invalid_ratio) == (rows or 0, ratio or 0.0)


def test_listing_filters(platform, client):
    for name, format_ in (("a.jsonl", Dataset.CHAT), ("b.jsonl", Dataset.TEXT), ("a.jsonl", Dataset.CHAT)):
        platform.datasets.add(display_name=name, format=format_)
    assert len(list(client.list_datasets(display_name="a.jsonl"))) == 2
    assert len(list(client.list_datasets(display_name_contains="B."))) == 1
    assert len(list(client.list_datasets(formats=[Dataset.TEXT]))) == 1
    assert len(list(client.list_datasets())) == 3


class TestDownload:
    def test_the_original_is_what_was_uploaded(self, platform, client, tmp_path):
        dataset = platform.datasets.add(BODY)
        seen = []
        path = client.download_dataset(dataset.name, tmp_path / "out.jsonl", progress=lambda *numbers: seen.append(numbers))
        assert path.read_bytes() == BODY
        assert seen[-1] == (len(BODY), len(BODY))

    def test_rows_and_left_out_rows_are_contents_of_their_own(self, platform, client, tmp_path):
        rows = b'{"text":"x"}\n'
        dataset = platform.datasets.add(BODY, rows_sha256=hashlib.sha256(rows).hexdigest())
        platform.datasets.contents |= {(dataset.name, 2): rows, (dataset.name, 3): b"left out"}
        assert client.download_dataset(dataset.name, tmp_path / "rows", "rows").read_bytes() == rows
        assert client.download_dataset(dataset.name, tmp_path / "dropped", "dropped").read_bytes() == b"left out"

    def test_an_interrupted_download_goes_on_where_it_stopped(self, platform, client, tmp_path):
        dataset = platform.datasets.add(BODY)
        platform.datasets.break_after = 3
        with pytest.raises(Unreachable):
            client.download_dataset(dataset.name, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert client.download_dataset(dataset.name, tmp_path / "out").read_bytes() == BODY
        assert platform.datasets.offsets == [0, 15]

    @pytest.mark.parametrize("content", ["original", "rows"])
    def test_other_bytes_than_were_stored_are_no_file(self, platform, client, tmp_path, content):
        dataset = platform.datasets.add(BODY, rows_sha256="ab")
        platform.datasets.contents |= {(dataset.name, 1): b"other", (dataset.name, 2): b"other"}
        with pytest.raises(DataLoss):
            client.download_dataset(dataset.name, tmp_path / "out", content)
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_content_lists_the_known(self, platform, client, tmp_path):
        with pytest.raises(InvalidArgument) as caught:
            client.download_dataset(platform.datasets.add().name, tmp_path / "out", "everything")
        assert (caught.value.reason, caught.value.hint) == ("CONTENT_UNKNOWN", "Known: original, rows, dropped.")


def test_a_preview_asks_with_whole_names(platform, client):
    rows = client.preview_dataset("d", "tiny", row=4, row_count=2, max_seq_length=64).rows
    assert [row.row for row in rows] == [4, 5]
    asked = platform.datasets.asked[0]
    assert (asked.name, asked.base_model, asked.max_seq_length) == ("datasets/d", "baseModels/tiny", 64)


def test_an_analysis_is_of_what_was_asked(client):
    assert not client.analyze_dataset("d", against="e").HasField("tokens")
    both = client.analyze_dataset("d", "tiny", against="e")
    assert (both.tokens.base_model, both.overlap.against) == ("baseModels/tiny", "datasets/e")


class TestTaskData:
    def test_a_mixture_has_weights_and_an_unset_one_stays_unset(self, platform, client):
        client.create_task(name="n", base_model="tiny", mixture={"a": 2, "datasets/b": None}, validation_split_ratio=0.1)
        spec = platform.tasks.created[0].task.spec.fine_tuning
        assert [(part.dataset, part.weight, part.HasField("weight")) for part in spec.mixture] == [
            ("datasets/a", 2.0, True),
            ("datasets/b", 1.0 * 0, False),
        ]
        assert (spec.dataset, spec.validation_split_ratio) == ("", 0.1)

    def test_without_a_split_the_field_stays_unset(self, platform, client):
        client.create_task(name="n", base_model="tiny", dataset="d")
        assert not platform.tasks.created[0].task.spec.fine_tuning.HasField("validation_split_ratio")

    def test_neither_dataset_nor_mixture_is_refused(self, client):
        with pytest.raises(InvalidArgument):
            client.create_task(name="n", base_model="tiny")


def test_a_client_that_was_closed_connects_anew(platform, client):
    dataset = platform.datasets.add()
    task = platform.tasks.add()
    assert client.get_dataset(dataset.name) == dataset
    client.close()
    assert client.get_dataset(dataset.name) == dataset
    assert client.get_task(task.name) == task
