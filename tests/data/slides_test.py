"""Whole slides, cut into tiles: made small, and real DICOM ones."""

import shutil

import highdicom
import numpy as np
import PIL.Image
import pytest
import tifffile

from medjax import convert
from medjax.data import formats, slides

APERIO = 'Aperio Image Library v12\r\n96x70 (32x32) |AppMag = 20|MPP = 0.5000'


def picture(rows=70, columns=96):
  """RGB whose channels tell where a pixel lies."""
  row, column = np.mgrid[:rows, :columns]
  return np.stack([2 * row, 2 * column, row + column], -1).astype(np.uint8)


def halved(array):
  image = PIL.Image.fromarray(array)
  size = array.shape[1] // 2, array.shape[0] // 2
  return np.asarray(image.resize(size, PIL.Image.Resampling.BOX))


def pyramid(path, kind, **options):
  """A slide of three levels as scanners and OME write it; gives its levels."""
  arrays = [picture()]
  arrays += [halved(arrays[0])]
  arrays += [halved(arrays[1])]
  options = dict(photometric='rgb', tile=(32, 32), **options)
  with tifffile.TiffWriter(path, ome=kind == 'ome') as file:
    if kind == 'ome':
      sizes = dict(PhysicalSizeX=0.5, PhysicalSizeXUnit='µm')
      sizes |= dict(PhysicalSizeY=0.5, PhysicalSizeYUnit='µm')
      file.write(arrays[0], subifds=2, metadata=sizes, **options)
      for array in arrays[1:]:
        file.write(array, subfiletype=1, **options)
      return arrays
    if kind == 'svs':
      own = dict(description=APERIO)
    else:
      own = dict(resolution=(20000, 20000), resolutionunit='CENTIMETER')
    file.write(arrays[0], metadata=None, **own, **options)
    if kind == 'svs':  # its thumbnail comes between the levels
      file.write(arrays[2], metadata=None, description='Aperio')
    for array in arrays[1:]:
      reduced = dict(subfiletype=int(kind != 'svs'))
      file.write(
        array, metadata=None, description='Aperio', **reduced, **options
      )
  return arrays


@pytest.mark.parametrize('kind', ['svs', 'ome', 'plain'])
@pytest.mark.parametrize('compression', [None, 'zlib'])
def test_regions_of_every_level(kind, compression, tmp_path):
  suffix = {'svs': '.svs', 'ome': '.ome.tif', 'plain': '.tif'}[kind]
  path = tmp_path / f'x{suffix}'
  arrays = pyramid(path, kind, compression=compression)
  levels = slides.levels(path)
  assert [one.shape for one in levels] == [a.shape[:2] for a in arrays]
  for k, (level, array) in enumerate(zip(levels, arrays, strict=True)):
    np.testing.assert_allclose(level.spacing, 0.0005 * 2**k, rtol=0.03)
    for box in ((0, 0, 99, 99), (3, 5, 9, 11), (15, 20, 40, 50), (16, 0, 1, 9)):
      row, column, rows, columns = box
      want = array[row : row + rows, column : column + columns]
      np.testing.assert_array_equal(level.region(*box), want)


def test_jpeg_inside(tmp_path):
  pyramid(tmp_path / 'x.svs', 'svs', compression='jpeg')
  level = slides.levels(tmp_path / 'x.svs')[0]
  with tifffile.TiffFile(tmp_path / 'x.svs') as file:
    want = file.pages[0].asarray()
  np.testing.assert_array_equal(level.region(7, 9, 50, 60), want[7:57, 9:69])
  assert abs(want.astype(int) - picture()).mean() < 4


def test_what_samples_mean(tmp_path):
  """Alpha is dropped, white is high, a palette is refused, others are RGB."""
  path, array = tmp_path / 'x.tif', picture()
  read = lambda: slides.levels(path)[0].region(5, 7, 60, 80)
  options = dict(tile=(32, 32))
  alpha = np.dstack([array, array[..., :1]])
  tifffile.imwrite(
    path, alpha, photometric='rgb', extrasamples=['unassalpha'], **options
  )
  np.testing.assert_array_equal(read(), array[5:65, 7:87])
  grey = array[..., :1]
  tifffile.imwrite(path, grey[..., 0], photometric='miniswhite', **options)
  np.testing.assert_array_equal(read(), 255 - grey[5:65, 7:87])
  for form in (
    dict(photometric='ycbcr', compression='jpeg', subsampling=(2, 2)),
    dict(photometric='rgb', compression='aperio_jp2000_rgb'),
    dict(photometric='rgb', compression='lzw', predictor=True, bigtiff=True),
  ):
    tifffile.imwrite(path, array, **form, **options)
    with tifffile.TiffFile(path) as file:
      want = file.pages[0].asarray()
    np.testing.assert_array_equal(read(), want[5:65, 7:87])
  table = np.zeros((3, 256), np.uint16)
  tifffile.imwrite(
    path, grey[..., 0], photometric='palette', colormap=table, **options
  )
  with pytest.raises(ValueError, match=r'\(palette\), not grey or RGB'):
    read()


def test_tiles_of_a_spacing(tmp_path, capsys):
  (tmp_path / 'in/a').mkdir(parents=True)
  arrays = pyramid(tmp_path / 'in/a/x.svs', 'svs')
  out = tmp_path / 'out'
  convert.cut(tmp_path / 'in', out, size=32, spacing=0.001)
  assert '4 tiles in' in capsys.readouterr().out
  place = out / 'a/x'
  assert sorted(p.name for p in place.iterdir()) == [
    f'r{row:06d}_c{column:06d}.png' for row in (0, 32) for column in (0, 32)
  ]
  tile = formats.read(place / 'r000000_c000032.png').array
  np.testing.assert_array_equal(tile, arrays[1][:32, 32:])
  # Between two levels the finer one is averaged; its own size is kept.
  convert.cut(tmp_path / 'in', tmp_path / 'mid', size=99, spacing=0.0015)
  tile = formats.read(tmp_path / 'mid/a/x/r000000_c000000.png').array
  assert tile.shape == (23, 32, 3)
  want = PIL.Image.fromarray(arrays[1]).resize(
    (32, 23), PIL.Image.Resampling.BOX
  )
  assert abs(tile.astype(int) - np.asarray(want)).max() <= 2


def test_a_damaged_slide_is_no_end_and_the_command_goes_on(
  tmp_path, capsys, monkeypatch
):
  (tmp_path / 'in').mkdir()
  for name in ('a', 'b', 'c'):
    pyramid(tmp_path / f'in/{name}.svs', 'svs')
  whole = (tmp_path / 'in/b.svs').read_bytes()
  (tmp_path / 'in/b.svs').write_bytes(whole[: len(whole) // 2])
  command = f'convert {tmp_path}/in {tmp_path}/out --tile=64'
  monkeypatch.setattr('sys.argv', command.split())
  with pytest.raises(SystemExit):
    convert.main()
  said = capsys.readouterr()
  assert '1 slides failed; the first:' in said.err
  assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['a', 'c']
  (tmp_path / 'in/b.svs').write_bytes(whole)
  assert convert.cut(tmp_path / 'in', tmp_path / 'out', size=64) == []
  said = capsys.readouterr().out
  assert said.count('is there already') == 2
  assert f'4 tiles in {tmp_path}/out/b' in said


def test_a_level_is_of_tiles(tmp_path, capsys, monkeypatch):
  command = f'convert {tmp_path} {tmp_path}/out --spacing=0.001'
  monkeypatch.setattr('sys.argv', command.split())
  with pytest.raises(SystemExit):
    convert.main()
  assert 'give --tile too' in capsys.readouterr().err


def test_what_is_refused_and_how_it_is_mended(tmp_path):
  rows = tmp_path / 'x.tif'
  pyramid(rows, 'plain')
  with pytest.raises(ValueError, match=r'has no level 3; its 3 are 70 x 96'):
    slides.cut(rows, tmp_path / 'o', size=8, level=3)
  with pytest.raises(ValueError, match=r'coarser than 0\.0001 mm'):
    slides.cut(rows, tmp_path / 'o', size=8, spacing=1e-4)
  # Masks are not averaged, and a pixel of unknown size has no spacing.
  grey = tmp_path / 'mask.tif'
  tifffile.imwrite(
    grey, picture()[..., 0], tile=(32, 32), resolution=(20000, 20000),
    resolutionunit='CENTIMETER',
  )  # fmt: skip
  assert slides.cut(grey, tmp_path / 'm', size=64, level=0) == 4
  with pytest.raises(FileExistsError, match='choose another OUT'):
    slides.cut(grey, tmp_path / 'm', size=64)
  with pytest.raises(ValueError, match='may be a mask'):
    slides.cut(grey, tmp_path / 'n', size=64, spacing=0.001)
  tifffile.imwrite(grey, picture()[..., 0], resolution=(96, 96))
  with pytest.raises(ValueError, match='does not say how large'):
    slides.cut(grey, tmp_path / 'n', size=64, spacing=0.001)
  tifffile.imwrite(grey, np.zeros((3, 8, 8), np.uint8))
  with pytest.raises(ValueError, match='its axes are'):
    slides.levels(grey)
  (tmp_path / 'x.txt').write_text('no slide')
  with pytest.raises(ValueError, match=r'is no slide that is read'):
    slides.levels(tmp_path / 'x.txt')
  data = rows.read_bytes()
  rows.write_bytes(data[: len(data) // 2])
  with pytest.raises(ValueError, match=r'x\.tif: .*copy it again'):
    slides.cut(rows, tmp_path / 'half', size=64)
  assert not (tmp_path / 'half').exists()


@pytest.fixture
def real(shared_data, tmp_path):
  def copy(name):
    folder = tmp_path / name
    folder.mkdir()
    source = shared_data('dicom_highdicom') / f'{name}.dcm'
    return shutil.copy(source, folder / 'x.dcm')

  return copy


@pytest.mark.parametrize(
  'name', ['sm_image', 'sm_image_numbers', 'sm_image_jpegls', 'sm_image_dots']
)
def test_dicom_agrees_with_highdicom(name, real):
  path = real(name)
  (level,) = slides.levels(path)
  want = highdicom.imread(path).get_total_pixel_matrix(dtype=np.uint8)
  np.testing.assert_array_equal(level.region(0, 0, 99, 99), want)
  np.testing.assert_array_equal(level.region(7, 12, 20, 31), want[7:27, 12:43])
  np.testing.assert_allclose(level.spacing, 0.000499)


def test_dicom_as_a_folder_of_slides(real, tmp_path, capsys):
  real('sm_image')
  real('sm_image_numbers')
  convert.cut(tmp_path, tmp_path / 'out', size=32)
  assert capsys.readouterr().out.count('4 tiles in') == 2
  assert (tmp_path / 'out/sm_image/r000032_c000032.png').is_file()
  one = real('sm_image_dots')
  with pytest.raises(ValueError, match='--tile=512'):
    formats.read(one)


def test_two_slides_of_one_name_are_refused(tmp_path):
  (tmp_path / 'in/c').mkdir(parents=True)
  pyramid(tmp_path / 'in/c/a.svs', 'svs')
  pyramid(tmp_path / 'in/a.svs', 'svs')
  assert sorted(slides.find(tmp_path / 'in')) == ['a', 'c/a']
  pyramid(tmp_path / 'in/a.tif', 'plain')
  with pytest.raises(ValueError, match=r'in/a\.svs and .*would both become a;'):
    convert.cut(tmp_path / 'in', tmp_path / 'out', size=64)
  assert not (tmp_path / 'out').exists()
