"""Heads without faces (in work)."""

from medjax.privacy.objects import Refused


def removed(paths):
  """Pixels of a head's series without its face."""
  raise Refused('its face cannot be removed')


def put(new, frames, syntax):
  """Puts frames."""
  return syntax
