"""The process's door: bad settings end it at once, with a sentence each."""

import pytest

from workspace_controller import __main__


def test_bad_settings_end_the_process_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["workspace_controller", "--workers", "many"])
    monkeypatch.delenv("PRESET_REGISTRY_NAME", raising=False)
    assert __main__.main() == 2
    told = capsys.readouterr().err
    assert "PRESET_REGISTRY_NAME" in told
    assert "WORKERS (--workers)" in told
