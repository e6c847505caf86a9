"""What a folder holds of predictions, and what they were made of and by."""

import pathlib
import time

from medjax import files
from medjax.prediction import files as prediction_files
from medjax.run import identity

FILE = 'predicted.json'


def made_by(workdir, run, options):
  """What results depend on beside the case: by it they may stay, JSON-able."""
  settings = run.experiment.inference
  return files.plain(
    {
      'run': identity.digest(workdir),
      'step': run.provenance.steps,
      'flips': settings.flips,
      'overlap': settings.overlap,
      **options,
    }
  )


class Written:
  """predictions.csv and predicted.json, written now and then while they grow.

  A mask is called as its image is, and so may another image be: predicted.json
  says of which files the results of each case are, and by what.
  """

  _SECONDS = 10

  def __init__(self, out, by, *, key='file'):
    """`by` is of `made_by`; `key` the first column of the table.

    Attributes: `out`, the folder; `kind`, what cases are called.
    """
    self.out, self._key = pathlib.Path(out), key
    self._by = {**by, 'named by': key}
    self.kind = 'rows' if key == 'id' else 'images'
    self._rows, self._time = [], time.monotonic()
    self._before = {}  # lines that the folder holds already, by name
    self._made = {}  # id: what its results were made of

  def lacking(self, sources, task, *, lines, segments=False):
    """Those of the sources whose results the folder does not hold whole.

    lines: whether each has one in the table. segments: maps are DICOM SEG.

    Raises ValueError for results that another run, other options or another
    file of that name gave, or of which nothing says what gave them.
    """
    table, held = self.out / 'predictions.csv', self._held()
    if held is not None:
      self._check_by(held.get('by') or {})
      self._made = dict(held.get('of') or {})
    elif table.exists():
      raise ValueError(_unsaid(table))
    told = prediction_files.read_table(self.out, self._key)
    # Of what has no stamp the line, if any, is of another run.
    made = [made for made in self._made.values() if made['stamp'] is not None]
    names = {each['line'] for each in made}
    self._before = {k: row for k, row in told.items() if k in names}
    maps = 'mask' in task.fields
    return [s for s in sources if not self._has(s, maps, lines, segments)]

  def _held(self):
    """What predicted.json says, None without it."""
    mend = f'take another folder than {self.out}'
    return files.read_json(self.out / FILE, mend=mend)

  def _check_by(self, by):
    for name in {**self._by, **by}:
      if by.get(name) != (own := self._by.get(name)):
        values = f'{name} {by.get(name)}, not {own}'
        if name == 'run':  # digests say nothing to a reader
          values = 'by another run, or this was trained or evaluated since'
        raise ValueError(
          f'{self.out} holds what was predicted otherwise ({values}): leave '
          '--skip_existing, or take another --out'
        )

  def _has(self, source, maps, lines, segments):
    """Whether results are there; forgets a line that is to be made again."""
    made = self._made.get(source.id)
    # A row says itself what it is, whichever table it is in.
    same = made and self._key == 'id' and made['stamp'] == source.stamp
    if made and made['paths'] != source.paths and not same:
      raise ValueError(
        f'{self.out} holds {source.id} of {made["paths"][0]}, not of '
        f'{source.paths[0]}: predict that into another --out'
      )
    mask = prediction_files.is_written(self.out, source.id, segments=segments)
    if mask and maps and not made:
      raise ValueError(_unsaid(f'{self.out}, the mask of {source.id}'))
    there = made and made['stamp'] == source.stamp and (mask or not maps)
    if there and (made['line'] in self._before or not lines):
      return True
    self._before.pop(made['line'] if made else source.line, None)
    return False

  def begin(self, sources):
    """Says by what results will be made, of these sources.

    Those of before may be of another; masks by the same are still known.
    """
    self.out.mkdir(parents=True, exist_ok=True)
    held = self._held() or {}
    if held.get('by') == self._by:
      self._made = self._made or self._masks_before(held)
    elif held:  # of which no line is to stay
      (self.out / 'predictions.csv').unlink(missing_ok=True)
    for source in sources:
      self._note(source, None)  # were it killed, a mask may be there
    self._write_made()

  def _note(self, source, stamp):
    self._made[source.id] = {
      'line': source.line, 'paths': source.paths, 'stamp': stamp
    }  # fmt: skip

  def _masks_before(self, held):
    """What predicted.json says of masks by the same, without a line.

    The table is begun anew, and forgets its lines.
    """
    lines = prediction_files.read_table(self.out, self._key)
    made = held.get('of') or {}
    return {k: each for k, each in made.items() if each['line'] not in lines}

  def add(self, source, prediction=None):
    """Takes a source whose maps are written, and its line, if it has one."""
    self._note(source, source.stamp)
    if prediction is not None:
      self._rows.append((source.line, prediction))
    if time.monotonic() - self._time > self._SECONDS:
      self.write()
      self._time = time.monotonic()

  def write(self):
    """Writes both files; returns the path of the table, None without lines."""
    path = None
    if self._rows:
      path = prediction_files.write_table(
        self.out, self._rows, self._before.values(), self._key
      )
    self._write_made()
    return path

  def _write_made(self):
    tree = {'by': self._by, 'of': self._made}
    files.write_json(self.out / FILE, tree, sealed=True)


def _unsaid(what):
  return (
    f'{what}: no {FILE} says what it was made by; leave --skip_existing, which '
    'replaces it, or take another --out'
  )
