"""HTML pages that stand on their own: templates, and figures inside them."""

import base64
import io
import pathlib

import jinja2

from medjax import files


class Pictures:
  """Saves figures to a folder and keeps them for the page.

  `old` is a pattern of pictures that an earlier page left there.
  """

  def __init__(self, folder, *, old):
    self._folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(old):
      path.unlink()

  def __call__(self, name, figure, alt, caption=''):
    """What the template's macro `figure` takes; None for no figure."""
    if figure is None:
      return None
    png = io.BytesIO()
    figure.savefig(png, format='png')
    with files.replacing(self._folder / f'{name}.png', 'wb') as f:
      f.write(png.getvalue())
    data = base64.b64encode(png.getvalue()).decode()
    return {
      'source': f'data:image/png;base64,{data}',
      'width': round(figure.get_figwidth() * 96),
      'alt': alt,
      'caption': caption,
    }


def render(template, **content):
  """The text of a page, from one of the templates beside this module."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,  # ids are file names of the user's
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template(template).render(**content)
