"""A search space sets fields that a config has."""

import pathlib

import pytest

from medjax.search import space

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f'{ROOT}/configs/unet.py'


def test_fields_are_set():
  made = space.configured(
    CONFIG,
    {'optimizer.learning_rate': 0.5, 'config.train.ema_decay': 0.9,
     'optimizer.b1': 0.8},
  )  # fmt: skip
  assert made.optimizer.learning_rate == 0.5
  assert made.train.ema_decay == 0.9
  assert made.optimizer.b1 == 0.8  # an argument of what is named


@pytest.mark.parametrize(
  ('field', 'message'),
  [
    ('optimzer.learning_rate', "did you mean 'optimizer'"),
    ('train.ema_deccay', "did you mean 'ema_decay'"),
    ('train.log_every.x', "'train.log_every.x', which the config has not"),
  ],
)
def test_a_typo_is_found(field, message):
  with pytest.raises(ValueError, match=message):
    space.configured(CONFIG, {field: 1})


@pytest.mark.parametrize(
  'field',
  ['seed', 'data.seed', 'config.data.splits.test', 'task.monitor', 'folds',
   'train.steps'],
)  # fmt: skip
def test_what_makes_scores_comparable_is_not_searched(field):
  with pytest.raises(ValueError, match='the same in all trials'):
    space.configured(CONFIG, {field: 1})


@pytest.mark.parametrize(
  ('field', 'part'),
  [
    ('task', {'name': 'Segmentation', 'monitor': 'dice'}),
    ('data', {'seed': 3}),
    ('train', {'ema_decay': 0.9}),  # the config's steps would be lost
    ('train', 5),
  ],
)
def test_nor_is_it_in_a_part_given_whole(field, part):
  with pytest.raises(ValueError, match=f"'{field}' as a whole, but '{field}"):
    space.configured(CONFIG, {field: part})
  made = space.configured(CONFIG, {'optimizer': {'name': 'sgd'}})
  assert made.optimizer.name == 'sgd'


@pytest.mark.parametrize(
  ('field', 'value'), [('data.batch_size', 38.7), ('train.ema_decay', 'much')]
)
def test_a_value_of_another_type_gets_one_line(field, value):
  with pytest.raises(ValueError, match=f'{value!r}, of type .*: make it of'):
    space.configured(CONFIG, {field: value})


def test_what_only_some_trials_set_is_found_at_once():
  draw = lambda seed: {'train.ema_deccay': 1} if seed == 9 else {}
  with pytest.raises(ValueError, match='did you mean'):
    space.check(CONFIG, draw)


def test_the_space_of_a_file(tmp_path):
  for path in (ROOT / 'configs' / 'search').glob('*.py'):
    assert callable(space.load(path))
  (tmp_path / 'a.py').write_text('x = 1')
  with pytest.raises(ValueError, match='no function space'):
    space.load(tmp_path / 'a.py')
  with pytest.raises(FileNotFoundError, match='no such file'):
    space.load(tmp_path / 'b.py')


def test_a_digest_is_of_what_is_said_and_not_of_where_it_lies(tmp_path):
  config, path = tmp_path / 'config.py', tmp_path / 'space.py'
  text = pathlib.Path(CONFIG).read_text()
  path.write_text('def space(trial): ...')

  def digest(more=''):
    made = text.replace('  return config\n', f'  {more}\n  return config\n')
    config.write_text(made)
    return space.digest(str(config), path)

  first = digest()
  assert digest() == digest("config.data.data_dir = '/elsewhere'") == first
  assert digest('config.optimizer.weight_decay = 0.123') != first
  path.write_text('''"""Words."""

def space(trial):  # more
  """And words."""
  ...
''')
  assert digest() == first
  path.write_text('def space(trial): return {}')
  assert digest() != first
