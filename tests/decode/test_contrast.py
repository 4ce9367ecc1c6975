"Correlated sampling: golden values, and the properties of the specification against a version written from its definition."
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize
from scipy.special import logsumexp, rel_entr
from scipy.special import softmax as np_softmax
from synthlab.decode.contrast import (
    MODES, check_guidance, contrast_weights, correlate, kl_divergence, live_weights, mix, plausible, plausible_ceiling)
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

inf = math.inf


def check(*strategies):
    "Test on random examples: always the same ones, without a time limit."
    return lambda test: settings(deadline=None, derandomize=True, max_examples=60)(given(*strategies)(test))


# The definition, with probabilities, Python loops and float64 ------------------------------------------------------------

def brute_weights(labels, gamma, delta, mode, intra_share):
    "The table of modes, row by row."
    M, contrast = len(labels), gamma - delta
    weights = [[gamma if m == n else 0. for n in range(M)] for m in range(M)]
    for m in range(M):
        near = [n for n in range(M) if n != m and labels[n] == labels[m]]
        far = [n for n in range(M) if labels[n] != labels[m]]
        if mode == 'hybrid' and near and far: parts = [(near, intra_share), (far, 1 - intra_share)]
        else: parts = [({'cross': far, 'intra': near, 'hybrid': near + far, 'all': near + far}[mode], 1.)]
        for members, share in parts:
            for n in members: weights[m][n] = -contrast*share/len(members)
    return np.array(weights)


def brute_guided(z, weights, alpha):
    "Guided distributions (M, V): own impossible words stay so, those of others count as their least likely possible word."
    M, V = z.shape
    probs = [[math.exp(x - z[m].max()) for x in z[m]] for m in range(M)]
    probs = [[p/sum(row) for p in row] for row in probs]
    lifted = [[p or min(q for q in row if q) for p in row] for row in probs]
    result = np.zeros((M, V))
    for m in range(M):
        for v in range(V):
            if probs[m][v] and probs[m][v] >= alpha*max(probs[m]): result[m, v] = math.prod(lifted[n][v]**weights[m][n] for n in range(M))
        result[m] /= result[m].sum()
    return result


def brute_live(weights, alive, labels):
    "Lost weight stays in its share while somebody with weight lives there, then goes to the other share."
    M = len(weights)
    result = np.diag(np.diag(weights))
    for m in range(M):
        others = [n for n in range(M) if n != m and weights[m][n]]
        for share in ([n for n in others if labels[n] == labels[m]], [n for n in others if labels[n] != labels[m]]):
            heirs = [n for n in share if alive[n]] or [n for n in others if alive[n]]
            for n in heirs: result[m, n] += sum(weights[m][k] for k in share)*weights[m][n]/sum(weights[m][k] for k in heirs)
    return result


# Random groups -----------------------------------------------------------------------------------------------------------

eighths = st.integers(-64, 64).map(lambda i: i/8)                # exact in float32, and no ties with log(alpha)
alphas = st.sampled_from([0., .001, .013, .1, .37, 1.])


@st.composite
def scores(draw, rows, words, possible=False):
    "Scores (M, V), with impossible words unless `possible`, but at least one possible word per row."
    z = draw(hnp.arrays(float, (rows, words), elements=eighths))
    if possible or draw(st.booleans()): return z
    barred = draw(hnp.arrays(bool, (rows, words), elements=st.sampled_from([False, False, True])))
    barred[range(rows), [m % words for m in range(rows)]] = False
    return np.where(barred, -inf, z)


@st.composite
def guidance(draw):
    "Arguments of `contrast_weights` beside the labels."
    gamma = draw(st.floats(0, 3))
    return dict(gamma=gamma, delta=gamma*draw(st.floats(0, 1)), mode=draw(st.sampled_from(MODES)), intra_share=draw(st.floats(0, 1)))


@st.composite
def groups(draw, possible=False):
    "Scores (M, V), labels and guidance of a group."
    labels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    return draw(scores(len(labels), draw(st.integers(2, 10)), possible)), labels, draw(guidance())


def quiet_weights(labels, **how):
    "Weights of a group in which somebody may have nobody to contrast with."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return contrast_weights(labels, **how)


def guide(z, weights, alpha=0.): return correlate(torch.from_numpy(z), weights, alpha).double().softmax(-1).numpy()
def softmax(z): return np_softmax(z, axis=-1)
def power(z, exponent): return softmax(np.where(z == -inf, z, exponent*np.where(z == -inf, 0, z)))
def close(a, b, atol=2e-5): np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)


# Golden values -----------------------------------------------------------------------------------------------------------

SLOPES = torch.tensor([[2., 1, 0, -1], [0, 1, 2, -1], [1, 1, 1, 1]])
FOUR = torch.tensor([[2., 1, 0, -1], [1, 2, 0, -1], [0, 1, 2, -1], [-1, 1, 0, 2]])


def test_golden_two_tokens():
    guided = correlate(torch.tensor([[.8, .2], [.6, .4]]).log(), contrast_weights([0, 1], 1, .5)).softmax(-1)
    assert guided[:, 0].tolist() == pytest.approx([.765588, .428571], abs=5e-7)
    assert guided[0, 0]/guided[0, 1] == pytest.approx(4/math.sqrt(1.5), rel=1e-5)


@pytest.mark.parametrize(('gamma', 'delta', 'alpha', 'row', 'expected'), [
    (1, .9, 0, 0, (.655852, .229507, .080313, .034327)), (1, .9, 0, 2, (.236888, .236888, .236888, .289336)),
    (1, .5, 0, 0, (.698072, .200001, .057301, .044626)), (1, .5, 0, 1, (.057301, .200001, .698072, .044626)),
    (1, .5, 0, 2, (.174878, .174878, .174878, .475367)), (1, 0, 0, 0, (.738006, .164671, .036743, .060579)),
    (1.5, 1, 0, 0, (.820859, .142644, .024788, .011709)), (1, .5, .1, 0, (.730679, .209343, .059978, 0))])
def test_golden_three_rows(gamma, delta, alpha, row, expected):
    guided = correlate(SLOPES, contrast_weights([0, 1, 2], gamma, delta), alpha).softmax(-1)
    assert guided[row].tolist() == pytest.approx(expected, abs=6e-7)


def test_golden_masks():
    assert plausible(SLOPES, .1).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize(('mode', 'weights', 'expected'), [
    ('cross', (1, 0, -.25, -.25), (.788706, .137057, .050420, .023817)), ('intra', (1, -.5, 0, 0), (.632273, .141079, .141079, .085569)),
    ('hybrid', (1, -.25, -.125, -.125), (.724495, .142661, .086529, .046315)), ('all', (1, -1/6, -1/6, -1/6), (.748708, .141413, .072604, .037276))])
def test_golden_modes(mode, weights, expected):
    found = contrast_weights([0, 0, 1, 1], 1, .5, mode)
    assert found[0].tolist() == pytest.approx(weights, abs=1e-7)
    assert correlate(FOUR, found)[0].softmax(-1).tolist() == pytest.approx(expected, abs=5e-7)


def test_golden_end_of_text():
    guided = correlate(torch.tensor([[.495, .495, .01], [.5, .5, 1e-8]]).log(), contrast_weights([0, 1], 1, .5))
    assert guided[0].softmax(-1)[2].item() == pytest.approx(.986, abs=5e-4)


# Weights -----------------------------------------------------------------------------------------------------------------

@check(st.lists(st.sampled_from('abcd'), min_size=1, max_size=8), guidance())
def test_weights_are_those_of_the_table(labels, how):
    weights = quiet_weights(labels, **how)
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights, brute_weights(labels, **how), rtol=1e-6, atol=1e-7)


@check(st.lists(st.sampled_from('abcd'), min_size=1, max_size=8), guidance())
def test_3_row_sums_are_delta(labels, how):
    weights = quiet_weights(labels, **how).double()
    alone = (weights - weights.diag().diag() == 0).all(-1)
    assert (weights.diag() - how['gamma']).abs().max() < 1e-6
    assert ((weights.sum(-1) - how['delta']).abs() < 1e-5)[~alone].all()
    assert (weights - weights.diag().diag() <= 0).all()


@check(st.integers(2, 4), st.integers(1, 4), st.floats(0, 1))
def test_7_hybrid_of_the_right_share_is_all(K, R, delta):
    labels = [k for k in range(K) for _ in range(R)]
    hybrid = contrast_weights(labels, 1, delta, 'hybrid', intra_share=(R - 1)/(K*R - 1))
    torch.testing.assert_close(hybrid, contrast_weights(labels, 1, delta, 'all'), rtol=0, atol=1e-6)


def test_7_two_labels_cross_is_all():
    assert torch.equal(contrast_weights(['a', 'b'], 1, .5), contrast_weights(['a', 'b'], 1, .5, 'all'))


@pytest.mark.parametrize('labels', [['x', 'x', 'y'], (1, 1, 2), [('a', 1), ('a', 1), None], np.array([4, 4, 0]), torch.tensor([4, 4, 0])])
def test_labels_are_any_hashables(labels):
    assert torch.equal(contrast_weights(labels), contrast_weights(['x', 'x', 'y']))


@pytest.mark.parametrize(('labels', 'mode'), [('ab', 'intra'), ('aa', 'cross'), ('a', 'all'), ('a', 'hybrid'), ('aab', 'intra')])
def test_nobody_to_contrast_with_is_told(labels, mode):
    with pytest.warns(UserWarning, match='nobody to contrast with'): weights = contrast_weights(list(labels), 1, .5, mode)
    assert weights[-1].tolist() == [0]*(len(labels) - 1) + [1]


@pytest.mark.parametrize('labels', ['ab', 'aa', 'a'])
@pytest.mark.parametrize('mode', MODES)
def test_no_contrast_needs_nobody(labels, mode, recwarn):
    assert torch.equal(contrast_weights(list(labels), 1, 1, mode), torch.eye(len(labels)))
    assert not recwarn.list


@pytest.mark.parametrize('intra_share', [0, .3, 1])
def test_hybrid_gives_to_the_share_that_has_somebody(intra_share):
    assert torch.equal(contrast_weights(list('abc'), 1, .5, 'hybrid', intra_share), contrast_weights(list('abc'), 1, .5, 'cross'))
    assert torch.equal(contrast_weights(list('aaa'), 1, .5, 'hybrid', intra_share), contrast_weights(list('aaa'), 1, .5, 'intra'))


# The guided distribution -------------------------------------------------------------------------------------------------

@check(groups(), alphas)
def test_guided_distribution_is_that_of_the_definition(group, alpha):
    z, labels, how = group
    close(guide(z, quiet_weights(labels, **how), alpha), brute_guided(z, brute_weights(labels, **how), alpha))


@check(groups(), alphas)
def test_plausible_words_are_those_of_the_definition(group, alpha):
    z, labels, how = group
    keep = (softmax(z) > 0) & (softmax(z) >= alpha*softmax(z).max(-1, keepdims=True))
    assert (plausible(torch.from_numpy(z), alpha).numpy() == keep).all()
    assert (plausible_ceiling(torch.from_numpy(z), alpha).numpy() == np.where(keep, inf, -inf)).all()
    assert (correlate(torch.from_numpy(z), quiet_weights(labels, **how), alpha).isfinite().numpy() == keep).all()


@check(groups(), alphas, st.data())
def test_1_constants_of_a_row_do_not_matter(group, alpha, data):
    z, labels, how = group
    weights = quiet_weights(labels, **how)
    moved = z + data.draw(hnp.arrays(float, (len(z), 1), elements=st.integers(-100, 100)))
    close(guide(moved, weights, alpha), guide(z, weights, alpha), atol=2e-4)
    assert (plausible(torch.from_numpy(moved), alpha) == plausible(torch.from_numpy(z), alpha)).all()
    close(guide(z - logsumexp(z, axis=-1, keepdims=True), weights), guide(z, weights), atol=1e-4)


@check(groups(), st.floats(0, 3))
def test_2_no_contrast_is_independent_sampling(group, gamma):
    z, labels, _ = group
    close(guide(z, contrast_weights(labels, gamma, gamma)), power(z, gamma))
    logits = torch.from_numpy(z).float()
    plain = correlate(logits, contrast_weights(labels, 1, 1))
    assert torch.equal(plain, logits)
    draws = [torch.multinomial(x.softmax(-1), 5, replacement=True, generator=torch.Generator().manual_seed(3)) for x in (plain, logits)]
    assert torch.equal(*draws)


@check(scores(1, 6), st.sampled_from([[0, 0, 1, 1], [0, 0, 1, 1, 2, 2]]), guidance())
def test_4_rows_that_agree_keep_the_net_exponent(z, labels, how):
    "So with one prompt for all rows the first words are drawn independently from the power delta (property 16)."
    guided = guide(z.repeat(len(labels), 0), contrast_weights(labels, **how))
    close(guided, power(z, how['delta']).repeat(len(labels), 0), atol=1e-4)
    close(guide(z.repeat(4, 0), contrast_weights([0, 0, 1, 1], 1, 1)), softmax(z).repeat(4, 0))
    close(guide(z.repeat(2, 0), contrast_weights([0, 1], 1, 0)), (z > -inf).repeat(2, 0)/(z > -inf).sum())


@check(scores(2, 5, possible=True), st.floats(0, 2), st.floats(0, 1))
def test_5_two_rows(z, gamma, part):
    p, q = softmax(z)
    expected = p**gamma/q**(gamma - gamma*part)
    close(guide(z, contrast_weights([0, 1], gamma, gamma*part))[0], expected/expected.sum())


@check(scores(4, 5, possible=True), st.floats(0, 1))
def test_5_the_contrast_is_the_geometric_mean(z, delta):
    probs = softmax(z)
    mean = np.exp(np.log(probs[1:]).mean(0))
    for contrast in (mean, mean/mean.sum()):
        expected = probs[0]/contrast**(1 - delta)
        close(guide(z, contrast_weights([0, 1, 2, 3], 1, delta))[0], expected/expected.sum())


@check(groups(), alphas, st.randoms(use_true_random=False))
def test_6_order_of_rows_and_words_does_not_matter(group, alpha, random):
    z, labels, how = group
    rows, words = (random.sample(range(n), n) for n in z.shape)
    moved = guide(z[rows][:, words], quiet_weights([labels[m] for m in rows], **how), alpha)
    close(moved, guide(z, quiet_weights(labels, **how), alpha)[rows][:, words])


@check(scores(6, 5), guidance(), alphas)
def test_7_labels_do_not_meet_within_intra(z, how, alpha):
    labels = [0, 0, 0, 1, 1, 1]
    weights = contrast_weights(labels, **how | dict(mode='intra'))
    assert not weights[:3, 3:].any() and not weights[3:, :3].any()
    apart = contrast_weights([0]*3, **how | dict(mode='intra'))
    close(guide(z, weights, alpha), np.concatenate([guide(z[:3], apart, alpha), guide(z[3:], apart, alpha)]))
    cross = contrast_weights(labels, **how | dict(mode='cross'))
    assert not (cross - cross.diag().diag())[:3, :3].any()


@check(groups(), st.floats(.25, 4))
def test_8_temperature_divides_gamma_and_delta(group, temperature):
    z, labels, how = group
    cooled = how | dict(gamma=how['gamma']/temperature, delta=how['delta']/temperature)
    warm = correlate(torch.from_numpy(z), quiet_weights(labels, **how)).double()/temperature
    close(warm.softmax(-1), guide(z, quiet_weights(labels, **cooled)), atol=1e-4)


@check(scores(2, 6, possible=True), st.floats(1, 4))
def test_9_classifier_free_guidance(z, gamma):
    c, u = z
    close(correlate(torch.from_numpy(z), contrast_weights([0, 1], gamma, 1))[0], u + gamma*(c - u), atol=1e-4)


@check(groups(possible=True))
def test_10_log_odds_are_linear(group):
    z, labels, how = group
    guided = correlate(torch.from_numpy(z), quiet_weights(labels, **how)).double().log_softmax(-1).numpy()
    logprobs = np.log(softmax(z))
    close(guided[:, 0] - guided[:, 1], brute_weights(labels, **how) @ (logprobs[:, 0] - logprobs[:, 1]), atol=1e-4)


@check(groups(), st.integers(0, 2**32 - 1))
def test_11_no_distribution_does_better(group, seed):
    z, labels, how = group
    guided = correlate(torch.from_numpy(z), quiet_weights(labels, **how)).double().numpy()
    def value(q): return np.where(q > 0, q*np.where(q > 0, guided, 0), 0).sum(-1) + np.where(q > 0, -q*np.log(np.where(q > 0, q, 1)), 0).sum(-1)
    best = logsumexp(guided, axis=-1)
    rivals = np.random.default_rng(seed).dirichlet(np.full(z.shape[1], .5), size=(20, len(z)))*(z > -inf) + 1e-12*(z > -inf)
    assert (value(rivals/rivals.sum(-1, keepdims=True)) <= best + 1e-6).all()
    close(value(softmax(guided)), best)


def test_11_an_optimiser_finds_the_guided_distribution():
    guided = correlate(FOUR, contrast_weights([0, 0, 1, 1], 1, .5, 'hybrid')).double()[0].numpy()
    found = minimize(lambda q: -(q @ guided) + (q*np.log(q)).sum(), np.full(4, .25), method='SLSQP', bounds=[(1e-9, 1)]*4,
                     constraints={'type': 'eq', 'fun': lambda q: q.sum() - 1}, options=dict(ftol=1e-12))
    close(found.x, softmax(guided), atol=1e-4)
    assert -found.fun == pytest.approx(logsumexp(guided), abs=1e-6)


@check(groups(), alphas, alphas)
def test_12_plausible_sets(group, one, other):
    z, labels, how = group
    logits, weights, (low, high) = torch.from_numpy(z), quiet_weights(labels, **how), sorted((one, other))
    assert plausible(logits, high).gather(-1, logits.argmax(-1, keepdim=True)).all()
    assert (plausible(logits, high) <= plausible(logits, low)).all()
    assert torch.equal(plausible(logits, 0), logits > -inf)
    ranked = np.sort(z)
    if (ranked[:, -1] > ranked[:, -2]).all(): assert (guide(z, weights, 1) == (z == z.max(-1, keepdims=True))).all()
    masked = guide(z, weights)*plausible(logits, high).numpy()
    assume((masked.sum(-1) > 1e-9).all())
    close(masked/masked.sum(-1, keepdims=True), guide(z, weights, high), atol=1e-4)


@check(groups(), st.floats(0, 1), st.floats(0, 1))
def test_17_more_contrast_favours_own_words(group, one, other):
    z = group[0][:1].repeat(2, 0)
    z = np.where(z > -inf, z, 0)
    z[1] = z[1][::-1]
    ratio = z[0] - z[1]                                            # log P_0/P_1, up to a constant
    less, more = (correlate(torch.from_numpy(z), contrast_weights([0, 1], 1, delta))[0].double().numpy() for delta in sorted((one, other), reverse=True))
    own, others = ratio.argmax(), ratio.argmin()
    assert more[own] - more[others] >= less[own] - less[others] - 1e-4


# Impossible words, exactness, speed --------------------------------------------------------------------------------------

@check(groups(), alphas)
def test_18_impossible_words_make_no_nan(group, alpha):
    z, labels, how = group
    logits = torch.from_numpy(z).float()
    guided = correlate(logits, quiet_weights(labels, **how), alpha)
    assert not guided.isnan().any() and not (guided == inf).any() and (guided.amax(-1) > -inf).all()
    assert (guided[logits == -inf] == -inf).all()
    lifted = logits.where(logits > -inf, logits.where(logits > -inf, inf).amin(-1, keepdim=True))
    assert torch.equal(mix(logits, quiet_weights(labels, **how)), quiet_weights(labels, **how) @ lifted)


def test_18_the_naive_product_does():
    z = torch.tensor([[0., 1, -inf], [0, 1, -inf], [0, 1, 2]])
    weights = contrast_weights([0, 1, 2], 1, .5)
    assert (weights @ z).isnan().any()
    assert correlate(z, weights).isfinite().tolist() == [[True, True, False], [True, True, False], [True, True, True]]


def test_a_row_without_any_possible_word_counts_for_nothing():
    z = torch.cat([SLOPES[:2], torch.full((1, 4), -inf)])
    weights = contrast_weights([0, 1, 2], 1, .5)
    guided = correlate(z, weights)
    assert (guided[2] == -inf).all()
    torch.testing.assert_close(guided[:2], weights[:2, :2] @ z[:2])


@check(groups(possible=True))
def test_without_impossible_words_it_is_the_plain_product(group):
    z, labels, how = group
    weights, logits = quiet_weights(labels, **how), torch.from_numpy(z).float()
    assert torch.equal(correlate(logits, weights), weights @ logits)


@pytest.mark.parametrize('shape', [(1, 5), (3, 7), (2, 3, 7), (2, 2, 4, 50), (16, 4, 2000)])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shapes_and_types(shape, dtype):
    "Whatever comes in, the work is done in float32, also under autocast, and the arguments stay as they were."
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator).to(dtype)
    logits[..., -1] = -inf
    before, weights = logits.clone(), quiet_weights(range(shape[-2]), gamma=1, delta=.5).to(dtype)
    with torch.autocast('cpu', torch.bfloat16): guided = correlate(logits, weights, .01)
    assert guided.dtype == torch.float32 and torch.equal(logits, before)
    assert torch.equal(guided, correlate(logits.float(), weights.float(), .01))
    for index in np.ndindex(shape[:-2]): torch.testing.assert_close(guided[index], correlate(logits[index], weights, .01), rtol=1e-5, atol=1e-5)


def test_each_group_its_own_weights_and_thresholds():
    logits = torch.randn(4, 3, 11, generator=torch.Generator().manual_seed(1))
    weights = torch.stack([contrast_weights([0, 1, 2], 1, d) for d in (1, .9, .5, 0)])
    alpha = torch.tensor([0., .001, .1, 1])
    guided = correlate(logits, weights, alpha[:, None, None])
    for g in range(4): torch.testing.assert_close(guided[g], correlate(logits[g], weights[g], alpha[g].item()), rtol=1e-5, atol=1e-5)


def test_mix_takes_more_rows_than_it_writes():
    weights = contrast_weights([0, 1, 2], 1, .5)
    assert torch.equal(mix(SLOPES, weights[:1]), mix(SLOPES, weights)[:1])


def test_nothing_is_read_while_guiding():
    "A read would make the host wait for the accelerator; fake tensors have nothing to read."
    with FakeTensorMode():
        logits, weights = torch.randn(2, 3, 5), torch.eye(3)
        with pytest.raises(DataDependentOutputException): bool(logits.isinf().any())
        for alpha in (0, .1, torch.rand(2, 3, 1)): assert correlate(logits, weights, alpha).shape == kl_divergence(logits, logits).shape + (5,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_no_synchronisation_on_a_gpu():
    logits = torch.randn(8, 4, 1000, device='cuda')
    logits[..., 990:] = -inf
    weights = contrast_weights(range(4), 1, .5)
    expected, on_gpu = correlate(logits.cpu(), weights, .01), weights.cuda()
    torch.cuda.set_sync_debug_mode('error')
    try: guided = correlate(logits, on_gpu, .01)
    finally: torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close(guided.cpu(), expected, rtol=1e-4, atol=1e-4)


# Divergence --------------------------------------------------------------------------------------------------------------

@check(groups(), alphas)
def test_divergence_is_that_of_scipy(group, alpha):
    z, labels, how = group
    guided = correlate(torch.from_numpy(z), quiet_weights(labels, **how), alpha)
    expected = rel_entr(softmax(guided.double().numpy()), softmax(z)).sum(-1)
    close(kl_divergence(guided, torch.from_numpy(z)), expected, atol=1e-4)
    assert (kl_divergence(guided, torch.from_numpy(z)) >= 0).all()


def test_divergence_limits():
    z = torch.tensor([0., 1, -inf])
    assert kl_divergence(z, z) == 0
    assert kl_divergence(torch.zeros(3), z) == inf
    assert kl_divergence(torch.tensor([0., -inf]), torch.zeros(2)).item() == pytest.approx(math.log(2))


# Rows that ended ---------------------------------------------------------------------------------------------------------

@check(st.lists(st.sampled_from('abc'), min_size=1, max_size=7), guidance(), st.data())
def test_15_lost_weight_is_that_of_the_definition(labels, how, data):
    weights = quiet_weights(labels, **how)
    alive = data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
    living = live_weights(weights, alive, labels)
    np.testing.assert_allclose(living, brute_live(weights.double().numpy(), alive, labels), rtol=1e-5, atol=1e-6)
    one_share = live_weights(weights, alive)
    np.testing.assert_allclose(one_share, brute_live(weights.double().numpy(), alive, [0]*len(labels)), rtol=1e-5, atol=1e-6)
    off, contrast = living - living.diag().diag(), weights - weights.diag().diag()
    assert not off[:, ~torch.tensor(alive)].any()
    somebody = (contrast[:, torch.tensor(alive)] != 0).any(-1)
    torch.testing.assert_close(living.sum(-1)[somebody], weights.sum(-1)[somebody], rtol=1e-5, atol=1e-5)
    assert not off[~somebody].any()
    assert torch.equal(live_weights(weights, [True]*len(labels), labels), weights)


def test_15_dropping_changes_the_net_exponent():
    weights, alive = contrast_weights([0, 0, 1, 1], 1, .5, 'all'), torch.tensor([True, True, True, False])
    assert (weights*alive).sum(-1)[alive].tolist() == pytest.approx([.666667]*3, abs=5e-7)
    assert live_weights(weights, alive, [0, 0, 1, 1]).sum(-1)[alive].tolist() == pytest.approx([.5]*3)


@check(st.lists(st.booleans(), min_size=4, max_size=4), scores(4, 6), st.integers(0, 3))
def test_15_scores_of_ended_rows_do_not_matter(alive, z, n):
    assume(not alive[n])
    weights = live_weights(contrast_weights([0, 0, 1, 1], 1, .5, 'hybrid'), alive, [0, 0, 1, 1])
    other = z.copy()
    other[n] = np.arange(6) - 40
    rest = [m for m in range(4) if m != n]
    close(guide(other, weights)[rest], guide(z, weights)[rest])


def test_ends_in_either_order_are_the_same():
    labels = [0, 0, 0, 1, 1, 1]
    weights = contrast_weights(labels, 1, .3, 'hybrid', .7)
    at_once = live_weights(weights, [1, 1, 0, 1, 0, 1], labels)
    one_by_one = live_weights(live_weights(weights, [1, 1, 0, 1, 1, 1], labels), [1, 1, 0, 1, 0, 1], labels)
    torch.testing.assert_close(one_by_one, at_once)


def test_many_groups_end_at_once():
    labels = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]])
    weights = torch.stack([quiet_weights(row.tolist(), gamma=1, delta=.5, mode='hybrid') for row in labels])
    alive = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]]).bool()
    together = live_weights(weights, alive, labels)
    for g in range(3): assert torch.equal(together[g], live_weights(weights[g], alive[g], labels[g].tolist()))
    assert torch.equal(live_weights(weights[0], alive)[1], live_weights(weights[0], alive[1]))


def test_mixed_signs_do_not_explode():
    weights = torch.tensor([[1., .5, -.5, -.25], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert live_weights(weights, [1, 1, 1, 0])[0].tolist() == pytest.approx([1, .375, -.625, 0])


# Refusals ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('how', 'told'), [
    (dict(gamma=-.5, delta=0), r'gamma must be finite and at least 0, got -0\.5'), (dict(gamma=math.nan), 'gamma .* got nan'),
    (dict(gamma=inf), 'gamma .* got inf'), (dict(delta=1.5), r'delta must lie between 0 and gamma = 1\.0, got 1\.5; .* delta = gamma means none'),
    (dict(delta=-1), 'delta .* got -1'), (dict(delta=math.nan), 'delta .* got nan'), (dict(mode='Cross'), "unknown mode 'Cross'; choose one of cross, intra, hybrid, all"),
    (dict(mode='hybrid', intra_share=2), r'intra_share must lie in \[0, 1\], got 2'), (dict(labels=[]), 'labels must name one label for each row'),
    (dict(labels='World'), "got 'World'; pass a list")])
def test_weights_refuse(how, told):
    with pytest.raises(ValueError, match=told): contrast_weights(**dict(labels=['a', 'b']) | how)


@pytest.mark.parametrize('alpha', [-.1, 1.1, math.nan])
def test_alpha_is_refused(alpha):
    for call in (lambda: correlate(SLOPES, torch.eye(3), alpha), lambda: plausible(SLOPES, alpha), lambda: check_guidance(1, 1, alpha)):
        with pytest.raises(ValueError, match=rf'alpha must lie in \[0, 1\], got {alpha}; 0 allows every word'): call()


@pytest.mark.parametrize(('logits', 'weights'), [((3, 5), (2, 2)), ((3, 5), (3,)), ((5,), (1, 1)), ((2, 3, 5), (3, 2)), ((2, 3, 5), (2, 3, 5))])
def test_shapes_that_do_not_fit_are_refused(logits, weights):
    with pytest.raises(ValueError, match='weights .* need logits .* got shapes'): correlate(torch.zeros(logits), torch.zeros(weights))


def test_rows_that_do_not_fit_are_refused():
    for alive, labels in (([True]*3, None), ([True]*4, ['a']*5)):
        with pytest.raises(ValueError, match='need an entry for each of the 4 rows'): live_weights(torch.eye(4), alive, labels)
