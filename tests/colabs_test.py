"""Every notebook runs from its first cell to its last."""

import importlib.util
import os
import pathlib
import unittest.mock

import nbclient
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = pathlib.Path(__file__).resolve().parents[1]

# What follows the cell tagged 'parameters', so that the run is a short one.
SHORT = {
  'quickstart': 'STEPS = 4\nFEATURES = (4, 8)',
  'your_own_data': 'PATIENTS = 20\nSTEPS = 4',
  'prognosis': 'PATIENTS = 200\nSTEPS = 4',
  'surgery': 'STRIDE = 6\nDRAWS = 20',
  'reproduce_a_benchmark': 'STEPS = 4\nMANUAL_DIR = {pneumoniamnist!r}',
  'trust': 'STEPS = 4\nCASES = 20\nMANUAL_DIR = {pneumoniamnist!r}',
}
# A minute each: they run with the slow tests.
LONG = ('reproduce_a_benchmark', 'surgery', 'trust')
NOTEBOOKS = sorted((ROOT / 'colabs').glob('*.ipynb'))


def _shortened(notebook, source):
  """The notebook with a cell of other parameters after its own."""
  places = [
    i
    for i, cell in enumerate(notebook.cells)
    if 'parameters' in cell.metadata.get('tags', ())
  ]
  assert len(places) == 1, "needs one cell tagged 'parameters'"
  notebook.cells.insert(places[0] + 1, nbformat.v4.new_code_cell(source))
  return notebook


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Where data sets are prepared: two notebooks have one."""
  return tmp_path_factory.mktemp('prepared')


@pytest.mark.parametrize(
  'path',
  [
    pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG), id=p.stem)
    for p in NOTEBOOKS
  ],
)
def test_notebook_runs(path, tmp_path, prepared, request):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  if path.stem in SHORT:
    source = SHORT[path.stem]
    if '{' in source:  # a public data set
      find = request.getfixturevalue('shared_data')
      source = source.format(pneumoniamnist=str(find('pneumoniamnist')))
    notebook = _shortened(notebook, source)
  # 'python3' is the interpreter of this test. One device: the eight virtual
  # ones of conftest are for tests of the mesh.
  client = nbclient.NotebookClient(
    notebook,
    kernel_name='python3',
    timeout=900,  # of a cell, on a machine that does other things too
    resources={'metadata': {'path': str(tmp_path)}},
  )
  environment = {
    **os.environ,
    'XLA_FLAGS': os.environ['XLA_FLAGS']
    + ' --xla_force_host_platform_device_count=1',
    'PYTHONPATH': str(ROOT),
    'MEDJAX_DATA_DIR': str(prepared),
    'IPYTHONDIR': str(tmp_path / 'ipython'),
  }
  client.execute(env=environment)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_installed_is_said_only_where_there_is_a_checkout(
  path, tmp_path, monkeypatch
):
  cells = nbformat.read(path, as_version=4).cells
  source = next(c.source for c in cells if c.cell_type == 'code')
  code = TransformerManager().transform_cell(source)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  shell = unittest.mock.MagicMock()  # neither git nor pip raises
  with pytest.raises(SystemExit, match='Not installed: put the address'):
    exec(code, {'get_ipython': lambda: shell})
  shell.system.assert_called_once()
  (tmp_path / 'medjax-checkout').mkdir()
  (tmp_path / 'medjax-checkout/setup.py').touch()
  with pytest.raises(SystemExit, match='Installed'):
    exec(code, {'get_ipython': lambda: shell})


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_small_and_clean(path):
  notebook = nbformat.read(path, as_version=4)
  assert path.stat().st_size < 200_000
  for cell in notebook.cells:
    if cell.cell_type == 'code':
      assert cell.outputs == []
      assert cell.execution_count is None
