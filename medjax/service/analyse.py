"""From the files of a series to an outcome, its DICOM objects and its views."""

import dataclasses
import gzip
import os
import pathlib
import re
import tempfile

import numpy as np
import pydicom

from medjax.data import formats
from medjax.prediction import files as prediction_files
from medjax.prediction import trained
from medjax.service import abstain, insight, outcome, report, results


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained run, ready, and what the store says of it."""

  name: str
  digest: str
  facts: dict
  run: trained.Trained
  insight: insight.Insight

  @classmethod
  def load(cls, row):
    """Loads the model of a row, and compiles it on an image of zeros."""
    run = trained.load(row.workdir)
    beside = insight.Insight.of(run, row.workdir, row.facts.get('rules', {}))
    model = cls(row.name, row.digest, row.facts, run, beside)
    facts, patch = run.experiment.facts, model.patch
    # Several windows where an image has several, but not all of a large one's.
    shape = facts.shape or patch
    if patch:
      shape = tuple(min(s, 2 * p) for s, p in zip(shape, patch, strict=True))
    model.rehearse(shape)
    return model

  @property
  def patch(self):
    """The shape of a window; () of models that see whole images."""
    return tuple(self.run.experiment.data.patch_size or ())

  def rehearse(self, shape):
    """Compiles the model on an image of zeros."""
    facts = self.run.experiment.facts
    spacing = facts.spacing or (1.0,) * facts.rank
    case = {
      'image': np.zeros((*shape, facts.channels), np.float32),
      'id': 'warm',
      'patient': 'warm',
      'affine': facts.affine(spacing),
      'spacing': np.array(spacing),
    }
    if set(self.run.task.inputs) == {'image'}:
      self.predict(case)

  def other_shapes(self):
    """Images of 2^rank, …, 2, 1 windows: as many are computed at once.

    The largest first, for most images have as many or more.
    """
    return [
      tuple(p + (axis < k) for axis, p in enumerate(self.patch))
      for k in range(len(self.patch), -1, -1)
      if self.patch
    ]

  def predict(self, case):
    """The `Prediction` of a case with all that is judged of it."""
    return self.run.predict_case(
      case, probabilities=True, features=self.insight.features
    )


@dataclasses.dataclass(frozen=True)
class Analysis:
  """What came of a job: an outcome; objects and views by kind, bytes."""

  outcome: dict
  objects: dict
  views: dict


def analyse(model, paths, inputs, *, round_=0, before=None):
  """The `Analysis` of the files of one series; a function of these.

  inputs: their SOP Instance UIDs. before: the report that this one replaces, as
  bytes. What the files or the model do not allow is an abstention; only what
  nobody could foresee is raised.
  """
  sources = results.sources_of(paths)
  identity = _identity(model, inputs, sources, round_)
  with tempfile.TemporaryDirectory() as folder:
    source = _laid_out(paths, pathlib.Path(folder))
    found, prediction, views = _outcome(model, source, _age(model, paths[0]))
    objects, seg = {}, None
    if prediction is not None and model.facts['dense']:
      try:
        objects['seg'] = results.write_seg(
          prediction.labels,
          source,
          model.facts['names'],
          model.facts['codes'],
          identity,
        )
        seg = results.read(objects['seg'])
      except ValueError as e:
        found = outcome.abstained('input refused', _said(e, folder))
  predecessor = None if before is None else report.predecessor_of(before)
  objects['sr'] = report.write(
    found,
    identity=identity,
    sources=sources,
    seg=seg,
    predecessor=predecessor,
  )
  return Analysis(found, objects, views)


def _identity(model, inputs, sources, round_):
  return results.identity(
    inputs,
    model.name,
    model.digest,
    sources,
    facts=model.facts,
    round_=round_,
  )


def nothing(model, paths, inputs, kind, reason, *, round_=0, before=None):
  """The `Analysis` that says nothing, for a reason that is known before."""
  sources = results.sources_of(paths)
  identity = _identity(model, inputs, sources, round_)
  found = outcome.abstained(kind, reason)
  predecessor = None if before is None else report.predecessor_of(before)
  data = report.write(
    found, identity=identity, sources=sources, seg=None, predecessor=predecessor
  )
  return Analysis(found, {'sr': data}, {})


def _laid_out(paths, folder):
  """A file, or the folder of a series, whose names say nothing."""
  for number, path in enumerate(paths):
    place = folder / f'{number:06d}.dcm'
    try:
      os.link(path, place)
    except OSError:  # another file system
      os.symlink(path, place)
  return folder / '000000.dcm' if len(paths) == 1 else folder


def _said(error, folder):
  """An error's line without the folder's name, as a reason."""
  line = ' '.join(str(error).split())
  for word in (f'{folder}/', str(folder)):
    line = line.replace(word, '')
  return line.removeprefix(': ')


def _age(model, path):
  """The patient's age in years by the header, for rules; None of none."""
  if not model.insight.rules:
    return None
  text = str(pydicom.dcmread(path, stop_before_pixels=True, force=True)
             .get('PatientAge') or '')  # fmt: skip
  return int(text[:3]) if re.fullmatch(r'\d{3}Y', text) else None


def _outcome(model, source, age):
  """(outcome, prediction or None, views) of a series."""
  run = model.run
  try:
    case = run.experiment.check(prediction_files.read_case(source))
    sample = run.experiment.prepare(case)
  except (ValueError, OSError) as e:
    where = source.parent if source.is_file() else source
    found = outcome.abstained('input refused', _said(e, where))
    return found, None, {}
  raw = model.predict(case)
  measures = abstain.measure(
    case, sample, raw, exclusive=model.facts['exclusive']
  )
  reasons, doubts = abstain.judge(model.facts['abstention'], measures)
  reasons = (*reasons, *model.insight.reasons(raw))
  views = _views(model, case, raw)
  if reasons:
    kind = outcome.kind_of(reasons[0])
    found = outcome.abstained(kind, *reasons, measures=measures)
    found['planar'] = np.ndim(case['image']) == 3
    views.pop('mask', None)  # of what it does not say, nothing is shown
    return found, None, views
  prediction = raw
  if not model.facts['dense'] and run.calibration.temperature is not None:
    prediction = run.predict_case(case, calibrated=True)
  found = outcome.found(
    model.facts,
    case,
    prediction,
    raw=raw.probabilities,
    doubts=doubts,
    measures=measures,
  )
  found['notes'] += case['notes']
  found['planar'] = np.ndim(case['image']) == 3
  views |= _beside(model, case, sample, raw, found, age)
  if not model.facts['abstention']:
    found['notes'].append(
      'No rule of abstention was fixed on validation for this model: '
      + (
        'it is silent on images unlike its training cases alone.'
        if model.insight.known
        else 'it may answer where it should say nothing.'
      )
    )
  return found, prediction, views


def _beside(model, case, sample, prediction, found, age):
  """Writes into an outcome what is said beside it; returns further views."""
  beside = model.insight
  found['nearest'] = beside.nearest(prediction)
  found['by_rule'] = beside.by_rule(case, prediction, found['findings'], age)
  if model.facts['dense'] or set(model.run.task.inputs) != {'image'}:
    return {}
  names = model.facts['names']
  present = [f for f in found['findings'] if f['present']]
  most = max(present, key=lambda f: f['probability'], default=None)
  output = int(np.argmax(prediction.probabilities))
  if most is not None:
    output = names.index(most['name'])
  explanation = beside.explanation(case, sample, output)
  if explanation is None:
    found['notes'].append('There is no map of what the answer rests on.')
    return {}
  found['notes'].append(
    f'The explanation is Grad-CAM of {names[output]}: where the network '
    'looked, which is not where something is. It was not tested on this image.'
  )
  array = np.rint(255 * explanation)
  return {'explanation': _nifti('explanation', array, _grid(case))}


def _grid(case):
  """The affine (4, 4) of a case; a picture becomes a volume of one slice."""
  affine = np.asarray(case['affine'], float)
  if affine.shape == (4, 4):
    return affine
  flat = np.eye(4)
  flat[:2, :2] = np.abs(affine[:2, :2][::-1, ::-1])
  return flat


def _views(model, case, prediction):
  """Pictures for the page, {kind: NIfTI as bytes}, without a header's text."""
  maps = {'image': np.asarray(case['image'])[..., 0]}
  if prediction.labels is not None:
    maps['mask'] = prediction.labels.astype(np.uint8)
    p = np.asarray(prediction.probabilities, np.float32)
    if model.facts['exclusive']:
      entropy = -(p * np.log(np.maximum(p, 1e-7))).sum(-1) / np.log(p.shape[-1])
      maps['uncertainty'] = np.rint(255 * np.clip(entropy, 0, 1))
  grid = _grid(case)
  return {kind: _nifti(kind, array, grid) for kind, array in maps.items()}


def _nifti(kind, array, affine):
  """NIfTI of a volume, or of a picture (row, column) as one slice."""
  if array.ndim == 2:
    array = array.T[:, ::-1, None]
  if kind != 'image':
    array = array.astype(np.uint8)
  elif array.dtype.kind != 'f':
    array = array.astype(np.int32)
  else:
    array = array.astype(np.float32)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'view.nii'
    formats.write(path, array, affine)
    return gzip.compress(path.read_bytes(), 5, mtime=0)
