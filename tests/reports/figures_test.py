"""Figures: what is drawn where, and that nothing covers it."""

import io
import itertools
import os

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from medjax.reports import figures
from medjax.reports.figures import cases, images, look
from medjax.reports.figures.cuts import structure_colour
from medjax.reports.measures import UNNAMED, Measures
from medjax.reports.text import number, spoken


def _drawn(figure):
  """The figure after a drawing, and its pixels."""
  png = io.BytesIO()
  with figures.style():
    figure.savefig(png, format='png')
  return np.asarray(Image.open(png).convert('L'))


def _boxes(artists, figure):
  renderer = figure._get_renderer()
  return [a.get_window_extent(renderer) for a in artists]


def _thin(n=400):
  """A vessel two pixels wide, found but for a part, and one that is not one."""
  mask = np.zeros((n, n), np.uint8)
  mask[100:102, 20:380] = 1
  prediction = mask.copy()
  prediction[100:102, 200:260] = 0
  prediction[300:302, 20:30] = 1
  image = np.random.default_rng(0).normal(size=(n, n))
  return {'image': image, 'mask': mask, 'prediction': prediction}


def test_differences_show_who_labels_a_pixel():
  from matplotlib.figure import Figure

  mask, prediction = np.array([[1, 1, 0, 0, 2]]), np.array([[1, 0, 1, 0, 1]])
  ax = Figure().subplots()
  cases._differences(ax, {'mask': mask, 'prediction': prediction})
  colours = [
    cases._BOTH, cases._REFERENCE, cases._PREDICTION, '#000000', cases._CONFUSED
  ]  # fmt: skip
  shown = ax.images[0].get_array()
  np.testing.assert_allclose(shown[0], [to_rgb(c) for c in colours])


def test_the_zoom_is_where_most_is_wrong():
  case = _thin()
  left, right, bottom, top = cases._zoom(case, (-0.5, 399.5, 399.5, -0.5))
  assert (right - left, bottom - top) == (100, 100)
  assert left < 200  # the whole gap
  assert right > 259
  assert top < 100 < bottom
  with figures.style():
    figure = figures.segmentation_case(case, {}, 'a vessel')
  titles = [ax.get_title() for ax in figure.axes]
  assert titles == ['Image', 'Outlines', 'Differences', 'Zoom']


def test_thin_structures_are_legible():
  """Of lines one pixel wide, in a panel with a dot for four pixels."""
  mask = np.zeros((1200, 1200), np.uint8)
  mask[40::100] = 1
  case = {'image': np.zeros(mask.shape), 'mask': mask, 'prediction': mask}
  with figures.style():
    figure = figures.segmentation_case(case, {}, 'lines')
  pixels = _drawn(figure)
  left, bottom, width, height = (
    int(v * 1.3)  # 100 → 130 dpi
    for v in figure.axes[2].get_window_extent().bounds
  )
  shown = pixels[4 - bottom - height : -4 - bottom, left + width // 8]
  starts = np.diff((shown > 25).astype(int)) == 1
  assert starts.sum() == 12


def test_masks_and_zoom_where_pixels_are_large():
  case = {k: v[:60, :60] for k, v in _thin().items()}
  assert cases._zoom(case, (-0.5, 59.5, 59.5, -0.5)) is None
  case['mask'][10:20, 10:20] = 2
  case['prediction'][10:20, 12:22] = 1
  with figures.style():
    figure = figures.segmentation_case(case, {2: 'tumour'}, 'two labels')
  titles = [ax.get_title() for ax in figure.axes]
  assert titles == ['Image', 'Reference', 'Prediction', 'Differences']
  texts = [t.get_text() for t in figure.legends[0].get_texts()]
  assert texts[-1] == 'tumour'
  assert 'another label' in texts


def _curves(names):
  x = np.linspace(0, 1, 20).tolist()
  curve = {
    'roc': {'fpr': x, 'tpr': x},
    'precision_recall': {'recall': x, 'precision': x},
    'reliability': {'confidence': x, 'frequency': x, 'count': [3] * 20},
  }
  return {'n': 20, 'curves': {name: curve for name in names}}


@pytest.mark.parametrize('count', [1, 3, 14])
def test_legends_lie_off_the_curves(count):
  names = [f'a finding of some length {i}' for i in range(count)]
  log = [
    {'step': s, 'train/loss': 1 / s, 'validation/loss': 1, 'validation/dice': 1}
    | {f'validation/dice/{name}': 0.5 for name in names}
    for s in range(1, 9)
  ]
  with figures.style():
    drawn = [
      figures.learning_curves(log, 'dice', 4, UNNAMED),
      figures.discrimination(_curves(names), UNNAMED),
      figures.reliability(_curves(names)),
    ]
  for figure in drawn:
    pixels = _drawn(figure)
    assert (pixels[:2] == 255).all()  # nothing is cut at the border
    assert (pixels[-2:] == 255).all()
    assert (pixels[:, -2:] == 255).all()
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    for legend in _boxes([*legends, *figure.legends], figure):
      for axes in _boxes([ax.patch for ax in figure.axes], figure):
        assert not legend.overlaps(axes)


def test_the_loss_of_validation_is_drawn_beside_that_of_training():
  log = [
    {'step': s, 'train/loss': 1 / s, 'validation/loss': 1.0} for s in (1, 2)
  ]
  with figures.style():
    figure = figures.learning_curves(log, 'loss', 2, UNNAMED)
  (ax,) = figure.axes
  labels = [line.get_label() for line in ax.lines]
  assert labels == ['train', 'validation', 'best step']


def test_the_score_of_an_only_class_is_drawn_once():
  log = [
    {'step': s, 'validation/dice': s, 'validation/dice/a': s} for s in (1,)
  ]
  with figures.style():
    figure = figures.learning_curves(log, 'dice', None, UNNAMED)
  assert len(figure.axes[0].lines) == 1


def test_a_score_that_never_was_is_not_drawn():
  scores = {'validation/newest': None, 'validation/knn': 0.5}
  log = [{'step': s, 'train/loss': 1 / s, **scores} for s in (1, 2)]
  with figures.style():
    figure = figures.learning_curves(log, 'newest', 2, UNNAMED)
  assert [ax.get_title() for ax in figure.axes] == ['Loss', 'Validation Knn']


@pytest.mark.parametrize(
  'names',
  [
    ['malignant', 'normal, benign'],
    ['a', 'b', 'c'],
    [f'structure {i} of the left ventricle' for i in range(6)],
  ],
)
def test_names_of_classes_do_not_run_together(names):
  k = len(names)
  summary = {
    'classes': {name: {} for name in names},
    'confusion': np.eye(k).tolist(),
  }
  rows = [{f'dice/{name}': i for name in names} for i in range(5)]
  groups = {n: (np.arange(5.0), np.ones(5), np.zeros(2)) for n in names}
  with figures.style():
    drawn = [
      figures.confusion(summary),
      figures.boxes(rows, ['dice']),
      figures.paired_differences(groups, 'Dice', 'AB', [*'abcde']),
    ]
  for figure in drawn:
    pixels = _drawn(figure)
    assert (pixels[-2:] == 255).all()
    assert (pixels[:, :2] == 255).all()
    ticks = figure.axes[-2 if drawn[0] is figure else -1].get_xticklabels()
    boxes = _boxes(ticks, figure)
    turned = ticks[0].get_rotation()
    for a, b in itertools.pairwise(boxes):
      assert turned or a.x1 < b.x0


def test_a_name_that_is_no_utf8_is_drawn():
  figure, axes = look.grid(1, 1, width=2, height=2)
  axes[0, 0].set_title(os.fsdecode(b'J\xfcrgen.png'))
  assert (_drawn(figure) < 128).any()
  assert axes[0, 0].get_title() == r'J\udcfcrgen.png'


def test_boxes_of_a_measure_without_classes_and_of_none():
  rows = [{'id': f'c{i}', 'mae': i, 'dice/a': ''} for i in range(4)]
  known = Measures({'mae': {'title': 'MAE', 'unit': 'days', 'higher': False}})
  figure = figures.boxes(rows, ['mae', 'dice', 'nothing'], known)
  (ax,) = figure.axes
  assert ax.get_ylabel() == 'MAE, days'
  assert ax.get_ylim()[0] == 0
  assert [t.get_text() for t in ax.get_xticklabels()] == ['n = 4']
  assert figures.boxes(rows, ['dice']) is None


def test_an_image_of_an_unknown_task_shows_what_is_known():
  case = {
    'id': 'c1',
    'image': np.zeros((4, 4)),
    'risk': np.float32(0.25),
    'event': np.array(1),
    'score': 0.1,
    'embedding': np.zeros(8),
  }
  figure = figures.image_grid([case], [])
  title = figure.axes[0].get_title(loc='left')
  assert title == 'c1\nrisk: 0.250\nevent: 1'


def test_lines_of_a_legend_fit():
  assert look.legend_rows([], width=3) == (1, 0)
  assert look.legend_rows(['a', 'b'], width=3) == (2, 1)
  assert look.legend_rows(['a' * 60] * 3, width=3) == (1, 3)


def test_outlines_lie_on_the_edges_of_the_mask():
  from matplotlib.figure import Figure

  inside = np.zeros((6, 8), bool)
  inside[0:3, 2:5] = True  # touches the upper border
  ax = Figure().subplots()
  images.outline(ax, inside, 'k')
  (path,) = ax.collections[0].get_paths()
  box = path.get_extents()
  assert (box.x0, box.x1, box.y0, box.y1) == (1.5, 4.5, -0.5, 2.5)


def test_small_masks_are_shown_larger():
  mask = np.zeros((100, 200), int)
  case = {'mask': mask, 'prediction': mask}
  assert cases._frame(case) == (-0.5, 199.5, 99.5, -0.5)  # nothing to see
  mask[40:60, 100:120] = 1
  left, right, bottom, top = cases._frame(case)
  assert (left, right, bottom, top) == (92.5, 126.5, 66.5, 32.5)
  mask[5:95, 5:195] = 1
  assert cases._frame(case) == (-0.5, 199.5, 99.5, -0.5)


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.91249, '0.912'),
    (-0.5, '−0.500'),
    (12.34, '12.3'),
    (0.0, '0.000'),
    (4.1e-6, '4e−06'),
    (1234567, '1,234,567'),
    (None, '–'),
    (float('nan'), '–'),
  ],
)
def test_numbers_as_text(value, text):
  assert number(value) == text


def test_what_a_run_says_is_written_as_its_page_writes_it():
  said = {
    'run': {'monitor': 'dice'},
    'measures': {
      'slope': {'title': 'Slope', 'unit': ''},
      'hd95': {'title': 'HD95', 'unit': 'mm'},
      'dice': {'title': 'Dice', 'unit': ''},
      'none': {'title': 'None', 'unit': ''},
      'fifth': {'title': 'Fifth', 'unit': ''},
    },
    'unit_of_length': 'px',
    'test': {
      'scores': {
        'slope': -0.5, 'hd95': 12.34, 'dice': 0.91249, 'none': None,
        'fifth': 1.0,
      },
      'intervals': {'dice': [0.9, 0.95], 'slope': [None, None]},
      'n': 2, 'patients': 1, 'positive': 'ill', 'repeated': {'n': 1},
    },
  }  # fmt: skip
  assert spoken(said) == (
    'test: Dice 0.912 (0.900 to 0.950), Slope −0.500, HD95 12.3 px, None '
    'undefined, the positive class being ill; 2 cases of 1 patient, 1 of them '
    'also in training, exactly or nearly'
  )
  said['validation'] = said.pop('test')
  assert spoken(said, most=1).startswith('validation: Dice 0.912 (0.900')


def test_cuts_show_lines_and_outlines_where_they_are():
  mask = np.zeros((40, 60), int)
  mask[10:20, 20:40] = 2
  panel = {
    'image': np.random.default_rng(0).normal(size=(40, 60)),
    'mask': mask,
    'caption': 'along the path',
    'lines': [np.array([[0.0, 30], [59, 30]])],
    'dots': [np.array([5.0, 5.0])],
  }
  figure = figures.cuts([panel, panel], {2: 'liver'})
  first, _ = figure.axes
  assert first.get_title(loc='left') == 'along the path'
  line, dot = first.lines
  np.testing.assert_array_equal(line.get_xydata(), [[0, 30], [59, 30]])
  np.testing.assert_array_equal(dot.get_xydata(), [[5, 5]])
  (legend,) = figure.legends
  assert [t.get_text() for t in legend.get_texts()] == ['liver']
  assert _drawn(figure).std() > 10
  assert figures.cuts([], {}) is None


def test_a_picture_is_as_it_is():
  rgb = np.random.default_rng(0).random((30, 50, 3))
  figure = figures.picture(rgb, {'liver': '#F0C000'})
  (image,) = figure.axes[0].images
  np.testing.assert_allclose(np.asarray(image.get_array()), rgb)


def test_outlines_of_the_target_lie_above_those_of_its_zone():
  mask = np.zeros((40, 60), int)
  mask[8:32, 10:50], mask[15:25, 20:40] = 2, 1
  panel = {'image': np.zeros((40, 60)), 'mask': mask, 'caption': ''}
  figure = figures.cuts([panel], {1: 'tumour', 2: 'zone'})
  above = figure.axes[0].collections[-1]
  np.testing.assert_allclose(
    above.get_edgecolor()[0][:3], to_rgb(structure_colour(1))
  )


@pytest.mark.parametrize('shape', [(400, 150), (150, 400), (30, 20)])
@pytest.mark.parametrize('count', [1, 5, 12])
def test_the_legend_of_a_picture_fits_its_width(shape, count):
  names = [f'{i}_superior_mesenteric_artery' for i in range(count)]
  with figures.style():
    figure = figures.picture(
      np.ones((*shape, 3)), dict.fromkeys(names, '#F0C000')
    )
  figure.draw_without_rendering()
  (legend,) = figure.legends
  (box,), whole = _boxes([legend], figure), figure.bbox
  assert whole.x0 <= box.x0
  assert box.x1 <= whole.x1
  # And its words lie below the picture.
  top = max(b.y1 for b in _boxes(legend.get_texts(), figure))
  assert top <= figure.axes[0].get_window_extent().y0


def test_the_legend_of_cuts_fits_their_width():
  mask = np.zeros((40, 60), int)
  mask[:, :48] = np.arange(48) // 4 + 1
  names = {k: f'{k:02}_superior_mesenteric_artery' for k in range(1, 13)}
  panel = {'image': np.zeros((40, 60)), 'mask': mask, 'caption': ''}
  with figures.style():
    figure = figures.cuts([panel] * 3, names)
  figure.draw_without_rendering()
  (box,) = _boxes(figure.legends, figure)
  assert figure.bbox.x0 <= box.x0
  assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize('trials', [1, 2, 3, 40])
def test_trials_are_ticked_at_whole_numbers(trials):
  figure = figures.search_history([(i, 0.1 * i) for i in range(trials)])
  ticks = figure.axes[0].get_xticks()
  np.testing.assert_array_equal(ticks, np.round(ticks))
