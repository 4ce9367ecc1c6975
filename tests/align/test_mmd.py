"MMD beside its definition written with loops, other libraries and closed forms; what is chance in it; bad input."
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import rbf_kernel
from synthlab.align.mmd import (
    FeatureMap, check_vectors, check_weights, draw_features, gaussian_kernel, kernel_mean, kernel_sums, mean_features,
    median_bandwidth, mmd2, mmd2_interval, noise_floor, permutation_test, projection_matrices, resolve_bandwidth,
    witness)


def check(*strategies, examples=30):
    "Test on random examples: always the same ones, without a time limit."
    return lambda test: settings(deadline=None, derandomize=True, max_examples=examples)(given(*strategies)(test))


sizes, widths, seeds, bandwidths = st.integers(2, 25), st.integers(1, 9), st.integers(0, 10**6), st.floats(.3, 10)


def two_sets(n, m, d, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + .5, rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


def by_loops(X, Y, wx, wy, sigma, unbiased=False):
    "The double sums, pair by pair."
    def k(a, b): return math.exp(-sum((p - q)**2 for p, q in zip(a, b))/(2*sigma**2))
    def within(Z, w):
        pairs = [(i, j) for i in range(len(Z)) for j in range(len(Z)) if not (unbiased and i == j)]
        return sum(w[i]*w[j]*k(Z[i], Z[j]) for i, j in pairs)/sum(w[i]*w[j] for i, j in pairs)
    return within(X, wx) + within(Y, wy) - 2*sum(wx[i]*wy[j]*k(X[i], Y[j]) for i in range(len(X)) for j in range(len(Y)))


# The value ---------------------------------------------------------------------------------------------------------------

@check(sizes, sizes, widths, seeds, bandwidths, st.booleans(), st.sampled_from([1, 7, 2048]))
def test_mmd2_is_the_double_sum(n, m, d, seed, sigma, unbiased, block):
    X, Y, wx, wy = two_sets(n, m, d, seed)
    assert mmd2(X, Y, wx, wy, sigma, unbiased, block_size=block) == pytest.approx(by_loops(X, Y, wx, wy, sigma, unbiased), abs=1e-11)
    equal = by_loops(X, Y, np.full(n, 1/n), np.full(m, 1/m), sigma, unbiased)
    assert mmd2(X, Y, bandwidth=sigma, unbiased=unbiased, block_size=block) == pytest.approx(equal, abs=1e-11)


def test_mmd2_with_scikit_learns_kernel():
    X, Y, wx, wy = two_sets(300, 200, 8, 0)
    def k(A, B): return rbf_kernel(A, B, gamma=1/(2*1.7**2))
    assert mmd2(X, Y, wx, wy, 1.7) == pytest.approx(wx @ k(X, X) @ wx + wy @ k(Y, Y) @ wy - 2*wx @ k(X, Y) @ wy, abs=1e-12)
    assert gaussian_kernel(X, Y, 1.7) == pytest.approx(k(X, Y), abs=1e-12)


def test_mmd2_is_twice_geomloss():
    geomloss, torch = pytest.importorskip('geomloss'), pytest.importorskip('torch')
    X, Y, wx, wy = map(torch.from_numpy, two_sets(40, 30, 4, 1))
    assert mmd2(X, Y, wx, wy, 1.3) == pytest.approx(2*float(geomloss.SamplesLoss('gaussian', blur=1.3)(wx, X, wy, Y)), abs=1e-10)


@check(sizes, sizes, widths, seeds)
def test_what_changes_nothing(n, m, d, seed):
    X, Y, wx, wy = two_sets(n, m, d, seed)
    value = mmd2(X, Y, wx, wy, 1.5)
    rng = np.random.default_rng(seed)
    order, turn = rng.permutation(n), np.linalg.qr(rng.normal(size=(d, d)))[0]
    assert 0 <= value <= 2
    assert mmd2(Y, X, wy, wx, 1.5) == pytest.approx(value, abs=1e-12)                                   # sides
    assert mmd2(X[order], Y, wx[order], wy, 1.5) == pytest.approx(value, abs=1e-12)                     # order
    assert mmd2(X @ turn + 100, Y @ turn + 100, wx, wy, 1.5) == pytest.approx(value, abs=1e-9)          # rotation and shift
    assert mmd2(7*X, 7*Y, wx, wy, 7*1.5) == pytest.approx(value, abs=1e-11)                             # unit
    assert mmd2(np.repeat(X, 2, 0), Y, np.repeat(wx/2, 2), wy, 1.5) == pytest.approx(value, abs=1e-12)  # a row told twice with half the weight
    assert mmd2(X, X, wx, wx, 1.5) == pytest.approx(0, abs=1e-14)
    assert mmd2(X, Y) == pytest.approx(mmd2(3*X, 3*Y), abs=1e-11)                                       # the median follows the unit


def test_far_from_the_origin_no_digits_are_lost():
    X, Y, wx, wy = two_sets(30, 20, 5, 2)
    assert mmd2(X + 1e6, Y + 1e6, wx, wy, 2.) == pytest.approx(mmd2(X, Y, wx, wy, 2.), abs=1e-8)
    assert gaussian_kernel(X + 1e6, Y + 1e6, 2.) == pytest.approx(np.exp(-cdist(X, Y)**2/8), abs=1e-7)


def test_float32_rows_give_the_value_of_the_same_numbers():
    X, Y, wx, wy = two_sets(50, 40, 6, 3)
    X, Y = X.astype(np.float32), Y.astype(np.float32)
    assert mmd2(X, Y, wx, wy) == pytest.approx(mmd2(X.astype(float), Y.astype(float), wx, wy), abs=1e-12)


def gaussian_mean_kernel(delta, variances, sigma):
    "E k(x, y) of independent normal x, y with means apart by delta and these variances of each coordinate."
    total = sigma**2 + sum(variances)
    return (sigma**2/total)**(len(delta)/2)*math.exp(-(delta @ delta)/(2*total))


def mixture_mmd2(parts_p, parts_q, sigma):
    "MMD² of two mixtures of (share, mean, variance), in closed form."
    def mean(A, B): return sum(a*b*gaussian_mean_kernel(m - n, (v, u), sigma) for a, m, v in A for b, n, u in B)
    return mean(parts_p, parts_p) + mean(parts_q, parts_q) - 2*mean(parts_p, parts_q)


def draw_mixture(parts, n, rng):
    which = rng.choice(len(parts), n, p=[share for share, _, _ in parts])
    return np.array([parts[i][1] for i in which]) + rng.normal(size=(n, len(parts[0][1])))*np.sqrt([parts[i][2] for i in which])[:, None]


P = [(.7, np.zeros(3), 1.), (.3, np.array([3., 0, 0]), .25)]
Q = [(.4, np.zeros(3), 1.), (.6, np.array([0, 2., 0]), .5)]


def test_property_21_three_routes_agree():
    rng, truth = np.random.default_rng(0), mixture_mmd2(P, Q, 1.5)
    by_pairs = np.array([mmd2(draw_mixture(P, 200, rng), draw_mixture(Q, 150, rng), bandwidth=1.5, unbiased=True) for _ in range(60)])
    assert abs(by_pairs.mean() - truth) < 3.5*by_pairs.std()/math.sqrt(60) and by_pairs.std() < .2*truth
    X, Y = draw_mixture(P, 8000, rng), draw_mixture(Q, 8000, rng)
    by_features = [mmd2(X, Y, bandwidth=1.5, unbiased=True, features=2048, seed=s) for s in range(4)]
    assert np.mean(by_features) == pytest.approx(truth, rel=.06)


def test_bias_is_known():
    rng, n, m, sigma = np.random.default_rng(1), 12, 20, 1.5
    pairs = [(draw_mixture(P, n, rng), draw_mixture(P, m, rng)) for _ in range(500)]
    inside = sum(a*b*gaussian_mean_kernel(u - v, (s, t), sigma) for a, u, s in P for b, v, t in P)
    for unbiased, expected in ((True, 0), (False, (1/n + 1/m)*(1 - inside))):
        values = np.array([mmd2(X, Y, bandwidth=sigma, unbiased=unbiased) for X, Y in pairs])
        assert abs(values.mean() - expected) < 3.5*values.std()/math.sqrt(500)
    assert min(mmd2(X, Y, bandwidth=sigma, unbiased=True) for X, Y in pairs) < 0 <= min(mmd2(X, Y, bandwidth=sigma) for X, Y in pairs)


# Bandwidth ---------------------------------------------------------------------------------------------------------------

def test_bandwidth_is_the_median_of_the_pooled_rows():
    X, Y, *_ = two_sets(60, 40, 5, 4)
    assert median_bandwidth(X, Y) == pytest.approx(np.median(pdist(np.r_[X, Y])), abs=1e-12)
    assert median_bandwidth(X, Y, most=30) == pytest.approx(np.median(pdist(np.r_[X, Y])), rel=.15)
    assert median_bandwidth(X, Y, most=30, seed=1) != median_bandwidth(X, Y, most=30) == median_bandwidth(X, Y, most=30)
    assert mmd2(X, Y) == mmd2(X, Y, bandwidth=median_bandwidth(X, Y))


def test_bandwidth_among_equal_rows():
    same = np.ones((50, 3), np.float32)*.57735
    assert median_bandwidth(np.r_[same, -same[:2]]) == pytest.approx(2, rel=1e-5)                        # rounding is no distance
    with pytest.raises(ValueError, match='all 52 rows are identical'): mmd2(same, same[:2])
    assert mmd2(same, same[:2], bandwidth=1) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match='identical'): resolve_bandwidth('median', same[:1])


# Features ----------------------------------------------------------------------------------------------------------------

def test_property_20_random_features_converge():
    rng = np.random.default_rng(0)
    X, Y, wx, wy = rng.normal(size=(120, 10)), rng.normal(size=(90, 10)) + .3, rng.dirichlet(np.ones(120)), rng.dirichlet(np.ones(90))
    exact, truth, errors, distance = gaussian_kernel(X, Y, 3.), mmd2(X, Y, wx, wy, 3.), {}, {}
    for R in (256, 1024, 4096):
        maps = [draw_features('rff', 10, R, 3., np.random.default_rng(s)) for s in range(8)]
        errors[R] = np.mean([np.sqrt(((psi(X) @ psi(Y).T - exact)**2).mean()) for psi in maps])
        distance[R] = np.sqrt(np.mean([(((mean_features(X, psi, wx) - mean_features(Y, psi, wy))**2).sum() - truth)**2 for psi in maps]))
    slope = np.polyfit(np.log(list(errors)), np.log(list(errors.values())), 1)[0]
    assert -.6 < slope < -.4 and errors[4096] < .02
    assert distance[4096] < distance[256] and distance[4096] < .1*truth


def test_random_features_are_unbiased_and_of_unit_length():
    X, Y, *_ = two_sets(8, 6, 3, 5)
    draws = np.stack([(psi := draw_features('rff', 3, 6, 1.5, np.random.default_rng(s)))(X) @ psi(Y).T for s in range(3000)])
    error = draws.std(0)/math.sqrt(3000)
    assert (np.abs(draws.mean(0) - gaussian_kernel(X, Y, 1.5)) < 4.5*error).all()
    assert (np.linalg.norm(psi(X), axis=1)) == pytest.approx(np.ones(8), abs=1e-6)
    assert psi(X).dtype == np.float32 and psi.dimension == 6 == psi(X).shape[1]
    assert draw_features('rff', 3, 7, 1., np.random.default_rng(0)).dimension == 8


def test_an_origin_keeps_digits():
    X, Y, *_ = two_sets(40, 30, 4, 6)
    assert mmd2(X + 1e7, Y + 1e7, bandwidth=2., features=2048) == pytest.approx(mmd2(X, Y, bandwidth=2., features=2048), abs=1e-5)


def test_property_19_projections_keep_lengths_on_average():
    d = np.random.default_rng(0).normal(size=24)
    lengths = ((projection_matrices(24, np.random.default_rng(1), count=20_000) @ d)**2).sum(1)
    assert abs(lengths.mean() - d @ d) < 4*lengths.std()/math.sqrt(20_000)
    assert projection_matrices(24, np.random.default_rng(1)).shape == (32, 6, 24)


@pytest.mark.parametrize('width', [1, 2, 3, 4, 16, 50])
def test_linear_features_are_the_projections(width):
    "Few features, the same objective as all 32 projections."
    d, theta = np.random.default_rng(0).normal(size=(5, width)), projection_matrices(width, np.random.default_rng(7))
    psi = draw_features('linear', width, 2048, 1., np.random.default_rng(7))
    spelled = np.array([np.mean([(t @ row) @ (t @ row) for t in theta]) for row in d])
    assert (psi(d)**2).sum(1) == pytest.approx(spelled, rel=1e-4) and psi.dimension <= max(width, 32)
    assert mean_features(d, psi) == pytest.approx(psi(d.mean(0, keepdims=True))[0], abs=1e-5)           # means are all they see


def test_relu_features_are_the_arc_cosine_kernel():
    X = np.random.default_rng(0).normal(size=(6, 5))
    draws = np.mean([(psi := draw_features('relu', 5, 2000, 1., np.random.default_rng(s)))(X) @ psi(X).T for s in range(60)], axis=0)
    length = np.linalg.norm(X, axis=1)
    angle = np.arccos(np.clip(X @ X.T/np.outer(length, length), -1, 1))
    assert draws == pytest.approx(np.outer(length, length)*(np.sin(angle) + (np.pi - angle)*np.cos(angle))/np.pi, rel=.05, abs=.05)   # Cho and Saul 2009


@check(st.integers(1, 40), widths, seeds, st.sampled_from([1, 7, 4096]))
def test_mean_features_block_by_block(n, d, seed, block):
    rng = np.random.default_rng(seed)
    X, w, psi = rng.normal(size=(n, d)), rng.dirichlet(np.ones(n)), draw_features('rff', d, 32, 1., rng)
    assert mean_features(X, psi, w, block) == pytest.approx(w @ psi(X), abs=1e-6)
    assert mean_features(X, psi, None, block) == pytest.approx(psi(X).mean(0), abs=1e-6)


def test_features_are_data():
    psi = draw_features('rff', 3, 8, 1., np.random.default_rng(0))
    assert isinstance(psi, FeatureMap) and (psi.matrix == draw_features('rff', 3, 8, 1., np.random.default_rng(0)).matrix).all()
    with pytest.raises(ValueError, match="got 'fourier'"): draw_features('fourier', 3, 8, 1., np.random.default_rng(0))
    with pytest.raises(ValueError, match='at least 2, got 1'): draw_features('rff', 3, 1, 1., np.random.default_rng(0))


# What is chance ----------------------------------------------------------------------------------------------------------

@check(st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), seeds, st.sampled_from([1, 5, 100]))
def test_kernel_sums_answer_many_questions(n, d, groups, questions, seed, block):
    rng = np.random.default_rng(seed)
    Z, U = rng.normal(size=(n, d)), rng.normal(size=(n, groups, questions))
    K = np.exp(-cdist(Z, Z)**2/(2*1.4**2))
    assert kernel_sums(Z, U, 1.4, block) == pytest.approx(np.einsum('iat,ij,jbt->abt', U, K, U), abs=1e-11)


def test_permutation_test_is_the_slow_one():
    X, Y, *_ = two_sets(12, 9, 2, 7)
    found, Z, rng = permutation_test(X, Y, times=50, bandwidth=1., seed=3), np.concatenate([X, Y]), np.random.default_rng(3)
    null = []
    for _ in range(50):
        first = rng.permutation(21)[:12]
        null.append(by_loops(Z[first], np.delete(Z, first, 0), np.full(12, 1/12), np.full(9, 1/9), 1., unbiased=True))
    observed = by_loops(X, Y, np.full(12, 1/12), np.full(9, 1/9), 1., unbiased=True)
    assert found.null == pytest.approx(sorted(null), abs=1e-11) and found.mmd2 == pytest.approx(observed, abs=1e-12)
    assert found.p_value == pytest.approx((1 + sum(v >= observed for v in null))/51)
    assert permutation_test(X, X[::-1] + 9, times=99).p_value == .01
    two = permutation_test([[0.], [0]], [[1.], [1]], times=600, bandwidth=1.)
    assert two.p_value == pytest.approx(1/3, abs=.08)                                                   # one split in three is as extreme: ties count


def test_p_values_are_uniform_without_a_difference():
    rng = np.random.default_rng(0)
    p = np.array([permutation_test(rng.normal(size=(15, 2)), rng.normal(size=(25, 2)), times=39, bandwidth=1.5, seed=s).p_value for s in range(400)])
    for level in (.05, .1, .25, .5): assert abs((p <= level).mean() - level) < 3.5*math.sqrt(level*(1 - level)/400)


@pytest.mark.parametrize('unbiased', [True, False])
def test_noise_floor_is_that_of_fresh_samples(unbiased):
    rng = np.random.default_rng(0)
    floor = noise_floor(rng.normal(size=(600, 3)), sizes=(80, 200), bandwidth=2., unbiased=unbiased, times=300)
    fresh = np.array([mmd2(rng.normal(size=(80, 3)), rng.normal(size=(200, 3)), bandwidth=2., unbiased=unbiased) for _ in range(300)])
    assert floor.sizes == (80, 200) and (np.diff(floor.values) >= 0).all()
    assert abs(floor.values.mean() - fresh.mean()) < .12*fresh.std()*3
    for q in (.25, .5, .75, .95): assert abs(floor.quantile(q) - np.quantile(fresh, q)) < .35*fresh.std()


def test_noise_floor_by_hand():
    "Four rows in two pairs: one split in three has MMD 0, the others that of the pairs' ends."
    Z = np.array([[0.], [0], [1], [1]])
    floor, k = noise_floor(Z, times=300, bandwidth=1.), math.exp(-.5)
    assert sorted(set(floor.values.round(9))) == pytest.approx([0, 2 - 2*k], abs=1e-9)
    assert (floor.values > .1).mean() == pytest.approx(1/3, abs=.1)                                     # 2 of the 6 splits
    doubled = noise_floor(Z, sizes=(4, 4), times=300, bandwidth=1.)
    assert doubled.values == pytest.approx(floor.values/2, abs=1e-12)
    assert '2 against 2 rows' in repr(floor) and noise_floor(Z, bandwidth=1.).sizes == (2, 2)


def test_interval_covers_the_truth():
    rng, truth = np.random.default_rng(0), mixture_mmd2(P, Q, 1.5)
    ends = np.array([mmd2_interval(draw_mixture(P, 80, rng), draw_mixture(Q, 60, rng), bandwidth=1.5, times=60, level=.9, seed=s) for s in range(150)])
    covered = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    assert .82 <= covered <= .97
    assert np.median(np.ptp(ends, axis=1)) < truth                                                      # and says something


def test_interval_with_weights_and_without_difference():
    rng = np.random.default_rng(1)
    X, Y, w = rng.normal(size=(60, 2)), rng.normal(size=(50, 2)), rng.dirichlet(np.ones(50))
    low, high = mmd2_interval(X, Y, bandwidth=2.)
    assert low < 0 < high
    assert mmd2_interval(X, Y, bandwidth=2., unbiased=False)[0] >= 0
    held = np.r_[w, np.zeros(30)]                                                                       # rows without weight do not count
    assert mmd2_interval(X, np.r_[Y, Y[:30] + 50], wy=held, bandwidth=2.) == mmd2_interval(X, Y, wy=w, bandwidth=2.)
    assert mmd2_interval(X, Y, bandwidth=2., seed=1) != mmd2_interval(X, Y, bandwidth=2.) == mmd2_interval(X, Y, bandwidth=2., seed=0)
    low, high = mmd2_interval(X, Y + 1, bandwidth=2.)
    assert low < mmd2(X, Y + 1, bandwidth=2., unbiased=True) < high


# Witness -----------------------------------------------------------------------------------------------------------------

@check(sizes, sizes, widths, seeds)
def test_witness_divides_mmd2_among_the_rows(n, m, d, seed):
    X, Y, wx, wy = two_sets(n, m, d, seed)
    f = {name: witness(Z, X, Y, wx, wy, 1.5) for name, Z in {'X': X, 'Y': Y}.items()}
    assert wx @ f['X'] - wy @ f['Y'] == pytest.approx(mmd2(X, Y, wx, wy, 1.5), abs=1e-11)
    def nearness(Z, w): return sum(v*math.exp(-math.dist(X[0], z)**2/4.5) for v, z in zip(w, Z))
    assert f['X'][0] == pytest.approx(nearness(X, wx) - nearness(Y, wy), abs=1e-11)
    assert kernel_mean(X, Y, wy, 1.5, block_size=3) == pytest.approx(gaussian_kernel(X, Y, 1.5) @ wy, abs=1e-12)


def test_witness_is_the_best_of_its_kind():
    "No other function of the unit ball tells the sides better apart: the normalised witness attains MMD."
    X, Y, wx, wy = two_sets(20, 15, 2, 8)
    Z, u = np.r_[X, Y], np.r_[wx, -wy]
    K = gaussian_kernel(Z, Z, 1.)
    def told(c): return (u @ K @ c)/math.sqrt(c @ K @ c)                                                # E_P f − E_Q f for f = Σ c k(z, ·) of norm 1
    assert told(u) == pytest.approx(math.sqrt(mmd2(X, Y, wx, wy, 1.)), abs=1e-10)
    rng = np.random.default_rng(0)
    assert max(told(u + rng.normal(size=35)*s) for s in (.001, .01, .1, 1) for _ in range(100)) <= told(u)


# Bad input ---------------------------------------------------------------------------------------------------------------

GOOD = np.random.default_rng(0).normal(size=(6, 3))


@pytest.mark.parametrize('X, message', [
    (np.empty((0, 3)), 'at least one row'), (np.empty((4, 0)), 'at least one row'), (np.ones(3), r'got \(3,\)'), (np.full((2, 3), np.nan), '2 of 2 rows'),
    ([[1, 2, np.inf], [0, 0, 0]], 'the first is row 0'),
    (['a', 'b'], 'embed texts first'), ([['a', 'b', 'c']], 'embed texts first'), ([[1, 2], [1]], 'rows of numbers of one length'),
    (np.ones((2, 4)), 'X has 3 dimensions|Y has 3 dimensions'),
    (np.array([[None, 1, 2]]), 'must be numbers'), (np.ones((2, 3), complex), 'must be numbers'), (np.ones((2, 3, 1)), 'shape')], ids=repr)
def test_vectors_are_refused(X, message):
    for function in (mmd2, permutation_test, mmd2_interval, lambda X, Y: witness(GOOD, X, Y)):
        with pytest.raises(ValueError, match=message): function(X, GOOD)


@pytest.mark.parametrize('w, message', [([.5, .5], r'shape \(2,\) where \(6,\)'), ([.5]*6, 'the sum is 3'), ([-.5, 1.5, 0, 0, 0, 0], 'got -0.5 at 0'), ([np.nan]*6, 'finite'),
                                        ([0]*6, 'the sum is 0'), ([[1/6]]*6, 'shape'), ([np.inf, 0, 0, 0, 0, 0], 'finite')], ids=repr)
def test_weights_are_refused(w, message):
    for function in (lambda: mmd2(GOOD, GOOD, w), lambda: mmd2(GOOD, GOOD + 1, wy=w), lambda: mmd2_interval(GOOD, GOOD, w), lambda: check_weights(w, 6)):
        with pytest.raises(ValueError, match=message): function()


def test_weights_of_float32_are_taken():
    w = np.random.default_rng(0).dirichlet(np.ones(100_000)).astype(np.float32)
    assert check_weights(w, 100_000).sum() == pytest.approx(1, abs=1e-12)
    assert check_weights(None, 3).tolist() == [1/3]*3


@pytest.mark.parametrize('call, message', [
    (lambda: mmd2(GOOD, GOOD[:1], unbiased=True), 'at least two rows'), (lambda: mmd2(GOOD, GOOD, [1, 0, 0, 0, 0, 0], unbiased=True), 'at least two rows'),
    (lambda: mmd2(GOOD, GOOD, bandwidth=0), 'got 0'), (lambda: mmd2(GOOD, GOOD, bandwidth=math.nan), 'got nan'), (lambda: mmd2(GOOD, GOOD, bandwidth='scott'), "'scott'"),
    (lambda: mmd2(GOOD, GOOD, features=1), 'at least 2'),
    (lambda: permutation_test(GOOD, GOOD[:1]), 'at least 2 of each'), (lambda: permutation_test(GOOD, GOOD, times=0), 'times'),
    (lambda: noise_floor(GOOD[:3]), '3 real rows'), (lambda: noise_floor(GOOD, sizes=(0, 3)), 'positive'), (lambda: mmd2_interval(GOOD, GOOD), 'at least 10'),
    (lambda: mmd2_interval(np.tile(GOOD, (2, 1)), np.tile(GOOD, (2, 1)), level=1), 'level')], ids=range(12))
def test_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message): call()


def test_checked_vectors_are_not_copied():
    for X in (GOOD, GOOD.astype(np.float32)): assert check_vectors(X) is X
    assert check_vectors([[1, 2]]).dtype == np.float64 == check_vectors(np.ones((1, 2), np.float16)).dtype
