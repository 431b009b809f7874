"""What stands before every resource: key, ids, limits, and an answer in OpenAI's shape whatever happens."""

import dataclasses

import httpx2
import pytest

from services.common.config import Secret
from services.common.errors import ServiceError
from services.gateway.app import make_app
from services.gateway.peers import connected
from services.gateway.rate_limit import RateLimit, network_of
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec

JOBS = "/v1/fine_tuning/jobs"
FILE = "file-" + "0" * 32


def error_of(answer) -> dict:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    "header", [{}, {"authorization": "Bearer sk-wrong"}, {"authorization": "sk-test-not"}, {"authorization": "Bearer "}]
)
async def test_without_the_key_nothing_is_told(http, header: dict) -> None:
    http.headers.pop("authorization")
    answer = await http.get(JOBS, headers=header)
    assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
    assert (await http.get("/v1/nothing", headers=header)).status_code == 401


async def test_without_a_key_of_its_own_it_asks_for_none(changed) -> None:
    async with changed(api_key="") as http:
        http.headers.pop("authorization")
        assert (await http.get(JOBS)).status_code == 200


async def test_health_metrics_and_contract_need_no_key(http) -> None:
    http.headers.pop("authorization")
    assert [(await http.get(path)).status_code for path in ("/healthz", "/metrics", "/openapi.json")] == [200] * 3
    assert (await http.get("/readyz")).status_code == 503  # the scripted services have no health


async def test_readiness_names_who_is_away(http) -> None:
    assert (await http.get("/readyz")).json() == {
        "status": "degraded",
        "services": {"task_manager": "away", "storage": "away", "inference": "away"},
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "route_not_found"),
        ("GET", "/v1/files/", 404, "route_not_found"),
        ("GET", "/v1/nothing", 404, "route_not_found"),
        ("PUT", JOBS, 405, "method_not_allowed"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/fine_tuning/jobs/x/cancel", 405, "method_not_allowed"),
    ],
)
async def test_paths_that_lead_nowhere(http, method: str, path: str, status: int, code: str) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "end the base URL with it"),
        ("/", "end the base URL with it"),
        ("/v1/embeddings", "See /openapi.json"),
    ],
)
async def test_a_base_url_without_v1_is_suspected(http, path: str, hint: str) -> None:
    assert hint in error_of(await http.post(path))["message"]


async def test_a_method_that_a_path_has_not_is_told_all_those_it_has(http) -> None:
    for path, allow in (("/v1/files", "GET, HEAD, POST"), ("/v1/models/a/b", "DELETE, GET, HEAD"), ("/v1/uploads", "POST")):
        assert (await http.request("PATCH", path)).headers["allow"] == allow


async def test_whatever_a_parameter_is_called_it_breaks_no_header(http) -> None:
    odd = {"a\r\nset-cookie: x": 1, "ü": 1, "": 1, "x" * 65: 1, "fine[0].name-1": 1}
    answer = await http.post(JOBS, json={"model": "tiny", "training_file": FILE, **odd})
    assert (answer.status_code, answer.headers["x-tunesmith-ignored"]) == (200, "?, fine[0].name-1")
    many = {f"p{number:03}": 1 for number in range(100)}
    answer = await http.post(JOBS, json={"model": "tiny", "training_file": FILE, **many})
    assert answer.headers["x-tunesmith-ignored"].count("p") == 32


async def test_every_answer_has_its_id_and_the_services_get_it_too(http, platform) -> None:
    answer = await http.post(JOBS, json={"model": "tiny", "training_file": FILE}, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert platform.tasks.metadata[0]["x-request-id"] == "mine-1"
    for given in ("", "two words", "x" * 129):
        made = (await http.get(JOBS, headers={"x-request-id": given})).headers
        assert made["x-request-id"].startswith("req_")
        assert int(made["openai-processing-ms"]) >= 0


async def test_a_body_above_the_limit_is_refused(changed) -> None:
    async with changed(max_body_bytes=1000) as http:
        answer = await http.post(JOBS, content=b" " * 1001)
        assert (answer.status_code, error_of(answer)["code"]) == (413, "request_too_large")


async def test_a_compressed_body_is_refused_unread(http) -> None:
    answer = await http.post(JOBS, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (answer.status_code, error_of(answer)["code"]) == (415, "media_type_unsupported")


async def test_too_many_requests_are_told_when_to_come_back(changed) -> None:
    async with changed(requests_per_second=1.0) as http:
        first, second = await http.get(JOBS), await http.get(JOBS)
    assert (first.status_code, second.status_code, error_of(second)["code"]) == (200, 429, "rate_limit_exceeded")
    assert 0 < int(second.headers["retry-after-ms"]) <= 1000
    assert second.headers["retry-after"] == "1"


async def test_a_service_that_is_away_is_503_and_may_be_asked_again(changed) -> None:
    async with changed(task_manager_address="127.0.0.1:1") as http:
        answer = await http.get(JOBS)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "task_manager_unavailable")
    assert "retry-after" in answer.headers


async def test_a_crash_is_500_with_the_id_to_look_it_up_and_nothing_of_the_inside(http, platform, monkeypatch) -> None:
    monkeypatch.setattr("services.gateway.jobs.lists.page_of", lambda *_, **__: 1 / 0)
    answer = await http.get(JOBS)
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (500, "internal")
    assert answer.headers["x-request-id"] in error["message"]
    assert "division" not in answer.text


async def test_requests_are_counted_by_route_and_not_by_path(http, platform) -> None:
    platform.tasks.add(spec=TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny")))
    await http.get(f"{JOBS}/one")
    await http.get(f"{JOBS}/two")
    page = (await http.get("/metrics")).text
    assert 'tunesmith_gateway_requests_total{route="/v1/fine_tuning/jobs/{job_id}",method="GET",status="404"} 2' in page
    assert "tunesmith_gateway_active_requests 1\n" in page


async def test_a_stranger_without_the_key_uses_up_nothing_of_those_who_have_it(changed) -> None:
    async with changed(requests_per_second=1.0) as http:
        for _ in range(5):
            assert (await http.get(JOBS, headers={"authorization": "Bearer sk-wrong"})).status_code == 401
        assert (await http.get(JOBS)).status_code == 200


async def test_an_address_is_limited_before_its_key_is_looked_at(changed) -> None:
    async with changed(address_requests_per_second=2.0) as http:
        wrong = {"authorization": "Bearer sk-wrong"}
        answers = [await http.get(JOBS, headers=wrong) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert 0 < int(answers[2].headers["retry-after-ms"]) <= 500


async def test_without_keys_the_limit_is_one_of_each_address(settings) -> None:
    limited = dataclasses.replace(settings, api_key=Secret(""), requests_per_second=1.0)
    async with connected(limited) as peers:
        app = make_app(limited, peers)
        statuses = [await status_of(app, client) for client in ("10.0.0.1", "10.0.0.1", "10.0.0.2", None)]
    assert statuses == [200, 429, 200, 200]


async def status_of(app, client: str | None) -> int:
    transport = httpx2.ASGITransport(app=app, client=(client, 1) if client else None)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http:
        return (await http.get(JOBS)).status_code


def test_a_bucket_fills_again_at_its_rate_and_is_its_callers_own() -> None:
    now = 0.0
    limit = RateLimit(2.0, now=lambda: now)
    limit.take("a")
    limit.take("a")
    with pytest.raises(ServiceError) as caught:
        limit.take("a")
    assert caught.value.metadata == {"retry_after_ms": "500"}
    limit.take("b")
    now = 0.5
    limit.take("a")
    now = 100.0
    limit.take("a")
    limit.take("a")
    with pytest.raises(ServiceError):
        limit.take("a")


def test_callers_beyond_counting_are_forgotten_in_the_order_they_left() -> None:
    limit = RateLimit(1.0, now=lambda: 0.0)
    limit.take("first")
    for number in range(10_000):
        limit.take(str(number))
    limit.take("first")
    assert len(limit._buckets) == 10_000
    with pytest.raises(ServiceError):
        limit.take("9999")


def test_no_limit_is_none() -> None:
    limit = RateLimit(0, now=lambda: 0.0)
    for _ in range(1000):
        limit.take("a")


@pytest.mark.parametrize(
    ("host", "network"),
    [("10.0.0.7", "10.0.0.7"), ("2001:db8::7", "2001:db8::/64"), ("fe80::1%eth0", "fe80::/64"), ("", ""), ("unix:", "unix:")],
)
def test_of_ipv6_a_network_is_one_caller(host: str, network: str) -> None:
    assert network_of(host) == network
