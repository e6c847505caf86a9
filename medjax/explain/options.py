"""What is asked of an explanation, and what is found of one image."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from medjax.explain import methods, subjects


@dataclasses.dataclass(frozen=True)
class Asked:
  """What of a run is to be explained, and how; the options of the command.

  methods: names of methods.METHODS. target: an output's name or index, '' the
  answer of the model. layer: of Grad-CAM and TCAV, '' the likeliest. masks,
  region: where the thing lies, and where of a segmenter to look: a folder or a
  file. baseline: one of subjects.BASELINES, or a file. batch: images computed
  at a time. segments, samples: of SHAP, LIME and RISE. sanity: images of the
  check by re-initialised weights. planted: teach a marker, and look for it.
  concepts: '[TABLE:]COLUMN,…' of TCAV. do: {concept: value}. nearest: training
  cases to show. counterfactual: whether to look for one. seed: of all that is
  random.
  """

  methods: tuple[str, ...] = methods.DEFAULT
  target: str = ''
  layer: str = ''
  masks: str | None = None
  region: str | None = None
  baseline: str = 'minimum'
  batch: int = 32
  segments: int = 50
  samples: int = 1000
  sanity: int = 3
  planted: bool = False
  concepts: str = ''
  do: Mapping[str, float] = dataclasses.field(default_factory=dict)
  nearest: int = 0
  counterfactual: bool = False
  seed: int = 0

  def __post_init__(self):
    unknown = [m for m in self.methods if m not in methods.METHODS]
    if unknown or not self.methods:
      raise ValueError(
        f'--methods: no {unknown[0] if unknown else "method"!r}; there are '
        f'{", ".join(methods.METHODS)}'
      )
    least = dict(batch=1, segments=2, samples=2, sanity=0, nearest=0)
    for name, count in least.items():
      if getattr(self, name) < count:
        raise ValueError(f'--{name}={getattr(self, name)} is too few')


@dataclasses.dataclass(frozen=True)
class Result:
  """What was found of one image.

  subject, baseline. value: the shown score. maps: {method: (*s,)} on the
  prepared grid. notes, tests: {method: …} of each, tests {name: number}.
  areas: {method: (deletion, insertion)}, each (1 + draws,). seconds: {method:
  of this image}.
  """

  subject: subjects.Subject
  baseline: np.ndarray
  value: float
  maps: dict[str, np.ndarray]
  notes: dict[str, str]
  tests: dict[str, dict[str, float]]
  areas: dict[str, tuple[np.ndarray, np.ndarray]]
  seconds: dict[str, float]


def work_of(items, asked):
  """The `methods.Work` of [(subject, baseline)] of one shape."""
  subjects_, baselines = zip(*items, strict=True)
  stack = lambda *xs: np.stack(xs)
  return methods.Work(
    images=np.stack([s.image for s in subjects_]),
    about=jax.tree.map(stack, *[s.about for s in subjects_]),
    baseline=np.stack(baselines).astype(np.float32),
    spacing=subjects_[0].spacing,
    batch=asked.batch,
    layer=asked.layer,
    segments=asked.segments,
    samples=asked.samples,
    seed=asked.seed,
  )
