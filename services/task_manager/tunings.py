"""Answers ListTunings: asks storage for a base model and judges every way to tune it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from services.common.names import base_model_id
from services.task_manager.domain.tunings import TuningFit, row_length, tunings
from services.task_manager.storage_port import Storage
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_spec_pb2


class Tunings:
    """Nothing is kept: base models do not change, but what is known of them may."""

    def __init__(self, storage: Storage, runners: Callable[[], Awaitable[Iterable[Mapping[str, str]]]]) -> None:
        """`runners` asks all trainers for their labels."""
        self._storage = storage
        self._runners = runners

    async def of(self, name: str) -> api.ListTuningsResponse:
        """Raises InvalidArgument for no name of a base model, NotFound (BASE_MODEL_NOT_FOUND), Unavailable."""
        full = f"baseModels/{base_model_id(name, 'base_model')}"
        model, shape = await asyncio.gather(self._storage.base_model(full), self._storage.model_shape(full))
        found = tunings(full, model, shape, await self._runners())
        return api.ListTuningsResponse(tunings=map(_to_proto, found), max_seq_length=row_length(model))


def _to_proto(fit: TuningFit) -> api.ListTuningsResponse.Tuning:
    return api.ListTuningsResponse.Tuning(
        method=task_spec_pb2.FineTuning.Method.Value(fit.method),
        tuning=task_spec_pb2.FineTuning.Tuning.Value(fit.tuning),
        problem=fit.problem,
        memory_bytes=fit.memory_bytes,
    )
