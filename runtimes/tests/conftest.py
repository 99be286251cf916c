import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from fake_engine import FakeEngine, Script
from harness import Running, running

from runtimes import tiny
from runtimes.serving.engine_choice import transformers_engine, vllm_engine


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    """Servers in threads log past pytest's capture; `capture_logs` still sees all."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.build(folder)
    return folder


# Where vLLM is installed (see vllm-cpu/), its own tests run too.
collect_ignore = [] if importlib.util.find_spec("vllm") else ["on_vllm"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=("transformers", "vllm"),
        default="transformers",
        help="what the model of the shared server runs on",
    )


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.config.getoption("--engine")
    return name


@pytest.fixture(scope="session")
def real(tiny_model: Path, engine: str) -> Iterator[Running]:
    """A server with the tiny model on the engine under test, shared by all tests."""
    make = vllm_engine if engine == "vllm" else transformers_engine
    with running(
        make,
        pretrained_model_name_or_path=str(tiny_model),
        served_model_name="tiny",
        engine=engine,
    ) as server:
        server.wait_ready(300)
        yield server


@pytest.fixture
def script() -> Script:
    return Script()


Starter = Callable[..., Running]


@pytest.fixture
def start(script: Script, tmp_path: Path) -> Iterator[Starter]:
    """Start servers on the fake engine, with the settings that a test gives."""
    with ExitStack() as stack:

        def begin(*, ready: bool = True, **settings: Any) -> Running:
            settings.setdefault("pretrained_model_name_or_path", str(tmp_path))
            server = stack.enter_context(
                running(lambda options: FakeEngine(options, script), **settings)
            )
            if ready:
                server.wait_ready()
            return server

        yield begin


@pytest.fixture
def fake(start: Starter) -> Running:
    return start(served_model_name="fake")


@pytest.fixture(scope="session")
def shared_fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = str(tmp_path_factory.mktemp("fake"))
    with running(
        lambda options: FakeEngine(options, Script()), pretrained_model_name_or_path=folder
    ) as server:
        server.wait_ready()
        yield server


@pytest.fixture(params=["shared_fake", "real"])
def either(request: pytest.FixtureRequest) -> Running:
    """What must hold on every engine."""
    server: Running = request.getfixturevalue(request.param)
    return server
