"""Masks that belong to a grid, structures by name, run lengths, palettes."""

import gzip
import itertools

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from medjax.data import formats
from medjax.data.folder import open_folder
from medjax.data.folder.grids import on_grid
from medjax.data.formats import Volume
from medjax.radiomics import cases as radiomics_cases

ALL = {'fractions': (1, 0, 0), 'dense': True}
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, (4, 5, 6), np.uint8)
AFFINE = np.array(
  [[-0.9, 0.1, 0.2, 10], [0.1, -1.9, 0.3, -4], [0.05, 0.2, 2.9, 30],
   [0, 0, 0, 1]]
)  # fmt: skip


def nifti(path, array, affine=AFFINE):
  path.parent.mkdir(parents=True, exist_ok=True)
  nib.save(nib.Nifti1Image(array, affine), path)


def opened(folder, **options):
  return open_folder(folder, 'train', **{**ALL, **options})


# Grids.


def turned(array, affine, axes, signs):
  turn = np.c_[axes, signs]
  image = nib.Nifti1Image(array, affine).as_reoriented(turn)
  return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize(
  ('axes', 'signs'),
  itertools.product(
    itertools.permutations(range(3)), [(1, 1, 1), (-1, 1, 1), (1, -1, -1)]
  ),
)
def test_a_mask_in_another_order_of_axes_is_turned(axes, signs):
  """nibabel turns it away; the whole affine says how it comes back."""
  array, affine = turned(LABELS, AFFINE, axes, signs)
  image = Volume(LABELS[..., None], AFFINE, '', {'unit': 'mm'})
  mask = Volume(array, affine, 'label', {'unit': 'mm'})
  found = on_grid('m', mask, 'i', image)
  np.testing.assert_array_equal(found.array, LABELS)
  np.testing.assert_allclose(found.affine, AFFINE)


def test_a_cube_whose_axes_are_swapped(tmp_path):
  """Equal shapes and equal corners: only the whole affine tells."""
  array = np.zeros((6, 6, 4), np.uint8)
  array[:2] = 1
  swapped = np.eye(4)[[1, 0, 2, 3]]
  nifti(tmp_path / 'images' / '0.nii', RNG.random((6, 6, 4)), np.eye(4))
  nifti(tmp_path / 'masks' / '0.nii', array.transpose(1, 0, 2), swapped)
  np.testing.assert_array_equal(opened(tmp_path)[0]['mask'], array)
  nifti(tmp_path / 'masks' / '0.nii', array[::-1], np.diag([-1.0, 1, 1, 1]))
  with pytest.raises(ValueError, match=r'0\.nii: lies .* mm from'):
    opened(tmp_path)[0]  # flipped about the origin: it lies elsewhere


def test_channels_are_turned_too(tmp_path):
  first = RNG.random((4, 5, 6)).astype(np.float32)
  second = RNG.random((4, 5, 6)).astype(np.float32)
  nifti(tmp_path / 'x_0000.nii', first)
  nifti(tmp_path / 'x_0001.nii', *turned(second, AFFINE, (2, 0, 1), (1, -1, 1)))
  nifti(tmp_path / 'x_m.nii', LABELS)
  fields = {'image': '{id}_{0000,0001}.nii', 'mask': '{id}_m.nii'}
  case = opened(tmp_path, fields=fields)[0]
  np.testing.assert_array_equal(case['image'], np.stack([first, second], -1))


def test_slices_have_a_place_as_well(tmp_path):
  image, labels = RNG.random((6, 7)), LABELS[0, :, :].repeat(2, 0)[:6]
  labels = np.ascontiguousarray(np.c_[labels, labels[:, :1]])
  nifti(tmp_path / 'images' / '0.nii', image)
  flipped = AFFINE.copy()
  flipped[:, 0] *= -1
  flipped[:3, 3] += 5 * AFFINE[:3, 0]
  nifti(tmp_path / 'masks' / '0.nii', labels[::-1], flipped)
  np.testing.assert_array_equal(opened(tmp_path)[0]['mask'], labels)
  elsewhere = AFFINE.copy()
  elsewhere[2, 3] += 20
  nifti(tmp_path / 'masks' / '0.nii', labels, elsewhere)
  with pytest.raises(ValueError, match=r'lies 20\.0 mm from'):
    opened(tmp_path)[0]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda a: a @ np.diag([1, 1, 2.0, 1]), 'mm from'),
    (lambda a: a @ np.diag([1.3, 1, 1, 1]), 'mm from'),
    (lambda a: a + np.outer([0, 0, 1, 0], [0, 0, 0, 8.0]), 'lies 8.0 mm from'),
    (lambda a: a @ nib.affines.from_matvec(rotation(20)), 'mm from'),
  ],
)
def test_other_grids_are_refused(change, message):
  image = Volume(LABELS[..., None], AFFINE, '', {'unit': 'mm'})
  mask = Volume(LABELS, change(AFFINE), 'label', {'unit': 'mm'})
  with pytest.raises(ValueError, match=message):
    on_grid('m', mask, 'i', image)


def rotation(degrees):
  c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
  return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


# A file for each structure.


def total(root, *, overlap=False):
  """TotalSegmentator's folders: a file for each of many structures."""
  for p in range(3):
    labels = np.roll(LABELS, p, 0)
    nifti(root / f's{p}' / 'ct.nii.gz', RNG.random((4, 5, 6)))
    for i, name in enumerate(('liver', 'spleen'), start=1):
      array = np.where(labels == i, 255 * (p == 1) or 1, 0).astype(np.uint8)
      array |= np.uint8(overlap)
      nifti(root / f's{p}' / 'segmentations' / f'{name}.nii.gz', array)
    nifti(root / f's{p}' / 'segmentations' / 'other.nii.gz', array)


@pytest.mark.parametrize(
  'mask',
  ['segmentations/{spleen,liver}.nii.gz',
   '{id}/segmentations/{spleen,liver}.nii.gz'],
)  # fmt: skip
def test_a_file_for_each_structure(tmp_path, mask):
  total(tmp_path)
  fields = {'image': '{id}/ct.nii.gz', 'mask': mask}
  cases = opened(tmp_path, fields=fields)
  assert cases.class_names == ('background', 'spleen', 'liver')
  assert cases.num_classes == 3
  for p, case in enumerate(cases):
    labels = np.roll(LABELS, p, 0)
    np.testing.assert_array_equal(case['mask'], np.array([0, 2, 1])[labels])
  named = ('background', 'liver', 'spleen')
  cases = opened(tmp_path, fields=fields, class_names=named)
  np.testing.assert_array_equal(cases[0]['mask'], LABELS)


def test_structures_that_overlap_or_are_missing(tmp_path):
  total(tmp_path, overlap=True)
  fields = {
    'image': '{id}/ct.nii.gz',
    'mask': 'segmentations/{liver,spleen}.nii.gz',
  }
  with pytest.raises(ValueError, match="'liver' and 'spleen' overlap"):
    opened(tmp_path, fields=fields)[0]
  (tmp_path / 's1' / 'segmentations' / 'spleen.nii.gz').unlink()
  with pytest.raises(FileNotFoundError, match=r'no mask .*spleen\.nii\.gz'):
    opened(tmp_path, fields=fields)


def test_columns_for_each_structure(tmp_path):
  total(tmp_path)
  rows = ['path,liver,spleen']
  for p in range(3):
    place = f's{p}/segmentations'
    rows.append(f's{p}/ct.nii.gz,{place}/liver.nii.gz,{place}/spleen.nii.gz')
  (tmp_path / 'cases.csv').write_text('\n'.join(rows))
  cases = opened(tmp_path, fields={'mask': '{liver,spleen}'})
  np.testing.assert_array_equal(cases[0]['mask'], LABELS)


def test_structures_of_which_each_patient_has_another(tmp_path):
  """They are several classes where these are named, else one, and noted."""
  for i, name in enumerate(('liver', 'spleen')):
    nifti(tmp_path / f'P{i}' / 'ct.nii.gz', RNG.random((4, 5, 6)))
    place = tmp_path / f'P{i}' / 'segmentations'
    nifti(place / f'{name}.nii.gz', (LABELS == 1).astype(np.uint8))
  cases = opened(tmp_path, class_names=('background', 'liver', 'spleen'))
  assert [int(c['mask'].max()) for c in cases] == [1, 2]
  for names in (None, ('background', 'organ')):
    cases = opened(tmp_path, class_names=names)
    assert [int(c['mask'].max()) for c in cases] == [1, 1]
    assert cases.num_classes == 2
    assert (
      sum('(liver, spleen, …): taken as one' in n for n in cases.notes) == 1
    )


# Slicer's segments.


def slicer(path, array, names, *, origin=(0, 0, 0), values=None):
  """A .seg.nrrd; (layers, x, y, z) where segments overlap."""
  path.parent.mkdir(parents=True, exist_ok=True)
  layers = array.ndim == 4
  sizes = ' '.join(map(str, array.shape))
  lines = [
    'NRRD0004', 'type: uchar', f'dimension: {array.ndim}',
    'space: left-posterior-superior', f'sizes: {sizes}',
    'space directions: ' + 'none ' * layers + '(1,0,0) (0,1,0) (0,0,1)',
    'kinds: ' + 'list ' * layers + 'domain domain domain', 'encoding: gzip',
    'space origin: (' + ','.join(map(str, origin)) + ')',
  ]  # fmt: skip
  for k, name in enumerate(names):
    value = (values or range(1, 99))[k] if not layers else 1
    lines += [
      f'Segment{k}_ID:=S{k}',
      f'Segment{k}_Name:={name}',
      f'Segment{k}_LabelValue:={value}',
      f'Segment{k}_Layer:={k * layers}',
    ]
  data = gzip.compress(array.astype(np.uint8).tobytes('F'))
  path.write_bytes('\n'.join(lines).encode() + b'\n\n' + data)


LPS = np.diag([-1.0, -1, 1, 1])


def test_segments_by_name(tmp_path):
  swapped = np.array([0, 2, 1])[LABELS]
  for i in range(4):
    nifti(tmp_path / 'images' / f'{i}.nii.gz', RNG.random((4, 5, 6)), LPS)
    slicer(
      tmp_path / 'masks' / f'{i}.seg.nrrd',
      swapped if i % 2 else LABELS,
      ['Tumor', 'liver'] if i % 2 else ['liver', 'tumor'],
    )
  nifti(tmp_path / 'images' / '4.nii.gz', RNG.random((4, 5, 6)), LPS)
  slicer(tmp_path / 'masks' / '4.seg.nrrd', LABELS == 2, ['tumor'])
  cases = opened(tmp_path)
  assert cases.class_names == ('background', 'liver', 'tumor')
  for case in cases[:4]:
    np.testing.assert_array_equal(case['mask'], LABELS)
  np.testing.assert_array_equal(cases[4]['mask'], 2 * (LABELS == 2))
  assert cases.notes[:2] == (
    'classes by name: liver, tumor',
    'not in all of 5 masks: liver (4)',
  )
  one = opened(tmp_path, class_names=('background', 'tumor'))
  np.testing.assert_array_equal(one[1]['mask'], LABELS == 2)
  with pytest.raises(
    ValueError, match=r'liver, tumor, and none of .* kidney; wh'
  ):
    opened(tmp_path, class_names=('background', 'kidney'))[0]


def test_values_layers_and_boxes_of_segments(tmp_path):
  for i in range(3):
    nifti(tmp_path / f'{i}.nii', RNG.random((4, 5, 6)), LPS)
  odd = np.array([0, 7, 3])[LABELS]
  slicer(tmp_path / '0_seg.seg.nrrd', odd, ['a', 'b'], values=[7, 3])
  layers = np.stack([LABELS == 1, LABELS == 2])
  slicer(tmp_path / '1_seg.seg.nrrd', layers, ['a', 'b'])
  box = LABELS[1:3, 2:, :4]  # cropped to its extent, as Slicer may save it
  slicer(tmp_path / '2_seg.seg.nrrd', box, ['a', 'b'], origin=(1, 2, 0))
  cases = opened(tmp_path)
  np.testing.assert_array_equal(cases[0]['mask'], LABELS)
  np.testing.assert_array_equal(cases[1]['mask'], LABELS)
  whole = np.zeros_like(LABELS)
  whole[1:3, 2:, :4] = box
  np.testing.assert_array_equal(cases[2]['mask'], whole)
  both = np.stack([LABELS > 0, LABELS == 2])
  slicer(tmp_path / '1_seg.seg.nrrd', both, ['a', 'b'])
  with pytest.raises(ValueError, match=r"1_seg.*'a' and 'b' overlap"):
    opened(tmp_path)[1]


def test_segments_of_one_name_are_one_class_and_two_regions(tmp_path):
  nifti(tmp_path / '0.nii', np.ones((4, 5, 6)), LPS)
  layers = np.stack([LABELS == 1, LABELS == 2])
  for name, array in (('flat', LABELS), ('layers', layers)):
    path = tmp_path / f'{name}.seg.nrrd'
    slicer(path, array, ['lesion', 'lesion'])
    found = formats.read_mask(path)
    np.testing.assert_array_equal(found.array, LABELS)
    assert found.meta['segments'] == {1: 'lesion', 2: 'lesion'}
    case = radiomics_cases.Case('0', tmp_path / '0.nii', path)
    regions = radiomics_cases.read(case).masks
    assert set(regions) == {'lesion 1', 'lesion 2'}
    np.testing.assert_array_equal(regions['lesion 2'], LABELS == 2)


def test_one_structure_each_of_another_name(tmp_path):
  for i in range(3):
    nifti(tmp_path / f'{i}.nii', RNG.random((4, 5, 6)), LPS)
    name, value = f'GTV {"xyz"[i]}', i + 1  # of what was not deleted
    array = np.where(LABELS == 1, value, 0)
    slicer(tmp_path / f'{i}_seg.seg.nrrd', array, [name], values=[value])
  cases = opened(tmp_path)
  assert cases.num_classes == 2
  assert 'taken as one class' in cases.notes[0]
  np.testing.assert_array_equal(cases[2]['mask'], LABELS == 1)


def test_masks_that_name_nothing_among_those_that_do(tmp_path):
  for i in range(4):
    nifti(tmp_path / f'{i}.nii', RNG.random((4, 5, 6)), LPS)
  for i in range(2):
    slicer(tmp_path / f'{i}_seg.seg.nrrd', LABELS, ['tumour', 'liver'])
  slicer(tmp_path / '2_seg.seg.nrrd', LABELS * 0, [])  # there is neither
  nifti(tmp_path / '3_seg.nii', LABELS, LPS)
  with pytest.raises(
    ValueError, match=r'3_seg\.nii: names no structures, as 2'
  ):
    opened(tmp_path)
  cases = opened(tmp_path, class_names=('background', 'liver', 'tumour'))
  assert '1 masks name no structures, as 2 others do' in str(cases.notes)
  np.testing.assert_array_equal(cases[3]['mask'], LABELS)
  np.testing.assert_array_equal(cases[0]['mask'], np.array([0, 2, 1])[LABELS])
  nifti(tmp_path / '3_seg.nii', np.uint8(LABELS == 1), LPS)
  for i in range(2):  # one name, so that its number is no question
    slicer(tmp_path / f'{i}_seg.seg.nrrd', LABELS == 1, ['liver'])
  np.testing.assert_array_equal(opened(tmp_path)[3]['mask'], LABELS == 1)


# Values of masks.


def pictures(root, masks):
  for i, mask in enumerate(masks):
    (root / 'images').mkdir(exist_ok=True)
    (root / 'masks').mkdir(exist_ok=True)
    shape = np.shape(mask)[:2] if not isinstance(mask, PIL.Image.Image) else (
      mask.height, mask.width
    )  # fmt: skip
    image = RNG.integers(0, 255, shape, np.uint8)
    PIL.Image.fromarray(image).save(root / 'images' / f'{i}.png')
    if not isinstance(mask, PIL.Image.Image):
      mask = PIL.Image.fromarray(mask)
    mask.save(root / 'masks' / f'{i}.png')


def test_values_and_ignore(tmp_path):
  pictures(tmp_path, [np.array([[0, 128, 255]], np.uint8)] * 3)
  with pytest.raises(ValueError, match=r'data\.mask_values=\{128: 1, 255: 2\}'):
    opened(tmp_path)[0]
  cases = opened(tmp_path, mask_values={'128': 1, '255': 2})
  assert cases[0]['mask'].tolist() == [[0, 1, 2]]
  assert cases.num_classes == 3
  pictures(tmp_path, [np.array([[0, 1, 255]], np.uint8)] * 3)
  with pytest.raises(ValueError, match=r'holds label 255.*data\.ignore'):
    opened(tmp_path, class_names=('bg', 'fg'))[0]
  cases = opened(tmp_path, ignore=255)
  assert (cases.num_classes, cases.ignore) == (2, 255)
  assert cases[0]['mask'].tolist() == [[0, 1, 255]]
  with pytest.raises(ValueError, match='whole numbers'):
    opened(tmp_path, mask_values={'white': 1})


def test_indices_that_change_their_colours(tmp_path):
  """A quantiser numbers colours anew in each file."""
  masks = []
  for order in ((0, 1, 2), (0, 2, 1)):
    colours = [(0, 0, 0), (200, 0, 0), (0, 0, 200)]
    image = PIL.Image.new('P', (3, 2))
    image.putdata([0, 1, 2, 2, 1, 0])
    image.putpalette([c for i in order for c in colours[i]])
    masks.append(image)
  pictures(tmp_path, masks)
  for names in (None, ('bg', 'red', 'blue')):
    cases = opened(tmp_path, class_names=names)
    with pytest.raises(ValueError, match=r'1\.png: index 1 of its palette is'):
      assert cases.num_classes == len(list(cases))


@pytest.mark.parametrize('names', [None, ('background', 'cup', 'disc')])
def test_a_grey_for_each_class_and_one_class_in_each_file(tmp_path, names):
  def saved(*greys):
    pictures(
      tmp_path,
      [PIL.Image.fromarray(np.array([[0, v, v]], np.uint8)) for v in greys],
    )
    return opened(tmp_path, class_names=names)

  for greys in ((100, 200), (255, 100), (127, 255)):
    low, high = sorted(greys)
    with pytest.raises(ValueError, match=rf'_values={{{low}: 1, {high}: 2}}'):
      assert (cases := saved(*greys)).num_classes == len(list(cases))
  cases = opened(tmp_path, class_names=names, mask_values={127: 1, 255: 2})
  assert sorted(int(c['mask'].max()) for c in cases) == [1, 2]
  # White that is a little darker in some files is white.
  assert [int(c['mask'].max()) for c in saved(255, 253)] == [1, 1]


# Run lengths.


def test_run_lengths(tmp_path):
  """As Kaggle has them: from 1, down the columns; one row per structure."""
  shape = (5, 4)
  masks = RNG.integers(0, 2, (3, *shape), np.uint8)
  masks[2] = 0
  rows = ['ImageId,EncodedPixels']
  for i, mask in enumerate(masks):
    image = RNG.integers(0, 255, shape, np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / f'{i}.png')
    on = np.flatnonzero(mask.ravel(order='F')) + 1
    rows += [f'{i},{k} 1' for k in on[::2]]
    rows.append(f'{i},' + (' '.join(f'{k} 1' for k in on[1::2]) or '-1'))
  (tmp_path / 'cases.csv').write_text('\n'.join(rows))
  fields = {'image': 'ImageId', 'mask': 'EncodedPixels'}
  cases = opened(tmp_path, fields=fields)
  assert cases.num_classes == 2
  for case, mask in zip(cases, masks, strict=True):
    np.testing.assert_array_equal(case['mask'], mask)
  rows[1] = '0,19 5'
  (tmp_path / 'cases.csv').write_text('\n'.join(rows))
  with pytest.raises(
    ValueError, match='run lengths leave the picture of 5 x 4'
  ):
    opened(tmp_path, fields=fields)[0]
