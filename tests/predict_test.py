import nibabel as nib
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from medjax import predict
from medjax.data import formats

TAKES = ConfigDict(dict(rank=2, channels=1))


def save_png(path, shape=(6, 5)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full(shape, 7, np.uint8)).save(path)
  return path


def test_inputs_are_files_and_what_is_in_folders(tmp_path):
  b, a = save_png(tmp_path / 'in/b.png'), save_png(tmp_path / 'in/a.png')
  (tmp_path / 'in/notes.txt').write_text('no image')
  c = save_png(tmp_path / 'c.png')
  assert predict.input_files([c, tmp_path / 'in']) == [c, a, b]


def test_inputs_whose_results_would_have_one_name(tmp_path):
  a, b = save_png(tmp_path / 'a/x.png'), save_png(tmp_path / 'b/x.png')
  with pytest.raises(ValueError, match="two inputs are called 'x'"):
    predict.input_files([a, b])


def test_an_empty_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no image file'):
    predict.input_files([tmp_path])


def test_inputs_with_a_file_for_each_channel(tmp_path):
  for name in ('a_0.png', 'a_1.png', 'b_0.png', 'b_1.png'):
    save_png(tmp_path / name)
  files = predict.input_files([tmp_path], 'images/{id}_{0,1}.png')
  takes = ConfigDict(dict(rank=2, channels=2))
  case = predict.read_case(files[1], takes)
  assert case['id'] == 'b'
  assert case['image'].shape == (6, 5, 2)


def test_files_that_the_model_cannot_take(tmp_path):
  case = predict.read_case(save_png(tmp_path / 'x.png'), TAKES)
  assert case['image'].shape == (6, 5, 1)
  colour = save_png(tmp_path / 'colour.png', (6, 5, 3))
  with pytest.raises(
    ValueError, match='3 channels, the model was trained on 1'
  ):
    predict.read_case(colour, TAKES)
  volume = tmp_path / 'x.nii.gz'
  nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), volume)
  with pytest.raises(ValueError, match='3 spatial axes, the model was trained'):
    predict.read_case(volume, TAKES)


def test_a_picture_gets_a_mask_and_an_overlay(tmp_path):
  case = predict.read_case(save_png(tmp_path / 'x.png'), TAKES)
  labels = np.zeros((6, 5), np.uint8)
  labels[2, 3] = 2
  predict.write_mask(tmp_path / 'out', case, labels)
  found = np.array(Image.open(tmp_path / 'out/x.png'))
  np.testing.assert_array_equal(found, labels)
  overlay = np.array(Image.open(tmp_path / 'out/x_overlay.png'))
  assert overlay.shape == (6, 5, 3)
  assert (overlay != overlay[0, 0]).any(-1).sum() == 1


def test_a_nifti_slice_gets_a_nifti_in_its_place(tmp_path):
  affine = np.array(
    [[0, 0, 2.0, 5], [1.5, 0, 0, -3], [0, 1.0, 0, 9], [0, 0, 0, 1]]
  )
  path = tmp_path / 'x.nii'
  nib.save(nib.Nifti1Image(np.zeros((6, 5), np.float32), affine), path)
  case = predict.read_case(path, TAKES)
  np.testing.assert_allclose(case['spacing'], [1.5, 1])
  predict.write_mask(tmp_path / 'out', case, np.ones((6, 5), np.uint8))
  found = nib.load(tmp_path / 'out/x.nii.gz')
  assert found.shape == (6, 5)
  np.testing.assert_allclose(found.affine, affine)


def test_a_dicom_series_gets_a_nifti_or_a_seg(shared_data, tmp_path):
  pytest.importorskip('highdicom')
  path = shared_data('dicom_sts025') / 'MR_T1' / 'image'
  case = predict.read_case(path, ConfigDict(dict(rank=3, channels=1)))
  labels = np.zeros(case['image'].shape[:-1], np.uint8)
  labels[9:20, 30:50, 2:5], labels[40:41, 8:9, 11] = 1, 2
  written = predict.write_mask(tmp_path, case, labels)
  found = nib.load(written)
  np.testing.assert_array_equal(found.dataobj, labels)
  np.testing.assert_allclose(found.affine, case['affine'], atol=1e-4)
  names = ('background', 'mass', 'vessel')
  seg = predict.write_mask(tmp_path, case, labels, segments=names)
  assert seg == tmp_path / 'image.dcm'
  masks = formats.read_segmentation(seg, formats.read(path))
  got, said = formats.label_map(masks)
  np.testing.assert_array_equal(got, labels)
  assert said == names


def test_overlay_tints_labels_only_and_more_labels_than_colours():
  image = np.linspace(0, 1000, 20).reshape(4, 5, 1)
  labels = np.zeros((4, 5), np.uint8)
  labels[0] = 1, 2, 3, 7, 8
  shown = predict.overlay(image, labels)
  grey = (shown == shown[..., :1]).all(-1)
  np.testing.assert_array_equal(grey[1:], True)
  np.testing.assert_array_equal(shown[3, 4], 255)
  assert not grey[0].any()
  assert predict.overlay(np.zeros((4, 5, 3)), labels).shape == (4, 5, 3)


def test_probabilities_are_a_table(tmp_path):
  rows = [('a,b.png', np.array([0.25, 0.75]))]
  path = predict.write_probabilities(tmp_path, rows, ('dark', 'bright'))
  assert path.read_text().splitlines() == [
    'file,dark,bright', '"a,b.png",0.250000,0.750000',
  ]  # fmt: skip
