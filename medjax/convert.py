"""Converts images: `python -m medjax.convert IN OUT [--to=…] [--window=…]`.

IN is an image file, or a folder: every DICOM series and every image file below
it is converted. OUT becomes a folder with one result for each, named after
where it came from. Nothing about the patient is printed or stored, except what
file and folder names tell.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import shutil

import numpy as np
import PIL.Image

from medjax import cli, files
from medjax.data import formats
from medjax.data.formats import dicom

SUFFIXES = {'nifti': '.nii.gz', 'png': '.png', 'jpeg': '.jpg'}


@dataclasses.dataclass(frozen=True)
class Job:
  """One image to convert: a file, or the series `uid` below a folder.

  `problem`: why it cannot be, as was found when looking for images.
  """

  source: pathlib.Path
  target: pathlib.Path
  uid: str | None = None
  problem: str = ''

  def __str__(self):
    return f'{self.source} series {self.uid}' if self.uid else f'{self.source}'


def find_jobs(source, out):
  """The `Job`s for all images at `source`, a file or folder.

  Targets have no suffix yet. Raises ValueError if two inputs would get one
  name.
  """
  source, out = pathlib.Path(source), pathlib.Path(out)
  if not source.exists():
    raise FileNotFoundError(f'{source}: no such file or folder')
  files.check_kind(source)
  if not source.is_dir():
    return [Job(source, out / formats.stem(source))]
  if out.resolve().is_relative_to(source.resolve()):
    raise ValueError(
      f'{out}: lies inside {source}, whose images are converted; choose '
      'another place'
    )
  jobs = _dicom_jobs(source, out)
  for parent, folders, names in os.walk(source):
    folders[:] = sorted(f for f in folders if not f.startswith('.'))
    for name in sorted(names):
      path = pathlib.Path(parent, name)
      ending = formats.suffix(path)
      if name.startswith('.') or not ending or ending in dicom.SUFFIXES:
        continue
      place = path.relative_to(source).parent / formats.stem(path)
      jobs.append(Job(path, out / place))
  if not jobs:
    raise ValueError(f'{source}: holds no image; known: {formats.SUFFIXES}')
  _check_names(jobs)
  return jobs


def convert(job, to=None, window=None):
  """Converts one image; returns what was written, or None if it was there.

  `to`: 'nifti', 'png' or 'jpeg'; None: nifti for volumes, png for pictures.
  NIfTI keeps values and affine. PNG and JPEG are 8 bits: `window` (low, high)
  becomes 0 to 255; without one the file's own window, else the range of the
  values (8 bits stay as they are). A volume becomes a folder of slices along
  its last axis, each shown as the file's rows and columns.
  """
  for ending in (SUFFIXES[to],) if to else SUFFIXES.values():
    for name in (job.target.name + ending, job.target.name):
      if job.target.with_name(name).exists():
        return None
  if job.uid is None:
    volume = formats.read(job.source)
  else:
    volume = dicom.read(job.source, series=job.uid)
  flat = volume.affine.shape == (3, 3)
  to = to or ('png' if flat else 'nifti')
  job.target.parent.mkdir(parents=True, exist_ok=True)
  if to == 'nifti':
    target = job.target.with_name(job.target.name + SUFFIXES[to])
    array, affine = volume.array, volume.affine
    if flat and array.shape[-1] > 1:
      array = array[:, :, None]  # else channels would be taken for slices
    formats.write(
      target, array[..., 0] if array.shape[-1] == 1 else array, affine
    )
    return target
  return _write_pictures(job.target, volume, flat, SUFFIXES[to], window)


def to_uint8(array, window):
  """Values (…, C) as uint8: `window` (low, high) becomes 0 to 255."""
  low, high = window
  scaled = (array.astype(np.float32) - low) / max(high - low, 1e-6)
  return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def _write_pictures(target, volume, flat, ending, window):
  array = volume.array
  if array.shape[-1] not in (1, 3):
    raise ValueError(
      f'{target.name}: has {array.shape[-1]} channels; a picture has 1 or 3'
    )
  window = window or volume.meta.get('window')
  if array.dtype != np.uint8:
    window = window or (float(array.min()), float(array.max()))
  path = target.with_name(target.name + ending) if flat else target
  partial = path.with_name(f'.partial-{os.getpid()}-{path.name}')
  try:
    if flat:
      _save(array, window, partial)
    else:
      partial.mkdir()
      digits = len(str(array.shape[2] - 1))
      for k in range(array.shape[2]):
        picture = array[:, :, k].swapaxes(0, 1)
        _save(picture, window, partial / f'{k:0{digits}}{ending}')
    os.replace(partial, path)
  except BaseException:
    if partial.is_dir():
      shutil.rmtree(partial, ignore_errors=True)
    else:
      partial.unlink(missing_ok=True)
    raise
  return path


def _save(array, window, path):
  array = to_uint8(array, window) if window else array
  picture = array[..., 0] if array.shape[-1] == 1 else array
  options = {'quality': 95} if path.suffix == '.jpg' else {}
  PIL.Image.fromarray(np.ascontiguousarray(picture)).save(path, **options)


def _dicom_jobs(source, out):
  """One job for a series; names come from folders, then series numbers.

  Files of one frame without a place (X-rays) are pictures of their own. A
  damaged file fails the series beside it, which may lack its slice.
  """
  damaged = {}
  try:
    series = dicom.list_series(source, damaged=damaged)
  except dicom.NoImagesError:
    series = []
  problems = {path.parent: line for path, line in damaged.items()}
  places = collections.Counter(_common(s.files) for s in series)
  jobs, told = [], set()
  for s in series:
    if len(s.files) == 1 or not s.placed:
      for file in s.files:
        place = file.relative_to(source)
        jobs.append(Job(file, out / place.parent / formats.stem(place)))
      continue
    folder = _common(s.files)
    place = folder.relative_to(source)
    name = place.name or source.resolve().name
    if places[folder] > 1:
      name = f'{name}_{s.number or "series"}_{s.uid.split(".")[-1][-6:]}'
    problem = problems.get(folder, '')
    told.add(folder)
    jobs.append(Job(folder, out / place.parent / name, s.uid, problem))
  for path, line in damaged.items():
    if path.parent not in told:
      target = out / path.relative_to(source)
      jobs.append(Job(path, target, problem=line))
  return jobs


def _common(files):
  return pathlib.Path(os.path.commonpath([f.parent for f in files]))


def _check_names(jobs):
  taken = {}
  for job in jobs:
    # File systems that ignore case would merge A.png and a.png.
    other = taken.setdefault(str(job.target).lower(), job)
    if other is not job:
      raise ValueError(
        f'{other} and {job} would both become {job.target.name}; rename one, '
        'or convert them into two folders'
      )


def _attempt(job, to, window):
  """(what was written or None, error line or '')."""
  if job.problem:
    return None, job.problem
  try:
    return convert(job, to, window), ''
  except cli.USER_ERRORS as e:
    return None, ' '.join(str(e).split())
  except MemoryError:
    return None, f'{job}: does not fit into memory; use fewer --workers'


def attempts(jobs, to=None, window=None, workers=1):
  """(job, what was written or None, error line or '') of each, as they end.

  A job that ends its process (the system does that when memory runs out) is an
  error of that job alone: those that were under way are tried again, one after
  the other.
  """
  context = multiprocessing.get_context('spawn')
  alone = 0  # so many of the next jobs go one after the other
  while jobs:
    batch, rest = (jobs[:alone], jobs[alone:]) if alone else (jobs, [])
    lost = set()
    width = 1 if alone else workers
    with concurrent.futures.ProcessPoolExecutor(
      width, context, initializer=cli.as_worker
    ) as pool:
      futures = {pool.submit(_attempt, j, to, window): j for j in batch}
      try:
        for future in concurrent.futures.as_completed(futures):
          try:
            yield futures[future], *future.result()
          except concurrent.futures.process.BrokenProcessPool:
            lost.add(futures[future])
      except BaseException:  # Ctrl-C: those under way end, no other begins
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    again = [j for j in batch if j in lost]
    if again and width == 1:
      ended, *again = again
      yield ended, None, f'{ended}: ended its process; out of memory?'
      alone = len(again)
    else:
      alone = 2 * workers if again else 0
    jobs = again + rest


def convert_all(source, out, *, to=None, window=None, workers=None):
  """Converts everything at `source`, in processes; returns lines of errors."""
  jobs = find_jobs(source, out)
  workers = min(workers or os.cpu_count() or 1, len(jobs))
  errors, there = [], 0
  done = attempts(jobs, to, window, workers)
  for count, (job, result, error) in enumerate(done, start=1):
    if error:
      errors.append(error)
    there += not error and result is None
    said = f'failed: {error}' if error else result or 'is there already'
    print(f'{count}/{len(jobs)} {job} → {said}', flush=True)
  print(
    f'{len(jobs) - len(errors) - there} converted, {there} there already, '
    f'{len(errors)} failed'
  )
  return errors


def parse_window(text):
  """'LOW,HIGH' as two numbers; None for None."""
  if text is None:
    return None
  try:
    low, high = (float(v) for v in text.split(','))
  except ValueError:
    low = high = 0.0
  if not low < high:
    raise ValueError(f'--window={text}: needs LOW,HIGH, as in -160,240')
  return low, high


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('source', metavar='IN', help='image file or folder')
  parser.add_argument('out', metavar='OUT', help='folder for the results')
  parser.add_argument(
    '--to', choices=SUFFIXES, help='[nifti for volumes, png for pictures]'
  )
  parser.add_argument(
    '--window', metavar='LOW,HIGH', help="for png and jpeg [the file's own]"
  )
  parser.add_argument('--workers', type=int, help='processes [all cores]')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    errors = convert_all(
      args.source,
      args.out,
      to=args.to,
      window=parse_window(args.window),
      workers=args.workers,
    )
    if errors:
      raise ValueError(f'{len(errors)} images failed; the first: {errors[0]}')


if __name__ == '__main__':
  main()
