import shutil
import types

import flax.linen as nn
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from drawn_runs import CLASSES, RESNET, SCALE, make_run_in
from PIL import Image

from medjax import config as config_lib
from medjax import experiment
from medjax.config import default_config
from medjax.data import formats
from medjax.data.facts import DataFacts
from medjax.files import write_csv
from medjax.predict import answer, predict
from medjax.prediction import files, trained
from medjax.prediction.result import Prediction, Provenance
from medjax.prediction.written import Written, made_by
from medjax.tasks import Classification, Ordinal, Segmentation
from medjax.tasks.task import Calibration
from medjax.train import train

FROM = Provenance(model='', steps=(1,), digest='', medjax='')


def write(out, case, labels, **options):
  out.mkdir(exist_ok=True)
  prediction = Prediction(id=case['id'], provenance=FROM, labels=labels)
  return files.write(out, case, prediction, **options)


def save_png(path, shape=(6, 5)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full(shape, 7, np.uint8)).save(path)
  return path


def test_inputs_are_files_and_what_is_in_folders(tmp_path):
  b, a = save_png(tmp_path / 'in/b.png'), save_png(tmp_path / 'in/a.png')
  (tmp_path / 'in/notes.txt').write_text('no image')
  c = save_png(tmp_path / 'c.png')
  assert files.input_files([c, tmp_path / 'in']) == [c, a, b]


def test_inputs_whose_results_would_have_one_name(tmp_path):
  a, b = save_png(tmp_path / 'a/x.png'), save_png(tmp_path / 'b/x.png')
  with pytest.raises(ValueError, match="two inputs are called 'x'"):
    files.input_files([a, b])


def test_inputs_in_a_folder_for_each_patient(tmp_path):
  image = save_png(tmp_path / 'P1' / 'a' / 'x.png')
  save_png(tmp_path / 'P1' / 'masks' / 'liver.png')
  save_png(tmp_path / 'P2' / 'x.png')
  first, second = files.input_files([tmp_path])
  assert (first.id, first.images, second.id) == ('P1', (image,), 'P2')
  assert files.read_case(second)['id'] == 'P2'
  save_png(tmp_path / 'P2' / 'y.png')
  with pytest.raises(ValueError, match=r'P2: holds 2 images \(x.png, y.png\)'):
    files.input_files([tmp_path])


def test_an_empty_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no image file'):
    files.input_files([tmp_path])


def test_inputs_with_a_file_for_each_channel(tmp_path):
  for name in ('a_0.png', 'a_1.png', 'b_0.png', 'b_1.png'):
    save_png(tmp_path / name)
  found = files.input_files([tmp_path], 'images/{id}_{0,1}.png')
  case = files.read_case(found[1])
  assert case['id'] == 'b'
  assert case['image'].shape == (6, 5, 2)


def test_a_case_has_a_note_on_its_voxels(tmp_path):
  config = default_config()
  config.model = dict(name='UNet', features=(2, 2))
  config.task = dict(name='Segmentation', num_classes=2)
  facts = DataFacts(channels=1, rank=3, spacing=(1.0, 1.0, 1.0))
  made = experiment.make(config, facts=facts)
  case = {'id': 'a', 'image': np.zeros((4, 4, 4, 1)), 'spacing': (1, 1, 5)}
  (note,) = made.check(case | {'notes': ()})['notes']
  assert note.startswith('voxels of 1 × 1 × 5 mm')
  assert 'notes' not in made.check(case | {'spacing': (1, 1, 1.2)})


def test_files_that_the_model_cannot_take(tmp_path):
  config = default_config()
  config.model, config.task = dict(name='LeNet5'), dict(name='Classification')
  config.task.num_classes = 2
  made = experiment.make(config, facts=DataFacts(channels=1, rank=2))
  case = files.read_case(save_png(tmp_path / 'x.png'))
  assert made.check(case)['image'].shape == (6, 5, 1)
  colour = files.read_case(save_png(tmp_path / 'colour.png', (6, 5, 3)))
  with pytest.raises(
    ValueError, match='3 channels, the model was trained on 1'
  ):
    made.check(colour)
  volume = tmp_path / 'x.nii.gz'
  nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), volume)
  with pytest.raises(ValueError, match='3 spatial axes, the model was trained'):
    made.check(files.read_case(volume))


def test_a_picture_of_another_size_than_all_of_the_training(tmp_path):
  config = default_config()
  config.model, config.task = dict(name='LeNet5'), dict(name='Classification')
  config.task.num_classes = 2
  facts = DataFacts(channels=1, rank=2, shape=(6, 5))
  large = files.read_case(save_png(tmp_path / 'x.png', (60, 50)))

  def check():
    return experiment.make(config, facts=facts).check(large)

  config.data.preprocess = (dict(name='zscore'),)
  with pytest.raises(ValueError, match=r'is of 60 × 50, and all that .* 6 × 5'):
    check()
  # A size that a transform makes, one image at a time, maps and patches.
  config.data.preprocess = (dict(name='resize', shape=(6, 5)),)
  assert check() is large
  config.data.update(preprocess=(), batch_size=1)
  assert check() is large
  config.data.batch_size = 2
  config.model = dict(name='UNet', features=(4, 8))
  config.task = dict(name='Segmentation', num_classes=2)
  assert check() is large


def test_a_picture_gets_a_mask_and_an_overlay(tmp_path):
  case = files.read_case(save_png(tmp_path / 'x.png'))
  labels = np.zeros((6, 5), np.uint8)
  labels[2, 3] = 2
  write(tmp_path / 'out', case, labels)
  with Image.open(tmp_path / 'out/x.png') as shown:
    np.testing.assert_array_equal(np.array(shown), labels)
    colours = np.array(shown.convert('RGB'))
  assert colours[2, 3].max() > 100  # no black label on a black ground
  assert not colours[0].any()
  read = formats.read_mask(tmp_path / 'out/x.png')
  np.testing.assert_array_equal(read.array, labels)
  overlay = np.array(Image.open(tmp_path / 'out/x_overlay.png'))
  assert overlay.shape == (6, 5, 3)
  assert (overlay != overlay[0, 0]).any(-1).sum() == 1


def test_pictures_of_x_and_y_are_rows(tmp_path):
  """A MetaImage of two axes has x first, and no place for a NIfTI."""
  rows = np.zeros((6, 5), np.uint8)
  rows[2, 3] = 1
  sitk.WriteImage(sitk.GetImageFromArray(rows), str(tmp_path / 'x.mha'))
  case, out = files.read_case(tmp_path / 'x.mha'), tmp_path / 'out'
  mask = case['image'][..., 0]
  write(out, case, mask)
  files.write_within(out, case, {'a': mask > 0}, 0.9)
  for name in ('x', 'x_a_at_0.9'):
    found = np.array(Image.open(out / f'{name}.png')) > 0
    np.testing.assert_array_equal(found, rows)
  overlay = np.array(Image.open(out / 'x_overlay.png'))
  assert overlay.shape == (6, 5, 3)
  assert (overlay != overlay[0, 0]).any(-1)[2, 3]


def test_a_nifti_slice_gets_a_nifti_in_its_place(tmp_path):
  affine = np.array(
    [[0, 0, 2.0, 5], [1.5, 0, 0, -3], [0, 1.0, 0, 9], [0, 0, 0, 1]]
  )
  path = tmp_path / 'x.nii'
  nib.save(nib.Nifti1Image(np.zeros((6, 5), np.float32), affine), path)
  case = files.read_case(path)
  np.testing.assert_allclose(case['spacing'], [1.5, 1])
  write(tmp_path / 'out', case, np.ones((6, 5), np.uint8))
  found = nib.load(tmp_path / 'out/x.nii.gz')
  assert found.shape == (6, 5)
  np.testing.assert_allclose(found.affine, affine)


def test_a_dicom_series_gets_a_nifti_or_a_seg(shared_data, tmp_path):
  pytest.importorskip('highdicom')
  path = shared_data('dicom_sts025') / 'MR_T1' / 'image'
  case = files.read_case(path)
  labels = np.zeros(case['image'].shape[:-1], np.uint8)
  labels[9:20, 30:50, 2:5], labels[40:41, 8:9, 11] = 1, 2
  written = write(tmp_path, case, labels)
  found = nib.load(written)
  np.testing.assert_array_equal(found.dataobj, labels)
  np.testing.assert_allclose(found.affine, case['affine'], atol=1e-4)
  names = ('background', 'mass', 'vessel')
  seg = write(tmp_path, case, labels, segments=names)
  assert seg == tmp_path / 'image.dcm'
  masks = formats.read_segmentation(seg, formats.read(path))
  got, said = formats.label_map(masks)
  np.testing.assert_array_equal(got, labels)
  assert said == names


def test_overlay_tints_labels_only_and_more_labels_than_colours():
  image = np.linspace(0, 1000, 20).reshape(4, 5, 1)
  labels = np.zeros((4, 5), np.uint8)
  labels[0] = 1, 2, 3, 7, 8
  shown = files.overlay(image, labels)
  grey = (shown == shown[..., :1]).all(-1)
  np.testing.assert_array_equal(grey[1:], True)
  np.testing.assert_array_equal(shown[3, 4], 255)
  assert not grey[0].any()
  assert files.overlay(np.zeros((4, 5, 3)), labels).shape == (4, 5, 3)


def test_probabilities_are_a_table_that_is_added_to(tmp_path):
  line = lambda p: Prediction(
    id='', provenance=FROM, values={'dark': p, 'bright': 1 - p}
  )
  path = files.write_table(tmp_path, [('a,b.png', line(0.25))])
  before = files.read_table(tmp_path)
  assert [*before] == ['a,b.png']
  files.write_table(tmp_path, [('c.png', line(1.0))], before.values())
  assert path.read_text().splitlines() == [
    'file,dark,bright', '"a,b.png",0.25,0.75',
    'c.png,1.0,0.0',
  ]  # fmt: skip


class Net(nn.Module):
  """One convolution, which is not symmetric."""

  num_classes: int

  @nn.compact
  def __call__(self, x, *, train=False):
    return nn.Conv(self.num_classes, (3, 3))(x)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A workdir with checkpoints of steps 1, 2 and 3; not to be changed."""
  root, rng = tmp_path_factory.mktemp('predict'), np.random.default_rng(0)
  for i in range(6):
    for folder in ('images', 'masks'):
      (root / folder).mkdir(exist_ok=True)
      array = rng.integers(0, 2 if folder == 'masks' else 255, (9, 7))
      Image.fromarray(array.astype(np.uint8)).save(root / folder / f'{i}.png')
  config = default_config()
  config.data.update(name='folder', path=str(root), batch_size=8)
  config.data.preprocess = (dict(name='zscore'),)
  config.data.patch_size = (6, 6)
  config.model = dict(name=f'{__name__}:Net')
  config.task = dict(name='Segmentation', num_classes=2)
  config.optimizer.learning_rate = 0.03
  config.train.update(steps=3, log_every=1, eval_every=1)
  workdir = tmp_path_factory.mktemp('predict') / 'run'
  train(experiment.make(config), workdir)
  return workdir, root / 'images'


def test_a_table_has_no_masks(run, tmp_path):
  workdir, images = run
  (tmp_path / 'cases.csv').write_text(f'path\n{images}/0.png\n')
  with pytest.raises(ValueError, match='segments images: give their files'):
    predict(workdir, [tmp_path / 'cases.csv'], tmp_path / 'out', trust=True)
  assert not (tmp_path / 'out').exists()


def test_folders_beside_images_are_told_of(tmp_path, capsys):
  save_png(tmp_path / 'in/a.png')
  save_png(tmp_path / 'in/patient 2/b.png')
  (tmp_path / 'in/notes').mkdir()
  assert len(files.input_files([tmp_path / 'in'])) == 1
  assert (
    '1 of its folders are left out, as patient 2' in capsys.readouterr().out
  )


def test_options_of_inference_are_those_of_the_command(run, tmp_path):
  workdir, images = run
  case = files.read_case(images / '0.png')

  def probabilities(**options):
    loaded = trained.load(workdir, trust=True, **options)
    return loaded.predict_case(case, probabilities=True).probabilities

  own, flipped = probabilities(), probabilities(flips=True)
  assert np.abs(own - flipped).max() > 1e-4
  mirrored = {**case, 'image': case['image'][::-1]}
  loaded = trained.load(workdir, trust=True, flips=True, overlap=0)
  there = loaded.predict_case(case, probabilities=True).probabilities
  back = loaded.predict_case(mirrored, probabilities=True).probabilities
  np.testing.assert_allclose(there, back[::-1], atol=1e-5)
  assert loaded.experiment.inference.overlap == 0
  np.testing.assert_allclose(own, probabilities(batch_size=1), atol=1e-6)
  with pytest.raises(ValueError, match=r'inference\.overlap must be'):
    probabilities(overlap=1.5)
  last = trained.load(workdir, trust=True, checkpoint='last')
  assert last.provenance.steps == (3,)
  two = trained.load(workdir, trust=True, checkpoint='2')
  assert two.provenance.steps == (2,)
  with pytest.raises(ValueError, match='holds no step 7, only'):
    trained.load(workdir, trust=True, checkpoint='7')


def test_what_validation_decided_is_of_the_weights_of_a_step(
  run, tmp_path, capsys
):
  workdir = shutil.copytree(run[0], tmp_path / 'run')
  load = lambda step: trained.load(workdir, trust=True, checkpoint=step)
  trained.write_calibration(workdir, Calibration(temperature=2.0), (2,))
  assert load('2').calibration.temperature == 2
  assert not capsys.readouterr().err
  assert load('last').calibration == Calibration()
  assert 'of the weights of step 2, these are of 3' in capsys.readouterr().err


def test_probabilities_lie_beside_the_mask_and_what_is_there_stays(
  run, tmp_path, capsys
):
  workdir, images = run
  options = dict(trust=True, probabilities=True, skip_existing=True)
  predict(workdir, [images / '0.png'], tmp_path, **options)
  with np.load(tmp_path / '0_probabilities.npz') as found:
    array, names = found['probabilities'], found['names']
  assert array.shape == (9, 7, 2)
  assert array.dtype == np.float32
  assert [*names] == ['0', '1']
  mask = formats.read_mask(tmp_path / '0.png').array
  np.testing.assert_array_equal(array.argmax(-1), mask)
  (tmp_path / '0.png').write_bytes(b'mine')
  capsys.readouterr()
  predict(workdir, [images / '0.png', images / '1.png'], tmp_path, **options)
  assert capsys.readouterr().out.startswith('1/1 ')
  assert (tmp_path / '0.png').read_bytes() == b'mine'
  predict(workdir, [images / '1.png'], tmp_path, **options)
  assert 'nothing to do' in capsys.readouterr().out


def test_an_answer_is_what_the_task_decides():
  stages = Ordinal(num_classes=3, class_names=('I', 'II', 'III'))
  labels = Classification(
    num_classes=2, multi_label=True, class_names=('mass', 'fluid')
  )

  def told(task, *p):
    values = dict(zip(task.names, p, strict=True))
    return answer(task, Prediction(id='x', provenance=FROM, values=values))

  assert told(stages, 0.4, 0.25, 0.35) == 'II'  # I is the likeliest
  assert told(labels, 0.4, 0.3) == 'no label above ½'
  assert told(labels, 0.6, 0.7) == 'mass, fluid'


class Results:
  """Results of a task in a folder, made without a network."""

  def __init__(self, out, task, key='file'):
    self.out, self.task, self.key = out, task, key

  def written(self, **by):
    return Written(self.out, {'step': [1], **by}, key=self.key)

  def write(self, sources, lines=True, **by):
    written = self.written(**by)
    written.begin(sources)
    for source in sources:
      line = Prediction(id=source.id, provenance=FROM, values={'0': 1})
      written.add(source, line if lines else None)
      if 'mask' in self.task.fields:
        save_png(self.out / f'{source.id}.png')
    written.write()

  def lacking(self, sources, lines=True, **by):
    written = self.written(**by)
    left = written.lacking(sources, self.task, lines=lines)
    return [source.id for source in left]


def test_what_is_there_is_of_the_same_file_run_and_options(tmp_path):
  found = [files.source(save_png(tmp_path / f'a/{i}.png')) for i in range(3)]
  results = Results(tmp_path / 'out', Classification(num_classes=2))
  assert results.lacking(found) == ['0', '1', '2']
  results.write(found[:2])
  assert results.lacking(found) == ['2']
  other = [files.source(save_png(tmp_path / 'b/1.png'))]
  with pytest.raises(ValueError, match=r'holds 1 of .*a/1.png, not of .*b/1'):
    results.lacking(other)
  with pytest.raises(ValueError, match=r'otherwise \(step \[1\], not \[2\]\)'):
    results.lacking(found, step=[2])
  with pytest.raises(ValueError, match=r'\(conformal None, not 0.9\)'):
    results.lacking(found, conformal=0.9)
  save_png(tmp_path / 'a/0.png', (60, 50))
  again = [files.source(tmp_path / f'a/{i}.png') for i in range(3)]
  assert results.lacking(again) == ['0', '2']
  (tmp_path / 'out/predicted.json').unlink()
  with pytest.raises(ValueError, match=r'no predicted\.json says what it was'):
    results.lacking(found)


def test_what_is_there_is_of_the_same_weights(tmp_path):
  weights = tmp_path / 'run/checkpoints/1/x'
  weights.parent.mkdir(parents=True)
  run = types.SimpleNamespace(
    experiment=default_config(), provenance=Provenance('', (1,), '', '')
  )
  results = Results(tmp_path / 'out', Classification(num_classes=2))
  found = [files.source(save_png(tmp_path / '0.png'))]
  weights.write_text('trained')
  results.write(found, **made_by(tmp_path / 'run', run, {}))
  assert results.lacking(found, **made_by(tmp_path / 'run', run, {})) == []
  weights.write_text('trained anew, to the same step')
  with pytest.raises(ValueError, match='this was trained or evaluated since'):
    results.lacking(found, **made_by(tmp_path / 'run', run, {}))


def test_a_row_is_the_same_in_another_table(tmp_path):
  row = lambda day, text: files.Source('a', 'a', [day], [text], None)
  results = Results(tmp_path, Classification(num_classes=2), key='id')
  results.write([row('monday.csv', 'age 3')])
  assert results.lacking([row('tuesday.csv', 'age 3')]) == []
  with pytest.raises(ValueError, match=r'a of monday.*not of tuesday'):
    results.lacking([row('tuesday.csv', 'age 4')])


def test_a_path_is_the_same_from_another_folder(tmp_path, monkeypatch):
  results = Results(tmp_path / 'out', Classification(num_classes=2))
  path = save_png(tmp_path / 'a/0.png')
  results.write([files.source(path)])
  monkeypatch.chdir(tmp_path)
  assert results.lacking([files.source(path.relative_to(tmp_path))]) == []


def test_a_case_without_its_line_or_its_mask_is_predicted_again(tmp_path):
  found = [files.source(save_png(tmp_path / f'{i}.png')) for i in range(3)]
  results = Results(tmp_path / 'out', Segmentation(num_classes=2))
  results.write(found, lines=False)
  assert results.lacking(found, lines=False) == []
  results.write(found[:2])
  assert results.lacking(found) == ['2']
  (tmp_path / 'out/0.png').unlink()
  assert results.lacking(found) == ['0', '2']
  write_csv(tmp_path / 'out/predictions.csv', [{'file': found[0].line}])
  assert results.lacking(found) == ['0', '1', '2']


def test_masks_of_which_nothing_says_what_made_them_stay(tmp_path):
  found = [files.source(save_png(tmp_path / f'{i}.png')) for i in range(3)]
  results = Results(tmp_path / 'out', Segmentation(num_classes=2))
  save_png(tmp_path / 'out/1.png')  # of a release that did not say
  with pytest.raises(ValueError, match=r'mask of 1: no predicted\.json says'):
    results.lacking(found, lines=False)
  assert results.lacking(found[:1], lines=False) == ['0']
  results.write(found[:1], lines=False)
  results.write(found[1:2], lines=False)
  assert results.lacking(found, lines=False) == ['2']
  results.written().begin(found[1:])  # and is killed
  save_png(tmp_path / 'out/2.png')
  assert results.lacking(found, lines=False) == ['1', '2']
  results.write(found[2:], lines=False, step=[2])
  with pytest.raises(ValueError, match=r'mask of 0: no predicted\.json says'):
    results.lacking(found, lines=False, step=[2])


def test_masks_whose_lines_a_new_table_forgets_stay(tmp_path):
  found = [files.source(save_png(tmp_path / f'{i}.png')) for i in range(2)]
  results = Results(tmp_path / 'out', Segmentation(num_classes=2))
  results.write(found[:1])
  results.write(found[1:])
  with pytest.raises(ValueError, match=r'mask of 0: no predicted\.json says'):
    results.lacking(found)


def test_all_rows_of_a_table_and_what_fails_is_told(tmp_path, capsys):
  workdir = make_run_in(tmp_path, RESNET, CLASSES, SCALE, (8, 8, 1))
  config = config_lib.load(workdir)
  config.data.where = 'site=A'  # of the training
  config_lib.store(config, workdir)
  for i in range(2):
    save_png(tmp_path / f'{i}.png', (8, 8))
  (tmp_path / '2.png').write_bytes(b'no picture')
  table, out = tmp_path / 'new.csv', tmp_path / 'out'
  table.write_text('path,site\n0.png,A\n1.png,B\n2.png,A\n')
  ids = lambda: [*files.read_table(out, 'id')]
  with pytest.raises(ValueError, match=r'1 of 3 rows failed.*2\.png'):
    predict(workdir, [table], out)
  assert ids() == ['0', '1']
  save_png(tmp_path / '2.png', (8, 8))
  capsys.readouterr()
  predict(workdir, [table], out, skip_existing=True)
  note, line, *_ = capsys.readouterr().out.splitlines()
  assert "data.where='site=A' was of the training" in note
  assert line.startswith('1/1 2 → ')
  assert ids() == ['0', '1', '2']
  other = save_png(tmp_path / 'other/0.png', (8, 8)).with_name('new.csv')
  other.write_text('path\n0.png\n')
  with pytest.raises(ValueError, match=r'holds 0 of .*, not of .*other/new'):
    predict(workdir, [other], out, skip_existing=True)


def test_a_table_needs_no_outcome_and_names_its_columns_as_it_likes(
  tmp_path, capsys
):
  workdir = make_run_in(tmp_path, RESNET, CLASSES, SCALE, (8, 8, 1))
  for i in range(2):
    save_png(tmp_path / f'{i}.png', (8, 8))
  table = tmp_path / 'new.csv'
  table.write_text(
    'path,label,time,event,notes,inputs,mask\n'
    '0.png,1,,,Mrs Smith,3,\n1.png,,5,x,,,\n'
  )
  predict(workdir, [table], tmp_path / 'out')
  printed = capsys.readouterr().out
  assert '  note:' not in printed
  assert 'Smith' not in printed
  assert {*files.read_table(tmp_path / 'out', 'id')} == {'0', '1'}


def test_no_line_of_another_run_stays(tmp_path):
  found = [files.source(save_png(tmp_path / f'{i}.png')) for i in range(2)]
  results = Results(tmp_path / 'out', Classification(num_classes=2))
  results.write(found)
  results.written(step=[2]).begin(found)  # and is stopped
  assert not (tmp_path / 'out/predictions.csv').exists()
  results.write(found[:1], step=[2])
  assert results.lacking(found, step=[2]) == ['1']


def test_no_line_of_which_nothing_said_what_made_it_stays(tmp_path):
  found = [files.source(save_png(tmp_path / f'{i}.png')) for i in range(2)]
  results = Results(tmp_path / 'out', Classification(num_classes=2))
  results.write(found)
  (tmp_path / 'out/predicted.json').unlink()  # of a release that did not say
  results.written(step=[2]).begin(found)  # and is stopped
  again = results.written(step=[2])
  again.lacking(found[:1], results.task, lines=True)
  again.begin(found[:1])
  again.add(found[0], Prediction(id='0', provenance=FROM, values={'0': 1}))
  again.write()
  assert {*files.read_table(tmp_path / 'out')} == {found[0].line}


def test_a_folder_is_another_when_a_file_in_it_is(tmp_path):
  slices = [save_png(tmp_path / f'scan/{i}.png') for i in range(2)]
  before = files.stamp(tmp_path / 'scan')
  assert files.stamp(tmp_path / 'scan') == before
  slices[1].write_bytes(b'of another patient')
  assert files.stamp(tmp_path / 'scan') != before


def test_probabilities_of_a_volume_are_nifti(tmp_path):
  affine = np.diag([2.0, 1, 1, 1])
  volume = np.zeros((4, 5, 6), np.float32)
  nib.save(nib.Nifti1Image(volume, affine), tmp_path / 'x.nii.gz')
  case = files.read_case(tmp_path / 'x.nii.gz')
  array = np.random.default_rng(0).random((4, 5, 6, 3)).astype(np.float32)
  prediction = Prediction(
    id='x', provenance=FROM, labels=volume.astype(np.uint8), probabilities=array
  )
  files.write(tmp_path, case, prediction, probabilities=('a', 'b', 'c'))
  found = nib.load(tmp_path / 'x_probabilities.nii.gz')
  np.testing.assert_array_equal(found.get_fdata(dtype=np.float32), array)
  np.testing.assert_allclose(found.affine, affine)


def test_progress_is_told_by_window(run):
  workdir, images = run
  case, told = files.read_case(images / '0.png'), []
  watch = lambda sample, window, count: told.append(
    (sample['raw']['id'], window, count)
  )
  loaded = trained.load(workdir, trust=True)
  list(loaded.predict_cases([case], watch=watch))
  assert told == [('0', i + 1, 4) for i in range(4)]


def test_a_dicom_slice_keeps_its_place_beside_the_picture(tmp_path):
  image = np.zeros((4, 6, 1), np.float32)
  place = np.array(
    [[0, 0.5, 0, -10], [0.7, 0, 0, 20], [0, 0, 2, 5], [0, 0, 0, 1.0]]
  )
  volume = types.SimpleNamespace(
    affine=np.eye(3), meta={'format': 'dicom', 'affine': place}
  )
  case = {
    'id': 'x', 'image': image, 'affine': np.eye(3), 'place': None,
    'slice_place': files._slice_place(volume),
  }  # fmt: skip
  labels = np.zeros((4, 6), np.uint8)
  labels[1, 4] = 1
  files._write_mask(tmp_path, case, labels, None)
  found = nib.load(tmp_path / 'x.nii.gz')
  (voxel,) = np.argwhere(found.get_fdata() > 0)
  expected = place @ (1, 4, 0, 1)
  np.testing.assert_allclose(found.affine @ (*voxel, 1), expected)


def test_numbered_channels_of_a_folder(tmp_path):
  for name in ('a_0000.png', 'a_0001.png', 'b_0000.png', 'b_0001.png'):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
  found = files.input_files([tmp_path], numbered=2)
  assert [f.id for f in found] == ['a', 'b']
  assert [p.name for p in found[0].images] == ['a_0000.png', 'a_0001.png']
