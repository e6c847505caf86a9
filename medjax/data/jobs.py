"""The images at a place, as jobs of `medjax.convert`: `find_jobs(IN, OUT)`."""

import collections
import dataclasses
import os
import pathlib

from medjax.data import formats, walk
from medjax.data.formats import dicom
from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.find import is_directory

# What OUT may end with to be a file.
ENDINGS = {
  '.nii.gz': 'nifti', '.nii': 'nifti', '.png': 'png', '.jpg': 'jpeg',
  '.jpeg': 'jpeg',
}  # fmt: skip
_VOXELS = ('.raw', '.zraw', '.img')  # read by their headers


@dataclasses.dataclass(frozen=True)
class Job:
  """One image to convert: the file `source`, or the `files` of a series in it.

  number: the series' number, where a folder holds several. ending: the suffix
  of `target` if that is a file by its name; else it has none yet. above:
  whether results of others lie below `target`, which is then no folder of
  slices. problem: why it cannot be converted, as was found when looking for
  images.
  """

  source: pathlib.Path
  target: pathlib.Path
  files: tuple[pathlib.Path, ...] = ()
  number: str = ''
  ending: str = ''
  above: bool = False
  problem: str = ''

  def __str__(self):
    return (
      f'{self.source} series {self.number}'
      if self.number
      else (f'{self.source}')
    )


def find_jobs(source, out, to=None):
  """The `Job`s for all images at `source`, a file or folder.

  Raises ValueError if two inputs would get one name, if the slices of a series
  would lie among other results (`to`: 'png', 'jpeg'), or if `out` is the name
  of one file and there are several images.
  """
  source, out = pathlib.Path(source), pathlib.Path(out)
  if not source.exists():
    raise FileNotFoundError(f'{source}: no such file or folder')
  if not source.is_dir() and not source.is_file():
    raise ValueError(f'{source}: is neither a file nor a folder')
  ending = '' if out.is_dir() else formats.suffix(out)
  if ending and ending not in ENDINGS:
    raise ValueError(
      f'{out}: {ending} is not written; give a folder, or a file that ends in '
      f'{", ".join(ENDINGS)}'
    )
  if source.suffix.lower() == '.zarr' or not source.is_dir():
    target = out if ending else out / formats.stem(source)
    return [Job(source, target, ending=ending)]
  walk.check_apart(out, source)
  jobs = _dicom_jobs(source, out)
  for path in walk.files_below(source, unreadable={}):  # by _dicom_jobs
    suffix = formats.suffix(path)
    if suffix and suffix not in dicom.SUFFIXES:
      place = path.relative_to(source).parent / formats.stem(path)
      jobs.append(Job(path, out / place))
  if not jobs:
    raise ValueError(
      f'{source}: holds no image; known: {", ".join(formats.SUFFIXES)}; whole '
      'slides are cut with --tile=512'
    )
  if ending and len(jobs) > 1:
    raise ValueError(
      f'{out}: is one file, and {source} holds {len(jobs)} images; give a '
      'folder, or convert them one by one'
    )
  if ending:
    return [dataclasses.replace(jobs[0], target=out, ending=ending)]
  return _checked(jobs, slices=to in ('png', 'jpeg'))


def left_out(source, jobs):
  """The files of a folder that no job reads, counted by suffix; '' for none."""
  if not source.is_dir():
    return ''
  read = {f for job in jobs for f in (job.files or (job.source,))}
  count = walk.Passed()
  for path in walk.files_below(source, count, unreadable={}):
    if path in read or path.suffix.lower() in _VOXELS or is_directory(path):
      continue
    count[path.suffix.lower() or 'without suffix'] += 1
  return ', '.join(f'{n} {kind}' for kind, n in count.most_common())


def _dicom_jobs(source, out):
  """One job for a series; names come from folders, then series numbers.

  Files of one frame, and of several in a series of files, are images of their
  own. A damaged file fails the series beside it, which may lack its slice.
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
    if len(s.files) == 1 or not s.placed or s.multiframe:
      for file in s.files:
        place = file.relative_to(source)
        jobs.append(Job(file, out / place.parent / formats.stem(place)))
      continue
    folder = _common(s.files)
    place = folder.relative_to(source)
    name, number = place.name or source.resolve().name, ''
    if places[folder] > 1:
      number = s.number or '?'
      name = f'{name}_{s.number or "series"}_{header.digest(s.uid)[:6]}'
    problem = problems.get(folder, '')
    told.add(folder)
    target = out / place.parent / name
    jobs.append(Job(folder, target, s.files, number, problem=problem))
  for path, line in damaged.items():
    if path.parent not in told:
      target = out / path.relative_to(source)
      jobs.append(Job(path, target, problem=line))
  return jobs


def _common(files):
  return pathlib.Path(os.path.commonpath([f.parent for f in files]))


def _checked(jobs, *, slices):
  """The jobs, of which no two become one, and each knows if it is above others.

  slices: volumes become folders of them.
  """
  taken, above = {}, {}
  for job in jobs:
    # File systems that ignore case would merge A.png and a.png.
    other = taken.setdefault(_key(job.target), job)
    if other is not job:
      raise ValueError(
        f'{other} and {job} would both become {job.target.name}; rename one, '
        'or convert them into two folders'
      )
    above |= dict.fromkeys(map(_key, job.target.parents), job)
  for job in jobs:
    below = above.get(_key(job.target))
    if below and job.files and slices:
      raise ValueError(among(job, below))
  return [
    dataclasses.replace(job, above=_key(job.target) in above) for job in jobs
  ]


def _key(target):
  return str(target).lower()


def among(job, below='others'):
  """The line on slices that would lie in one folder with results of others."""
  return (
    f'{job}: its slices would become the folder {job.target}, in which the '
    f'result of {below} lies; convert them into two folders, or --to=nifti'
  )
