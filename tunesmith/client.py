"""The SDK: every verb of the platform as a method of one synchronous client; answers are messages of the contract."""

from types import TracebackType

from tunesmith.answers import AnswerVerbs
from tunesmith.datasets import DatasetVerbs
from tunesmith.exports import ExportVerbs
from tunesmith.inference import InferenceVerbs
from tunesmith.lineage import LineageVerbs
from tunesmith.models import ModelVerbs
from tunesmith.runners import RunnerVerbs


class Client(DatasetVerbs, AnswerVerbs, ExportVerbs, ModelVerbs, InferenceVerbs, LineageVerbs, RunnerVerbs):
    """Talks to the services; connects on first use, safe to share between threads.

    Each address (`host:port`) is the argument, else TUNESMITH_<SERVICE>_ADDRESS, else that of the local stack that runs, else the
    default port on this machine. TUNESMITH_API_KEY is sent when set; TUNESMITH_TLS_CA_FILE turns TLS on.
    IDs are accepted bare or as resource names. Every method raises `tunesmith.errors.TunesmithError`.
    """

    def __init__(self, *, task_manager: str | None = None, storage: str | None = None, inference: str | None = None) -> None:
        super().__init__({"task_manager": task_manager, "storage": storage, "inference": inference})

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
