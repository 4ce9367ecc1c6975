"MMD² of labelled sets: equal to three plain loops, unbiased for fixed shares, refused where a label has one row."
import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
from synthlab.align.mmd import median_bandwidth, mmd2
from synthlab.align.stratified import stratified_floor, stratified_interval, stratified_mmd2
from synthlab.measure.evaluate import Material, Rows, sample_rows, take
from synthlab.measure.fidelity import mmd
from synthlab.util import CannotMeasure


def by_loops(X, Y, lx, ly, wx, wy, sigma):
    "A sum over pairs of labels and of rows; the mean kernel of each pair of labels by itself."
    def k(a, b): return math.exp(-math.dist(a, b)**2/(2*sigma**2))
    total, p, q = 0., {c: wx[lx == c].sum() for c in set(lx)}, {c: wy[ly == c].sum() for c in set(ly)}
    for A, B, la, lb, u, v, a, b, factor in [(X, X, lx, lx, wx, wx, p, p, 1), (Y, Y, ly, ly, wy, wy, q, q, 1), (X, Y, lx, ly, wx, wy, p, q, -2)]:
        for c, d in itertools.product(a, b):
            above = below = 0.
            for i in np.flatnonzero(la == c):
                for j in np.flatnonzero(lb == d):
                    if A is B and i == j: continue
                    above += u[i]*v[j]*k(A[i], B[j])
                    below += u[i]*v[j]
            total += factor*a[c]*b[d]*above/below
    return total


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('block', [3, 2048])
def test_it_is_the_sum_over_pairs_of_labels(seed, weighted, block):
    rng = np.random.default_rng(seed)
    lx, ly = (np.array(list('abc')*2 + list(rng.choice(list('abc'), n))) for n in (7, 4))
    ly = np.append(ly, ['d', 'd'])
    X, Y = rng.normal(size=(len(lx), 3)), rng.normal(size=(len(ly), 3)) + 1
    wx, wy = (rng.dirichlet(np.ones(n)) if weighted else np.full(n, 1/n) for n in (len(X), len(Y)))
    found = stratified_mmd2(X, Y, lx, ly, *((wx, wy) if weighted else ()), bandwidth=1.5, block_size=block)
    assert found.mmd2 == pytest.approx(by_loops(X, Y, lx, ly, wx, wy, 1.5), abs=1e-11)
    for c in 'abc':
        a, b = lx == c, ly == c
        own = mmd2(X[a], Y[b], wx[a]/wx[a].sum(), wy[b]/wy[b].sum(), 1.5, unbiased=True)
        assert found.classes[c].mmd2 == pytest.approx(own, abs=1e-11) and found.classes[c].rows == (a.sum(), b.sum())
    assert found.classes['d'].mmd2 is None and found.classes['d'].shares[0] == 0
    order = rng.permutation(len(X))
    assert stratified_mmd2(Y, X[order], ly, lx[order], wy, wx[order], 1.5).mmd2 == pytest.approx(found.mmd2, abs=1e-11)
    one = stratified_mmd2(X, Y, np.zeros(len(X), int), np.zeros(len(Y), int), wx, wy, 1.5)
    assert one.mmd2 == pytest.approx(mmd2(X, Y, wx, wy, 1.5, unbiased=True), abs=1e-11) == one.class_mean


def test_rows_without_weight_do_not_count():
    rng = np.random.default_rng(0)
    X, Y, labels = rng.normal(size=(8, 2)), rng.normal(size=(8, 2)), list('aaaabbbb')
    w = np.repeat([.25, 0, .25, 0], 2)
    kept = w > 0
    alone = stratified_mmd2(X, Y[kept], labels, list('aabb'), bandwidth=1.)
    assert stratified_mmd2(X, Y, labels, labels, wy=w, bandwidth=1.).mmd2 == pytest.approx(alone.mmd2, abs=1e-12)
    assert alone.classes['a'].rows == (4, 2)


def sample(sizes, rng, shift=0.): return np.concatenate([rng.normal(size=(n, 3)) + [2*c, shift, 0] for c, n in enumerate(sizes)]), np.repeat(range(len(sizes)), sizes)


@pytest.mark.parametrize('sizes', [(2, 2, 2), (2, 5, 9)])
def test_it_is_unbiased_for_fixed_shares_and_the_usual_estimate_is_not(sizes):
    rng, usual, ours = np.random.default_rng(0), [], []
    for _ in range(1200):
        (X, lx), (Y, ly) = sample(sizes, rng), sample(np.multiply(sizes, 2), rng)
        usual.append(mmd2(X, Y, bandwidth=1.5, unbiased=True))
        ours.append(stratified_mmd2(X, Y, lx, ly, bandwidth=1.5).mmd2)
    def z(values): return np.mean(values)/(np.std(values)/len(values)**.5)
    assert abs(z(ours)) < 3.3 and z(usual) < -8


def test_floor_and_interval():
    rng = np.random.default_rng(1)
    (X, lx), (Y, ly) = sample((12, 9, 5), rng), sample((12, 9, 5), rng, shift=1.)
    value = stratified_mmd2(X, Y, lx, ly, bandwidth=2.).mmd2
    low, high = stratified_interval(X, Y, lx, ly, bandwidth=2.)
    assert low < value < high and (low, high) == stratified_interval(X, Y, lx, ly, bandwidth=2.) != stratified_interval(X, Y, lx, ly, bandwidth=2., seed=1)
    floor = stratified_floor(X, lx, bandwidth=2.)
    assert floor.sizes == (13, 13) and abs(floor.values.mean()) < .15*floor.values.std() + .002 and value > floor.quantile(.95)
    assert stratified_floor(X, lx, (26, 26), bandwidth=2.).values == pytest.approx(floor.values/2)


@pytest.mark.parametrize('call, words', [
    (lambda X: stratified_mmd2(X, X, list('aaaaab'), list('aaabbb')), r"'b' \(1 and 3 rows\)"),
    (lambda X: stratified_mmd2(X, X, list('aaabbb'), list('aaabbb'), wy=[.5, .25, 0, .25, 0, 0]), r"'b' \(3 and 1 rows\)"),
    (lambda X: stratified_mmd2(X, X, list('aaa'), list('aaabbb')), 'labels_x has 3 labels for 6 rows'),
    (lambda X: stratified_interval(X, X, list('aaabbb'), list('aaabbb')), 'at least 4 rows'),
    (lambda X: stratified_interval(X, X, list('aaaaaa'), list('aaaaaa'), level=1), 'level'),
    (lambda X: stratified_floor(X, list('aaabbb')), 'a split into halves needs at least 4'),
    (lambda X: stratified_floor(X, list('aaaaaa'), (0, 3)), 'positive')], ids=range(7))
def test_what_cannot_be_estimated_is_refused(call, words):
    X = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ValueError, match=words): call(X)


def unit(n, rng):
    X = rng.normal(size=(n, 5)) + np.eye(5)[0]
    return X/np.linalg.norm(X, axis=1, keepdims=True)


def test_the_measure_leaves_single_rows_out_and_says_so():
    rng = np.random.default_rng(0)
    R, F, labels = unit(14, rng), unit(14, rng), ['a']*6 + ['b']*5 + ['c', 'c', 'd']
    theirs = ['a']*6 + ['b']*5 + ['c', 'd', 'd']
    found = mmd(R, F, real_labels=labels, fake_labels=theirs, times=10)
    assert found.details['left_out'] == {'c': '1 synthetic row', 'd': '1 real row'} and found.n == 11
    kept = [label in 'ab' for label in labels]
    assert found == pytest.approx(stratified_mmd2(R[kept], F[kept], labels[:11], theirs[:11], bandwidth=median_bandwidth(R)).mmd2)
    assert found.details['floor'] is not None and found.interval
    with pytest.raises(CannotMeasure, match='most rows are left out'): mmd(R, F, real_labels=range(14), fake_labels=range(14))
    with pytest.raises(CannotMeasure, match='9 real and 9 synthetic texts without the 4 labels'):
        mmd(R[:13], F[:13], real_labels=[0]*9 + [1, 2, 3, 4], fake_labels=[0]*9 + [1, 2, 3, 4])
    with pytest.raises(ValueError, match='one side only'): mmd(R, F, fake_labels=labels)
    with pytest.raises(ValueError, match='13 and 14 labels'): mmd(R, F, real_labels=labels[1:], fake_labels=labels)


class Table:
    "An encoder that looks vectors up."
    name = 'table'
    def __init__(self, texts, vectors): self.of = dict(zip(texts, vectors))
    def encode(self, texts, progress=False): return np.array([self.of[text] for text in texts])


def lsa(texts):
    "Unit vectors from words alone: quick, and topics lie apart."
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize
    return normalize(TruncatedSVD(50, random_state=0).fit_transform(TfidfVectorizer(sublinear_tf=True, stop_words='english').fit_transform(texts)))


@pytest.mark.skipif('SYNTHLAB_GOLD' not in os.environ, reason='gold data is not here')
@pytest.mark.parametrize('folder', [pytest.param('amazon14', marks=pytest.mark.long), 'agnews'])
def test_gold_against_gold_is_zero_through_the_registry(folder):
    import pandas as pd
    rows = pd.read_parquet(Path(os.environ['SYNTHLAB_GOLD'])/folder/'test.parquet').drop_duplicates('text').sample(2800, random_state=0)
    texts, labels = rows['text'].tolist(), rows['label_text' if 'label_text' in rows else 'label'].astype(str).tolist()
    encoder = Table(texts, lsa(texts))
    for n, times in ((20, 200), (50, 150), (500, 40)):
        usual, ours = [], []
        for seed in range(times):
            # both halves are drawn anew: rows of one half are never in the other
            order = np.random.default_rng(seed).permutation(len(texts))
            first, second = (Rows([texts[i] for i in part], [labels[i] for i in part]) for part in np.array_split(order, 2))
            m = Material(embedder=encoder, rows=sample_rows(second, n, seed), test=first, intervals=False)
            found, = take(m, ['mmd'])
            ours.append(found['value'])
            real, fake = m.matched
            usual.append(mmd(real.texts, fake.texts, embedder=encoder, times=2).value)
        def z(values): return np.mean(values)/(np.std(values, ddof=1)/len(values)**.5)
        assert abs(z(ours)) < 3.3, (n, z(ours))
        # at 500 rows the bias of the usual estimate is as small as the standard error of so few draws
        assert z(usual) < (-3.3 if n < 500 else z(ours)), (n, z(usual))
