import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from medjax import engine
from medjax.run.checkpoint import Checkpointer, best_variables


def make_state(step, *, ema=False, batch_norm=True):
  params = {'dense': {'kernel': jnp.full((2, 3), float(step))}}
  return engine.TrainState(
    step=jnp.array(step, jnp.int32),
    params=params,
    variables={'batch_stats': {'mean': jnp.ones(3)}} if batch_norm else {},
    opt_state=(jax.tree.map(jnp.zeros_like, params), jnp.array(step)),
    ema=jax.tree.map(lambda x: x + 0.5, params) if ema else None,
  )


def metrics(loss=0.0):
  return engine.TrainMetrics.single_from_model_output(
    loss=jnp.array([loss]), grad_norm=1.0, step=0, finite=True
  )


def save(workdir, scores, **options):
  """One checkpoint per score, at steps 1, 2, …; None: saved without one."""
  history = []
  with Checkpointer(workdir) as checkpoints:
    for step, score in enumerate(scores, start=1):
      if score is not None:
        history = [*history, [step, score]]
      checkpoints.save(make_state(step, **options), metrics(), history)
      checkpoints.wait()


@pytest.mark.parametrize(
  ('scores', 'best', 'latest'),
  [
    ([0.1, 0.3, 0.2], 2, 3),
    ([0.3, 0.1, 0.2, 0.25], 1, 4),
    ([0.3, None], 1, 2),  # stopped by a signal: newest, never best
    ([None, None], 2, 2),  # no score at all: the newest
    ([float('nan'), float('nan')], 2, 2),
    ([0.2, float('nan')], 1, 2),
    ([-1.0, -2.0], 1, 2),
  ],
)
def test_best_and_newest_are_kept(tmp_path, scores, best, latest, caplog):
  save(tmp_path, scores)
  caplog.clear()
  with Checkpointer(tmp_path, read_only=True) as checkpoints:
    assert checkpoints.best_step() == best
    assert checkpoints.latest_step() == latest
  assert not [r for r in caplog.records if 'read' in r.getMessage()]
  kept = {int(p.name) for p in (tmp_path / 'checkpoints').iterdir()}
  assert kept == {best, latest, max(latest - 1, 1)}  # the last but one too


def test_of_equal_scores_one_is_best(tmp_path):
  save(tmp_path, [0.5, 0.5, 0.4])
  step, variables = best_variables(tmp_path)
  assert step in (1, 2)
  assert (variables['params']['dense']['kernel'] == step).all()


@pytest.mark.parametrize('ema', [False, True])
def test_restores_all_of_it(tmp_path, ema):
  state, history = make_state(7, ema=ema), [[3, 0.25], [7, float('nan')]]
  with Checkpointer(tmp_path) as checkpoints:
    checkpoints.save(state, metrics(0.3), history)
  with Checkpointer(tmp_path) as checkpoints:
    found, found_metrics, found_history = checkpoints.restore_newest(
      make_state(0, ema=ema), metrics()
    )
  assert jax.tree.structure(found) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, found, state)
  jax.tree.map(np.testing.assert_array_equal, found_metrics, metrics(0.3))
  np.testing.assert_array_equal(found_history, history)


@pytest.mark.parametrize('devices', [2, 8])
def test_restores_into_another_sharding(tmp_path, devices):
  def place(state, devices, shard_above):
    mesh = engine.make_mesh(jax.devices()[:devices])
    sharding = engine.state_sharding(state, mesh, shard_above=shard_above)
    return jax.device_put(state, sharding)

  state = make_state(3)
  state.params['dense']['kernel'] = jnp.arange(24.0).reshape(3, 8)
  with Checkpointer(tmp_path) as checkpoints:
    checkpoints.save(place(state, 8, 16), metrics(), [])
  template = place(jax.tree.map(jnp.zeros_like, state), devices, 24)
  with Checkpointer(tmp_path) as checkpoints:
    found, *_ = checkpoints.restore_newest(template, metrics())
  jax.tree.map(np.testing.assert_array_equal, found, state)
  kernel = found.params['dense']['kernel']
  assert kernel.addressable_data(0).shape == (3, 8 // devices)
  assert found.step.is_fully_replicated


@pytest.mark.parametrize('ema', [False, True])
@pytest.mark.parametrize('batch_norm', [False, True])
def test_variables_are_those_of_evaluation(tmp_path, ema, batch_norm):
  save(tmp_path, [0.5], ema=ema, batch_norm=batch_norm)
  step, found = best_variables(tmp_path)
  expected = make_state(1, ema=ema, batch_norm=batch_norm).eval_variables
  assert step == 1
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(found))


def test_a_half_written_checkpoint_does_not_exist(tmp_path):
  save(tmp_path, [0.5])
  folder = tmp_path / 'checkpoints'
  shutil.copytree(folder / '1', folder / '9.orbax-checkpoint-tmp')
  with Checkpointer(tmp_path) as checkpoints:
    assert checkpoints.latest_step() == checkpoints.best_step() == 1
    checkpoints.save(make_state(9), metrics(), [[9, 0.1]])
  assert {p.name for p in folder.iterdir()} == {'1', '9'}


def test_a_step_is_saved_once(tmp_path):
  save(tmp_path, [0.5])
  with Checkpointer(tmp_path) as checkpoints:
    checkpoints.save(make_state(1), metrics(), [])
    assert checkpoints.best_step() == 1


def test_a_full_disk(tmp_path, monkeypatch):
  usage = shutil.disk_usage(tmp_path)._replace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  with (
    Checkpointer(tmp_path) as checkpoints,
    pytest.raises(OSError, match='no room for a checkpoint of 1 MiB'),
  ):
    checkpoints.save(make_state(1), metrics(), [])


def test_no_checkpoint(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no whole checkpoint'):
    best_variables(tmp_path)


def files_of(workdir, step):
  folder = workdir / 'checkpoints' / str(step)
  return [p for p in sorted(folder.rglob('*')) if p.is_file()]


@pytest.mark.parametrize('damage', ['truncate', 'delete', 'flip'])
def test_a_damaged_checkpoint_falls_back_to_a_whole_one(
  tmp_path, damage, capsys
):
  """Whatever file of the newest is damaged, nothing wrong is read."""
  save(tmp_path, [0.1, 0.2])
  for i in range(len(files_of(tmp_path, 2))):
    copy = tmp_path / f'copy{i}'
    shutil.copytree(tmp_path / 'checkpoints', copy / 'checkpoints')
    path = files_of(copy, 2)[i]
    data = path.read_bytes()
    if damage == 'delete':
      path.unlink()
    elif damage == 'flip' and data:
      place = len(data) // 2
      flipped = bytes([data[place] ^ 1])
      path.write_bytes(data[:place] + flipped + data[place + 1 :])
    else:
      half = data[: len(data) // 2]
      path.write_bytes(half if damage == 'truncate' else bytes(len(data)))
    capsys.readouterr()
    step, variables = best_variables(copy)
    assert (variables['params']['dense']['kernel'] == step).all(), path
    with Checkpointer(copy) as checkpoints:
      state, _, history = checkpoints.restore_newest(make_state(0), metrics())
      assert (state.params['dense']['kernel'] == int(state.step)).all(), path
      assert len(history) == int(state.step), path
      said = capsys.readouterr().err
      if int(state.step) == 1:
        assert 'is damaged' in said
        aside = copy / 'damaged-checkpoint-2'  # nothing is deleted
        assert len([p for p in aside.rglob('*') if p.is_file()]) >= i
        assert all(len(line) < 400 for line in said.splitlines())
        # What was damaged is written again.
        checkpoints.save(make_state(2), metrics(), [[1, 0.1], [2, 0.2]])
        checkpoints.wait()
        assert checkpoints.latest_step() == 2


@pytest.mark.parametrize(
  'error',
  [
    OSError(116, 'Stale file handle'),
    MemoryError(),
    jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory on device'),
    ValueError('UNKNOWN: Error reading file [OS error 5: Input/output error]'),
  ],
)
def test_what_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch, error):
  save(tmp_path, [0.1, 0.2, 0.3])

  def read(self, step, **_):
    raise error

  for name in ('restore', 'metrics'):
    with monkeypatch.context() as m, Checkpointer(tmp_path) as checkpoints:
      m.setattr(ocp.CheckpointManager, name, read)
      if name == 'restore':
        with pytest.raises(ValueError, match=r'/3 could not be read: .*; try'):
          checkpoints.restore_newest(make_state(0), metrics())
      elif isinstance(error, MemoryError | jax.errors.JaxRuntimeError):
        continue
      with pytest.raises(ValueError, match=r'/\d could not be read: .*; try'):
        best_variables(tmp_path)
  kept = {p.name for p in (tmp_path / 'checkpoints').iterdir()}
  assert kept == {'2', '3'}
  assert best_variables(tmp_path)[0] == 3


def test_a_checkpoint_of_another_model_is_not_damaged(tmp_path):
  save(tmp_path, [0.1, 0.2])
  wide, more = make_state(0), make_state(0)
  wide.params['dense']['kernel'] = jnp.zeros((2, 4))
  more.params['head'] = jnp.zeros(3)
  with Checkpointer(tmp_path) as checkpoints:
    for template in (wide, more):
      with pytest.raises(
        ValueError, match='config or the data are others'
      ) as e:
        checkpoints.restore_newest(template, metrics())
      assert '\n' not in str(e.value)
    state, *_ = checkpoints.restore_newest(make_state(0), metrics())
  assert int(state.step) == 2


def test_what_only_reads_moves_nothing(tmp_path, capsys):
  """The folder may be a share, or that of a training that is saving."""
  save(tmp_path, [0.1, 0.2])
  folder = tmp_path / 'checkpoints'
  (folder / '2/metrics/metrics').write_text('')
  saving = folder / '9.orbax-checkpoint-tmp/metrics'
  saving.mkdir(parents=True)
  (saving / 'metrics').touch()
  assert best_variables(tmp_path)[0] == 1
  assert '2 is damaged: it has no score' in capsys.readouterr().err
  assert (saving / 'metrics').exists()
  assert (folder / '2/metrics/metrics').exists()
  with Checkpointer(tmp_path) as checkpoints:  # goes on training
    assert checkpoints.latest_step() == 1
  assert {p.name for p in tmp_path.iterdir()} == {
    'checkpoints', 'damaged-checkpoint-2',
  }  # fmt: skip


def test_no_whole_checkpoint_is_said(tmp_path):
  save(tmp_path, [0.1])
  for path in files_of(tmp_path, 1):
    path.write_bytes(b'')
  with pytest.raises(ValueError, match='no checkpoint is whole') as e:
    best_variables(tmp_path)
  assert 'delete' not in str(e.value)


@pytest.mark.parametrize('name', ['a[1]', 'a*', 'what?'])
def test_a_name_that_orbax_would_look_for_by_patterns(tmp_path, name):
  with pytest.raises(ValueError, match='take a --workdir without it'):
    Checkpointer(tmp_path / name)


def test_a_name_that_is_no_utf8_is_refused_before_training(tmp_path):
  """So are all umlauts where the locale is ASCII."""
  with pytest.raises(ValueError, match='is no UTF-8'):
    Checkpointer(tmp_path / os.fsdecode(b'\xe9'))
  assert not [*tmp_path.iterdir()]


def test_a_name_with_a_blank(tmp_path):
  save(tmp_path / 'a run', [0.5])
  assert best_variables(tmp_path / 'a run')[0] == 1


def test_a_checkpoint_from_before_there_were_digests(tmp_path):
  save(tmp_path, [0.5])
  shutil.rmtree(tmp_path / 'checkpoints/1/digests')
  assert best_variables(tmp_path)[0] == 1
  with Checkpointer(tmp_path) as checkpoints:
    state, *_ = checkpoints.restore_newest(make_state(0), metrics())
  assert int(state.step) == 1
