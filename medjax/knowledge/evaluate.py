"""What rules say of findings: the outcome and the clause, or what lacks."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from medjax.knowledge import formula, logic
from medjax.knowledge.ruleset import Ruleset


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a set of rules says of one finding.

  state: 'decided'; 'open' where unknown fields leave several outcomes possible;
  'not applicable', for the reason in `says`; 'no clause' of the set covers it;
  'conflict' of clauses with different outcomes. outcome, says, clause: the
  name, what is to be done, and the cell of the table that fired, of a decided
  one. possible: the outcomes that are left. missing: fields that would tell.
  """

  rules: str
  state: str
  outcome: str = ''
  says: str = ''
  clause: str = ''
  possible: Sequence[str] = ()
  missing: Sequence[str] = ()
  citation: str = ''
  doi: str = ''


def evaluate(rules: Ruleset, finding: Mapping) -> Answer:
  """The `Answer` of a set of rules to a finding, {field: value}.

  Fields that are missing or null are unknown; those that the set does not read
  are passed over. Raises ValueError of one line for a value that cannot be.
  """
  values = _values(rules, finding)
  cite = {'rules': rules.name, 'citation': rules.citation, 'doi': rules.doi}
  lacking = []
  for why, condition in rules.applies:
    applies = logic.holds(condition, values)
    if applies is False:
      return Answer(state='not applicable', says=why, **cite)
    if applies is None:
      lacking += logic.missing([condition], values)
  sure = not lacking
  if rules.formula:
    return _computed(rules, values, lacking, cite)
  fired, open_ = [], []
  for clause in rules.clauses:
    held = logic.together(clause.when, values)
    if held is None:
      open_.append(clause)
    if held:
      fired.append(clause)
      if not rules.exclusive:
        break  # what comes later is overruled
  if rules.exclusive and fired:
    open_ = []  # no other can hold
  outcomes = list(dict.fromkeys(c.outcome for c in (*fired, *open_)))
  if len({c.outcome for c in fired}) > 1:
    named = ' and '.join(repr(c.name) for c in fired)
    says = f'{named} both hold, with different outcomes'
    return Answer(state='conflict', says=says, possible=outcomes, **cite)
  if not outcomes:
    says = 'no cell of the table is of such a finding'
    return Answer(state='no clause', says=says, **cite)
  if sure and fired and len(outcomes) == 1:
    return _decided(rules, fired[0], cite)
  for clause in open_:
    lacking += logic.missing(clause.when, values)
  if not sure:
    outcomes.append('not applicable')
  lacking = _fields(rules, dict.fromkeys(lacking), values)
  return Answer(state='open', possible=outcomes, missing=lacking, **cite)


def _computed(rules, values, lacking, cite):
  """The answer of a formula: a probability, or from where to where it is."""
  low, high = formula.probabilities(rules.formula, rules.fields, values)
  lacking = [*lacking, *(k for k, value in values.items() if value is None)]
  if lacking:
    possible = (f'{100 * low:.1f} % to {100 * high:.1f} %',)
    missing = list(dict.fromkeys(lacking))
    return Answer(state='open', possible=possible, missing=missing, **cite)
  said, says = f'{100 * low:.1f} %', rules.formula['says']
  return Answer(
    state='decided', outcome=said, says=says, clause='formula',
    possible=(said,), **cite,
  )  # fmt: skip


def _decided(rules, clause, cite):
  return Answer(
    state='decided',
    outcome=clause.outcome,
    says=rules.outcomes[clause.outcome],
    clause=clause.name,
    possible=(clause.outcome,),
    **cite,
  )


def _values(rules, finding):
  values = {k: f.read(finding.get(k)) for k, f in rules.fields.items()}
  for name, (kind, of, to) in rules.derived.items():
    a, b = values[of], values[to]
    if a is None or b is None:
      values[name] = None
      continue
    # Rounded far below what anybody measures: 13 of 10 is 30 %, not less.
    values[name] = round(_change(a, b) if kind == 'change' else a - b, 9)
  for why, condition in rules.impossible:
    if logic.together(condition, values):
      raise ValueError(why)
  return values


def _change(a, b):
  """Of a number against another; nothing that becomes something is endless."""
  if b == 0:
    return math.copysign(math.inf, a) if a else 0.0
  return (a - b) / b


def _fields(rules, names, values):
  """Names of unknown fields, of a derived one those it comes from."""
  found = []
  for name in names:
    parts = rules.derived[name][1:] if name in rules.derived else (name,)
    found += [p for p in parts if values[p] is None]
  return list(dict.fromkeys(found))
