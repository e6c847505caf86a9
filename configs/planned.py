"""A plan of medjax.plan: --config=configs/planned.py:plan.json.

Any field can be set on the command line, or in the file: "config" in it holds
them, "reasons" says why they are so.
"""

from medjax.survey import plans


def get_config(path='plan.json'):
  """The experiment that a plan describes."""
  return plans.load(path)
