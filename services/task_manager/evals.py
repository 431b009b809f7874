"""Evals as messages: checked, kept, told; used by the servicer."""

import datetime
import uuid

from services.common.errors import InvalidArgument, Violation
from services.common.names import resource_uuid
from services.common.paging import decode_token, encode_token, page_size
from services.task_manager.domain.eval import Eval, EvalUpdate, NewEval, check_new, check_update
from services.task_manager.eval_repository import EvalRepository, Position
from services.task_manager.times import to_timestamp
from tunesmith.v1 import eval_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

_CHANGEABLE = ("display_name", "labels")


class Evals:
    """Every method raises InvalidArgument with every violation, NotFound (EVAL_NOT_FOUND)."""

    def __init__(self, repository: EvalRepository) -> None:
        self._repository = repository

    async def create(self, request: api.CreateEvalRequest) -> eval_pb2.Eval:
        """Keeps one."""
        given = request.eval
        new = NewEval(given.display_name, given.data_source_config, given.testing_criteria, dict(given.labels))
        check_new(new)
        return _message(await self._repository.create(new, _request_id(request.request_id)))

    async def get(self, name: str) -> eval_pb2.Eval:
        """One."""
        return _message(await self._repository.get(resource_uuid(name, "evals")))

    async def page(self, request: api.ListEvalsRequest) -> api.ListEvalsResponse:
        """A page."""
        size, order = page_size(request.page_size), f"evals {request.newest_first}"
        after = _position(decode_token(request.page_token, order))
        # One more than asked for tells whether there is a next page.
        found = await self._repository.page(after, size + 1, newest_first=request.newest_first)
        last = found[size - 1] if len(found) > size else None
        token = encode_token((last.create_time.isoformat(), str(last.id)), order) if last else ""
        return api.ListEvalsResponse(evals=map(_message, found[:size]), next_page_token=token)

    async def update(self, request: api.UpdateEvalRequest) -> eval_pb2.Eval:
        """Changes what the mask names."""
        paths, given = list(request.update_mask.paths), request.eval
        if not paths or set(paths) - set(_CHANGEABLE):
            raise InvalidArgument(Violation("update_mask", f"names what to change: {', '.join(_CHANGEABLE)}"))
        update = EvalUpdate(
            display_name=given.display_name if "display_name" in paths else None,
            labels=dict(given.labels) if "labels" in paths else None,
        )
        check_update(update)
        return _message(await self._repository.update(resource_uuid(given.name, "evals", "eval.name"), update))

    async def delete(self, name: str) -> None:
        """Forgets one."""
        await self._repository.delete(resource_uuid(name, "evals"))


def _message(kept: Eval) -> eval_pb2.Eval:
    return eval_pb2.Eval(
        name=f"evals/{kept.id}",
        display_name=kept.display_name,
        data_source_config=kept.data_source_config,
        testing_criteria=kept.testing_criteria,
        labels=kept.labels,
        create_time=to_timestamp(kept.create_time),
        update_time=to_timestamp(kept.update_time),
    )


def _request_id(given: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(given) if given else None
    except ValueError:
        raise InvalidArgument(Violation("request_id", f"{given[:80]!r} is not a UUID")) from None


def _position(parts: tuple[str, ...] | None) -> Position | None:
    if parts is None:
        return None
    try:
        time, eval_id = parts
        return datetime.datetime.fromisoformat(time), uuid.UUID(eval_id)
    except ValueError:
        violation = Violation("page_token", "is not a token this server made")
        raise InvalidArgument(violation, reason="INVALID_PAGE_TOKEN") from None
