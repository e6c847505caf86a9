"""Prepared data sets in an object store: gs://, s3:// and what etils knows.

Records are read at random, thousands a second, so a data set is copied to the
local disk ($MEDJAX_DATA_DIR) once and read there.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil

# Of two sets of one name and version these tell whether they are the same: what
# is in them, and of which builder and files they were made.
_ABOUT = ('dataset_info.json', 'builder.json')


def is_remote(path):
  """Whether a data_dir is a URL."""
  return '://' in str(path)


def is_version(name):
  """Whether a folder is called 1.0.0, and not 1.0.0.incomplete."""
  return bool(re.fullmatch(r'\d+(\.\d+)*', name))


def versions(url, name):
  """Versions of a data set that are whole in the store."""
  folder = _path(url) / name
  with _clear_errors(url):
    if not folder.exists():
      return []
    return [
      v.name
      for v in folder.iterdir()
      if is_version(v.name) and (v / 'dataset_info.json').exists()
    ]


def read_json(url, name):
  """What a JSON file in the store holds; None where there is no file."""
  file = _path(url) / name
  with _clear_errors(url):
    return json.loads(file.read_text()) if file.exists() else None


def fetch(url, name, home):
  """Copies one version, name/1.0.0, to the folder `home` unless it is there.

  Raises ValueError where what is there is another: of another store, or of this
  one as it was before.
  """
  target = pathlib.Path(home) / name
  if (target / 'dataset_info.json').exists():
    _check_same(url, name, target)
    return target
  partial = target.with_name(f'{target.name}.partial-{os.getpid()}')
  partial.mkdir(parents=True)
  print(f'copying {url}/{name} to {target}', flush=True)
  try:
    with _clear_errors(url):
      for file in (_path(url) / name).iterdir():
        file.copy(partial / file.name)
    if not (target / 'dataset_info.json').exists():  # by another process
      os.replace(partial, target)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return target


def _check_same(url, name, target):
  """Raises ValueError where a local set is not the one in the store."""
  for file in _ABOUT:
    with _clear_errors(url):
      theirs = _path(url) / name / file
      theirs = theirs.read_bytes() if theirs.exists() else None
    own = target / file
    if theirs != (own.read_bytes() if own.exists() else None):
      raise ValueError(
        f'{target}: is another than {url}/{name} ({file} differs), of another '
        'store or of earlier; delete it, or set MEDJAX_DATA_DIR to another '
        'folder'
      )


def publish(folder, url, name):
  """Copies a whole version to the store; what makes it whole goes last."""
  target = _path(url) / name
  print(f'copying {folder} to {url}/{name}', flush=True)
  with _clear_errors(url):
    last = 'dataset_info.json'
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(folder.iterdir(), key=lambda file: file.name == last)
    for file in files:
      (target / file.name).write_bytes(file.read_bytes())


def _path(url):
  os.environ.setdefault('EPATH_USE_TF', 'false')  # its stores want TensorFlow
  from etils import epath

  try:
    return epath.Path(url)
  except KeyError:
    raise ValueError(
      f'{url}: no object store that is known; use gs://, s3:// or az://, or '
      'the path of a folder'
    ) from None


@contextlib.contextmanager
def _clear_errors(url):
  """What goes wrong in a store's library, as one error that names the store."""
  try:
    yield
  except ImportError as e:
    raise ValueError(
      f'{url}: {e}; install what fsspec needs for this store (gcsfs for gs://, '
      's3fs for s3://)'
    ) from None
  except Exception as e:
    raise OSError(f'{url}: {type(e).__name__}: {e}') from None
