"""The one progress bar: what is done, the rate and the time left, on stderr.

In: a title, a total and units. Out: a rich bar on a terminal, one line at the end elsewhere.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)


def silence() -> None:
    """From now on this process shows nothing: another one of the run does."""
    console.quiet = True


@dataclass
class Bar:
    """A running bar; `advance` moves it by `steps` and shows `text` behind it."""

    progress: Progress | None
    task: TaskID | None
    done: float = 0.0
    text: str = ""
    started: float = field(default_factory=time.monotonic)

    def advance(self, steps: float = 1.0, text: str = "") -> None:
        self.done += steps
        self.text = text or self.text
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, advance=steps, rate=self._rate(), text=self.text)

    def _rate(self) -> str:
        return f"{self.done / max(time.monotonic() - self.started, 1e-9):,.1f}/s"


@contextmanager
def progress_bar(title: str, total: float | None, unit: str) -> Iterator[Bar]:
    """Show a bar titled `title` over `total` units (None: unknown) while the block runs."""
    if not sys.stderr.isatty() or console.quiet:
        bar = Bar(None, None)
        yield bar
        seconds = time.monotonic() - bar.started
        if bar.done and not console.quiet:
            line = f"{title}: {bar.done:,.0f} {unit} in {seconds:,.1f} s ({bar._rate()}) {bar.text}"
            print(line.rstrip(), file=sys.stderr)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}" if total else "{task.completed:,.0f}"),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, rate="", text="")
        yield Bar(progress, task)
