"""The questions of a server, and what a config must have in common."""

import dataclasses
import itertools
import json

import numpy as np

from medjax import config as config_lib
from medjax.data.facts import DataFacts
from medjax.federated import rounds

# What may differ between sites: where their cases lie, and how they are read.
_OWN = (
  'data.path', 'data.table', 'data.where', 'data.fields', 'data.data_dir',
  'data.manual_dir', 'data.patient', 'data.group', 'data.hash_ids',
  'data.mask_values', 'data.fractions', 'data.seed', 'data.cache_gb',
  'data.name', 'data.splits', 'data.subgroups', 'data.join.table',
  'data.join.on', 'data.labelled_ids', 'train.steps', 'privacy.key',
)  # fmt: skip
_SERVER = 'server/'


def common(config):
  """{field: value} of a config that all must have alike, as JSON has it."""
  flat = {}

  def walk(tree, prefix):
    for name, value in tree.items():
      path = f'{prefix}{name}'
      if path in _OWN:
        continue
      if isinstance(value, dict) and value:
        walk(value, f'{path}.')
      else:
        flat[path] = value

  walk(json.loads(config_lib.to_json(config)), '')
  return flat


def differs(ours, theirs):
  """The first field in which two configs differ, in words; '' of none."""
  for name in sorted({*ours, *theirs}):
    if ours.get(name) != theirs.get(name):
      return (
        f'its config has {name}={theirs.get(name)!r}, that of the server '
        f'{ours.get(name)!r}'
      )
  return ''


def agreed(facts):
  """The facts of all sites: those of the first, which the model depends on.

  facts: {site: dict}. Raises ValueError where images are of other channels or
  axes, or classes of other names.
  """
  alike = (
    'channels', 'rank', 'class_names', 'regions', 'region_order', 'ignore',
    'num_labels', 'covariate_names', 'causes', 'further_images',
    'further_channels',
  )  # fmt: skip
  if_said = ('channel_names', 'normalisation')  # not all formats can
  for name in (*alike, *if_said):
    saying = [s for s in sorted(facts) if name in alike or facts[s][name]]
    for first, site in itertools.product(saying[:1], saying[1:]):
      if facts[site][name] != facts[first][name]:
        raise ValueError(
          f'{site} has {name} {facts[site][name]}, and {first} '
          f'{facts[first][name]}: sites must describe their data alike'
        )
  return facts[min(facts)]


def doubts(facts, steps):
  """What to say of sites whose first case is unlike the first site's, lines.

  facts: {site: dict}; steps: names of data.preprocess.
  """
  first = DataFacts.read(facts[min(facts)])
  return [
    f'{site}, beside {min(facts)}: {line}'
    for site in sorted(facts)
    for line in first.doubts(_first_case(DataFacts.read(facts[site])), steps)
  ]


def _first_case(facts):
  """A case as the first one was, without its values."""
  case = {'spacing': facts.spacing}
  if facts.channels:
    case['image'] = np.empty((1,) * facts.rank, facts.stored or None)
  if facts.orientation:
    case['affine'] = facts.affine()
  return case


def to_site(algorithm, server):
  """The arrays of a round for a site."""
  arrays = rounds.leaves_of(server.params, server.variables, algorithm.keep)
  own = rounds.leaves_of({}, sent_of(server.own))
  return {**arrays, **{_SERVER + path: leaf for path, leaf in own.items()}}


def at_site(begun, arrays, step):
  """The `Server` that a site is told of. `begun`: that of its own Training.

  Raises ValueError for arrays of another model.
  """
  leaves = {k: v for k, v in arrays.items() if not k.startswith(_SERVER)}
  own = {
    k.removeprefix(_SERVER): v for k, v in arrays.items() if k not in leaves
  }
  known = rounds.leaves_of(begun.params, begun.variables)
  wrong = [
    path for path, leaf in leaves.items()
    if path not in known or np.shape(leaf) != known[path].shape
  ]  # fmt: skip
  if wrong:
    raise ValueError(f'the server has another model: {min(wrong)}')
  params, variables = rounds.replaced(begun.params, begun.variables, leaves)
  _, trees = rounds.replaced({}, sent_of(begun.own), own)
  return dataclasses.replace(
    begun, step=step, params=params, variables=variables,
    own={**begun.own, **trees},
  )  # fmt: skip


def sent_of(own):
  """The trees of the server that a site needs."""
  return {k: tree for k, tree in own.items() if k == 'control'}
