import io
import os
import sys

import pytest

from medjax import terminal


@pytest.mark.parametrize(
  ('name', 'shown'),
  [
    ('plain ä → 漢', 'plain ä → 漢'),
    ('a\x1b]0;owned\x07', r'a\x1b]0;owned\x07'),
    ('b\x9b31m', r'b\x9b31m'),
    ('over\rwritten', r'over\rwritten'),
    ('two\nlines\tand', 'two\nlines\tand'),
    (os.fsdecode(b'c\xff.png'), r'c\udcff.png'),
    ('right\u202eleft', r'right\u202eleft'),
  ],
)
def test_nothing_steers_a_terminal(name, shown, capsys):
  with terminal.shown():
    print(name)
    print(name, file=sys.stderr)
  assert capsys.readouterr() == (f'{shown}\n', f'{shown}\n')


def test_what_ascii_lacks_is_escaped(monkeypatch):
  raw = io.BytesIO()
  monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(raw, 'ascii'))
  with terminal.shown():
    print('a → b')
  assert raw.getvalue() == rb'a \u2192 b' + b'\n'


@pytest.mark.parametrize(('gone', 'failed'), [(True, False), (False, True)])
def test_work_goes_on_when_nobody_can_hear(gone, failed, monkeypatch):
  if gone:
    read, write = os.pipe()
    os.close(read)
  else:
    write = os.open('/dev/full', os.O_WRONLY)
  with os.fdopen(write, 'w') as stream:
    monkeypatch.setattr(sys, 'stdout', stream)
    with terminal.shown():
      for _ in range(10_000):
        print('a line')
      sys.stdout.flush()
      assert sys.stdout.error is not None
      assert sys.stdout.failed == failed
    assert sys.stdout is stream


def test_a_program_without_standard_output(monkeypatch):
  monkeypatch.setattr(sys, 'stdout', None)
  monkeypatch.setattr(sys, 'stderr', None)
  with terminal.shown():
    print('nobody', file=sys.stderr, flush=True)
    assert not sys.stdout.isatty()
