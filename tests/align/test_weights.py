"Weights of synthetic rows: solvers beside SLSQP and linear programs, planted faults, resampling beside its formula, bad input."
import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from synthlab.align import weights as alignment
from synthlab.align.mmd import draw_features, gaussian_kernel, mean_features
from synthlab.align.solver import (
    FeatureProblem, KernelProblem, best_corner, fista, frank_wolfe_gap, lipschitz, project_simplex)
from synthlab.align.weights import (
    BlockProblem, MMDWeights, add_weights, choose_storage, effective_size, herd, inclusion_probabilities, loss_weights,
    mmd2, plot_alignment, plot_witness, resample, row_witness, witness, witness_examples)


def check(*strategies, examples=40):
    "Test on random examples: always the same ones, without a time limit."
    return lambda test: settings(deadline=None, derandomize=True, max_examples=examples)(given(*strategies)(test))


seeds = st.integers(0, 10**6)
LINEAR = {'type': 'eq', 'fun': lambda w: w.sum() - 1}


def slsqp(F, n, cap=1.):
    found = minimize(F, np.full(n, 1/n), method='SLSQP', bounds=[(0, cap)]*n, constraints=LINEAR, options={'ftol': 1e-15, 'maxiter': 1000})
    return found.x, found.fun


def quiet(function, *args, **settings_):
    with warnings.catch_warnings(action='ignore'): return function(*args, **settings_)


def toy(M, R, seed, outside=.3):
    "Features and a target that is a mixture of them, moved a little outside."
    rng = np.random.default_rng(seed)
    Phi = rng.normal(size=(M, R)) + 1
    return Phi, rng.dirichlet(np.ones(M)) @ Phi + outside*rng.normal(size=R)


def objective(Phi, mu, ridge=0.):
    return lambda w: float(((w @ Phi - mu)**2).sum() + ridge*((w - 1/len(Phi))**2).sum())


# Projection --------------------------------------------------------------------------------------------------------------

@check(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.floats(0, 1), seeds, examples=200)
def test_the_projection_is_the_nearest_point(v, tight, seed):
    "No point of the simplex lies further along the direction from the projection to v; corners suffice to tell."
    v, n = np.array(v), len(v)
    cap = 1/n + tight*(1 - 1/n)
    w = project_simplex(v, cap)
    assert abs(w.sum() - 1) < 1e-12 and (w >= 0).all() and (w <= cap + 1e-12).all()
    assert (v - w) @ best_corner(w - v, cap) <= (v - w) @ w + 1e-9*(1 + np.abs(v).max())
    assert project_simplex(w, cap) == pytest.approx(w, abs=1e-12)


@pytest.mark.parametrize('v', [[0., 0, 0], [1e12, 1e12, 0], [1e17, 1e17, 0], [1e-300, 0, 0], [5.], [1, 1, 1, 1 + 1e-15], [-7, -7, -7]], ids=repr)
@pytest.mark.parametrize('tight', [0, .3, 1])
def test_the_projection_at_its_limits(v, tight):
    n = len(v)
    cap = 1/n + tight*(1 - 1/n)
    w = project_simplex(v, cap)
    assert abs(w.sum() - 1) < 1e-12 and (w >= 0).all() and (w <= cap + 1e-12).all()
    ties = {value: w[np.array(v) == value] for value in v}
    assert all(np.ptp(group) < 1e-12 for group in ties.values())


@pytest.mark.parametrize('v, cap', [([1, math.nan], 1), ([], 1), ([[1, 2]], 1), ([1, math.inf], 1), ([1, 2, 3], .3), ([1, 2], math.nan)], ids=repr)
def test_the_projection_refuses(v, cap):
    with pytest.raises(ValueError): project_simplex(v, cap)


@check(st.integers(1, 12), st.floats(0, 1), seeds)
def test_the_best_corner_is_that_of_a_linear_program(n, tight, seed):
    g, cap = np.random.default_rng(seed).normal(size=n), 1/n + tight*(1 - 1/n)
    corner = best_corner(g, cap)
    assert abs(corner.sum() - 1) < 1e-9 and corner.min() >= 0 and corner.max() <= cap + 1e-9
    assert g @ corner == pytest.approx(linprog(g, A_eq=np.ones((1, n)), b_eq=[1], bounds=(0, cap)).fun, abs=1e-7)


@pytest.mark.parametrize('seed', range(3))
def test_lipschitz_is_the_largest_eigenvalue_on_the_simplex(seed):
    Phi, mu = toy(60, 20, seed)
    centred = Phi - Phi.mean(0)
    expected = np.linalg.eigvalsh(centred @ centred.T)[-1]
    for problem in (FeatureProblem(Phi, mu), KernelProblem(Phi @ Phi.T, Phi @ mu, mu @ mu)):
        found = lipschitz(problem, ridge=.5, steps=200)
        assert found == pytest.approx(expected + .5, rel=1e-3)
        assert .7*expected < lipschitz(problem) <= expected*(1 + 1e-9)
    assert lipschitz(FeatureProblem(np.ones((5, 3)), np.zeros(3))) == pytest.approx(0, abs=1e-12)


# Solvers -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('M, R', [(12, 30), (30, 8), (25, 25), (2, 1), (1, 4)])
@pytest.mark.parametrize('ridge, cap', [(0, None), (.1, None), (.01, 2)])
def test_fista_reaches_slsqp(M, R, ridge, cap):
    Phi, mu = toy(M, R, 10*M + R)
    F, most = objective(Phi, mu, ridge), 1 if cap is None else min(1, cap/M)
    x, best = slsqp(F, M, most)
    for problem in (FeatureProblem(Phi, mu), KernelProblem(Phi @ Phi.T, Phi @ mu, mu @ mu)):
        found = quiet(fista, problem, ridge=ridge, cap=most, tol=1e-9, max_iter=20_000)
        assert found.value == pytest.approx(F(found.weights), abs=1e-8)
        assert F(found.weights) <= best + 1e-7*(1 + best) and best <= F(found.weights) + 1e-7*(1 + best)
        assert abs(found.weights.sum() - 1) < 1e-12 and found.weights.min() >= 0 and found.weights.max() <= most + 1e-12
        assert len(found.trace) == found.iterations + 1 and found.trace[-1, 1] == found.gap


@pytest.mark.parametrize('seed', range(4))
def test_property_14_the_gap_bounds_what_is_left(seed):
    Phi, mu = toy(40, 60, seed)
    F, problem = objective(Phi, mu, .05), FeatureProblem(Phi, mu)
    best = quiet(fista, problem, ridge=.05, tol=1e-12, max_iter=50_000)
    for tol in (1e-1, 1e-3, 1e-6):
        found = fista(problem, ridge=.05, tol=tol)
        assert found.converged and found.gap <= tol and -1e-9 <= F(found.weights) - best.value <= found.gap + 1e-9
    g = 2*Phi @ (best.weights @ Phi - mu) + .1*(best.weights - 1/40)
    multiplier = g @ best.weights
    assert (g >= multiplier - 1e-5).all() and g[best.weights > 1e-6] == pytest.approx(multiplier, abs=1e-5)   # the KKT conditions
    w = np.random.default_rng(seed).dirichlet(np.ones(40))
    at_w = 2*Phi @ (w @ Phi - mu) + .1*(w - 1/40)
    assert frank_wolfe_gap(w, at_w) >= F(w) - best.value and frank_wolfe_gap(w, at_w, .1) <= frank_wolfe_gap(w, at_w)


@pytest.mark.parametrize('seed', range(3))
def test_property_16_plain_steps_agree(seed):
    Phi, mu = toy(50, 80, seed)
    problem = FeatureProblem(Phi, mu)
    plain = quiet(fista, problem, ridge=.1, tol=1e-6, shrink=1, restart=False, max_iter=20_000)
    assert plain.value == pytest.approx(fista(problem, ridge=.1, tol=1e-6).value, abs=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_fista_keeps_its_textbook_rate_and_restarts_pay(seed):
    Phi, mu = toy(60, 100, seed)
    problem = FeatureProblem(Phi, mu)
    best, ell = fista(problem, ridge=.5, tol=1e-10, max_iter=20_000), 1.1*lipschitz(problem, .5)
    plain = quiet(fista, problem, ridge=.5, tol=1e-10, shrink=1, restart=False, max_iter=300)
    k = np.arange(1, plain.iterations + 1)
    assert (plain.trace[1:, 0] - best.value <= 4*ell*((best.weights - 1/60)**2).sum()/(k + 1)**2 + 1e-9).all()      # Beck and Teboulle, theorem 4.4
    restarted = quiet(fista, problem, ridge=.5, tol=1e-6, shrink=1, max_iter=5000)
    without = quiet(fista, problem, ridge=.5, tol=1e-6, shrink=1, restart=False, max_iter=5000)
    assert restarted.iterations < .7*without.iterations and fista(problem, ridge=.5, tol=1e-6).iterations < restarted.iterations


def test_what_was_not_reached_is_told():
    Phi, mu = toy(50, 80, 0)
    with pytest.warns(UserWarning, match='stopped after 2 steps with a gap of'): found = fista(FeatureProblem(Phi, mu), tol=1e-12, max_iter=2)
    assert not found.converged and found.iterations == 2 and found.gap > 1e-12


# The whole ---------------------------------------------------------------------------------------------------------------

def heap(rng, counts, width=16, apart=3.):
    "Clusters at the origin and along the axes."
    centres = np.r_[np.zeros((1, width)), apart*np.eye(width)]
    return np.concatenate([rng.normal(centres[k], .6, (n, width)) for k, n in enumerate(counts)])


def faults(seed=0):
    rng = np.random.default_rng(seed)
    return heap(rng, (560, 240)), heap(rng, (270, 270, 60)), np.repeat([0, 1, 2], [270, 270, 60])


REAL, SYNTHETIC, KIND = faults()


def small(**changes): return MMDWeights(**(dict(n_features=128, max_iter=300) | changes))


@pytest.mark.parametrize('features', ['rff', 'kernel', 'linear', 'relu'])
def test_properties_12_and_13_weights_on_the_simplex_below_all_others(features):
    fit = quiet(small(features=features, ridge=0, max_iter=600).fit, REAL[::4], SYNTHETIC[::4])
    w, M = fit.weights_, len(SYNTHETIC[::4])
    assert w.dtype == np.float64 and (w >= 0).all() and abs(w.sum() - 1) < 1e-12
    assert fit.ess_ == pytest.approx(1/(w @ w)) and 1 <= fit.ess_ <= M
    if features == 'kernel':
        K, kappa = gaussian_kernel(SYNTHETIC[::4], SYNTHETIC[::4], fit.bandwidth_), gaussian_kernel(SYNTHETIC[::4], REAL[::4], fit.bandwidth_).mean(1)
        def L(v): return v @ K @ v - 2*kappa @ v + gaussian_kernel(REAL[::4], REAL[::4], fit.bandwidth_).mean()
    else:
        Phi, mu = fit.features_(SYNTHETIC[::4]).astype(float), mean_features(REAL[::4], fit.features_)
        def L(v): return ((v @ Phi - mu)**2).sum()
    assert fit.mmd2_ == pytest.approx(L(w), rel=1e-3, abs=1e-7) and fit.mmd2_uniform_ == pytest.approx(L(np.full(M, 1/M)), rel=1e-4)
    assert fit.mmd_ == pytest.approx(math.sqrt(fit.mmd2_)) and fit.mmd_uniform_ == pytest.approx(math.sqrt(fit.mmd2_uniform_))
    others = np.random.default_rng(0).dirichlet(np.ones(M), size=1000)
    assert fit.mmd2_ <= fit.mmd2_uniform_ and fit.mmd2_ <= min(map(L, itertools.chain(others, np.eye(M)[:50])))


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('where', ['far', 'near', 'wide'])
def test_planted_junk_loses_its_weight_and_the_ratio_is_found(seed, where):
    rng = np.random.default_rng(seed)
    junk = {'far': rng.normal(0, .6, (60, 16)) + 8*np.eye(16)[2], 'near': rng.normal(0, .6, (60, 16)) + 2.5*np.eye(16)[2], 'wide': rng.normal(0, 2.5, (60, 16))}[where]
    for apart, within in ((6, .1), (3, .15)):                                                          # clusters that touch trade a little weight at their border
        w = MMDWeights(seed=seed).fit(heap(rng, (560, 240), apart=apart), np.r_[heap(rng, (270, 270), apart=apart), junk]).weights_
        assert w[540:].sum() < .03
        assert w[:270].sum()/w[270:540].sum() == pytest.approx(7/3, rel=within) and w[:270].sum() == pytest.approx(.7, rel=.1)


def test_planted_faults_on_unit_vectors():
    "As embeddings are: 384 dimensions, length 1."
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 384))/math.sqrt(384)
    def texts(*counts):
        X = np.concatenate([c + rng.normal(size=(n, 384))/math.sqrt(384)*.8 for c, n in zip(centres, counts)])
        return (X/np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    real, synthetic = texts(1400, 600), texts(450, 450, 100)
    fit = MMDWeights().fit(real, synthetic)
    w = fit.weights_
    assert w[900:].sum() < .03 and w[:450].sum()/w[450:900].sum() == pytest.approx(7/3, rel=.1) and fit.mmd_ < .3*fit.mmd_uniform_
    fresh = texts(1400, 600)
    assert mmd2(fresh, synthetic, wy=w) < .2*mmd2(fresh, synthetic)


def test_property_15_limits():
    with warnings.catch_warnings(action='error'): same = MMDWeights().fit(REAL, np.random.default_rng(0).permutation(REAL))
    assert same.weights_ == pytest.approx(np.full(800, 1/800), abs=1e-9) and same.mmd_ < 1e-3 and same.converged_ and same.ess_ == pytest.approx(800)
    rng = np.random.default_rng(0)
    Phi, q = rng.normal(size=(20, 60)), rng.dirichlet(np.ones(20))                                     # independent features: the planted weights come back
    assert fista(FeatureProblem(Phi, q @ Phi), tol=1e-12, max_iter=20_000).weights == pytest.approx(q, abs=1e-5)
    Phi, q = rng.normal(size=(150, 40)), rng.dirichlet(np.ones(150))                                   # fewer features than rows: the value 0, by other weights
    found = fista(FeatureProblem(Phi, q @ Phi), tol=1e-9, max_iter=20_000)
    assert found.value < 1e-8 and np.abs(found.weights - q).max() > .005
    even = small(ridge=1e7).fit(REAL, SYNTHETIC)
    assert even.weights_ == pytest.approx(np.full(600, 1/600), rel=1e-3)
    one = MMDWeights(n_features=128).fit(REAL, np.ones((5, 16)))
    assert one.weights_ == pytest.approx(np.full(5, .2)) and one.mmd_ == pytest.approx(one.mmd_uniform_)
    assert MMDWeights(n_features=128).fit(REAL, SYNTHETIC[:1]).weights_.tolist() == [1]
    assert abs(MMDWeights(n_features=128).fit(REAL[:1], SYNTHETIC).weights_.sum() - 1) < 1e-12


def test_property_15_permuted_and_doubled_candidates():
    S, rng = SYNTHETIC[::10], np.random.default_rng(1)
    order, exact = rng.permutation(len(S)), dict(features='kernel', bandwidth=3., ridge=.05, tol=1e-7, max_iter=50_000)
    fit = MMDWeights(**exact).fit(REAL, S)
    assert MMDWeights(**exact).fit(REAL, S[order]).weights_ == pytest.approx(fit.weights_[order], abs=2e-5)
    free, twice = (quiet(MMDWeights(**exact | {'ridge': 0}).fit, REAL, rows) for rows in (S, np.repeat(S, 2, 0)))
    assert twice.mmd2_ == pytest.approx(free.mmd2_, abs=2e-7)


def test_ridge_is_relative_to_the_rows_own_term():
    "The same weights in any unit of linear features, and the documented problem for the kernel."
    fits = [quiet(small(features='linear', ridge=.5, tol=1e-6, max_iter=5000).fit, c*REAL, c*SYNTHETIC[::6]).weights_ for c in (1, 100)]
    assert fits[0] == pytest.approx(fits[1], abs=1e-4)
    S = SYNTHETIC[::20]
    fit = MMDWeights(features='kernel', ridge=.2, tol=1e-7).fit(REAL, S)
    K, kappa = gaussian_kernel(S, S, fit.bandwidth_), gaussian_kernel(S, REAL, fit.bandwidth_).mean(1)
    x, _ = slsqp(lambda w: w @ K @ w - 2*kappa @ w + .2*((w - 1/30)**2).sum(), 30)
    assert fit.weights_ == pytest.approx(x, abs=2e-4)
    sizes = [quiet(small(ridge=r).fit, REAL, SYNTHETIC).ess_ for r in (0, 1e-2, 1, 100)]
    assert sizes == sorted(sizes)


def test_property_17_a_vertex_has_few_rows():
    "A linear program finds weights with the same mean features on at most R + 1 rows; FISTA's are spread wider."
    rng = np.random.default_rng(0)
    Phi, mu = rng.normal(size=(150, 40)), None
    mu = rng.dirichlet(np.ones(150)) @ Phi
    vertex = linprog(rng.normal(size=150), A_eq=np.c_[Phi, np.ones(150)].T, b_eq=np.r_[mu, 1], bounds=(0, 1), method='highs-ds').x
    spread = fista(FeatureProblem(Phi, mu), tol=1e-9, max_iter=20_000)
    assert np.count_nonzero(vertex > 1e-9) <= 41 and objective(Phi, mu)(vertex) < 1e-9 and spread.value < 1e-8
    assert effective_size(spread.weights) > 2*effective_size(vertex)


def test_linear_features_see_only_the_mean():
    "Two islands and what lies between them have one mean: nothing to do for linear features, everything for waves."
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal([-3, 1], .3, (200, 2)), rng.normal([3, 1], .3, (200, 2))])
    synthetic = np.concatenate([real[::2] + .01, rng.normal([0, 1], .3, (200, 2))])
    synthetic += real.mean(0) - synthetic.mean(0)
    middle = {f: MMDWeights(f, bandwidth=1. if f == 'rff' else 'median').fit(real, synthetic).weights_[200:].sum() for f in ('linear', 'rff')}
    assert middle['linear'] == pytest.approx(.5, abs=.01) and middle['rff'] < .03


def test_the_weights_hold_for_fresh_rows_and_the_exact_kernel():
    fit, fresh = MMDWeights().fit(REAL, SYNTHETIC), heap(np.random.default_rng(9), (1400, 600))
    for real in (REAL, fresh): assert mmd2(real, SYNTHETIC, wy=fit.weights_, bandwidth=fit.bandwidth_) < .15*mmd2(real, SYNTHETIC, bandwidth=fit.bandwidth_)
    exact = MMDWeights(features='kernel', bandwidth=fit.bandwidth_).fit(REAL, SYNTHETIC)
    assert exact.mmd2_ == pytest.approx(mmd2(REAL, SYNTHETIC, wy=exact.weights_, bandwidth=fit.bandwidth_), abs=1e-9)
    assert exact.mmd2_uniform_ == pytest.approx(mmd2(REAL, SYNTHETIC, bandwidth=fit.bandwidth_), abs=1e-12)
    assert exact.mmd2_ <= mmd2(REAL, SYNTHETIC, wy=fit.weights_, bandwidth=fit.bandwidth_) + exact.gap_


def test_the_same_seed_gives_the_same_weights():
    weights = [MMDWeights(n_features=256, seed=s).fit(REAL, SYNTHETIC).weights_ for s in (0, 0, 1)]
    assert (weights[0] == weights[1]).all() and (weights[0] != weights[2]).any()


def test_a_cap_bounds_every_weight():
    fit = MMDWeights(n_features=256, cap=2.5).fit(REAL, SYNTHETIC)
    assert fit.weights_.max() == pytest.approx(2.5/600, abs=1e-12) and fit.ess_ >= 600/2.5 and fit.converged_
    assert MMDWeights(n_features=256, cap=1).fit(REAL, SYNTHETIC).weights_ == pytest.approx(np.full(600, 1/600))
    loose = MMDWeights(n_features=256, cap=1e6).fit(REAL, SYNTHETIC)
    assert (loose.weights_ == MMDWeights(n_features=256).fit(REAL, SYNTHETIC).weights_).all()


# Classes -----------------------------------------------------------------------------------------------------------------

REAL_LABELS, LABELS = np.repeat(['joy', 'anger'], [560, 240]), np.where(KIND == 0, 'joy', 'anger')


@pytest.mark.parametrize('features', ['rff', 'kernel', 'linear'])
def test_classes_are_separate_fits(features):
    fit = small(features=features, bandwidth=3.).fit(REAL, SYNTHETIC, REAL_LABELS, LABELS)
    for found, name in zip(fit.classes_, ('joy', 'anger')):
        share = (LABELS == name).mean()
        alone = small(features=features, bandwidth=3.).fit(REAL[REAL_LABELS == name], SYNTHETIC[LABELS == name])
        assert found['label'] == name and found['share'] == pytest.approx(share)
        assert (found['real rows'], found['synthetic rows']) == ((REAL_LABELS == name).sum(), (LABELS == name).sum())
        assert fit.weights_[LABELS == name].sum() == pytest.approx(share, abs=1e-12)
        if features == 'kernel':                                                                        # features have another origin for a part of the rows
            assert fit.weights_[LABELS == name] == pytest.approx(share*alone.weights_, abs=1e-12) and found['MMD'] == pytest.approx(alone.mmd_)
        else: assert found['MMD of equal weights'] == pytest.approx(alone.mmd_uniform_, rel=.3)
    assert abs(fit.weights_.sum() - 1) < 1e-12
    assert fit.mmd2_ == pytest.approx(sum(c['share']*c['MMD']**2 for c in fit.classes_))
    assert fit.mmd2_uniform_ == pytest.approx(sum(c['share']*c['MMD of equal weights']**2 for c in fit.classes_))
    assert fit.n_iter_ == sum(c['steps'] for c in fit.classes_) == sum(len(t) - 1 for t in fit.traces_)


def test_shares_of_the_real_rows_and_kinds_of_labels():
    fit = small(shares='real').fit(REAL, SYNTHETIC, REAL_LABELS, LABELS)
    assert fit.weights_[LABELS == 'joy'].sum() == pytest.approx(.7, abs=1e-12)
    for kind in (list, tuple, pd.Series, lambda x: np.array(x, dtype=object)):
        assert (small(shares='real').fit(REAL, SYNTHETIC, kind(REAL_LABELS), kind(LABELS)).weights_ == fit.weights_).all()
    numbers = small(shares='real').fit(REAL, SYNTHETIC, (REAL_LABELS == 'joy').astype(int), [int(x == 'joy') for x in LABELS])
    assert (numbers.weights_ == fit.weights_).all()


def test_a_stream_of_real_rows():
    options = dict(n_features=128, bandwidth=3.)
    whole = MMDWeights(**options).fit(REAL, SYNTHETIC)
    for blocks in (iter([REAL]), [REAL[:300], REAL[300:]], (REAL[i:i + 1] for i in range(800)), (REAL[i:i + 77].tolist() for i in range(0, 800, 77)), map(np.asarray, [REAL])):
        assert (MMDWeights(**options).fit(blocks, SYNTHETIC).weights_ == whole.weights_).all()
    by_class = MMDWeights(**options).fit(REAL, SYNTHETIC, REAL_LABELS, LABELS)
    pairs = ((REAL[i:i + 77], REAL_LABELS[i:i + 77]) for i in range(0, 800, 77))
    assert (MMDWeights(**options).fit(pairs, SYNTHETIC, synthetic_labels=LABELS).weights_ == by_class.weights_).all()
    assert MMDWeights(n_features=128).fit(iter([REAL]), SYNTHETIC).bandwidth_ == MMDWeights(n_features=128).fit(REAL, SYNTHETIC).bandwidth_


def test_a_long_stream_is_cut_into_blocks_of_one_size():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(10_000, 4)) + 1
    fits = [quiet(MMDWeights(n_features=64, bandwidth=2., max_iter=50).fit, blocks, real[:50] + .1) for blocks in (real, np.array_split(real, 7), iter(np.array_split(real, 2)))]
    assert all((f.weights_ == fits[0].weights_).all() for f in fits[1:]) and fits[1].classes_[0]['real rows'] == 10_000
    labels, own = np.where(real[:, 0] > 1, 'a', 'b'), np.where(real[:50, 0] > 1, 'a', 'b')
    options = dict(n_features=64, bandwidth=2., max_iter=50)
    pairs = [(rows, names) for rows, names in zip(np.array_split(real, 7), np.array_split(labels, 7))]
    whole, streamed = quiet(MMDWeights(**options).fit, real, real[:50] + .1, labels, own), quiet(MMDWeights(**options).fit, pairs, real[:50] + .1, synthetic_labels=own)
    assert (whole.weights_ == streamed.weights_).all() and {c['label']: c['real rows'] for c in streamed.classes_} == {'a': (labels == 'a').sum(), 'b': (labels == 'b').sum()}


def test_rows_in_other_containers():
    import torch
    plain = small(bandwidth=3.).fit(REAL, SYNTHETIC).weights_
    column = Dataset.from_dict({'vector': REAL.tolist()})['vector']
    for real in (REAL.tolist(), list(REAL), tuple(map(tuple, REAL)), torch.from_numpy(REAL), pd.DataFrame(REAL), column):
        assert small(bandwidth=3.).fit(real, SYNTHETIC).weights_ == pytest.approx(plain, abs=1e-12)
    loader = torch.utils.data.DataLoader(torch.from_numpy(REAL), batch_size=90)
    assert (small(bandwidth=3.).fit(loader, SYNTHETIC).weights_ == plain).all()


def test_features_are_those_of_the_bandwidth_and_the_seed():
    fit = quiet(MMDWeights(n_features=8192, max_iter=1).fit, REAL, SYNTHETIC)
    psi = fit.features_(SYNTHETIC[:40])
    assert psi @ psi.T == pytest.approx(gaussian_kernel(SYNTHETIC[:40], SYNTHETIC[:40], fit.bandwidth_), abs=.05)
    pooled, (i, j) = np.r_[REAL, SYNTHETIC], np.random.default_rng(0).integers(1400, size=(2, 20_000))
    assert fit.bandwidth_ == pytest.approx(np.median(np.linalg.norm(pooled[i] - pooled[j], axis=1)), rel=.02)
    assert small(features='linear').fit(REAL, SYNTHETIC).bandwidth_ == fit.bandwidth_


@pytest.mark.parametrize('real_labels, labels, message', [
    (None, LABELS, 'labels on one side only'), (REAL_LABELS, None, 'labels on one side only'), (REAL_LABELS[:5], LABELS, '800 real rows and 5 real_labels'),
    (REAL_LABELS, LABELS[:5], '600 synthetic rows and 5 synthetic_labels'), (np.repeat(['joy', 'fear'], 400), LABELS, r"no synthetic rows of the labels \['fear'\]"),
    (np.repeat('joy', 800), LABELS, r"no real rows of the labels \['anger'\]")], ids=range(6))
@pytest.mark.parametrize('features', ['rff', 'kernel'])
def test_labels_are_refused(real_labels, labels, message, features):
    with pytest.raises(ValueError, match=message): small(features=features).fit(REAL, SYNTHETIC, real_labels, labels)


# Storage -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('storage', ['float32', 'recompute'])
def test_storage_changes_nothing(storage):
    fit, plain = (MMDWeights(n_features=256, storage=s, ridge=.1).fit(REAL, SYNTHETIC) for s in (storage, 'float32'))
    assert fit.storage_ == storage and fit.mmd2_ == pytest.approx(plain.mmd2_, rel=.05)
    psi, rng = draw_features('rff', 16, 64, 3., np.random.default_rng(0)), np.random.default_rng(0)
    mu, w = mean_features(REAL, psi), rng.dirichlet(np.ones(600))
    Phi, problem = psi(SYNTHETIC).astype(float), BlockProblem(SYNTHETIC, psi, mu, storage, block_size=101)
    r = w @ Phi - mu
    assert problem.residual(w) == pytest.approx(r, abs=3e-6) and problem.pull(r) == pytest.approx(Phi @ r, abs=3e-6)
    assert problem.value(w, r) == pytest.approx(r @ r) and problem.mean_square() == pytest.approx(1, abs=1e-3)


def test_storage_is_chosen_by_size():
    assert [choose_storage(M, 2048) for M in (500_000, 600_000)] == ['float32', 'recompute']
    assert choose_storage(10**9, 2048, 'float32') == 'float32'
    with pytest.raises(ValueError, match="got 'float16'"): choose_storage(5, 5, 'float16')
    with pytest.raises(ValueError, match="needs 8[.]0 GiB for 32,?768 synthetic rows"): small(features='kernel', bandwidth=1.).fit(REAL[:, :1], np.ones((32_768, 1)))


# Bad input ---------------------------------------------------------------------------------------------------------------

def with_row(X, row, value):
    X = X.copy(); X[row] = value
    return X


@pytest.mark.parametrize('real, synthetic, message', [
    (with_row(REAL, 3, np.nan), SYNTHETIC, '1 of 800 rows of real are not finite, the first is row 3'),
    (REAL, with_row(SYNTHETIC, 5, np.inf), 'of synthetic are not finite, the first is row 5'),
    (with_row(REAL, 7, 0), SYNTHETIC, '1 of 800 rows of real are zero, the first is row 7'),
    (REAL, with_row(SYNTHETIC, slice(2, 4), 0), '2 of 600 rows of synthetic are zero, the first is row 2'),
    (REAL, SYNTHETIC[:, :9], 'real has 16 dimensions where 9'), (REAL[:0], SYNTHETIC, 'at least one row'), (REAL, SYNTHETIC[:0], 'at least one row'),
    (iter([]), SYNTHETIC, 'no rows'),
    (REAL[0], SYNTHETIC, 'shape'), (['an oak'], SYNTHETIC, 'embed texts first'), (REAL, ['an oak'], 'embed texts first'), ('an oak', SYNTHETIC, 'embed texts first'),
    (np.ones((4, 16)), np.ones((3, 16)), 'all 7 rows are identical'), (iter([REAL, REAL[:, :3]]), SYNTHETIC, 'real block 1 has 3 dimensions'),
    (iter([(REAL, REAL_LABELS), REAL]), SYNTHETIC, 'some blocks of real rows have labels')], ids=range(15))
def test_vectors_are_refused(real, synthetic, message):
    with pytest.raises(ValueError, match=message): small().fit(real, synthetic)


@pytest.mark.parametrize('setting, message', [
    (dict(features='fourier'), "'fourier'"), (dict(shares='equal'), "'equal'"),
    (dict(ridge=-1e-3), 'got -0.001'), (dict(ridge=math.nan), 'ridge'), (dict(cap=.99), 'cap must be at least 1, got 0.99'),
    (dict(cap=math.nan), 'cap'), (dict(tol=0), 'tol'), (dict(max_iter=0), 'max_iter'), (dict(bandwidth=-1), 'bandwidth'),
    (dict(n_features=0), 'n_features'), (dict(storage='disk'), "'disk'")], ids=repr)
def test_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message): small(**setting).fit(REAL, SYNTHETIC)


def test_streams_cannot_do_everything():
    with pytest.raises(ValueError, match='needs all of them'): small(features='kernel').fit(iter([REAL]), SYNTHETIC)
    with pytest.raises(ValueError, match='pair'): small().fit(iter([REAL]), SYNTHETIC, REAL_LABELS, LABELS)


def test_input_is_not_changed_and_scaling_is_offered():
    real, synthetic = REAL.copy(), SYNTHETIC.copy()
    scaled = small(normalise=True).fit(real, synthetic)
    assert (real == REAL).all() and (synthetic == SYNTHETIC).all()
    unit = small().fit(*(X/np.linalg.norm(X, axis=1, keepdims=True) for X in (REAL, SYNTHETIC)))
    assert (scaled.weights_ == unit.weights_).all()


def test_it_shows_itself():
    fit = small()
    assert 'not fitted' in repr(fit) and 'not fitted' in fit._repr_html_()
    fit.fit(REAL, SYNTHETIC, REAL_LABELS, np.where(LABELS == 'joy', 'joy', 'anger'))
    assert f'600 rows worth {fit.ess_:,.0f}' in repr(fit) and 'anger<' in fit._repr_html_()
    tagged = small().fit(REAL, SYNTHETIC, ['<script>']*800, ['<script>']*600)
    assert '<script>' not in tagged._repr_html_()


# Resampling --------------------------------------------------------------------------------------------------------------

weight_lists = st.lists(st.floats(0, 1), min_size=1, max_size=30).filter(lambda w: sum(w) > 1e-3).map(lambda w: np.array(w)/sum(w))


@check(weight_lists, st.integers(1, 60), seeds, examples=150)
def test_draws_are_rows_with_weight(w, n, seed):
    for method in ('systematic', 'multinomial', 'unique'):
        if method == 'unique' and n > np.count_nonzero(w): continue
        drawn = resample(w, n, seed, method)
        assert drawn.shape == (n,) and drawn.dtype.kind == 'i' and (w[drawn] > 0).all() and (np.diff(drawn) >= 0).all()
        assert (drawn == resample(w, n, np.random.default_rng(seed), method)).all()
        if method == 'unique': assert len(set(drawn.tolist())) == n
        if method == 'systematic': assert (np.abs(np.bincount(drawn, minlength=len(w)) - n*w) < 1 + 1e-9).all()


def test_a_row_without_weight_is_not_drawn_at_the_border():
    assert alignment._systematic(np.array([0, .5, 0, .5, 0]), 2, 0.).tolist() == [1, 3]
    assert alignment._systematic(np.array([0, .5, 0, .5, 0]), 4, .999).tolist() == [1, 1, 3, 3]
    assert set(alignment._systematic(np.array([0, .5, 0, .5, 0]), 4, np.nextafter(1, 0)).tolist()) == {1, 3}


@check(weight_lists, seeds)
def test_inclusion_probabilities_are_proportional_and_at_most_one(w, seed):
    for n in range(1, np.count_nonzero(w) + 1):
        p = inclusion_probabilities(w, n)
        assert p.sum() == pytest.approx(n) and (p <= 1).all() and ((p > 0) == (w > 0)).all()
        below = (p < 1 - 1e-9) & (w > 1e-300)                                    # a row without weight has no ratio, and one of next to none overflows
        if below.sum() > 1: assert p[below]/w[below] == pytest.approx((p[below]/w[below])[0], rel=1e-6) and (p >= (1 - 1e-9)*np.minimum(1, n*w)).all()


@pytest.mark.parametrize('method, n', [('systematic', 7), ('multinomial', 7), ('unique', 4)])
def test_draws_are_right_on_average(method, n):
    w, rng = np.array([.45, .05, 0, .2, .02, .18, .1]), np.random.default_rng(0)
    counts = np.stack([np.bincount(resample(w, n, rng, method), minlength=7) for _ in range(4000)])
    expected = inclusion_probabilities(w, n) if method == 'unique' else n*w
    assert (np.abs(counts.mean(0) - expected) <= 4.5*counts.std(0)/math.sqrt(4000) + 1e-9).all()
    if method == 'multinomial': assert counts.var(0) == pytest.approx(n*w*(1 - w), rel=.12)


def test_property_18_the_cost_of_a_draw():
    fit, rng, m = MMDWeights(n_features=512).fit(REAL, SYNTHETIC), np.random.default_rng(0), 150
    w, sigma = fit.weights_, fit.bandwidth_
    K, kappa, within = gaussian_kernel(SYNTHETIC, SYNTHETIC, sigma), gaussian_kernel(SYNTHETIC, REAL, sigma).mean(1), gaussian_kernel(REAL, REAL, sigma).mean()
    def quick(index):
        v = np.bincount(index, minlength=600)/len(index)
        return within - 2*kappa @ v + v @ K @ v
    assert quick(np.arange(600)) == pytest.approx(mmd2(REAL, SYNTHETIC, bandwidth=sigma), abs=1e-10)
    values = np.array([quick(resample(w, m, rng, 'multinomial')) for _ in range(600)])
    predicted = mmd2(REAL, SYNTHETIC, wy=w, bandwidth=sigma) + (1 - w @ K @ w)/m
    assert abs(values.mean() - predicted) < 4*values.std()/math.sqrt(600) and values.std()/math.sqrt(600) < .02*predicted
    assert np.mean([quick(resample(w, m, rng)) for _ in range(100)]) < .7*predicted
    assert quick(herd(SYNTHETIC, m, w, bandwidth=sigma)) < .4*predicted


@pytest.mark.parametrize('call, message', [
    (lambda: resample([.5, .6], 3, 0), 'the sum is 1.1'), (lambda: resample([1.5, -.5], 3, 0), 'not negative'), (lambda: resample([math.nan, 1], 3, 0), 'finite'),
    (lambda: resample([], 3, 0), 'sum is 0'),
    (lambda: resample([1.], 0, 0), 'at least 1, got 0'), (lambda: resample([1.], 2.5, 0), 'whole number'), (lambda: resample([1.], 2, None), 'can be repeated'),
    (lambda: resample([1.], 2, 0, 'stratified'), "'stratified'"),
    (lambda: resample([.5, .5, 0], 3, 0, 'unique'), '2 rows have weight, and 3'),
    (lambda: herd(SYNTHETIC, 5), 'what to follow'), (lambda: herd(SYNTHETIC, 5, np.full(600, 1/600), REAL), 'what to follow'),
    (lambda: herd(SYNTHETIC, 601, real=REAL, unique=True), 'at most the 600'), (lambda: herd(SYNTHETIC, 0, real=REAL), 'at least 1'),
    (lambda: herd(SYNTHETIC, 5, [.5, .5]), 'shape'),
    (lambda: loss_weights([.5, .6]), 'the sum is 1.1'), (lambda: effective_size([0, 0]), 'not all 0'), (lambda: effective_size([-1, 2]), 'not negative')], ids=range(17))
def test_draws_are_refused(call, message):
    with pytest.raises(ValueError, match=message): call()


def test_herding_is_greedy():
    "Each pick is the one that brings the mean of the picked closest to the target; found by trying all."
    S, sigma = SYNTHETIC[::30], 2.5
    w = np.random.default_rng(0).dirichlet(np.ones(20))
    for target, options in ((dict(weights=w), (S, w)), (dict(real=REAL[::40]), (REAL[::40], None))):
        picked = []
        for _ in range(8):
            tried = [mmd2(options[0], S[picked + [j]], wx=options[1], bandwidth=sigma) for j in range(20)]
            picked.append(int(np.argmin(np.round(tried, 12))))
        assert herd(S, 8, bandwidth=sigma, **target).tolist() == picked
    assert sorted(herd(S, 20, w, bandwidth=sigma, unique=True).tolist()) == list(range(20))


def test_effective_size():
    rng = np.random.default_rng(0)
    w = rng.random(50)
    assert effective_size(w) == pytest.approx(w.sum()**2/(w**2).sum()) == pytest.approx(effective_size(1e-200*w)) and effective_size(w) == pytest.approx(effective_size(1e200*w))
    assert effective_size(np.ones(10**6)) == pytest.approx(10**6)


# Rows --------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', [list, pd.DataFrame, Dataset.from_list], ids=['list', 'DataFrame', 'Dataset'])
def test_weights_become_a_column(kind):
    rows, w = kind([{'text': 'an oak', 'label': 'tree'}, {'text': 'a tree', 'label': 'tree'}, {'text': 'a cat', 'label': 'cat'}]), [.5, .25, .25]
    written = add_weights(rows, loss_weights(w))
    column = [row['weight'] for row in written] if kind is list else list(written['weight'])
    assert type(written) is type(rows) and column == [1.5, .75, .75]
    assert 'weight' not in (rows[0] if kind is list else rows.columns if kind is pd.DataFrame else rows.column_names)
    with pytest.raises(ValueError, match='exists|already'): add_weights(written, w)
    with pytest.raises(ValueError, match='3 rows and weights of shape'): add_weights(rows, w[:2])
    with pytest.raises(ValueError, match='finite'): add_weights(rows, [1, math.nan, 0])


# Witness -----------------------------------------------------------------------------------------------------------------

def test_row_witness_leaves_each_row_out():
    R, S, w = REAL[::40], SYNTHETIC[::40], np.random.default_rng(0).dirichlet(np.ones(15))
    at_real, at_synthetic = row_witness(R, S, w, bandwidth=2.)
    for i in range(len(R)): assert at_real[i] == pytest.approx(witness(R[i:i + 1], np.delete(R, i, 0), S, wy=w, bandwidth=2.)[0], abs=1e-12)
    for j in range(len(S)):
        rest = np.delete(w, j)/np.delete(w, j).sum()
        assert at_synthetic[j] == pytest.approx(witness(S[j:j + 1], R, np.delete(S, j, 0), wy=rest, bandwidth=2.)[0], abs=1e-12)
    with pytest.raises(ValueError, match='at least one must be left'): row_witness(R[:1], S)
    with pytest.raises(ValueError, match='at least one must be left'): row_witness(R, S, np.eye(15)[0])


def test_examples_are_those_that_are_too_many_and_too_few():
    texts = [f'synthetic {k} {i}' for i, k in enumerate(KIND)]
    found = witness_examples([f'real {x} {i}' for i, x in enumerate(REAL_LABELS)], REAL, texts, SYNTHETIC, top=20)
    assert {side: len(rows) for side, rows in found.items()} == {'too many': 20, 'too few': 20, 'missing': 20}
    assert all(row['text'].split()[1] in '12' for row in found['too many']) and all(row['text'].startswith('synthetic 0') for row in found['too few'])
    assert all(row['text'].startswith('real joy') for row in found['missing']) and all(texts[row['row']] == row['text'] for row in found['too few'])
    assert [row['witness'] for row in found['too many']] == sorted(row['witness'] for row in found['too many'])
    assert found['missing'][0]['witness'] > 0 > found['too many'][0]['witness']
    same = witness_examples(['a']*800, REAL, ['b']*600, SYNTHETIC)
    assert [len(rows) for rows in same.values()] == [1, 1, 1]                                           # no text twice
    with pytest.raises(ValueError, match='1 real texts and 800 embeddings'): witness_examples(['a'], REAL, texts, SYNTHETIC)


def test_figures():
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    w = np.random.default_rng(0).dirichlet(np.ones(600))
    axes = plot_alignment(REAL[:, :2], SYNTHETIC[:, :2], w, size=10)
    before, after = (ax.collections[1].get_sizes() for ax in axes)
    assert before == pytest.approx(np.full(600, 10)) and after == pytest.approx(10*600*w) and f'{effective_size(w):,.0f} of 600' in axes[1].get_title()
    f = row_witness(REAL, SYNTHETIC)
    axes = plot_witness({'real': REAL[:, :2], 'synthetic': SYNTHETIC[:, :2]}, dict(zip(('real', 'synthetic'), f)))
    shown = axes[1].collections[0]
    assert np.asarray(shown.get_array()) == pytest.approx(f[1]) and shown.get_clim()[0] == -shown.get_clim()[1] == -max(np.abs(v).max() for v in f)
    with pytest.raises(ValueError, match='shape'): plot_alignment(REAL[:, :2], SYNTHETIC[:, :2], w[:5])
    plt.close('all')


def test_names_are_at_hand():
    assert {'mmd2', 'MMDWeights', 'resample', 'witness', 'effective_size'} <= set(alignment.__all__)
