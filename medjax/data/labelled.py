"""Training cases of which only some have a reference, chosen by patient."""

import collections
import dataclasses
import hashlib

import numpy as np

from medjax.data import duplicates
from medjax.data.folder import splits
from medjax.data.folder.entry import Entry
from medjax.data.part import Part


@dataclasses.dataclass(frozen=True)
class Choice:
  """Which references a run may use; without a count or ids, all there are.

  count: of patients, evenly of their classes: those of a seed are in a fixed
    order, so that ten are among the first twenty.
  ids: of cases, instead.
  """

  count: int = 0
  ids: tuple[str, ...] = ()
  seed: int = 0

  def __bool__(self):
    return bool(self.count or self.ids)


class Labelled(Part):
  """Some of the raw cases, of which some lose their reference.

  Attributes: `referenced` (n,) bool, whether each has its reference.
  """

  def __init__(self, cases, places, referenced, fields):
    super().__init__(cases, places)
    self.referenced, self._fields = np.asarray(referenced, bool), fields

  def __getitem__(self, index):
    case = super().__getitem__(index)
    if isinstance(index, slice) or self.referenced[index]:
      return case
    return {k: v for k, v in case.items() if k not in self._fields}

  def without(self, left_out):
    """The view without the cases at some of its places."""
    kept = [i for i in range(len(self)) if i not in left_out]
    places = [self._places[i] for i in kept]
    return Labelled(self._cases, places, self.referenced[kept], self._fields)

  def __repr__(self):
    digest = hashlib.sha256(bytes(self.referenced)).hexdigest()
    count = int(self.referenced.sum())
    return f'Labelled({super().__repr__()}, {count}, {digest[:8]})'


def chosen(cases, choice, *, fields, keep):
  """`cases` with the references of a `Choice`: a view, or as they are.

  The others stay without theirs where `keep` says so, else they are left out.
  `fields` are those that make the reference.

  Raises:
    ValueError: where the choice asks for more than there is, or for an unknown
      case, where a class has no case in it, and with `keep` where there are no
      others.
  """
  if not fields or not (choice or keep):
    return cases
  found = told(cases, fields)
  has = [t is not None for _, _, t in found]
  named = has
  if choice.ids:
    named = _by_ids(found, choice.ids)
  elif choice.count:
    named = _by_count(found, choice, getattr(cases, 'class_names', ()))
  if choice and 'mask' in fields:
    _check_masks(cases, named)
  if not keep:
    places = np.flatnonzero(named)
    return Labelled(cases, places, np.ones(len(places), bool), fields)
  if all(named):
    raise ValueError(
      f'all {len(named)} training cases have a reference, and this task learns '
      'from others too: set data.labelled to fewer, or add cases without one'
    )
  return Labelled(cases, range(len(cases)), named, fields)


def told(cases, fields):
  """(id, patient, label or '') of each case; None for it without reference."""
  found = []
  quick = set(fields) <= {'label', 'mask'}
  for item in getattr(cases, 'entries', cases) if quick else cases:
    if isinstance(item, Entry):
      has = item.dense if 'mask' in fields else item.label is not None
      label = item.label or ''
      found.append((item.id, item.patient, label if has else None))
      continue
    label = np.asarray(item.get('label', ''))
    label = tuple(map(int, label)) if label.ndim else str(label)
    has = all(name in item for name in fields)
    found.append((item['id'], item['patient'], label if has else None))
  return found


def entries(told):
  """An `Entry` of each case that is told with a reference."""
  return [
    Entry(id=name, images=(), patient=patient, label=label or None)
    for name, patient, label in told
    if label is not None
  ]


def _by_ids(told, ids):
  odd = sorted({*ids} - {name for name, _, label in told if label is not None})
  if odd:
    raise ValueError(
      f'data.labelled_ids: no case {odd[0]!r} with a reference in the training '
      f'split ({len(odd)} of {len(ids)} are not there)'
    )
  return [name in {*ids} for name, _, _ in told]


def _by_count(told, choice, class_names):
  """Whether each case is one of the first `count` patients with a reference."""
  known = entries(told)
  order = ordered(splits.strata(known), choice.seed)
  if choice.count > len(order):
    raise ValueError(
      f'data.labelled={choice.count}, but {len(order)} patients of train have '
      'a reference: lower it'
    )
  first = {}  # class → how many patients are needed for it
  labels = collections.defaultdict(set)
  for e in known:
    if isinstance(e.label, tuple):
      labels[e.patient] |= {i for i, on in enumerate(e.label) if on == 1}
    else:
      labels[e.patient].add(e.label)
  for count, patient in enumerate(order, 1):
    for label in labels[patient]:
      first.setdefault(label, count)
  late = {k: n for k, n in first.items() if n > choice.count}
  if late:
    name = min(late, key=str)
    if str(name).isdecimal() and int(name) < len(class_names):
      shown = class_names[int(name)]
    else:
      shown = name
    raise ValueError(
      f'data.labelled={choice.count}: class {shown!r} has no labelled case; '
      f'the fewest that have one of each class are {max(late.values())}'
    )
  taken = {*order[: choice.count]}
  return [patient in taken and label is not None for _, patient, label in told]


def ordered(strata, seed):
  """Patients in the order in which they become labelled.

  The first n, whatever n is, have each stratum in its share, to one patient.
  strata: {patient: its stratum}.
  """
  groups = collections.defaultdict(list)
  for patient, stratum in strata.items():
    text = f'labelled/{seed}/{patient}'.encode('utf-8', 'surrogateescape')
    place = hashlib.sha256(text).digest()
    groups[stratum].append((place, patient))
  places = [
    ((i + 0.5) / len(own), place, patient)
    for own in groups.values()
    for i, (place, patient) in enumerate(sorted(own))
  ]
  return [patient for *_, patient in sorted(places)]


def _check_masks(cases, named):
  """Raises ValueError where a class is in none of the chosen masks."""
  names = getattr(cases, 'class_names', ()) or ()
  if getattr(cases, 'regions', ()) or len(names) < 2:
    return
  seen = set()
  for i in np.flatnonzero(named):
    seen |= set(np.unique(cases[int(i)]['mask']).tolist())
  lacking = [n for k, n in enumerate(names) if k and k not in seen]
  if lacking:
    raise ValueError(
      f'class {lacking[0]!r} is in none of the {int(np.sum(named))} labelled '
      'masks: label more, or choose by another data.labelled_seed'
    )


def apart(cases, evaluated):
  """`cases` whose unlabelled ones are not those that a run is judged on.

  evaluated: {'validation': raw cases, 'test': …}. What looks like a case of
  validation is left out, which is said; every image is read for it.

  Raises:
    ValueError: for an unlabelled case of a patient of theirs, or one that is
      nearly the image of a test case.
  """
  seen, ids, places, patients = [], [], [], {}
  for split, others in evaluated.items():
    for case in others:
      patients.setdefault(case['patient'], (split, case['id']))
      _see(seen, ids, case, split)
  for i in np.flatnonzero(~cases.referenced):
    case = cases[int(i)]
    if case['patient'] in patients:
      split, other = patients[case['patient']]
      raise ValueError(
        f'unlabelled case {case["id"]} is of the patient of {other}, a case of '
        f'{split}, by which the run is judged: take it out'
      )
    if _see(seen, ids, case, ''):
      places.append(int(i))
  if not places:
    return cases
  twins = duplicates.find_twins(seen)
  first = len(seen) - len(places)
  like = {}  # place → (split, id)
  for a, b in [*twins.exact, *twins.near]:
    a, b = min(a, b), max(a, b)
    if a < first <= b and like.get(places[b - first], ('',))[0] != 'test':
      like[places[b - first]] = (seen[a].split, ids[a])
  for i, (split, other) in like.items():
    if split == 'test':
      raise ValueError(
        f'unlabelled case {cases[i]["id"]} is the image of {other}, a case of '
        'test, or nearly: take it out, or of a folder set '
        "data.group='duplicates'"
      )
  if not like:
    return cases
  print(
    f'note: {len(like)} unlabelled cases look like one of validation, and are '
    'left out'
  )
  return cases.without(like)


def _see(seen, ids, case, split):
  """Keeps what is compared of an image; returns whether there is one."""
  if 'image' not in case:
    return False
  seen.append(duplicates.Seen.of(case['image'], split))
  ids.append(case['id'])
  return True
