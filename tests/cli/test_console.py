"""What is shown while a command works: ten lines without a terminal, a bar with one."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sepo.cli import console
from sepo.cli.console import ShowProgress, seconds


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0.04, "0.0 s"), (8.26, "8.3 s"), (59.4, "59 s"), (125, "2 min 05 s"), (3600, "1 h 00 min"), (4860, "1 h 21 min")],
)
def test_a_duration_is_told_as_people_say_it(duration, text):
    assert seconds(duration) == text


def test_without_a_terminal_a_run_shows_nine_lines_and_its_end(monkeypatch):
    shown = run_with(monkeypatch, terminal=False, steps=200, every=2)
    assert [line.split(":")[0] for line in shown.splitlines()] == [f"  step {20 * n}/200" for n in range(1, 10)]
    assert "  step 20/200: reward 0.1, about " in shown and all(line.endswith(" s left") for line in shown.splitlines())


def test_what_is_left_of_a_run_that_goes_on_is_judged_by_what_was_done_since(monkeypatch):
    clock = iter([0.0, 10.0, 70.0])
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    shown = run_with(monkeypatch, terminal=False, steps=200, every=20, first=140, last=160)
    assert shown == "  step 160/200: reward 0.8, about 2 min 00 s left\n"


def test_few_log_lines_are_all_shown(monkeypatch):
    shown = run_with(monkeypatch, terminal=False, steps=4, every=1)
    assert len(shown.splitlines()) == 3


def test_in_a_terminal_a_bar_shows_the_metrics(monkeypatch):
    shown = run_with(monkeypatch, terminal=True, steps=4, every=1)
    assert "4/4" in shown and "reward 0.02" in shown and "step 2/4" not in shown


def shown_of(monkeypatch, terminal: bool) -> str:
    """What fitting 3 networks of 50 epochs shows, each epoch in two batches."""
    screen = io.StringIO()
    monkeypatch.setattr(console, "CONSOLE", Console(file=screen, force_terminal=terminal, width=100))
    with console.progress("  oracle reward", 150) as told:
        for half in range(1, 301):
            told(half / 2, "correlation 0.5")
    return screen.getvalue()


def test_progress_without_a_terminal_is_nine_lines_with_what_is_left(monkeypatch):
    lines = shown_of(monkeypatch, terminal=False).splitlines()
    assert [line.split(":")[1].split(",")[0].strip() for line in lines] == [f"{10 * n}%" for n in range(1, 10)]
    assert all("left; correlation 0.5" in line for line in lines)


def test_progress_in_a_terminal_is_a_bar(monkeypatch):
    shown = shown_of(monkeypatch, terminal=True)
    assert "100 %" in shown and "correlation 0.5" in shown and "about" not in shown


def test_other_processes_show_nothing(monkeypatch):
    assert run_with(monkeypatch, terminal=False, steps=20, every=1, main=False) == ""


def run_with(
    monkeypatch, terminal: bool, steps: int, every: int, main: bool = True, first: int = 0, last: int | None = None
) -> str:
    """What the callback writes during a run whose reward is a 200th of the step."""
    written = io.StringIO()
    monkeypatch.setattr(console, "CONSOLE", Console(file=written, force_terminal=terminal, width=100))
    progress = ShowProgress("SEPO", ("reward",))
    state = SimpleNamespace(is_world_process_zero=main, global_step=first, max_steps=steps)
    args = SimpleNamespace(logging_steps=every)
    progress.on_train_begin(args, state, None)
    for step in range(first + 1, (last or steps) + 1):
        state.global_step = step
        progress.on_step_end(args, state, None)
        if step % every == 0:
            progress.on_log(args, state, None, logs={"reward": step / 200, "loss": 1.0})
    progress.bar.stop() if terminal else None
    return written.getvalue()
