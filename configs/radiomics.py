"""Logistic regression with L2 on radiomics features, a table without images.

--config=configs/radiomics.py:lidc: are LIDC-IDRI's nodules malignant?
  `medjax radiomics cases.csv --out=features.csv` makes the table, where
  cases.csv has columns image, mask, label and patient; then
  --config.data.table=features.csv. Five folds of patients, of which
  --config.data.splits.test=fold1 (validation, train) is another test set.
--config=configs/radiomics.py:diameter: the largest diameter alone, beside it.
"""

from medjax.config import default_config
from medjax.radiomics import names, settings

FOLDS = 5
DIAMETER = 'original_shape_Maximum3DDiameter'


def get_config(variant='lidc,fold0'):
  """The experiment 'lidc' or 'diameter' with a fold as its test set."""
  name, _, fold = variant.partition(',')
  k = int(fold.removeprefix('fold') or 0)
  if name not in ('lidc', 'diameter'):
    raise ValueError(f'radiomics.py has lidc and diameter, not {name!r}')
  columns = list(names.described(settings.PRESETS['pyradiomics']))
  if name == 'diameter':
    columns = [DIAMETER]
  config = default_config()
  # All cases at once: the fit of a statistics package.
  config.data.update(name='folder', path='.', folds=FOLDS, batch_size=0)
  config.data.fields.covariates = ', '.join(columns)
  config.data.splits = dict(
    test=f'fold{k}',
    validation=f'fold{(k + 1) % FOLDS}',
    train='+'.join(f'fold{(k + i) % FOLDS}' for i in (2, 3, 4)),
  )
  config.data.preprocess = (dict(name='standardise'), dict(name='compress'))
  config.model = dict(name='MLP', hidden=())
  config.task = dict(name='Classification', inputs=('covariates',))
  # The penalty is the decay; the problem is convex, and its end is taken.
  config.optimizer.update(name='adam', learning_rate=2e-2, weight_decay=6e-2)
  config.schedule.update(name='cosine', warmup_steps=0)
  config.train.update(steps=600, log_every=100, eval_every=600)
  config.inference.batch_size = 1024
  return config
