"""Every field of a config, with its default."""

import ml_collections
from ml_collections.config_dict import FieldReference, placeholder


def default_config():
  """Every field a run has; a config file fills in what it needs.

  Ordered things are tuples of dicts with a `name`; see the module each one
  names for what it takes.
  """
  return ml_collections.ConfigDict(
    dict(
      seed=0,
      members=1,  # of an ensemble, with the seeds seed, seed + 1, …
      folds=0,  # or of a cross-validation, with fold0, fold1, … as test set
      data=dict(
        name=placeholder(str),  # 'set/config' of datasets/, or 'folder'
        path='',  # of 'folder'; medjax.data.folder says what this and …
        table='',  # its CSV, TSV or Parquet, if it is not cases.csv
        where='',  # rows of the table: 'column=value'
        join=dict(table='', on=''),  # a further table, by a column of both
        fields=dict(  # … these mean: columns, or '{id}_{t1,t2}.nii.gz'
          image='',
          mask='',
          label='',
          patient='',
          id='',
          split='',
          time='',
          event='',
          text='',
          covariates='',  # columns, 'age, sex'; NaN where a cell is empty
          visit='',  # the column of a visit's time, with data.landmark
          prior='',  # a further image; and so is a field of any other name
        ),
        ignore=placeholder(int),  # the value of masks that is no class
        # {stored: class}, where masks hold other values: {255: 1}
        mask_values=FieldReference((), field_type=object),
        landmark=(),  # times at which a patient's visits so far are a case
        uncertain='',  # what -1 is among labels: zero, one, ignore, class
        patient='',  # 'dicom', or a regular expression in the case's id
        group='',  # 'duplicates': copies of an image stay in one split
        hash_ids='',  # a file with a salt: what is kept has digests for ids
        fractions=(0.7, 0.15, 0.15),  # of patients: train, validation, test
        seed=0,  # of their division, which the run's seed leaves as it is
        held_out=0.0,  # share of train's patients that validates, instead of
        # splits.validation; of a cross-validation, instead of the next fold
        folds=0,  # instead: fold0, fold1, … for `splits` below
        data_dir='',  # prepared sets; '' is $MEDJAX_DATA_DIR, ~/medjax_data
        manual_dir='',  # files fetched by hand, for preparing
        splits=dict(train='train', validation='validation', test='test'),
        labelled=0,  # patients of train whose reference is used; 0 is all
        labelled_ids=(),  # instead: cases, by their ids
        labelled_seed=placeholder(int),  # of the choice; if none, the above
        labelled_share=0.5,  # of a batch, where other cases have no reference
        batch_size=16,  # over all devices and processes; 0 is the whole split
        preprocess=(),  # medjax.data.transforms
        # Of training and sliding window; () is the whole image, and None fits
        # one to the first volume, or is whole pictures.
        patch_size=FieldReference((), field_type=tuple),
        foreground=1 / 3,  # share of patches centred on a labelled voxel
        cache_gb=2.0,  # decoded, preprocessed cases held in memory
        subgroups=(),  # columns by which scores are reported: ('sex', 'age')
      ),
      augment=(),  # medjax.augment
      model=dict(),  # medjax.models
      pretrained=dict(  # medjax.finetune.loading
        path='',  # .safetensors, .pth, or a workdir; '' is none
        partial=False,  # allow what does not fit on either side
        head=True,  # the file's, where its shape fits; else a new one
        channels='sum',  # or 'mean': a first convolution of other channels
      ),
      adapt=dict(name='full'),  # medjax.finetune: what of the model trains
      task=dict(),  # medjax.tasks
      optimizer=dict(  # medjax.optim.make_optimizer, optax
        name='adamw',
        learning_rate=1e-3,
        weight_decay=0.0,
        clip_norm=0.0,
        freeze=(),  # patterns of parameters that do not train
        layer_decay=1.0,  # of the learning rate, per layer below the head
      ),
      schedule=dict(name='cosine', warmup_steps=0),  # medjax.optim
      train=dict(
        steps=1000,
        log_every=50,
        eval_every=500,  # validation and checkpoint
        patience=0,  # evaluations without a better score; 0 is no early stop
        ema_decay=0.0,  # moving average of the parameters; 0 is none; in the
        # first steps t it is at most (1 + t) / (10 + t)
        microbatches=1,  # gradient accumulation: parts of a batch
        shard_above=0,  # elements of a leaf of the state from which on it is
        # split over the devices, FSDP; 0 is whole on each
        together=placeholder(bool),  # members as one program; else by device
        writer='',  # 'mine.log:Writer', told what is logged: MLflow, W&B
        profile=(),  # (first, last) steps of which a trace is written
      ),
      privacy=dict(  # medjax.dp: differential, of the patients of training
        epsilon=0.0,  # the budget of the run; 0 is none, and no privacy
        delta=1e-5,
        clip_norm=1.0,  # most of a patient's gradient
        noise=placeholder(float),  # over clip_norm; None is found for the steps
        microbatch=1,  # patients at once on a device: 1 is quickest on a CPU
        key='',  # a file with a secret; '' makes WORKDIR/privacy.key
        log_loss=False,  # of training, which epsilon does not cover
      ),
      inference=dict(
        batch_size=16,  # of windows of data.patch_size
        overlap=0.5,  # of neighbouring windows
        flips=False,  # average over mirror images
        shard_space=False,  # instead of windows: the whole image, spread over
        # a process's devices along its longest axis; for one too large for one
        ood=(),  # scores of what training has not seen, two or more of
        # medjax.metrics.novelty, fitted in the evaluation
      ),
    )
  )
