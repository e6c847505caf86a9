"""A share of the patients of the training cases, held out to validate."""

from medjax.data import labelled
from medjax.data.folder import splits
from medjax.data.part import Part


def divided(cases, share, seed, fields):
  """(training, validation) of raw cases: two views, no patient in both.

  Classes are spread evenly, as those of a folder are, and who validates hangs
  on the seed and the names alone. `fields` make the reference; cases without
  it are of train, but for those of a patient who validates.

  Raises:
    ValueError: where the share leaves no patient on one of the sides.
  """
  told = labelled.told(cases, fields)
  shares = {'train': 1 - share, 'validation': share}
  place = splits.places(splits.strata(labelled.entries(told)), seed, shares)
  if {*place.values()} != {*shares}:
    raise ValueError(
      f'data.held_out={share:g} of {len(place)} patients with a reference '
      'leaves none to train, or none to validate: give another share'
    )
  held = {patient for patient, split in place.items() if split != 'train'}
  sides = [], []
  for i, (_, patient, _) in enumerate(told):
    sides[patient in held].append(i)
  return tuple(Part(cases, side) for side in sides)
