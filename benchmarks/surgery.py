"""How many trajectories are scored in a second; the worked cases of the guide.

    python benchmarks/surgery.py speed [--data=shared/data]
    python benchmarks/surgery.py cases --out=cases [--data=shared/data]

`speed` scores paths through a CT of a thorax with eight structures: as
`medjax surgery path` does it, and, to compare, by a plain `vmap` that samples
a signed distance map 128 times. `cases` plans a liver biopsy between ribs, a
lung biopsy, and an electrode into the hippocampus of MNI-152 (of nilearn), and
prints what was found.
"""

import argparse
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import ndimage as jax_ndimage
from scipy import ndimage

from medjax.data import formats
from medjax.surgery import distance, lines, path, path_files, scene

PATHS, ROUNDS = 98_304, 5
LIVER = (
  'rib_*,costal*,lung_*,portal*,inferior*,aorta,colon,kidney_*,gall*,'
  'stomach,duodenum,vertebrae_*,spinal*,small_bowel'
)


def measure(call, count):
  """(paths a second, seconds of CPU for 1e5 paths), the best of ROUNDS."""
  jax.block_until_ready(call())
  best, cpu = np.inf, np.inf
  for _ in range(ROUNDS):
    start, used = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    best = min(best, time.perf_counter() - start)
    cpu = min(cpu, time.process_time() - used)
  return count / best, cpu / count * 1e5


def speed(data):
  """Prints the speeds."""
  folder = data / 'planning_thorax'
  found = scene.read(folder / 'labels.nii.gz', names=folder / 'labels.csv')
  mask, spacing = found.labels > 0, found.spacing
  rng = np.random.default_rng(0)
  ends = np.array(found.shape) * spacing
  entry, target = (rng.uniform(0, ends, (PATHS, 3)) for _ in range(2))
  along = target - entry
  size = np.linalg.norm(along, axis=-1, keepdims=True)
  # 120 mm at most, as the command asks by default.
  target = entry + along / size * np.minimum(size, 120.0)
  paths = lines.Paths(entry, np.tile([0.0, 0.0, 1.0], (PATHS, 1)), target)
  fields = lines.Fields(
    distance.field(mask, spacing),
    jnp.zeros(found.shape, jnp.float32),
    None,
    jnp.asarray(spacing, jnp.float32),
  )
  limits = lines.Limits()
  rows = []
  for samples in (lines.samples_for(120.0, spacing), 128):
    call = lambda n=samples: lines.score_all(fields, limits, paths, samples=n)
    rows.append((f'medjax, {samples} samples', *measure(call, PATHS)))
  rows.append(('plain vmap, 128 samples', *plain(mask, spacing, paths)))
  print(f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}')
  for name, rate, cpu in rows:
    print(f'{name:26} {rate:10,.0f} paths/s {cpu:8.2f} s of CPU for 1e5')


def plain(mask, spacing, paths):
  """The same paths by a plain `vmap` over a signed distance map."""
  signed = jnp.asarray(
    ndimage.distance_transform_edt(~mask, sampling=spacing), jnp.float32
  )
  spacing = jnp.asarray(spacing, jnp.float32)
  t = jnp.linspace(0.0, 1.0, 128)[:, None]

  @jax.jit
  @jax.vmap
  def clearance(entry, target):
    points = (entry + t * (target - entry)) / spacing
    return jax_ndimage.map_coordinates(
      signed, points.T, 1, mode='nearest'
    ).min()

  count = PATHS // 4
  entry, target = (
    jnp.asarray(x[:count], jnp.float32) for x in (paths.entry, paths.target)
  )
  return measure(lambda: clearance(entry, target), count)


def cases(data, out):
  """Plans the three cases into folders of `out`."""
  liver(data, out / 'liver')
  lung(data, out / 'lung')
  hippocampus(out / 'hippocampus')


def planned(out, found, ask):
  """Plans, writes and prints."""
  start = time.perf_counter()
  plans, avoid, inside = path.plan_paths(found, ask)
  print(f'\n{out.name}: {time.perf_counter() - start:.0f} s')
  for one in plans:
    path_files.tell(one)
  path_files.write(out, found, ask, plans, avoid, inside)


def liver(data, out):
  """A biopsy deep in the right lobe, between ribs, in supine breath-hold."""
  folder = data / 'totalseg_example'
  found = scene.read(
    folder / 'example_seg.nii.gz',
    image=folder / 'example_ct_sm.nii.gz',
    names=data / 'planning_thorax/totalseg_example_labels.csv',
  )
  ask = path.Ask(
    targets=((89.0, 158.0, 140.0),),
    avoid=tuple(LIVER.split(',')),
    moving=('body',),
  )
  planned(out, found, ask)


def lung(data, out):
  """A biopsy of a lung tumour of 49 ml; bones and vessels by thresholds."""
  folder = data / 'planning_lung'
  ct = formats.read(folder / 'ct.nii.gz')
  hounsfield = ct.array[..., 0].astype(float)
  tumour = formats.read_mask(folder / 'tumour.nii.gz').array > 0
  bone = ndimage.binary_closing(hounsfield > 180) & ~tumour
  bone = _pieces(bone, 30)
  labels = np.where(bone, 2, 0)
  labels[tumour] = 1
  names = {1: 'tumour', 2: 'bones'}
  found = scene.make(
    labels, ct.affine, names, image=hounsfield.astype(np.float32)
  )
  ask = path.Ask(targets=('tumour',), avoid=('bones',), moving=('tumour',))
  planned(out, found, ask)


def _pieces(mask, least):
  """The pieces of a mask of at least so many voxels."""
  pieces, count = ndimage.label(mask)
  size = np.bincount(pieces.ravel(), minlength=count + 1)
  size[0] = 0
  return size[pieces] >= least


def hippocampus(out):
  """An electrode into the left hippocampus of MNI-152, away from sulci."""
  import nilearn.datasets

  folder = pathlib.Path(nilearn.datasets.__file__).parent / 'data'
  t1, grey, white = (
    formats.read(folder / f'mni_icbm152_{k}_tal_nlin_sym_09a_converted.nii.gz')
    for k in ('t1', 'gm', 'wm')
  )
  brain = t1.array[..., 0] > 0
  tissue = (grey.array[..., 0].astype(float) + white.array[..., 0]) / 255
  fluid = brain & (tissue < 0.35)
  # Not the rim, which every electrode crosses.
  fluid &= ndimage.distance_transform_edt(brain) > 6
  labels = np.where(brain, 1, 0)
  labels[fluid] = 2
  # Electrodes come from the side, not through the base of the skull.
  i, j, k = np.ogrid[tuple(map(slice, labels.shape))]
  x, z = i + t1.affine[0, 3], k + t1.affine[2, 3]
  window = (x < -45) & (z > -30) & (j >= 0)
  labels[(labels == 1) & window] = 3
  names = {1: 'brain', 2: 'sulci_and_ventricles', 3: 'left_side'}
  found = scene.make(
    labels, t1.affine, names, image=t1.array[..., 0].astype(np.float32)
  )
  ask = path.Ask(
    targets=((-28.0, -20.0, -16.0),),
    avoid=('sulci_and_ventricles',),
    entry='left_side',
    limits=lines.Limits(2.0, 100.0, 30.0),
    grey=grey.array[..., 0].astype(np.float32) / 255,
    moving=('body',),
    deflection=2.0,
  )
  planned(out, found, ask)


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('what', choices=('speed', 'cases'))
  parser.add_argument('--data', default='shared/data', type=pathlib.Path)
  parser.add_argument('--out', default='cases', type=pathlib.Path)
  parser.add_argument('--only', choices=('liver', 'lung', 'hippocampus'))
  args = parser.parse_args()
  if args.what == 'speed':
    speed(args.data)
  elif args.only == 'hippocampus':
    hippocampus(args.out / 'hippocampus')
  elif args.only:
    globals()[args.only](args.data, args.out / args.only)
  else:
    cases(args.data, args.out)


if __name__ == '__main__':
  main()
