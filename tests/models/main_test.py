import pytest

from medjax.models import __main__ as program


def test_a_table_of_what_models_cost(capsys):
  shape = '--input=100,32,32,1'
  program.main([shape, '--num_classes=10', 'LeNet5', 'ViT', 'InceptionV3'])
  header, lenet, vit, inception = capsys.readouterr().out.splitlines()
  assert header.split()[0] == 'parameters'
  name, *cells = lenet.split()
  assert (name, cells[0]) == ('LeNet5', '61,706')
  flops, kept = float(cells[1]), float(cells[2])
  layers = 28**2 * 6 * 25 + 10**2 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
  assert flops == pytest.approx(2e-7 * layers, rel=0.05)
  maps = 400 / 2**20 * (28**2 * 6 + 14**2 * 6 + 10**2 * 16 + 400 + 120 + 84)
  assert maps < kept < 2.5 * maps  # before and after what follows
  assert "ViT needs the argument 'width'" in vit
  assert '75 pixels' in inception


def test_every_model_is_in_the_table():
  names = program.names()
  assert {'LeNet5', 'ResNet18', 'UNet', 'ViTS16'} <= set(names)
  assert not {'ResNet', 'ViT', 'EfficientNet', 'EncoderDecoder'} & set(names)
