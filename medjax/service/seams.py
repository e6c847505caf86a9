"""Where other capabilities join: one function for each, which may stay empty.

What they give is a part of a result, so it must be a function of the inputs and
the model.
"""


def reasons(run, case, prediction):
  """(reasons to say nothing, reasons for doubt) of medjax.trust: sentences."""
  return (), ()


def explanation(run, case, prediction):
  """A map (*spatial,) in [0, 1] of what the answer rests on, or None.

  Of medjax.explain.
  """
  return None


def nearest(run, case, prediction):
  """Cases of the training that are most alike: [{'case', 'label', 'distance'}].

  Of medjax.explain.
  """
  return []


def by_rule(findings):
  """Recommendations of published rules for findings, of medjax.knowledge.

  [{'rule', 'recommendation', 'clause', 'citation', 'missing'}].
  """
  return []
