"""What other rooms say beside an answer: novelty, a map, like cases, rules.

Each is a part of a result, so it is a function of the inputs and the model.
What a run lacks for one of them leaves that one out.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from medjax.data import transforms
from medjax.explain import explanation, methods, neighbours
from medjax.knowledge import evaluate, ruleset
from medjax.metrics import embeddings
from medjax.metrics.diameters import axial_diameters
from medjax.prediction import novelty, trained

NEAREST = 3
# What `size` is in sets of rules that read one: of a mask it can be measured.
SIZES = {
  'fleischner': lambda d: (d.longest + d.across) / 2,
  'lung_rads': lambda d: (d.longest + d.across) / 2,
  'lung_t': lambda d: d.longest,
}


@dataclasses.dataclass(frozen=True)
class Insight:
  """What is known of a run beside its weights.

  known: what novelty is told by, None where the run has fitted none. alike:
  (embeddings, ids, labels) of the training cases, None where none are kept.
  rules: {class: names of sets of rules}.
  """

  run: trained.Trained
  known: novelty.Novelty | None
  alike: tuple | None
  rules: Mapping[str, tuple[str, ...]]

  @classmethod
  def of(cls, run, workdir, rules):
    """What lies in the workdir of a run."""
    known = novelty.kept(workdir, run.provenance.steps)
    return cls(run, known, neighbours.kept(run, workdir), rules)

  @property
  def features(self):
    """Whether a prediction needs its embedding."""
    return self.known is not None or self.alike is not None

  @functools.cached_property
  def _score(self):
    """What Grad-CAM is of; one for all cases, for it is compiled for itself."""
    return explanation.score_of(self.run)

  def reasons(self, prediction):
    """Reasons to say nothing: sentences."""
    if self.known is None:
      return ()
    _, reasons = self.known.judge(prediction)
    return tuple(f'out of distribution: {reason}' for reason in reasons)

  def explanation(self, case, sample, output):
    """Grad-CAM (*spatial,) in [0, 1] of a class on the grid of a case, or None.

    None for a model that has no map of the image, and for a map that is 0.
    """
    image = np.asarray(sample['image'], np.float32)[None]
    work = methods.Work(
      images=image,
      about={'output': np.array([output]), 'inputs': ()},
      baseline=np.zeros_like(image),
      spacing=sample['spacing'],
    )
    try:
      ((found,), _) = methods.run('gradcam', self._score, work)
    except ValueError:
      return None
    if not np.isfinite(found).all() or found.max() <= 0:
      return None
    if sample['affine'].shape != case['affine'].shape:
      return None
    shape = case['image'].shape[:-1]
    native = transforms.to_grid(found, sample['affine'], case['affine'], shape)
    return np.clip(native / found.max(), 0, 1)

  def nearest(self, prediction):
    """The training cases that are most alike: [{'case', 'label', 'cosine'}]."""
    if self.alike is None:
      return []
    stored, ids, labels = self.alike
    own = prediction.embedding[: stored.shape[1]]  # of the first member
    index, cosines = embeddings.nearest(own[None], stored, NEAREST)
    return [
      {'case': str(ids[i]), 'label': str(labels[i]), 'cosine': float(c)}
      for i, c in zip(index[0], cosines[0], strict=True)
    ]

  def by_rule(self, case, prediction, findings, age=None):
    """What published rules say of findings in a label map.

    [{'finding', 'rule', 'says', 'possible', 'clause', 'citation', 'missing',
    'size'}]: a rule reads the finding's size (mm) and the age of the patient
    (years); what else it reads is missing.
    """
    said = []
    for finding in findings:
      names = self.rules.get(finding['name'], ())
      if not names or not finding['present']:
        continue
      mask = prediction.labels == finding['segment']
      measured = axial_diameters(mask, case['affine'], case['spacing'])
      for name in names:
        size = round(float(SIZES[name](measured)), 1)
        rules = ruleset.load(name)
        said.append(_told(finding, rules, size, age))
    return said


def _told(finding, rules, size, age):
  """The answer of a set of rules as the page shows it."""
  values = {'size': {'value': size, 'unit': 'mm'}}
  if age is not None:
    values['age'] = {'value': age, 'unit': 'years'}
  try:
    answer = evaluate.evaluate(rules, values)
  except ValueError as e:  # beyond what the rules are of
    answer = evaluate.Answer(
      rules.name, 'not applicable', says=str(e), citation=rules.citation
    )
  says, possible = answer.says, []
  if answer.outcome:
    says = _worded(rules, answer.outcome)
  if answer.state == 'open':
    says = 'Open: it depends on what the image does not tell.'
    possible = [_worded(rules, name) for name in answer.possible]
  return {
    'finding': finding['name'],
    'rule': rules.title,
    'says': says,
    'possible': possible,
    'clause': answer.clause,
    'citation': answer.citation,
    'missing': [rules.fields[name].about for name in answer.missing],
    'size': size,
  }


def _worded(rules, name):
  """An outcome as people say it: a category with its name, '4A: …'."""
  text = rules.outcomes.get(name, name)
  is_said = name.islower() or text.startswith(name)
  return text if is_said else f'{name}: {text}'


def rules_of(text, names, *, volumes):
  """{class: [set, …]} of 'nodule=fleischner+lung_t, …', checked.

  Raises ValueError for classes and sets that there are not, and for models
  whose findings have no size.
  """
  found = {}
  for part in filter(None, (p.strip() for p in text.split(','))):
    name, _, sets = part.partition('=')
    if name not in names:
      raise ValueError(
        f'--by_rule: no class {name!r}; there are {", ".join(names)}'
      )
    if not volumes:
      raise ValueError(
        f'--by_rule: {name} has no size in mm: rules are for segmentations of '
        'volumes'
      )
    for one in sets.split('+'):
      if one not in SIZES:
        raise ValueError(
          f'--by_rule: {one!r} is none of {", ".join(SIZES)}, which read the '
          'size of a finding'
        )
      found.setdefault(name, []).append(one)
  return found
