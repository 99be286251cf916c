"""What holds around every request: probes, limits, queue, deadlines, drain, logs."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, Script
from harness import Running, running, wait_until
from structlog.testing import capture_logs

from runtimes.engines.contract import Refused
from runtimes.failure import Exit, StartupFailure
from runtimes.serving.limits import BodyLimit
from runtimes.serving.server import listen
from runtimes.serving.settings import Settings

Start = Callable[..., Running]
PROBES = ("/", "/healthz", "/health", "/ready")


def test_probes_fail_and_metrics_answer_while_the_model_loads(start: Start, script: Script) -> None:
    script.held_load = True
    server = start(ready=False)
    for path in PROBES:
        answer = server.client.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (503, "Model not initialized")
    assert server.chat(prompt="Hello").status_code == 503
    assert server.metric("kaito_model_ready") == 0
    script.held_load = False
    server.wait_ready()
    assert server.metric("kaito_model_ready") == 1
    assert server.metric("kaito_model_load_seconds") > 0


def test_probes_answer_as_they_did_in_v03(fake: Running) -> None:
    assert fake.client.get("/").json() == {"message": "Server is running"}
    assert fake.client.get("/healthz").json() == {"status": "Healthy"}
    assert fake.client.get("/health").status_code == 200
    assert fake.client.get("/ready").status_code == 200


def test_a_broken_engine_fails_liveness(fake: Running, script: Script) -> None:
    script.broken = "the accelerator failed"
    for path in PROBES:
        assert fake.client.get(path).status_code == 500
    assert fake.client.get("/healthz").json()["detail"] == "the accelerator failed"


def test_a_load_failure_ends_the_server_with_its_reason(tmp_path: Path) -> None:
    script = Script(load_failure=StartupFailure(Exit.MEMORY, "too small"))
    with (
        pytest.raises(StartupFailure, match="too small"),
        running(
            lambda options: FakeEngine(options, script),
            pretrained_model_name_or_path=str(tmp_path),
        ) as server,
    ):
        wait_until(lambda: server.server.stopping)


def test_answers_do_not_wait_for_an_acknowledgement() -> None:
    with listen(Settings(host="127.0.0.1", port=0)) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_ipv6_address_can_be_listened_on() -> None:
    with listen(Settings(host="::1", port=0)) as listener:
        assert listener.family == socket.AF_INET6


def test_too_many_waiting_requests_get_429(start: Start, script: Script) -> None:
    script.held_answers = True
    server = start(max_queue=2)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(server.result, prompt="one two") for _ in range(3)]
        wait_until(lambda: server.metric("kaito_requests_waiting") == 2)
        assert server.metric("kaito_requests_running") == 1
        refused = server.chat(prompt="one more")
        script.held_answers = False
        assert [answer.result() for answer in asked] == ["one twoONE TWO"] * 3
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert "limit 2" in refused.json()["detail"]
    assert server.metric("kaito_ratelimit_rejected_total") == 1
    assert server.metric("kaito_requests_waiting") == 0
    assert server.metric("kaito_requests_running") == 0


def test_a_late_answer_is_a_504_and_ends_the_work(start: Start, script: Script) -> None:
    script.held_answers = True
    server = start(request_timeout=0.2)
    answer = server.chat(prompt="Hello")
    assert answer.status_code == 504
    assert "0.2 s" in answer.json()["detail"]
    assert script.abandoned == 1
    assert server.metric("kaito_requests_running") == 0


def test_a_client_that_leaves_ends_its_work(fake: Running, script: Script) -> None:
    script.held_answers = True
    with pytest.raises(httpx.ReadTimeout):
        fake.client.post("/chat", json={"prompt": "Hello"}, timeout=0.2)
    wait_until(lambda: script.abandoned == 1)
    wait_until(lambda: fake.metric("kaito_requests_total", route="/chat", code="499") == 1)
    assert fake.metric("kaito_requests_running") == 0


def test_a_request_id_is_honoured_or_made(fake: Running) -> None:
    given = fake.client.post("/chat", json={"prompt": "a"}, headers={"x-request-id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = fake.client.post("/chat", json={"prompt": "a"}, headers={"x-request-id": "a b\t!"})
    assert len(made.headers["x-request-id"]) == 32


def requests_in(lines: Any) -> list[Any]:
    """The lines that are written once a request is over, a moment after its answer."""
    return [line for line in lines if line["event"] == "request"]


def test_an_unexpected_error_is_a_500_that_tells_only_the_log(
    fake: Running, script: Script
) -> None:
    script.bug = True
    with capture_logs() as lines:
        answer = fake.client.post("/chat", json={"prompt": "a"}, headers={"x-request-id": "q1"})
        wait_until(lambda: bool(requests_in(lines)))
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal error; the log knows more under q1"}
    assert answer.headers["x-request-id"] == "q1"
    assert any(line["event"] == "the request failed unexpectedly" for line in lines)
    script.bug = False
    assert fake.result(prompt="a") == "aA"


def test_an_engines_refusal_reaches_the_client(fake: Running, script: Script) -> None:
    script.refusal = Refused(503, "The model ran out of GPU memory", retry_after=1)
    answer = fake.chat(prompt="a")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_long_bodies_are_refused_unread(start: Start, script: Script) -> None:
    server = start(max_body_bytes=2000)
    assert server.chat(prompt="a" * 1000).status_code == 200

    def parts() -> Any:
        for _ in range(3):
            yield b" " * 1000

    for content in (b" " * 3000, parts()):
        answer = server.client.post("/chat", content=content)
        assert answer.status_code == 413
        assert "2000 bytes" in answer.json()["detail"]
    assert len(script.seen) == 1


def test_a_lying_content_length_is_refused_before_the_body(fake: Running) -> None:
    with socket.create_connection(("127.0.0.1", int(fake.url.rsplit(":", 1)[1])), 10) as raw:
        raw.sendall(b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_never_ends_gets_408() -> None:
    async def no_app(*_: Any) -> None:
        raise AssertionError

    async def silence() -> Any:
        await asyncio.Event().wait()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/chat", "headers": []}
    await BodyLimit(no_app, 1000, seconds=0.05)(scope, silence, send)
    assert sent[0]["status"] == 408


def test_a_drain_lets_running_work_end_and_takes_no_more(start: Start, script: Script) -> None:
    script.held_answers = True
    server = start()
    with ThreadPoolExecutor(2) as pool:
        last = pool.submit(server.result, prompt="last words")
        wait_until(lambda: script.started == 1)
        server.stop()
        wait_until(lambda: server.client.get("/ready").status_code == 503)
        refused = server.chat(prompt="too late")
        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        assert server.client.get("/health").status_code == 200
        script.held_answers = False
        assert last.result() == "last wordsLAST WORDS"
    wait_until(lambda: script.closed)


def test_a_drain_ends_work_that_lasts_too_long(start: Start, script: Script) -> None:
    script.held_answers = True
    server = start(drain_timeout=0.2)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.chat, prompt="for ever")
        wait_until(lambda: script.started == 1)
        server.stop()
        answer = asked.result(10)
    assert answer.status_code == 503
    assert "shut down before" in answer.json()["detail"]
    assert script.abandoned == 1


def test_metrics_count_routes_not_paths(fake: Running) -> None:
    fake.result(prompt="one two three")
    assert fake.client.get("/no/such/page").status_code == 404
    assert fake.client.get("/chat").status_code == 405
    count = "kaito_requests_total"
    assert fake.metric(count, route="/chat", code="200", model="fake") == 1
    assert fake.metric(count, route="unmatched", code="404") == 1
    assert fake.metric("kaito_prompt_tokens_total", model="fake") == 3
    assert fake.metric("kaito_generation_tokens_total", model="fake") == 3
    assert fake.metric("kaito_time_to_first_token_seconds_count", model="fake") == 1
    assert fake.metric("kaito_time_per_output_token_seconds_count", model="fake") == 1
    assert fake.metric("kaito_model_info", model="fake", engine="fake") == 1
    assert fake.metric("process_resident_memory_bytes") > 0


def test_the_json_metrics_of_v03_are_still_there(fake: Running) -> None:
    found = fake.client.get("/metrics.json").json()
    assert found["gpu_info"] is None
    assert found["cpu_info"]["total_cores"] >= 1
    assert found["cpu_info"]["memory"]["total"].endswith(" GB")


def test_logs_tell_counts_and_never_words(fake: Running) -> None:
    with capture_logs() as lines:
        fake.result(prompt="my secret plan")
        fake.chat(prompt="my secret plan", generate_kwargs={"num_beams": 99})
        wait_until(lambda: len(requests_in(lines)) == 2)
    logged = requests_in(lines)
    assert logged[0]["prompt_tokens"] == 3
    assert logged[0]["new_tokens"] == 3
    assert logged[0]["ttft_ms"] >= 0
    assert logged[1]["code"] == 400
    assert "secret" not in json.dumps(lines, default=str).lower()


def test_health_answers_at_once_while_the_model_works(real: Running) -> None:
    kwargs = {"max_new_tokens": 480, "min_length": 480}
    delays = []
    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(real.chat, prompt="Hello", generate_kwargs=kwargs) for _ in range(2)]
        wait_until(lambda: real.metric("kaito_requests_running") > 0)
        while not all(work.done() for work in working):
            begin = time.monotonic()
            assert real.client.get("/health").status_code == 200
            delays.append(time.monotonic() - begin)
            time.sleep(0.01)
    assert [work.result().status_code for work in working] == [200, 200]
    assert len(delays) > 10
    assert sorted(delays)[len(delays) // 2] < 0.25
