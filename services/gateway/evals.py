"""/v1/evals: what models are measured by. The task manager keeps them; nothing is measured before there is a run."""

from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import bodies, eval_request, identifiers, lists
from services.gateway.eval_conversion import eval_object
from services.gateway.eval_lookup import EvalLookup
from services.gateway.peers import Peers
from services.gateway.settings import GatewaySettings
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.eval_pb2 import Eval

_DEFAULT_LIMIT, _LONGEST_LIST = 20, 100
_PAGE = 200
_TIMES = {"created_at": "create_time", "updated_at": "update_time"}


class Evals:
    """The resource."""

    def __init__(self, peers: Peers, settings: GatewaySettings) -> None:
        self._lookup = EvalLookup(peers)
        self._max_body = settings.max_body_bytes

    async def create(self, request: Request) -> Response:
        """POST; a repeat with the same Idempotency-Key answers with the same eval."""
        body = await bodies.read_json(request, self._max_body)
        request.state.ignored_parameters = eval_request.ignored(body)
        asked = api.CreateEvalRequest(eval=eval_request.new_eval(body), request_id=bodies.request_id(request, "evals"))
        return JSONResponse(eval_object(await self._lookup.call("CreateEval", asked)), 201)

    async def index(self, request: Request) -> Response:
        """GET: oldest first unless `order=desc`."""
        limit = bodies.whole_number(request, "limit", _DEFAULT_LIMIT, _LONGEST_LIST)
        order = bodies.choice(request, "order", "asc", ("asc", "desc"))
        by = _TIMES[bodies.choice(request, "order_by", "created_at", tuple(_TIMES))]
        found = [kept async for kept in self._all()]
        found.sort(key=lambda kept: getattr(kept, by).ToNanoseconds(), reverse=order == "desc")
        after = request.query_params.get("after", "")
        page, has_more = lists.cut(found, after, limit, lambda kept: identifiers.eval_id(kept.name))
        return JSONResponse(lists.page_of([eval_object(kept) for kept in page], has_more=has_more))

    async def retrieve(self, request: Request) -> Response:
        """GET one."""
        return JSONResponse(eval_object(await self._lookup.eval(request)))

    async def update(self, request: Request) -> Response:
        """POST: name and metadata."""
        body = await bodies.read_json(request, self._max_body)
        changes = eval_request.update_of(body, identifiers.eval_name(request.path_params["eval_id"]))
        if not changes.update_mask.paths:
            return await self.retrieve(request)
        return JSONResponse(eval_object(await self._lookup.call("UpdateEval", changes)))

    async def delete(self, request: Request) -> Response:
        """DELETE; its runs stay as evaluation tasks, but only the eval has led to them."""
        identifier = request.path_params["eval_id"]
        await self._lookup.call("DeleteEval", api.DeleteEvalRequest(name=identifiers.eval_name(identifier)))
        return JSONResponse({"object": "eval.deleted", "deleted": True, "eval_id": identifier})

    async def _all(self) -> AsyncGenerator[Eval]:
        token = ""
        while True:
            page = await self._lookup.call("ListEvals", api.ListEvalsRequest(page_size=_PAGE, page_token=token))
            for kept in page.evals:
                yield kept
            if not (token := page.next_page_token):
                return
