"""Nothing that medjax writes of a run names a patient, if ids are digests."""

import gzip
import json
import zlib

import flax.linen as nn
import nibabel as nib
import numpy as np
import pytest

from medjax import experiment
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.predict import predict
from medjax.report import write_report
from medjax.train import train

NAMES = ('Zebrowski', 'Ophelia', 'QMR8841770', '19370411', 'Quirinus')


class Net(nn.Module):
  """Quick to compile."""

  num_classes: int

  @nn.compact
  def __call__(self, x, *, train=False):
    return nn.Conv(self.num_classes, (1, 1, 1))(x)


def write_study(root, n=16):
  """Volumes whose names, and whose headers, name their patients."""
  rng = np.random.default_rng(0)
  for i in range(n):
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:5, 2 : 4 + i % 3, 2:5] = 1
    image = (rng.normal(50, 10, mask.shape) + 100 * mask).astype(np.int16)
    name = f'Zebrowski_Ophelia_QMR88417{70 + i}_19370411.nii.gz'
    for kind, array in (('images', image), ('masks', mask)):
      (root / kind).mkdir(parents=True, exist_ok=True)
      made = nib.Nifti1Image(array, np.eye(4))
      made.header['descrip'] = b'Zebrowski^Ophelia 19370411'
      made.header['aux_file'] = b'QMR8841770'
      made.header['db_name'] = b'Quirinus'
      nib.save(made, root / kind / name)
  return root


def texts_of(path):
  """The bytes of a file, and what its compression hides."""
  data = path.read_bytes()
  yield data
  if data[:2] == b'\x1f\x8b':
    yield gzip.decompress(data)
  if data[:4] == b'\x89PNG':
    at = 8
    while at + 8 <= len(data):
      size = int.from_bytes(data[at : at + 4])
      if data[at + 4 : at + 8] == b'zTXt':
        yield zlib.decompress(
          data[at + 8 : at + 8 + size].partition(b'\0\0')[2]
        )
      at += size + 12


def named(folder):
  """[(file, name)] of all that is below a folder, file names included."""
  found = []
  for path in folder.rglob('*'):
    whole = [str(path.relative_to(folder)).encode()]
    if path.is_file():
      whole += texts_of(path)
    found += [
      (path.name, n) for n in NAMES if any(n.encode() in t for t in whole)
    ]
  return found


def config_of(study, salt):
  config = default_config()
  config.data.update(name='folder', batch_size=8, hash_ids=str(salt))
  config.data.path = str(study)
  config.data.patient = r'QMR\d+'
  config.data.preprocess = (dict(name='zscore'),)
  config.model = dict(name=f'{__name__}:Net')
  config.task = dict(name='Segmentation')
  config.train.update(steps=2, log_every=1, eval_every=1)
  return config


def test_no_artefact_names_a_patient(tmp_path, capsys):
  study = write_study(tmp_path / 'study')
  salt = tmp_path / 'salt'
  salt.write_bytes(b'thirty-two bytes that are secret')
  made = experiment.make(config_of(study, salt))
  run = tmp_path / 'run'
  train(made, run)
  evaluate(made, run)
  write_report(run)
  ids = [line.split(',')[0] for line in (run / 'per_case.csv').open()][1:]
  assert len(ids) >= 1
  assert named(run) == []
  assert (run / 'report.html').exists()
  assert json.loads((run / 'config.json').read_text())['data']['hash_ids']
  # A prediction has no header of its input but what places it.
  image = tmp_path / 'scan.nii.gz'
  image.write_bytes(next((study / 'images').iterdir()).read_bytes())
  predict(run, [image], tmp_path / 'predicted', trust=True)
  assert list((tmp_path / 'predicted').rglob('*.nii.gz'))
  assert named(tmp_path / 'predicted') == []
  said = capsys.readouterr()
  assert not [n for n in NAMES if n in said.out + said.err]


def test_digests_are_of_the_salt(tmp_path):
  study = write_study(tmp_path / 'study')
  names = {}
  for text in (b'a' * 16, b'b' * 16):
    (tmp_path / 'salt').write_bytes(text)
    cases = experiment.make(config_of(study, tmp_path / 'salt')).cases('train')
    again = experiment.make(config_of(study, tmp_path / 'salt')).cases('train')
    names[text] = [(c['id'], c['patient']) for c in cases]
    assert names[text] == [(c['id'], c['patient']) for c in again]
  a, b = names.values()
  assert len(set(a)) == len(a) == len(b)
  assert not set(a) & set(b)
  plain = experiment.make(config_of(study, '')).cases('train')
  assert 'Zebrowski' in plain[0]['id']
  np.testing.assert_array_equal(plain[0]['image'], cases[0]['image'])


def test_a_salt_is_needed_and_is_none_that_is_guessed(tmp_path):
  study = write_study(tmp_path / 'study')
  with pytest.raises(FileNotFoundError, match=r'data\.hash_ids .*no such file'):
    experiment.make(config_of(study, tmp_path / 'none'))
  (tmp_path / 'short').write_bytes(b'abc')
  with pytest.raises(ValueError, match='can be guessed'):
    experiment.make(config_of(study, tmp_path / 'short'))


def test_the_search_sees_names(tmp_path):
  study = write_study(tmp_path / 'study')
  assert {name for _, name in named(study)} == set(NAMES)
