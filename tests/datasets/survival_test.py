"""Survival tables as prepared sets: their columns, splits and times."""

import pathlib

import numpy as np
import pytest

from medjax import experiment
from medjax.data import builders, records
from medjax.data.facts import DataFacts
from medjax.prepare import prepare
from medjax.public import read_config

CONFIG = pathlib.Path(__file__).resolve().parents[2] / 'configs/survival.py'


def test_metabric(shared_data, tmp_path):
  pytest.importorskip('h5py')
  name, manual = 'survival/metabric', shared_data('survival')
  prepare(name, data_dir=tmp_path, manual_dir=manual)
  counts = records.info(name, tmp_path)['splits']
  assert (counts['train'], counts['test']) == (1523, 381)
  folds = {k: n for k, n in counts.items() if k.startswith('fold')}
  assert sum(folds.values()) == 1904
  assert max(folds.values()) - min(folds.values()) <= 2
  test = records.open_split(name, 'test', tmp_path)
  times = np.array([case['time'] for case in test])
  assert times.min() > 0  # the file has one of 0
  assert 'image' not in test[0]
  facts = DataFacts.of(records.open_split(name, 'train', tmp_path))
  assert facts.covariate_names[-1] == 'age'
  assert len(facts.covariate_statistics) == 9
  assert facts.rank == facts.channels == 0
  assert facts.event_times[-1] == pytest.approx(355.2, abs=0.01)


def test_pbc2(shared_data, tmp_path):
  prepare('survival/pbc2', data_dir=tmp_path, manual_dir=shared_data('pbc2'))
  every = [
    case
    for k in range(5)
    for case in records.open_split('survival/pbc2', f'fold{k}', tmp_path)
  ]
  assert np.bincount([c['event'] for c in every]).tolist() == [143, 140, 29]
  for k in range(5):
    fold = records.open_split('survival/pbc2', f'fold{k}', tmp_path)
    assert sum(c['event'] == 2 for c in fold) in (5, 6)


def splits_of(variant, data_dir, manual_dir):
  config = read_config(f'{CONFIG}:{variant}')
  config.data.update(data_dir=str(data_dir), manual_dir=str(manual_dir))
  made = experiment.make(config)
  return [list(made.cases(split)) for split in experiment.SPLITS]


def test_a_sorted_file_is_not_cut(shared_data, tmp_path):
  pytest.importorskip('h5py')
  parts = splits_of('gbsg,deepsurv', tmp_path, shared_data('survival'))
  assert [len(part) for part in parts] == [1236, 310, 686]
  train, validation, _ = (
    np.mean([case['event'] for case in part]) for part in parts
  )
  assert abs(train - validation) < 0.05  # .55 and .92 of the last fifth


def test_rows_that_agree_are_one_patient_of_one_split(
  shared_data, tmp_path, capsys
):
  pytest.importorskip('h5py')
  parts = splits_of('whas', tmp_path, shared_data('survival'))
  assert '229 of the 328 rows of its test split' in capsys.readouterr().out
  counts = records.info('survival/whas', tmp_path)['splits']
  assert [*counts] == [f'fold{k}' for k in range(5)]
  assert sum(counts.values()) == 1638
  rows = [
    {(*c['covariates'].tolist(), float(c['time']), int(c['event'])) for c in p}
    for p in parts
  ]
  assert len(set.union(*rows)) == sum(map(len, rows)) == 735
  every = records.open_split('survival/whas', '+'.join(counts), tmp_path)
  assert len({case['patient'] for case in every}) == 735


def test_without_the_file_it_says_where_it_is(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'support_train_test\.h5 from'):
    prepare('survival/support', data_dir=tmp_path, manual_dir=tmp_path)


def test_tables_that_are_what_they_were_stay_in_use(tmp_path):
  """Their sets of before are there, and their files may not be."""
  found = {
    name: str(
      builders.load(
        *builders.find(f'survival/{name}'), data_dir=tmp_path
      ).version
    )
    for name in ('metabric', 'support', 'pbc2', 'gbsg', 'whas')
  }
  assert [*found.values()] == ['1.0.0'] * 3 + ['1.1.0'] * 2
