"Weights by the dual: against solvers that know all weights, whatever the blocks; and bounds that hold."
import numpy as np
import pytest
from scipy.optimize import minimize
from synthlab.align.blocks import BlockWeights, block_sums, evaluate_sums, length_factor, mmd2_blocks, solve_dual
from synthlab.align.mmd import draw_features, mean_features, mmd2
from synthlab.align.solver import fista
from synthlab.align.weights import BlockProblem
from synthlab.blocks import write_block

R = 128


def sides(n=2000, seed=0, dim=12):
    "Real and synthetic rows around eight centres in other proportions."
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, dim))
    def draw(shares): return (centres[rng.choice(8, n, p=shares)] + .4*rng.normal(size=(n, dim))).astype(np.float32)
    return draw(np.full(8, 1/8)), draw(rng.dirichlet(np.ones(8)))


def centred(real, synthetic, n_features=R):
    psi = draw_features('rff', real.shape[1], n_features, 2., np.random.default_rng(1))
    mu = mean_features(real, psi)
    return psi, mu, psi(synthetic).astype(np.float64) - mu


def weights_at(best, F, evenness, cap):
    return best.scale*np.clip(1 - (F @ best.point[:-1] + best.point[-1])/(2*evenness), 0, cap) + best.shift


@pytest.mark.parametrize('cap', [np.inf, 4.])
@pytest.mark.parametrize('evenness', [1e-2, 1e-4])
def test_same_weights_as_the_solver_of_all_weights(evenness, cap):
    "2,000 rows; what the gaps allow is the root of gap over evenness."
    real, synthetic = sides()
    psi, mu, F = centred(real, synthetic)
    M = len(F)
    direct = fista(BlockProblem(synthetic, psi, mu), ridge=evenness*M, cap=min(1., cap/M), tol=1e-8, max_iter=20_000)
    found = solve_dual(lambda point: block_sums(F, point, evenness, cap), R, evenness, cap, tol=1e-9, factor=length_factor(F, evenness))
    u = weights_at(found.best, F, evenness, cap)
    assert found.converged and direct.converged and found.gap <= 1e-7
    assert abs(found.best.value - direct.value) <= found.gap + direct.gap + 1e-8
    assert np.sqrt(((u - M*direct.weights)**2).mean()) <= np.sqrt(found.gap/evenness) + np.sqrt(direct.gap/evenness)
    assert abs(u.mean() - 1) < 1e-9 and u.min() >= 0 and u.max() <= cap + 1e-9


def test_nothing_better_is_found_by_a_general_solver():
    real, synthetic = sides(40)
    _, _, F = centred(real, synthetic, 16)
    def P(u): return ((u @ F/len(F))**2).sum() + 1e-3*((u - 1)**2).mean()
    peer = minimize(P, np.ones(40), bounds=[(0, 3)]*40, constraints={'type': 'eq', 'fun': lambda u: u.mean() - 1}, options={'ftol': 1e-14, 'maxiter': 1000})
    found = solve_dual(lambda point: block_sums(F, point, 1e-3, 3.), 16, 1e-3, 3., tol=1e-9)
    assert abs(found.best.value - peer.fun) <= found.gap + 1e-8
    assert P(weights_at(found.best, F, 1e-3, 3.)) == pytest.approx(found.best.value, abs=1e-12)


@pytest.mark.parametrize('cap', [np.inf, 2.])
def test_bounds_hold_at_any_prices(cap):
    real, synthetic = sides(200)
    _, _, F = centred(real, synthetic, 32)
    drift, rng = F.mean(0), np.random.default_rng(0)
    best = solve_dual(lambda point: block_sums(F, point, 1e-2, cap), 32, 1e-2, cap, tol=1e-9).best.value
    for size in 10.**rng.uniform(-4, 2, 100):
        point = size*rng.normal(size=33)
        found = evaluate_sums(block_sums(F, point, 1e-2, cap), point, drift, 1e-2, cap)
        u = weights_at(found, F, 1e-2, cap)
        assert found.dual <= best + 1e-7 and found.value >= best - 1e-7
        assert abs(u.mean() - 1) < 1e-9 and u.min() >= -1e-12 and u.max() <= cap + 1e-9
        assert found.value == pytest.approx(((u @ F/200)**2).sum() + 1e-2*((u - 1)**2).mean(), abs=1e-7)


@pytest.mark.parametrize('pieces', [1, 3, 40])
def test_the_cut_does_not_matter(tmp_path, pieces):
    real, synthetic = sides(600)
    options = dict(n_features=R, evenness=1e-2, cap=3., tol=1e-6, sample=200)
    for number, block in enumerate(np.array_split(synthetic, pieces)): write_block(tmp_path/f'{number:03}.parquet', block)
    whole, cut = BlockWeights(**options).fit([real], [synthetic.astype(np.float16)]), BlockWeights(**options).fit(np.array_split(real, 5), tmp_path)
    apart = np.sqrt(((whole.weigh(synthetic) - cut.weigh(synthetic))**2).mean())
    assert apart <= 2*np.sqrt(max(whole.gap_, cut.gap_)/1e-2) + 1e-4 and cut.bandwidth_ == pytest.approx(whole.bandwidth_, abs=1e-6)
    assert whole.mmd2_uniform_ == pytest.approx(cut.mmd2_uniform_, abs=1e-7) and cut.converged_


def test_classes_keep_their_sums_and_the_cap():
    (real, synthetic), labels = sides(900), np.array(list('abc'))[np.arange(900) % 3]
    blocks = [(synthetic[at:at + 150], labels[at:at + 150].tolist()) for at in range(0, 900, 150)]
    fitted = BlockWeights(R, evenness=1e-3, cap=2.5).fit([(real, labels.tolist())], blocks, by_label=True)
    u = fitted.weigh(synthetic, labels.tolist())
    assert [u[labels == name].mean() for name in 'abc'] == pytest.approx([1]*3, abs=1e-5) and u.max() <= 2.5 + 1e-9
    alone = BlockWeights(R, evenness=1e-3, cap=2.5, bandwidth=fitted.bandwidth_).fit([real[labels == 'b']], [synthetic[labels == 'b']])
    assert fitted.classes_[1]['MMD of equal weights'] == pytest.approx(alone.mmd2_uniform_**.5, rel=.2) and fitted.ess_ == pytest.approx(u.sum()**2/(u @ u), rel=1e-4)


def test_the_distance_is_that_of_all_pairs():
    real, synthetic = sides(500)
    values = [mmd2_blocks([real], np.array_split(synthetic, 4), bandwidth=2., n_features=4096, seed=seed) for seed in range(5)]
    assert np.mean(values) == pytest.approx(mmd2(real, synthetic, bandwidth=2.), abs=4*np.std(values)/2)


def test_edges():
    real, synthetic = sides(100)
    same = BlockWeights(R).fit([real], [real])
    assert same.mmd2_uniform_ < 1e-12 and np.allclose(same.weigh(real), 1) and same.passes_ == 1
    copies = BlockWeights(R).fit([real], [np.repeat(synthetic[:1], 50, 0)])
    assert np.allclose(copies.weigh(synthetic[:1]), 1, atol=1e-2) and copies.converged_
    one = BlockWeights(R).fit([real], [synthetic[:1]])
    assert one.weigh(synthetic[:1]) == pytest.approx([1], abs=1e-2)
    for options, told in (({'evenness': 0}, 'evenness must be over 0'), ({'cap': .5}, 'cap must be over 1'), ({'sample': 0}, 'sample must be at least 1'), ({'tol': -1}, 'tol must be over 0')):
        with pytest.raises(ValueError, match=told): BlockWeights(**options).fit([real], [synthetic])
    with pytest.raises(ValueError, match='use one encoder'): BlockWeights(R).fit([real], [synthetic[:, :5]])
