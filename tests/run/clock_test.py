"""What a run says of its own speed."""

import types

import pytest

from medjax.run import clock as clock_lib


class Time:
  now = 100.0

  def monotonic(self):
    return self.now


def test_images_a_second_and_the_share_that_was_waited(monkeypatch):
  time = Time()
  monkeypatch.setattr(clock_lib, 'time', time)
  ready = types.SimpleNamespace(is_ready=lambda: True)
  at_work = types.SimpleNamespace(is_ready=lambda: False)
  member = lambda step: types.SimpleNamespace(
    state=types.SimpleNamespace(step=step)
  )
  clock = clock_lib.Clock(10, batch_size=8)
  with clock.waiting([member(ready)]):
    time.now += 1
  with clock.waiting([member(at_work)]):  # the device had work: no waiting
    time.now += 3
  assert clock.read(15) == pytest.approx((5 * 8 / 4, 1 / 4))
  clock.restart(15)
  time.now += 2
  assert clock.read(16) == pytest.approx((4, 0))
