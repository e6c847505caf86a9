"""Converts images: `python -m medjax.convert IN OUT [--to=…] [--window=…]`.

IN is an image file, or a folder: every DICOM series and every image file below
it is converted. OUT becomes a folder with one result for each, named after
where it came from; if it ends as an image does (y.nii.gz), it is that file.
What was assumed of an image, and which files were left out, is printed.
With --images=FOLDER, IN is a file or folder of outlines that were drawn on the
pictures of FOLDER (COCO, LabelMe, YOLO), and OUT becomes a folder of masks.
With --tile=512, IN is a whole slide or a folder of them (DICOM, tiled TIFF such
as SVS), and OUT gets a folder of PNG tiles for each.
Nothing about the patient is printed or stored, except what file and folder
names tell.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import shutil

import numpy as np
import PIL.Image

from medjax import cli
from medjax.data import formats, slides
from medjax.data.formats import dicom
from medjax.data.jobs import ENDINGS, Job, among, find_jobs, left_out
from medjax.data.outlines import convert_outlines

__all__ = ['Job', 'Outcome', 'attempts', 'convert', 'convert_all', 'find_jobs']

SUFFIXES = {'nifti': '.nii.gz', 'png': '.png', 'jpeg': '.jpg'}


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a job: a path (None: it was there), or a line of an error.

  notes: what was assumed of the image.
  """

  written: pathlib.Path | None = None
  error: str = ''
  notes: tuple[str, ...] = ()


def convert(job, to=None, window=None):
  """Converts one image; returns what was written, or None if it was there.

  `to`: 'nifti', 'png' or 'jpeg'; None: nifti for what has a place (volumes and
  single slices), png for pictures. NIfTI keeps values and affine. PNG and JPEG
  are 8 bits: `window` (low, high) becomes 0 to 255; without one the file's own
  window, else the range of the values (8 bits stay as they are). A volume
  becomes a folder of slices along its last axis, each shown as the file's rows
  and columns.
  """
  return _converted(job, to, window)[0]


def _converted(job, to, window):
  """What was written, or None, and notes."""
  named = ENDINGS.get(job.ending)
  if named and to not in (None, named):
    raise ValueError(f'{job.target}: is not called as {to} is; drop --to')
  to = to or named
  if _is_there(job, to):
    return None, ()
  volume = (
    dicom.read_files(job.files) if job.files else formats.read(job.source)
  )
  notes = tuple(volume.meta.get('notes', ()))
  flat = volume.affine.shape == (3, 3)
  placed = not flat or volume.meta.get('affine') is not None
  to = to or ('nifti' if placed else 'png')
  job.target.parent.mkdir(parents=True, exist_ok=True)
  if to == 'nifti':
    if window:
      notes += ('--window is of PNG and JPEG: a NIfTI keeps all values',)
    if volume.meta.get('unit') == 'pixel':
      notes += ('the size of its voxels is unknown: 1 mm is written',)
    target = job.target
    if not job.ending:
      target = target.with_name(target.name + SUFFIXES[to])
    formats.write(target, *_on_axes(volume))
    return target, notes
  if job.ending and not flat:
    raise ValueError(
      f'{job.source}: is a volume, of which {job.ending} holds one slice; give '
      'a folder, or a file that ends in .nii.gz'
    )
  if job.above and not flat:
    raise ValueError(among(job))
  ending = job.ending or SUFFIXES[to]
  shown = _window(volume, window)
  if shown and not (window or volume.meta.get('window')):
    notes += (f'{shown[0]:g} to {shown[1]:g}, its own range, is shown',)
  return _write_pictures(job, volume, flat, ending, window), notes


def _is_there(job, to):
  """Whether the result of a job exists, as a file or a folder of slices."""
  if job.ending:
    return job.target.exists()
  # A folder of its name may also hold the results of other jobs.
  if to in ('png', 'jpeg') and not job.above and job.target.is_dir():
    return True
  return any(
    job.target.with_name(job.target.name + ending).is_file()
    for ending in ((SUFFIXES[to],) if to else SUFFIXES.values())
  )


def _on_axes(volume):
  """Voxels and affine (4, 4) as NIfTI has them; channels of one are dropped.

  Pictures, which are (row, column), become (column, row): x is first there. A
  single slice keeps its place, and gets a third axis of one, as its series has.
  """
  flat = volume.affine.shape == (3, 3)
  if flat and not volume.x_first:
    volume = volume.swapped()
  array, affine = volume.array, volume.affine
  if flat:
    place = volume.meta.get('affine')
    affine = affine if place is None else place
    # Else channels would be taken for slices.
    if place is not None or array.shape[-1] > 1:
      array = array[:, :, None]
  return (array[..., 0] if array.shape[-1] == 1 else array), affine


def to_uint8(array, window):
  """Values (…, C) as uint8: `window` (low, high) becomes 0 to 255."""
  low, high = window
  scaled = (array.astype(np.float32) - low) / max(high - low, 1e-6)
  return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def _window(volume, window):
  """The values that become 0 and 255; None for 8 bits without a window."""
  window = window or volume.meta.get('window')
  if window or volume.array.dtype == np.uint8:
    return window
  return float(volume.array.min()), float(volume.array.max())


def _write_pictures(job, volume, flat, ending, window):
  volume = volume.swapped() if volume.x_first else volume
  array, target = volume.array, job.target
  if array.shape[-1] not in (1, 3):
    raise ValueError(
      f'{target.name}: has {array.shape[-1]} channels; a picture has 1 or 3'
    )
  window = _window(volume, window)
  named = bool(job.ending) or not flat
  path = target if named else target.with_name(target.name + ending)
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
  options = {'quality': 95} if path.suffix in ('.jpg', '.jpeg') else {}
  PIL.Image.fromarray(np.ascontiguousarray(picture)).save(path, **options)


def _attempt(job, to, window):
  """The `Outcome` of a job in this process."""
  if job.problem:
    return Outcome(error=job.problem)
  try:
    written, notes = _converted(job, to, window)
    return Outcome(written, notes=notes)
  except cli.USER_ERRORS as e:
    return Outcome(error=' '.join(str(e).split()))
  except MemoryError:
    return Outcome(
      error=f'{job}: does not fit into memory; use fewer --workers'
    )


def attempts(jobs, to=None, window=None, workers=1):
  """(job, its `Outcome`) of each, as they end.

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
            yield futures[future], future.result()
          except concurrent.futures.process.BrokenProcessPool:
            lost.add(futures[future])
      except BaseException:  # Ctrl-C: those under way end, no other begins
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    again = [j for j in batch if j in lost]
    if again and width == 1:
      ended, *again = again
      said = f'{ended}: ended its process; out of memory?'
      yield ended, Outcome(error=said)
      alone = len(again)
    else:
      alone = 2 * workers if again else 0
    jobs = again + rest


def convert_all(source, out, *, to=None, window=None, workers=None):
  """Converts everything at `source`, in processes; returns lines of errors."""
  jobs = find_jobs(source, out, to)
  workers = min(workers or os.cpu_count() or 1, len(jobs))
  errors, there = [], 0
  done = attempts(jobs, to, window, workers)
  for count, (job, outcome) in enumerate(done, start=1):
    said = outcome.written or 'is there already'
    if outcome.error:
      errors.append(outcome.error)
      said = f'failed: {outcome.error}'
    elif outcome.written is None:
      there += 1
    print(f'{count}/{len(jobs)} {job} → {said}', flush=True)
    for note in outcome.notes:
      print(f'  note: {note}', flush=True)
  print(
    f'{len(jobs) - len(errors) - there} converted, {there} there already, '
    f'{len(errors)} failed'
  )
  if there and window:
    print(
      'note: what was there stays as it was made, whatever its --window was: '
      'another needs another OUT'
    )
  left = left_out(pathlib.Path(source), jobs)
  if left:
    print(f'left out: {left}')
  return errors


def draw(source, images, out):
  """Writes the masks of outlines, and says what their labels mean."""
  written, names, left, listed = convert_outlines(source, images, out)
  print(f'{len(written)} masks in {out}; their labels:')
  for label, name in enumerate(names):
    print(f'  {label} {name}')
  print(f'as a config has them: task.class_names={names}')
  if not listed:
    print(
      'note: only those classes have a number that are drawn here; convert all '
      'outlines of a study at once, else a number may mean another class'
    )
  if left:
    few = ', '.join(left[:3]) + (', …' if len(left) > 3 else '')
    print(f'without outlines, and so without a mask: {few} ({len(left)})')


def cut(source, out, *, size, level=None, spacing=None):
  """Cuts slides into tiles, and says how many each has; lines of errors.

  One that is there already is whole, and left as it is.
  """
  if size < 1 or (spacing is not None and not spacing > 0):
    raise ValueError('--tile and --spacing are above 0')
  errors = []
  for name, path in slides.find(source).items():
    place = pathlib.Path(out) / name
    try:
      count = slides.cut(path, place, size=size, level=level, spacing=spacing)
      said = f'{count} tiles in {place}'
    except FileExistsError:
      said = f'{place} is there already'
    except cli.USER_ERRORS as e:
      errors.append(' '.join(str(e).split()))
      said = f'failed: {errors[-1]}'
    print(f'{path} → {said}', flush=True)
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
  parser = cli.parser(
    __doc__,
    'convert scans converted',
    'convert scans pictures --to=png --window=-160,240',
    'convert coco.json masks --images=pictures',
    'convert slides tiles --tile=512 --spacing=0.001',
  )
  parser.add_argument('source', metavar='IN', help='image file or folder')
  parser.add_argument(
    'out', metavar='OUT', help='folder for the results, or the one file'
  )
  parser.add_argument(
    '--to', choices=SUFFIXES, help='[nifti for volumes, png for pictures]'
  )
  parser.add_argument(
    '--window', metavar='LOW,HIGH', help="for png and jpeg [the file's own]"
  )
  parser.add_argument(
    '--images', metavar='FOLDER', help='pictures that IN has outlines of'
  )
  parser.add_argument(
    '--tile', type=int, help='of a slide: width and height of a tile, in pixels'
  )
  parser.add_argument(
    '--level', type=int, help='of a slide, 0 being the finest [0]'
  )
  parser.add_argument(
    '--spacing', type=float, help='of a slide: mm per pixel, instead of a level'
  )
  parser.add_argument('--workers', type=int, help='processes [all cores]')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    if args.tile is not None:
      options = dict(level=args.level, spacing=args.spacing)
      errors = cut(args.source, args.out, size=args.tile, **options)
      if errors:
        raise ValueError(f'{len(errors)} slides failed; the first: {errors[0]}')
      return
    if args.level is not None or args.spacing is not None:
      raise ValueError('--level and --spacing are of slides: give --tile too')
    if args.images:
      draw(args.source, args.images, args.out)
      return
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
