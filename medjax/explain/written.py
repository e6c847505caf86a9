"""What explain writes: maps, tables, and the page."""

import datetime

import numpy as np
from PIL import Image

from medjax import files
from medjax.data import formats
from medjax.explain import faithfulness, intervention, methods, verdict
from medjax.reports import figures, page
from medjax.reports.gallery import display_slice
from medjax.reports.text import counted, number

MAPS = 'maps'
_CAUTION = (
  'A map shows where this model looks, not where disease is, and two methods '
  'may differ. Read a map only as far as its tests beside it carry: one that '
  'fails them says nothing.'
)


def write(out, run, asked, results, checks, more, errors):
  """Writes everything of an explanation into a folder; returns the page."""
  out.mkdir(parents=True, exist_ok=True)
  rows = [
    row
    for name in asked.methods
    if (row := verdict.of_method(name, results, checks))
  ]
  for result in results:
    _write_maps(out / MAPS, result)
  files.write_csv(out / 'explain.csv', _lines(results))
  files.write_json(
    out / 'explain.json',
    {
      'model': run.provenance.model,
      'steps': run.provenance.steps,
      'digest': run.provenance.digest,
      'baseline': asked.baseline,
      'seed': asked.seed,
      'methods': rows,
      'concepts': more.get('concepts'),
      'counterfactuals': [
        {k: v for k, v in row.items() if k != 'change'}
        for row in more.get('counterfactuals', ())
      ],
      'interventions': {
        k: [a._asdict() for a in v] for k, v in more.get('answers', {}).items()
      },
      'assumption': intervention.ASSUMPTION if 'answers' in more else None,
      'nearest': more.get('nearest'),
      'failed': errors,
    },
  )
  return _page(out, run, asked, results, rows, more, errors)


def _lines(results):
  """A line for each image and method."""
  for r in results:
    for name, tests in r.tests.items():
      yield {
        'id': r.subject.id,
        'class': r.subject.name,
        'value': r.value,
        'method': name,
        **tests,
        'seconds': round(r.seconds[name], 4),
        'note': r.notes[name],
      }


# Maps.


def _write_maps(folder, result):
  """Each map on the input's grid: a NIfTI, or a picture and the numbers."""
  subject, affine = result.subject, result.subject.raw['affine']
  place = subject.raw.get('place', affine if len(affine) == 4 else None)
  native = subject.is_native
  maps = {
    name: subject.native(values) if native else values
    for name, values in result.maps.items()
  }
  if native and place is not None:
    for name, values in maps.items():
      path = folder / f'{subject.id}_{name}.nii.gz'
      formats.write(path, values.astype(np.float32), place)
    return
  image = subject.raw['image'] if native else subject.image
  for name, values in maps.items():
    if values.ndim == 2:
      signed = methods.METHODS[name].signed
      picture = figures.overlaid(image, values, signed)
      with files.replacing(folder / f'{subject.id}_{name}.png', 'wb') as f:
        Image.fromarray(picture).save(f, 'png')
  with files.replacing(folder / f'{subject.id}.npz', 'wb') as f:
    np.savez_compressed(f, **maps)


# The page.


def _page(out, run, asked, results, rows, more, errors):
  pictures = page.Pictures(out / 'figures', old='*.png')
  with figures.style():
    cases = [_case(r, pictures, i, more) for i, r in enumerate(results)]
  names = sorted({r.subject.name for r in results})
  text = page.render(
    'explain.html.jinja',
    title=f'What {run.provenance.model} looks at',
    kind=f'{counted(len(results), "image")} · {", ".join(names)}',
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    caution=_CAUTION,
    failed=errors,
    methods=_method_table(rows),
    verdicts=[(r['title'], r['verdict']) for r in rows],
    cases=cases,
    concepts=_concept_table(more.get('concepts')),
    layer=(more.get('concepts') or {}).get('layer'),
    assumption=intervention.ASSUMPTION if 'answers' in more else '',
    facts=_facts(run, asked),
  )
  path = out / 'explain.html'
  files.write_text(path, text)
  return path


def _method_table(rows):
  """Header and rows: a method each, its means over the images."""
  columns = {
    'n': 'images',
    'deletion': 'deletion',
    'deletion_random': 'at random',
    'deletion_p': 'p',
    'insertion': 'insertion',
    'insertion_random': 'at random',
    'insertion_p': 'p',
    'pointing': 'pointing',
    'mass': 'mass inside',
    'rank': 'rank inside',
    'auc': 'AUC of the mask',
    'gini': 'sparsity',
    'top': 'ρ, last layer anew',
    'all': 'ρ, all anew',
    'planted': 'marker found',
    'seconds': 's per image, with compiling',
  }
  used = {k: v for k, v in columns.items() if any(k in r for r in rows)}
  cells = [[r['title'], *(number(r.get(k)) for k in used)] for r in rows]
  return ['Method', *used.values()], cells


def _case(result, pictures, i, more):
  """What the page shows of an image."""
  subject = result.subject
  maps = {}
  for name, values in result.maps.items():
    method = methods.METHODS[name]
    title = method.title if values.any() else f'{method.title}: nothing'
    maps[title] = values, method.signed
  changes = [
    row for row in more.get('counterfactuals', ()) if row['id'] == subject.id
  ]
  if changes:
    maps['Change that flips'] = changes[0]['change'], True
  picture = pictures(
    f'case_{i:03d}',
    figures.attributions(*_sliced(subject, maps)),
    f'{subject.id}: maps of each method over the image',
    'Red speaks for the answer, blue against it; a map without a sign is the '
    'brighter the more. Each has its own scale.'
    + (' Green: the mask.' if subject.mask is not None else ''),
  )
  return {
    'id': subject.id,
    'said': f'{subject.name}: {number(result.value)}',
    'note': subject.note,
    'picture': picture,
    'tests': _test_table(result),
    'counterfactual': _flip(changes[0], subject.name) if changes else '',
    'answers': _answer_table(more.get('answers', {}).get(subject.id)),
    'nearest': more.get('nearest', {}).get(subject.id),
  }


def _sliced(subject, maps):
  """One plane of the image and its maps, as `figures.attributions` takes it."""
  image, affine, mask = subject.image, subject.affine, subject.mask
  arrays = [values for values, _ in maps.values()]
  if image.ndim == 4:
    k = _plane(subject, arrays)
    keep = slice(k, k + 1)
    image, *arrays = (x[:, :, keep] for x in (image, *arrays))
    mask = mask if mask is None else mask[:, :, keep]
  masks = [] if mask is None else [mask.astype(np.uint8)]
  image, *found = display_slice(image, *arrays, *masks, affine=affine)
  spacing = np.asarray(subject.spacing)[:2]
  case = {
    'image': image,
    'spacing': spacing[::-1] if subject.image.ndim == 4 else spacing,
    'mask': found[-1] if masks else None,
  }
  panels = [
    (title, values, signed)
    for (title, (_, signed)), values in zip(
      maps.items(), found[: len(maps)], strict=True
    )
  ]
  return case, panels


def _plane(subject, arrays):
  """The plane of the third axis with most of the mask, else of the maps."""
  where = subject.mask
  if where is None or not where.any():
    where = subject.about.get('region')
  if where is None:
    shares = [np.abs(x) / (np.abs(x).sum() or 1) for x in arrays]
    where = sum(shares) if shares else np.ones(subject.image.shape[:-1])
  return int(np.asarray(where, float).sum((0, 1)).argmax())


def _test_table(result):
  """Header and rows of the tests of one image's maps."""
  header = ['Method', 'deletion', 'at random', 'p', 'insertion', 'at random']
  header += ['p', 'sparsity']
  keys = ['deletion', 'deletion_random', 'deletion_p', 'insertion']
  keys += ['insertion_random', 'insertion_p', 'gini']
  if result.subject.mask is not None:
    header += ['pointing', 'mass inside', 'rank inside']
    keys += ['pointing', 'mass', 'rank']
  rows = [
    [
      methods.METHODS[m].title,
      *(number(tests[k]) for k in keys),
      result.notes[m],
    ]
    for m, tests in result.tests.items()
  ]
  return [*header, 'note'], rows


def _flip(row, name):
  """A sentence on a counterfactual."""
  if not row['flipped']:
    return (
      f'No change was found that flips {name}; the search ended at '
      f'{number(row["after"])}.'
    )
  return (
    f'{name} goes from {number(row["before"])} to {number(row["after"])}, '
    f'across its threshold of {number(row["threshold"])}, by a change of '
    f'{row["size"]:.1%} of the contrast of the image. It is a counterfactual '
    'of the model: it need not look like anatomy, and it is no '
    'cause of anything in the patient.'
  )


def _answer_table(answers):
  """Header and rows of what the model answers when concepts are set."""
  if not answers:
    return None
  rows = []
  for a in answers:
    if a.needed is None:
      needed = 'has no weight'
    elif np.isnan(a.needed):
      needed = 'no value that occurs'
    else:
      needed = number(a.needed)
    cells = map(number, (a.found, a.value, a.before, a.after))
    rows.append([a.concept, *cells, needed])
  header = ['Concept', 'found', 'set to', 'before', 'after', 'flips at']
  return header, rows


def _concept_table(concepts):
  """Header and rows of TCAV, or None."""
  if not concepts:
    return None
  rows = []
  for row in concepts['rows']:
    if 'score' not in row:
      rows.append([row['concept'], 'too few', *[''] * 6])
      continue
    low, high = row['interval']
    cells = map(number, (row['score'], low, high, row['slope'], row['p']))
    q = number(row['q'])
    rows.append([row['concept'], *cells, q, number(row['r'])])
  header = ['Concept', 'TCAV', 'from', 'to', 'slope', 'p', 'p, adjusted', 'r']
  return header, rows


def _facts(run, asked):
  """[(what, value)] of how the page was made."""
  return [
    ('Checkpoint', ', '.join(map(str, run.provenance.steps))),
    ('Config', run.provenance.digest),
    ('Baseline', asked.baseline),
    ('Random places', f'each map moved to {faithfulness.DRAWS} places'),
    ('Seed', str(asked.seed)),
    ('medjax', run.provenance.medjax),
  ]
