"""A search inside each fold: its test fold is seen once, after all choices."""

import json
import re
import sys
import types

import numpy as np
import PIL.Image
import pytest

from medjax import begin, evaluate, files
from medjax.search import __main__ as command
from medjax.search import ledger, nested, report, winner, worker

CONFIG = """
from medjax.config import default_config


def get_config():
  config = default_config()
  config.folds = {folds}
  config.data.held_out = 0.3
  config.data.update(name='folder', path={path!r}, batch_size=8, folds={folds})
  config.data.preprocess = (dict(name='zscore'),)
  config.model = dict(name='LeNet5')
  config.task = dict(name='Classification', monitor='auroc')
  config.optimizer = dict(name='adam', learning_rate=0.01)
  config.train.update(steps=2, log_every=2, eval_every=2)
  return config
"""
SPACE = """
def space(trial):
  return {{'{field}': trial.suggest_float('rate', 1e-3, 1e-1, log=True)}}
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
  """call(*arguments) of the command; with small.py, space.py and none.py."""
  rng = np.random.default_rng(1)
  for i in range(24):
    image = rng.normal(90, 15, (16, 16))
    image[4:11, 4:11] += 90 * (i % 2)
    folder = tmp_path / 'data' / ('dark', 'bright')[i % 2]
    folder.mkdir(parents=True, exist_ok=True)
    picture = PIL.Image.fromarray(image.clip(0, 255).astype(np.uint8))
    picture.save(folder / f'{i:02}.png')
  for name, folds in (('small', 2), ('none', 0)):
    text = CONFIG.format(path=str(tmp_path / 'data'), folds=folds)
    (tmp_path / f'{name}.py').write_text(text)
  for name, field in (
    ('space', 'optimizer.learning_rate'),
    ('typo', 'train.ema_deccay'),
    ('nothing', 'optimizer.nothing'),
  ):
    (tmp_path / f'{name}.py').write_text(SPACE.format(field=field))
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(command, 'keep_programs', lambda: None)

  def run(*arguments):
    monkeypatch.setattr(sys, 'argv', ['search', *arguments])
    command.main()

  return run


def searching(*more, config='small.py', space='space.py'):
  return (f'--config={config}', f'--space={space}', '--workdir=s', *more)


@pytest.fixture
def opened(monkeypatch):
  """[(by training or evaluation, split, its name)] as samples are asked for."""
  found = []

  def noting(module, prepared):
    def samples(made, split, **options):
      name = made.config['data']['splits'][split]
      found.append((module.__name__.removeprefix('medjax.'), split, name))
      return prepared(made, split, **options)

    return samples

  for module in (begin, evaluate):
    monkeypatch.setattr(module, 'samples', noting(module, module.samples))
  return found


def of_test(opened):
  return [name for _, split, name in opened if split == 'test']


def test_a_test_fold_is_read_once_after_all_choices(call, opened, tmp_path):
  call(*searching('--nested', '--trials=1'))
  assert opened
  assert not of_test(opened)
  for i in range(2):
    trials = ledger.read(tmp_path / 's' / f'fold{i}')
    assert [t.state for t in trials] == ['done']
    for t in trials:
      folder = ledger.folder(tmp_path / 's' / f'fold{i}', t.number)
      splits = json.loads((folder / 'config.json').read_text())['data'][
        'splits'
      ]
      assert splits['test'] == f'fold{i}'
      assert splits['train'] == f'fold{1 - i}'  # and validation, held out
  opened.clear()
  call('best', 's', '--seeds=1')
  assert of_test(opened) == ['fold0', 'fold1']
  by = [module for module, *_ in opened]
  assert by == ['begin'] * 2 + ['evaluate'] * 4  # winners of all folds first
  call('best', 's', '--seeds=1')  # is done
  assert len(of_test(opened)) == 2
  result = json.loads((tmp_path / 's' / 'nested.json').read_text())
  of_folds = [each['test'][0] for each in result['folds']]
  assert result['test'] == pytest.approx(np.mean(of_folds))
  searched = [each['searched'] for each in result['folds']]
  assert result['optimism'] == pytest.approx(np.mean(searched) - result['test'])
  page = (tmp_path / 's' / 'search.html').read_text()
  for word in ('fold1/search.html', '1 done', 'Optimism', 'mean over folds'):
    assert word in page
  assert re.search(r'nested, 2 folds · written 20\d\d-', page)
  with pytest.raises(SystemExit):  # who tries more now would know the test
    call(*searching('--nested', '--trials=2'))
  assert not (tmp_path / 's' / 'fold0' / 'trials' / '0001').exists()


def test_the_optimism_of_an_ordinary_search(call, opened, tmp_path):
  call(*searching('--trials=2', config='none.py'))
  call('best', 's', '--seeds=2', '--out=mine.py')
  assert of_test(opened) == ['test', 'test']
  result = json.loads((tmp_path / 's' / 'best.json').read_text())
  assert result['searched'] == winner.best(tmp_path / 's').value
  gaps = result['searched'] - np.array(result['test'])
  assert result['optimism'] == pytest.approx(gaps.mean())
  low, high = result['interval']
  assert low <= gaps.mean() <= high
  page = (tmp_path / 's' / 'search.html').read_text()
  assert 'Optimism' in page
  assert 'on test, in 2 seeds, ' in page
  assert (tmp_path / 'mine.py').exists()
  assert 'in 1 seed, ' in report._optimism({**result, 'test': [0.5]})


def test_best_waits_for_every_trial(call, tmp_path, capsys):
  call(*searching('--trials=1', config='none.py'))
  late = ledger.Trial(1, {}, {}, state='running', aim=2)
  for late.state in ('running', 'paused'):
    ledger.write(tmp_path / 's', late)
    with pytest.raises(SystemExit):
      call('best', 's', '--out=mine.py')
    assert 'trial 1 has not ended' in capsys.readouterr().err
    assert not (tmp_path / 'mine.py').exists()
    assert not (tmp_path / 's' / 'best').exists()


def test_runs_of_two_winners_are_not_mixed(tmp_path, monkeypatch):
  """Where the search went on after `best` was interrupted."""
  trial = ledger.Trial(0, {}, {}, {2: 0.5}, aim=2, state='done')
  ledger.write(tmp_path, trial)
  winner.trained(tmp_path, 'none.py', seeds=0)
  winner.trained(tmp_path, 'none.py', seeds=0)
  trial.number, trial.values = 1, {2: 0.6}
  ledger.write(tmp_path, trial)
  for again in (
    lambda: winner.trained(tmp_path, 'none.py', seeds=0),
    lambda: winner.look(tmp_path, []),
  ):
    with pytest.raises(ValueError, match='runs of trial 0, but the best is tr'):
      again()


def evaluated(workdir, scores):
  """Writes what runs found on test; returns them as `trained` gives them."""
  trial = ledger.Trial(0, {}, {}, {2: 0.5}, aim=2, state='done')
  ledger.write(workdir, trial)
  made = types.SimpleNamespace(task=types.SimpleNamespace(monitor='auroc'))
  runs = []
  for i, score in enumerate(scores):
    folder = workdir / 'best' / f'seed{i + 1}'
    found = {'validation': {'scores': {'auroc': 0.5}}}
    if score != 'no references':
      found['test'] = {'scores': {'auroc': score}}
    files.write_json(folder / 'metrics.json', found)
    runs.append((folder, made, {}))
  return runs


def test_a_score_that_is_not_defined_on_test(tmp_path):
  result = winner.look(tmp_path, evaluated(tmp_path, [0.4, None, 0.2]))
  assert result['optimism'] == pytest.approx(0.2)
  assert result['interval'] == pytest.approx(
    winner.interval(np.array([0.1, 0.3]))
  )
  page = report.write(tmp_path).read_text()
  assert '0.400, –, 0.200' in page
  assert 'Not defined on test in 1 of 3 runs.' in page
  none = winner.look(tmp_path, evaluated(tmp_path, [None]))
  assert np.isnan(none['optimism'])
  assert none['interval'] is None
  assert 'Optimism: –' in report.write(tmp_path).read_text()


def test_a_fold_whose_score_is_not_defined_on_test(tmp_path, monkeypatch):
  monkeypatch.setattr(nested, 'folds', lambda config: 3)
  scores = {f'fold{i}': [s] for i, s in enumerate((0.4, None, 0.2))}
  monkeypatch.setattr(
    winner, 'trained',
    lambda path, *_, **__: evaluated(path, scores[path.name]),
  )  # fmt: skip
  for name in scores:
    evaluated(tmp_path / name, [])
  result = nested.judge(tmp_path, 'none.py')
  assert result['test'] == pytest.approx(0.3)
  assert result['optimism'] == pytest.approx(0.2)
  page = report.write(tmp_path).read_text()
  assert 'Not defined on test in 1 of 3 runs.' in page


def test_a_test_split_without_references(tmp_path):
  with pytest.raises(ValueError, match='no case of it has a reference'):
    winner.look(tmp_path, evaluated(tmp_path, ['no references']))


def test_a_search_in_which_all_fail_ends_so(call, tmp_path, capsys):
  with pytest.raises(SystemExit):
    call(*searching('--trials=1', config='none.py', space='nothing.py'))
  assert 'no trial is done (1 failed: ' in capsys.readouterr().err
  assert 'takes no arg' in (tmp_path / 's' / 'search.html').read_text()


@pytest.mark.parametrize('inside', ['', 'fold1/'])
def test_a_search_ends_with_the_first_score_on_test(
  call, tmp_path, capsys, inside
):
  """Also where `best` was interrupted before it wrote its result."""
  path = tmp_path / 's' / inside / 'best' / 'seed1' / 'metrics.json'
  path.parent.mkdir(parents=True)
  path.write_text('{}')
  options = ['--nested', '--trials=1'] if inside else ['--trials=1']
  with pytest.raises(SystemExit):
    call(*searching(*options, config='small.py' if inside else 'none.py'))
  assert 'has been read, and what is tried now' in capsys.readouterr().err
  assert not list(tmp_path.glob('s/**/trials'))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (searching('--nested', config='none.py'), 'none.py has no folds'),
    (searching(), 'must be 1 and folds 0; --nested'),
    (searching('--nested', space='typo.py'), "did you mean 'ema_decay'"),
    (searching('--nested', '--population'), 'take one of them'),
    (searching('--population', config='none.py'), '--rungs=1 is not'),
    (searching('--population', '--trials=1'), 'the size of it, 2 or more'),
    (
      searching('--population', '--rungs=2', '--eta=0', config='none.py'),
      '--eta=0: one in so many goes on; give 2 or more',
    ),
    (searching('--rungs=2', '--eta=0', config='none.py'), '--eta=0: one in'),
  ],
)
def test_what_cannot_be_searched_is_refused_at_once(
  call, tmp_path, capsys, options, message
):
  with pytest.raises(SystemExit):
    call(*options)
  assert message in capsys.readouterr().err
  assert not list(tmp_path.glob('s/**/trials'))


def test_options_that_were_wrong_leave_no_search_to_join(call, tmp_path):
  with pytest.raises(SystemExit):
    call(*searching('--rungs=9', config='none.py'))
  assert not (tmp_path / 's').exists()


def test_a_schedule_is_no_config(call, tmp_path, capsys):
  settings = {'config': 'none.py', 'space': 'space.py', 'population': 3}
  worker.settled(tmp_path / 's', settings)
  with pytest.raises(SystemExit):
    call('best', 's', '--out=mine.py')
  assert 'a schedule, which no config says' in capsys.readouterr().err


def test_test_folds_wait_for_the_search_of_all(call, tmp_path, capsys):
  settings = {'config': 'small.py', 'space': 'space.py', 'nested': True}
  worker.settled(tmp_path / 's', settings)
  done = ledger.Trial(0, {}, {}, values={2: 0.5}, aim=2, state='done')
  for i, count in enumerate((2, 1)):
    for n in range(count):
      done.number = n
      ledger.write(nested.place(tmp_path / 's', i), done)
  with pytest.raises(SystemExit):
    call('best', 's')
  assert 'fold1: 1 trials of 2 have ended' in capsys.readouterr().err
  with pytest.raises(SystemExit):
    call('best', 's', '--out=mine.py')
  assert 'a winner for each fold' in capsys.readouterr().err
