"""What a run says while it trains: console, metrics.jsonl, TensorBoard."""

import datetime
import json
import math
import pathlib
import sys
import time

from rich import console, table
from rich import progress as rich_progress

from medjax import files, terminal

# tensorboardX imports torch where there is one: 1.5 s of a start, for nothing.
_torch = sys.modules.get('torch')
sys.modules['torch'] = None
try:
  from tensorboardX import event_file_writer
  from tensorboardX.proto import event_pb2, summary_pb2
finally:
  del sys.modules['torch']
  if _torch is not None:
    sys.modules['torch'] = _torch


_WORTH_SAYING = 20  # seconds that are left


def _rewind(path, step):
  """Drops torn lines and those after `step`; the file is replaced at once.

  Returns the seconds that the run had taken by then.
  """
  if not path.exists():
    return 0.0
  text = path.read_text(encoding='utf-8', errors='replace')
  kept, seconds = [], 0.0
  for line in text.splitlines():
    try:
      entry = json.loads(line)
      logged_at = entry['step']
    except (ValueError, KeyError, TypeError):
      continue  # half written when the run was killed
    if step is None or logged_at <= step:
      kept.append(line + '\n')
      seconds = entry.get('seconds') or seconds
  if (kept := ''.join(kept)) != text:
    files.write_text(path, kept)
  return seconds


class Writer:
  """Writes scalars, images and progress of a run into its workdir.

  `step` is the step that the run resumes from: what a killed run logged after
  it is dropped from metrics.jsonl and hidden by TensorBoard. None keeps all.
  `monitor` names the validation score beside the progress bar, `spoken` others
  that are shown instead of it. With `enabled=False` (every process but the
  first) nothing is written or printed. `hook` is another writer that is told
  the scalars too: `config.train.writer`.
  """

  def __init__(
    self,
    workdir,
    total_steps,
    enabled=True,
    *,
    step=None,
    monitor='score',
    spoken=(),
    hook=None,
  ):
    self._hook = hook
    self._enabled = enabled
    self._total = total_steps
    self._monitor, self._spoken = monitor, spoken
    self._score, self._said = None, {}
    self._bar = None
    self._first = None  # (step, time) of the first progress(): ETA, no compile
    self._started, self._before = time.monotonic(), 0.0
    if not enabled:
      return
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / 'metrics.jsonl'
    self._before = _rewind(path, step)
    self._jsonl = path.open('a', encoding='utf-8')
    # Not SummaryWriter: when its thread meets a full disk, training hangs.
    (workdir / 'tensorboard').mkdir(exist_ok=True)
    self._tensorboard = event_file_writer.EventsWriter(
      str(workdir / 'tensorboard/events'), f'.{time.time_ns()}'
    )
    if step is not None:
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._event(step + 1, session_log=start)

  def _event(self, step, **content):
    event = event_pb2.Event(step=int(step), wall_time=time.time(), **content)
    self._tensorboard.write_event(event)
    self._tensorboard.flush()

  @property
  def seconds(self):
    """Seconds that the run has taken, those before it was stopped too."""
    return self._before + time.monotonic() - self._started

  def scalars(self, step, values):
    """Logs `{name: number}`; in metrics.jsonl NaN and infinity are null.

    There, `seconds` is the time that the run has taken.
    """
    if not self._enabled:
      return
    values = {name: float(value) for name, value in values.items()}
    told = {name: f'validation/{name}' for name in self._spoken}
    self._said |= {k: values[v] for k, v in told.items() if v in values}
    finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
    about = {'step': int(step), 'seconds': round(self.seconds, 2)}
    self._jsonl.write(json.dumps({**about, **finite}) + '\n')
    self._jsonl.flush()
    numbers = [
      summary_pb2.Summary.Value(tag=name, simple_value=value)
      for name, value in values.items()
    ]
    self._event(step, summary=summary_pb2.Summary(value=numbers))
    if self._hook is not None:
      self._hook.scalars(int(step), values)

  def pace(self, step):
    """Says how long it will take, if that is worth it; asked twice.

    The first call begins to measure, after the program was compiled.
    """
    now = time.monotonic()
    if self._first is None:
      self._first = (step, now)
      return
    done, seconds = step - self._first[0], now - self._first[1]
    if done > 0 and seconds / done * (self._total - step) > _WORTH_SAYING:
      self.progress(step)

  def progress(self, step, *, loss=None, examples_per_second=None, score=None):
    """Moves the progress bar, or prints a line where there is no terminal.

    On a terminal the last `score` given is shown until there is a new one; a
    line of a log has only what is of its step.
    """
    if not self._enabled:
      return
    self._score = self._score if score is None else score
    now = time.monotonic()
    if self._first is None:
      self._first = (step, now)
    done, seconds = step - self._first[0], now - self._first[1]
    words = []
    if loss is not None:
      words.append(f'loss {loss:.4f}')
    if examples_per_second is not None:
      words.append(f'{examples_per_second:.1f} images/s')
    if done > 0:
      left = round(seconds / done * max(self._total - step, 0))
      words.append(f'ETA {datetime.timedelta(seconds=left)}')
    said = self._said
    if self._score is not None and not self._spoken:
      said = {self._monitor: self._score}
    words += [
      f'val without {name}' if math.isnan(v) else f'val {name} {v:.4f}'
      for name, v in said.items()
    ]
    if not sys.stdout.isatty():
      print(f'step {step}/{self._total}', *words, sep=' · ', flush=True)
      self._score, self._said = None, {}
      return
    if self._bar is None:
      digits = len(str(self._total))
      self._bar = rich_progress.Progress(
        rich_progress.TextColumn(
          '{task.completed:.0f}/{task.total:.0f}',
          table_column=table.Column(no_wrap=True, min_width=2 * digits + 1),
        ),
        rich_progress.BarColumn(bar_width=None),  # what the words leave
        rich_progress.TextColumn('{task.description}', markup=False),
        expand=True,
        console=console.Console(file=terminal.bare(sys.stdout)),
      )
      self._task = self._bar.add_task('', total=self._total, completed=step)
      self._bar.start()
    self._bar.update(self._task, completed=step, description='  '.join(words))

  def close(self):
    """Ends the bar and the files; nothing may be written afterwards."""
    if not self._enabled:
      return
    if self._bar is not None:
      self._bar.stop()
    self._jsonl.close()
    self._tensorboard.close()
    if self._hook is not None:
      self._hook.close()

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()
