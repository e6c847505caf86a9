"""Damaged tables end in a line that names the table, or are read."""

import io

import numpy as np
import pytest
from PIL import Image

from medjax.data import folder

ROWS = [('path', 'label', 'patient', 'age')]
ROWS += [(f'{i}.png', 'ab'[i % 2], f'p{i}', str(40 + i)) for i in range(8)]


def written(suffix):
  if suffix == '.parquet':
    pa = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    columns = dict(zip(ROWS[0], zip(*ROWS[1:], strict=True), strict=True))
    parquet.write_table(pa.table(columns), stream := io.BytesIO())
    return stream.getvalue()
  separator = '\t' if suffix == '.tsv' else ','
  return '\n'.join(separator.join(row) for row in ROWS).encode()


def damaged(rng, raw):
  raw, place = bytearray(raw), rng.integers(len(raw))
  match rng.integers(5):
    case 0:
      return raw[:place]
    case 1:
      for i in rng.integers(0, len(raw), 5):
        raw[i] ^= 1 << rng.integers(8)
      return raw
    case 2:
      return rng.bytes(rng.integers(300))
    case 3:
      return raw[:place] + bytes(rng.choice([0, 10, 13, 34, 255], 5).tolist())
    case _:  # a quote that is not closed, and more than csv takes in a cell
      return raw[:place] + b'"' + raw[place:] + b'x' * 200_000


@pytest.mark.parametrize('suffix', ['.csv', '.tsv', '.parquet'])
def test_a_line_or_a_read(tmp_path, suffix):
  rng, raw = np.random.default_rng(0), written(suffix)
  for i in range(8):
    Image.fromarray(np.full((6, 6), 9 * i, np.uint8)).save(
      tmp_path / f'{i}.png'
    )
  table = tmp_path / f'cases{suffix}'
  table.write_bytes(raw)
  assert set(folder.open_splits(tmp_path)) == {'train', 'validation', 'test'}
  lines = []
  for _ in range(60):
    table.write_bytes(damaged(rng, raw))
    try:
      folder.open_splits(tmp_path)
    except (ValueError, OSError) as e:
      lines.append(str(e))
  assert len(lines) > 30
  assert all(str(tmp_path) in line and '\n' not in line for line in lines)
