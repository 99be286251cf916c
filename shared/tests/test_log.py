"""What a log line holds."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from controlkit.log import configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_ours_and_the_libraries_records_have_the_same_form() -> None:
    out = io.StringIO()
    configure("info", json=True, stream=out)
    with structlog.contextvars.bound_contextvars(controller="pods"):
        structlog.get_logger("ours").info("pool created", pool="a")
        logging.getLogger("theirs").warning("retrying %s", "x", extra={"attempt": 2})
    ours, theirs = lines(out)
    assert ours.keys() - {"pool"} == theirs.keys() - {"attempt"}
    assert (ours["event"], ours["pool"], ours["level"]) == ("pool created", "a", "info")
    assert (theirs["event"], theirs["attempt"], theirs["logger"]) == ("retrying x", 2, "theirs")
    assert ours["controller"] == theirs["controller"] == "pods"
    assert ours["timestamp"].endswith("Z")


def test_the_clients_debug_records_that_hold_bodies_never_show() -> None:
    out = io.StringIO()
    configure("debug", json=True, stream=out)
    logging.getLogger("kubernetes_asyncio.client.rest").debug("response body: %s", "secret")
    structlog.get_logger("ours").debug("fine")
    assert [line["event"] for line in lines(out)] == ["fine"]


def test_an_exception_is_one_line_without_the_values_of_variables() -> None:
    out = io.StringIO()
    configure("info", json=True, stream=out)
    try:
        log_in("hunter" + "2")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    [line] = lines(out)
    assert "ValueError: broken" in line["exception"]
    assert "hunter2" not in out.getvalue()


def log_in(password: str) -> None:
    raise ValueError("broken")


def test_a_terminal_gets_text_and_a_file_gets_json() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    configure("info", stream=terminal)
    structlog.get_logger("a").info("hello", who="you")
    assert not terminal.getvalue().startswith("{")
    assert "hello" in terminal.getvalue()
    configure("info", stream=file)
    structlog.get_logger("b").info("hello")
    assert lines(file)[0]["event"] == "hello"


def test_below_the_level_nothing_shows() -> None:
    out = io.StringIO()
    configure("WARNING", json=True, stream=out)
    structlog.get_logger("ours").info("quiet")
    logging.getLogger("theirs").info("quiet")
    assert out.getvalue() == ""


def test_warnings_of_python_are_records_too() -> None:
    out = io.StringIO()
    configure("info", json=True, stream=out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in lines(out)[0]["event"]


def test_an_unknown_level_is_refused_with_the_choice() -> None:
    with pytest.raises(ValueError, match="'loud' is none of debug, info, warning, error"):
        configure("loud")
