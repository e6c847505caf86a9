import pytest

from medjax.models import __main__ as program


def test_a_table_of_what_models_cost(capsys):
  shape = '--input=100,32,32,1'
  program.main([shape, '--num_classes=10', 'LeNet5', 'ViT', 'InceptionV3'])
  header, lenet, vit, inception = capsys.readouterr().out.splitlines()
  assert header.split()[0] == 'parameters'
  name, *cells = lenet.split()
  assert (name, cells[0]) == ('LeNet5', '61,706')
  _, forward, step, memory = (float(c.replace(',', '')) for c in cells)
  layers = 28**2 * 6 * 25 + 10**2 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
  assert forward == pytest.approx(2e-7 * layers, rel=0.05)
  assert step > 2 * forward
  # The first maps, at the least.
  assert memory > 28**2 * 6 * 4 / 2**20
  assert 'ViT is a family: choose width and depth and heads' in vit
  assert '75 pixels' in inception


def test_every_model_is_in_the_table():
  names = program.names()
  assert {'LeNet5', 'ResNet18', 'UNet', 'ViTS16'} <= set(names)
  assert not {'ResNet', 'ViT', 'EfficientNet'} & set(names)
