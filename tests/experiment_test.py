import numpy as np
import PIL.Image
import pytest

from medjax import experiment
from medjax.config import default_config


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
  [('fold0+fold1', 'fold1'), ('a', 'a[:50%]'), ('a[:5]', 'a'), ('a[:5]',) * 2],
)
def test_a_part_in_two_splits_is_refused(train, test):
  config = default_config()
  config.data.splits = dict(train=train, validation='other', test=test)
  with pytest.raises(ValueError, match=r'data\.splits: .* too'):
    experiment.make(config)
