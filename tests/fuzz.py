"""Damaged inputs for every reader: each ends in a line, or in a correct read.

    python tests/fuzz.py SHARED_DATA --seed=1 --count=2000

prints what became of them, by reader. `tests/data/fuzz_test.py` runs it with
few and a fixed seed.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import gzip
import io
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import PIL.Image
import pydicom
from pydicom.data import get_testdata_file

from medjax import convert
from medjax.data import formats
from medjax.data.formats import dicom
from medjax.data.formats.dicom import jpeg

SECONDS = 10  # that one input may take
MEGABYTES = 64  # that a lying input may have allocated at its peak


class TooLongError(BaseException):
  """Not an Exception: readers turn those into lines of theirs."""


@dataclasses.dataclass(frozen=True)
class Seed:
  """A whole input: files by name, one of which is damaged; how it is read.

  `read` is handed the path of `target`, or of the folder if that is ''.
  """

  reader: str
  files: dict
  read: object
  target: str


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of an input: 'read', 'refused', or why that is wrong."""

  reader: str
  damage: str
  said: str
  seconds: float
  megabytes: float = 0.0
  line: str = ''


# Whole inputs.


def volumes():
  """NIfTI, NRRD and MetaImage, in several encodings."""
  rng = np.random.default_rng(0)
  array = rng.integers(-100, 3000, (6, 5, 4)).astype(np.int16)
  affine = np.diag([0.7, 0.8, 2.5, 1.0])

  def nifti(kind, array, slope=None):
    image = kind(array, affine)
    if slope:
      image.header.set_slope_inter(slope, -3)
    return image.to_bytes()

  plain = nifti(nib.Nifti1Image, array)
  colour = np.zeros((6, 5, 4), [('R', 'u1'), ('G', 'u1'), ('B', 'u1')])
  yield 'a.nii', plain
  yield 'a.nii.gz', gzip.compress(plain)
  yield 'b.nii.gz', gzip.compress(nifti(nib.Nifti1Image, array, 0.5))
  yield 'c.nii', nifti(nib.Nifti2Image, array.astype(np.float64))
  yield 'd.nii.gz', gzip.compress(nifti(nib.Nifti1Image, colour))
  raw = array.tobytes(order='F')
  header = (
    'NRRD0005\ntype: int16\ndimension: 3\nspace: left-posterior-superior\n'
    'sizes: 6 5 4\nspace directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)\n'
    'kinds: domain domain domain\nendian: little\n'
    'space origin: (1,2,3)\nencoding: '
  )
  text = ' '.join(map(str, array.ravel(order='F'))).encode()
  yield 'a.nrrd', f'{header}raw\n\n'.encode() + raw
  yield 'b.nrrd', f'{header}gzip\n\n'.encode() + gzip.compress(raw)
  yield 'c.nrrd', f'{header}ascii\n\n'.encode() + text
  header = (
    'ObjectType = Image\nNDims = 3\nBinaryData = {}\nCompressedData = {}\n'
    'BinaryDataByteOrderMSB = False\n'
    'TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\n'
    'ElementSpacing = 0.7 0.8 2.5\nDimSize = 6 5 4\n'
    'ElementType = MET_SHORT\nElementDataFile = LOCAL\n'
  )
  yield 'a.mha', header.format('True', 'False').encode() + raw
  yield 'b.mha', header.format('True', 'True').encode() + zlib.compress(raw)
  yield 'c.mha', header.format('False', 'False').encode() + text


def pictures():
  """PNG, JPEG, TIFF and BMP, of several modes and compressions."""
  rng = np.random.default_rng(0)
  grey = PIL.Image.fromarray(rng.integers(0, 255, (40, 30), np.uint8))
  wide = PIL.Image.fromarray(rng.integers(0, 2**16, (40, 30), np.uint16))
  colour = PIL.Image.fromarray(rng.integers(0, 255, (40, 30, 3), np.uint8))

  def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()

  pages = {'save_all': True, 'append_images': [grey, grey]}
  yield 'a.png', saved(grey, 'PNG')
  yield 'b.png', saved(wide, 'PNG')
  yield 'c.png', saved(colour.quantize(16), 'PNG')
  yield 'a.jpg', saved(colour, 'JPEG')
  yield 'b.jpg', saved(grey, 'JPEG', progressive=True)
  yield 'a.tif', saved(grey, 'TIFF', **pages)
  yield 'b.tif', saved(wide, 'TIFF', compression='tiff_lzw')
  yield 'c.tif', saved(colour, 'TIFF', compression='tiff_adobe_deflate')
  yield 'a.bmp', saved(colour, 'BMP')


def seeds(shared):
  """A `Seed` for each reader and encoding; `shared` holds the real data."""
  for name, content in volumes():
    reader = {'nii': 'NIfTI', 'nii.gz': 'NIfTI', 'nrrd': 'NRRD'}.get(
      name.partition('.')[2], 'MetaImage'
    )
    yield Seed(reader, {name: content}, formats.read, name)
    if name == 'a.nii.gz':
      yield Seed('mask', {name: content}, formats.read_mask, name)
  yield _detached('NRRD', 'x.nhdr', dict(volumes())['a.nrrd'], b'encoding: raw')
  yield _detached('MetaImage', 'x.mhd', dict(volumes())['a.mha'], b'= LOCAL')
  for name, content in pictures():
    reader = 'TIFF' if name.endswith('tif') else 'picture'
    yield Seed(reader, {name: content}, formats.read, name)
    if name == 'c.png':
      yield Seed('mask', {name: content}, formats.read_mask, name)
  for name in (
    'MR_small', 'MR_small_RLE', 'MR_small_jp2klossless', 'image_dfl',
    'MR_small_jpeg_ls_lossless', 'SC_rgb_jpeg_dcmtk', 'MR_small_bigendian',
  ):  # fmt: skip
    content = pathlib.Path(
      get_testdata_file(f'{name}.dcm', download=False)
    ).read_bytes()
    yield Seed('DICOM', {'a.dcm': content}, formats.read, 'a.dcm')
  lossless = get_testdata_file('SC_rgb_jpeg_gdcm.dcm', download=False)
  if jpeg.is_available(pydicom.uid.JPEGLosslessSV1):
    content = pathlib.Path(lossless).read_bytes()
    yield Seed('DICOM', {'a.dcm': content}, formats.read, 'a.dcm')
  yield Seed('DICOM', {'a.dcm': high_throughput()}, formats.read, 'a.dcm')
  home, sts = shared / 'dicom_highdicom', shared / 'dicom_sts025'
  for path in (home / 'dx_image.dcm', home / 'ct_image.dcm'):
    yield Seed('DICOM', {'a.dcm': path.read_bytes()}, formats.read, 'a.dcm')
  for name in ('emri_small_RLE', 'rtdose', 'eCT_Supplemental'):
    path = pathlib.Path(get_testdata_file(f'{name}.dcm', download=False))
    if path.stat().st_size < 2**20:
      yield Seed(
        'multi-frame', {'a.dcm': path.read_bytes()}, formats.read, 'a.dcm'
      )
  yield Seed('multi-frame', {'a.dcm': enhanced()}, formats.read, 'a.dcm')
  slices = sorted((sts / 'PET' / 'image').iterdir())[10:14]
  files = {p.name: p.read_bytes() for p in slices}
  one = slices[1].name
  yield Seed('series', files, _parent(formats.read), one)
  yield Seed('PET', files, _parent(lambda p: dicom.read(p, suv=True)), one)
  yield Seed('convert', files, _parent(converted), one)
  small, pet = _small_ct(), formats.read(sts / 'PET' / 'image')
  for reader, path, reference in (
    ('SEG', home / 'seg_image_ct_binary.dcm', small),
    ('SEG', home / 'seg_image_ct_true_fractional.dcm', small),
    ('RTSTRUCT', sts / 'PET' / 'mask' / 'RS.dcm', pet),
  ):
    reference.meta.pop('frame_of_reference', '')  # would refuse most at once
    read = functools.partial(formats.read_segmentation, reference=reference)
    yield Seed(reader, {'a.dcm': path.read_bytes()}, read, 'a.dcm')


def _small_ct():
  """The three slices on which the small CT segmentations were drawn."""
  home = pathlib.Path(get_testdata_file('CT_small.dcm', download=False)).parent
  with tempfile.TemporaryDirectory() as folder:
    for file in (home / 'dicomdirtests' / '77654033' / 'CT2').iterdir():
      if pydicom.dcmread(file).ImagePositionPatient[2] > 100:
        shutil.copy(file, folder)
    return formats.read(folder)


def _detached(reader, name, whole, mark):
  """A header and its voxels in two files; the header is damaged."""
  begin = whole.index(mark)
  end = whole.index(b'\n', begin) + 1
  header = whole[:begin] + (
    b'encoding: raw\ndata file: x.raw\n' if mark[:1] == b'e' else b'= x.raw\n'
  )
  voxels = whole[end:].removeprefix(b'\n')
  return Seed(reader, {name: header, 'x.raw': voxels}, formats.read, name)


def _parent(read):
  return lambda path: read(path.parent)


def converted(folder):
  """What `medjax.convert` does with a folder, in this process."""
  out = folder.with_name('converted')
  shutil.rmtree(out, ignore_errors=True)
  for job in convert.find_jobs(folder, out):
    outcome = convert._attempt(job, None, None)
    if outcome.error:
      raise ValueError(outcome.error)
    assert outcome.written.exists()


def high_throughput():
  """A ramp in High-Throughput JPEG 2000."""
  d = pydicom.dcmread(get_testdata_file('MR_small.dcm', download=False))
  frame = pathlib.Path(__file__).parent / 'data' / 'ramp.j2c'
  d.PixelData = pydicom.encaps.encapsulate([frame.read_bytes()])
  d['PixelData'].VR, d['PixelData'].is_undefined_length = 'OB', True
  d.Rows, d.Columns, d.PixelRepresentation = 8, 8, 0
  d.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2K
  buffer = io.BytesIO()
  d.save_as(buffer)
  return buffer.getvalue()


def enhanced():
  """A file of three frames, each with a place and a slope of its own."""
  d = pydicom.dcmread(get_testdata_file('MR_small.dcm', download=False))
  frame = d.PixelData
  groups = []
  for k in range(3):
    group, at, value = (pydicom.Dataset() for _ in range(3))
    at.ImagePositionPatient = [1, 2, 3.5 * k]
    value.RescaleSlope, value.RescaleIntercept = 1 + k, -1
    group.PlanePositionSequence = [at]
    group.PixelValueTransformationSequence = [value]
    groups.append(group)
  shared, measures, plane = (pydicom.Dataset() for _ in range(3))
  measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2
  plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
  shared.PixelMeasuresSequence = [measures]
  shared.PlaneOrientationSequence = [plane]
  d.SharedFunctionalGroupsSequence = [shared]
  d.PerFrameFunctionalGroupsSequence = groups
  d.NumberOfFrames, d.PixelData = 3, frame * 3
  buffer = io.BytesIO()
  d.save_as(buffer)
  return buffer.getvalue()


# Damages: content and random numbers in, content out.


def cut(data, rng):
  return data[: rng.integers(len(data))]


def flip_bits(data, rng):
  data = bytearray(data)
  for at in rng.integers(0, len(data), rng.integers(1, 30)):
    data[at] ^= 1 << rng.integers(8)
  return data


def flip_bits_of_the_head(data, rng):
  data = bytearray(data)
  for at in rng.integers(0, min(len(data), 400), rng.integers(1, 12)):
    data[at] ^= 1 << rng.integers(8)
  return data


def noise(data, rng):
  data = bytearray(data)
  at = rng.integers(len(data))
  size = int(rng.integers(1, 64))
  data[at : at + size] = rng.bytes(size)
  return data


def leave_out(data, rng):
  at = rng.integers(min(len(data), 3000))
  return data[:at] + data[at + rng.integers(1, 40) :]


def repeat(data, rng):
  at = rng.integers(min(len(data), 3000))
  return data[:at] + data[at : at + rng.integers(1, 200)] * 3 + data[at:]


def blank(data, rng):
  at, size = rng.integers(len(data)), int(rng.integers(1, 500))
  return data[:at] + bytes(size) + data[at + size :]


def wrong_type(data, rng):
  """Another VR, for DICOM; elsewhere two letters."""
  known = [m.start() for m in re.finditer(rb'(UL|US|DS|IS|SQ|OW|LO)', data)]
  if not known:
    return noise(data, rng)
  at = known[rng.integers(len(known))]
  kinds = [b'SQ', b'UN', b'OB', b'DS', b'FD', b'UL', b'AT', b'\xff\xff', b'ZZ']
  return data[:at] + kinds[rng.integers(len(kinds))] + data[at + 2 :]


def lie_of_lengths(data, rng):
  at = rng.integers(min(len(data), 3000))
  lie = [b'\xff\xff\xff\xff', b'\xff\xff\xff\x7f', b'\0\0\0\x40', bytes(4)]
  return data[:at] + lie[rng.integers(len(lie))] + data[at + 4 :]


def lie_of_numbers(data, rng):
  """One number of a text header becomes another."""
  found = list(re.finditer(rb'\d+', data[:2000]))
  if not found:
    return lie_of_lengths(data, rng)
  spot = found[rng.integers(len(found))]
  lies = [b'0', b'-1', b'999999999999', b'nan', b'inf', b'1e308', b'9' * 5000]
  return (
    data[: spot.start()] + lies[rng.integers(len(lies))] + data[spot.end() :]
  )


def nothing(data, rng):
  return b''


def junk(data, rng):
  return data[: rng.integers(1, 400)] + rng.bytes(rng.integers(1, 4000))


DAMAGES = (
  cut, cut, flip_bits, flip_bits, flip_bits_of_the_head, noise, leave_out,
  repeat, blank, wrong_type, lie_of_lengths, lie_of_numbers, junk,
)  # fmt: skip


def damaged(data, damage, rng):
  """The damage, half of the time below a gzip's own checksum."""
  if data[:2] == b'\x1f\x8b' and rng.integers(2):
    return gzip.compress(bytes(damage(gzip.decompress(data), rng)), 1)
  return bytes(damage(data, rng))


# Inputs that lie, made by hand.


def bombs():
  """(reader, name, content) of small files that promise, or hold, gigabytes."""
  zeros = bytes(2**26)
  plain = dict(volumes())
  head = bytearray(plain['a.nii'][:352])

  def header(shape, offset=352.0):
    new = bytearray(head)
    new[40:56] = struct.pack('<8h', len(shape), *shape, *[1] * (7 - len(shape)))
    new[108:112] = struct.pack('<f', offset)
    return bytes(new)

  yield 'NIfTI', 'a.nii', header((32767,) * 4) + bytes(99)
  yield 'NIfTI', 'b.nii.gz', gzip.compress(header((32767,) * 4) + bytes(99))
  yield 'NIfTI', 'c.nii.gz', gzip.compress(header((6, 5, 4)) + zeros)
  yield 'NIfTI', 'd.nii.gz', gzip.compress(header((6, 5, 4), 3e9) + zeros)
  yield 'NIfTI', 'e.nii.gz', gzip.compress(header((9000, 9000, 4)) + bytes(99))
  two = bytearray(plain['c.nii'])
  two[16:80] = struct.pack('<8q', 3, 2**40, 2**40, 2**40, 1, 1, 1, 1)
  yield 'NIfTI', 'f.nii', bytes(two)
  for lie in (b'1000000 1000000 1000000', b'99999 99999 4', b'6 5 -4'):
    yield 'NRRD', 'a.nrrd', plain['a.nrrd'].replace(b'6 5 4', lie)
    yield 'NRRD', 'b.nrrd', plain['b.nrrd'].replace(b'6 5 4', lie)
    yield 'NRRD', 'c.nrrd', plain['c.nrrd'].replace(b'6 5 4', lie)
    yield 'MetaImage', 'a.mha', plain['a.mha'].replace(b'6 5 4', lie)
    yield 'MetaImage', 'b.mha', plain['b.mha'].replace(b'6 5 4', lie)
    yield 'MetaImage', 'c.mha', plain['c.mha'].replace(b'6 5 4', lie)
  end = plain['b.nrrd'].index(b'\n\n') + 2
  yield 'NRRD', 'd.nrrd', plain['b.nrrd'][:end] + gzip.compress(zeros)
  end = plain['b.mha'].index(b'LOCAL\n') + 6
  yield 'MetaImage', 'd.mha', plain['b.mha'][:end] + zlib.compress(zeros)
  drawn = dict(pictures())
  png = bytearray(drawn['a.png'])
  for size in (60000, 12000, 2**31 - 1):
    png[16:24] = struct.pack('>II', size, size)
    png[29:33] = struct.pack('>I', zlib.crc32(png[12:29]))
    yield 'picture', 'a.png', bytes(png)
  text = b'a\0\0' + zlib.compress(zeros)
  chunk = struct.pack('>I', len(text)) + b'zTXt' + text
  chunk += struct.pack('>I', zlib.crc32(b'zTXt' + text))
  png = drawn['a.png']
  yield 'picture', 'b.png', png[:33] + chunk + png[33:]
  jpeg = bytearray(drawn['a.jpg'])
  at = jpeg.index(b'\xff\xc0') + 5
  jpeg[at : at + 4] = b'\xff\xff\xff\xff'
  yield 'picture', 'a.jpg', bytes(jpeg)
  # The width and height of a TIFF, tags 256 and 257.
  for name in ('a.tif', 'b.tif'):
    tiff = bytearray(drawn[name])
    for tag in (b'\x00\x01', b'\x01\x01'):
      for spot in re.finditer(tag + rb'[\x03\x04]\x00\x01\x00\x00\x00', tiff):
        tiff[spot.start() : spot.end() + 4] = (
          tag + b'\x04\0\x01\0\0\0' + struct.pack('<I', 50000)
        )
    yield 'TIFF', name, bytes(tiff)
  yield from dicom_bombs(zeros)


def dicom_bombs(zeros):
  """The same for DICOM: sizes, frames, deflated zeros, lying codestreams."""
  for name in ('MR_small', 'MR_small_RLE', 'MR_small_jpeg_ls_lossless'):
    d = pydicom.dcmread(get_testdata_file(f'{name}.dcm', download=False))
    for fields in (
      {'Rows': 65535, 'Columns': 65535},
      {'NumberOfFrames': 2**31 - 1},
      {'Rows': 20000, 'Columns': 20000, 'NumberOfFrames': 1000},
    ):
      for key, value in fields.items():
        setattr(d, key, value)
      buffer = io.BytesIO()
      d.save_as(buffer)
      yield 'DICOM', 'a.dcm', buffer.getvalue()
  d = pydicom.dcmread(
    get_testdata_file('MR_small_jp2klossless.dcm', download=False)
  )
  content = pathlib.Path(d.filename).read_bytes()
  at = content.index(b'\xff\x4f\xff\x51') + 8
  for size in (2**16, 2**31):
    lie = struct.pack('>II', size, size)
    yield 'DICOM', 'b.dcm', content[:at] + lie + content[at + 8 :]
  content = pathlib.Path(
    get_testdata_file('image_dfl.dcm', download=False)
  ).read_bytes()
  begin = 144 + int.from_bytes(content[140:144], 'little')
  pack = zlib.compressobj(9, zlib.DEFLATED, -15)
  packed = b''.join(pack.compress(zeros) for _ in range(17)) + pack.flush()
  yield 'DICOM', 'c.dcm', content[:begin] + packed


def junk_folders(rng):
  """Folders of junk: (reader, {name: content})."""
  names = ('a', 'b.txt', 'c.dcm', 'd.nii.gz', 'e.png', 'IM0001', 'f.mhd', '.x')
  for reader in ('series', 'convert'):
    for _ in range(3):
      chosen = rng.choice(names, rng.integers(1, len(names)), replace=False)
      files = {str(n): rng.bytes(rng.integers(0, 3000)) for n in chosen}
      yield reader, files
    yield reader, {}
    yield reader, {'a.dcm': b'', 'b.dcm': bytes(128) + b'DICM'}


# Trying them.


def attempt(reader, damage, read, path, *, measure=False):
  """The `Outcome` of reading one input."""
  signal.signal(signal.SIGALRM, _too_long)
  signal.setitimer(signal.ITIMER_REAL, SECONDS)
  began, said, line, peak = time.perf_counter(), 'read', '', 0.0
  if measure:
    tracemalloc.start()
  with listening() as heard:
    try:
      problem = _check(read(path))
      said = problem or said
    except (ValueError, OSError) as e:
      line = str(e)
      said = 'refused'
      if '\n' in line or len(line) > 600 or path.parent.name not in line:
        said = f'no named line: {type(e).__name__}'
    except TooLongError:
      said = 'too long'
    except Exception as e:
      line, said = str(e), f'{type(e).__name__} escaped'
    finally:
      signal.setitimer(signal.ITIMER_REAL, 0)
  if measure:
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    if peak > MEGABYTES:
      said = f'{peak:.0f} MB'
  if heard and said in ('read', 'refused'):
    said, line = 'said something', heard[0]
  seconds = time.perf_counter() - began
  return Outcome(reader, damage, said, seconds, peak, line)


def run(shared, *, seed=0, count=400):
  """An `Outcome` for each of `count` damaged inputs and of all lying ones."""
  rng = np.random.default_rng(seed)
  whole = list(seeds(pathlib.Path(shared)))
  with tempfile.TemporaryDirectory() as home:
    for s in whole:  # undamaged, all are read: else nothing is tested
      path = _laid(pathlib.Path(home), 'whole', s.files, s.target)
      outcome = attempt(s.reader, 'none', s.read, path)
      if outcome.said != 'read':
        raise AssertionError(f'{s.reader} {s.target}: {outcome}')
    for reader, name, content in bombs():
      path = _laid(pathlib.Path(home), 'bomb', {name: content}, name)
      yield attempt(reader, 'bomb', formats.read, path, measure=True)
    for reader, files in junk_folders(rng):
      path = _laid(pathlib.Path(home), 'junk', files, 'x')
      read = {'series': formats.read, 'convert': converted}[reader]
      yield attempt(reader, 'junk folder', _parent(read), path)
    for s in whole:
      path = _laid(pathlib.Path(home), 'none', {**s.files, s.target: b''},
                   s.target)  # fmt: skip
      yield attempt(s.reader, 'nothing', s.read, path)
    for k in range(count):
      s = whole[k % len(whole)]
      damage = DAMAGES[rng.integers(len(DAMAGES))]
      content = damaged(s.files[s.target], damage, rng)
      files = {**s.files, s.target: content}
      path = _laid(pathlib.Path(home), f'input{k}', files, s.target)
      outcome = attempt(s.reader, damage.__name__, s.read, path)
      if outcome.said not in ('read', 'refused'):
        keep = os.environ.get('MEDJAX_FUZZ_KEEP')
        if keep:
          shutil.copytree(path.parent, pathlib.Path(keep, f'{seed}-{k}'))
      shutil.rmtree(path.parent)
      yield outcome


def table(outcomes):
  """Lines: by reader, how many inputs were read, refused, or neither."""
  by_reader = collections.defaultdict(list)
  for o in outcomes:
    by_reader[o.reader].append(o)
  by_reader['all'] = list(outcomes)
  yield f'{"reader":12} {"inputs":>7} {"read":>6} {"refused":>8} {"wrong":>6} {"slowest":>8}'  # noqa: E501
  for reader, found in by_reader.items():
    said = collections.Counter(o.said for o in found)
    wrong = len(found) - said['read'] - said['refused']
    slowest = max(o.seconds for o in found)
    yield (
      f'{reader:12} {len(found):7} {said["read"]:6} {said["refused"]:8} '
      f'{wrong:6} {slowest:7.2f}s'
    )


@contextlib.contextmanager
def listening():
  """Collects what is written to the process's output and error, by anyone."""
  heard = []
  sys.stdout.flush()
  sys.stderr.flush()
  kept = os.dup(1), os.dup(2)
  with tempfile.TemporaryFile() as f:
    os.dup2(f.fileno(), 1)
    os.dup2(f.fileno(), 2)
    try:
      yield heard
    finally:
      sys.stdout.flush()
      sys.stderr.flush()
      for number, old in zip((1, 2), kept, strict=True):
        os.dup2(old, number)
        os.close(old)
      f.seek(0)
      text = f.read().decode('utf-8', 'replace').strip()
      if text:
        heard.append(text[:300])


def _too_long(*_):
  raise TooLongError


def _laid(home, name, files, target):
  """Writes files into a folder of their own; the path of the target."""
  folder = home / name
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  for file, content in files.items():
    (folder / file).write_bytes(content)
  return folder / target


def _check(found):
  """Why what was read cannot be right, or ''."""
  if found is None:  # converted
    return ''
  if isinstance(found, dict):
    return '' if all(m.dtype == bool for m in found.values()) else 'no masks'
  array, affine = found.array, found.affine
  if not array.size or not array.dtype.isnative:
    return 'no voxels'
  if array.dtype.kind == 'f' and not np.isfinite(array).all():
    return 'NaN voxels'
  if not np.isfinite(affine).all():
    return 'NaN affine'
  return ''


def main():
  """Prints the table, and all that went wrong."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('shared', help='folder of the real data sets')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--count', type=int, default=2000)
  args = parser.parse_args()
  outcomes = list(run(args.shared, seed=args.seed, count=args.count))
  print('\n'.join(table(outcomes)))
  for o in outcomes:
    if o.said not in ('read', 'refused'):
      print(f'{o.reader} {o.damage}: {o.said}: {o.line[:200]}')
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
  print(f'peak memory {peak:.0f} MB; of one lying input '
        f'{max(o.megabytes for o in outcomes):.0f} MB')  # fmt: skip


if __name__ == '__main__':
  main()
