"Picks in two rounds: those of one round where there is one block, and nearly as good where there are many."
import numpy as np
import pytest
from synthlab.blocks import write_block
from synthlab.select.blocks import select_blocks, variance_left
from synthlab.select.uncertainty import UncertaintyTracker


def kinds(seed=0):
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(150, 3, 20).astype(int)
    return np.concatenate([rng.normal(4*rng.normal(size=10), 1, (size, 10)) for size in sizes]).astype(np.float32)


def test_one_block_is_the_tracker(tmp_path):
    rows = kinds()
    tracker = UncertaintyTracker(length_scale=.5).fit(rows)
    picks = tracker.select(25)
    found = select_blocks([rows], 25, length_scale=.5)
    assert found.places.tolist() == [[0, row] for row in picks] and np.array_equal(found.vectors, rows[picks])
    write_block(tmp_path/'a.parquet', rows)
    assert np.isin(select_blocks(tmp_path, 25, length_scale=.5).places[:, 1], np.arange(len(rows))).all()


def test_variance_is_that_of_the_tracker():
    rows = kinds()
    tracker = UncertaintyTracker().fit(rows)
    picked = rows[tracker.select(20)]
    assert variance_left(np.array_split(rows, 6), picked, tracker.length_scale_) == pytest.approx((tracker.variance_.mean(), tracker.variance_.max()), abs=1e-4)
    plain = UncertaintyTracker(length_scale=10., normalize=False).fit(rows)
    assert variance_left([rows], rows[plain.select(5)], 10., normalize=False) == pytest.approx((plain.variance_.mean(), plain.variance_.max()), abs=1e-4)


@pytest.mark.parametrize('order', ['random', 'by kind'])
def test_many_blocks_lose_little(order):
    "Information gain, which greedy picks are after, and the largest variance left."
    rows = kinds()
    tracker = UncertaintyTracker().fit(rows)
    tracker.select(40)
    blocks = np.array_split(np.random.default_rng(1).permutation(rows) if order == 'random' else rows, 8)
    found = select_blocks(blocks, 40, tracker.length_scale_)
    by_blocks = UncertaintyTracker(tracker.length_scale_).fit(found.vectors).observe(range(40))
    gain, exact = (t.log_det_ - 40*np.log(1e-4) for t in (by_blocks, tracker))
    assert gain > .98*exact and variance_left([rows], found.vectors, tracker.length_scale_)[1] < tracker.variance_.max() + .15
    assert all(np.array_equal(blocks[block][row], vector) for (block, row), vector in zip(found.places, found.vectors))


def test_edges():
    rows = kinds()
    assert select_blocks([rows[:1], rows[1:3], np.repeat(rows[:1], 4, 0)], 3, length_scale=.5).places[:, 0].max() < 3
    with pytest.raises(ValueError, match='picks from'): select_blocks([rows[:2], rows[2:4]], 9)
    with pytest.raises(ValueError, match='there are no blocks'): select_blocks([], 1)
