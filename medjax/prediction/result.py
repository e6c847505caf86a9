"""The prediction of one case, and where it comes from."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Provenance:
  """Where a prediction comes from.

  model: its name in the config; of several members, of each the same.
  steps: of the checkpoint of each member.
  digest: of the config, `Experiment.digest`.
  medjax: the release.
  inputs: files of the case, or what identifies its series.
  """

  model: str
  steps: tuple[int, ...]
  digest: str
  medjax: str
  inputs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The prediction of one case.

  id: the case's.
  labels: a label map (*s,) on the case's own grid; None where the task gives
    numbers of a case.
  values: such numbers by name, a class's probability, say; {} of a label map.
  probabilities: (K,), or of a map (*s, K), if they were asked for.
  uncertainty: of several members, by measure: numbers, or maps with one of the
    foreground; {} of one.
  calibrated: whether what validation decided was applied.
  logits, embedding, signature: (K,), (d,) and (e,), if features were asked for;
    the signature is what novelty is seen by.
  judgement: what `Judge` says of it: a set, p values of novelty, 'abstain', 0
    or 1, and the 'reason'; {} if it was not asked.
  provenance: what predicted it.
  """

  id: str
  provenance: Provenance
  labels: np.ndarray | None = None
  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  probabilities: np.ndarray | None = None
  uncertainty: Mapping[str, np.ndarray] = dataclasses.field(
    default_factory=dict
  )
  calibrated: bool = False
  logits: np.ndarray | None = None
  embedding: np.ndarray | None = None
  signature: np.ndarray | None = None
  judgement: Mapping[str, float | int | str] = dataclasses.field(
    default_factory=dict
  )
