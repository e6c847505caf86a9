import signal

import pytest

from medjax.run.stop import Stopped, StopSignal


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_asked_for_and_the_second_does_not_wait(number, capsys):
  before = signal.getsignal(number)
  with StopSignal() as stop:
    assert stop.exit_code(1) is None
    signal.raise_signal(number)
    assert stop.exit_code(2) == 128 + number
    with pytest.raises(Stopped) as stopped:
      signal.raise_signal(number)
    assert stopped.value.code == 128 + number
  assert signal.getsignal(number) is before
  assert capsys.readouterr().err.startswith('medjax: stopped: told twice')
