"""The progress of long work: a bar on a terminal, elsewhere a line at times.

rich is imported when there is something to show.
"""

import concurrent.futures
import contextlib
import sys
import time

from medjax import terminal

_SECONDS = 30  # between two lines where there is no terminal


@contextlib.contextmanager
def bar(title, total):
  """Gives `advance(count=1, text=None)`; `text` replaces the title.

  Shown on stderr, so that what a command prints stays clean.
  """
  import rich.console
  import rich.progress

  console = rich.console.Console(file=terminal.bare(sys.stderr))
  shown = rich.progress.Progress(
    *rich.progress.Progress.get_default_columns(),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TimeElapsedColumn(),
    console=console,
    disable=not console.is_terminal,
    transient=True,
  )
  done, told = 0, time.monotonic()

  def advance(count=1, text=None):
    nonlocal done, told
    done += count
    shown.update(task, completed=done, description=text or title)
    if shown.disable and time.monotonic() - told > _SECONDS:
      told = time.monotonic()
      print(f'{text or title}: {done} of {total}', file=sys.stderr, flush=True)

  with shown:
    task = shown.add_task(title, total=total)
    yield advance


def wait(pool, futures, advance):
  """Waits for the futures of an executor, and counts each.

  Where one fails, or on Ctrl-C, those under way end, no other begins, and the
  error is raised.
  """
  try:
    for future in concurrent.futures.as_completed(futures):
      future.result()
      advance()
  except BaseException:
    pool.shutdown(wait=True, cancel_futures=True)
    raise
