"""The runs of a curve: ordinary workdirs, each trained and judged once."""

import dataclasses
import pathlib

from medjax import config as config_lib
from medjax import experiment, files
from medjax.evaluate import evaluate
from medjax.public import read_config
from medjax.train import train

SUPERVISED = 'supervised'


@dataclasses.dataclass(frozen=True)
class Plan:
  """What the runs of a curve have in common.

  config: a file, as configs/semi.py:hippocampus; a method is a further word of
    it, as configs/semi.py:hippocampus,cps. overrides: {field: value}.
  pretrained: the workdir of method `pretrained`.
  table: a CSV of features of the cases, on which a second forest grows.
  """

  config: str
  overrides: tuple[tuple[str, object], ...] = ()
  pretrained: str = ''
  table: str = ''


def configured(plan, method, *, count, seed, ids=()):
  """The config of one run: `count` labelled patients, or cases of these ids.

  A seed is that of the choice, the weights and the batches; how the data are
  divided into splits is the same for all. The last checkpoint is the one that
  counts: references of validation choose none.
  """
  words = '' if method in (SUPERVISED, 'pretrained') else f',{method}'
  config = read_config(f'{plan.config}{words}')
  with config.unlocked():
    config.update_from_flattened_dict(_meant(plan.overrides, config))
  data = config.data
  data.seed = config.seed if data.seed is None else data.seed
  data.labelled, data.labelled_ids = (0 if ids else count), tuple(ids)
  data.labelled_seed = seed
  config.seed = seed * config.members  # members have this seed, the next, …
  config.train.update(eval_every=config.train.steps, patience=0)
  if method == 'pretrained':
    if not plan.pretrained:
      raise ValueError('pretrained: say --pretrained=WORKDIR')
    config.pretrained.path = plan.pretrained
  return config


def _meant(overrides, config):
  """{field: value}; those of the model are of both networks of a pair."""
  if config.model.get('name') != 'Pair':
    return dict(overrides)
  inside = lambda field: field.startswith('model.')
  return {
    f'model.network.{k.removeprefix("model.")}' if inside(k) else k: value
    for k, value in overrides
  }


def folder(out, method, count, seed):
  """Where a run lies."""
  return pathlib.Path(out) / 'runs' / method / f'n{count:04d}' / f'seed{seed}'


def done(config, place):
  """Whether a run of this config is whole. Raises ValueError for another's."""
  if not (place / 'metrics.json').exists():
    return False
  config_lib.compare(
    config_lib.complete(config), place, mend='take another --workdir'
  )
  return True


def work(config, place):
  """Trains and evaluates a run that is not whole; what metrics.json says."""
  if not done(config, place):
    made = experiment.make(config)
    facts = train(made, place)
    evaluate(made, place, facts=facts)
  return files.read_json(place / 'metrics.json', mend='delete the run')
