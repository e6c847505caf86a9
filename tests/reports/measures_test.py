import pytest

from medjax.reports.measures import Measures

TABLE = {
  'dice': {'title': 'Dice', 'unit': '', 'higher': True},
  'hd95': {'title': 'HD95', 'unit': 'mm', 'higher': False},
  'brier': {'title': 'Brier score', 'unit': '', 'higher': False},
  'volume': {'title': 'Volume', 'unit': 'ml', 'higher': None},
}


@pytest.mark.parametrize(
  ('name', 'headline'),
  [
    ('dice', 'Dice'),
    ('hd95', 'HD95, mm (lower is better)'),
    ('volume', 'Volume, ml'),
    ('brier_calibrated', 'Brier score after scaling (lower is better)'),
    ('dice_at_threshold', 'Dice at the threshold'),
    ('c_index', 'C index'),  # of a task that names it not
    ('TBR', 'TBR'),
  ],
)
def test_titles_units_and_directions(name, headline):
  assert Measures(TABLE).headline(name) == headline


def test_pictures_have_pixels():
  pixels = Measures.of({'measures': TABLE, 'unit_of_length': 'px'})
  assert pixels.title('hd95') == 'HD95, px'
  assert pixels.title('volume') == 'Volume, ml'
  assert Measures.of({}).title('hd95') == 'Hd95'


def test_the_monitor_is_first_then_the_order_of_the_table():
  names = ['nll', 'hd95', 'dice', 'brier']
  assert Measures(TABLE).ordered(names, first='brier') == [
    'brier',
    'dice',
    'hd95',
    'nll',
  ]
  assert Measures(TABLE).ordered(names, first='volume')[0] == 'dice'


def test_a_run_without_a_table_takes_that_of_the_other():
  pixels = Measures(TABLE, 'px')
  for joined in (Measures().joined(pixels), pixels.joined(Measures())):
    assert joined.title('hd95') == 'HD95, px'
