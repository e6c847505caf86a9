"""Bad DICOM: each gets one line that names the file and not the patient."""

import pathlib
import sys

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from medjax.data import formats
from medjax.data.formats import dicom

sys.path.append(str(pathlib.Path(__file__).parent))
from dicom_series import NAME, dataset, line, save, series


def bad_series(p, name):
  """Makes the bad input `name` in folder p; returns what to read."""
  five = line(range(5))
  d = dataset(np.zeros((4, 6), np.int16), ImagePositionPatient=[10, 20, 50])
  path = p / 'x.dcm'
  match name:
    case 'missing slices':
      series(p, [q for i, q in enumerate(line(range(9))) if i not in (3, 4)])
    case 'uneven slices':
      series(p, line([0, 1, 2.4, 3.1, 4.9]))
    case 'crooked':
      series(p, [(10 + (k == 2), 20, 30 + k) for k in range(5)])
    case 'two at one place':
      series(p, [*five, five[2]], EchoTime=lambda k: 5 + 10 * (k == 5))
    case 'mixed orientations':
      series(p, five)
      d.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
      save(d, path)
    case 'mixed sizes':
      series(p, five)
      d.Rows, d.Columns = 6, 4
      save(d, path)
    case 'mixed pixel spacing':
      series(p, five)
      d.PixelSpacing = [0.5, 0.5]
      save(d, path)
    case 'no position':
      series(p, five)
      del d.ImagePositionPatient
      save(d, path)
    case 'no directions':
      series(p, five, ImageOrientationPatient=[0] * 6)
    case 'junk folder':
      (p / 'a.txt').write_text('hello')
      (p / 'b').write_bytes(b'\x00\xff' * 300)
    case 'damaged slice':
      series(p, five)
      whole = (p / '88.dcm').read_bytes()
      (p / '88.dcm').write_bytes(whole[:-20])
      return p
    case 'junk slice':
      series(p, five)
      (p / '88.dcm').write_bytes(b'junk' * 200)
    case 'truncated header':
      save(d, path)
      path.write_bytes(path.read_bytes()[:300])
      return path
    case 'truncated pixels':
      save(d, path)
      path.write_bytes(path.read_bytes()[:-11])
      return path
    case 'no pixels':
      del d.PixelData
      return save(d, path)
    case 'no rows':
      d.Rows = 0
      return save(d, path)
    case 'lying size':
      d.Rows = d.Columns = 65535
      return save(d, path)
    case 'lying frames':
      d.NumberOfFrames = 2**30
      return save(d, path)
    case 'lying compressed size':
      d = pydicom.dcmread(
        get_testdata_file('MR_small_jpeg_ls_lossless.dcm', download=False)
      )
      d.Rows = d.Columns = 65535
      return save(d, path)
    case 'slope is a word':
      save(d, path)
      d.RescaleSlope = 1.5
      save(d, path)
      path.write_bytes(path.read_bytes().replace(b'1.5 ', b'abc '))
      return path
    case 'empty':
      path.write_bytes(b'')
      return path
    case 'deflate bomb':
      import zlib

      d.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2.1.99'
      save(d, path)
      meta = path.read_bytes()
      meta = meta[: 144 + int.from_bytes(meta[140:144], 'little')]
      deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
      with path.open('wb') as f:
        f.write(meta)
        block = bytes(2**22)
        f.write(deflate.compress(block))
        f.write(deflate.flush())
      return path
  return p


BAD = {
  'missing slices': '2 slices are missing, 2 of them between 35.00 and 42.50',
  'uneven slices': 'the distance between slices varies from 1.75 to 4.50 mm',
  'crooked': 'slices lie up to 1.00 mm off a straight, even line',
  'two at one place': 'lie at the same place (they differ in EchoTime',
  'mixed orientations': '5 axial, 1 sagittal',
  'mixed sizes': '5 4x6, 1 6x4',
  'mixed pixel spacing': 'pixel spacing varies within the series',
  'no position': '1 of 6 images have no ImagePositionPatient (x.dcm)',
  'no directions': 'is no pair of right-angled directions',
  'junk folder': 'no DICOM images among 2 files',
  'damaged slice': '88.dcm: truncated: 28 of 48 bytes of pixels',
  'junk slice': '88.dcm: not a DICOM file',
  'truncated header': 'cut off in its header',
  'truncated pixels': 'truncated: 37 of 48 bytes of pixels',
  'no pixels': 'holds no pixels',
  'no rows': 'holds no image',
  'lying size': 'truncated: 48 of 8589672450 bytes',
  'lying frames': 'NumberOfFrames is 1.07374e+09',
  'lying compressed size': 'cannot hold',
  'slope is a word': 'RescaleSlope is not a number',
  'empty': 'the file is empty',
  'deflate bomb': 'inflates to more than 1 MiB',
}


@pytest.mark.parametrize('name', BAD)
def test_bad_inputs_get_one_line(tmp_path, name, monkeypatch):
  monkeypatch.setattr(dicom.header, '_INFLATED_LIMIT', 2**20)
  folder = tmp_path / 'bad'
  folder.mkdir()
  path = bad_series(folder, name)
  with pytest.raises(ValueError, match=r'.') as e:
    formats.read(path)
  said = str(e.value)
  assert BAD[name] in said
  assert str(folder) in said
  assert '\n' not in said
  assert NAME not in said
