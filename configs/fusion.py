"""Images and a table together: --config=configs/fusion.py:SET[,FUSE].

--config=configs/fusion.py:lidc --config.data.path=lidc_nodules
  --config.data.join.table=features.csv: is a lung nodule malignant? Its CT, its
  107 radiomics features and what readers rated. The folder holds image/,
  nodule_mask/ and metadata.csv; features.csv has a row for each `file`, as
  `medjax radiomics` measures it. --config.folds=5 is a cross-validation.
--config=configs/fusion.py:sts --config.data.path=sts_sarcoma/patients.csv: does
  a soft-tissue sarcoma spread to the lung? PET, CT, T1, its volume and SUVmax.
--config=configs/fusion.py:folder: your own table, with a column `path` of
  images; its columns are --config.data.fields.covariates='age, sex'.

FUSE is concat, gated, film, attention or late. A linear model of the table
alone is trained beside, in WORKDIR/tabular.
"""

from medjax.config import default_config
from medjax.radiomics import names, settings

WAYS = ('concat', 'gated', 'film', 'attention', 'late')
READINGS = (
  'Calcification', 'InternalStructure', 'Lobulation', 'Margin', 'Sphericity',
  'Spiculation', 'Subtlety', 'Texture',
)  # fmt: skip


def get_config(variant='lidc'):
  """The experiment on a set, joined in a way: 'lidc,late'."""
  name, _, fuse = variant.partition(',')
  sets = {'lidc': lidc, 'sts': sts, 'folder': folder}
  if name not in sets or fuse not in ('', *WAYS):
    raise ValueError(
      f'{variant}: is none of {", ".join(sets)}, with one of {", ".join(WAYS)}'
    )
  config = default_config()
  config.data.update(name='folder', batch_size=32)
  backbone = dict(name='ResNet18', width=16, stem='small')
  config.model = dict(
    name='Fusion', backbone=backbone, fuse=fuse or 'concat', hidden=32, drop=0.3
  )
  config.task = dict(name='Classification', inputs=('image', 'covariates'))
  config.optimizer.update(learning_rate=1e-3, weight_decay=5e-2)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(steps=400, log_every=25, eval_every=400, ema_decay=0.98)
  config.inference.batch_size = 64
  return sets[name](config)


def lidc(config):
  """As benchmarks/lidc_nodules.py sees it: three planes of 32 mm, outlined."""
  config.data.update(
    path='lidc_nodules', table='metadata.csv', where='has_image=True', folds=5
  )
  config.data.splits = dict(
    test='fold0', validation='fold1', train='fold2+fold3+fold4'
  )
  config.data.join.on = 'file'
  readings = [f'{name}_value' for name in READINGS]
  config.data.fields.update(
    image='image/{file}', mask='nodule_mask/{file}', label='Diagnosis_value',
    patient='patient_id', id='file',
    covariates=', '.join((*readings, *features())),
  )  # fmt: skip
  config.data.preprocess = (
    dict(name='reorient'),
    dict(name='resample', spacing=(1.0, 1.0, 1.0)),
    dict(name='window', low=-1000.0, high=400.0),
    dict(name='append_mask'),
    dict(name='crop_or_pad', shape=(32, 32, 32)),
    dict(name='orthogonal_views', of=('middle', 'mean')),
    dict(name='scale', mean=0.5, std=0.5),
    dict(name='standardise'),
    dict(name='compress'),
  )
  config.augment = moved()
  config.model.backbone.update(stage_sizes=(1, 1, 1))
  config.model.dropout = 0.5
  return config


def features():
  """The names of the 107 features, as `medjax radiomics` calls them."""
  return tuple(names.described(settings.PRESETS['pyradiomics']))


def sts(config):
  """PET in SUV, CT and T1 on its grid: three planes through 19 cm, outlined."""
  config.data.update(path='sts_sarcoma/patients.csv', folds=10)
  config.data.splits = dict(
    test='fold0',
    validation='fold1',
    train='+'.join(f'fold{k}' for k in range(2, 10)),
  )
  config.data.fields.update(
    image='pet', ct='ct', t1='t1', mask='mask', label='label',
    patient='patient', id='id', covariates='volume_ml, suv_max',
  )  # fmt: skip
  config.data.preprocess = (
    dict(name='reorient'),
    dict(name='resample', spacing=(6.0, 6.0, 6.0)),
    dict(name='scale', std=10.0, only='image'),
    dict(name='window', low=-200.0, high=300.0, only='ct'),
    dict(name='percentile', only='t1'),
    dict(name='append_mask'),
    dict(name='crop_or_pad', shape=(32, 32, 32)),
    dict(name='orthogonal_views', of=('middle', 'mean')),
    dict(name='standardise'),
    dict(name='compress'),
  )
  config.augment = moved()
  config.task.inputs = ('image', 'ct', 't1', 'covariates')
  config.model.backbone.update(width=8, stage_sizes=(1, 1, 1))
  config.model.update(hidden=16, dropout=0.5)
  config.data.batch_size = 16
  config.train.update(steps=150, eval_every=150, ema_decay=0.95)
  return config


def folder(config):
  """Pictures, and the columns of their table."""
  config.data.preprocess = (
    dict(name='resize', shape=(64, 64)),
    dict(name='scale', mean=127.5, std=127.5),
    dict(name='standardise'),
  )
  config.augment = (
    dict(name='affine', p=0.8, rotate=10.0, scale=(0.9, 1.1), translate=2.0),
  )
  config.model.update(hidden=64)
  config.train.update(steps=1000, eval_every=100)
  return config


def moved():
  """Turns and flips of a few voxels, and noise."""
  return (
    dict(name='flip', p=0.5),
    dict(
      name='affine', p=0.9, rotate=90.0, scale=(0.9, 1.1), translate=2.0,
      mode='edge',
    ),
    dict(name='gaussian_noise', p=0.3),
  )  # fmt: skip
