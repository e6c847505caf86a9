import pickle
import re

import numpy as np
import pytest

from medjax.data import records
from medjax.data.case import check_case
from medjax.prepare import prepare

BUILDER = """
import numpy as np
import tensorflow_datasets as tfds
from medjax.data import records
from medjax.data.case import check_case
from medjax.data.builders import Split

class Toy(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(name='plain'), tfds.core.BuilderConfig(name='many')]

  def _info(self):
    many = self.builder_config.name == 'many'
    return records.dataset_info(
      self,
      features=records.features(
        3, channels=2, dtype='int16', mask=True, label=('no', 'yes', 'maybe'),
        multi_label=many, extra=dict(
          site=str, age='float32', count='int64',
          weights=((None, 2), 'float64'), view=((None,) * 3, 'uint8'))),
      class_names=('no', 'yes', 'maybe'), license='CC0', notes=['made up'],
      description='toy', homepage='https://example.org', citation='None')

  def _split_generators(self, dl_manager):
    return {
      f'fold{f}': Split(self._generate_examples, [f]) for f in (0, 1)}

  def _generate_examples(self, fold):
    many = self.builder_config.name == 'many'
    for i in range(10):
      rng = np.random.default_rng(100 * fold + i)
      shape = (3, 4 + i, 5)
      yield records.example(dict(
        id=f'case{fold}{i}', patient=f'p{i}',
        image=rng.integers(-1000, 1000, (*shape, 2)).astype(np.int16),
        mask=rng.integers(0, 3, shape), affine=np.diag([1., 2, 3, 1]),
        label=np.array([0, 1, 1], np.uint8) if many else i % 3,
        site='Zürich', age=40.5, count=np.int64(2**40), weights=np.ones((i, 2)),
        view=rng.integers(0, 2, shape).astype(np.uint8)))
"""


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  home = tmp_path_factory.mktemp('data')
  path = home / 'toy.py'
  path.write_text(BUILDER)
  prepare(f'{path}/plain', home)
  prepare(f'{path}/many', home)
  return home


def test_round_trip(home):
  cases = records.open_split('toy/plain', 'fold1', home)
  assert len(cases) == 10
  assert cases.class_names == ('no', 'yes', 'maybe')
  by_id = {c['id']: c for c in cases}
  case = by_id['case14']
  rng = np.random.default_rng(104)
  np.testing.assert_array_equal(
    case['image'], rng.integers(-1000, 1000, (3, 8, 5, 2))
  )
  assert case['image'].dtype == np.int16
  np.testing.assert_array_equal(case['mask'], rng.integers(0, 3, (3, 8, 5)))
  assert case['patient'] == 'p4'
  assert case['label'] == 1
  assert case['label'].dtype == np.int32
  np.testing.assert_array_equal(case['affine'], np.diag([1.0, 2, 3, 1]))
  np.testing.assert_array_equal(case['spacing'], [1, 2, 3])
  assert case['site'] == 'Zürich'
  assert case['age'] == 40.5
  assert case['count'] == 2**40
  assert case['weights'].shape == (4, 2)
  np.testing.assert_array_equal(case['view'], rng.integers(0, 2, (3, 8, 5)))
  empty = by_id['case10']['weights']
  assert (empty.shape, empty.dtype) == ((0, 2), np.float64)


def test_extra_fields_have_names_of_their_own():
  with pytest.raises(ValueError, match='has it already'):
    records.features(2, extra={'spacing': 'float32'})


def test_multi_label(home):
  case = records.open_split('toy/many', 'fold0', home)[0]
  np.testing.assert_array_equal(case['label'], [0, 1, 1])


def test_split_expressions(home):
  def ids(split):
    return [c['id'] for c in records.open_split('toy/plain', split, home)]

  assert ids('fold0+fold1') == ids('fold0') + ids('fold1')
  assert ids('fold0+fold1[:50%]') == ids('fold0') + ids('fold1')[:5]
  assert ids('fold0[2:4]') == ids('fold0')[2:4]


def test_sequence(home):
  cases = records.open_split('toy/plain', 'fold0', home)
  assert cases[-1]['id'] == cases[9]['id']
  assert [c['id'] for c in cases[:2]] == [cases[0]['id'], cases[1]['id']]
  with pytest.raises(IndexError):
    cases[10]
  copy = pickle.loads(pickle.dumps(cases))
  assert copy[3]['id'] == cases[3]['id']
  assert repr(copy) == repr(cases)
  assert str(home) not in repr(cases)


def test_info(home):
  about = records.info('toy/plain', home)
  assert about['class_names'] == ('no', 'yes', 'maybe')
  assert about['splits'] == {'fold0': 10, 'fold1': 10}
  assert about['license'] == 'CC0'
  assert about['notes'] == ['made up']
  assert about['features'] == [
    'affine',
    'age',
    'count',
    'id',
    'image',
    'label',
    'mask',
    'patient',
    'site',
    'spacing',
    'view',
    'weights',
  ]


def test_bad_requests(home, monkeypatch):
  with pytest.raises(ValueError, match=r"no 'fold2'; did you mean 'fold1'"):
    records.open_split('toy/plain', 'fold0+fold2', home)
  with pytest.raises(ValueError, match='cannot give split'):
    records.open_split('toy/plain', 'fold0[:', home)
  with pytest.raises(ValueError, match='toy/many, toy/plain'):
    records.open_split('toy', 'fold0', home)
  with pytest.raises(FileNotFoundError, match=r'medjax\.prepare other'):
    records.open_split('other', 'fold0', home)
  monkeypatch.setenv('MEDJAX_DATA_DIR', str(home))
  assert len(records.open_split('toy/plain', 'fold0')) == 10


GOOD = {
  'id': 'a',
  'image': np.zeros((4, 5, 1), np.float32),
  'mask': np.zeros((4, 5), np.uint8),
}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'id': ''}, 'has no id'),
    ({'image': np.zeros((4, 5), np.float32)}, 'a: image has shape'),
    ({'image': np.zeros((4, 0, 1), np.float32)}, 'no voxels'),
    ({'image': np.full((4, 5, 1), np.nan)}, 'a: 20 of 20 voxels are NaN'),
    ({'image': np.full((4, 5, 1), np.inf)}, 'a: 20 of 20 voxels are NaN'),
    ({'mask': np.zeros((5, 4), np.uint8)}, 'a: mask has shape'),
    ({'mask': np.zeros((4, 5))}, 'mask holds float64'),
    ({'mask': np.full((4, 5), -1)}, 'mask holds -1'),
    ({'label': 0.5}, 'label 0.5 is not a whole'),
    ({'label': -1}, 'label is -1'),
    ({'label': np.array([0, 2])}, 'multi-label'),
    ({'label': np.zeros((2, 2), int)}, 'label has shape'),
    ({'affine': np.eye(4)}, 'affine must be'),
    ({'affine': np.zeros((3, 3))}, 'affine must be'),
    ({'affine': np.diag([1.0, 0, 1])}, 'affine must be'),
    ({'affine': np.diag([1.0, np.nan, 1])}, 'affine must be'),
  ],
)
def test_check_case(change, message):
  with pytest.raises(ValueError, match=re.escape(message)) as e:
    check_case({**GOOD, **change})
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('spacing', [5e-6, 0.3, 50.0])
def test_voxels_may_be_of_any_size(spacing):
  """In mm: of an electron microscope's are some nanometres."""
  affine = np.diag([spacing] * 3 + [1])
  image = np.zeros((3, 4, 5, 1), np.uint8)
  case = check_case({'id': 'a', 'image': image, 'affine': affine})
  np.testing.assert_allclose(case['spacing'], spacing)


def test_check_case_fills_in():
  case = check_case({**GOOD, 'affine': np.diag([0.5, 2, 1])})
  assert case['patient'] == 'a'
  np.testing.assert_array_equal(case['spacing'], [0.5, 2])
  # A case may have no reference.
  assert 'mask' not in check_case(
    {k: v for k, v in GOOD.items() if k != 'mask'}
  )


def test_patient_folds():
  names = [f'p{i}' for i in range(23)]
  folds = records.patient_folds(names + names[:5], folds=5, seed=3)
  assert sorted(np.bincount(list(folds.values()))) == [4, 4, 5, 5, 5]
  assert folds == records.patient_folds(names[::-1], folds=5, seed=3)
  assert folds != records.patient_folds(names, folds=5, seed=4)
