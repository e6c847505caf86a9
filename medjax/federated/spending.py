"""What a site spends of its budget: every step, whether or not it counted.

Each site has a budget, draws, noise and a secret of its own, and takes its
steps as a private run does. A server may ask for a round again, from other
parameters; noise that was sent before would hide nobody there, so these are new
steps, and are spent.
"""

import dataclasses
import hashlib
import pathlib

import jax
import numpy as np

from medjax import files
from medjax.dp import budget, private
from medjax.dp.private import Private
from medjax.federated import protocol

FILE = 'spent.json'
WHOLE = 'privacy/federation.json'
_MEND = 'take a new --workdir'


class SpentError(ValueError):
  """A round for which nothing is left."""


@dataclasses.dataclass
class Spending:
  """The steps of a private site.

  private: its budget, its draws, its noise. places: {digest of what a round
  begins with: the first of its steps}. steps: how many are spent.
  """

  private: Private
  places: dict
  steps: int

  def place(self, server, memory, steps):
    """The first step of a round from what the server sent; it is then spent.

    The same round again has the same draws and the same noise, gives nothing
    new away and spends nothing. Raises SpentError where too little is left.
    """
    digest = _digest(server, memory)
    if digest not in self.places:
      whole = self.private.budget
      if self.steps + steps > whole.steps:
        raise SpentError(
          f'has spent its budget, {self.steps} of {whole.steps} steps, on '
          'rounds that the server did not count too'
        )
      self.places[digest] = self.steps
      self.steps += steps
      tree = {'places': self.places, 'steps': self.steps}
      # Before a step is taken.
      files.write_json(self.private.workdir / FILE, tree, sealed=True)
    return self.places[digest]

  def write(self):
    """Writes privacy.json, with what is spent."""
    self.private.write(self.steps)

  @property
  def told(self):
    """What others may know: {'epsilon', 'delta', 'steps', …}."""
    whole = self.private.budget
    return {
      'epsilon': whole.spent(self.steps)['pld'],
      'delta': whole.delta,
      'steps': self.steps,
      'noise': whole.noise,
      'patients': whole.patients,
      'batch': whole.batch,
    }


def begin(experiment, name, folder, samples, mesh, *, about, going=False):
  """The Spending of a site, new or as its folder has it.

  experiment: of its own cases. about: {name: value} of the federation, on which
  its chance depends. going: whether it took part before. Raises ValueError for
  what its epsilon would not cover, and where what was spent is not known any
  more.
  """
  folder = pathlib.Path(folder)
  known = (folder / budget.FILE).exists()
  found = files.read_json(folder / FILE, mend=_MEND)
  if (going and not known) or (known and not found):
    raise ValueError(
      f'{folder}: {FILE if known else budget.FILE} is gone, and with it what '
      f'{name} has spent: {_MEND}'
    )
  if not found:  # before there is a budget of which it could be lost
    found = {'places': {}, 'steps': 0}
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / FILE, found, sealed=True)
  try:
    # Alike wherever the cases lie, as it is in the simulation.
    about = {**protocol.common(experiment.config), **about}
    made = private.begin(
      experiment, folder, samples, mesh, name=name, about=about
    )
  except ValueError as e:
    raise ValueError(f'{name}: {e}') from None
  if made.budget.steps < experiment.train.steps:
    raise ValueError(
      f'{name}: privacy.noise={made.budget.noise:g} lasts for '
      f'{made.budget.steps} of {experiment.train.steps} steps: give fewer '
      '--rounds, or more noise'
    )
  return Spending(made, found['places'], found['steps'])


def _digest(server, memory):
  """Stands for all that a round depends on."""
  digest = hashlib.blake2b(str(server.step).encode(), digest_size=16)
  trees = (server.params, server.variables, dict(server.own), vars(memory))
  for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
    leaf = np.asarray(leaf)
    digest.update(
      f'{jax.tree_util.keystr(path)}{leaf.dtype}{leaf.shape}'.encode()
    )
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def whole(sites):
  """What a federation has spent, of {site: what it told}.

  'epsilon': of patients who are at one site only, the largest (parallel
  composition); 'several': of one who is at all of them, the sum.
  """
  ends = {'epsilon': max, 'several': sum}
  return {
    'sites': sites,
    **{
      name: {k: end(s[k] for s in sites.values()) for k in ('epsilon', 'delta')}
      for name, end in ends.items()
    },
  }


def read(workdir):
  """What `write` wrote, or None where nothing was spent."""
  return files.read_json(pathlib.Path(workdir) / WHOLE, mend='train it again')


def write(workdir, sites):
  """Writes and says what all sites have spent; {site: what it told}."""
  found = whole(sites)
  path = pathlib.Path(workdir) / WHOLE
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_json(path, found)
  each = ', '.join(f'{k} {s["epsilon"]:.3f}' for k, s in sorted(sites.items()))
  one, several = found['epsilon'], found['several']
  more = ''
  if len(sites) > 1:
    more = (
      f'; of the federation {one["epsilon"]:.3f} at delta {one["delta"]:g}, of '
      f'a patient who is at every site {several["epsilon"]:.3f} at '
      f'{several["delta"]:g}'
    )
  print(f'spent: epsilon {each}{more}', flush=True)
