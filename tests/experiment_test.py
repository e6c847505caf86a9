import json
import pathlib

import flax.linen as nn
import ml_collections
import numpy as np
import PIL.Image
import pytest

from medjax import config as config_lib
from medjax import experiment
from medjax.config import default_config
from medjax.run import checkpoint


@pytest.fixture
def config(tmp_path):
  """Ten pictures of ten patients, a table, and a config that names them."""
  lines = ['file,grade,who']
  for i in range(10):
    array = np.full((4, 4), i, np.uint8)
    PIL.Image.fromarray(array).save(tmp_path / f'{i}.png')
    lines.append(f'{i}.png,{("low", "high")[i % 2]},P{i}')
  (tmp_path / 'grades.csv').write_text('\n'.join(lines))
  config = default_config()
  config.data.update(name='folder', path=str(tmp_path), table='grades.csv')
  config.data.fields.update(image='{file}', label='grade', patient='who')
  config.task = dict(name='Classification')
  config.model = dict(name='LeNet5')
  return config


def test_folds_of_a_folder(config):
  config.data.folds = 5
  config.data.splits = dict(
    train='fold2+fold3+fold4', validation='fold1', test='fold0'
  )
  made = experiment.make(config)
  cases = {split: made.cases(split) for split in experiment.SPLITS}
  assert {s: len(c) for s, c in cases.items()} == {
    'train': 6,
    'validation': 2,
    'test': 2,
  }
  assert made.task.class_names == made.facts.class_names == ('high', 'low')
  assert (made.task.num_classes, made.facts.channels, made.facts.rank) == (
    2,
    1,
    2,
  )
  assert 'class_names' not in made.config['task']
  assert len({c['patient'] for s in cases.values() for c in s}) == 10


def test_the_order_of_the_classes_is_that_of_the_task(config):
  config.task.class_names = ('low', 'high')
  for case in experiment.make(config).cases('train'):
    assert case['label'] == case['image'].max() % 2


@pytest.mark.parametrize(
  ('train', 'test'),
  [
    ('fold0+fold1', 'fold1'), ('a', 'a[:50%]'), ('a[:5]', 'a'),
    ('a[:5]',) * 2, ('a[:80%]', 'a[75%:]'), ('b+a[:30]', 'a[20:25]'),
    ('a', 'a[-5:]'), ('a[-5:]',) * 2, ('a[:90%]', 'a[-20%:]'),
    ('a[:-5]', 'a[-9:]'), ('a[-30%:-10%]', 'a[80%:85%]'),
  ],
)  # fmt: skip
def test_a_part_in_two_splits_is_refused(train, test):
  config = default_config()
  config.data.splits = dict(train=train, validation='other', test=test)
  with pytest.raises(ValueError, match=r'data\.splits: .* too'):
    experiment.make(config)


@pytest.mark.parametrize(
  ('train', 'test'),
  [
    ('a[:80%]', 'a[80%:]'), ('a[:80%]', 'b[:80%]'), ('a[:80%]', 'b[-5:]'),
    ('a[:80%]', 'a[80%:90%]+b'), ('a[:80%]', 'a[-20%:]'),
    ('a[:-100]', 'a[-100:]'), ('a[-30%:-10%]', 'a[-10%:]'),
  ],
)  # fmt: skip
def test_parts_that_share_nothing_are_taken(train, test):
  config_lib.check_splits({'train': train, 'test': test})


@pytest.mark.parametrize(
  ('train', 'test'),
  [
    ('a[:90]', 'a[-20:]'),
    ('a[20%:]', 'a[:80]'),
    ('a[:80%]', 'b+a[-5:]'),
    ('a[0shard]', 'a[1shard]'),
  ],
)
def test_parts_that_may_share_cases_are_refused(train, test):
  with pytest.raises(ValueError, match=r"cannot be told: .* 'a\[80%:\]'"):
    config_lib.check_splits({'train': train, 'test': test})


def ids(config):
  made = experiment.make(config)
  return [sorted(c['id'] for c in made.cases(s)) for s in experiment.SPLITS]


def test_the_seed_of_the_data_divides_a_folder_that_of_the_run_does_not(config):
  one = ids(config)
  config.seed = 2
  assert ids(config) == one
  config.data.seed = 1
  assert ids(config) != one


def test_a_share_of_the_training_patients_validates(config):
  plain = ids(config)
  config.data.held_out = 0.3
  train, validation, test = ids(config)
  assert sorted(train + validation) == plain[0]
  assert 0 < len(validation) < len(train)
  assert test == plain[2]
  config.seed = 7
  assert ids(config) == [train, validation, test]
  config.data.held_out = 0.01
  with pytest.raises(ValueError, match=r'held_out=0.01 of .* none'):
    ids(config)


def test_two_folds_validate_within_the_other(config):
  config.folds = config.data.folds = 2
  with pytest.raises(ValueError, match=r'folds=2: .* data.held_out'):
    experiment.make(config)
  config.data.held_out = 0.25
  members = [e for _, e in experiment.make(config).members]
  splits = [[{c['id'] for c in e.cases(s)} for s in experiment.SPLITS]
            for e in members]  # fmt: skip
  for train, validation, test in splits:
    assert min(len(train), len(validation)) > 0
    assert not train & validation
    assert len(train | validation | test) == 10
    assert not (train | validation) & test
  assert not splits[0][2] & splits[1][2]


def test_members_share_the_data_and_differ_in_their_seed(config):
  config.members = 3
  made = experiment.make(config)
  assert [(f, e.seed) for f, e in made.members] == [
    ('member0', 0), ('member1', 1), ('member2', 2),
  ]  # fmt: skip
  assert len({id(e.cases) for _, e in made.members}) == 1
  config.members, config.folds, config.data.folds = 1, 3, 3
  made = experiment.make(config)
  tests = [[c['id'] for c in e.cases('test')] for _, e in made.members]
  every = [name for part in tests for name in part]
  assert len(every) == len(set(every)) == 10


def test_a_workdir_is_enough_to_build_it_again(config, tmp_path, monkeypatch):
  made = experiment.make(config)
  made.store(tmp_path / 'run')
  opened = lambda *args: pytest.fail('the data are opened')
  monkeypatch.setattr(experiment, 'open_cases', opened)
  again = experiment.restore(tmp_path / 'run')
  assert (again.task, again.facts) == (made.task, made.facts)
  assert (again.model, again.digest) == (made.model, made.digest)
  with pytest.raises(FileNotFoundError, match='holds no run'):
    experiment.restore(tmp_path)


def test_only_the_experiment_and_the_commands_see_a_config_dict():
  """Everything below takes plain arguments."""
  home = pathlib.Path(experiment.__file__).parent
  allowed = {
    'config.py', 'defaults.py', 'experiment.py', 'main.py', 'overrides.py',
    'parts.py', 'public.py',
    'survey/arguments.py',  # the flags of inspect and plan
  }  # fmt: skip
  for path in home.rglob('*.py'):
    if path.relative_to(home).as_posix() not in allowed:
      text = path.read_text()
      assert 'ConfigDict' not in text, path
      assert 'ml_collections' not in text, path


@pytest.mark.parametrize(
  'field',
  [
    {'task': {'name': 'subprocess:Popen', 'args': 'true'}},
    {'model': {'name': 'EncoderDecoder', 'backbone': {'name': 'os:system'}}},
    {'augment': [{'name': 'views', 'augment': [{'name': 'os:system'}]}]},
    {'data.preprocess': [{'name': 'os:system'}]},
    {'optimizer.name': 'os:system'},
    {'schedule.name': 'os:system'},
    {'task.loss': {'os:system': 1.0}},
    # What is built is not always below a name that says so.
    {'augment': [{'name': 'views', 'path': [{'name': 'os:system'}]}]},
    {'model': {'name': 'EncoderDecoder', 'where': {'name': 'os:system'}}},
    # A colon more, or a name that is no word, is imported too.
    {'task.loss': {'os:system:x': 1.0}},
    {'schedule.name': 'my-module:f'},
    # It is ours, and runs a file.
    {'schedule': {'name': 'medjax.public:read_config', 'file': 'run/f.py'}},
  ],
)
def test_a_workdir_of_others_runs_no_code(config, tmp_path, field):
  experiment.make(config).store(tmp_path / 'run')
  path = tmp_path / 'run/config.json'
  stored = json.loads(path.read_text())
  del stored['sha256']  # as others can
  ((name, value),) = field.items()
  *groups, last = name.split('.')
  part = stored[groups[0]] if groups else stored
  part[last] = value
  path.write_text(json.dumps(stored))
  with pytest.raises(ValueError, match=r'outside of medjax.*--trust'):
    experiment.restore(tmp_path / 'run')


@pytest.mark.parametrize('name', ['blobs.py', 'blobs.py/small'])
def test_a_builders_file_of_others_is_not_run_by_what_loads(
  config, tmp_path, name
):
  """As a service does, which predicts on data of its own."""
  experiment.make(config).store(tmp_path / 'run')
  (tmp_path / 'blobs.py').write_text(f"open('{tmp_path}/ran', 'w')")
  config.data.name = str(tmp_path / name)
  config_lib.store(config, tmp_path / 'run')
  found = experiment.restore(tmp_path / 'run')
  with pytest.raises(ValueError, match=r'outside of medjax.*--trust'):
    found.cases('test')
  with pytest.raises(ValueError, match=r'outside of medjax.*--trust'):
    experiment.refuse_foreign(config, tmp_path / 'run')
  assert not (tmp_path / 'ran').exists()


def test_a_config_given_for_a_workdir_need_not_name_all(config, tmp_path):
  config.folds = config.data.folds = 5
  for name, one in experiment.make(config).members:
    one.store(tmp_path / 'run' / name)
  fields = ('name', 'path', 'table', 'fields', 'folds')
  few = {k: v for k, v in config.data.to_dict().items() if k in fields}
  whole = ml_collections.ConfigDict(config.to_dict() | {'data': few})
  found = experiment.restore(tmp_path / 'run', config=whole)
  assert len(found.members) == 5


# Said before anything is trained.


class Plain(nn.Module):
  """A model that does not know whether it trains."""

  num_classes: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.num_classes)(x)


def test_a_folder_is_told(config):
  """The current one, whatever lies in it, was taken for it."""
  config.data.path = ''
  with pytest.raises(ValueError, match=r'--config\.data\.path=FOLDER'):
    experiment.make(config)


def test_what_cannot_be_trained_is_said_at_once(config, tmp_path):
  config.data.patch_size = (2, 2, 2)
  with pytest.raises(ValueError, match=r'patch_size .* is not 2 sizes'):
    experiment.make(config)
  config.data.patch_size = ()
  config.model = dict(name=f'{__name__}:Plain')
  with pytest.raises(ValueError, match='takes no `train`'):
    experiment.make(config)
  config.model = dict(name='LeNet5')
  config.folds = 3
  with pytest.raises(ValueError, match=r'say data\.folds=3 too'):
    experiment.make(config)
  (tmp_path / 'cv/fold0/checkpoints').mkdir(parents=True)
  with pytest.raises(ValueError, match=r'holds 1 runs.*cv/fold0'):
    checkpoint.best_variables(tmp_path / 'cv')


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('path', 'study'), ('table', 'a.csv'), ('where', 'sex=f'), ('ignore', 0),
    ('patient', 'dicom'), ('group', 'duplicates'), ('folds', 5),
    ('mask_values', {255: 1}), ('uncertain', 'zero'), ('hash_ids', 'salt'),
    ('fractions', (0.8, 0.1, 0.1)), ('fields', {'label': 'grade'}),
  ],
)  # fmt: skip
def test_a_prepared_set_heeds_no_field_of_a_folder(field, value):
  config = default_config()
  config.data.update(name='mni152_tissue')
  config.task = dict(name='Classification')
  config.data.update({field: value})
  with pytest.raises(ValueError, match=rf"data\.{field} is for .*'folder'"):
    experiment.make(config)


def test_a_part_given_whole_keeps_the_defaults(config):
  config.optimizer = dict(name='sgd', learning_rate=0.1, momentum=0.9)
  config.schedule = dict(name='poly', power=2.0)
  config.data.splits = dict(train='train', validation='validation', test='test')
  made = experiment.make(config)
  assert made.config['optimizer'] == {
    'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 0.0,
    'clip_norm': 0.0, 'freeze': [], 'layer_decay': 1.0,
  }  # fmt: skip
  assert made.config['schedule'] == {
    'name': 'poly', 'power': 2.0, 'warmup_steps': 0,
  }  # fmt: skip
  made.optimizer((np.zeros((1, 4, 4, 1), np.float32),))


@pytest.mark.parametrize('field', ['stpes', 'data.fields.imgae', 'train.x'])
def test_a_field_that_there_is_not_is_refused_in_a_file_too(config, field):
  with pytest.raises(ValueError, match=f'no config field {field}'):
    experiment.make(_with(config, field))


def _with(config, field):
  *parts, name = field.split('.')
  place = config
  for part in parts:
    place = place[part]
  place[name] = 1
  return config
