"""Private runs: what they write, how they end, go on, and what is refused."""

import dataclasses
import json
import stat

import flax.linen as nn
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

pytest.importorskip('dp_accounting')

from medjax import engine, experiment, files
from medjax.config import default_config
from medjax.dp import accounting, budget, private
from medjax.run.writer import Writer
from medjax.train import train

HERE = __name__
CASES = 60


class Net(nn.Module):
  """Small, with dropout; with BatchNorm where that is asked for."""

  num_classes: int
  batch_norm: bool = False

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    x = nn.Conv(4, (3, 3))(x)
    if self.batch_norm:
      x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.Dropout(0.1, deterministic=not train)(nn.relu(x))
    pooled = x.mean((1, 2))
    logits = nn.Dense(self.num_classes)(pooled)
    return {'logits': logits, 'pooled': pooled} if features else logits


def swapped(key, example):
  """An augmentation of others that looks at the next example."""
  del key
  image = jax.lax.ppermute(example['image'], 'batch', [(0, 1), (1, 0)])
  return {**example, 'image': image}


class Cases(list):
  class_names = ('a', 'b')


def make_cases(n=CASES, seed=0, each=2):
  rng, cases = np.random.default_rng(seed), Cases()
  for i in range(n):
    image = rng.integers(0, 200, (8, 8, 1)).astype(np.uint8)
    image[2:5, 2:5] += np.uint8(50 * (i % 2))
    cases.append({
      'image': image, 'id': f'{seed}-{i}', 'patient': f'{seed}-{i // each}',
      'affine': np.eye(3), 'spacing': np.ones(2), 'label': np.int32(i % 2),
    })  # fmt: skip
  return cases


def make_config(**privacy):
  config = default_config()
  config.data.update(name='synthetic', batch_size=8)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.augment = (dict(name='flip'),)
  config.model = dict(name=f'{HERE}:Net')
  config.task = dict(name='Classification')
  config.optimizer.learning_rate = 1e-2
  config.schedule.update(name='constant')
  config.train.update(steps=6, log_every=2, eval_every=3, ema_decay=0.5)
  config.inference.batch_size = 8
  config.privacy.update(epsilon=8.0, delta=1e-3, **privacy)
  return config


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  devices(monkeypatch, 1)
  seeds = {'train': 0, 'validation': 1, 'test': 2}
  monkeypatch.setattr(
    experiment,
    'open_cases',
    lambda config, split: make_cases(seed=seeds[split]),
  )
  # The search for the noise takes seconds.
  noise_for = accounting.noise_for
  monkeypatch.setattr(accounting, 'noise_for', lambda *a: 0.9)
  return noise_for


def devices(monkeypatch, count):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: mesh)


@pytest.fixture
def secret(tmp_path):
  path = tmp_path / 'secret'
  path.write_text('0123456789abcdef' * 4)
  return str(path)


def params(workdir, step=6):
  with ocp.PyTreeCheckpointer() as checkpointer:
    found = checkpointer.restore(workdir / f'checkpoints/{step}/state')
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(found['params'])])


def written(workdir):
  return json.loads((workdir / 'privacy.json').read_text())


def log(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_what_a_run_says_of_itself(tmp_path, secret):
  train(experiment.make(make_config()), tmp_path / 'a')
  told = written(tmp_path / 'a')
  assert told['patients'] == CASES // 2  # two images each
  assert (told['batch'], told['steps'], told['noise']) == (8, 6, 0.9)
  assert told['spent'] == told['whole']
  assert told['spent']['steps'] == 6
  rate = 8 / (CASES // 2)
  spent = accounting.epsilon(0.9, rate, 6, accounting.kept(1e-3))
  assert told['spent']['pld'] == pytest.approx(spent)
  assert told['unit'].startswith('patient')
  assert any('best checkpoint' in said for said in told['not_covered'])
  # Nothing of the loss of training, and no patient.
  assert not any('train/loss' in line for line in log(tmp_path / 'a'))
  assert any('train/grad_norm' in line for line in log(tmp_path / 'a'))
  assert '0-1' not in (tmp_path / 'a/privacy.json').read_text()
  key = tmp_path / 'a/privacy.key'
  assert stat.S_IMODE(key.stat().st_mode) == 0o600
  # A run that says its loss says that too.
  train(experiment.make(make_config(log_loss=True)), tmp_path / 'b')
  assert any('train/loss' in line for line in log(tmp_path / 'b'))
  assert any('loss' in said for said in written(tmp_path / 'b')['not_covered'])


def test_a_secret_is_all_the_chance_there_is(tmp_path, secret, monkeypatch):
  run = lambda name, **p: train(
    experiment.make(make_config(**p)), tmp_path / name
  )
  run('one', key=secret)
  run('same', key=secret)
  run('other')  # of the same seed
  one, same, other = (params(tmp_path / k) for k in ('one', 'same', 'other'))
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).max() > 1e-3
  devices(monkeypatch, 4)
  run('four', key=secret)
  np.testing.assert_allclose(params(tmp_path / 'four'), one, atol=1e-4)


def test_two_runs_of_one_secret_share_no_noise(tmp_path, secret):
  def begun(name, cases=CASES, **privacy):
    made = experiment.make(make_config(key=secret, **privacy))
    of_training = make_cases(cases)
    made = dataclasses.replace(made, cases=lambda split: of_training)
    mesh, folder = engine.make_mesh(), tmp_path / name
    found = private.begin(made, folder, of_training, mesh)
    return found.draws.secret, jax.random.key_data(found.key).tobytes()

  one = begun('one')
  assert begun('same') == begun('one') == one  # again, and gone on with
  others = begun('clipped', clip_norm=2.0), begun('louder', noise=2.7)
  others += (begun('fewer', cases=CASES - 2),)
  for kind in range(2):
    assert len({one[kind], *(each[kind] for each in others)}) == 4
  # One that was begun before privacy.json said that goes on as it was.
  told = written(tmp_path / 'one')
  told.pop('run'), told.pop('sha256')
  files.write_json(tmp_path / 'one/privacy.json', told, sealed=True)
  old = begun('one')
  assert old != one
  assert begun('one') == old


def test_a_resumed_run_spends_nothing_twice(tmp_path, secret, monkeypatch):
  made = experiment.make(make_config(key=secret))
  train(made, tmp_path / 'whole')
  scalars = Writer.scalars

  def fail(self, step, values):
    scalars(self, step, values)
    if step == 4:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(Writer, 'scalars', fail)
    with pytest.raises(KeyboardInterrupt):
      train(made, tmp_path / 'killed')
  assert written(tmp_path / 'killed')['spent']['steps'] == 4
  train(made, tmp_path / 'killed')
  # Step 4 was taken twice, with the same patients and the same noise.
  np.testing.assert_array_equal(
    params(tmp_path / 'killed'), params(tmp_path / 'whole')
  )
  assert written(tmp_path / 'killed') == written(tmp_path / 'whole')


def test_a_run_stops_when_its_budget_is_spent(tmp_path, capsys):
  target = accounting.epsilon(0.9, 8 / 30, 4, accounting.kept(1e-3)) + 1e-3
  config = make_config(noise=0.9)
  config.privacy.epsilon = target
  train(experiment.make(config), tmp_path)
  told = written(tmp_path)
  assert (told['steps'], told['spent']['steps']) == (4, 4)
  assert told['spent']['pld'] <= target
  assert 'in 4 steps, the whole budget' in capsys.readouterr().out
  # Nor does it go on, not for more steps either.
  config.train.steps = 9
  train(experiment.make(config), tmp_path)
  assert written(tmp_path)['spent']['steps'] == 4


def test_a_workdir_of_another_budget_or_of_others(tmp_path, monkeypatch):
  train(experiment.make(make_config()), tmp_path, until=3)
  fewer = lambda config, split: make_cases(CASES - 2)
  with monkeypatch.context() as patch:
    patch.setattr(experiment, 'open_cases', fewer)
    with pytest.raises(ValueError, match='of other patients, or of another'):
      train(experiment.make(make_config()), tmp_path)
  with pytest.raises(ValueError, match='of another budget, and its noise may'):
    train(experiment.make(make_config(clip_norm=2.0)), tmp_path)
  (tmp_path / 'privacy.key').rename(tmp_path / 'gone')
  with pytest.raises(FileNotFoundError, match='holds the secret of the noise'):
    train(experiment.make(make_config()), tmp_path)
  (tmp_path / 'gone').rename(tmp_path / 'privacy.key')
  told = written(tmp_path)
  (tmp_path / 'privacy.json').write_text(json.dumps(told | {'noise': 9.0}))
  with pytest.raises(ValueError, match=r'privacy\.json is damaged'):
    train(experiment.make(make_config()), tmp_path)
  (tmp_path / 'privacy.json').unlink()
  with pytest.raises(ValueError, match=r'holds a run, but no privacy\.json'):
    train(experiment.make(make_config()), tmp_path)
  assert budget.read(tmp_path) is None


def changed(**fields):
  config = make_config()
  with config.unlocked():
    config.update_from_flattened_dict(fields)
  return config


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'model.batch_norm': True}, r"BatchNorm .*GroupNorm, model\.norm='group'"),
    ({'augment': (dict(name='mixup', num_classes=2),)}, 'out of mixup'),
    ({'augment': (dict(name=f'{HERE}:swapped'),)}, 'mixes the patients of a'),
    ({'members': 3}, r'members=3 would spend privacy\.epsilon in every run'),
    ({'privacy.delta': 0.05}, r'privacy\.delta=0\.05: one of 30 patients'),
    ({'privacy.delta': 0.0}, r'privacy\.delta must be above 0'),
    ({'privacy.clip_norm': 0.0}, r'privacy\.clip_norm must be above 0'),
    ({'privacy.noise': 0.0}, r'privacy\.noise must be above 0'),
    ({'data.batch_size': 0}, r'data\.batch_size is 0: .*30 patients'),
    ({'data.batch_size': 31}, r'data\.batch_size is 31: .*1 to 30'),
    ({'train.microbatches': 2}, r'train\.microbatches has no meaning'),
    ({'inference.ood': ('energy', 'mahalanobis')}, r'inference\.ood keeps'),
    ({'adapt.name': 'mixstyle'}, "adapt.name='mixstyle' mixes patients"),
  ],
)  # fmt: skip
def test_what_no_epsilon_would_cover(fields, said, tmp_path):
  with pytest.raises(ValueError, match=said):
    train(experiment.make(changed(**fields)), tmp_path)
  assert not (tmp_path / 'privacy.json').exists()


def test_losses_over_the_batch(tmp_path):
  made = experiment.make(make_config())
  for field, said in (
    ('over_batch', 'the loss of Sum is one over the whole batch'),
    ('from_train', 'Sum keeps curves of the training cases'),
  ):
    kind = type('Sum', (type(made.task),), {field: True})
    task = object.__new__(kind)
    task.__dict__.update(vars(made.task))
    with pytest.raises(ValueError, match=said):
      train(dataclasses.replace(made, task=task), tmp_path)


def test_a_secret_that_can_be_guessed(tmp_path):
  (tmp_path / 'short').write_text('abc')
  config = make_config(key=str(tmp_path / 'short'))
  with pytest.raises(ValueError, match='has 3 bytes, which can be guessed'):
    train(experiment.make(config), tmp_path / 'run')


def test_the_noise_is_found_for_the_steps(tmp_path, one_device, monkeypatch):
  monkeypatch.setattr(accounting, 'noise_for', one_device)
  made = experiment.make(make_config())
  train(made, tmp_path, until=1)
  told = written(tmp_path)
  assert 7.8 < told['whole']['pld'] <= 8.0 < told['whole']['rdp']
  assert told['spent']['steps'] == 1
  assert told['spent']['pld'] < told['whole']['pld']
