"""The loop of a search: halving, kills, joining, and what it learns."""

import multiprocessing
import pathlib
import random
import re
import shutil
import time

import numpy as np
import pytest
from scipy import stats

from medjax.search import ledger, report, rungs, sampler, winner, worker

STEPS = 9
# Processes that begin with what this one's imports have cost only once.
SPAWN = multiprocessing.get_context('forkserver')
SPAWN.set_forkserver_preload(['medjax.search.worker', 'medjax.search.winner'])


def space(trial):
  return {'optimizer.learning_rate': trial.suggest_float('x', 0.0, 1.0),
          'y': trial.suggest_categorical('y', ['a', 'b'])}  # fmt: skip


class Objective:
  """Best at x = .7; better with more steps. Notes each step that it takes."""

  def __init__(self, seconds=0.0):
    self.seconds = seconds

  def __call__(self, overrides, folder, until):
    place = folder / 'steps'
    done = len(place.read_text().split()) if place.exists() else 0
    for step in range(done + 1, until + 1):
      time.sleep(self.seconds)
      with place.open('a') as f:
        f.write(f'{step}\n')
    x = overrides['optimizer.learning_rate']
    return {until: 1 - (x - 0.7) ** 2 - 0.1 / until}


def run(workdir, *, trials=12, levels=(STEPS,), seconds=0.0, **options):
  options = {'show': lambda line: None, 'interval': 0.5, **options}
  return worker.search(
    workdir, Objective(seconds), space, trials=trials, levels=levels, **options
  )


def test_rungs():
  assert rungs.rungs(300) == (300,)
  assert rungs.rungs(300, count=3) == (33, 100, 300)
  with pytest.raises(ValueError, match='without a step'):
    rungs.rungs(5, count=4)
  values = {i: v for i, v in enumerate([0.1, 0.9, 0.5, 0.9, 0.2, 0.3])}
  assert rungs.promoted(values) == [1, 3]
  assert rungs.promoted({0: 1.0, 1: 2.0}) == []


@pytest.mark.parametrize(('trials', 'fails'), [(1, ''), (8, ''), (9, '0000')])
def test_halving_takes_somebody_to_the_end(tmp_path, trials, fails):
  """Also where scores fall by number, so that few are promoted."""

  def objective(overrides, folder, until):
    if until > 1 and folder.name == fails:
      raise ValueError('no')
    return {until: 1 - 0.01 * int(folder.name)}

  worker.search(
    tmp_path, objective, space, trials=trials, levels=(1, 3, 9),
    show=lambda line: None,
  )  # fmt: skip
  assert winner.best(tmp_path).number == (1 if fails else 0)


def test_every_trial_ends_once_and_the_best_is_found(tmp_path):
  found = run(tmp_path)
  assert [t.number for t in found] == list(range(12))
  assert {t.state for t in found} == {'done'}
  for t in found:
    steps = (ledger.folder(tmp_path, t.number) / 'steps').read_text().split()
    assert steps == [str(i + 1) for i in range(STEPS)]
  best = winner.best(tmp_path)
  assert best.value == max(t.value for t in found)
  assert abs(best.overrides['optimizer.learning_rate'] - 0.7) < 0.15
  assert len(run(tmp_path)) == 12  # there is nothing more to do
  assert len(run(tmp_path, trials=14)) == 14


def test_halving_takes_the_best_third_on(tmp_path):
  found = run(tmp_path, trials=18, levels=(1, 3, 9))
  reached = {
    level: [t for t in found if level in t.values] for level in (1, 3, 9)
  }
  assert len(reached[1]) == 18
  # Scores rise as the sampler learns, so more than a third go on.
  assert 6 <= len(reached[3]) <= 10
  assert 2 <= len(reached[9]) < len(reached[3])
  worst = min(t.values[1] for t in reached[3])
  left = sorted((t.values[1] for t in found), reverse=True)
  assert worst >= left[11]
  for t in reached[9]:  # went on, and did not begin anew
    steps = (ledger.folder(tmp_path, t.number) / 'steps').read_text().split()
    assert steps == [str(i + 1) for i in range(STEPS)]


def taken(workdir):
  """How many steps all trials have taken."""
  paths = workdir.glob('trials/*/steps')
  return sum(len(p.read_text().split()) for p in paths)


def test_a_kill_changes_nothing_with_one_worker(tmp_path):
  options = dict(trials=8, levels=(1, 3, 9))
  whole = run(tmp_path / 'whole', **options)
  rng = random.Random(0)
  for _ in range(3):
    process = SPAWN.Process(
      target=run, args=(tmp_path / 'cut',), kwargs={**options, 'seconds': 0.05}
    )
    process.start()
    target = taken(tmp_path / 'cut') + rng.randrange(3, 9)
    while process.is_alive() and taken(tmp_path / 'cut') < target:
      time.sleep(0.01)
    process.kill()
    process.join()
  run(tmp_path / 'cut', **options)
  cut = ledger.read(tmp_path / 'cut')
  assert [t.overrides for t in cut] == [t.overrides for t in whole]
  assert [t.values for t in cut] == [t.values for t in whole]


class Killed(BaseException):
  """The process ends here, with all that it would still have written."""


def test_a_kill_before_the_journal_knows_changes_nothing(tmp_path, monkeypatch):
  options = dict(trials=14, levels=(3, 9))
  whole = run(tmp_path / 'whole', **options)
  write, calls = ledger.write, []

  def mortal(workdir, trial):
    write(workdir, trial)
    if trial.state != 'running':
      calls.append(trial.number)
      if len(calls) in (3, 6, 12):
        raise Killed

  monkeypatch.setattr(ledger, 'write', mortal)
  for _ in range(3):
    with pytest.raises(Killed):
      run(tmp_path / 'cut', **options)
  cut = run(tmp_path / 'cut', **options)
  assert [t.overrides for t in cut] == [t.overrides for t in whole]
  assert [t.values for t in cut] == [t.values for t in whole]


@pytest.mark.parametrize('stop', [SystemExit(143), KeyboardInterrupt()])
def test_a_stop_is_no_death_and_changes_nothing(tmp_path, stop):
  options = dict(trials=12, levels=(3, 9))
  whole = run(tmp_path / 'whole', **options)

  class Told(Objective):
    """Told to stop again and again, in the first trial and in a later one."""

    def __call__(self, overrides, folder, until):
      place = folder / 'told'
      times = len(place.read_text()) if place.exists() else 0
      if folder.name in ('0000', '0007') and times < 4:
        place.write_text('x' * (times + 1))
        raise stop
      return super().__call__(overrides, folder, until)

  def told():
    return worker.search(
      tmp_path / 'cut', Told(), space, show=lambda line: None, **options
    )

  for i in range(8):
    with pytest.raises(type(stop)):
      told()
    trial = ledger.read(tmp_path / 'cut')[0 if i < 4 else 7]
    assert (trial.state, trial.tries) == ('paused', 0)
    assert not list(tmp_path.glob('cut/trials/*/lease'))
  cut = told()
  assert [t.overrides for t in cut] == [t.overrides for t in whole]
  assert [(t.values, t.state) for t in cut] == [
    (t.values, t.state) for t in whole
  ]


@pytest.mark.slow
def test_three_workers_and_a_kill_now_and_then(tmp_path):
  options = dict(trials=40, levels=(3, 9), seconds=1.0)
  start = lambda: SPAWN.Process(target=run, args=(tmp_path,), kwargs=options)
  going, rng = [start() for _ in range(3)], random.Random(1)
  for p in going:
    p.start()
  for _ in range(5):
    time.sleep(10)
    victim = rng.randrange(3)
    if going[victim].is_alive():
      going[victim].kill()
      going[victim].join()
    going[victim] = start()
    going[victim].start()
  for p in going:
    p.join(300)
    assert p.exitcode == 0
  found = ledger.read(tmp_path)
  assert [t.number for t in found] == list(range(40))
  assert not [t for t in found if t.state in ('running', 'failed')]
  assert not list(tmp_path.glob('trials/*/lease'))
  for t in found:
    steps = (ledger.folder(tmp_path, t.number) / 'steps').read_text().split()
    assert steps == [str(i + 1) for i in range(max(t.values))]


@pytest.mark.slow
def test_tpe_beats_random(tmp_path):
  def cube(trial):
    return {str(i): trial.suggest_float(str(i), 0, 1) for i in range(6)}

  def hartmann(overrides, folder, until):  # the most is 3.32
    x = np.array([*overrides.values()])
    return {until: heights @ np.exp(-(widths * (x - places) ** 2).sum(1))}

  heights = np.array([1.0, 1.2, 3.0, 3.2])
  widths = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14],
     [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
  )  # fmt: skip
  places = 1e-4 * np.array(
    [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
     [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
  )  # fmt: skip
  best = {'tpe': [], 'random': []}
  for kind, values in best.items():
    for seed in range(20):
      found = worker.search(
        tmp_path / kind / str(seed), hartmann, cube, trials=40, levels=(9,),
        kind=kind, seed=seed, show=lambda line: None,
      )  # fmt: skip
      values.append(max(t.value for t in found))
  assert np.median(best['tpe']) > np.median(best['random'])
  assert stats.mannwhitneyu(best['tpe'], best['random']).pvalue < 0.05


def test_a_trial_that_fails_is_told_and_the_others_go_on(tmp_path):
  def objective(overrides, folder, until):
    if overrides['y'] == 'a':
      raise ValueError('no such optimizer')
    return {until: 0.5}

  said = []
  found = worker.search(
    tmp_path, objective, space, trials=8, levels=(9,), show=said.append
  )
  states = {t.overrides['y']: t.state for t in found}
  assert states == {'a': 'failed', 'b': 'done'}
  assert any('no such optimizer' in line for line in said)


def test_a_fault_of_a_machine_fails_no_trial(tmp_path):
  """As of data that are not mounted, where a trial begins or goes on."""
  options = dict(trials=6, levels=(3, 9), show=lambda line: None)
  mounted = Objective()

  def objective(overrides, folder, until):
    if folder.name == '0000' and not (folder / 'seen').exists():
      (folder / 'seen').touch()
      raise FileNotFoundError(2, 'No such file or directory', '/mnt/data')
    return mounted(overrides, folder, until)

  with pytest.raises(FileNotFoundError, match='/mnt/data'):
    worker.search(tmp_path / 'a', objective, space, **options)
  (trial,) = ledger.read(tmp_path / 'a')
  assert (trial.state, trial.reason, trial.tries) == ('paused', '', 1)
  found = worker.search(tmp_path / 'a', objective, space, **options)
  whole = worker.search(tmp_path / 'b', mounted, space, **options)
  as_found = lambda t: (t.overrides, t.values, t.state)
  assert [*map(as_found, found)] == [*map(as_found, whole)]


def test_settings_that_name_what_nobody_has_fail_at_last(tmp_path):
  """As a space of pretrained weights, of which one is not there."""
  options = dict(trials=3, levels=(3, 9), show=lambda line: None)
  others = Objective()

  def objective(overrides, folder, until):
    if folder.name == '0000':
      raise FileNotFoundError(2, 'No such file or directory', 'weights.pth')
    return others(overrides, folder, until)

  for _ in range(2):
    with pytest.raises(FileNotFoundError, match=r'weights\.pth'):
      worker.search(tmp_path, objective, space, **options)
  found = worker.search(tmp_path, objective, space, **options)
  assert found[0].state == 'failed'
  assert found[0].reason.startswith('3 times: ')
  assert 'weights.pth' in found[0].reason
  assert all(trial.values for trial in found[1:])


def test_a_damaged_trial_is_deleted_as_told_and_another_takes_its_place(
  tmp_path,
):
  before = run(tmp_path, trials=6)
  (ledger.folder(tmp_path, 2) / 'trial.json').write_text('{"number": 2')
  with pytest.raises(ValueError, match='delete the folder of this trial'):
    run(tmp_path, trials=6)
  copy = tmp_path.with_name('copy')
  left = iter(range(3))  # lines, more of which a search without end shows
  for workdir in (tmp_path, shutil.copytree(tmp_path, copy)):
    shutil.rmtree(ledger.folder(workdir, 2))  # the others stay as they are
    after = run(workdir, trials=6, show=lambda line: next(left))
    assert after[:5] == [*before[:2], *before[3:]]
  found = ledger.read(tmp_path)
  assert [t.number for t in found] == [0, 1, 3, 4, 5, 6]
  as_found = lambda t: (t.number, t.overrides, t.values, t.state)
  assert [*map(as_found, found)] == [*map(as_found, ledger.read(copy))]


def test_a_trial_whose_process_always_dies_fails():
  trial = ledger.Trial(0, {}, {}, state='running')
  for _ in range(3):
    trial.died()
  assert trial.state == 'failed'
  assert 'out of memory' in trial.reason


def test_a_journal_that_was_cut_off(tmp_path, capsys):
  run(tmp_path, trials=3)
  path = tmp_path / 'journal.log'
  whole = path.read_bytes()
  path.write_bytes(whole + b'{"op_code": 4, "worke')
  assert len(run(tmp_path, trials=5)) == 5
  assert 'cut off' in capsys.readouterr().out
  assert b'"worke' in (tmp_path / 'journal.log.bad').read_bytes()


def test_what_is_suggested_is_a_function_of_what_is_known(tmp_path):
  a = [t.overrides for t in run(tmp_path / 'a', seed=3)]
  assert a == [t.overrides for t in run(tmp_path / 'b', seed=3)]
  assert a != [t.overrides for t in run(tmp_path / 'c', seed=4)]


def test_who_joins_has_the_same_settings(tmp_path):
  worker.settled(tmp_path, {'eta': 3})
  worker.settled(tmp_path, {'eta': 3})
  with pytest.raises(ValueError, match='eta=3, not 4'):
    worker.settled(tmp_path, {'eta': 4})
  said = {'config': 'a.py', 'space': 'b.py', 'digest': '1'}
  worker.settled(tmp_path / 'b', said)
  with pytest.raises(ValueError, match=r'a.py or b.py does not say'):
    worker.settled(tmp_path / 'b', {**said, 'digest': '2'})


def test_the_curves_of_trials_are_shown(tmp_path):
  run(tmp_path, trials=9, levels=(3, 9))
  trial = ledger.read(tmp_path)[0]
  trial.curve = {3: 0.1, 9: 0.2}
  ledger.write(tmp_path, trial)
  assert 'score of each trial by step' in report.write(tmp_path).read_text()
  assert (tmp_path / 'figures' / 'search_curves.png').exists()


def test_the_page(tmp_path):
  run(tmp_path, trials=10)
  text = report.write(tmp_path).read_text()
  for word in ('learning_rate', 'What mattered', 'Time spent'):
    assert word in text
  assert re.search(r'10 trials: 10 done · written 20\d\d-\d\d-\d\d', text)
  for name in ('history', 'parallel', 'importance'):
    assert (tmp_path / 'figures' / f'search_{name}.png').exists()
  shares = sampler.Study(tmp_path).importances(ledger.read(tmp_path))
  assert shares['x'] > shares['y']
  with pytest.raises(ValueError, match='holds no trials'):
    report.write(tmp_path / 'nothing')


def test_the_config_of_the_winner_runs(tmp_path):
  from medjax import public

  def objective(overrides, folder, until):
    return {until: overrides['config.optimizer.learning_rate']}

  def rates(trial):
    return {
      'config.optimizer.learning_rate': trial.suggest_float('x', 0.0, 1.0),
      'optimizer.b1': 0.8,
    }

  found = worker.search(
    tmp_path, objective, rates, trials=4, levels=(9,), show=lambda line: None
  )
  root = pathlib.Path(__file__).parents[2]
  config = f'{root}/configs/unet.py'
  out = winner.write_config(tmp_path, tmp_path / 'mine.py', config)
  best = max(t.value for t in found)
  made = public.read_config(out)
  assert made.optimizer.learning_rate == best
  winner.write_config(tmp_path, out, config)  # again, after an interruption
  with pytest.raises(ValueError, match=r'mine\.py is there, and is'):
    winner.write_config(tmp_path, out, str(out))
  assert public.read_config(out).optimizer.learning_rate == best
  assert made.optimizer.b1 == 0.8
  assert 'config' not in made
