import pytest

from medjax.run.identity import digest


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)


def test_it_changes_with_what_predictions_depend_on_and_nothing_else(tmp_path):
  with pytest.raises(FileNotFoundError, match='no checkpoints'):
    digest(tmp_path)
  seen = []
  for name in ('config.json', 'novelty.npz', 'checkpoints/1/state/d/x',
               'member0/checkpoints/1/x', 'fold1/checkpoints/1/x',
               'fold1/facts.json'):  # fmt: skip
    write(tmp_path / name, name)
    seen.append(digest(tmp_path))
    write(tmp_path / name, 'other')
    seen.append(digest(tmp_path))
  assert len({*seen}) == 12
  for name in ('metrics.json', 'tabular/checkpoints/1/x', '.lock'):
    write(tmp_path / name, name)
  assert digest(tmp_path) == seen[-1]
