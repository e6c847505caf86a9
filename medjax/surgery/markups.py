"""Lines that 3D Slicer opens: its markups files, .mrk.json."""

import numpy as np

from medjax import files

_SCHEMA = (
  'https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/'
  'Markups/Resources/Schema/markups-schema-v1.0.3.json#'
)
_TO_LPS = np.array([-1.0, -1.0, 1.0])


def write(path, points, *, name):
  """Writes points (n, 3), RAS mm, as a line of two or a curve of more."""
  points = np.asarray(points, float) * _TO_LPS
  ends = ['entry', *[''] * (len(points) - 2), 'target']
  files.write_json(
    path,
    {
      '@schema': _SCHEMA,
      'markups': [
        {
          'type': 'Line' if len(points) == 2 else 'Curve',
          'coordinateSystem': 'LPS',
          'coordinateUnits': 'mm',
          'locked': True,
          'controlPoints': [
            {
              'id': str(i + 1),
              'label': f'{name} {label}'.strip(),
              'position': [round(float(x), 4) for x in point],
              'selected': True,
              'locked': True,
              'visibility': True,
              'positionStatus': 'defined',
            }
            for i, (point, label) in enumerate(zip(points, ends, strict=True))
          ],
        }
      ],
    },
  )
