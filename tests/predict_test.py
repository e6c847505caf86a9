import numpy as np
import pytest

from medjax import predict
from medjax.data import formats


def test_an_image_unlike_those_of_training_is_refused(tmp_path):
  volume, picture = tmp_path / 'a.nii.gz', tmp_path / 'a.png'
  formats.write(volume, np.zeros((4, 5, 6, 1), np.float32), np.eye(4))
  formats.write(picture, np.zeros((4, 5, 3), np.uint8), np.eye(3))
  with pytest.raises(ValueError, match='is 3-D, the model was trained on 2-D'):
    predict.read_case(volume, channels=1, rank=2)
  with pytest.raises(ValueError, match='has 3 channels'):
    predict.read_case(picture, channels=1, rank=2)
  assert predict.read_case(volume, channels=1, rank=3)['id'] == 'a'


def test_two_inputs_of_one_name_are_refused(tmp_path):
  for name in ('a.nii.gz', 'a.png'):
    (tmp_path / name).touch()
  with pytest.raises(ValueError, match="called 'a'"):
    predict.input_files([tmp_path])
