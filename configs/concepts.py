"""Classification by concepts that readers rated: a concept bottleneck.

--config=configs/concepts.py:lidc --config.data.path=lidc_nodules: is a lung
  nodule malignant, by the eight attributes that LIDC-IDRI's readers rated? The
  folder holds image/, nodule_mask/ and metadata.csv with a row for each nodule.
--config=configs/concepts.py:folder: your own table, whose concepts are
  --config.data.fields.covariates="a, b" and their number
  --config.model.num_concepts=2.

`medjax explain --do=Spiculation_value=1` then asks the model what it would
answer if a concept were another one.
"""

from medjax.config import default_config

ATTRIBUTES = (
  'Calcification', 'InternalStructure', 'Lobulation', 'Margin', 'Sphericity',
  'Spiculation', 'Subtlety', 'Texture',
)  # fmt: skip


def get_config(variant='lidc'):
  """The experiment on LIDC-IDRI's nodules, or on a table of yours."""
  config = default_config()
  config.data.name = 'folder'
  config.data.batch_size = 16
  backbone = dict(name='ResNet18', width=16, stem='small')
  config.model = dict(name='ConceptBottleneck', backbone=backbone)
  config.task = dict(name='Concepts')
  config.optimizer.update(learning_rate=1e-3, weight_decay=2e-2)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(steps=400, log_every=20, eval_every=100, ema_decay=0.99)
  config.inference.batch_size = 32
  return {'lidc': lidc, 'folder': pictures}[variant](config)


def lidc(config):
  """3-D crops of 30 mm, and how malignant they are by their attributes."""
  columns = [f'{name}_value' for name in ATTRIBUTES]
  config.data.update(
    path='lidc_nodules', table='metadata.csv', where='has_image=True'
  )
  config.data.fields.update(
    image='image/{file}',
    mask='',
    label='Diagnosis_value',
    patient='patient_id',
    id='file',
    covariates=', '.join(columns),
  )
  config.data.preprocess = (
    dict(name='reorient'),
    dict(name='resample', spacing=(1.25, 1.25, 2.0)),
    dict(name='window', low=-1000.0, high=400.0),
    dict(name='crop_or_pad', shape=(24, 24, 16)),
    dict(name='scale', mean=0.5, std=0.5),
  )
  config.augment = (
    dict(name='flip', p=0.5),
    dict(
      name='affine', p=0.8, rotate=20.0, scale=(0.9, 1.1), translate=2.0,
      mode='edge',
    ),
    dict(name='gaussian_noise', p=0.3),
  )  # fmt: skip
  # Small enough for two CPU cores.
  config.model.backbone.update(width=8, stage_sizes=(1, 1, 1))
  config.model.num_concepts = len(columns)
  return config


def pictures(config):
  """Pictures of one size; the columns are yours to say."""
  config.data.preprocess = (
    dict(name='resize', shape=(64, 64)),
    dict(name='scale', mean=127.5, std=127.5),
  )
  config.augment = (dict(name='affine', p=0.8, rotate=10.0),)
  config.model.num_concepts = 1
  return config
