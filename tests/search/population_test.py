"""A population: who succeeds whom, with which bits, and what it finds."""

import pathlib
import shutil

import numpy as np
import optuna
import pytest

from medjax.search import ledger, population, report, winner, worker

LEVELS = (2, 4, 6)


def space(trial):
  return {'optimizer.learning_rate': trial.suggest_float('x', 0.01, 1.0),
          'optimizer.b1': trial.suggest_float('b', 0.5, 0.9)}  # fmt: skip


class Walk:
  """Goes up by x a step, with what it took over; a step is a file's line."""

  def step(self):
    """Before a step is taken."""

  def __call__(self, overrides, folder, until):
    place = folder / 'checkpoints'
    place.mkdir(exist_ok=True)
    lines = sorted(place.iterdir())
    for step in range(len(lines) + 1, until + 1):
      self.step()
      part = folder / 'part'
      part.write_text(str(overrides['optimizer.learning_rate']))
      part.rename(place / f'{step:02}')
    rates = [float(p.read_text()) for p in sorted(place.iterdir())]
    return {k + 1: float(v) for k, v in enumerate(np.cumsum(rates))}


def run(workdir, *, trials=8, work=None, **options):
  options = {'show': lambda line: None, 'interval': 0.5, **options}
  return worker.search(
    workdir, work or Walk(), space, trials=trials, levels=LEVELS,
    population=True, **options,
  )  # fmt: skip


def test_those_behind_go_on_from_those_ahead(tmp_path):
  found = run(tmp_path)
  assert len(found) == 8 + 2 * 2  # a third of eight, after two of three levels
  for step in LEVELS[:-1]:
    group = [t for t in found if step in t.values]
    ahead, behind = population.compared(group, step, eta=3)
    assert len(ahead) == len(behind) == 2
    assert not any(LEVELS[LEVELS.index(step) + 1] in t.values for t in behind)
    born = [t for t in found if t.parent is not None and t.since == step]
    assert len(born) == 2
    for child in born:
      assert child.parent in [t.number for t in ahead]
      mine, theirs = (
        ledger.folder(tmp_path, n) / 'checkpoints'
        for n in (child.number, child.parent)
      )
      for k in range(1, step + 1):  # the very bits
        path = pathlib.Path(f'{k:02}')
        assert (mine / path).read_bytes() == (theirs / path).read_bytes()
  done = [t for t in found if t.state == 'done']
  assert len(done) == 8
  assert len({tuple(t.params.values()) for t in found}) == 12
  assert run(tmp_path) == found  # there is nothing more to do


def test_parameters_are_changed_within_their_bounds():
  distributions = {
    'rate': optuna.distributions.FloatDistribution(1e-3, 1.0, log=True),
    'count': optuna.distributions.IntDistribution(2, 9),
    'word': optuna.distributions.CategoricalDistribution(['a', 'b']),
  }
  params, rng = {'rate': 0.9, 'count': 8, 'word': 'b'}, np.random.default_rng(0)
  seen = [population.changed(params, distributions, rng) for _ in range(200)]
  values = lambda name: sorted({p[name] for p in seen if name in p})
  assert values('rate') == pytest.approx([0.72, 1.0])
  assert values('count') == [6, 9]
  assert values('word') == ['b']
  assert 0.15 < np.mean(['word' not in p for p in seen]) < 0.35


class Killed(BaseException):
  """The process ends here, with all that it would still have written."""


def test_a_kill_changes_nothing(tmp_path, monkeypatch):
  whole, left = run(tmp_path / 'whole'), [3, 9, 20, 26, 31]
  copies, calls = [1, 3], {'step': 0, 'copy': 0}

  def killed(kind, at):
    calls[kind] += 1
    if calls[kind] in at:
      raise Killed

  class Mortal(Walk):
    def step(self):
      killed('step', left)

  def copy(source, target, real=shutil.copytree):
    target.mkdir()  # as far as it came
    killed('copy', copies)
    return real(source, target, dirs_exist_ok=True)

  monkeypatch.setattr(population.shutil, 'copytree', copy)
  deaths = 0
  while True:
    try:
      cut = run(tmp_path / 'cut', work=Mortal())
      break
    except Killed:
      deaths += 1
  assert deaths == len(left) + len(copies)
  as_found = lambda t: (t.overrides, t.values, t.parent, t.since, t.state)
  assert [as_found(t) for t in cut] == [as_found(t) for t in whole]


def test_who_fails_is_succeeded(tmp_path):
  def work(overrides, folder, until):
    if until == 4 and folder.name == '0001':
      raise ValueError('the loss is not finite')
    return Walk()(overrides, folder, until)

  found = run(tmp_path, work=work, seed=1)
  assert found[1].state == 'failed'
  assert len([t for t in found if t.state == 'done']) == 8

  def none(overrides, folder, until):
    raise ValueError('no')

  assert {t.state for t in run(tmp_path / 'none', work=none)} == {'failed'}


def test_the_newest_score_counts_and_must_be_a_number(tmp_path):
  def work(overrides, folder, until):
    rate = overrides['optimizer.learning_rate']
    (folder / 'checkpoints').mkdir(exist_ok=True)
    curve = {1: 2.0, until: rate}  # better before
    return {1: 2.0} if folder.name == '0000' else curve

  found = run(tmp_path, work=work)
  assert 'not a number' in found[0].reason
  for t in found[1:8]:
    assert t.values[2] == t.overrides['optimizer.learning_rate']
  # At the end a run counts by its best checkpoint, as any.
  assert {t.value for t in found if t.state == 'done'} == {2.0}


@pytest.mark.parametrize('since', [0, 2, 4])
def test_a_folder_that_was_deleted_leaves_the_others_as_they_are(
  tmp_path, since
):
  before = run(tmp_path)
  gone = next(t.number for t in before if t.since == since)
  shutil.rmtree(ledger.folder(tmp_path, gone))
  left = iter(range(9))  # lines, more of which a search without end shows
  found = run(tmp_path, show=lambda line: next(left))
  by_number = {t.number: t for t in found}
  for t in before:
    if t.number != gone and t.state == 'done':
      assert by_number[t.number] == t
  for t in found:
    if t.parent in by_number:
      theirs, mine = by_number[t.parent].curve, t.curve
      assert all(mine[k] == theirs[k] for k in range(1, t.since + 1))
      # Not what the parent became later.
      assert mine.get(t.since + 1, 0) != theirs.get(t.since + 1)
  assert run(tmp_path) == found


def test_a_schedule_whose_beginning_was_deleted(tmp_path):
  found = run(tmp_path)
  best = winner.best(tmp_path)
  assert best.parent is not None
  shutil.rmtree(ledger.folder(tmp_path, best.parent))
  rest = [t for t in found if t.number != best.parent]
  with pytest.raises(ValueError, match=f'trial {best.parent} .* is gone'):
    population.schedule(rest, best)
  assert 'is gone' in report.write(tmp_path).read_text()
  assert population.schedule(found[::-1], best)[-1] == (6, best.overrides)


def test_the_page_tells_the_schedule(tmp_path):
  found = run(tmp_path)
  best = winner.best(tmp_path)
  steps = population.schedule(found, best)
  assert steps[-1] == (6, best.overrides)
  assert len(steps) > 1
  rates = np.concatenate([
    np.full(until - since, overrides['optimizer.learning_rate'])
    for (until, overrides), since in zip(
      steps, [0, *(s for s, _ in steps)], strict=False)
  ])  # fmt: skip
  assert best.value == pytest.approx(rates.sum())
  text = report.write(tmp_path).read_text()
  assert 'schedule' in text
  for _, overrides in steps:
    assert f'{overrides["optimizer.learning_rate"]:.4g}' in text
