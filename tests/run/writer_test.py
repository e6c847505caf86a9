"""The writer: JSON lines that survive a kill, TensorBoard, progress."""

import io
import json
import sys

import numpy as np
import pytest

from medjax.run import writer as writer_lib
from medjax.run.writer import Writer


def _lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  assert text == '' or text.endswith('\n')
  lines = [json.loads(line) for line in text.splitlines()]
  for line in lines:
    line.pop('seconds', None)
  return lines


def _events(workdir):
  accumulator = pytest.importorskip(
    'tensorboard.backend.event_processing.event_multiplexer'
  )
  multiplexer = accumulator.EventMultiplexer()
  multiplexer.AddRunsFromDirectory(str(workdir))  # as `tensorboard --logdir`
  multiplexer.Reload()
  return multiplexer


def test_scalars_reach_both_files_as_they_are_logged(tmp_path):
  with Writer(tmp_path, 10) as writer:
    writer.scalars(1, {'train/loss': np.float32(0.5)})
    assert _lines(tmp_path) == [{'step': 1, 'train/loss': 0.5}]
    writer.scalars(2, {'train/loss': float('nan'), 'validation/dice': 0.75})
    assert _lines(tmp_path)[1] == {
      'step': 2,
      'train/loss': None,
      'validation/dice': 0.75,
    }
    events = _events(tmp_path)  # before close: a killed run shows them too
  losses = events.Scalars('tensorboard', 'train/loss')
  assert [e.step for e in losses] == [1, 2]
  assert losses[0].value == 0.5
  assert np.isnan(losses[1].value)


def test_resume_drops_what_was_logged_after_the_checkpoint(tmp_path):
  with Writer(tmp_path, 10, step=0) as writer:
    for step in range(1, 6):
      writer.scalars(step, {'loss': step})
  with (tmp_path / 'metrics.jsonl').open('a') as f:
    f.write('{"step": 6, "lo')  # killed in the middle of a write
  with Writer(tmp_path, 10, step=3) as writer:
    writer.scalars(4, {'loss': 40})
  assert _lines(tmp_path) == [
    {'step': 1, 'loss': 1},
    {'step': 2, 'loss': 2},
    {'step': 3, 'loss': 3},
    {'step': 4, 'loss': 40},
  ]
  losses = _events(tmp_path).Scalars('tensorboard', 'loss')
  assert [(e.step, e.value) for e in losses] == [
    (1, 1),
    (2, 2),
    (3, 3),
    (4, 40),
  ]
  assert not list(tmp_path.glob('*.tmp'))


def test_seconds_are_added_up_over_a_resume(tmp_path, monkeypatch):
  now = [100.0]
  monkeypatch.setattr(writer_lib.time, 'monotonic', lambda: now[0])
  log = tmp_path / 'metrics.jsonl'
  read = lambda: [
    json.loads(x)['seconds'] for x in log.read_text().split('\n')[:-1]
  ]
  with Writer(tmp_path, 10, step=0) as writer:
    for step in (1, 2, 3):
      now[0] += 2
      writer.scalars(step, {'loss': 1})
  assert read() == [2, 4, 6]
  now[0] += 1000  # nobody at work
  with Writer(tmp_path, 10, step=2) as writer:
    now[0] += 5
    writer.scalars(3, {'loss': 1})
    assert writer.seconds == 9
  assert read() == [2, 4, 9]


@pytest.mark.parametrize(
  'torn', ['{"step": 2', '{"step": 2, "loss": 2.0}', '5']
)
def test_a_torn_last_line_is_repaired(tmp_path, torn):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "loss": 1.0}\n' + torn)
  with Writer(tmp_path, 10) as writer:
    writer.scalars(9, {'loss': 9})
  kept = [2] if torn.endswith('0}') else []  # only its newline was missing
  assert [line['step'] for line in _lines(tmp_path)] == [1, *kept, 9]


def test_a_disabled_writer_leaves_no_trace(tmp_path, capsys):
  with Writer(tmp_path / 'run', 10, enabled=False) as writer:
    writer.scalars(1, {'loss': 1.0})
    writer.progress(1, loss=1.0)
  assert not (tmp_path / 'run').exists()
  assert capsys.readouterr().out == ''


def test_without_a_terminal_progress_prints_plain_lines(tmp_path, capsys):
  with Writer(tmp_path, 20, monitor='dice') as writer:
    writer.progress(1)
    writer.progress(10, loss=0.25, examples_per_second=123.4, score=0.9)
    writer.progress(20, loss=0.125, examples_per_second=123.4)
    writer.progress(20, score=0.8)
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == 'step 1/20'
  assert lines[1].startswith(
    'step 10/20 · loss 0.2500 · 123.4 images/s · ETA 0:'
  )
  assert lines[1].endswith(' · val dice 0.9000')
  assert lines[2].endswith('ETA 0:00:00')  # .9 is not of this step
  assert lines[3].endswith(' · val dice 0.8000')


def test_a_task_may_say_which_scores_are_shown(tmp_path, capsys):
  with Writer(tmp_path, 20, monitor='newest', spoken=('knn', 'spread')) as w:
    w.progress(1, loss=0.5)
    w.scalars(2, {'validation/spread': 0.25, 'validation/knn': float('nan')})
    w.progress(2, score=float('nan'))
  first, second = capsys.readouterr().out.splitlines()
  assert ' val ' not in first
  assert second.endswith(' · val without knn · val spread 0.2500')


def test_on_a_terminal_progress_is_one_bar(tmp_path, monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('COLUMNS', '80')
  monkeypatch.setattr(sys, 'stdout', terminal := Terminal())
  with Writer(tmp_path, 20000, monitor='dice') as writer:
    writer.progress(9000)
    writer.progress(10000, loss=0.25, examples_per_second=1234, score=0.9)
  shown = terminal.getvalue()
  assert '10000/20000' in shown
  assert 'loss 0.2500  1234.0 images/s' in shown
  assert 'val dice 0.9000' in shown
