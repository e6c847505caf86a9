"""NRRD files (.nrrd, and .nhdr with its voxels beside it); only read."""

import re

import numpy as np

from medjax.data.formats import raw
from medjax.data.formats.volume import Volume

SUFFIXES = ('.nrrd', '.nhdr', '.seg.nrrd')
_MAGIC = b'NRRD000'
_HEADER_LIMIT = 2**20
# 'unsigned short int', 'ushort' and 'uint16_t' are one type.
_TYPES = {
  'i1': 'signedchar int8', 'u1': 'uchar unsignedchar uint8',
  'i2': 'short signedshort int16', 'u2': 'ushort unsignedshort uint16',
  'i4': 'int signedint int32', 'u4': 'uint unsignedint uint32',
  'i8': 'longlong signedlonglong int64',
  'u8': 'ulonglong unsignedlonglong uint64', 'f4': 'float', 'f8': 'double',
}  # fmt: skip
_DTYPES = {name: d for d, names in _TYPES.items() for name in names.split()}
_PACKED = {'raw': False, 'gzip': True, 'gz': True}
_ASCII = ('ascii', 'text', 'txt')
# World axes that point left or posterior are turned, so that mm are RAS.
_SPACES = {
  'right-anterior-superior': (1, 1, 1), 'ras': (1, 1, 1),
  'left-anterior-superior': (-1, 1, 1), 'las': (-1, 1, 1),
  'left-posterior-superior': (-1, -1, 1), 'lps': (-1, -1, 1),
}  # fmt: skip
_LPS = (-1, -1, 1)
_UNITS = {'': 1, 'mm': 1, 'cm': 10, 'm': 1e3, 'um': 1e-3, 'nm': 1e-6}
_SPATIAL_KINDS = ('domain', 'space', '???', 'none')


def matches(head):
  """Whether the first bytes of a file are those of NRRD."""
  return head.startswith(_MAGIC)


def read(path):
  """Reads 2 or 3 spatial axes in the file's order; all others are channels.

  Raw, gzip and text encodings. An axis is of channels if its `kind` or its
  missing space direction says so. The affine follows `space`; where that names
  no anatomical directions, left-posterior-superior is taken, as ITK does, and
  noted. Without a space, `spacings` are taken as mm. The segments that Slicer
  names in a .seg.nrrd are in `meta['layers']`: (name, channel, value) of each.
  """
  fields, begin = _fields(path)
  sizes = raw.numbers(path, 'sizes', _field(path, fields, 'sizes'), kind=int)
  if str(len(sizes)) != _field(path, fields, 'dimension'):
    raise ValueError(
      f'{path}: has {len(sizes)} sizes, but dimension '
      f'{raw.quoted(fields["dimension"])}; mend the header'
    )
  directions = _directions(path, fields, len(sizes))
  spatial = _spatial_axes(path, fields, directions, sizes)
  voxels = _voxels(path, fields, sizes, begin)
  others = [a for a in range(len(sizes)) if a not in spatial]
  voxels = voxels.transpose(*spatial, *others)
  voxels = voxels.reshape(*voxels.shape[: len(spatial)], -1)
  meta = {'format': 'nrrd', 'unit': 'mm'}
  if len(spatial) == 2:
    meta['axes'] = 'xy'
  segments = _segments(path, fields)
  if segments:
    meta['layers'] = segments
  if directions is None:
    spacings = _spacings(path, fields, len(sizes))
    if spacings is None:
      meta['unit'] = 'pixel'
      spacings = np.ones(len(sizes))
    affine = np.diag([*spacings[spatial], 1.0])
  else:
    affine, notes = _affine(path, fields, directions[spatial])
    if notes:
      meta['notes'] = notes
    if len(spatial) == 2:
      meta['affine'] = affine  # where the slice lies
      affine = np.diag([*np.linalg.norm(affine[:3, :2], axis=0), 1.0])
  return Volume(voxels, affine, '', meta)


def _fields(path):
  """The fields of the header in lower case, and where it ends."""
  with open(path, 'rb') as f:
    head = f.read(_HEADER_LIMIT)
  if not matches(head):
    raise ValueError(f'{path}: not an NRRD file; copy it again')
  end = re.search(rb'\r?\n\r?\n', head)
  if end is None and len(head) == _HEADER_LIMIT:
    raise ValueError(f'{path}: its NRRD header does not end; copy it again')
  text = head[: end.start() if end else None].decode('utf-8', 'replace')
  fields = {}
  for line in text.splitlines()[1:]:
    if line.startswith('#'):
      continue
    name, colon, value = line.partition(':')
    if value.startswith('='):  # a key of its own, as Slicer's segments
      fields[f':{name.strip()}'] = value[1:].strip()
    elif colon:  # 'data file' and 'datafile', 'byte skip', 'byteskip' are one
      fields[name.strip().lower().replace(' ', '')] = value.strip()
  return fields, end.end() if end else len(head)


def segments_of(path):
  """(name, channel, value) of each segment that a file's header names."""
  return _segments(path, _fields(path)[0])


def _segments(path, fields):
  found = []
  for key in fields:
    match = re.fullmatch(r':(Segment\d+)_ID', key)
    if not match:
      continue
    segment = f':{match[1]}_'
    layer, value = (
      raw.numbers(path, segment + k, fields.get(segment + k, d), kind=int)[:1]
      or [int(d)]
      for k, d in (('Layer', '0'), ('LabelValue', '1'))
    )
    name = fields.get(f'{segment}Name') or fields[key]
    # Slicer numbers what nobody named; then its terminology says what it is.
    meaning = re.search(
      r'Segmentation[^|]*?~[^~]*\^[^~]*\^[^~]*~[^~^]*\^[^~^]*\^([^~^]+)',
      fields.get(f'{segment}Tags', ''),
    )
    if re.fullmatch(r'Segment[ _]?\d+', name) and meaning:
      name = meaning[1]
    found.append((name.strip(), layer[0], value[0]))
  return tuple(found)


def _field(path, fields, name):
  if not fields.get(name):
    raise ValueError(
      f'{path}: its NRRD header has no {name}; cut off? copy it again'
    )
  return fields[name]


def _voxels(path, fields, sizes, begin):
  kind = _field(path, fields, 'type').lower().replace(' ', '')
  kind = kind.removesuffix('_t')
  kind = kind if kind in _DTYPES else kind.removesuffix('int')
  if kind not in _DTYPES:
    raise ValueError(
      f'{path}: cannot read voxels of type {raw.quoted(fields["type"])}'
    )
  endian = fields.get('endian', 'little').lower()
  if endian not in ('little', 'big'):
    raise ValueError(f'{path}: endian is {raw.quoted(endian)}; mend the header')
  dtype = np.dtype(_DTYPES[kind]).newbyteorder('<' if endian[0] == 'l' else '>')
  encoding = _field(path, fields, 'encoding').lower()
  if encoding not in _PACKED and encoding not in _ASCII:
    raise ValueError(
      f'{path}: cannot read encoding {raw.quoted(encoding)}; save it as raw or '
      'gzip'
    )
  source = path
  if 'datafile' in fields:
    source = _data_file(path, fields['datafile'])
    begin = 0
  begin += _skipped_lines(path, fields, source, begin)
  (skip,) = raw.numbers(
    path, 'byte skip', fields.get('byteskip', '0'), count=1, kind=int
  )
  count = raw.count_of(path, sizes)
  if skip == -1 and encoding == 'raw':  # the voxels are the file's end
    begin, skip = source.stat().st_size - count * dtype.itemsize, 0
    if begin < 0:
      raise ValueError(f'{path}: its voxels are truncated; copy it again')
  if skip < 0:
    raise ValueError(f'{path}: byte skip is {skip}; mend the header')
  if encoding in _ASCII:
    return raw.read_ascii(source, sizes, dtype, offset=begin + skip)
  return raw.read_voxels(
    source, sizes, dtype, packed=_PACKED[encoding], offset=begin, skip=skip
  )


def _data_file(path, name):
  if name.upper().startswith('LIST') or '%' in name:
    raise ValueError(
      f'{path}: its voxels lie in several files, which is not supported; save '
      'it as one .nrrd'
    )
  return raw.data_file(path, name)


def _skipped_lines(path, fields, source, begin):
  """How many bytes the lines take that `line skip` passes over."""
  (count,) = raw.numbers(
    path, 'line skip', fields.get('lineskip', '0'), count=1, kind=int
  )
  if not 0 <= count <= 2**16:
    raise ValueError(f'{path}: line skip is {count}; mend the header')
  with open(source, 'rb') as f:
    f.seek(begin)
    return sum(len(f.readline(2**20)) for _ in range(count))


def _directions(path, fields, dimension):
  """(axes, world axes), NaN for axes that are not spatial; None without."""
  text = fields.get('spacedirections')
  if text is None:
    return None
  vectors = re.findall(r'none|\([^()]*\)', text.lower())
  if len(vectors) != dimension:
    raise ValueError(
      f'{path}: has {len(vectors)} space directions for {dimension} axes; '
      'mend the header'
    )
  found = [_vector(path, 'space directions', v) for v in vectors]
  widths = {len(v) for v in found if v is not None}
  if widths not in ({2}, {3}):
    raise ValueError(
      f'{path}: its space directions are not all of 2, or all of 3 numbers; '
      'mend the header'
    )
  blank = [np.nan] * widths.pop()
  return np.array([blank if v is None else v for v in found], float)


def _vector(path, name, text):
  if text == 'none':
    return None
  return raw.numbers(path, name, text.strip('() ').replace(',', ' '))


def _spacings(path, fields, dimension):
  text = fields.get('spacings')
  if text is None:
    return None
  return np.array(raw.numbers(path, 'spacings', text, count=dimension))


def _spatial_axes(path, fields, directions, sizes):
  """The axes that are places; the others are channels."""
  dimension = len(sizes)
  kinds = fields.get('kinds', '').lower().split() or ['???'] * dimension
  spacings = _spacings(path, fields, dimension)
  if len(kinds) != dimension:
    raise ValueError(
      f'{path}: has {len(kinds)} kinds for {dimension} axes; mend the header'
    )
  axes = [a for a in range(dimension) if kinds[a] in _SPATIAL_KINDS]
  if directions is not None:
    axes = [a for a in axes if not np.isnan(directions[a]).any()]
  elif spacings is not None:
    axes = [a for a in axes if not np.isnan(spacings[a])]
  if len(axes) not in (2, 3):
    raise ValueError(
      f'{path}: has {len(axes)} spatial axes, needs 2 or 3; say in `kinds` '
      'which axes are channels'
    )
  return axes


def _affine(path, fields, directions):
  """(4, 4) voxel → mm, RAS, and notes, from (axes, world axes) directions."""
  world = directions.shape[1]
  if world < len(directions):
    raise ValueError(f'{path}: has 3 axes in a space of 2; mend the header')
  origin = np.zeros(world)
  if 'spaceorigin' in fields:
    text = fields['spaceorigin'].strip('() ').replace(',', ' ')
    origin = raw.numbers(path, 'space origin', text, count=world)
  units = re.findall(r'"([^"]*)"', fields.get('spaceunits', '').lower())
  scale = {_UNITS.get(u.strip()) for u in units or ['mm']}
  if len(scale) != 1 or None in scale:
    raise ValueError(
      f'{path}: space units are {raw.quoted(fields["spaceunits"])}; mm are '
      'known'
    )
  affine = np.eye(4)
  affine[:world, : len(directions)] = directions.T
  affine[:world, 3] = origin
  if len(directions) == 2 and world == 3:  # one slice: its normal
    normal = np.cross(directions[0], directions[1])
    affine[:3, 2] = normal / max(np.linalg.norm(normal), 1e-30)
  affine[:3] *= scale.pop()
  space = fields.get('space', '').lower()
  notes = ()
  if space not in _SPACES and world == 3:
    notes = ('the file names no anatomical directions: taken as LPS',)
  return np.diag([*_SPACES.get(space, _LPS), 1.0]) @ affine, notes
