"""A segmentation model made that of one patient, by earlier scans of theirs."""

import dataclasses
import pathlib
import shutil

import jax
import numpy as np

from medjax import cases, engine, experiment, files, run_facts
from medjax import config as config_lib
from medjax.data import folder, pipeline
from medjax.finetune import adapted
from medjax.metrics import label_maps
from medjax.prediction import novelty
from medjax.prediction.predictor import Predictor, local_variables
from medjax.prediction.trained import CALIBRATION
from medjax.run.checkpoint import Checkpointer, best_variables

WAYS = ('bitfit', 'lora')
# Files of a workdir that were measured with its weights: true of no others.
OF_THE_WEIGHTS = (CALIBRATION, novelty.FILE)
_HIDDEN = 255  # the label of voxels whose reference is held back
_SHARE = 0.25  # of a scan's labelled slices that are held back
_LOOKS = 8  # at the held slices, while it adapts
_MARGIN = 0.002  # Dice there by which an adaptation must be better


@dataclasses.dataclass(frozen=True)
class Outcome:
  """Whether a model was adapted, and what the held slices said.

  variables: of the plain model: adapted, or as they were. held: [(step, mean
  Dice there)], step 0 as it was. steps: those that are kept, 0 of none.
  """

  variables: dict
  held: tuple[tuple[int, float], ...]
  steps: int

  @property
  def kept(self):
    """Whether the model is another one now."""
    return self.steps > 0


class Personaliser:
  """Adapts a run to patients, one after the other; compiled once.

  A quarter of each scan's labelled slices, in its middle along the longest axis
  of what is labelled, is held back: no loss sees their reference. Of the looks
  at them the best counts, and only if it is better than the model was.

  Raises ValueError for a run that does not segment, or of several members.
  """

  def __init__(
    self, workdir, *, way='bitfit', steps=40, learning_rate=2e-3, trust=False
  ):
    config = config_lib.load(workdir)
    if not trust:
      experiment.refuse_foreign(config, workdir, data=False)
    if config.members > 1 or config.folds:
      raise ValueError(f'{workdir} holds several runs: name one of its folders')
    if way not in WAYS:
      raise ValueError(f'--way={way} is none of {", ".join(WAYS)}')
    if steps < 1:
      raise ValueError(f'--steps={steps}: needs 1 or more')
    facts = run_facts.read(workdir)
    self.source = pathlib.Path(workdir)
    self._plain = experiment.make(config, facts=facts)
    if 'mask' not in self._plain.task.fields:
      raise ValueError(f'{workdir} does not segment, so no mask adapts it')
    self._task_ignore = getattr(self._plain.task, 'ignore', None)
    self.step, variables = best_variables(workdir)
    self.variables = adapted.merge(variables)
    self.made = experiment.make(
      _adapting(config, way, steps, learning_rate, self._hidden), facts=facts
    )
    self._every = max(steps // _LOOKS, 1)
    self._mesh = engine.make_mesh(jax.local_devices()[:1])
    self._predictor = Predictor(self.made)
    self._compiled = None

  @property
  def _hidden(self):
    return _HIDDEN if self._task_ignore is None else self._task_ignore

  def read(self, history):
    """The raw cases of a folder of earlier scans with their masks."""
    path = pathlib.Path(history).expanduser()
    options = cases.options_of_others(_of_one_patient(self._plain), path)
    options |= {'fractions': (1, 0, 0), 'folds': 0}  # all of it
    splits = folder.open_splits(path, **options)
    for part in splits.values():
      cases.check_classes(self._plain, history, part)
    found = [case for part in splits.values() for case in part]
    for case in found:
      self._plain.check(case)
      if 'mask' not in case:
        raise ValueError(
          f'{history}: {case["id"]} has no mask to adapt to: take it away, or '
          'draw one'
        )
      self._plain.task.check(case)
      if not _inside(case['mask'], self._hidden).any():
        raise ValueError(
          f'{history}: the mask of {case["id"]} is empty; nothing to adapt to'
        )
    return found

  def __call__(self, cases, *, seed=0):
    """The `Outcome` of adapting to raw cases with masks, all of one patient."""
    held = [held_slices(case['mask'], self._hidden) for case in cases]
    hidden = []
    for case, place in zip(cases, held, strict=True):
      mask = case['mask'].astype(np.int32)
      mask[place] = self._hidden
      hidden.append({**case, 'mask': mask})
    samples = [self.made.preprocess(case) for case in hidden]
    stream = dataclasses.replace(self.made, seed=seed).stream(samples)
    step, state = self._begin(stream.inputs)
    metrics = engine.empty_metrics(self._mesh)
    key = engine.replicate(jax.random.key(seed), self._mesh)
    batches = pipeline.to_device(
      pipeline.train_batches(
        stream, local_batch_size=stream.batch_size, start_step=0
      ),
      engine.sharded(self._mesh),
    )
    scores = [(0, self.score(self.variables, cases, held))]
    best = self.variables, *scores[0]
    for i, batch in enumerate(batches, start=1):
      state, metrics = step(state, metrics, batch, key)
      if i % self._every == 0:
        now = adapted.merge(local_variables(state))
        try:
          scores.append((i, self.score(now, cases, held)))
        except ValueError:  # It diverged, and gives no numbers.
          break
        if scores[-1][1] > best[2]:
          best = jax.tree.map(np.asarray, now), *scores[-1]
    if not best[2] > scores[0][1] + _MARGIN:
      return Outcome(self.variables, tuple(scores), 0)
    return Outcome(best[0], tuple(scores), best[1])

  def _begin(self, inputs):
    """(train step, fresh state), the step compiled when first asked for."""
    tx, _ = self.made.optimizer(inputs)
    state = engine.create_state(
      self.made.model, tx, inputs, jax.random.key(0), self._mesh,
      pretrained=self.made.model.split(self.variables),
    )  # fmt: skip
    if self._compiled is None:
      self._compiled = engine.make_train_step(
        self.made.model, self.made.task, tx, self.made.augment, self._mesh
      )
    return self._compiled, state

  def score(self, variables, cases, held):
    """Mean Dice of the classes of cases, in a place of each; `...` is all."""
    predictor = self._predictor.with_weights(variables)
    prepared = ({**self.made.preprocess(c), 'raw': c} for c in cases)
    found = []
    for (sample, one), place in zip(predictor(prepared), held, strict=True):
      reference = sample['raw']['mask'][place]
      valid = reference != self._hidden
      found.append(
        label_maps.dice(
          one.prediction[place],
          np.where(valid, reference, 0),
          num_classes=self._plain.task.num_classes,
          valid=valid,
        )
      )
    return float(np.nanmean(np.array(found)))


def _of_one_patient(made):
  """The experiment without what of its data told patients and rows apart."""
  alone = dict(patient='', where='', group='', hash_ids='')
  if 'covariates' not in made.task.inputs:
    alone['join'] = dict.fromkeys(made.config['data']['join'], '')
  data = {**made.config['data'], **alone}
  return dataclasses.replace(made, config={**made.config, 'data': data})


def held_slices(mask, ignore):
  """The place of the slices of a mask (*s,) that are held back, as an index."""
  inside = _inside(mask, ignore)
  extents = [np.flatnonzero(inside.any(_others(inside, a)))
             for a in range(inside.ndim)]  # fmt: skip
  axis = max(range(inside.ndim), key=lambda a: np.ptp(extents[a]))
  low, high = extents[axis][0], extents[axis][-1] + 1
  count = max(round(_SHARE * (high - low)), 1)
  start = (low + high - count) // 2
  place = [slice(None)] * inside.ndim
  place[axis] = slice(start, start + count)
  return tuple(place)


def _inside(mask, ignore):
  """What of a mask is labelled as some structure."""
  return (mask > 0) & (mask != ignore)


def _others(array, axis):
  return tuple(a for a in range(array.ndim) if a != axis)


def _adapting(config, way, steps, learning_rate, ignore):
  """The config of a run, of which a part trains for a few steps."""
  config = config.copy_and_resolve_references()
  config.adapt = {'name': way}
  config.task.ignore = ignore
  # Fields of the run's own optimizer, a momentum, are none of Adam's.
  general = config_lib.default_config().optimizer
  config.optimizer = {name: config.optimizer[name] for name in general} | {
    'name': 'adam',
    'learning_rate': learning_rate,
    'weight_decay': 0.0,
    'freeze': (),
  }
  config.schedule = {'name': 'cosine', 'warmup_steps': 0}
  config.train.update(steps=steps, ema_decay=0.0, microbatches=1)
  return config


def check_out(out):
  """Raises ValueError for a folder that holds a run already."""
  if (pathlib.Path(out) / 'config.json').exists():
    raise ValueError(f'{out} holds a run already: take another --out')


def write(personaliser, outcome, out):
  """Writes a workdir of the model after an `Outcome`; returns its path.

  It is an ordinary one, that loads and predicts: config, facts, a checkpoint,
  and `OF_THE_WEIGHTS` where the model stays as it was. personal.json says what
  was done.
  """
  source, out = personaliser.source, pathlib.Path(out)
  check_out(out)
  out.mkdir(parents=True, exist_ok=True)
  config = config_lib.load(source)
  config.adapt = {'name': 'full'}  # its weights are merged
  config_lib.store(config, out)
  shutil.copyfile(source / 'facts.json', out / 'facts.json')
  for name in () if outcome.kept else OF_THE_WEIGHTS:
    if (source / name).exists():
      shutil.copyfile(source / name, out / name)
  step = personaliser.step + outcome.steps
  variables = dict(outcome.variables)
  state = engine.TrainState(
    step=np.int32(step),
    params=variables.pop('params'),
    variables=variables,
    opt_state=(),
  )
  scores = dict(outcome.held)
  with Checkpointer(out) as checkpoints:
    metrics = engine.TrainMetrics.empty()
    checkpoints.save(state, metrics, [[step, scores[outcome.steps]]])
  said = {
    'kept': outcome.kept,
    'steps': outcome.steps,
    'held_dice_before': scores[0],
    'held_dice_after': scores[outcome.steps],
    'held': [list(pair) for pair in outcome.held],
    'adapt': dict(personaliser.made.config['adapt']),
    'from_step': personaliser.step,
    'from_config': personaliser.made.digest,
  }
  files.write_json(out / 'personal.json', said)
  return out
