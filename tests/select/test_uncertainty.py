"Selection by posterior variance: the eleven properties, each against an oracle; other selections, coverage, and bad input."
import itertools
import json
import math
import warnings
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, Delaunay
from scipy.spatial.distance import cdist, pdist
from scipy.stats import special_ortho_group
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from synthlab import system
from synthlab.select import coverage, selectors as selection, uncertainty
from synthlab.select.coverage import (
    area_ratio, coverage_curve, coverage_rate, length_scale_sweep, neighbour_coverage, to_plane)
from synthlab.select.selectors import (
    SELECTORS, class_quotas, clusters_around, random_features, select_by_class, select_features, select_gp,
    select_in_parts, select_rows)
from synthlab.select.uncertainty import (
    UncertaintyTracker, median_distance, memory_needed, nearest_rows, pick, prepare_rows)


def check(*strategies, examples=25):
    "Test on random examples: always the same ones, without a time limit."
    return lambda test: settings(deadline=None, derandomize=True, max_examples=examples)(given(*strategies)(test))


def cloud(n=600, d=16, seed=0, unit=True):
    "Rows scattered around a few centres."
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(12, d))[rng.integers(12, size=n)] + .7*rng.normal(size=(n, d))
    return X/np.linalg.norm(X, axis=1, keepdims=True) if unit else X


def kernel(A, B, length_scale): return np.exp(-cdist(A, B, 'sqeuclidean')/2/length_scale**2)


def full_solve(X, S, length_scale, noise):
    K = kernel(X[S], X, length_scale)
    return 1 - (K*np.linalg.solve(kernel(X[S], X[S], length_scale) + noise*np.eye(len(S)), K)).sum(0)


def brute_force(K, n, noise, known=()):
    "Greedy log-determinant: try every row."
    S = list(known)
    for _ in range(n):
        rest = [i for i in range(len(K)) if i not in S]
        S.append(rest[int(np.argmax([np.linalg.slogdet(K[np.ix_([*S, i], [*S, i])] + noise*np.eye(len(S) + 1))[1] for i in rest]))])
    return S[len(known):]


def tracker(X, **options):
    return UncertaintyTracker(**{'dtype': 'float64', 'normalize': False} | options).fit(X)


seeds, noises = st.integers(0, 10**6), st.sampled_from([1e-6, 1e-4, 1e-2, .5])


# The oracles ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('cluster_size', [1, 3])
@pytest.mark.parametrize('noise', [1e-4, 1e-2])
def test_variance_is_scikit_learns_in_float64(cluster_size, noise):
    X = cloud()
    found = tracker(X, noise=noise)
    found.select(40, cluster_size)
    S = found.observed_
    oracle = GaussianProcessRegressor(RBF(found.length_scale_), alpha=noise, optimizer=None).fit(X[S], np.zeros(len(S)))
    assert np.abs(found.variance_ - oracle.predict(X, return_std=True)[1]**2).max() < 1e-10


@pytest.mark.parametrize('scale', [.3, .5, 1])
def test_variance_is_scikit_learns_in_float32(scale, monkeypatch):
    monkeypatch.setattr(uncertainty, '_SMALL', 0)                                 # few rows are kept in float64 otherwise
    X = cloud(2000, 384, unit=False)
    found = UncertaintyTracker(scale=scale).fit(X)
    assert found._rows.dtype == np.float32
    found.select(60)
    assert found._pieces[0].dtype == np.float32 and found.variance_.min() >= 0
    S, unit = found.observed_, X/np.linalg.norm(X, axis=1, keepdims=True)
    oracle = GaussianProcessRegressor(RBF(found.length_scale_), alpha=1e-4, optimizer=None).fit(unit[S], np.zeros(len(S)))
    assert np.abs(found.variance_ - oracle.predict(unit, return_std=True)[1]**2).max() < 1e-6


def test_picks_are_linear_operators_pivots():
    torch, operators = pytest.importorskip('torch'), pytest.importorskip('linear_operator.operators')
    X = cloud(300)
    found = tracker(X)
    picks = found.select(25)
    K = torch.tensor(kernel(X, X, found.length_scale_) + 1e-4*np.eye(300))
    L, pivots = operators.DenseLinearOperator(K).pivoted_cholesky(rank=25, error_tol=1e-12, return_pivots=True)
    assert picks.tolist() == pivots[:25].tolist()
    rest = np.setdiff1d(np.arange(300), picks)
    assert found.variance_[rest] == pytest.approx(1 - (L.numpy()[rest]**2).sum(1), abs=1e-10)


# The eleven properties --------------------------------------------------------------------------------------------------

@check(seeds, st.sampled_from([0., 1e-6, 1e-4, .1]))
def test_property_1_incremental_variance_is_the_full_solve(seed, noise):
    X = cloud(150, 8, seed)
    S = np.random.default_rng(seed).permutation(150)[:30].tolist()
    found = tracker(X, noise=noise).observe(S[:7]).observe(S[7]).observe(S[8:])
    assert found.observed_.tolist() == S
    assert found.variance_ == pytest.approx(full_solve(X, S, found.length_scale_, noise), abs=1e-9 if noise == 0 else 1e-10)


@check(seeds, noises)
def test_property_2_variance_never_rises_and_lies_from_0_to_1(seed, noise):
    found = tracker(cloud(120, 6, seed), noise=noise)
    for _ in range(20):
        before = found.variance_
        found.select(1, cluster_size=2)
        assert (found.variance_ <= before).all() and found.variance_.min() >= 0 and found.variance_.max() <= 1


@check(seeds, st.sampled_from([0., 1e-4, .1]))
def test_property_3_little_is_left_at_an_observed_row(seed, noise):
    found = tracker(cloud(120, 6, seed), noise=noise)
    found.select(20, cluster_size=2)
    assert found.variance_[found.observed_].max() <= noise/(1 + noise) + 1e-12


@check(seeds, noises)
def test_property_4_variance_at_the_picks_never_rises(seed, noise):
    found = tracker(cloud(120, 6, seed), noise=noise)
    found.select(40)
    assert (np.diff(found.pick_variance_) <= 1e-12).all()


@check(seeds, noises)
def test_property_5_log_determinant_is_the_sum_over_the_picks(seed, noise):
    X = cloud(120, 6, seed)
    found = tracker(X, noise=noise)
    S = found.select(25)
    assert found.log_det_ == pytest.approx(np.log(found.pick_variance_ + noise).sum(), abs=1e-9)
    assert found.log_det_ == pytest.approx(np.linalg.slogdet(kernel(X[S], X[S], found.length_scale_) + noise*np.eye(25))[1], abs=1e-8)


def test_property_6_variance_does_not_depend_on_the_order_nor_on_targets():
    X, S = cloud(), np.random.default_rng(0).permutation(600)[:30]
    there, back = tracker(X).observe(S), tracker(X).observe(S[::-1])
    assert there.variance_ == pytest.approx(back.variance_, abs=1e-12)
    for targets in (np.zeros(30), np.random.default_rng(1).normal(size=30)):
        oracle = GaussianProcessRegressor(RBF(there.length_scale_), alpha=1e-4, optimizer=None).fit(X[S], targets)
        assert oracle.predict(X, return_std=True)[1]**2 == pytest.approx(there.variance_, abs=1e-10)


@pytest.mark.parametrize('noise', [0., 1e-4, .1])
@pytest.mark.parametrize('known', [[], [17, 4]])
def test_property_7_picks_are_greedy_for_the_log_determinant(noise, known):
    for seed in range(4):
        X = cloud(80, 8, seed)
        found = tracker(X, noise=noise).observe(known)
        assert found.select(15).tolist() == brute_force(kernel(X, X, found.length_scale_), 15, noise, known)


def decimal_picks(X, n, length_scale, digits=400):
    "Greedy variance without rounding to speak of."
    with localcontext() as context:
        context.prec = digits
        rate = Decimal(-1)/(2*Decimal(length_scale)**2)
        rows = [[Decimal(float(x)) for x in row] for row in X]
        K = [[(sum(((a - b)**2 for a, b in zip(p, q)), Decimal(0))*rate).exp() for q in rows] for p in rows]
        variance, factors, picks = [Decimal(1)]*len(X), [], []
        while len(picks) < n:
            i = max((j for j in range(len(X)) if j not in picks), key=lambda j: (variance[j], -j))
            row = [(K[i][j] - sum((f[i]*f[j] for f in factors), Decimal(0)))/variance[i].sqrt() for j in range(len(X))]
            variance, factors, picks = [v - r*r for v, r in zip(variance, row)], [*factors, row], [*picks, i]
    return picks


def farthest(X, n):
    S = [0]
    while len(S) < n: S.append(int(cdist(X, X[S]).min(1).argmax()))
    return S


@pytest.mark.parametrize('scale', [.25, .1])
def test_property_8_a_small_length_scale_gives_farthest_points_which_floats_keep_by_the_rule_for_ties(scale):
    X = cloud(40, 3, seed=5)
    expected = farthest(X, 10)
    assert decimal_picks(X, 10, scale) == expected
    with pytest.warns(UserWarning, match='too small to tell rows apart'): assert tracker(X, length_scale=scale/10).select(10).tolist() == expected
    assert select_rows(X, 10, 'farthest')[:, 0].tolist() == expected
    by_file = [int(i) for i in range(10)]
    assert expected != by_file                                                    # the order without the rule


def test_property_9_features_give_the_variance_of_their_own_kernel():
    rows = prepare_rows(cloud(200), dtype='float64')
    features, A, variance, S = random_features(rows, .7, 64), np.eye(64), np.ones(200), [5, 100, 42, 7, 199]
    for i in S: A, variance = selection._condition_weights(A, features, variance, i, 1e-4)
    K = features @ features.T
    assert variance == pytest.approx(1 - (K[:, S]*np.linalg.solve(K[np.ix_(S, S)] + 1e-4*np.eye(5), K[S]).T).sum(1), abs=1e-12)
    errors = [np.abs(f @ f.T - kernel(rows, rows, .7)).max() for f in (random_features(rows, .7, R) for R in (256, 4096, 65536))]
    assert errors[1] < errors[0]/2 and errors[2] < errors[1]/2                    # 1/4 each, on average


@check(seeds, examples=10)
def test_property_10_only_distances_count(seed):
    X, rng = cloud(150, 5, seed, unit=False), np.random.default_rng(seed)
    picks = tracker(X).select(25, cluster_size=2)
    moved = 3*(X @ special_ortho_group.rvs(5, random_state=seed)) + rng.normal(size=5)
    assert (tracker(moved).select(25, cluster_size=2) == picks).all()
    tau = tracker(X).length_scale_
    assert (tracker(moved, length_scale=3*tau).select(25, cluster_size=2) == picks).all()
    order = rng.permutation(150)
    again = tracker(X[order], length_scale=tau, start='central').select(25)
    assert (order[again] == tracker(X, length_scale=tau, start='central').select(25)).all()


@pytest.mark.parametrize('noise', [0., 1e-10, 1e-4])
def test_property_10_a_copy_is_not_picked_while_others_are_left(noise):
    X = cloud(200)
    picks = tracker(np.concatenate([X, X]), noise=noise).select(150)
    assert len(set(picks % 200)) == 150


@pytest.mark.parametrize('k', [3, 5])
def test_property_11_greedy_is_near_the_best_set(k):
    for seed in range(5):
        X, noise = cloud(12, 2, seed, unit=False), 1e-2
        found = tracker(X, noise=noise)
        K = kernel(X, X, found.length_scale_)
        def gain(S): return .5*np.linalg.slogdet(np.eye(len(S)) + K[np.ix_(S, S)]/noise)[1]
        best = max(gain(list(S)) for S in itertools.combinations(range(12), k))
        assert (1 - 1/math.e)*best <= gain(found.select(k)) <= best + 1e-9


# Blocks -----------------------------------------------------------------------------------------------------------------

def grid(n): return np.array([[x, y] for x in range(n) for y in range(n)], dtype=float)


@pytest.mark.parametrize('X', [cloud(700, 8), cloud(900, 2, unit=False), grid(24), np.repeat(cloud(150), 5, axis=0), cloud(500, 64)], ids=['cloud', 'plane', 'grid', 'copies', 'wide'])
@pytest.mark.parametrize('noise', [1e-4, .1])
def test_looking_ahead_changes_no_pick(X, noise, monkeypatch):
    def picks(few):
        monkeypatch.setattr(uncertainty, '_FEWEST', few)
        found, used, look = tracker(X, noise=noise).observe([1, 5]), [], UncertaintyTracker._look_ahead
        monkeypatch.setattr(UncertaintyTracker, '_look_ahead', lambda *a: used.append(look(*a)) or used[-1])
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            order = [*found.select(40), *found.select(60)]
        monkeypatch.setattr(UncertaintyTracker, '_look_ahead', look)
        return order, found, max(map(len, used))
    (ahead, one, longest), (single, other, none) = picks(16), picks(10**9)
    assert ahead == single and longest > 3 and none == 0
    assert one.variance_ == pytest.approx(other.variance_, abs=1e-10) and one.pick_variance_ == pytest.approx(other.pick_variance_, abs=1e-10)
    assert (one.ties_ == other.ties_).all() and one.variance_ == pytest.approx(full_solve(X, one.observed_, one.length_scale_, noise), abs=1e-9)


def test_looking_ahead_stops_where_it_should(monkeypatch):
    X = cloud(900, 8)
    expected = tracker(X).select(900, until=.2)
    monkeypatch.setattr(uncertainty, '_FEWEST', 16)
    assert tracker(X).select(900, until=.2).tolist() == expected.tolist()
    monkeypatch.setattr(uncertainty, '_FEWEST', 16)
    assert tracker(X).select(70, 4, observe_cluster=False).tolist() == tracker(X).select(70).tolist()


@pytest.mark.parametrize('numbers', [1, 100, 333])
def test_the_size_of_a_part_changes_nothing(numbers, monkeypatch):
    X = cloud(250, 8)
    whole = tracker(X).observe(range(70))
    whole.select(30, 3)
    monkeypatch.setattr(uncertainty, '_NUMBERS', numbers)
    parts = tracker(X).observe(range(70))
    parts.select(30, 3)
    assert parts.observed_.tolist() == whole.observed_.tolist() and parts.variance_ == pytest.approx(whole.variance_, abs=1e-12)


@check(seeds, st.sampled_from([1e-6, .1]))
def test_small_factor_is_choleskys(seed, noise):
    X = cloud(40, 6, seed)
    K = kernel(X, X, .7)
    L, before = uncertainty._small_factor(K, noise)
    assert L == pytest.approx(np.linalg.cholesky(K + noise*np.eye(40)), abs=1e-6) and before == pytest.approx(np.diag(L)**2 - noise, abs=1e-9)


def test_a_copy_observed_beside_its_original_tells_nothing_without_noise():
    X = np.concatenate([cloud(50), cloud(50)])
    both = tracker(X, noise=0).observe([3, 53, 7, 57])
    assert both.variance_ == pytest.approx(full_solve(X, [3, 7], both.length_scale_, 0), abs=1e-12) and len(both.observed_) == 4


def test_no_variance_is_negative_whatever_the_rounding():
    factor, variance = uncertainty._condition(np.array([.6, .6 + 1e-9]), np.array([.36, .36]), 0, 0.)
    assert (variance == 0).all() and factor == pytest.approx([1, 1])


# Picks, ties, clusters --------------------------------------------------------------------------------------------------

def test_ties_go_to_the_farthest_then_to_the_first():
    line = np.array([[0.], [5], [-5], [9], [-9]])
    with pytest.warns(UserWarning, match='2 other rows|3 other rows|1 other rows'): found = tracker(line, length_scale=1e-3); picks = found.select(5)
    assert picks.tolist() == [0, 3, 4, 1, 2] and found.ties_.tolist() == [4, 3, 2, 1, 0]


def test_variances_that_only_rounding_tells_apart_are_tied():
    variance = np.array([.5, .5 + 1e-15, .4])
    assert pick(variance, np.ones(3, bool), np.array([2., 1, 3])) == (0, 1)
    assert pick(variance, np.ones(3, bool), np.array([2., 1, 3]), 'float32') == (0, 1)
    assert pick(np.array([.5, .5 + 1e-6, .4]), np.ones(3, bool), np.array([2., 1, 3]))[0] == 1


def test_ties_have_the_precision_of_the_table_or_of_coarser_embeddings(monkeypatch):
    def tied(X, **options):
        found = UncertaintyTracker(length_scale=1, normalize=False, **options).fit(X)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            found.select(2)
        return int(found.ties_[1])
    near, far = np.array([[0.], [4], [-3.9]]), np.array([[0.], [5.8], [-5.75]])   # k² is 1e-7 and 2e-7; 2e-15 and 4e-15
    assert tied(near) == tied(near, dtype='float64') == 0 and tied(far) == 1
    assert tied(near.astype(np.float32)) == 1 and tied(near.astype(np.float32), dtype='float64') == 0
    monkeypatch.setattr(uncertainty, '_SMALL', 0)                                 # few rows are kept in float64 otherwise
    assert tied(near) == 1 and tied(near, dtype='float64') == 0


def test_no_warning_where_few_rows_are_tied_and_another_where_all_is_known():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        tracker(cloud()).select(60)
    with pytest.warns(UserWarning, match='nothing is left to learn'): tracker(np.repeat(cloud(20), 10, axis=0), noise=0).select(150)


def test_selecting_again_goes_on():
    X = cloud()
    once, twice = tracker(X), tracker(X)
    whole = once.select(30, 3)
    assert np.concatenate([twice.select(13, 3), twice.select(17, 3)]).tolist() == whole.tolist()
    assert twice.clusters_.tolist() == once.clusters_[13:].tolist() and (twice.variance_ == once.variance_).all()


def test_clusters_are_the_nearest_rows_and_are_observed():
    X = cloud()
    found = tracker(X)
    picks = found.select(20, 4)
    distance = cdist(X, X)
    assert found.clusters_.tolist() == [np.lexsort((np.arange(600), np.where(np.arange(600) == i, -1, distance[i])))[:4].tolist() for i in picks]
    assert set(found.observed_) == set(found.clusters_.ravel()) and len(found.observed_) == len(set(found.observed_))
    alone = tracker(X)
    alone.select(20, 4, observe_cluster=False)
    assert alone.observed_.tolist() == alone.clusters_[:, 0].tolist() == tracker(X).select(20).tolist()


def test_a_neighbour_looked_at_is_not_picked_while_others_are_left():
    found = tracker(cloud(60, 2, unit=False), noise=5.)                           # after one look much is left to learn
    picks = found.select(20, 3)
    for place, i in enumerate(picks):
        seen = set(found.clusters_[:place].ravel())
        assert i not in seen or len(seen) == 60
    assert len(set(found.clusters_.ravel())) < 60


def test_what_is_known_is_not_picked_and_counts():
    X = cloud()
    found = tracker(X).observe(range(100)).observe([3, 600 - 1])
    assert not set(found.select(100)) & {*range(100), 599}
    assert found.observed_[:101].tolist() == [*range(100), 599]
    assert tracker(X).observe([]).select(1) == [0]


def test_as_many_picks_as_rows_with_clusters_too():
    X = cloud(30)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert sorted(tracker(X).select(30, 5)) == list(range(30))
        assert sorted(tracker(X).observe([2, 4]).select(28, 3)) == [i for i in range(30) if i not in (2, 4)]
    with pytest.raises(ValueError, match='31 picks from 30 rows of which 30 are free'): tracker(X).select(31)


def test_starts():
    X = cloud(unit=False)
    assert tracker(X).select(1) == [0]
    assert tracker(X, start='central').select(1) == [np.linalg.norm(X - X.mean(0), axis=1).argmin()]
    drawn = [int(tracker(X, start='random', seed=seed).select(1)[0]) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1] and len(set(drawn)) > 1
    assert tracker(X, start='random').observe(5).select(2).tolist() == tracker(X).observe(5).select(2).tolist()


def test_until_stops_at_the_threshold():
    found = tracker(cloud(), scale=1)
    picks = found.select(600, until=.3)
    assert found.variance_.max() < .3 <= found.pick_variance_.min() and 1 < len(picks) == len(found.clusters_) < 600
    assert len(found.select(5, until=.3)) == 0 and found.clusters_.shape == (0, 1)


def test_the_same_seed_gives_the_same():
    X = cloud(5000, 32)
    first, second = UncertaintyTracker(seed=3).fit(X), UncertaintyTracker(seed=3).fit(X)
    assert first.select(50, 2).tolist() == second.select(50, 2).tolist() and first.length_scale_ == second.length_scale_


def test_the_length_scale_is_a_share_of_the_median_distance():
    X = cloud(60)
    assert tracker(X).length_scale_ == pytest.approx(.5*np.median(pdist(X)))      # all 1,770 pairs
    assert tracker(X, scale=2).length_scale_ == pytest.approx(4*tracker(X).length_scale_)
    assert tracker(X, length_scale=.3).length_scale_ == .3
    assert median_distance(cloud(), seed=1) == pytest.approx(np.median(pdist(cloud())), rel=.03)
    assert UncertaintyTracker().fit(7*X).length_scale_ == pytest.approx(UncertaintyTracker().fit(X).length_scale_)


@pytest.mark.parametrize('scale', [1e-300, 1e-30, 1e30, 1e300])
def test_absurd_length_scales_give_no_nan(scale):
    found = tracker(cloud(50), length_scale=scale)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert len(set(found.select(20, 2))) == 20
    assert np.isfinite(found.variance_).all() and found.variance_.min() >= 0


def test_float32_holds_a_larger_table():
    X = cloud(12_000, 64).astype(np.float32)
    small, large = UncertaintyTracker().fit(X), UncertaintyTracker(dtype='float64').fit(X)
    assert small._rows.dtype == np.float32 and small.observe(range(100)) and large.observe(range(100))
    small.select(100, 2); large.observe(small.observed_)
    assert small.variance_.min() >= 0 and np.abs(small.variance_ - large.variance_).max() < 2e-5
    exact = full_solve(X.astype(np.float64), small.observed_, small.length_scale_, 1e-4)
    assert np.abs(large.variance_ - exact).max() < 1e-6


def test_a_single_row_and_half_precision():
    assert UncertaintyTracker().fit(np.ones((1, 4))).select(1).tolist() == [0]
    assert len(UncertaintyTracker().fit(cloud().astype(np.float16)).select(9)) == 9
    assert len(UncertaintyTracker().fit(np.random.default_rng(0).integers(9, size=(50, 6)) + 1).select(9)) == 9


def test_fit_leaves_its_argument_alone_and_forgets():
    X = cloud()
    copy = X.copy()
    found = tracker(X)
    found.select(9, 2)
    assert (X == copy).all() and len(found.fit(X).observed_) == 0 and (found.variance_ == 1).all()


# Bad input --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('wrong, says', [
    (dict(length_scale=0), 'length_scale must be over 0'), (dict(length_scale=-1), 'got -1'), (dict(length_scale=math.nan), 'got nan'), (dict(length_scale='mean'), "'mean'"),
    (dict(noise=0), 'over 0 in float32'), (dict(noise=-1, dtype='float64'), 'at least 0 and finite, got -1'), (dict(noise=math.inf), 'got inf'), (dict(scale=0), 'scale must be over 0'),
    (dict(dtype='float16'), 'float16'), (dict(start='best'), "'best'")])
def test_settings_out_of_range_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says): UncertaintyTracker(**wrong)


@pytest.mark.parametrize('X, says', [
    (np.array([[1, 2], [math.nan, 1]]), 'row 1 of 2 holds a number that is not finite'), (np.array([[1, math.inf], [1, 1]]), 'row 0 of 2'), (np.array([[1e30, 1], [1, 1]]*6000, dtype=np.float64), 'its square is not'),
    (np.array([[1., 1], [0, 0]]), 'row 1 of 2 is zero'), (np.ones((5, 3)), 'all 5 rows are the same'), (np.diag([1., 2, 3])[[0]*9 + [1]], 'copies of each other'),
    (np.ones(5), r'shape \(5,\)'), (np.ones((2, 2, 2)), r'shape \(2, 2, 2\)'), (np.empty((0, 3)), r'shape \(0, 3\)'), (['a text', 'another'], 'embed texts first'), (np.array([[1 + 2j, 1]]), 'complex128')])
def test_tables_that_cannot_be_used_are_refused(X, says):
    with pytest.raises(ValueError, match=says): UncertaintyTracker().fit(X)


def test_noise_below_rounding_needs_float64_where_there_are_many_rows():
    X = np.random.default_rng(0).normal(size=(10_001, 3))
    with pytest.raises(ValueError, match="at least 1e-06 for 10001 rows in float32, got 1e-10; dtype='float64' takes less"): UncertaintyTracker(noise=1e-10).fit(X)
    for found in (UncertaintyTracker(noise=1e-10).fit(X[1:]), UncertaintyTracker(noise=1e-10, dtype='float64').fit(X)): assert len(set(found.select(5))) == 5


def test_zero_rows_are_allowed_where_lengths_stay():
    assert len(UncertaintyTracker(normalize=False).fit(np.array([[0., 0], [1, 0], [3, 1]])).select(3)) == 3


@pytest.mark.parametrize('call, says', [
    (lambda t: t.select(0), 'n must be at least 1'), (lambda t: t.select(601), '601 picks from 600 rows'), (lambda t: t.select(5, 0), 'cluster_size must lie from 1'),
    (lambda t: t.select(5, 601), 'got 601'), (lambda t: t.select(5, until=0), r'until must lie in \(0, 1\]'), (lambda t: t.observe(-1), 'from 0 to 599, got -1'),
    (lambda t: t.observe([0, 600]), 'got 600'), (lambda t: t.observe([.5]), 'integers'), (lambda t: t.observe(np.ones(600, bool)), 'got bool')])
def test_requests_that_cannot_be_met_are_refused_and_change_nothing(call, says):
    found = tracker(cloud())
    with pytest.raises(ValueError, match=says): call(found)
    assert len(found.observed_) == 0 and (found.variance_ == 1).all()


@pytest.mark.parametrize('call', [lambda t: t.select(1), lambda t: t.observe(0)])
def test_fit_comes_first(call):
    with pytest.raises(ValueError, match=r'call fit\(X\) first'): call(UncertaintyTracker())


def test_memory_is_stated_and_refused_before_the_work():
    assert memory_needed(10**6, 600, 384) == 10**6*(4*984*17//16 + 64) and memory_needed(10**6, 600, 384, "float64") == 10**6*(8*984*17//16 + 64)
    assert memory_needed(1000, 9, 384) == memory_needed(1000, 9, 384, 'float64')
    with pytest.raises(MemoryError, match='GiB are available'): UncertaintyTracker(max_memory=1000).fit(cloud())
    found = tracker(cloud(), max_memory=memory_needed(600, 20, 16))
    with pytest.raises(MemoryError, match='to observe 400 of 600 rows needs'): found.select(200, cluster_size=2)
    assert len(found.observed_) == 0 and len(found.select(10)) == 10
    assert system.available_memory() > 1e6


# Other selections -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('method', SELECTORS)
def test_every_method_gives_distinct_picks_and_their_clusters(method):
    X, options = cloud(200), {'n_features': 64} if method == 'gp-features' else {}
    found = select_rows(X, 20, method, cluster_size=3, seed=4, **options)
    assert found.shape == (20, 3) and len(set(found[:, 0])) == 20 and found.min() >= 0 and found.max() < 200
    assert (found == clusters_around(prepare_rows(X), found[:, 0], 3)).all()
    assert (found == select_rows(X, 20, method, cluster_size=3, seed=4, **options)).all()
    assert select_rows(X, 200, method, **options).shape == (200, 1)
    with pytest.raises(ValueError): select_rows(X, 201, method, **options)
    with pytest.raises(ValueError): select_rows(X*math.nan, 5, method, **options)


def test_random_methods_depend_on_the_seed():
    X = cloud(200)
    for method in ('random', 'kmeans++', 'stratified'): assert len({tuple(select_rows(X, 20, method, seed=s)[:, 0]) for s in range(3)}) == 3


@pytest.mark.parametrize('method', [m for m in SELECTORS if m != 'gp-features'])
def test_copies_stop_no_method(method):
    X = np.repeat(cloud(4), 5, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        picks = select_rows(X, 12, method)[:, 0]
    assert len(set(picks)) == 12
    if method not in ('random',): assert set(picks//5) == {0, 1, 2, 3}


def test_stratified_takes_one_of_each_group():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(6), [50, 5, 20, 10, 40, 30])
    X = 20*rng.normal(size=(6, 4))[group] + rng.normal(size=(155, 4))
    assert group[select_rows(X, 6, 'stratified', normalize=False)[:, 0]].tolist() == [0, 4, 5, 2, 3, 1]     # largest first


def test_parts_lose_little_and_one_part_nothing():
    X = cloud(1200, 32)
    exact, parts = select_gp(X, 40)[:, 0], select_in_parts(X, 40, part_rows=200)[:, 0]
    assert select_in_parts(X, 40, part_rows=1200)[:, 0].tolist() == exact.tolist()
    def information(picks): return UncertaintyTracker(dtype='float64').fit(X).observe(picks).log_det_
    rivals = [information(select_rows(X, 40, 'random', seed=s)[:, 0]) for s in range(5)]
    assert information(exact) - information(parts) < .2*(information(exact) - max(rivals))
    clusters = select_in_parts(X, 10, 3, part_rows=200)
    assert (clusters == clusters_around(prepare_rows(X), clusters[:, 0], 3)).all()


def test_features_pick_nearly_as_well_when_there_are_many():
    X = cloud(600, 32)
    def information(picks): return UncertaintyTracker(dtype='float64').fit(X).observe(picks).log_det_
    exact, rival = information(select_gp(X, 30)[:, 0]), information(select_rows(X, 30, 'random')[:, 0])
    assert exact - information(select_features(X, 30, n_features=4096)[:, 0]) < .15*(exact - rival)


def test_nearest_rows_keep_the_row_first_among_copies():
    assert nearest_rows(np.array([0., 0, 0, 1]), 2, 3).tolist() == [2, 0, 1]


# Classes and plans ------------------------------------------------------------------------------------------------------

def test_each_class_is_selected_by_itself():
    X, labels = cloud(90), np.array(['a', 'b', 'c'])[np.arange(90) % 3]
    found = select_by_class(X, labels, {'b': 5, 'a': 7}, cluster_size=2)
    assert list(found) == ['b', 'a'] and {k: len(v) for k, v in found.items()} == {'b': 5, 'a': 7}
    for label, picks in found.items():
        rows = np.flatnonzero(labels == label)
        assert picks[:, 0].tolist() == rows[UncertaintyTracker().fit(X[rows]).select(len(picks), 2)].tolist()
    assert {k: len(v) for k, v in select_by_class(X, labels, 4, method='kmeans++').items()} == {'a': 4, 'b': 4, 'c': 4}


def test_clusters_by_class_are_plain_numbers_and_replay():
    X, labels = cloud(90), ['a', 'b', 'c']*30
    plan, again = ({label: found.tolist() for label, found in select_by_class(X, labels, 6, cluster_size=3, seed=2).items()} for _ in range(2))
    assert json.loads(json.dumps(plan)) == plan == again
    assert all(len(cluster) == 3 and labels[i] == label for label, clusters in plan.items() for cluster in clusters for i in cluster)
    numbered = select_by_class(X, np.arange(90) % 2, 2)
    assert list(numbered) == [0, 1] and type(next(iter(numbered))) is int


@pytest.mark.parametrize('labels, counts, says', [
    (['a', 'b', 'c']*30, 31, "label 'a' has 30 rows for 31 picks; label 'b'"), (['a', 'b', 'c']*30, {'d': 1}, "no row has the label 'd'"),
    (['a']*89, 3, '90 rows and 89 labels'), (['a', 'b', 'c']*30, {'a': 0}, "label 'a': n must be at least 1")])
def test_quotas_that_cannot_be_met_are_refused(labels, counts, says):
    with pytest.raises(ValueError, match=says): select_by_class(cloud(90), labels, counts)


def test_quotas_of_the_papers_code():
    labels = ['a']*700 + ['b']*290 + ['c']*10
    assert class_quotas(labels, 300) == {'a': 100, 'b': 100, 'c': 10}
    assert class_quotas(labels, 300, 'proportion') == {'a': 211, 'b': 88, 'c': 4}
    with pytest.raises(ValueError, match="'average' or 'proportion'"): class_quotas(labels, 300, 'even')


# Coverage ---------------------------------------------------------------------------------------------------------------

@check(seeds, st.integers(3, 30))
def test_hull_coverage_is_that_of_a_triangulation(seed, n):
    rng = np.random.default_rng(seed)
    real, selected = rng.normal(size=(200, 2)), rng.normal(size=(n, 2))
    assert coverage_rate(real, selected) == (Delaunay(selected).find_simplex(real) >= 0).mean()
    areas = [ConvexHull(points).volume for points in (real, selected)]
    assert area_ratio(real, selected) == pytest.approx(min(1, areas[1]/areas[0])) and area_ratio(real, selected, clip=False) == pytest.approx(areas[1]/areas[0])


@check(seeds, st.integers(2, 20), examples=15)
def test_hull_coverage_never_falls_with_more_points_and_is_1_for_all(seed, d):
    real = np.random.default_rng(seed).normal(size=(150, d))*np.arange(1, d + 1)
    curve = coverage_curve(real, range(150), range(1, 151))
    assert (np.diff(curve) >= 0).all() and curve[-1] == 1 == area_ratio(real, real) and curve[0] == pytest.approx(1/150)


@check(seeds, examples=15)
def test_affine_maps_of_the_plane_change_no_hull(seed):
    rng = np.random.default_rng(seed)
    real, M = rng.normal(size=(200, 2)), rng.normal(size=(2, 2)) + 2*np.eye(2)
    assert coverage_rate(real @ M + 5, real[:12] @ M + 5) == coverage_rate(real, real[:12])
    assert area_ratio(real @ M + 5, real[:12] @ M + 5) == pytest.approx(area_ratio(real, real[:12]))


def test_points_on_a_line_cover_their_segment():
    grid = np.array([[x, y] for x in range(4) for y in range(4)], dtype=float)
    assert coverage_rate(grid, grid[[0, 15]]) == 4/16 == coverage_rate(grid, grid[[5, 0, 15]]) and coverage_rate(grid, grid[[0, 10]]) == 3/16
    assert coverage_rate(grid, grid[[5, 5, 5]]) == 1/16 and coverage_rate(grid, np.array([[9., 9]])) == 0 == area_ratio(grid, grid[[0, 5, 15]])


def test_more_dimensions_are_seen_in_the_plane_of_the_real_rows():
    from sklearn.decomposition import PCA
    real = cloud(300, 10)*np.arange(1, 11)
    plane = PCA(2, svd_solver='full').fit(real)
    ours = to_plane(real, real[:20])
    assert pdist(ours[1]) == pytest.approx(pdist(plane.transform(real[:20])))
    assert coverage_rate(real, real[:20]) == coverage_rate(plane.transform(real), plane.transform(real[:20]))


def test_three_far_outliers_fool_the_hull_alone():
    rng = np.random.default_rng(0)
    real, outliers = rng.normal(size=(500, 2)), np.array([[-100., -80], [100, -80], [0, 120]])
    assert coverage_rate(real, outliers) == 1 == area_ratio(real, outliers) and area_ratio(real, outliers, clip=False) > 100
    assert neighbour_coverage(real, outliers, k=50) == 0


@check(seeds, st.integers(1, 9), examples=10)
def test_neighbour_coverage_is_the_coverage_of_fidelity(seed, k):
    from synthlab.measure import fidelity
    real, selected = cloud(120, 8, seed), cloud(40, 8, seed + 1)
    assert neighbour_coverage(real, selected, k) == pytest.approx(float(fidelity.coverage(real, selected, k=k, times=0)), abs=1e-12)


def test_kinds_are_found_sooner_than_by_chance():
    rng = np.random.default_rng(0)
    share = 1/np.arange(1, 31)
    kind = rng.choice(30, 2000, p=share/share.sum())
    X = rng.normal(size=(30, 64))[kind] + .3*rng.normal(size=(2000, 64))
    assert len(set(kind[UncertaintyTracker().fit(X).select(30)])) == 30
    assert max(len(set(kind[select_rows(X, 30, 'random', seed=s)[:, 0]])) for s in range(20)) < 25


def test_sweep_gives_what_single_selections_give():
    X = cloud(400, 32)
    found = length_scale_sweep(X, sizes=(5, 20), scales=(.05, .5), cluster_size=2, tracker={'noise': 1e-3})
    one = UncertaintyTracker(scale=.5, noise=1e-3).fit(X)
    picks = one.select(20, 2)
    assert found['coverage'][1].tolist() == [coverage_rate(X, X[picks[:n]]) for n in (5, 20)] and found['variance'][1] == pytest.approx(one.variance_.mean())
    assert found['tied'][0] > .8 > .05 > found['tied'][1] and found['median_distance'] == pytest.approx(2*one.length_scale_)


@pytest.mark.parametrize('call, says', [
    (lambda X: coverage_rate(X, X[:, :3]), 'same dimensions'), (lambda X: coverage_rate(X[:, :1], X[:3, :1]), r'at least 2, got \[1\]'), (lambda X: coverage_rate(X, X[:0]), r'shape \(0, 16\)'),
    (lambda X: coverage_rate(X, X[:3]*math.nan), 'row 0 of 3 holds a number that is not finite'), (lambda X: area_ratio(np.outer(np.arange(5.), [1, 2]), X[:, :2]), 'on one line'),
    (lambda X: neighbour_coverage(X, X, 600), 'k must lie from 1 to 599'), (lambda X: neighbour_coverage(X, X[:, :3]), 'equal dimensions'),
    (lambda X: coverage_curve(X, [1, 2], [3]), 'number of picks, 2'), (lambda X: coverage_curve(X, [1, 2], [1], 'mass'), "'mass'")])
def test_coverage_refuses_what_it_cannot_measure(call, says):
    with pytest.raises(ValueError, match=says): call(cloud())


def test_measures_are_listed():
    assert set(coverage.MEASURES) == {'hull', 'area', 'neighbours'}
