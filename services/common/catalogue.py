"""The error catalogue: every reason a caller or a task can see, with its status, who can act on it, and what to do."""

import dataclasses
import enum

from services.common.dataset_reasons import FILE_PROBLEMS, ROW_PROBLEMS, WARNINGS


class ErrorClass(enum.Enum):
    """Who can act on a failure; the values are those of ErrorInfo's metadata key `class`."""

    USER = "user"
    PLATFORM = "platform"
    TRANSIENT = "transient"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One reason. `status` is the name of a gRPC status code; reasons that only tasks carry have the status of INTERNAL."""

    status: str
    error_class: ErrorClass
    hint: str


_USER, _PLATFORM, _TRANSIENT = ErrorClass.USER, ErrorClass.PLATFORM, ErrorClass.TRANSIENT

_REQUESTS = {
    "INVALID_FIELD": Entry("INVALID_ARGUMENT", _USER, "Correct the named fields and send the request again."),
    "INVALID_NAME": Entry("INVALID_ARGUMENT", _USER, "Use the name as the API returned it; a new one has the form told."),
    "INVALID_PAGE_TOKEN": Entry("INVALID_ARGUMENT", _USER, "Start again without page_token, or keep the filter unchanged."),
    "UNAUTHENTICATED": Entry("UNAUTHENTICATED", _USER, "Send the API key as metadata: authorization: Bearer KEY."),
    "UNIMPLEMENTED": Entry("UNIMPLEMENTED", _USER, "List the methods by reflection, or upgrade the server."),
    "DEADLINE_EXCEEDED": Entry("DEADLINE_EXCEEDED", _TRANSIENT, "Try again with a longer deadline."),
    "SERVER_STOPPING": Entry("UNAVAILABLE", _TRANSIENT, "Connect again and resume with the last sequence number you have."),
    "INTERNAL": Entry("INTERNAL", _PLATFORM, "Look up the request id in the service's log and report it."),
}

_TASKS = {
    "EVAL_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the evals: GET /v1/evals."),
    "EVAL_RUN_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the runs of the eval: GET /v1/evals/{eval_id}/runs."),
    "OUTPUT_ITEM_NOT_FOUND": Entry(
        "NOT_FOUND", _USER, "A completed run has them until the artifact of its task ends; list them, or run the eval again."
    ),
    "TASK_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the tasks: tunesmith task ls."),
    "TASK_NOT_TERMINAL": Entry("FAILED_PRECONDITION", _USER, "Cancel the task first, or wait for its end."),
    "TASK_NOT_RUNNING": Entry(
        "FAILED_PRECONDITION", _USER, "Only a task that starts or runs can be paused: tunesmith task show."
    ),
    "TASK_NOT_PAUSED": Entry("FAILED_PRECONDITION", _USER, "Only a task that is PAUSED can be resumed; a PAUSING one soon is."),
    "TASK_NOT_ENDED_BADLY": Entry(
        "FAILED_PRECONDITION",
        _USER,
        "Only a FAILED or CANCELLED task is tried again; clone this one: tunesmith task clone.",
    ),
    "CHECKPOINT_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the checkpoints: tunesmith task checkpoints."),
    "REQUEST_ID_REUSED": Entry("ALREADY_EXISTS", _USER, "Use a new request_id for a different request."),
    "PROJECT_QUOTA_EXCEEDED": Entry(
        "RESOURCE_EXHAUSTED",
        _USER,
        "Wait until tasks of the project have started, cancel some, or ask the operator for a larger quota.",
    ),
    "CURSOR_EXPIRED": Entry("OUT_OF_RANGE", _USER, "Start from first_available_sequence - 1, or list the metrics."),
    "CURSOR_AHEAD": Entry("OUT_OF_RANGE", _USER, "Use the sequence number of an event you have received."),
    "STALE_EPOCH": Entry("FAILED_PRECONDITION", _PLATFORM, "Stop: a newer attempt of the task owns it."),
    "SEQUENCE_GAP": Entry("FAILED_PRECONDITION", _PLATFORM, "Read again from the expected sequence number."),
}

_RUNS = {
    "RUN_NOT_FOUND": Entry("NOT_FOUND", _PLATFORM, "The trainer lost the run; the task manager starts a new attempt."),
    "NO_CAPACITY": Entry("RESOURCE_EXHAUSTED", _TRANSIENT, "Wait for a run to end, or add a trainer."),
    "TOO_MANY_PROCESSES": Entry("FAILED_PRECONDITION", _USER, "Set num_processes to what one trainer has."),
    "BASE_MODEL_UNUSABLE": Entry(
        "FAILED_PRECONDITION", _PLATFORM, "Mend what the message names, or register the base model again from intact files."
    ),
    "DATASET_UNUSABLE": Entry("FAILED_PRECONDITION", _USER, "Mend the named row and upload the dataset again."),
    "NO_TRAINABLE_TOKENS": Entry("INTERNAL", _USER, "Give at least one row an answer to learn, within max_seq_length."),
    "LOSS_NOT_FINITE": Entry("INTERNAL", _USER, "Lower learning_rate, or look for broken rows; then start the task again."),
    "LOSS_SPIKE": Entry("OK", _USER, "Lower learning_rate or max_grad_norm, and look at the named rows: tunesmith data preview."),
    "LOSS_PLATEAU": Entry("OK", _USER, "More of the same will not help: raise learning_rate or lora.rank, or train for less."),
    "OVERFITTING": Entry("OK", _USER, "Train for fewer epochs, or set early_stopping_patience; the best checkpoint is kept."),
    "LEARNING_RATE_WITHOUT_EFFECT": Entry("OK", _USER, "Raise learning_rate; leave it unset for a value that fits the method."),
    "DATA_STARVATION": Entry(
        "OK",
        _PLATFORM,
        "Free processor time and memory on the trainer: its processor makes the batches.",
    ),
    "BATCH_WITHOUT_TARGETS": Entry("OK", _USER, "Give the named rows an answer to learn, within max_seq_length."),
    "EARLY_STOPPED": Entry("OK", _USER, "Nothing is needed: the result has the weights of the best measurement."),
    "TIME_LIMIT_REACHED": Entry("OK", _USER, "Raise time_limit_seconds to train longer; the result has what was learned."),
    "TRAINING_STALLED": Entry(
        "INTERNAL",
        _TRANSIENT,
        "The stacks say what each process waits for. Check the machine, then start the task again.",
    ),
    "CHECKPOINT_FAILED": Entry("INTERNAL", _PLATFORM, "Free space on the trainer's disk; an interruption now costs more steps."),
    "OUT_OF_MEMORY": Entry("INTERNAL", _USER, "Lower max_seq_length or per_device_train_batch_size, or use a machine with more."),
    "PRECISION_UNSUPPORTED": Entry("INTERNAL", _USER, "Leave precision unset, or use fp32."),
    "INITIAL_WEIGHTS_UNFIT": Entry("INTERNAL", _USER, "Start from a task with the same base model, tuning and adapter."),
    "EXPORT_UNFAITHFUL": Entry(
        "INTERNAL", _PLATFORM, "Export it as the adapter it is, and report the task: what was written is not what was trained."
    ),
    "EXPORT_UNSUPPORTED": Entry("INTERNAL", _USER, "Export it as merged weights instead, in the layout of Hugging Face."),
    "RUN_NOT_RUNNING": Entry("FAILED_PRECONDITION", _USER, "See what it has saved before: tunesmith task checkpoints."),
    "TRAINING_FAILED": Entry("INTERNAL", _PLATFORM, "Read the last log lines of the task; they hold the traceback."),
    "TRAINING_PROCESS_KILLED": Entry(
        "INTERNAL", _PLATFORM, "Look for the out-of-memory killer or an operator's kill in the system log, then start again."
    ),
    "TRAINING_PROCESS_EXITED": Entry("INTERNAL", _PLATFORM, "Read the last log lines of the task."),
    "INFERENCE_NOT_SET": Entry(
        "INTERNAL", _PLATFORM, "Set TUNESMITH_TRAINER_INFERENCE_ADDRESS, restart the trainer, then tunesmith task retry."
    ),
    "NOTHING_TO_ASK": Entry("INTERNAL", _USER, "Give a dataset with rows."),
    "NOTHING_ANSWERED": Entry("INTERNAL", _USER, "Read the reason of the row that is named; tunesmith task logs tells more."),
    "ANSWER_UNUSABLE": Entry("INTERNAL", _USER, "Ask with another model, system prompt or sampling."),
    "ANSWERING_FAILED": Entry("INTERNAL", _PLATFORM, "Read the last log lines of the task."),
    "RUN_STOPPED": Entry("INTERNAL", _TRANSIENT, "The stack was stopped while the run was active; start the task again."),
    "RUN_PAUSED": Entry("INTERNAL", _TRANSIENT, "Resume the task: tunesmith task resume."),
    "RUN_FENCED": Entry("INTERNAL", _TRANSIENT, "Nothing: another attempt follows. Bring the trainer back into reach."),
    "RUN_LOST": Entry("INTERNAL", _TRANSIENT, "Start the task again."),
    "RUN_PREPARATION_FAILED": Entry("INTERNAL", _PLATFORM, "Check that storage is healthy: tunesmith status."),
}

_STORAGE = {
    "DATASET_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the datasets: tunesmith data ls."),
    "DATASET_IN_USE": Entry("FAILED_PRECONDITION", _USER, "Wait until no live task needs the dataset."),
    "DATASET_INVALID": Entry("INVALID_ARGUMENT", _USER, "Mend the named rows and upload the file again."),
    "BASE_MODEL_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the base models: tunesmith model ls."),
    "BASE_MODEL_EXISTS": Entry("ALREADY_EXISTS", _USER, "Register the other files under another id."),
    "BASE_MODEL_UNSAFE": Entry("INVALID_ARGUMENT", _USER, "Give weights as safetensors and no Python code."),
    "MODEL_UNFIT": Entry("INVALID_ARGUMENT", _USER, "Name the base model that the adapter was trained on, with its layers."),
    "SERVER_IMPORT_OFF": Entry(
        "FAILED_PRECONDITION",
        _USER,
        "Send the files instead: tunesmith registry import DIRECTORY, tunesmith model add DIRECTORY. Or ask the operator to set "
        "TUNESMITH_STORAGE_IMPORT_ROOT or TUNESMITH_STORAGE_IMPORT_S3.",
    ),
    "IMPORT_SOURCE_NOT_FOUND": Entry(
        "NOT_FOUND", _USER, "Name a directory or prefix relative to the one that the operator allows, with its files in it."
    ),
    "IMPORT_SOURCE_UNREADABLE": Entry(
        "FAILED_PRECONDITION", _USER, "Ask the operator to let the storage service read the files and their directories."
    ),
    "TOKEN_WORKER_FAILED": Entry(
        "INTERNAL", _PLATFORM, "Look up the request id in storage's log; a row or base model may need more time or memory."
    ),
    "ARTIFACT_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the artifacts: tunesmith artifact ls."),
    "ARTIFACT_EXPIRED": Entry("NOT_FOUND", _USER, "Start the task again; its spec and data are kept."),
    "ARTIFACT_NOT_EXPIRED": Entry("FAILED_PRECONDITION", _USER, "Nothing is needed: it is there; extend or pin it to keep it."),
    "REGISTERED_MODEL_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the registered models: tunesmith registry ls."),
    "MODEL_VERSION_NOT_FOUND": Entry("NOT_FOUND", _USER, "List the versions and aliases: tunesmith registry show MODEL."),
    "MODEL_VERSION_IN_USE": Entry(
        "FAILED_PRECONDITION",
        _USER,
        "Point the alias elsewhere first, tunesmith registry alias, or wait for its tasks.",
    ),
    "SWEEP_RUNNING": Entry("ABORTED", _TRANSIENT, "Wait for the other sweep to end, then try again."),
    "EXPORT_FORMAT_UNFIT": Entry("FAILED_PRECONDITION", _USER, "Leave the format out: it is exported as what it is."),
    "FILE_NOT_FOUND": Entry("NOT_FOUND", _USER, "Use a path that the manifest lists."),
    "CHECKSUM_MISMATCH": Entry("DATA_LOSS", _TRANSIENT, "Send the file again."),
    "BACKUP_UNREADABLE": Entry("DATA_LOSS", _USER, "Use another backup, or bring the named file back from a copy of this one."),
    "RESTORE_TARGET_NOT_EMPTY": Entry(
        "FAILED_PRECONDITION", _USER, "Restore into an empty data directory: tunesmith restore BACKUP --data-dir NEW."
    ),
    "DATABASE_PROGRAM_FAILED": Entry(
        "INTERNAL", _PLATFORM, "Read what the program said; it must be as new as the Postgres server at least."
    ),
    "FILE_DAMAGED": Entry(
        "DATA_LOSS",
        _PLATFORM,
        "Upload the same content under any name: it replaces the damaged bytes. Else restore a backup.",
    ),
    "CHECKER_FAILED": Entry("INTERNAL", _PLATFORM, "Send the file again; if it fails the same way, report it."),
    "PRESIGNED_UPLOADS_OFF": Entry("FAILED_PRECONDITION", _USER, "Send the file with UploadDataset instead."),
    "PRESIGNED_DOWNLOADS_OFF": Entry("FAILED_PRECONDITION", _USER, "Use DownloadArtifact or DownloadModel instead."),
    "UPLOAD_NOT_FOUND": Entry("NOT_FOUND", _USER, "Begin a new upload; one may be completed for 24 hours unless set otherwise."),
    "UPLOAD_INCOMPLETE": Entry("FAILED_PRECONDITION", _USER, "Send the named parts, then complete the upload again."),
    "UPLOAD_EXPIRED": Entry("ABORTED", _TRANSIENT, "Send the file again."),
    "UPLOAD_MALFORMED": Entry("INVALID_ARGUMENT", _USER, "Send the header first, then each file's path and chunks."),
    "OFFSET_OUT_OF_RANGE": Entry("OUT_OF_RANGE", _USER, "Use an offset from 0 to the size of the file."),
    "ROW_OUT_OF_RANGE": Entry("OUT_OF_RANGE", _USER, "Use a row from 1 to the number of examples of the dataset."),
    "CHAT_TEMPLATE_UNUSABLE": Entry(
        "FAILED_PRECONDITION", _USER, "Use another base model, or register this one with a chat template that can train."
    ),
}

_DATASET_ROWS = {reason: Entry("INVALID_ARGUMENT", _USER, hint) for reason, hint in {**FILE_PROBLEMS, **ROW_PROBLEMS}.items()}
# A warning stands in a report and is no failure.
_DATASET_WARNINGS = {reason: Entry("OK", _USER, hint) for reason, hint in WARNINGS.items()}

_INFERENCE = {
    "MODEL_NOT_FOUND": Entry("NOT_FOUND", _USER, "Use a base model, an artifact or a succeeded task: tunesmith model ls."),
    "MODEL_NOT_READY": Entry("FAILED_PRECONDITION", _USER, "Wait until the task has succeeded: tunesmith task watch."),
    "MODEL_IN_USE": Entry("FAILED_PRECONDITION", _USER, "Wait until its answers have ended, or cancel them."),
    "MODEL_PINNED": Entry("FAILED_PRECONDITION", _USER, "Take it out of TUNESMITH_INFERENCE_PINNED_MODELS first."),
    "MODEL_TOO_LARGE": Entry(
        "RESOURCE_EXHAUSTED", _USER, "Raise TUNESMITH_INFERENCE_MAX_LOADED_BYTES, or pin fewer models there."
    ),
    "NOT_LOADED_AHEAD": Entry(
        "RESOURCE_EXHAUSTED",
        _TRANSIENT,
        "Its first use loads it; TUNESMITH_INFERENCE_AHEAD_MAX_BYTES says what is loaded before.",
    ),
    "TOO_MANY_QUESTIONS": Entry(
        "RESOURCE_EXHAUSTED", _TRANSIENT, "Ask again in a moment, or raise TUNESMITH_INFERENCE_MAX_WAITING."
    ),
    "CONTEXT_LENGTH_EXCEEDED": Entry("INVALID_ARGUMENT", _USER, "Shorten the conversation."),
    "ARTIFACT_UNUSABLE": Entry(
        "INTERNAL",
        _PLATFORM,
        "A classifier does not chat: its task has measured it (tunesmith task show). Of any other, start the task again.",
    ),
    "CHECKPOINT_UNSERVABLE": Entry(
        "FAILED_PRECONDITION",
        _USER,
        "Wait for the task's result; with zero_stage 2 or less checkpoints answer, too.",
    ),
    "TOOLS_UNSUPPORTED": Entry(
        "FAILED_PRECONDITION", _USER, "Leave tools out, or use a base model whose chat template writes them in <tool_call> marks."
    ),
    "GENERATION_FAILED": Entry("INTERNAL", _PLATFORM, "Look up the request id in the inference log and report it."),
    "ENGINE_CRASHED": Entry(
        "UNAVAILABLE", _TRANSIENT, "Ask again: a new process starts. If it stays, see the inference log and the machine's memory."
    ),
}

_DEPENDENCIES = {
    "POSTGRES_UNAVAILABLE": Entry("UNAVAILABLE", _TRANSIENT, "Try again; if it stays, check Postgres: tunesmith doctor."),
    "OBJECT_STORE_UNAVAILABLE": Entry(
        "UNAVAILABLE", _TRANSIENT, "Try again; if it stays, check the S3 server: tunesmith doctor."
    ),
    "OBJECT_STORE_UNFIT": Entry(
        "FAILED_PRECONDITION", _PLATFORM, "Use a server of docs/explanation/object-stores.md, or mend what the message names."
    ),
    "OBJECT_EXISTS": Entry(
        "INTERNAL",
        _PLATFORM,
        "Try again: it gets another key. If it comes again, make sure that no other program writes to the bucket of storage.",
    ),
    "STORAGE_UNAVAILABLE": Entry(
        "UNAVAILABLE", _TRANSIENT, "Try again; if it stays, check the storage service: tunesmith status."
    ),
    "TASK_MANAGER_UNAVAILABLE": Entry(
        "UNAVAILABLE", _TRANSIENT, "Try again; if it stays, check the task manager: tunesmith status."
    ),
    "INFERENCE_UNAVAILABLE": Entry(
        "UNAVAILABLE", _TRANSIENT, "Try again; if it stays, check the inference service: tunesmith status."
    ),
    "TRAINER_UNAVAILABLE": Entry("UNAVAILABLE", _TRANSIENT, "Try again; if it stays, check the trainer: tunesmith status."),
    "DISK_FULL": Entry("RESOURCE_EXHAUSTED", _PLATFORM, "Free disk space, then try again."),
}

_GATEWAY = {
    "ROUTE_NOT_FOUND": Entry("NOT_FOUND", _USER, "See /openapi.json for what there is."),
    "METHOD_NOT_ALLOWED": Entry("UNIMPLEMENTED", _USER, "Use a method that the header allow names."),
    "MEDIA_TYPE_UNSUPPORTED": Entry("INVALID_ARGUMENT", _USER, "Send plain JSON, and files as multipart/form-data."),
    "REQUEST_TOO_LARGE": Entry("INVALID_ARGUMENT", _USER, "Send less, or raise the limit in the gateway's settings."),
    "REQUEST_TIMED_OUT": Entry("DEADLINE_EXCEEDED", _TRANSIENT, "Send the whole request without a pause."),
    "RATE_LIMITED": Entry("RESOURCE_EXHAUSTED", _TRANSIENT, "Wait as long as the header retry-after-ms says."),
    "UNSUPPORTED_PARAMETER": Entry("INVALID_ARGUMENT", _USER, "Leave the parameter out."),
    "FEATURE_NOT_SUPPORTED": Entry("INVALID_ARGUMENT", _USER, "See docs/how-to/move-from-openai.md for what there is."),
    "JOB_ENDED": Entry("FAILED_PRECONDITION", _USER, "Create a new job."),
    "MODEL_AMBIGUOUS": Entry("INVALID_ARGUMENT", _USER, "Give the long name, which ends in all 32 digits of the job's id."),
    "MODEL_NOT_DELETABLE": Entry("FAILED_PRECONDITION", _USER, "Delete a tuned model, or a version of a registered one."),
}

CATALOGUE: dict[str, Entry] = {
    **_REQUESTS,
    **_TASKS,
    **_RUNS,
    **_STORAGE,
    **_DATASET_ROWS,
    **_DATASET_WARNINGS,
    **_INFERENCE,
    **_DEPENDENCIES,
    **_GATEWAY,
}
