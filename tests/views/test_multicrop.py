from __future__ import annotations

import pytest
import torch

from medssl.errors import RecipeError, UserError
from medssl.views import MultiCrop, build_policy

SHAPE = (1, 20, 24, 16)
PLAIN = build_policy("none")


def ramp() -> torch.Tensor:
    """Values that say where they come from: position along D, so that a crop shows its place and its size."""
    return torch.arange(20.0).reshape(1, 20, 1, 1).expand(SHAPE).contiguous()


def test_crops_show_the_boxes_that_were_drawn():
    maker = MultiCrop(PLAIN, n_global=3, n_local=5)
    views = maker.replay(ramp(), drawn := maker.draw(SHAPE, 0, 0))
    for view, box in zip(views, drawn, strict=True):
        start, size = box["start"][0], box["size"][0]
        assert view.min() >= start
        assert view.max() <= start + size - 1
        step = size / view.shape[1]  # voxels of the scan per voxel of the view
        torch.testing.assert_close(
            view[0, 1:-1, 0, 0].diff(), torch.full((view.shape[1] - 3,), step), atol=1e-4, rtol=0
        )


def test_edges_stay_in_their_ranges_and_fill_them():
    maker = MultiCrop(PLAIN, global_edge=(0.6, 1.0), local_edge=(0.3, 0.5))
    drawn = [view for scan in range(60) for view in maker.draw((1, 100, 100, 100), 0, scan)]
    edges = torch.tensor([view["size"] for view in drawn]).float() / 100
    assert (edges == edges[:, :1]).all(), "one edge for all axes"
    is_global = torch.tensor([role == "global" for role in maker.roles] * 60)
    for part, low, high in ((edges[is_global, 0], 0.6, 1.0), (edges[~is_global, 0], 0.3, 0.5)):
        assert low <= part.min() < low + 0.05
        assert high - 0.05 < part.max() <= high
    starts = torch.tensor([view["start"] for view in drawn]).float()
    room = 100 - torch.tensor([view["size"] for view in drawn]).float()
    assert ((starts >= 0) & (starts <= room)).all()
    assert abs((starts[room > 5] / room[room > 5]).mean() - 0.5) < 0.05, "boxes lie anywhere"


def test_local_views_are_half_the_size_unless_a_size_is_given():
    assert MultiCrop(PLAIN, n_global=1, n_local=1).shapes((2, 9, 8, 7)) == ((2, 9, 8, 7), (2, 5, 4, 4))
    assert MultiCrop(PLAIN, n_global=1, n_local=1, local_shape=(4, 4, 4)).shapes((2, 9, 8, 7))[1] == (2, 4, 4, 4)
    assert MultiCrop(PLAIN).roles == ("global",) * 2 + ("local",) * 6
    assert MultiCrop(PLAIN, n_local=0).roles == ("global",) * 2


def test_views_that_do_not_fit_are_refused():
    with pytest.raises(RecipeError, match=r"views.local_shape is \[10, 4, 4\].*at most as large"):
        MultiCrop(PLAIN, local_shape=(10, 4, 4)).shapes((1, 8, 8, 8))
    maker = MultiCrop(PLAIN)
    with pytest.raises(UserError, match="of 1 views, but this maker has 8"):
        maker.replay(ramp(), maker.draw(SHAPE, 0, 0)[:1])
