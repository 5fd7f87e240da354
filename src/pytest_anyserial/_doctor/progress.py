"""The progress of a command, drawn by rich on standard error, and only if that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


@contextmanager
def bar(total: int) -> Generator[Callable[[str, int], None]]:
    """Show a bar until the end of the block; the yielded function takes the step and the number of steps done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        # No disabled bar, because in older versions of rich it still prints an empty line.
        yield lambda _step, _done: None
        return
    # The output of the command may go to the same terminal; it is printed after the bar has been removed.
    with Progress(
        # A step is shown as text, not as markup.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda step, done: progress.update(task, description=step, completed=done)
