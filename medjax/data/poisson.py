"""Batches of patients drawn independently, as an accountant assumes."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from medjax.data.pipeline import TrainStream


class Draws(NamedTuple):
  """How patients are drawn.

  patients: of each case; rate: the chance of each patient at each step; room:
  places of a batch; secret: bytes from which all chance comes; lanes: places
  that are worked on together.
  """

  patients: tuple[str, ...]
  rate: float
  room: int
  secret: bytes
  lanes: int = 1


class PoissonStream(TrainStream):
  """At each step each patient is drawn, or not, whatever becomes of others.

  A patient who is drawn gives one case, at random. A batch has `room` places;
  in those that are left over `padding` is True and all fields are zeros. Where
  more are drawn than there is room for, some are left out at random, which the
  budget must have paid for. Batch k is a pure function of (cases, secret, k).

  The first places of each lane are filled first: of the batch as (lanes,
  places) the last columns are all padding.
  """

  def __init__(self, samples, *, draws, batch_size, **options):
    del batch_size  # what is expected, not how many places there are
    super().__init__(samples, batch_size=draws.room, **options)
    if draws.room % draws.lanes:
      raise ValueError(f'{draws.room} places are not {draws.lanes} equal lanes')
    cases = {}
    for i, patient in enumerate(draws.patients):
      cases.setdefault(patient, []).append(i)
    self._draws = draws
    self._cases = list(cases.values())  # of each patient
    self._seed_words = np.frombuffer(draws.secret, np.uint32).tolist()
    # Threads work on several batches.
    self._drawn = functools.lru_cache(maxsize=8)(self._draw)

  def __getitem__(self, index):
    step, place = divmod(index, self._draws.room)
    lanes, columns = self._draws.lanes, self._draws.room // self._draws.lanes
    place = place % columns * lanes + place // columns
    drawn = self._drawn(step)
    if place >= len(drawn):
      return self._padding
    patient, case = drawn[place]
    # Not of the place: who else is drawn changes nothing of this example.
    position = step * len(self._cases) + patient
    sample = self._patch(self._samples[case], position)
    return self._example(sample, position) | {'padding': np.bool_(False)}

  @functools.cached_property
  def _padding(self):
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self._form)
    valid = {k: np.bool_(False) for k in self._fields}
    about = {'index': np.uint32(0), 'padding': np.bool_(True)}
    return {**zeros, 'valid': valid, **about}

  def _draw(self, step):
    """[(patient, case)] of a step."""
    count = len(self._cases)
    rng = np.random.default_rng((*self._seed_words, step))
    chance, which = rng.random((count, 2)).T
    chosen = np.flatnonzero(chance < self._draws.rate)
    if len(chosen) > self._draws.room:
      chosen = rng.choice(chosen, self._draws.room, replace=False)
    pick = lambda i: self._cases[i][int(which[i] * len(self._cases[i]))]
    return [(int(i), pick(i)) for i in chosen]
