"""De-identifies a folder: `deidentify(source, out, …)` → what was done.

Two passes over all files, in processes: the first learns who is in them, the
second makes each file anew, or says why not. The result does not depend on the
order or on the number of processes, and a second run gives the same bytes.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import multiprocessing
import os
import pathlib

from medjax import cli, progress
from medjax.data import walk
from medjax.privacy import (
  faces,
  header,
  nifti,
  objects,
  ocr,
  pixel_data,
  pixels,
  stamp,
  survey,
  tables,
)
from medjax.privacy.key import Key

_TOGETHER = 16  # files of one task of a process


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one run does: the key's secret, the options, and what is trusted."""

  secret: bytes = dataclasses.field(repr=False)
  options: tuple[str, ...] = ()
  trust_pixels: bool = False
  faces: str = 'quarantine'
  ocr: bool = False


@dataclasses.dataclass
class Done:
  """What became of files: [(path, why not)], counts of actions, of files.

  kinds: of what was written, by SOP class. people: pseudonyms of who is in it.
  """

  refused: list = dataclasses.field(default_factory=list)
  actions: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  kinds: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  written: int = 0
  examined: int = 0
  boxes: int = 0
  faced: int = 0
  copies: int = 0
  people: set = dataclasses.field(default_factory=set)
  doubtful: int = 0
  taken_back: int = 0
  passed: tuple = ()

  def add(self, other):
    """Takes in what another part of the run did."""
    self.refused += other.refused
    self.actions += other.actions
    self.kinds += other.kinds
    self.people |= other.people
    for name in ('written', 'examined', 'boxes', 'faced'):
      setattr(self, name, getattr(self, name) + getattr(other, name))


def checked(options):
  """The names of options as a tuple in their order; ValueError for others."""
  names = [o for o in options if o]
  for name in names:
    if name == 'clean-faces':
      raise ValueError('--options=clean-faces: is called --faces=remove')
    if name not in tables.OPTIONS:
      raise ValueError(
        f'--options={name}: is none of {", ".join(tables.OPTIONS)}'
      )
  if {'retain-full-dates', 'retain-modified-dates'} <= set(names):
    raise ValueError(
      '--options: dates are retained in full or modified; choose one'
    )
  return tuple(o for o in tables.OPTIONS if o in names)


def check_places(source, out):
  """Raises ValueError or OSError for places that cannot be used."""
  source, out = pathlib.Path(source), pathlib.Path(out)
  if not source.exists():
    raise FileNotFoundError(f'{source}: no such file or folder')
  inside, outside = out.resolve(), source.resolve()
  if inside.is_relative_to(outside) or outside.is_relative_to(inside):
    raise ValueError(
      f'{out}: and {source} lie in one another; choose a place of its own'
    )
  if out.exists() and not out.is_dir():
    raise ValueError(f'{out}: is a file; give a folder')
  out.mkdir(parents=True, exist_ok=True)
  if not os.access(out, os.W_OK):
    raise PermissionError(f'{out}: may not be written to; change its rights')


def deidentify(source, out, plan, *, workers=None):
  """De-identifies all DICOM files at a place; returns `Done`.

  Nothing about a patient is printed. Raises ValueError of one line.
  """
  check_places(source, out)
  if plan.ocr:
    ocr.check()  # says at once that there is none
  source, passed, unreadable = pathlib.Path(source), walk.Passed(), {}
  paths = [source]
  if source.is_dir():
    paths = list(walk.files_below(source, passed, unreadable=unreadable))
  if not paths:
    raise ValueError(f'{source}: holds no file')
  workers = max(1, min(workers or os.cpu_count() or 1, -(-len(paths) // 4)))
  with _processes(workers) as run:
    seen = []
    with progress.bar('looking', len(paths)) as advance:
      for part in run(_look, _parts(paths), plan.options):
        seen += part
        advance(len(part))
    seen, copies = survey.without_doubles(sorted(seen, key=lambda s: s.path))
    done = Done(copies=copies, passed=passed.lines())
    done.refused = [(s.path, s.refused) for s in seen if s.refused]
    done.refused += [(f, 'a folder that may not be read') for f in unreadable]
    fine = [s for s in seen if not s.refused]
    done.doubtful = survey.doubtful(fine)
    known = survey.patients(seen, Key(plan.secret))
    with progress.bar('de-identifying', len(fine)) as advance:
      for part in run(
        _make, _tasks(fine, known, plan), pathlib.Path(out), plan
      ):
        done.add(part)
        advance(part.written + len(part.refused))
  done.refused.sort()
  done.taken_back = _take_back(done.refused, seen, pathlib.Path(out), plan)
  return done


def _take_back(refused, seen, out, plan):
  """Removes what an earlier run wrote of files that are refused now."""
  key, refused = Key(plan.secret), {path for path, _ in refused}
  names, made = set(), {s.instance for s in seen if s.path not in refused}
  for one in seen:
    if one.path not in refused or one.instance in made | {''}:
      continue
    if one.sop_class == nifti.KIND:
      with contextlib.suppress(objects.RefusedError, OSError):
        names.add(_nifti_name(nifti.cleaned(one.path.read_bytes()), key))
    else:  # the second, of --options=retain-uids
      names |= {f'{key.uid(one.instance)}.dcm', f'{one.instance}.dcm'}
  old = [p for p in out.rglob('*') if p.name in names] if names else []
  for path in old:
    path.unlink()
  return len(old)


def _parts(paths):
  return [paths[i : i + 64] for i in range(0, len(paths), 64)]


def _tasks(seen, known, plan):
  """[(files of one patient, its identifiers)]; a head's series stays whole."""
  by_patient = collections.defaultdict(list)
  whole = collections.defaultdict(list)
  for one in seen:
    if one.head and plan.faces == 'remove':
      whole[one.patient, one.series].append(one)
    else:
      by_patient[one.patient].append(one)
  tasks = [(group, known[p]) for (p, _), group in sorted(whole.items())]
  for patient, group in sorted(by_patient.items()):
    for i in range(0, len(group), _TOGETHER):
      tasks.append((group[i : i + _TOGETHER], known[patient]))
  return tasks


@contextlib.contextmanager
def _processes(workers):
  """Gives `run(function, parts, *more)`: its results, in the parts' order."""
  if workers == 1:
    yield lambda function, parts, *more: (function(p, *more) for p in parts)
    return
  with concurrent.futures.ProcessPoolExecutor(
    workers, multiprocessing.get_context('spawn'), initializer=cli.as_worker
  ) as pool:
    try:
      yield functools.partial(_run, pool)
    except BaseException:  # Ctrl-C: those under way end, no other begins
      pool.shutdown(wait=True, cancel_futures=True)
      raise


def _run(pool, function, parts, *more):
  futures = [pool.submit(function, part, *more) for part in parts]
  for future in futures:
    try:
      yield future.result()
    except concurrent.futures.process.BrokenProcessPool:
      raise MemoryError('a process ended; use fewer --workers') from None


def _look(paths, options):
  return [survey.look(path, options) for path in paths]


def _make(task, out, plan):
  """De-identifies some files of one patient."""
  group, known = task
  key, done = Key(plan.secret), Done()
  faceless, why = {}, ''
  if plan.faces == 'remove' and any(s.head for s in group):
    try:
      faceless = faces.removed([s.path for s in group])
    except objects.RefusedError as e:
      why = str(e)
  for seen in group:
    try:
      if seen.head and plan.faces != 'accept' and seen.path not in faceless:
        raise objects.RefusedError(
          why or 'a face could be made of it: --faces=remove or accept'
        )
      _one(seen, out, plan, key, known, faceless.get(seen.path), done)
    except objects.RefusedError as e:
      done.refused.append((seen.path, str(e)))
    except OSError as e:
      if os.path.exists(seen.path) and e.filename != str(seen.path):
        raise
      done.refused.append((seen.path, 'not readable: no rights, or damaged'))
    except MemoryError:
      done.refused.append((seen.path, 'does not fit into memory'))
    except Exception as e:
      # Whatever a damaged header does: the file is not given away.
      done.refused.append((seen.path, f'damaged ({type(e).__name__})'))
  return done


def _one(seen, out, plan, key, known, faceless, done):
  """Makes one file; `faceless`: its pixels without a face."""
  if seen.sop_class == nifti.KIND:
    _nifti(seen, out, key, done)
    return
  old = objects.read(seen.path)
  syntax = objects.syntax_of(old)
  own = key.is_uid(seen.instance)
  days = 0 if own else key.days(seen.patient)
  cleaner = header.Cleaner(key, plan.options, seen.sop_class, known, days)
  new = cleaner.cleaned(old)
  pixel_data.copied(old, new, syntax, known)
  has_pixels = any(tag in new for tag in header.PIXELS)
  if faceless is not None:
    syntax = faces.put(new, faceless, syntax)
    done.faced += 1
  examined, syntax, boxes = False, syntax, 0
  if has_pixels:
    examined, syntax, boxes = pixels.treated(
      new,
      old.file_meta,
      syntax,
      options=plan.options,
      trust=plan.trust_pixels,
      read=ocr.reader(known) if plan.ocr else None,
    )
  stamp.stamp(
    new,
    old,
    plan.options,
    examined=examined,
    pixels=has_pixels,
    faceless=faceless is not None,
  )
  data = objects.encoded(new, syntax)
  if known.in_bytes(_without_pixels(new, data), least=8, numbers=False):
    raise objects.RefusedError('an identifier would be left in it')
  patient = _patient(seen, old, key)
  folder = out / patient / _name(new, 'SeriesInstanceUID')
  objects.write(folder / f'{_name(new, "SOPInstanceUID")}.dcm', data)
  done.people.add(patient)
  done.written += 1
  done.examined += examined
  done.boxes += boxes
  done.kinds[seen.sop_class] += 1
  done.actions += cleaner.done


def _nifti(seen, out, key, done):
  """Makes a NIfTI file anew, whose name is a digest of what it holds."""
  data = nifti.cleaned(seen.path.read_bytes())
  name = _nifti_name(data, key)
  objects.write(out / nifti.KIND / name, data)
  done.people.add(name)  # a NIfTI file does not say whose it is
  done.written += 1
  done.kinds[seen.sop_class] += 1


def _nifti_name(data, key):
  return f'{key.digest("nifti", hashlib.sha256(data).hexdigest())}.nii.gz'


def _patient(seen, old, key):
  """The pseudonym of who it is; of nobody that is named, one for the study."""
  if seen.patient.startswith(survey.NOBODY):
    study = str(old.get('StudyInstanceUID') or seen.instance)
    return key.patient(f'{survey.NOBODY}{key.uid(study)}')
  return key.patient(seen.patient)


def _name(new, keyword):
  return str(new.get(keyword) or 'none')


def _without_pixels(new, data):
  """The bytes of a file but its pixels, which were looked at before."""
  for tag in header.PIXELS:
    if tag in new:
      return data[: max(len(data) - len(new[tag].value), 0)]
  return data
