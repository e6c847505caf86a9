"""What to label next: by a run, on files; regions, slices, near duplicates."""

import csv
import shutil

import numpy as np
import pytest
from labels.noise_pictures import picture
from PIL import Image

from medjax import experiment
from medjax.evaluate import evaluate
from medjax.labels import __main__ as program
from medjax.labels import runs, select
from medjax.labels.seen import around, margin, seen
from medjax.prediction import trained
from medjax.prediction.result import Prediction
from medjax.train import train


@pytest.fixture(scope='module')
def run(pictures, tmp_path_factory):
  """A workdir that has learnt from ten labels."""
  place = tmp_path_factory.mktemp('run') / 'run'
  plan = runs.Plan(f'{pictures}/small.py:pictures')
  made = experiment.make(runs.configured(plan, 'supervised', count=10, seed=0))
  train(made, place)
  evaluate(made, place)
  return place


@pytest.fixture
def unlabelled(tmp_path):
  rng = np.random.default_rng(5)
  for i in range(12):
    picture(tmp_path / 'new' / f'{i:02d}.png', rng, bright=i % 2)
  return tmp_path / 'new'


def chosen(path):
  with open(path, newline='') as f:
    return [*csv.DictReader(f)]


STRATEGIES = 'entropy', 'margin', 'coreset', 'badge', 'typiclust', 'random'


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_a_csv_ranks_files_and_says_why(strategy, run, unlabelled, tmp_path):
  out = tmp_path / 'picked.csv'
  program.main([
    'select', str(unlabelled), f'--workdir={run}', '--n=5',
    f'--strategy={strategy}', f'--out={out}',
  ])  # fmt: skip
  rows = chosen(out)
  assert [r['rank'] for r in rows] == ['1', '2', '3', '4', '5']
  assert len({r['file'] for r in rows}) == 5
  assert all(r['why'] for r in rows)
  if strategy == 'entropy':
    loaded = trained.load(run)
    entropies = {}
    for path in unlabelled.iterdir():
      p = loaded.probabilities(np.asarray(Image.open(path)))
      entropies[path.stem] = float(-(p * np.log(p)).sum())
    wanted = sorted(entropies, key=entropies.get, reverse=True)[:5]
    assert [r['id'] for r in rows] == wanted
    score = [float(r['score']) for r in rows]
    np.testing.assert_allclose(score, [entropies[k] for k in wanted], atol=1e-5)


def test_copies_and_cases_of_the_run_are_not_picked(
  run, unlabelled, pictures, tmp_path, capsys
):
  shutil.copy(unlabelled / '00.png', unlabelled / 'copy.png')
  made = experiment.restore(run)
  for split in ('train', 'test'):
    name = made.cases(split)[0]['id']
    shutil.copy(pictures / f'study/{name}.png', unlabelled / f'{split}.png')
  out = tmp_path / 'all.csv'
  program.main(
    ['select', str(unlabelled), f'--workdir={run}', '--n=15', f'--out={out}']
  )
  ids = {r['id'] for r in chosen(out)}
  assert len(ids) == 12
  assert len(ids & {'00', 'copy'}) == 1
  assert not ids & {'train', 'test'}
  assert '12 of the 15' in capsys.readouterr()[0]
  known = str(unlabelled / 'train.png')
  with pytest.raises(SystemExit):
    program.main(['select', known, f'--workdir={run}', '--n=1'])
  assert 'there is nothing to label' in capsys.readouterr()[1]


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--n=99'], '99 cases of 12'),
    (['--strategy=entrop', '--n=3'], "'entrop'; did you mean 'entropy'"),
    (['--strategy=bald', '--n=3'], 'train with --config.members=3'),
  ],
)
def test_bad_requests(words, message, run, unlabelled, capsys):
  with pytest.raises(SystemExit):
    program.main(['select', str(unlabelled), f'--workdir={run}', *words])
  assert message in capsys.readouterr()[1]


def test_of_a_map_the_mean_over_its_region_and_the_slice():
  rng = np.random.default_rng(0)
  p = np.zeros((20, 20, 8, 2))
  p[..., 0] = 0.999
  p[4:8, 4:8, 2:6, 0] = 0.1
  p[5, 5, 4, 0] = 0.5  # the most doubtful slice
  p[..., 1] = 1 - p[..., 0]
  labels = p.argmax(-1)
  case = {'id': 'x', 'image': rng.normal(size=(20, 20, 8, 1))}
  made = Prediction(
    'x', None, labels=labels, probabilities=p, embedding=np.ones(3)
  )
  found = seen(case, made, exclusive=True)
  region = np.zeros(labels.shape, bool)
  for place in np.argwhere(labels > 0):
    for other in np.ndindex(5, 5, 5):
      step = np.array(other) - 2
      if np.abs(step).sum() <= 2:
        region[tuple(np.clip(place + step, 0, np.array(region.shape) - 1))] = 1
  entropy = -(p * np.log(p)).sum(-1)
  assert found.scores['entropy'] == pytest.approx(entropy[region].mean())
  assert found.slices['entropy'] == 4
  # A larger image around the same is not preferred.
  wide = np.pad(p, ((10, 10), (10, 10), (0, 0), (0, 0)), mode='edge')
  larger = Prediction(
    'x', None, labels=wide.argmax(-1), probabilities=wide, embedding=np.ones(3)
  )
  other = seen({**case, 'image': wide[..., :1]}, larger, exclusive=True)
  assert other.scores['entropy'] == pytest.approx(found.scores['entropy'])


def test_badge_of_labels_that_do_not_exclude_each_other():
  case = {'id': 'x', 'image': np.ones((4, 4, 1))}

  def of(p, exclusive):
    told = Prediction(
      case['id'], None, probabilities=np.array(p), embedding=np.ones(3)
    )
    return seen(case, told, exclusive=exclusive)

  sure, unsure = of([0.99, 0.99, 0.01], False), of([0.6, 0.45, 0.3], False)
  np.testing.assert_allclose(sure.error, [-0.01, -0.01, 0.01])
  np.testing.assert_allclose(unsure.error, [-0.4, 0.45, 0.3])
  (first,) = select.ranked([sure, unsure], 1, 'badge')
  assert first.score == pytest.approx(np.linalg.norm(unsure.error) * 3**0.5)
  found = of([0.6, 0.3, 0.1], True).error
  np.testing.assert_allclose(found, [-0.4, 0.3, 0.1])


def test_members_that_disagree_are_bald_and_nothing_marked_is_everywhere():
  case = {'id': 'x', 'image': np.ones((4, 4, 1))}
  told = {'mutual_information': np.array(0.3)}
  made = Prediction(
    'x', None, probabilities=np.array([0.5, 0.5]), uncertainty=told,
    embedding=np.ones(3),
  )  # fmt: skip
  assert seen(case, made, exclusive=True).scores['bald'] == pytest.approx(0.3)
  assert around(np.zeros((3, 3), bool)).all()


def test_the_margin_is_the_lead_of_the_likeliest():
  p = np.array([[0.7, 0.2, 0.1], [0.4, 0.2, 0.4]])
  np.testing.assert_allclose(margin(p, True), [0.5, 1.0])
  np.testing.assert_allclose(margin(np.array([[0.5, 1.0]]), False), [0.5])
