"""The bar for the reading of data on a terminal."""

from typing import Any

import pytest
import tqdm
from training_pro.terminal import ReadingBar, TrainingDisplay


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every bar that is made, with what it showed."""
    made: list[Any] = []

    class Bar(tqdm.tqdm):
        def __init__(self, **options: Any) -> None:
            self.shown: list[tuple[float, str]] = []
            self.is_closed = False
            super().__init__(**options)
            made.append(self)

        def refresh(self, **options: Any) -> None:
            self.shown.append((self.n, self.desc))
            super().refresh(**options)

        def close(self) -> None:
            self.is_closed = True
            super().close()

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    return made


def test_the_share_and_the_words(bars: list[Any], capsys: pytest.CaptureFixture) -> None:
    bar = ReadingBar()
    bar(0.25, "a.jsonl: 100 rows")
    bar(0.5, "a.jsonl: 200 rows")
    bar(1.0, "the data are prepared")
    bar(1.0, "nothing was to do")  # found prepared: no bar appears
    (made,) = bars
    assert [number for number, _ in made.shown if number] == [25, 50, 100]
    assert (25, "a.jsonl: 100 rows") in made.shown
    assert made.is_closed
    assert "25%|" in capsys.readouterr().err


def test_the_display_of_a_run_has_it_too(bars: list[Any], capsys: pytest.CaptureFixture) -> None:
    display = TrainingDisplay()
    display("stage", stage="preparing", detail="reading the data")
    display("stage", stage="preparing", detail="a.jsonl: 100 rows", share=0.25)
    assert [bar.is_closed for bar in bars] == [False]
    display("message", level="info", text="what else")
    display("stage", stage="preparing", detail="a.jsonl: 300 rows", share=0.75)
    display("stage", stage="training", detail="setting up the adapter")
    assert [bar.is_closed for bar in bars] == [True, True]
    assert capsys.readouterr().out.splitlines() == ["- reading the data", "what else", "- setting up the adapter"]


def test_a_silent_rank_shows_no_bar(bars: list[Any]) -> None:
    TrainingDisplay(visible=False)("stage", stage="preparing", detail="a.jsonl", share=0.25)
    assert bars == []
