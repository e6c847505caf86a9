"""MetaImage files (.mha, and .mhd with its voxels beside it); only read."""

import numpy as np

from medjax.data.formats import raw
from medjax.data.formats.volume import Volume

SUFFIXES = ('.mha', '.mhd')
_HEADER_LIMIT = 2**16
_DTYPES = {
  'MET_CHAR': 'i1', 'MET_UCHAR': 'u1', 'MET_SHORT': 'i2', 'MET_USHORT': 'u2',
  'MET_INT': 'i4', 'MET_UINT': 'u4', 'MET_LONG': 'i4', 'MET_ULONG': 'u4',
  'MET_LONG_LONG': 'i8', 'MET_ULONG_LONG': 'u8', 'MET_FLOAT': 'f4',
  'MET_DOUBLE': 'f8',
}  # fmt: skip
_SYNONYMS = {
  'BinaryDataByteOrderMSB': 'ElementByteOrderMSB',
  'Rotation': 'TransformMatrix',
  'Orientation': 'TransformMatrix',
  'Position': 'Offset',
  'Origin': 'Offset',
}
_UNITS = {'': 1, '?': 1, 'mm': 1, 'cm': 10, 'um': 1e-3}
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def matches(head):
  """Whether the first bytes of a file are those of a MetaImage header."""
  return head.lstrip().startswith((b'ObjectType', b'NDims'))


def read(path):
  """Reads 2 or 3 axes in the file's order; channels, or a fourth axis, last.

  Raw, zlib and text voxels, in the file or beside it. TransformMatrix and
  Offset are in mm, left-posterior-superior, as ITK takes them; the affine is
  RAS.
  """
  fields, begin = _fields(path)
  sizes = raw.numbers(path, 'DimSize', fields.get('DimSize', ''), kind=int)
  if fields.get('NDims') != str(len(sizes)) or not 2 <= len(sizes) <= 4:
    raise ValueError(
      f'{path}: its MetaImage header states {raw.quoted(fields.get("NDims"))} '
      f'axes and sizes {raw.quoted(fields.get("DimSize"))}; needs 2 to 4'
    )
  (channels,) = raw.numbers(
    path,
    'ElementNumberOfChannels',
    fields.get('ElementNumberOfChannels', '1'),
    count=1,
    kind=int,
  )
  voxels = _voxels(path, fields, [channels, *sizes], begin)
  rank = min(len(sizes), 3)
  voxels = np.moveaxis(voxels, 0, -1)
  voxels = voxels.reshape(*voxels.shape[:rank], -1)
  affine = _affine(path, fields, len(sizes), rank)
  meta = {'format': 'metaimage', 'unit': 'mm'}
  if rank == 2:
    meta['axes'] = 'xy'
  return Volume(voxels, affine, '', meta)


def _fields(path):
  """The fields of the header, and where the voxels behind it would begin."""
  fields, begin = {}, 0
  with open(path, 'rb') as f:
    while 'ElementDataFile' not in fields:
      line = f.readline(_HEADER_LIMIT)
      begin += len(line)
      name, equals, value = line.decode('utf-8', 'replace').partition('=')
      if not line or begin > _HEADER_LIMIT or (line.strip() and not equals):
        raise ValueError(
          f'{path}: not a MetaImage, or cut off in its header; copy it again'
        )
      name = name.strip()
      fields[_SYNONYMS.get(name, name)] = value.strip()
  return fields, begin


def _voxels(path, fields, shape, begin):
  kind = fields.get('ElementType', '').removesuffix('_ARRAY')
  if kind not in _DTYPES:
    raise ValueError(
      f'{path}: cannot read voxels of type '
      f'{raw.quoted(fields.get("ElementType"))}'
    )
  big = _flag(path, fields, 'ElementByteOrderMSB')
  dtype = np.dtype(_DTYPES[kind]).newbyteorder('>' if big else '<')
  name, source = fields['ElementDataFile'], path
  if name.split()[:1] == ['LIST'] or '%' in name:
    raise ValueError(
      f'{path}: its voxels lie in several files, which is not supported; save '
      'it as one .mha'
    )
  if name.upper() != 'LOCAL':
    source, begin = raw.data_file(path, name), 0
  if not _flag(path, fields, 'BinaryData', default='True'):
    return raw.read_ascii(source, shape, dtype, offset=begin)
  packed = _flag(path, fields, 'CompressedData')
  (skip,) = raw.numbers(
    path, 'HeaderSize', fields.get('HeaderSize', '0'), count=1, kind=int
  )
  if skip == -1 and not packed:  # the voxels are the file's end
    count = raw.count_of(path, shape)
    begin, skip = source.stat().st_size - count * dtype.itemsize, 0
  if skip < 0 or begin < 0:
    raise ValueError(
      f'{path}: truncated, or its header is damaged (HeaderSize '
      f'{fields["HeaderSize"]}); copy it again'
    )
  return raw.read_voxels(
    source, shape, dtype, packed=packed, offset=begin + skip
  )


def _affine(path, fields, axes, rank):
  """(rank+1, rank+1) voxel → mm, RAS for three axes."""
  spacing = _numbers(
    path, fields, ('ElementSpacing', 'ElementSize'), np.ones(axes)
  )
  matrix = _numbers(path, fields, ('TransformMatrix',), np.eye(axes).ravel())
  offset = _numbers(path, fields, ('Offset',), np.zeros(axes))
  unit = fields.get('DistanceUnits', '').lower()
  if unit not in _UNITS:
    raise ValueError(
      f'{path}: DistanceUnits are {raw.quoted(unit)}; mm are known'
    )
  if rank == 2:
    return np.diag([*np.abs(spacing) * _UNITS[unit], 1.0])
  affine = np.eye(4)
  # The file holds the direction of one axis after the other.
  directions = matrix.reshape(axes, axes)[:3, :3].T
  affine[:3, :3] = directions * spacing[:3]
  affine[:3, 3] = offset[:3]
  affine[:3] *= _UNITS[unit]
  return _LPS @ affine


def _numbers(path, fields, names, default):
  for name in names:
    if name in fields:
      return np.array(raw.numbers(path, name, fields[name], count=len(default)))
  return default


def _flag(path, fields, name, *, default='False'):
  value = fields.get(name, default).lower()
  if value not in ('true', 'false', '1', '0'):
    raise ValueError(
      f'{path}: {name} is {raw.quoted(value)}, not True or False'
    )
  return value in ('true', '1')
