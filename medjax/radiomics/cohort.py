"""Features of many cases into a table, by processes, and on from a stop."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import pathlib
import time

import numpy as np

from medjax import __version__, cli, files, progress
from medjax.radiomics import cases as cases_lib
from medjax.radiomics import (
  extract,
  filters,
  location,
  names,
  prepare,
  voxelwise,
)
from medjax.radiomics import stability as stability_lib
from medjax.radiomics.settings import Settings

_CHUNK = 16  # cases that a process measures before it tells of them
_SECONDS = 10  # between two writings of the table
FIRST = ('id', 'case', 'image', 'mask', 'roi', 'error', 'notes')


@dataclasses.dataclass(frozen=True)
class Job:
  """What is done to each case.

  filters: texts of `filters.parse`. labels: regions to take; all by default.
  spacing: mm, for images that have none. maps: keys of features to map, with
  `radius`, into the folder `out`. perturbed: how often features are taken
  again on a perturbed mask.
  """

  settings: Settings
  filters: tuple[str, ...] = ()
  labels: tuple[str, ...] = ()
  spacing: tuple[float, ...] | None = None
  maps: tuple[str, ...] = ()
  radius: int = 2
  out: str = ''
  perturbed: int = 0
  seed: int = 0

  def digest(self):
    """Of all that decides on a row, to know whether one can be kept."""
    told = {**dataclasses.asdict(self), 'version': __version__}
    text = json.dumps(files.plain(told), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(job, processes=1):
  """Raises ValueError for a job that no case could do."""
  if processes < 1:
    raise ValueError(f'--processes={processes}: needs at least 1')
  if job.perturbed < 0:
    raise ValueError(f'--stability={job.perturbed}: how often, 0 or more')
  for text in job.filters:
    filters.parse(text)
  for feature in job.maps:
    voxelwise.find_key(feature, job.settings)
  if job.radius < 1:
    raise ValueError(f'--radius={job.radius}: needs at least 1 voxel')


def extract_table(cases, job, out, *, processes=1):
  """Measures cases into the CSV `out` and the JSON beside it; (rows, failed).

  A row is a region of a case, or a case that failed with its reason. Rows that
  are there already, of the same settings and files, are kept; those with an
  error are tried again. Written now and then, so that a stopped run goes on.

  Raises ValueError for a table that is of other settings, or has cases that are
  none of these.
  """
  if own := {*FIRST} & {column for case in cases for column in case.extra}:
    raise ValueError(
      f'the table of cases has a column {min(own)!r}, which is one of those '
      'that the features get; rename it'
    )
  out = pathlib.Path(out)
  table = _Table(out, job, cases)
  todo = [case for case in cases if case.id not in table.done]
  if len(todo) < len(cases):
    print(f'{out} holds {len(cases) - len(todo)} of {len(cases)} cases already')
  with progress.bar('measuring', len(todo)) as advance:
    try:
      for rows, count in _measured(todo, job, processes):
        table.add(rows)
        for row in rows:
          if row.get('error'):
            print(f'failed: {row["error"]}', flush=True)
        advance(count)
    finally:  # what was measured stays, whatever comes
      rows = table.write()
  return rows


def _measured(todo, job, processes):
  """Yields (rows, number of cases) as they come."""
  size = min(_CHUNK, max(1, len(todo) // (2 * processes)))
  chunks = [todo[i : i + size] for i in range(0, len(todo), size)]
  if processes == 1:
    for chunk in chunks:
      yield measured(chunk, job), len(chunk)
    return
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
    processes, context, initializer=_begin
  ) as pool:
    waiting = {pool.submit(measured, chunk, job): chunk for chunk in chunks}
    try:
      for done in concurrent.futures.as_completed(waiting):
        yield done.result(), len(waiting[done])
    except concurrent.futures.process.BrokenProcessPool:
      raise ValueError(
        'a process ended, for want of memory perhaps: the same command with '
        'fewer --processes goes on'
      ) from None
    finally:
      pool.shutdown(cancel_futures=True)


def _begin():
  from medjax.run.programs import keep_programs

  cli.as_worker()
  keep_programs()


def measured(chunk, job):
  """The rows of some cases: a dict for each region, or for what failed."""
  regions, rows = [], []
  for case in chunk:
    try:
      found = cases_lib.read(case, job.labels, job.spacing)
      rois = list(found.masks)
    except Exception as e:
      rows.append(_failed(case, '', e, False))
      continue
    for roi in rois:
      row = {**_about(case, roi, len(rois) > 1), **case.extra}
      try:
        regions.append(_prepared(found, roi, job, case, row))
      except Exception as e:
        rows.append(_failed(case, roi, e, len(rois) > 1))
        continue
      rows.append(row)
  _fill(regions, job)
  return rows


def _about(case, roi, several):
  return {
    'id': f'{case.id}:{roi}' if several else case.id,
    'case': case.id,
    'image': str(case.image.resolve()),
    'mask': str(case.mask.resolve()) if case.mask else '',
    'roi': roi,
    'error': '',
    'notes': '',
  }


def _failed(case, roi, error, several):
  line = cli.said(error)
  if line is None:
    raise error
  name = str(case.image)
  text = line if name in line or str(case.mask) in line else f'{name}: {line}'
  return {**_about(case, roi, several), **case.extra, 'error': text}


def _prepared(found, roi, job, case, row):
  """(row, {image name: Region}, perturbed regions) of a region."""
  mask, settings = found.masks[roi], job.settings
  region = prepare.region(found.image, mask, found.spacing, settings)
  notes = [*region.notes, *extract.notes_of(region, settings)]
  images = {'original': region}
  for text in job.filters:
    images |= filters.filtered_regions(
      found.image, mask, found.spacing, text, settings
    )
  for name, response in list(images.items())[1:]:
    said = extract.notes_of(response, settings.of_responses)
    notes += [f'{name}: {line}' for line in said]
  if found.organs is not None:
    row |= location.features(
      mask, found.organs, found.affine, found.organ_names
    )
  again = []
  for seed in range(job.seed, job.seed + job.perturbed):
    other = stability_lib.perturbed(
      mask, found.spacing, seed=seed, image=found.image
    )
    with contextlib.suppress(ValueError):  # nothing of it is left to measure
      again.append(prepare.region(found.image, other, found.spacing, settings))
  for key in job.maps:
    target = (
      pathlib.Path(job.out) / f'{row["id"].replace("/", "_")}_{key}.nii.gz'
    )
    voxelwise.write(target, found, mask, key, job)
  row['notes'] = '; '.join(notes)
  return row, images, again


def _fill(regions, job):
  """Measures all regions together, and adds their columns to the rows."""
  plain = job.settings.of_responses
  for settings, chosen in (
    (job.settings, lambda name: name == 'original'),
    (plain, lambda name: name != 'original'),
  ):
    todo = [
      (row, name, region)
      for row, images, _ in regions
      for name, region in images.items()
      if chosen(name)
    ]
    values = extract.values_of([region for *_, region in todo], settings)
    for (row, name, region), one in zip(todo, values, strict=True):
      row |= names.columns(one, region, settings, name)
  again = [(row, r) for row, _, several in regions for r in several]
  values = extract.values_of([r for _, r in again], job.settings)
  for (row, region), one in zip(again, values, strict=True):
    found = names.columns(one, region, job.settings)
    row.setdefault('_perturbed', []).append(found)


class _Table:
  """The CSV with its JSON, of which what is done already is read."""

  def __init__(self, out, job, cases):
    self._out, self._job, self._written = out, job, time.monotonic()
    self._order = {case.id: i for i, case in enumerate(cases)}
    self._sources = {case.id: _source(case) for case in cases}
    self._rows, self.done = [], set()
    about = files.read_json(self._json, mend='delete it') or {}
    if out.exists() and not about:
      raise ValueError(f'{out}: exists, and was not made here; choose another')
    if out.exists() and about.get('digest') != job.digest():
      raise ValueError(
        f'{out}: holds features of other settings or another version; delete '
        'it, or choose another --out'
      )
    if out.exists():
      rows, _ = files.read_csv(out, mend='delete it')
      self._take(rows, about, {case.id: case.extra for case in cases})

  def _take(self, rows, about, extra):
    """Keeps the rows of cases that are done, with what the table now says."""
    if other := [r['case'] for r in rows if r['case'] not in self._order]:
      raise ValueError(
        f'{self._out}: holds {len({*other})} cases that are not among these, '
        f'as {other[0]}; choose another --out, or delete it'
      )
    if self._job.perturbed:
      return  # perturbed values are not in the table
    failed = {r['case'] for r in rows if r['error']}
    sources = about.get('cases') or {}
    own = {*FIRST, *about.get('features', ())}
    for row in rows:
      case = row['case']
      if case not in failed and sources.get(case) == self._sources[case]:
        row = {k: v for k, v in row.items() if k in own}
        self._rows.append({**row, **extra[case]})
    self.done = {r['case'] for r in self._rows}

  @property
  def _json(self):
    return self._out.with_suffix('.json')

  def add(self, rows):
    self._rows += rows
    if time.monotonic() - self._written > _SECONDS:
      self.write()
      self._written = time.monotonic()

  def write(self):
    """Writes the table and what describes it; returns the rows."""
    self._rows.sort(key=lambda r: (self._order.get(r['case'], 0), r['roi']))
    shown = [
      {k: v for k, v in r.items() if k != '_perturbed'} for r in self._rows
    ]
    columns = dict.fromkeys(FIRST)
    for row in shown:
      columns |= dict.fromkeys(row)
    rows = [{c: _cell(r.get(c, '')) for c in columns} for r in shown]
    about = describe(self._job, list(columns))
    if not self._out.exists():  # a table without it is taken for another's
      files.write_json(self._json, about)
    about['cases'] = {r['case']: self._sources[r['case']] for r in self._rows}
    if self._job.perturbed:
      table = stability_lib.agreement(self._rows)
      for row in table:
        about['features'].setdefault(row['feature'], {})['icc'] = row['icc']
      files.write_csv(
        self._out.with_name(f'{self._out.stem}_stability.csv'), table
      )
    files.write_csv(self._out, rows, columns=columns)
    files.write_json(self._json, about)
    return self._rows


def _source(case):
  """A digest of which files a case has, and how they were left."""
  told = []
  for place in (case.image, case.mask, case.organs):
    inside = sorted(place.rglob('*')) if place and place.is_dir() else ()
    for path in (place, *inside):
      if path and path.is_file():
        about = path.stat()
        told.append([str(path.resolve()), about.st_size, about.st_mtime_ns])
  return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _cell(value):
  """A number as text that gives it back exactly; missing is empty."""
  if isinstance(value, float | np.floating):
    return repr(float(value)) if np.isfinite(value) else ''
  return value


def describe(job, columns):
  """What is in the JSON beside a table: settings, and of each column its code.

  codes: of the IBSI reference manual.
  """
  settings = dataclasses.asdict(job.settings)
  known = names.described(job.settings)
  features = {}
  for column in columns:
    image, _, rest = column.partition('_')
    if f'original_{rest}' in known and column not in FIRST:
      features[column] = known[f'original_{rest}'] | {'image': image}
    elif column.startswith('location_'):
      features[column] = location.described(column)
  return {
    'software': f'medjax {__version__}',
    'digest': job.digest(),
    'settings': settings,
    'filters': list(job.filters),
    'coordinates': 'slices along the last axis; lengths in mm',
    'features': features,
  }
