"""Measures de-identification: speed, MIDI-B's actions, PixelMed beside it.

    python benchmarks/deidentify.py IN [IN …] [--pixelmed=/usr/share/java]

IN: folders of DICOM files. Identifiers are written into copies of them, the
copies de-identified, and what comes out is scored by `midi`, which takes its
answers from another reading of the standard than medjax. Speed is by the clock,
of two processes, and by what they use of their cores, so that others on the
machine matter less: of files as they are, with and without a look for text in
their pixels, and of their headers alone. Starting the processes is part of it.
"""

import argparse
import collections
import dataclasses
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings

import midi
import pydicom

from medjax.privacy import deidentify as runs
from medjax.privacy import key

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'tests'))
from privacy import planting

SECRET = b'benchmark' * 4
OPTIONS = (
  'clean-descriptors', 'clean-structured', 'retain-modified-dates',
)  # fmt: skip
# Texts with an identifier, and what of them must stay.
TEXTS = {
  'SeriesDescription': ('T1 AXIAL {} post contrast', 'T1 AXIAL'),
  'StudyDescription': ('CT chest {}', 'CT chest'),
  'ImageComments': ('{} head', 'head'),
}


def readable(folders):
  """Files that pydicom reads as an object, one of each SOPInstanceUID."""
  found = {}
  for folder in folders:
    for path in sorted(
      p for p in pathlib.Path(folder).rglob('*') if p.is_file()
    ):
      try:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        found.setdefault(ds.SOPInstanceUID, path)
      except Exception:  # no object
        continue
  return list(found.values())


def plant(paths, folder):
  """Copies with identifiers where they belong and where they do not."""
  people = {}
  for i, path in enumerate(paths):
    ds = pydicom.dcmread(path)
    person = planting.PEOPLE[len(people) % 2]
    person = people.setdefault(str(ds.get('PatientID')), person)
    name = f'{person.family}^{person.given}'
    ds.PatientName, ds.PatientBirthDate = name, person.birth
    ds.AccessionNumber, ds.ReferringPhysicianName = (
      person.accession,
      person.doctor,
    )
    ds.SpecificCharacterSet = 'ISO_IR 100'
    for keyword, (text, _) in TEXTS.items():
      setattr(ds, keyword, text.format(f'{person.given} {person.family}'))
    ds.save_as(folder / f'{i}.dcm', enforce_file_format=True)


def without_pixels(source, folder):
  """Copies of what only the header is of."""
  folder.mkdir()
  for path in sorted(source.iterdir()):
    ds = pydicom.dcmread(path)
    for name in ('PixelData', 'FloatPixelData', 'DoubleFloatPixelData'):
      ds.pop(name, None)
    ds.save_as(folder / path.name, enforce_file_format=True)


def timed(what, source, out, plan):
  """De-identifies a folder by two processes, and prints how long that takes."""

  def used():
    each = (
      resource.getrusage(resource.RUSAGE_SELF),
      resource.getrusage(resource.RUSAGE_CHILDREN),
    )
    return sum(use.ru_utime + use.ru_stime for use in each)

  cpu, clock = used(), time.monotonic()
  done = runs.deidentify(source, out, plan, workers=2)
  clock = (time.monotonic() - clock) / done.written
  cpu = (used() - cpu) / done.written
  print(
    f'{what}: {done.written} files, {len(done.refused)} quarantined; '
    f'{1 / clock:.0f} files/s by the clock; {1000 * cpu:.1f} ms of a core a '
    f'file, {2 / cpu:.0f} files/s of two'
  )


def score(source, out):
  """`midi.Score` of all files, and how many are missing."""
  found, missing = midi.Score(), 0
  after = {p.stem: p for p in out.rglob('*.dcm')}
  secret = key.Key(SECRET)
  secrets = [t for p in planting.PEOPLE for t in (p.family, p.given, p.doctor)]
  for path in sorted(source.iterdir()):
    before = pydicom.dcmread(path)
    new = after.get(secret.uid(before.SOPInstanceUID))
    if new is None:
      missing += 1
      continue
    new = pydicom.dcmread(new)
    found.file(before, new, secrets)
    for keyword, (_, kept) in TEXTS.items():
      value = str(new.get(keyword, ''))
      found.note('text_retained', kept in value, keyword)
      found.note('text_removed', not any(s in value for s in secrets), keyword)
  return found, missing


def pixelmed(jars, source, out):
  """Runs DeidentifyAndRedact on a folder; returns its seconds."""
  out.mkdir()
  (out.parent / 'none.txt').write_text('')
  start = time.monotonic()
  subprocess.run(
    ['java', '-cp', f'{jars}/*', 'com.pixelmed.apps.DeidentifyAndRedact',
     source, out, out.parent / 'none.txt', 'BLOCK'],
    capture_output=True, check=False,
  )  # fmt: skip
  return time.monotonic() - start


def leaks(folder):
  """{where: count} of planted people in all files of a folder."""
  found = collections.Counter()
  for path in folder.rglob('*'):
    if path.is_file():
      try:
        there = planting.leaks(path, planting.PEOPLE[:2])
      except Exception:  # no DICOM
        continue
      found.update(str(where) for where, _ in there)
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('folders', nargs='+')
  parser.add_argument('--pixelmed', help='folder of its jars')
  args = parser.parse_args()
  warnings.simplefilter('ignore')
  with tempfile.TemporaryDirectory() as scratch:
    scratch = pathlib.Path(scratch)
    source, out = scratch / 'in', scratch / 'out'
    source.mkdir()
    plant(readable(args.folders), source)
    plan = runs.Plan(SECRET, OPTIONS, trust_pixels=True, faces='accept')
    timed('headers, pixels as they are', source, out, plan)
    looking = dataclasses.replace(plan, options=(*OPTIONS, 'clean-pixels'))
    timed('headers and pixels', source, scratch / 'looked', looking)
    without_pixels(source, scratch / 'headers')
    timed('headers', scratch / 'headers', scratch / 'headers_out', plan)
    found, missing = score(source, out)
    print(f'\n{missing} of the files were quarantined\n')
    print('| action | passed | all |\n| --- | --- | --- |')
    for kind, passed, count in found.rows():
      print(f'| {kind} | {passed} | {count} |')
    print(f'| all | {found.passed.total()} | {found.all.total()} |')
    print(f'\n{100 * found.share:.3f} % of {found.all.total()} actions')
    for (kind, about), n in collections.Counter(
      (k, a.split(' ')[-1]) for k, a in found.failures
    ).most_common(12):
      print(f'missed: {n} {kind} {about}')
    print(f'\nleaks of medjax: {leaks(out).total()}')
    if args.pixelmed:
      seconds = pixelmed(args.pixelmed, source, scratch / 'theirs')
      theirs = leaks(scratch / 'theirs')
      count = len(list((scratch / 'theirs').rglob('*.*')))
      print(
        f'leaks of PixelMed: {theirs.total()} in {count} files, {seconds:.0f} s'
      )
      for where, n in theirs.most_common(8):
        print(f'  {n} {where}')


if __name__ == '__main__':
  main()
