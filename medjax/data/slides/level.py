"""A level of a slide: a grid of stored tiles, of which regions are made."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Level:
  """One resolution of a slide.

  shape: rows and columns. spacing: mm per pixel along them, or None. tile: rows
  and columns of a stored tile. read: (i, j) → the tile (rows, columns, C) of
  that place in the grid, None where nothing is stored.
  """

  shape: tuple[int, int]
  spacing: tuple[float, float] | None
  tile: tuple[int, int]
  read: Callable

  def region(self, row, column, rows, columns):
    """The pixels (rows, columns, C) from there on, cut at the slide's border.

    What is not stored is white.
    """
    rows = min(rows, self.shape[0] - row)
    columns = min(columns, self.shape[1] - column)
    high, wide = self.tile
    found, channels, dtype = [], 3, np.uint8
    for i in range(row // high, -(-(row + rows) // high)):
      for j in range(column // wide, -(-(column + columns) // wide)):
        tile = self.read(i, j)
        if tile is not None:
          found.append((i * high - row, j * wide - column, tile))
          channels, dtype = tile.shape[-1], tile.dtype
    out = np.full((rows, columns, channels), np.iinfo(dtype).max, dtype)
    for top, left, tile in found:
      below, right = top + tile.shape[0], left + tile.shape[1]
      out[max(top, 0) : max(below, 0), max(left, 0) : max(right, 0)] = tile[
        max(-top, 0) : max(rows - top, 0),
        max(-left, 0) : max(columns - left, 0),
      ]
    return out
