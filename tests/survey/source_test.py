import argparse

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from medjax import cli
from medjax.survey import arguments
from medjax.survey.source import open_source


def test_a_folder_with_leaks_is_opened(tmp_path):
  picture = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
  rows = ['path,label,split,patient']
  for i, split in enumerate(('train', 'validation', 'test')):
    PIL.Image.fromarray(picture).save(tmp_path / f'{i}.png')
    rows.append(f'{i}.png,a,{split},one')
  (tmp_path / 'mine.csv').write_text('\n'.join(rows))
  source = open_source(tmp_path, options={'table': 'mine.csv'})
  assert {k: len(v) for k, v in source.splits.items()} == {
    'train': 1, 'validation': 1, 'test': 1,
  }  # fmt: skip
  assert source.config == {
    'name': 'folder', 'path': str(tmp_path), 'table': 'mine.csv',
  }  # fmt: skip


def test_the_modality_of_dataset_json(tmp_path):
  for part in ('imagesTr', 'labelsTr'):
    (tmp_path / part).mkdir()
    for i in range(3):
      volume = nib.Nifti1Image(np.full((3, 3, 3), i, np.uint8), np.eye(4))
      nib.save(volume, tmp_path / part / f'{i}.nii.gz')
  text = '{"modality": {"0": "CT"}}'
  (tmp_path / 'dataset.json').write_text(text, 'utf-8-sig')
  assert open_source(tmp_path).modalities == ('CT',)
  (tmp_path / 'dataset.json').write_text('[]')
  with pytest.raises(ValueError, match=r'dataset\.json'):
    open_source(tmp_path)


def parse(*argv):
  parser = argparse.ArgumentParser()
  parser.add_argument('name')
  return arguments.parse(parser, argv)


def test_the_command_line():
  args = parse('x', '--config.data.table=a.csv', '--modality=CT')
  assert (args.options, args.modality) == ({'table': 'a.csv'}, 'CT')
  args = parse('x', '--config.data.fields.image={id}', '--config.data.folds=3')
  assert args.options == {'fields': {'image': '{id}'}, 'folds': 3}


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--config.data.tabel=a.csv', 'no field tabel Did you mean table'),
    ('--config.data.folds=x', 'invalid literal for int'),
    ('--tabel=a.csv', 'unknown argument'),
    ('--config.model.name=UNet', 'unknown argument'),
    ('--config.data.table', 'unknown argument'),
  ],
)
def test_what_is_no_option(argument, message, capsys):
  with pytest.raises(SystemExit):
    parse('x', argument)
  (line,) = capsys.readouterr().err.strip().splitlines()
  assert message in line.translate({39: None, 34: None})


def test_what_does_not_say_how_to_read(tmp_path):
  with pytest.raises(ValueError, match='cache_gb does not say how'):
    open_source(tmp_path, options={'cache_gb': 1.0})


def write_picture(path, seed=0, size=8):
  path.parent.mkdir(parents=True, exist_ok=True)
  values = np.random.default_rng(seed).integers(0, 255, (size, size), np.uint8)
  PIL.Image.fromarray(values).save(path)


def lengths(source):
  return {split: len(cases) for split, cases in source.splits.items()}


def test_images_without_labels(tmp_path):
  write_picture(tmp_path / 'one.png')
  source = open_source(tmp_path / 'one.png')
  assert lengths(source) == {'train': 1}
  (case,) = source.splits['train']
  assert case['id'] == 'one'
  assert not {'mask', 'label'} & set(case)
  write_picture(tmp_path / 'two.png', 1)
  source = open_source(tmp_path)
  assert [case['id'] for case in source.splits['train']] == ['one', 'two']
  (tmp_path / 'one_mask.png').write_bytes((tmp_path / 'one.png').read_bytes())
  with pytest.raises(FileNotFoundError, match='no mask of the same name'):
    open_source(tmp_path)


def write_volume(path, values):
  path.parent.mkdir(parents=True, exist_ok=True)
  nib.save(nib.Nifti1Image(values.astype(np.uint8), np.eye(4)), path)


def test_folders_of_patients(tmp_path, capsys):
  """They were taken for classes, each with an image and its mask."""
  values = np.arange(27).reshape(3, 3, 3)
  for k in range(3):
    write_volume(tmp_path / f'P{k}/image.nii.gz', values + k)
    write_volume(tmp_path / f'P{k}/seg.nii.gz', values > 20)
  source = open_source(tmp_path)
  fields = {
    'image': '{patient}/image.nii.gz', 'mask': '{patient}/seg.nii.gz',
  }  # fmt: skip
  assert source.config['fields'] == fields
  assert (
    "--config.data.fields.mask='{patient}/seg.nii.gz'"
    in capsys.readouterr().out
  )
  cases = [case for split in source.splits.values() for case in split]
  assert sorted(case['patient'] for case in cases) == ['P0', 'P1', 'P2']
  assert all(case['mask'].sum() == 6 for case in cases)
  assert source.class_names == ()
  one = open_source(tmp_path / 'P1')
  (case,) = one.splits['train']
  np.testing.assert_array_equal(case['image'][..., 0], values + 1)
  assert case['mask'].sum() == 6
  # Folders that do not all hold a pair are what they were.
  write_picture(tmp_path / 'P3/a.png')
  assert 'fields' not in open_source(tmp_path).config


def test_pairs_by_name_are_many_cases(tmp_path):
  for part in ('image', 'mask'):
    for k in range(4):
      write_volume(tmp_path / part / f'{k}.nii.gz', np.full((3, 3, 3), k))
  assert sum(lengths(open_source(tmp_path)).values()) == 4


def test_a_real_patient(shared_data, capsys):
  """A PET series and its structure set; the folder around; the series alone."""
  home = shared_data('dicom_sts025')
  (case,) = open_source(home / 'PET').splits['train']
  assert case['mask'].shape == case['image'].shape[:-1]
  assert case['mask'].any()
  assert open_source(home).config['fields']['image'] == '{patient}/image'
  (case,) = open_source(home / 'CT/image').splits['train']
  assert case['image'].ndim == 4
  assert 'mask' not in case


def test_what_is_no_data_set():
  with pytest.raises(
    FileNotFoundError, match=r"did you mean 'medmnist'\?; nor"
  ):
    open_source('medmist')
  with pytest.raises(ValueError, match=r'has no .pneumonia'):
    open_source('medmnist/pneumonia')


def test_a_field_is_copied_out_of_a_config_file():
  parser = cli.parser('Looks.')  # that of the commands
  parser.add_argument('name')
  words = ('folder', "--config.data.preprocess=(dict(name='zscore'),)")
  args = arguments.parse(parser, words)
  assert args.options == {'preprocess': ({'name': 'zscore'},)}
