"""Names of classes that are one side of the body, which a mirror swaps."""

import re

# kidneyLeft, LHippocampus, lung.left, "Kidney (L)"; a vertebra, L1, is a word.
_WORDS = re.compile(r'[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+\d*|[A-Z]+\d*')
_SIDE = re.compile(r'((left|right|lt|rt|lh|rh)\d*|l|r)', re.IGNORECASE)


def names_a_side(name):
  """Whether a class is called left or right, in full or for short."""
  return any(map(_SIDE.fullmatch, _WORDS.findall(str(name))))


def left_right(facts, steps):
  """The axis from left to right as a model of volumes sees it, or None.

  facts: of the data; steps: data.preprocess. Pictures do not say it.
  """
  codes = facts.orientation
  for step in steps:
    if step['name'] == 'reorient' and facts.rank == 3:
      codes = step.get('codes', 'RAS').upper()
  return next((a for a, code in enumerate(codes) if code in 'LR'), None)
