"""Who may import whom: the arrows of the house."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Lowest first. A module may import its own layer's entries listed after the
# colon, and nothing else of medjax.
ALLOWED = {
  # Leaves.
  'build': set(),
  'terminal': set(),
  'cli': {'terminal'},
  'files': set(),
  'progress': {'terminal'},
  'shipped': set(),
  'defaults': set(),
  'config': {'build', 'defaults', 'files'},
  'untrusted': set(),
  # Numbers.
  'ops': set(),
  'losses': {'ops'},
  'metrics': {'ops'},
  'augment': {'ops'},
  'models': {'ops'},
  'models.__main__': {'build', 'cli', 'models', 'ops'},
  'tasks': {'build', 'files', 'losses', 'metrics', 'ops'},
  'optim': {'build'},
  # Data.
  'data': {'build', 'files', 'progress', 'shipped', 'terminal'},
  'prepare': {'cli', 'data', 'files', 'progress', 'shipped'},
  'convert': {'cli', 'data'},
  # The spine.
  'engine': set(),
  'dp': {'data', 'files', 'finetune', 'terminal'},
  'run': {'build', 'config', 'data', 'engine', 'files', 'optim', 'terminal'},
  'finetune': {'run'},
  'parts': {'augment', 'build', 'data', 'finetune', 'models', 'tasks'},
  'cases': {'build', 'data', 'defaults', 'prepare', 'tasks'},
  'case_check': {'data'},
  'run_facts': {'build', 'config', 'data', 'files', 'tasks'},
  'experiment': {
    'augment', 'build', 'case_check', 'cases', 'config', 'data', 'engine',
    'files', 'finetune', 'models', 'optim', 'parts', 'run_facts', 'tasks',
    'untrusted',
  },
  'prediction': {
    'config', 'data', 'engine', 'experiment', 'files', 'finetune', 'metrics',
    'run', 'tasks',
  },
  'evaluate': {
    'config', 'data', 'engine', 'experiment', 'files', 'metrics', 'modalities',
    'pooled', 'prediction', 'progress', 'reports', 'run', 'subgroups', 'tasks',
  },
  'pooled': set(),
  'modalities': {'data', 'files', 'metrics', 'tasks'},
  'subgroups': {'data', 'files', 'metrics', 'tasks'},
  'begin': {
    'data', 'dp', 'engine', 'experiment', 'finetune', 'prediction', 'progress',
    'run',
  },
  'announce': {'data', 'experiment', 'finetune'},
  'train': {
    'announce', 'begin', 'data', 'engine', 'evaluate', 'prediction', 'run',
  },
  'tabular': {'config', 'evaluate', 'experiment', 'report', 'train'},
  'personal': {
    'cases', 'config', 'data', 'engine', 'experiment', 'files', 'finetune',
    'metrics', 'prediction', 'run', 'run_facts',
  },
  'finetune.__main__': {'cli', 'personal'},
  # Pages and what stands on them.
  'reports': {'cli', 'files', 'metrics'},
  'survey': {
    'build', 'cli', 'config', 'data', 'engine', 'experiment', 'files',
    'metrics', 'prepare', 'progress', 'untrusted',
  },
  'inspect': {'cli', 'data', 'files', 'reports', 'survey'},
  'plan': {'cli', 'config', 'files', 'survey', 'untrusted'},
  'report': {'cli', 'files', 'reports'},
  'masks': {'cli', 'data', 'files', 'run', 'tasks'},
  'compare': {'cli', 'files', 'masks', 'metrics', 'reports', 'run'},
  'predict': {
    'cli', 'data', 'experiment', 'files', 'prediction', 'progress', 'tasks',
  },
  'explain': {
    'cli', 'data', 'files', 'finetune', 'metrics', 'prediction', 'progress',
    'reports', 'run', 'tasks',
  },
  'explain.__main__': {'cli', 'explain'},
  'external': {
    'cases', 'config', 'data', 'evaluate', 'experiment', 'files', 'prediction',
    'prepare', 'reports', 'run',
  },
  'overrides': {
    'augment', 'build', 'cli', 'config', 'data', 'finetune', 'models', 'optim',
    'shipped', 'tasks',
  },
  'main': {
    'cli', 'evaluate', 'experiment', 'external', 'overrides', 'report',
    'reports', 'run', 'tabular', 'train',
  },
  'public': {'data', 'experiment', 'prediction', 'shipped'},
  '__main__': {'build', 'cli'},
  # One room per capability, on top: nothing below knows them.
  'card': {'build', 'files', 'reports', 'run'},
  'card.__main__': {'card', 'cli'},
  'knowledge': {'build', 'metrics'},
  'knowledge.__main__': {'cli', 'files', 'knowledge'},
  'search': {
    'build', 'cli', 'config', 'evaluate', 'experiment', 'files', 'public',
    'reports', 'run', 'shipped', 'train',
  },
  'search.__main__': {'cli', 'main', 'search'},
  'labels': {
    'build', 'config', 'data', 'evaluate', 'experiment', 'files', 'metrics',
    'prediction', 'progress', 'public', 'reports', 'run', 'train',
  },
  'labels.__main__': {'cli', 'labels', 'run'},
  'trust': {
    'augment', 'evaluate', 'experiment', 'files', 'finetune', 'metrics',
    'optim', 'prediction', 'progress', 'reports', 'run', 'tasks',
  },
  'trust.__main__': {'cli', 'trust'},
  'radiomics': {'build', 'cli', 'data', 'files', 'progress', 'run'},
  'radiomics.__main__': {'cli', 'files', 'radiomics', 'run'},
  # The one room that shows what others find.
  'service': {
    'build', 'card', 'cli', 'data', 'experiment', 'explain', 'files',
    'knowledge', 'metrics', 'prediction', 'run',
  },
  'service.__main__': {
    'cli', 'data', 'explain', 'files', 'prediction', 'progress', 'service',
  },
  'federated': {
    'build', 'cli', 'config', 'data', 'dp', 'engine', 'evaluate', 'experiment',
    'files', 'metrics', 'prediction', 'public', 'reports', 'run', 'tasks',
  },
  'federated.__main__': {'cli', 'federated', 'run'},
  'privacy': {
    'cli', 'data', 'dp', 'engine', 'experiment', 'files', 'metrics', 'optim',
    'progress', 'reports',
  },
  'privacy.__main__': {'cli', 'dp', 'privacy', 'reports', 'run'},
  # What compress makes smaller is what export wrote.
  'export': {
    'cli', 'config', 'data', 'engine', 'experiment', 'files', 'finetune', 'ops',
    'prediction', 'run',
  },
  'export.__main__': {'cli', 'export'},
  'compress': {
    'build', 'cli', 'config', 'evaluate', 'experiment', 'export', 'files',
    'finetune', 'metrics', 'prediction', 'public', 'report', 'train',
  },
  'compress.__main__': {'cli', 'compress'},
  'surgery': {
    'build', 'cli', 'data', 'files', 'metrics', 'progress', 'reports',
  },
  'surgery.__main__': {'cli', 'surgery'},
}  # fmt: skip

# Heavy or optional packages, and the only layers that may name them.
ONLY_IN = {
  'jax': set(ALLOWED)
  - {
    'build',
    'cli',
    'config',
    'defaults',
    'files',
    'progress',
    'terminal',
    'inspect',
    'prepare',
    'report',
    'reports',
    'shipped',
    'public',
    '__main__',
  },
  'flax': {
    'compress',
    'engine',
    'explain',
    'export',
    'finetune',
    'models',
    'ops',
    'prediction',
  },
  'optax': {'engine', 'explain', 'federated', 'losses', 'optim', 'tasks'},
  'orbax': {'run'},
  'grain': {'data'},
  'tensorflow_datasets': {'data', 'prepare'},
  'nibabel': {'data', 'export', 'privacy'},
  'pydicom': {'data', 'export', 'knowledge', 'privacy', 'service'},
  'pynetdicom': {'service'},
  'sqlalchemy': {'service', 'service.__main__'},
  'fastapi': {'service'},
  'flwr': {'federated'},
  'pyarrow': {'data'},
  'ml_collections': {'config', 'defaults', 'main', 'overrides', 'survey'},
  'matplotlib': {'reports'},
  'tensorflow': set(),
  'torch': set(),
}


def imports(tree):
  """(top-level package, medjax layer or None) of each import of a file."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        parts = alias.name.split('.')
        yield parts[0], parts[1] if len(parts) > 1 else None
    elif isinstance(node, ast.ImportFrom):
      parts = node.module.split('.')
      if len(parts) > 1:
        yield parts[0], parts[1]
      else:
        for alias in node.names:
          yield parts[0], alias.name


@pytest.fixture(scope='module')
def trees():
  """{path below medjax/: its syntax}."""
  home = ROOT / 'medjax'
  return {
    path.relative_to(home): ast.parse(path.read_text())
    for path in sorted(home.rglob('*.py'))
  }


def test_imports_follow_the_arrows(trees):
  wrong = []
  for path, tree in trees.items():
    layer = path.parts[0].removesuffix('.py')
    if path.name == '__main__.py' and len(path.parts) > 1:
      layer += '.__main__'  # a program, on top of its folder
    if layer == '__init__':  # what it offers, it imports when it is asked for
      continue
    known = {'__version__', layer, *ALLOWED[layer]}
    for package, name in imports(tree):
      if package == 'medjax' and name not in known:
        wrong.append(f'{path}: {layer} → {name}')
      if layer not in ONLY_IN.get(package, {layer}):
        wrong.append(f'{path}: {layer} names {package}')
  assert not wrong


# Tables rather than functions: of fields, and of what each option means.
TABLES = {'default_config', 'open_folder'}


def test_a_file_is_one_idea_and_a_function_fits_a_screen(trees):
  long = []
  for path, tree in trees.items():
    lines = len((ROOT / 'medjax' / path).read_text().splitlines())
    if lines > 400:
      long.append(f'{path}: {lines} lines')
    for node in ast.walk(tree):
      if isinstance(node, ast.FunctionDef) and node.name not in TABLES:
        lines = node.end_lineno - node.lineno + 1
        if lines > 60:
          long.append(f'{path}: {node.name}: {lines} lines')
  assert not long


def test_configs_and_datasets_are_no_packages():
  for folder in ('configs', 'datasets'):
    assert not (ROOT / folder / '__init__.py').exists()
