"""Coded concepts: those that pydicom ships, and those of a user's ontology."""

import dataclasses
import pathlib
import re

# Where pydicom has several words for one code, the first of these counts.
SCHEMES = ('SCT', 'DCM', 'RADLEX')


@dataclasses.dataclass(frozen=True)
class Concept:
  """A code: its value, its scheme and its meaning; parents are its is-a."""

  value: str
  scheme: str
  meaning: str
  parents: tuple[str, ...] = ()


def find(text, *, ontology=None, most=20):
  """`Concept`s whose meaning holds all words of a text, the closest first.

  Of the vocabulary that pydicom ships, in which not everything is (pneumonia is
  missing, consolidation too), or of an `ontology` of `read`.
  """
  words = set(_words(text))
  if not words:
    raise ValueError(f'{text!r} has no word to look for')
  known = shipped() if ontology is None else ontology
  found = [c for c in known if words <= set(_words(c.meaning))]
  return sorted(found, key=lambda c: (len(_words(c.meaning)), c.meaning))[:most]


def shipped():
  """All `Concept`s of pydicom's tables, each code once."""
  from pydicom.sr._concepts_dict import concepts

  found = {}
  for scheme in SCHEMES:
    for codes in concepts[scheme].values():
      for value, (meaning, *_) in codes.items():
        found.setdefault((scheme, value), Concept(value, scheme, meaning))
  return list(found.values())


def read(path):
  """The `Concept`s of a user's ontology, OBO or OWL, with their is-a.

  Raises ValueError where the package is missing that reads it, or for a file
  that is none.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such ontology')
  try:
    import pronto
  except ImportError:
    raise ValueError(
      f"{path}: reading an ontology needs pronto: pip install 'medjax"
      "[knowledge]'"
    ) from None
  try:
    ontology = pronto.Ontology(str(path))
  except (ValueError, SyntaxError, KeyError, NotImplementedError) as e:
    line = ' '.join(str(e).split())[:200]
    raise ValueError(f'{path} is no ontology in OBO or OWL: {line}') from None
  return [
    Concept(
      term.id,
      term.id.partition(':')[0],
      term.name or term.id,
      tuple(t.id for t in term.superclasses(distance=1, with_self=False)),
    )
    for term in ontology.terms()
    if not term.obsolete
  ]


def _words(text):
  return re.findall(r'[a-z0-9]+', text.lower())
