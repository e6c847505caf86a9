"""Files of public data sets: at hand, or downloaded once and checked."""

import errno
import hashlib
import http.client
import os
import pathlib
import shutil
import urllib.request


def fetch(url, *, md5, folder, manual_dir=None):
  """Path of a file: in `manual_dir` if given, else downloaded to `folder`.

  A file at hand whose MD5 differs is taken, and a line says so; a download
  must match, and appears under its name only when it does.
  """
  filename = url.split('?')[0].rsplit('/', 1)[-1]
  if manual_dir is not None:
    path = pathlib.Path(manual_dir).expanduser() / filename
    if not path.is_file():
      raise FileNotFoundError(
        f'{path}: no such file; download {url} into that folder'
      )
    found = _md5(path)
    if found != md5:
      print(
        f'note: {path} has MD5 {found}, the official file {md5}: same name, '
        'other content or order; using it as it is'
      )
    return path
  path = pathlib.Path(folder) / filename
  if path.is_file():
    return path
  by_hand = (
    f'or download {filename} yourself and pass --manual_dir=FOLDER_WITH_IT'
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'{filename}.partial-{os.getpid()}')
  try:
    _download(url, partial)
    found = _md5(partial)
    if found != md5:
      raise ValueError(
        f'{url}: the download has MD5 {found}, expected {md5}; try again, '
        f'{by_hand}'
      )
    os.replace(partial, path)
  except (OSError, http.client.HTTPException) as e:
    if getattr(e, 'errno', None) == errno.ENOSPC:
      raise
    raise FileNotFoundError(
      f'could not download {url} ({e}); check the network, {by_hand}'
    ) from None
  finally:
    partial.unlink(missing_ok=True)
  return path


def _download(url, path):
  import rich.progress

  with urllib.request.urlopen(url, timeout=30) as source:
    total = int(source.headers.get('Content-Length') or 0)
    with (
      rich.progress.wrap_file(
        source, total, description=path.name.split('.partial')[0]
      ) as stream,
      path.open('wb') as target,
    ):
      shutil.copyfileobj(stream, target, 2**20)
  if total and path.stat().st_size != total:
    raise OSError(f'{path.stat().st_size} of {total} bytes came')


def _md5(path):
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'md5').hexdigest()
