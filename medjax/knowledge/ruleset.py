"""Sets of rules as data: rules/NAME.toml, read and checked."""

import dataclasses
import math
import pathlib
import tomllib
from collections.abc import Mapping, Sequence

from medjax.build import closest
from medjax.knowledge.logic import COMPARISONS
from medjax.knowledge.values import Field

_FOLDER = pathlib.Path(__file__).parent / 'rules'
_DERIVED = ('change', 'difference')


@dataclasses.dataclass(frozen=True)
class Clause:
  """A cell of a table: when all of `when` hold, this is the outcome."""

  name: str
  when: Sequence[Mapping]
  outcome: str


@dataclasses.dataclass(frozen=True)
class Ruleset:
  """A published set of rules.

  fields: what it reads. derived: {name: (kind, of, to)}, computed: the relative
  'change' of a field against another, or their 'difference'. applies: [(why
  not, condition)], all of which must hold of a patient. impossible: [(why,
  conditions)], fields that contradict each other. outcomes: {name: what
  is to be done}. exclusive: whether one clause at most can hold; else the first
  that holds counts. left_out: what is in the paper and not in here. formula: of
  a set without clauses, what `formula.probabilities` takes, and what it `says`.
  """

  name: str
  title: str
  citation: str
  doi: str
  fields: Mapping[str, Field]
  derived: Mapping[str, tuple[str, str, str]]
  applies: Sequence[tuple[str, Mapping]]
  impossible: Sequence[tuple[str, Sequence[Mapping]]]
  outcomes: Mapping[str, str]
  clauses: Sequence[Clause]
  exclusive: bool
  left_out: str = ''
  formula: Mapping | None = None


def names():
  """Names of the sets that medjax has."""
  return sorted(p.stem for p in _FOLDER.glob('*.toml'))


def load(name) -> Ruleset:
  """A set by its name, or of a user's own file, PATH.toml.

  Raises ValueError for an unknown name, or a file that is no set of rules.
  """
  path = pathlib.Path(name)
  if path.suffix != '.toml':
    if name not in names():
      raise ValueError(
        f'no rules {name!r}{closest(name, names())}; there are '
        f'{", ".join(names())}'
      )
    path = _FOLDER / f'{name}.toml'
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file of rules')
  try:
    tree = tomllib.loads(path.read_text('utf-8-sig'))
    return _made(path.stem, tree)
  except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as e:
    raise ValueError(f'{path} is no set of rules: {e}') from None


def _made(name, tree):
  fields = {k: Field(k, **v) for k, v in tree['fields'].items()}
  derived = {
    k: (v['kind'], v['of'], v['to']) for k, v in tree.get('derived', {}).items()
  }
  for k, (kind, of, to) in derived.items():
    if kind not in _DERIVED or of not in fields or to not in fields:
      raise ValueError(f'derived {k} is neither a change nor a difference')
  made = Ruleset(
    name=name,
    title=tree['title'],
    citation=tree['citation'],
    doi=tree['doi'],
    fields=fields,
    derived=derived,
    applies=tuple((a['unless'], a['when']) for a in tree.get('applies', ())),
    impossible=tuple((i['why'], i['when']) for i in tree.get('impossible', ())),
    outcomes=tree.get('outcomes', {}),
    clauses=tuple(Clause(**c) for c in tree.get('clauses', ())),
    exclusive=tree['exclusive'],
    left_out=tree.get('left_out', ''),
    formula=tree.get('formula'),
  )
  _check(made)
  return made


def _check(made):
  known = {*made.fields, *made.derived}
  if not made.clauses and not made.formula:
    raise ValueError('it has neither clauses nor a formula')
  for term in made.formula['terms'] if made.formula else ():
    field = made.fields.get(term['field'])
    if field is None or (field.unit and not math.isfinite(field.high)):
      raise ValueError(f'term {term}: needs a field with bounds')
  conditions = [c for _, c in made.applies]
  conditions += [c for _, several in made.impossible for c in several]
  for clause in made.clauses:
    if clause.outcome not in made.outcomes:
      raise ValueError(f'clause {clause.name!r}: no outcome {clause.outcome!r}')
    conditions += clause.when
  while conditions:
    condition = conditions.pop()
    for branch in condition.get('any', ()):
      conditions += [branch] if isinstance(branch, Mapping) else branch
    if 'any' in condition:
      continue
    compared = set(condition) - {'field'}
    if condition.get('field') not in known or not compared <= COMPARISONS:
      raise ValueError(f'condition {condition}: an unknown field or comparison')
