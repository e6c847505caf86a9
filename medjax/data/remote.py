"""Prepared data sets in an object store: gs://, s3:// and what etils knows.

Records are read at random, thousands a second, so a data set is copied to the
local disk ($MEDJAX_DATA_DIR) once and read there.
"""

import contextlib
import json
import os
import pathlib
import shutil


def is_remote(path):
  """Whether a data_dir is a URL."""
  return '://' in str(path)


def versions(url, name):
  """Versions of a data set that are whole in the store."""
  folder = _path(url) / name
  with _clear_errors(url):
    if not folder.exists():
      return []
    return [
      v.name for v in folder.iterdir() if (v / 'dataset_info.json').exists()
    ]


def read_json(url, name):
  """What a JSON file in the store holds; None where there is no file."""
  file = _path(url) / name
  with _clear_errors(url):
    return json.loads(file.read_text()) if file.exists() else None


def fetch(url, name, home):
  """Copies one version, name/1.0.0, to the folder `home` unless it is there."""
  target = pathlib.Path(home) / name
  if (target / 'dataset_info.json').exists():
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


def publish(folder, url, name):
  """Copies a whole version to the store; what makes it whole goes last."""
  target = _path(url) / name
  print(f'copying {folder} to {url}/{name}', flush=True)
  with _clear_errors(url):
    target.mkdir(parents=True, exist_ok=True)
    last = 'dataset_info.json'
    files = sorted(folder.iterdir(), key=lambda file: file.name == last)
    for file in files:
      (target / file.name).write_bytes(file.read_bytes())


def _path(url):
  os.environ.setdefault('EPATH_USE_TF', 'false')  # its stores want TensorFlow
  from etils import epath

  return epath.Path(url)


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
