"""All client-facing services in one in-process server with scripted contents; for tests of the SDK and the command line."""

import collections
import hashlib
import http.server
import re
import threading
import uuid
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2, duration_pb2, empty_pb2, timestamp_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    dataset_pb2,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    eval_pb2,
    inference_service_pb2,
    inference_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    registered_model_pb2,
    task_event_pb2,
    task_manager_service_pb2,
    task_manager_service_pb2_grpc,
)
from tunesmith.v1.task_event_pb2 import LogEntry, StreamEnd, StreamHeader, TaskEvent
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, Lora, TaskSpec

NOW = timestamp_pb2.Timestamp(seconds=1_800_000_000)


def refuse(context, code, reason, message, hint="", violations=(), error_class="user"):
    """End the call as the services do: one ErrorInfo, and a BadRequest when fields are bad."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="tunesmith", metadata={"class": error_class, "hint": hint})
    details = [info]
    if violations:
        fields = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    number = code_pb2.Code.Value(code)
    context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=number, message=message, details=packed)))


def page_of(items, request):
    """Two items a page, so that every listing test crosses a page."""
    start = int(request.page_token or 0)
    token = str(start + 2) if start + 2 < len(items) else ""
    return items[start : start + 2], token


def chunks_for(context, body, offset, break_after=None):
    """Five bytes at a time from `offset` on; the connection breaks after so many chunks."""
    if offset > len(body):
        refuse(context, "OUT_OF_RANGE", "OFFSET_OUT_OF_RANGE", f"there are {len(body)} bytes", "Start again.")
    for number, start in enumerate(range(offset, len(body), 5)):
        if number == break_after:
            refuse(context, "UNAVAILABLE", "SHUTTING_DOWN", "the server shuts down", "Resume.", error_class="transient")
        yield body[start : start + 5]


class Datasets(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Datasets by their bytes. Parts go to `parts_url` (see `part_store`); empty = presigned uploads are off."""

    def __init__(self):
        self.stored = []
        self.uploads = []
        self.contents = {}
        self.offsets = []
        self.break_after = None
        self.asked = []
        self.in_use = set()
        self.parts_url = ""
        self.part_bytes = 10
        self.begun = {}
        self.arrived = {}
        self.incomplete = []
        self.aborted = []
        self.pieces = {}
        self.joined = []

    def add(self, body=b"{}\n", display_name="train.jsonl", **facts):
        """Store a dataset of these bytes."""
        dataset = dataset_pb2.Dataset(
            name=f"datasets/{uuid.uuid4()}",
            display_name=display_name,
            size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            statistics=dataset_pb2.DatasetStatistics(example_count=body.count(b"\n"), messages_by_role={"assistant": 2}),
            create_time=NOW,
            **facts,
        )
        self.stored.insert(0, dataset)
        self.contents[dataset.name, 1] = body
        return dataset

    def UploadDataset(self, requests, context):
        header, body, seal, lifetime = None, b"", "", None
        for request in requests:
            if request.HasField("header"):
                header = request.header
            body, seal = body + request.chunk, request.sha256
            lifetime = request.late_lifetime_seconds or None
            assert len(request.chunk) <= 1024 * 1024
        if header.sha256_follows and seal != hashlib.sha256(body).hexdigest():
            refuse(context, "INVALID_ARGUMENT", "UPLOAD_MALFORMED", "the stream was broken off", "Send it again.")
        dataset = self._store(header, body, context)
        if lifetime:
            dataset.expire_time.seconds = dataset.create_time.seconds + lifetime
        return dataset

    def _store(self, header, body, context):
        if b"assistent" in body and not header.max_invalid_rows:
            place = ("line 1: messages[1].role", 'role "assistent" is not known')
            refuse(context, "INVALID_ARGUMENT", "DATASET_INVALID", "1 row is bad", "Mend the rows.", [place])
        assert header.sha256 in ("", hashlib.sha256(body).hexdigest())
        dropped = body.count(b"assistent")
        dataset = self.add(body, header.display_name, dropped_row_count=dropped)
        if dropped:
            dataset.dropped_rows_by_reason["DATASET_ROLE_UNKNOWN"] = dropped
        self.uploads.append((header, body))
        return dataset

    def CreateDatasetUpload(self, request, context):
        if not self.parts_url:
            refuse(context, "FAILED_PRECONDITION", "PRESIGNED_UPLOADS_OFF", "callers cannot reach the object store", "Stream it.")
        upload = dataset_service_pb2.DatasetUpload(name=f"datasetUploads/{uuid.uuid4()}")
        for number, offset in enumerate(range(0, request.size_bytes, self.part_bytes), start=1):
            size = min(self.part_bytes, request.size_bytes - offset)
            upload.parts.add(number=number, offset=offset, size_bytes=size, url=f"{self.parts_url}/part/{number}?signature=s")
        self.begun[upload.name] = request.header
        return upload

    def CompleteDatasetUpload(self, request, context):
        if self.incomplete:
            missing = self.incomplete.pop(0)
            message = f"{request.name}: {len(missing.split(','))} parts are missing or have another size: {missing}"
            refuse(context, "FAILED_PRECONDITION", "UPLOAD_INCOMPLETE", message, "Send them.")
        return self._store(self.begun[request.name], b"".join(body for _, body in sorted(self.arrived.items())), context)

    def AbortDatasetUpload(self, request, context):
        self.aborted.append(request.name)
        return empty_pb2.Empty()

    def ValidateDataset(self, requests, context):
        body = b"".join(request.chunk for request in requests)
        return dataset_pb2.DatasetReport(valid=b"assistent" not in body, size_bytes=len(body))

    def GetDataset(self, request, context):
        for dataset in self.stored:
            if dataset.name == request.name:
                return dataset
        return refuse(context, "NOT_FOUND", "DATASET_NOT_FOUND", f"{request.name} does not exist", "List them.")

    def ListDatasets(self, request, context):
        wanted = [
            dataset
            for dataset in self.stored
            if request.display_name_contains.lower() in dataset.display_name.lower()
            and request.display_name in ("", dataset.display_name)
            and (not request.formats or dataset.format in request.formats)
        ]
        datasets, token = page_of(wanted, request)
        return dataset_service_pb2.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    def DeleteDataset(self, request, context):
        if request.name in self.in_use:
            refuse(context, "FAILED_PRECONDITION", "DATASET_IN_USE", "tasks/1 needs it", "Wait for it.")
        self.stored = [dataset for dataset in self.stored if dataset.name != request.name]
        return empty_pb2.Empty()

    def DownloadDataset(self, request, context):
        self.offsets.append(request.offset)
        messages, self.break_after = self.break_after, None
        body = self.contents.get((request.name, request.content or 1), b"")
        for chunk in chunks_for(context, body, request.offset, messages):
            yield dataset_service_pb2.DownloadDatasetResponse(chunk=chunk)

    def UploadDatasetPiece(self, requests, context):
        upload, body = "", b""
        for request in requests:
            upload, body = upload or request.header.upload, body + request.chunk
        piece = f"datasetPieces/{uuid.uuid4()}"
        self.pieces[upload, piece] = body
        return dataset_service_pb2.DatasetPiece(name=piece, size_bytes=len(body))

    def JoinDatasetPieces(self, request, context):
        self.joined.append(request)
        if any((request.upload, piece) not in self.pieces for piece in request.pieces):
            refuse(context, "FAILED_PRECONDITION", "UPLOAD_INCOMPLETE", "a piece does not exist", "Send it.")
        return self._store(request.header, b"".join(self.pieces[request.upload, piece] for piece in request.pieces), context)

    def RemoveDatasetPieces(self, request, context):
        self.pieces = {key: body for key, body in self.pieces.items() if key[0] != request.upload}
        return empty_pb2.Empty()

    def PreviewDataset(self, request, context):
        self.asked.append(request)
        rows = [a_preview(request.row + number) for number in range(request.row_count)]
        return dataset_service_pb2.PreviewDatasetResponse(rows=rows)

    def AnalyzeDataset(self, request, context):
        self.asked.append(request)
        analysis = dataset_service_pb2.DatasetAnalysis()
        if request.base_model:
            analysis.tokens.CopyFrom(some_tokens(request.base_model))
        if request.against:
            overlap = dataset_service_pb2.DatasetOverlap(
                against=request.against, same_input_count=3, same_row_count=2, rows=[4, 9]
            )
            analysis.overlap.CopyFrom(overlap)
        return analysis


def a_preview(row=1):
    """`<|user|>Hi\\n` as context, `yes<|end|>` carrying loss, ` more` cut."""
    text = "<|user|>Hi\nyes<|end|> more"
    places = [(0, 8, 0, 0), (8, 10, 0, 0), (10, 11, 0, 0), (11, 14, 1, 0), (14, 21, 1, 0), (21, 26, 1, 1)]
    tokens = [
        dataset_service_pb2.PreviewToken(id=100 + number, start=start, end=end, trained=bool(trained), cut=bool(cut))
        for number, (start, end, trained, cut) in enumerate(places)
    ]
    rendering = dataset_service_pb2.Rendering(text=text, tokens=tokens, trainable_token_count=2)
    return dataset_service_pb2.RowPreview(row=row, renderings=[rendering], sha256="ab")


def some_tokens(base_model):
    """Ten rows, some of them too long."""
    tokens = dataset_pb2.TokenStatistics(
        base_model=base_model,
        base_model_revision="0123456789abcdef",
        max_seq_length=64,
        example_count=10,
        token_count=1000,
        trainable_token_count=250,
        over_length_count=2,
        truncated_answer_count=1,
    )
    tokens.lengths.min, tokens.lengths.max, tokens.lengths.mean = 10, 128, 100.0
    tokens.lengths.percentiles[50] = 90
    tokens.lengths.histogram.add(up_to=64, count=8)
    tokens.lengths.histogram.add(up_to=128, count=2)
    return tokens


@contextmanager
def part_store(datasets, refusals=()):
    """An object store that takes parts by PUT; the first requests are refused with these statuses."""
    left = iter(list(refusals))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = next(left, 200)
            if status == 200:
                datasets.arrived[int(self.path.partition("?")[0].rpartition("/")[2])] = body
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        datasets.parts_url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Artifacts(artifact_service_pb2_grpc.ArtifactServiceServicer):
    def __init__(self):
        self.stored = []
        self.files = {}
        self.exported = {}
        self.offsets = []
        self.alone = []
        self.notices = []
        self.swept = {}
        self.check = artifact_service_pb2.StorageCheck(content_count=3, size_bytes=2_000_000_000)
        self.break_after = None

    def add(self, files, task="tasks/1", kind=artifact_pb2.Artifact.ADAPTER, **facts):
        """Store an artifact made of `files` (path -> bytes)."""
        described = [
            artifact_pb2.File(path=path, size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
            for path, body in files.items()
        ]
        artifact = artifact_pb2.Artifact(
            name=f"artifacts/{uuid.uuid4()}",
            kind=kind,
            state=artifact_pb2.Artifact.AVAILABLE,
            manifest=artifact_pb2.ArtifactManifest(files=described, task=task, base_model="baseModels/tiny"),
            size_bytes=sum(map(len, files.values())),
            create_time=NOW,
            **facts,
        )
        self.stored.append(artifact)
        self.files |= {(artifact.name, path): body for path, body in files.items()}
        return artifact

    def GetArtifact(self, request, context):
        for artifact in self.stored:
            if artifact.name == request.name:
                return artifact
        return refuse(context, "NOT_FOUND", "ARTIFACT_EXPIRED", f"{request.name} is past its time", "Run the task again.")

    def PinArtifact(self, request, context):
        return self._changed(request, pinned=True)

    def UnpinArtifact(self, request, context):
        return self._changed(request, pinned=False)

    def ExtendArtifact(self, request, context):
        artifact = self._changed(request)
        artifact.expire_time.seconds += request.extension.seconds
        return artifact

    def ExpireArtifact(self, request, context):
        artifact = self._changed(request, state=artifact_pb2.Artifact.EXPIRED, pinned=False)
        self.stored.remove(artifact)
        return artifact

    def RestoreArtifact(self, request, context):
        return self._changed(request, state=artifact_pb2.Artifact.AVAILABLE)

    def ExportArtifact(self, request, context):
        artifact = next(artifact for artifact in self.stored if artifact.name == request.name)
        version = registered_model_pb2.ModelVersion(
            name=f"{request.model}/versions/1",
            version=1,
            format=request.format,
            aliases=[request.alias] if request.alias else [],
            description=request.description,
            artifact=artifact.name,
            manifest=artifact.manifest,
        )
        self.exported[version.name] = version
        return version

    def StreamArtifactExport(self, request, context):
        message = artifact_service_pb2.StreamArtifactExportResponse
        yield message(verified_bytes=1, total_bytes=2)
        yield message(verified_bytes=2, total_bytes=2, model_version=self.ExportArtifact(request.export, context))

    def SweepArtifacts(self, request, context):
        names = [artifact.name for artifact in self.stored]
        return artifact_service_pb2.SweepArtifactsResponse(
            dry_run=request.dry_run, expired=names, removed_object_count=2, **self.swept
        )

    def ListArtifactNotices(self, request, context):
        found = [notice for notice in self.notices if notice.sequence > request.after_sequence][:2]
        last = found[-1].sequence if found else request.after_sequence
        return artifact_service_pb2.ListArtifactNoticesResponse(notices=found, last_sequence=last)

    def GetStorageCheck(self, request, context):
        return self.check

    def _changed(self, request, **changes):
        artifact = next(artifact for artifact in self.stored if artifact.name == request.name)
        artifact.reason = request.reason
        for field, value in changes.items():
            setattr(artifact, field, value)
        return artifact

    def ListArtifacts(self, request, context):
        wanted = [
            artifact
            for artifact in self.stored
            if request.task in ("", artifact.manifest.task) and request.kind in (0, artifact.kind)
        ]
        artifacts, token = page_of(wanted, request)
        return artifact_service_pb2.ListArtifactsResponse(artifacts=artifacts, next_page_token=token)

    def DownloadArtifact(self, request, context):
        self.offsets.append(request.offset)
        self.alone.append(request.caller_verifies)
        if (request.name, request.path) not in self.files:
            refuse(context, "NOT_FOUND", "ARTIFACT_EXPIRED", f"{request.name} is past its time", "Run the task again.")
        messages, self.break_after = self.break_after, None
        for chunk in chunks_for(context, self.files[request.name, request.path], request.offset, messages):
            yield artifact_service_pb2.DownloadArtifactResponse(chunk=chunk)


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self):
        self.stored = {}
        self.bytes = {}
        self.downloads = []
        self.listed = []
        self.chat_template_problem = ""

    def RegisterBaseModel(self, requests, context):
        header, path = None, ""
        for request in requests:
            kind = request.WhichOneof("payload")
            if kind == "header":
                header = request.header
            elif kind == "path":
                path = request.path
                self.bytes[path] = b""
            else:
                self.bytes[path] += request.chunk
        for file in header.files:
            assert hashlib.sha256(self.bytes[file.path]).hexdigest() == file.sha256
        header.chat_template_problem = self.chat_template_problem
        self.stored[header.name] = header
        return header

    def RegisterServerBaseModel(self, request, context):
        self.from_server = request
        return self.stored.setdefault(request.header.name, request.header)

    def DownloadModel(self, request, context):
        self.downloads.append(request.path)
        for chunk in chunks_for(context, self.bytes[request.path], request.offset):
            yield model_service_pb2.DownloadModelResponse(chunk=chunk)

    def GetBaseModel(self, request, context):
        if request.name not in self.stored:
            refuse(context, "NOT_FOUND", "BASE_MODEL_NOT_FOUND", f"{request.name} does not exist", "List them.")
        return self.stored[request.name]

    def ListBaseModels(self, request, context):
        self.listed.append(request)
        models, token = page_of(list(self.stored.values()), request)
        return model_service_pb2.ListBaseModelsResponse(base_models=models, next_page_token=token)


class Registry(Models):
    """Base models, and the versions that were exported from `artifacts`; every model has one version."""

    def __init__(self, artifacts):
        super().__init__()
        self.artifacts = artifacts
        self.aliases = {}

    def GetModel(self, request, context):
        if f"{request.name}/versions/1" not in self.artifacts.exported:
            refuse(context, "NOT_FOUND", "REGISTERED_MODEL_NOT_FOUND", f"{request.name} does not exist", "List them.")
        return registered_model_pb2.RegisteredModel(
            name=request.name, newest_version=1, version_count=1, aliases=self.aliases, create_time=NOW
        )

    def ListModels(self, request, context):
        names = sorted(name.partition("/versions/")[0] for name in self.artifacts.exported)
        found, token = page_of(names, request)
        models = [self.GetModel(model_service_pb2.GetModelRequest(name=name), context) for name in found]
        return model_service_pb2.ListModelsResponse(models=models, next_page_token=token)

    def GetModelVersion(self, request, context):
        return self.artifacts.exported[request.name.partition("@")[0].partition("/versions/")[0] + "/versions/1"]

    def ListModelVersions(self, request, context):
        versions = [version for name, version in self.artifacts.exported.items() if name.startswith(request.parent + "/")]
        return model_service_pb2.ListModelVersionsResponse(model_versions=versions)

    def ImportModel(self, request_iterator, context):
        self.imported = list(request_iterator)
        header = self.imported[0].header
        version = registered_model_pb2.ModelVersion(name=f"{header.model}/versions/1", version=1)
        version.manifest.base_model = header.base_model
        return version

    def ImportServerModel(self, request, context):
        self.from_server = request
        version = registered_model_pb2.ModelVersion(name=f"{request.header.model}/versions/1", version=1)
        version.manifest.base_model = request.header.base_model
        return version

    def SetModelAlias(self, request, context):
        self.aliases[request.alias] = request.version
        return self.GetModel(request, context)

    def DeleteModelVersion(self, request, context):
        del self.artifacts.exported[request.name.replace("@", "/versions/")]
        return empty_pb2.Empty()

    def DownloadModel(self, request, context):
        if request.name not in self.artifacts.exported:
            yield from super().DownloadModel(request, context)
            return
        body = self.artifacts.files[self.artifacts.exported[request.name].artifact, request.path]
        for chunk in chunks_for(context, body, request.offset):
            yield model_service_pb2.DownloadModelResponse(chunk=chunk)


def one_fails(request, context):
    """A comparison whose second model cannot be had, whatever it was asked."""
    error = inference_service_pb2.AnswerError(
        reason="BASE_MODEL_NOT_FOUND", message=f"{request.models[1]} does not exist", error_class="ERROR_CLASS_USER", hint="Look."
    )
    yield inference_service_pb2.CompareChatResponse(index=1, finish_reason="FINISH_REASON_FAILED", error=error)
    yield inference_service_pb2.CompareChatResponse(index=0, delta="fine", finish_reason="FINISH_REASON_STOP")


class Inference(inference_service_pb2_grpc.InferenceServiceServicer):
    """Repeats what it is asked, unless `script(request, context)` answers streams, `compare_script` comparisons or `chat_script`
    what is none."""

    def __init__(self):
        self.asked = []
        self.script = None
        self.chat_script = None
        self.compare_script = None

    def Chat(self, request, context):
        self.asked.append(request)
        if self.chat_script:
            return self.chat_script(request, context)
        answer = inference_service_pb2.ChatMessage(role="assistant", content=f"echo {request.messages[-1].content}")
        return inference_service_pb2.ChatResponse(
            model=request.model, message=answer, finish_reason=inference_service_pb2.FINISH_REASON_STOP
        )

    def CompareChat(self, request, context):
        self.asked.append(request)
        if self.compare_script:
            yield from self.compare_script(request, context)
            return
        for word in ("echo ", request.messages[-1].content):
            for index, model in enumerate(request.models):
                delta = word if word == "echo " else f"{word} by {model}"
                yield inference_service_pb2.CompareChatResponse(index=index, delta=delta)
        for index in range(len(request.models)):
            usage = inference_service_pb2.ChatUsage(completion_tokens=2)
            reason = inference_service_pb2.FINISH_REASON_STOP
            yield inference_service_pb2.CompareChatResponse(index=index, finish_reason=reason, usage=usage)

    def StreamChat(self, request, context):
        self.asked.append(request)
        if self.script:
            yield from self.script(request, context)
            return
        for word in ("echo ", request.messages[-1].content):
            yield inference_service_pb2.StreamChatResponse(delta=word)
        yield inference_service_pb2.StreamChatResponse(
            finish_reason=inference_service_pb2.FINISH_REASON_STOP, usage=inference_service_pb2.ChatUsage(completion_tokens=2)
        )

    def Complete(self, request, context):
        """As StreamComplete, whole."""
        pieces = list(self.StreamComplete(request, context))
        choices = [
            inference_service_pb2.CompletionChoice(
                index=index,
                text="".join(piece.text for piece in pieces if piece.index == index),
                finish_reason=inference_service_pb2.FINISH_REASON_LENGTH,
            )
            for index in range(request.completion.n or 1)
        ]
        return inference_service_pb2.CompleteResponse(model=request.completion.model, choices=choices, usage=pieces[-1].usage)

    def ScoreChat(self, request, context):
        """Each word of a judged turn is a token of one nat."""
        self.asked.append(request)
        judged = [turn for turn in request.messages if turn.role == "assistant" and (turn.weight or not turn.HasField("weight"))]
        if not judged:
            bad = ("messages", "no turn is the assistant's")
            refuse(context, "INVALID_ARGUMENT", "INVALID_FIELD", "nothing to judge", "Mend it.", [bad])
        words = [word for turn in judged for word in turn.content.split()]
        tokens = [inference_service_pb2.TokenLogprob(token=word, logprob=-1.0) for word in words]
        return inference_service_pb2.ScoreChatResponse(model=request.model, tokens=tokens, total_logprob=-len(words), loss=1.0)

    def StreamComplete(self, request, context):
        """Echoes the prompt when it is asked to, then writes one word for each text."""
        self.asked.append(request.completion)
        if self.script:
            yield from self.script(request, context)
            return
        asked = request.completion
        for index in range(asked.n or 1):
            echoed = asked.text if asked.echo else ""
            yield inference_service_pb2.StreamCompleteResponse(index=index, text=echoed + f" word{index}")
        for index in range(asked.n or 1):
            ending = {"finish_reason": inference_service_pb2.FINISH_REASON_LENGTH, "index": index}
            yield inference_service_pb2.StreamCompleteResponse(**ending)
        usage = inference_service_pb2.ChatUsage(prompt_tokens=3, completion_tokens=asked.n or 1)
        yield inference_service_pb2.StreamCompleteResponse(usage=usage)


def kind_of_work(task):
    return TaskSpec.Kind.Value((task.spec.WhichOneof("kind") or "fine_tuning").upper())


def matches(task, wanted):
    fine_tuning = task.spec.fine_tuning
    return (
        wanted.text.lower() in (task.display_name + task.description).lower()
        and task.name.removeprefix("tasks/").replace("-", "").startswith(wanted.id_prefix)
        and (not wanted.kinds or kind_of_work(task) in wanted.kinds)
        and wanted.creator in ("", task.creator)
        and wanted.base_model in ("", fine_tuning.base_model)
        and (not wanted.methods or fine_tuning.method in wanted.methods)
        and dict(wanted.labels).items() <= dict(task.labels).items()  # a map of protobuf adds what it is asked for
        and (
            not wanted.HasField("before_create_time")
            or task.create_time.ToNanoseconds() < wanted.before_create_time.ToNanoseconds()
        )
    )


class Tasks(task_manager_service_pb2_grpc.TaskManagerServiceServicer):
    """Tasks with scripted events. `break_after` ends the next streams after so many messages, one entry per connection.

    `changes` is what the next connections of WatchTasks tell: (time, task or None), a list per connection.
    """

    def __init__(self):
        self.counts_to = 1_000
        """Larger totals are told as at least this."""
        self.stored = []
        self.evals = {}
        self.events = {}
        self.created = []
        self.break_after = []
        self.on_create = lambda task: None
        self.resend = 0
        self.cursors = []
        self.metadata = []
        self.changes = []
        self.retried = []
        self.runners = []
        self.checkpoints = {}
        self.watched_after = []

    def add(self, state=Task.SUCCEEDED, events=(), **facts):
        task = Task(name=f"tasks/{uuid.uuid4()}", display_name="first", state=state, create_time=NOW, **facts)
        if not task.spec.WhichOneof("kind"):
            task.spec.fine_tuning.SetInParent()
        self.stored.append(task)
        self.events[task.name] = list(events)
        return task

    def CreateTask(self, request, context):
        self.metadata.append(dict(context.invocation_metadata()))
        if not request.validate_only:
            self.created.append(request)
        if not request.task.display_name:
            bad = ("task.display_name", "must have 1 to 128 characters")
            refuse(context, "INVALID_ARGUMENT", "TASK_INVALID", "1 field is wrong", "Mend it.", [bad])
        task = Task()
        task.CopyFrom(request.task)
        task.name, task.state = f"tasks/{uuid.uuid4()}", Task.QUEUED
        task.effective_hyperparameters.CopyFrom(resolved(task))
        if request.validate_only:
            return task
        self.stored.append(task)
        self.events[task.name] = a_run()
        self.on_create(task)
        return task

    def ListTunings(self, request, context):
        message = task_manager_service_pb2.ListTuningsResponse
        return message(
            tunings=[
                message.Tuning(method=FineTuning.SFT, tuning=FineTuning.LORA, memory_bytes=3_200_000_000),
                message.Tuning(method=FineTuning.SFT, tuning=FineTuning.QLORA, problem="needs a GPU"),
            ],
            max_seq_length=2048,
        )

    def PlanTask(self, request, context):
        numbers = Hyperparameters(learning_rate=2e-4, lora=Lora(rank=16))
        return task_manager_service_pb2.TaskPlan(
            effective_hyperparameters=numbers,
            total_steps=40,
            example_count=320,
            warnings=["few examples"],
            token_count=51_200,
            trainable_token_count=12_800,
            validation_example_count=32 if request.task.spec.fine_tuning.validation_split_ratio else 0,
            estimated_duration=duration_pb2.Duration(seconds=725),
            estimate_basis=task_manager_service_pb2.TaskPlan.EARLIER_RUNS,
            estimated_peak_memory_bytes=3_200_000_000,
            serving_problem="rank 512 is more than 64",
        )

    def GetTask(self, request, context):
        for task in self.stored:
            if task.name == request.name:
                return task
        return refuse(context, "NOT_FOUND", "TASK_NOT_FOUND", f"{request.name} does not exist", "List them.")

    def ListTasks(self, request, context):
        states = [*request.states, *request.filter.states]
        wanted = [task for task in self.stored if (not states or task.state in states) and matches(task, request.filter)]
        if request.initial_artifacts:
            wanted = [task for task in wanted if task.origin.artifact in request.initial_artifacts]
        tasks, token = page_of(wanted, request)
        response = task_manager_service_pb2.ListTasksResponse(tasks=tasks, next_page_token=token)
        for task in response.tasks:  # as the real one, which tells results of one task only
            task.ClearField("evaluation_result")
            task.ClearField("generation_result")
        counts = collections.Counter(task.state for task in wanted) if request.include_totals else {}
        for state, count in counts.items():
            least = min(count, self.counts_to)
            response.totals.add(state=state, task_count=least, at_least=least < count)
        return response

    def UpdateTask(self, request, context):
        task = self.GetTask(request.task, context)
        given = Task(display_name=request.task.display_name, description=request.task.description, labels=request.task.labels)
        given.priority = request.task.priority
        for path in request.update_mask.paths:
            task.ClearField(path)
        request.update_mask.MergeMessage(given, task)
        return task

    def WatchTasks(self, request, context):
        self.watched_after.append(request.after_time.seconds)
        for seconds, task in self.changes.pop(0) if self.changes else ():
            time = timestamp_pb2.Timestamp(seconds=seconds)
            yield task_manager_service_pb2.WatchTasksResponse(tasks=[task] if task else [], time=time)
        refuse(context, "UNAVAILABLE" if self.changes else "INTERNAL", "SERVER_STOPPING", "the server is stopping", "Come back.")

    def CancelTask(self, request, context):
        task = self.GetTask(request, context)
        task.state, task.state_reason = Task.CANCELLED, request.reason
        return task

    def PauseTask(self, request, context):
        task = self.GetTask(request, context)
        if task.state != Task.RUNNING:
            refuse(context, "FAILED_PRECONDITION", "TASK_NOT_RUNNING", "the task does not run", "Wait until it runs.")
        task.state, task.state_reason = Task.PAUSING, request.reason
        return task

    def ResumeTask(self, request, context):
        task = self.GetTask(request, context)
        if task.state != Task.PAUSED:
            refuse(context, "FAILED_PRECONDITION", "TASK_NOT_PAUSED", "the task is not paused", "Wait until it is.")
        task.state = Task.QUEUED
        return task

    def RetryTask(self, request, context):
        task = self.GetTask(request, context)
        if task.state not in (Task.FAILED, Task.CANCELLED):
            refuse(context, "FAILED_PRECONDITION", "TASK_NOT_ENDED_BADLY", "the task has not failed", "Clone it.")
        self.retried.append(request)
        task.state = Task.QUEUED
        task.ClearField("error")
        return task

    def SaveCheckpoint(self, request, context):
        task = self.GetTask(request, context)
        saved = {"step": 8, "name": "step-8", "artifact": "artifacts/1", "labels": [request.label]}
        events = self.events[task.name]
        after = len(events)
        if task.state == Task.RUNNING:
            events.append(TaskEvent(sequence=after + 1, checkpoint_saved=saved))
        return task_manager_service_pb2.SaveCheckpointResponse(after_sequence=after)

    def ListCheckpoints(self, request, context):
        task = self.GetTask(request, context)
        return task_manager_service_pb2.ListCheckpointsResponse(checkpoints=self.checkpoints.get(task.name, ()))

    def ListRunners(self, request, context):
        return task_manager_service_pb2.ListRunnersResponse(runners=self.runners)

    def CreateEval(self, request, context):
        for kept, request_id in self.evals.values():
            if request.request_id and request_id == request.request_id:
                return kept
        kept = eval_pb2.Eval(name=f"evals/{uuid.uuid4()}", create_time=NOW, update_time=NOW)
        kept.MergeFrom(request.eval)
        kept.create_time.nanos = len(self.evals) + 1
        self.evals[kept.name] = kept, request.request_id
        return kept

    def GetEval(self, request, context):
        if request.name not in self.evals:
            refuse(context, "NOT_FOUND", "EVAL_NOT_FOUND", f"{request.name} does not exist", "List them.")
        return self.evals[request.name][0]

    def ListEvals(self, request, context):
        evals, token = page_of([kept for kept, _ in self.evals.values()], request)
        return task_manager_service_pb2.ListEvalsResponse(evals=evals, next_page_token=token)

    def UpdateEval(self, request, context):
        kept = self.GetEval(request.eval, context)
        for path in request.update_mask.paths:
            kept.ClearField(path)
        request.update_mask.MergeMessage(eval_pb2.Eval(display_name=request.eval.display_name, labels=request.eval.labels), kept)
        kept.update_time.seconds += 1
        return kept

    def DeleteEval(self, request, context):
        self.GetEval(request, context)
        del self.evals[request.name]
        return empty_pb2.Empty()

    def DiffTasks(self, request, context):
        """Names and states are compared."""
        first, second = (self.GetTask(Task(name=name), context) for name in (request.first, request.second))
        difference = task_manager_service_pb2.TaskDifference
        response = task_manager_service_pb2.DiffTasksResponse(unknown_sections=[difference.DATA, difference.VERSIONS])
        if first.display_name != second.display_name:
            values = {"first": first.display_name, "second": second.display_name}
            response.differences.add(section=difference.SPEC, field="display_name", **values)
        return response

    def DeleteTask(self, request, context):
        if request.allow_missing and request.name not in [task.name for task in self.stored]:
            return empty_pb2.Empty()
        task = self.GetTask(request, context)
        if task.state == Task.RUNNING:
            refuse(context, "FAILED_PRECONDITION", "TASK_NOT_TERMINAL", "the task runs", "Cancel it first.")
        self.stored.remove(task)
        return empty_pb2.Empty()

    def WatchTask(self, request, context):
        for event in self._stream(request, context, lambda e: not request.kinds or kind_of(e) in request.kinds):
            yield self._wrap(task_manager_service_pb2.WatchTaskResponse, event, lambda e: {"events": [e]})

    def StreamMetrics(self, request, context):
        for event in self._stream(request, context, lambda e: e.HasField("step_metrics")):
            yield self._wrap(task_manager_service_pb2.StreamMetricsResponse, event, lambda e: {"points": [point_of(e)]})

    def StreamLogs(self, request, context):
        matches = lambda e: e.HasField("log_entry") and logs_match(e, request)  # noqa: E731
        for event in self._stream(request, context, matches):
            yield self._wrap(task_manager_service_pb2.StreamLogsResponse, event, lambda e: {"lines": [line_of(e)]})

    def ListEvents(self, request, context):
        wanted = [e for e in self.events[request.name] if e.sequence > request.after_sequence]
        wanted = [e for e in wanted if not request.kinds or kind_of(e) in request.kinds]
        wanted = [e for e in wanted if not e.HasField("log_entry") or logs_match(e, request.logs)]
        more = wanted[1].sequence if len(wanted) > 2 else 0
        return task_manager_service_pb2.ListEventsResponse(events=wanted[:2], next_after_sequence=more)

    def ListMetrics(self, request, context):
        points = [e.step_metrics for e in self.events[request.name] if e.HasField("step_metrics")]
        response = task_manager_service_pb2.ListMetricsResponse()
        for metric in sorted({name for point in points for name in point.values}):
            if not request.metrics or metric in request.metrics:
                series = response.series.add(metric=metric, sample_count=len(points))
                for point in points:
                    series.samples.add(step=point.step, value=point.values[metric])
        return response

    def _stream(self, request, context, matches):
        """Header, events after the cursor, end; cut short when the script says so."""
        self.cursors.append(request.after_sequence)
        task = self.GetTask(request, context)
        events = self.events[request.name]
        messages = [StreamHeader(head_sequence=len(events), state=task.state)]
        messages += [e for e in events if e.sequence > request.after_sequence - self.resend and matches(e)]
        messages.append(self._end(events))
        limit = self.break_after.pop(0) if self.break_after else None
        yield from messages[:limit]
        if limit is not None and limit < len(messages):
            refuse(context, "UNAVAILABLE", "SHUTTING_DOWN", "the server shuts down", "Resume.", error_class="transient")

    @staticmethod
    def _end(events):
        last = events[-1].state_change
        end = StreamEnd(head_sequence=len(events), state=last.to_state)
        if last.HasField("error"):
            end.error.CopyFrom(last.error)
        elif last.to_state == Task.SUCCEEDED:
            end.artifact = "artifacts/made"
        return end

    @staticmethod
    def _wrap(kind, message, items):
        if isinstance(message, StreamHeader):
            return kind(header=message)
        if isinstance(message, StreamEnd):
            return kind(end=message)
        return kind(**items(message))


def resolved(task):
    """What a task manager makes of the numbers of a task."""
    numbers = Hyperparameters(num_train_epochs=3, max_steps=60, learning_rate=2e-4, global_batch_size=16, seed=42)
    numbers.MergeFrom(task.spec.fine_tuning.hyperparameters)
    return numbers


def logs_match(event, wanted):
    entry = event.log_entry
    return (
        entry.severity >= wanted.min_severity
        and (not wanted.ranks or entry.rank in wanted.ranks)
        and wanted.contains in entry.text
        and bool(re.search(wanted.pattern, entry.text))
    )


def kind_of(event):
    return TaskEvent.Kind.Value(event.WhichOneof("event").upper())


def point_of(event):
    metrics = event.step_metrics
    return task_manager_service_pb2.MetricPoint(sequence=event.sequence, step=metrics.step, values=metrics.values)


def line_of(event):
    return task_manager_service_pb2.LogLine(sequence=event.sequence, time=event.time, entry=event.log_entry)


def a_run(steps=3, ending=Task.SUCCEEDED, error=None):
    """Events of a whole task: queued, running, started, one warning, points, the end."""
    facts = [
        {"state_change": task_event_pb2.StateChange(to_state=Task.QUEUED, reason="created")},
        {"state_change": task_event_pb2.StateChange(from_state=Task.QUEUED, to_state=Task.RUNNING, reason="started")},
        {"training_started": task_event_pb2.TrainingStarted(total_steps=steps)},
        {"log_entry": LogEntry(severity=LogEntry.INFO, text="all is well", source="stdout")},
        {"log_entry": LogEntry(severity=LogEntry.WARNING, rank=1, text="careful", source="stderr")},
    ]
    facts += [
        {"step_metrics": task_event_pb2.StepMetrics(step=step, values={"loss": 3.0 / step, "tokens_per_second": 100.0})}
        for step in range(1, steps + 1)
    ]
    facts.append({"state_change": task_event_pb2.StateChange(to_state=ending, reason="ended", error=error)})
    return [
        TaskEvent(sequence=number, attempt=1, time=timestamp_pb2.Timestamp(seconds=NOW.seconds + number), **fact)
        for number, fact in enumerate(facts, start=1)
    ]


class FakePlatform:
    """The server and its parts, to script and to look into."""

    def __init__(self):
        self.datasets, self.artifacts = Datasets(), Artifacts()
        self.models = Registry(self.artifacts)
        self.inference, self.tasks = Inference(), Tasks()
        self.address = ""


@contextmanager
def serving() -> Iterator[FakePlatform]:
    """A platform on a free port for the length of the block."""
    platform = FakePlatform()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
    dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(platform.datasets, server)
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(platform.artifacts, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(platform.models, server)
    inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(platform.inference, server)
    task_manager_service_pb2_grpc.add_TaskManagerServiceServicer_to_server(platform.tasks, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    platform.address = f"127.0.0.1:{port}"
    try:
        yield platform
    finally:
        server.stop(0).wait()
