"""Files of public data sets: at hand or downloaded once, checked, unpacked."""

import errno
import hashlib
import http.client
import os
import pathlib
import shutil
import sys
import tarfile
import urllib.request
import zipfile
import zlib

from medjax import terminal


def fetch(url, *, md5, folder, manual_dir=None):
  """Path of a file: in `manual_dir` if given, else downloaded to `folder`.

  A file at hand whose MD5 differs is taken, and a line says so; a download
  must match, and appears under its name only when it does. An earlier one of
  the same name, as two sets have their `train.zip`, gives way to it.
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
  if path.is_file() and _md5(path) == md5:
    return path
  by_hand = (
    f'or download {filename} yourself and pass --manual_dir=FOLDER_WITH_IT '
    '(to main: --config.data.manual_dir)'
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


def unpacked(archive, home):
  """The folder of what a .zip or .tar holds, below `home`; unpacked once.

  It appears when it is whole, and belongs to this archive: of another of the
  same name, by its place, size and time of change, it is another. Raises
  ValueError for an archive that is damaged.
  """
  archive = pathlib.Path(archive).absolute()
  about = archive.stat()
  key = f'{archive} {about.st_size} {about.st_mtime_ns}'
  digest = hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()
  folder = pathlib.Path(home) / f'{archive.stem}.unpacked-{digest[:12]}'
  if folder.is_dir():
    return folder
  partial = folder.with_name(f'.{folder.name}.{os.getpid()}.partial')
  try:
    if archive.suffix == '.zip':
      with zipfile.ZipFile(archive) as f:
        f.extractall(partial)
    else:
      with tarfile.open(archive) as f:
        f.extractall(partial, filter='data')
    for old in folder.parent.glob(f'{archive.stem}.unpacked-*'):
      shutil.rmtree(old, ignore_errors=True)  # of an archive that is no more
    partial.rename(folder)
  except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as e:
    line = ' '.join(str(e).split())[:120]
    raise ValueError(
      f'{archive}: truncated or damaged ({line}); download it again'
    ) from None
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return folder


def _download(url, path):
  import rich.console
  import rich.progress

  with urllib.request.urlopen(url, timeout=30) as source:
    total = int(source.headers.get('Content-Length') or 0)
    with (
      rich.progress.wrap_file(
        source,
        total,
        description=path.name.split('.partial')[0],
        console=rich.console.Console(file=terminal.bare(sys.stderr)),
      ) as stream,
      path.open('wb') as target,
    ):
      shutil.copyfileobj(stream, target, 2**20)
  if total and path.stat().st_size != total:
    raise OSError(f'{path.stat().st_size} of {total} bytes came')


def _md5(path):
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'md5').hexdigest()
