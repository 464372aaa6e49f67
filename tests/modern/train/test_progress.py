import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.modern.train.tiny_detail import make_trainer

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d(?:;\d+)*m")


def shown(clips: Path, out: Path, *, terminal: bool) -> str:
    trainer = make_trainer(clips, out, max_steps=2)
    text = io.StringIO()
    trainer._console = Console(file=text, force_terminal=terminal, width=80)
    trainer.fit()
    return text.getvalue()


def test_a_bar_is_shown_on_a_terminal_only(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert shown(clips, tmp_path / "pipe", terminal=False) == ""
    coloured = shown(clips, tmp_path / "terminal", terminal=True)
    assert "2/2" in coloured
    assert COLOUR.search(coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(clips, tmp_path / "plain", terminal=True)
    assert "2/2" in plain
    assert not COLOUR.search(plain)
