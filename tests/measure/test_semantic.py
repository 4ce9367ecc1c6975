"Measures on unit vectors: each beside its definition written with loops, its limits, and bad input."
import builtins
import importlib.util
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import auc, pairwise_distances
from sklearn.neighbors import NearestNeighbors
from synthlab.measure import fidelity, semantic
from synthlab.measure.fidelity import coverage, mauve, teacher_features
from synthlab.util import CannotMeasure
from synthlab.measure.metric import Metric, equal_sizes
from synthlab.measure.semantic import (
    embedding_duplicates, label_cosine, mean_cosine, nearest, novelty, plot_label_cosine, project, row_cosine, sdra_2d,
    spectrum, vendi_score)

needs_mauve = pytest.mark.skipif(not importlib.util.find_spec('mauve'), reason='the extra mauve is not installed')


def check(*strategies, examples=40):
    "Test on random examples: always the same ones, without a time limit."
    return lambda test: settings(deadline=None, derandomize=True, max_examples=examples)(given(*strategies)(test))


def cloud(n, d, seed, shift=1.):
    "Unit vectors around one direction, all distances different."
    E = np.random.default_rng(seed).normal(size=(n, d)) + shift*np.eye(d)[0]
    return E/np.linalg.norm(E, axis=1, keepdims=True)


sizes, widths, seeds = st.integers(6, 40), st.integers(2, 12), st.integers(0, 10**6)


class Spelling:
    "An encoder that needs no model: counts of letters, and a fixed last number so that no text is without direction."
    name = 'spelling'

    def encode(self, texts, progress=None):
        E = np.array([[text.lower().count(c) for c in 'abcdefghijklmnopqrstuvwxyz'] + [.1] for text in texts], dtype=np.float32)
        return E/np.linalg.norm(E, axis=1, keepdims=True)


# Mean cosine ------------------------------------------------------------------------------------------------------------

@check(sizes, widths, seeds)
def test_mean_cosine_is_the_mean_over_pairs_and_its_error_the_jackknife(n, d, seed):
    E = cloud(n, d, seed)
    pairs = [E[i] @ E[j] for i in range(n) for j in range(i)]
    metric = mean_cosine(E)
    assert metric == pytest.approx(np.mean(pairs), abs=1e-12)
    assert row_cosine(E) == pytest.approx([np.mean([E[i] @ E[j] for j in range(n) if j != i]) for i in range(n)], abs=1e-12)
    left_out = np.array([np.delete(np.delete(E @ E.T, i, 0), i, 1)[np.triu_indices(n - 1, 1)].mean() for i in range(n)])
    error = math.sqrt((n - 1)*left_out.var())
    low, high = metric.interval
    assert low == pytest.approx(max(-1, metric - 1.959964*error), abs=1e-6) and high == pytest.approx(min(1, metric + 1.959964*error), abs=1e-6)


@check(sizes, widths, seeds)
def test_order_of_rows_does_not_matter(n, d, seed):
    E, labels = cloud(n, d, seed), np.array(list('ab')*n)[:n]
    order = np.random.default_rng(seed).permutation(n)
    assert mean_cosine(E[order]) == pytest.approx(mean_cosine(E), abs=1e-12)
    assert vendi_score(E[order], times=1) == pytest.approx(vendi_score(E, times=1), rel=1e-9)
    assert label_cosine(E[order], labels[order]) == pytest.approx(label_cosine(E, labels), abs=1e-12)


def test_the_interval_of_the_mean_cosine_covers_the_expected_value():
    "Directions at normal angles of sd s around one: the expected cosine of two of them is exp(−s²)."
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        angle = rng.normal(0, .6, size=40)
        low, high = mean_cosine(np.stack([np.cos(angle), np.sin(angle)], -1)).interval
        hits += low <= math.exp(-.36) <= high
    assert 300*.95 - 5*math.sqrt(300*.05*.95) < hits < 300


# Label-wise cosine ------------------------------------------------------------------------------------------------------

@check(sizes, widths, seeds)
def test_label_cosine_is_the_mean_over_pairs_of_texts(n, d, seed):
    E, labels = cloud(n, d, seed), [str(i % 3) for i in range(n)]
    found = label_cosine(E, labels).details
    for a in '012':
        for b in '012':
            pairs = [(i, j) for i in range(n) for j in range(n) if labels[i] == a and labels[j] == b]
            every = np.mean([E[i] @ E[j] for i, j in pairs])
            others = np.mean([E[i] @ E[j] for i, j in pairs if i != j])
            assert found['matrix_with_self_pairs'][a][b] == pytest.approx(every, abs=1e-12)
            assert found['matrix'][a][b] == pytest.approx(others, abs=1e-12)


def test_label_cosine_is_mean_within_less_mean_between_and_symmetric():
    metric = label_cosine(cloud(30, 4, 0), ['a', 'b', 'c', 'a', 'c', 'c']*5)
    S = np.array([list(row.values()) for row in metric.details['matrix'].values()])
    assert np.allclose(S, S.T, atol=0) and metric.details['rows'] == {'a': 10, 'b': 5, 'c': 15}
    assert metric == pytest.approx(S.diagonal().mean() - S[~np.eye(3, dtype=bool)].mean(), abs=1e-12)


def test_the_interval_of_label_cosine_covers_nothing_where_labels_tell_nothing():
    "Labels drawn at random: the expected value is 0."
    hits = 0
    for seed in range(300):
        labels = np.random.default_rng(seed).permutation(list('aab')*20)
        low, high = label_cosine(cloud(60, 3, seed), labels).interval
        hits += low <= 0 <= high
    assert hits > 300*.95 - 5*math.sqrt(300*.05*.95)


def test_label_cosine_knows_its_bad_input():
    with pytest.raises(CannotMeasure, match='all texts have the label x'): label_cosine(cloud(5, 3, 0), ['x']*5)
    with pytest.raises(CannotMeasure, match=r"labels with fewer than 2 texts: \{'b': 1\}"): label_cosine(cloud(3, 3, 0), ['a', 'a', 'b'])
    with pytest.raises(ValueError, match='5 texts and 4 labels'): label_cosine(cloud(5, 3, 0), ['a', 'a', 'b', 'b'])
    assert label_cosine(cloud(4, 3, 0), ['a', 'a', 'b', 'b']).interval is None


def test_the_heatmap_shows_the_matrix_that_was_asked_for():
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    metric = label_cosine(cloud(12, 3, 0), ['a', 'b']*6)
    for self_pairs, name in [(False, 'matrix'), (True, 'matrix_with_self_pairs')]:
        ax = plot_label_cosine(metric, self_pairs, ax=plt.figure().add_subplot())
        assert np.asarray(ax.collections[0].get_array()).ravel().tolist() == pytest.approx([x for row in metric.details[name].values() for x in row.values()])
        plt.close('all')


# The published picture measure -----------------------------------------------------------------------------------------

def test_sdra_is_mean_cosine_of_directions_and_moves_with_the_origin():
    points = np.random.default_rng(0).normal(size=(20, 2))
    assert sdra_2d(points) == pytest.approx(row_cosine(points/np.linalg.norm(points, axis=1, keepdims=True)), abs=1e-6)
    assert sdra_2d(points + 100).min() > .999 > sdra_2d(points).max()


# Vendi score -----------------------------------------------------------------------------------------------------------

@check(sizes, widths, seeds, st.sampled_from([.5, 1, 2, 5, math.inf]))
def test_vendi_score_is_hills_number_of_the_eigenvalues_of_the_gram_matrix(n, d, seed, q):
    E = cloud(n, d, seed)
    p = np.linalg.eigh(E @ E.T/n)[0]
    p = p[p > 1e-9]
    if q == 1: expected = math.exp(-sum(p*np.log(p)))
    elif q == math.inf: expected = 1/max(p)
    else: expected = sum(p**q)**(1/(1 - q))
    assert vendi_score(E, q=q, times=1) == pytest.approx(expected, rel=1e-6)
    assert 1 <= vendi_score(E, q=q, times=1) + 1e-9 and vendi_score(E, q=q, times=1) <= min(n, d) + 1e-9


@check(sizes, widths, seeds)
def test_copies_of_the_whole_dataset_leave_the_vendi_score(n, d, seed):
    E = cloud(n, d, seed)
    assert vendi_score(np.tile(E, (3, 1)), times=1) == pytest.approx(vendi_score(E, times=1), rel=1e-6)
    assert spectrum(E).sum() == pytest.approx(1)


def test_vendi_score_is_at_most_the_number_of_rows_and_refuses_orders_that_are_none():
    assert vendi_score(np.eye(7)) == pytest.approx(7) and vendi_score(np.tile(np.eye(3)[0], (20, 1))) == pytest.approx(1)
    for q in (-1, math.nan):
        with pytest.raises(ValueError, match='q must be 0 or more'): vendi_score(np.eye(3), q=q)


# Neighbours ------------------------------------------------------------------------------------------------------------

@check(sizes, widths, seeds, st.integers(1, 7))
def test_nearest_and_earlier_twins_are_those_of_all_pairs_whatever_the_block(n, d, seed, block):
    E, others = cloud(n, d, seed), cloud(9, d, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, '_BLOCK', block)
        cosine, place = nearest(E, others)
        twins = embedding_duplicates(E, .8)
    assert place.tolist() == (E @ others.T).argmax(1).tolist() and cosine == pytest.approx((E @ others.T).max(1))
    assert twins.details['duplicates'] == sum(any(E[i] @ E[j] >= .8 - 1e-6 for j in range(i)) for i in range(n))


def test_duplicates_count_all_but_the_first_and_show_the_closest():
    texts = ['a red house', 'zzz', 'a red house', 'a red house', 'a read house']
    metric = embedding_duplicates(texts, .9, Spelling(), examples=3)
    assert metric == pytest.approx(3/5) and metric.settings == {'encoder': 'spelling', 'threshold': .9}
    assert [(e['row'], e['earlier'], e['text'], e['other']) for e in metric.details['examples'][:2]] == [(2, 0, texts[0], texts[0]), (3, 0, texts[0], texts[0])]
    assert embedding_duplicates(np.eye(4)[[0, 1, 0]], 1.).details['examples'] == [{'row': 2, 'earlier': 0, 'cosine': 1.}]
    assert len(embedding_duplicates(['x'*10_000]*2, embedder=Spelling()).details['examples'][0]['text']) == 1001


def brute_neighbourhoods(real, fake, k):
    "From distances, as the papers define them."
    real_radius = NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, k]
    fake_radius = NearestNeighbors(n_neighbors=k + 1).fit(fake).kneighbors(fake)[0][:, k]
    distance = pairwise_distances(real, fake)
    inside = distance <= real_radius[:, None] + 1e-7
    return {'precision': np.mean([inside[:, j].any() for j in range(len(fake))]), 'recall': np.mean([(distance[i] <= fake_radius + 1e-7).any() for i in range(len(real))]),
            'density': inside.sum()/(k*len(fake)), 'coverage': np.mean([inside[i].any() for i in range(len(real))])}


@check(st.integers(8, 40), st.integers(8, 40), st.integers(3, 12), seeds, st.integers(1, 7), st.integers(1, 50))
def test_coverage_and_the_others_are_those_of_all_pairs_whatever_the_block(n, m, d, seed, k, block):
    real, fake = cloud(n, d, seed), cloud(m, d, seed + 1, shift=1.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, '_BLOCK', block)
        metric = coverage(real, fake, k, times=0)
    assert {name: entry['value'] for name, entry in metric.details['measures'].items()} == pytest.approx(brute_neighbourhoods(real, fake, k), abs=1e-9)
    assert metric == metric.details['measures']['coverage']['value'] and metric.settings['equal sizes'] == (n == m)


def test_coverage_of_rows_from_one_source_is_as_expected():
    found = [coverage(cloud(30, 5, seed), cloud(20, 5, seed + 1000), k=3, times=0) for seed in range(300)]
    expected = found[0].details['expected']
    assert expected == pytest.approx(1 - 29/49*28/48*27/47)
    assert np.mean(found) == pytest.approx(expected, abs=5*np.std(found)/math.sqrt(300))


def test_a_set_covers_itself_and_a_far_one_nothing():
    E = cloud(40, 6, 0, shift=3.)
    assert [entry['value'] for entry in coverage(E, E).details['measures'].values()] == [1., 1., pytest.approx(6/5), 1.]      # a row is in its own ball as well
    assert [entry['value'] for entry in coverage(E, -E).details['measures'].values()] == [0, 0, 0, 0]


def test_coverage_has_intervals_for_all_four_and_none_for_few_rows():
    E, F = cloud(60, 6, 0), cloud(50, 6, 1)
    measures = coverage(E, F, k=3).details['measures']
    assert all(low <= entry['value'] <= high for entry in measures.values() for low, high in [entry['interval']])
    assert coverage(E, F, k=3).interval == tuple(measures['coverage']['interval']) and coverage(E[:15], F, k=3).interval is None


def test_coverage_knows_its_bad_input():
    E = cloud(6, 3, 0)
    with pytest.raises(CannotMeasure, match='5 synthetic texts have no 5 neighbours each: give at least 6'): coverage(E, E[:5])
    with pytest.raises(CannotMeasure, match='0 real texts'): coverage([], ['a'])
    with pytest.raises(ValueError, match='k must be at least 1, got 0'): coverage(E, E, k=0)


def test_identical_rows_are_no_trouble():
    E = np.tile(cloud(1, 4, 0), (30, 1))
    assert mean_cosine(E) == pytest.approx(1) and mean_cosine(E) <= 1 and vendi_score(E) == pytest.approx(1) and coverage(E, E) == 1 and embedding_duplicates(E) == 29/30
    assert label_cosine(E, ['a', 'b']*15) == pytest.approx(0, abs=1e-12)


# MAUVE -----------------------------------------------------------------------------------------------------------------

@needs_mauve
@pytest.mark.parametrize('scaling', [1, 5])
def test_mauve_is_the_area_under_the_divergence_curve(scaling, monkeypatch):
    "The library's histograms, the paper's definition on a finer grid."
    library, seen = fidelity._mauve_library(), []
    monkeypatch.setattr(fidelity, '_mauve_library', lambda: lambda **given: seen.append(library(**given)) or seen[-1])
    value = mauve(cloud(200, 8, 0), cloud(200, 8, 1, shift=2.), scaling, seeds=[3], times=0)
    p, q = seen[0].p_hist, seen[0].q_hist
    def kl(a, b): return sum(x*math.log(x/y) for x, y in zip(a, b) if x)
    mixtures = [w*p + (1 - w)*q for w in np.linspace(1e-6, 1 - 1e-6, 2001)]
    curve = np.array([(0, 1), *[(math.exp(-scaling*kl(q, r)), math.exp(-scaling*kl(p, r))) for r in mixtures], (1, 0)])
    curve = curve[np.lexsort((-curve[:, 1], curve[:, 0]))]
    assert value == pytest.approx(auc(*curve.T), abs=.01)
    assert value.settings['scaling factor'] == scaling and value.settings['buckets'] == seen[0].num_buckets == 20


@needs_mauve
def test_mauve_says_how_seeds_differ_and_is_the_same_again():
    P, Q = cloud(100, 8, 0), cloud(100, 8, 1, shift=2.)
    one, again = (mauve(P, Q, seeds=(0, 1, 2), times=2) for _ in range(2))
    scores = list(one.details['seeds'].values())
    assert one.to_dict() == again.to_dict() and list(one.details['seeds']) == ['0', '1', '2']
    assert one == pytest.approx(np.mean(scores)) and one.details['sd of seeds'] == pytest.approx(np.std(scores)) and len(set(scores)) > 1
    assert one.interval[0] <= one.interval[1] and mauve(P, Q, times=0).interval is None
    assert mauve(P, P, times=0) == pytest.approx(1) and mauve(Q, -Q, times=0) < .05


@needs_mauve
def test_mauve_knows_its_bad_input():
    E = cloud(40, 4, 0)
    with pytest.raises(CannotMeasure, match='5 real texts where at least 20'): mauve(E[:5], E)
    with pytest.raises(CannotMeasure, match='40 real texts where at least 50'): mauve(E, E, num_buckets=50)
    with pytest.raises(CannotMeasure, match='all rows are the same'): mauve(np.ones((30, 4)), np.ones((30, 4)))
    with pytest.raises(ValueError, match='4 dimensions, synthetic ones 5'): mauve(E, cloud(40, 5, 0))
    with pytest.raises(ValueError, match='finite numbers'): mauve(E*np.nan, E)
    with pytest.raises(ValueError, match="num_buckets must be 'auto' or at least 2, got 1"): mauve(E, E, num_buckets=1)
    with pytest.raises(ValueError, match='scaling_factor must be above 0'): mauve(E, E, scaling_factor=0)


def test_without_the_extra_mauve_says_how_to_get_it(monkeypatch):
    ordinary = builtins.__import__
    def without(name, *args, **kwargs):
        if name.split('.')[0] == 'mauve': raise ModuleNotFoundError(name)
        return ordinary(name, *args, **kwargs)
    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ImportError, match=r'GPLv3.*pip install "synthlab-text\[mauve\]"'): mauve(cloud(40, 4, 0), cloud(40, 4, 1))


# Teacher's features ----------------------------------------------------------------------------------------------------

def test_teacher_features_are_the_last_hidden_state_whatever_the_batch():
    import torch
    from synthlab.teacher.causal import CausalTeacher
    teacher = CausalTeacher('pocket')
    texts = ['one', 'a much longer text about a match in the rain', 'two words']
    states = []
    for ids in teacher.encode(texts):
        with torch.inference_mode(): state = teacher.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1].numpy()
        states.append(state/np.linalg.norm(state))
    for batch_size in (1, 2, 32): assert np.allclose(teacher_features(teacher, texts, batch_size), states, atol=1e-4)
    assert np.isfinite(teacher_features(teacher, ['', 'word '*3000])).all()             # nothing at all, and more than fits


# Novelty ---------------------------------------------------------------------------------------------------------------

REFERENCES = {'train': ['the quick brown fox jumps over the lazy dog near the river bank', 'zzz qqq'], 'test': ['an entirely different sentence about music']}


def test_each_reference_is_reported_by_itself():
    texts = ['he said: The quick brown fox jumps, over the lazy dog!, and then 12345 vvvvvvvvvvvvvvvvvv', 'an entirely different sentence about music', 'mmm kkk']
    metric = novelty(texts, REFERENCES, Spelling())
    train, test = metric.details['references']['train'], metric.details['references']['test']
    assert metric == pytest.approx(1/3) and metric.n == 3
    assert (train['copies'], train['by meaning'], train['by words'], train['size']) == (1, 0, 1, 2)
    assert (test['copies'], test['by meaning'], test['by words'], test['size']) == (1, 1, 0, 1)
    assert train['worst'][0] | {'cosine': 0} == {'row': 0, 'cosine': 0, 'shared words': 9, 'copy': True, 'text': texts[0], 'other': REFERENCES['train'][0]}
    assert test['worst'][0]['row'] == 1 and test['shared words']['most'] == 6 and [w['copy'] for w in test['worst']] == [True, False, False]
    json.dumps(metric.to_dict(), allow_nan=False)


def test_thresholds_of_novelty_are_what_they_say():
    text, other = 'one two three four five six seven eight', 'xx one two three four five six seven eight yyyyyyyyyyyyyyyyyyyyyyyyyy zzzzzzzzzzzzzzzzzzzzzzzz'
    def copies(**thresholds): return novelty([text], {'r': [other]}, Spelling(), **thresholds).details['references']['r']['copies']
    assert (copies(), copies(shared_words=9), copies(shared_words=9, similarity=.01)) == (1, 0, 1)


@pytest.mark.parametrize('texts', [['a'], ['', 'x'], ['.', '?', '!'], ['\x00', '\u202e', 'ü'*10_000]])
def test_texts_of_almost_nothing_can_be_examined(texts):
    metric = novelty(texts, {'r': ['b', '']}, Spelling())
    assert 0 <= metric <= 1 and isinstance(metric, Metric)


def test_novelty_knows_its_bad_input():
    with pytest.raises(ValueError, match="references is empty: name at least one"): novelty(['a'], {}, Spelling())
    with pytest.raises(CannotMeasure, match=r'0 reference texts \(test\)'): novelty(['a'], {'test': []}, Spelling())
    with pytest.raises(CannotMeasure, match='0 texts'): novelty([], REFERENCES, Spelling())
    with pytest.raises(ValueError, match='similarity must be in'): novelty(['a'], REFERENCES, Spelling(), similarity=0)


# Pictures --------------------------------------------------------------------------------------------------------------

def test_one_fit_for_all_sets_keeps_distances_that_are_flat():
    "Vectors that lie in a plane: PCA keeps their distances, between sets as well."
    angle = np.random.default_rng(0).uniform(0, 2, size=30)
    E = np.stack([np.cos(angle), np.sin(angle)] + [0*angle]*3, -1)
    points = project({'a': E[:10], 'b': E[10:], 'none': E[:0]})
    assert [len(xy) for xy in points.values()] == [10, 20, 0]
    assert cdist(points['a'], points['b']) == pytest.approx(cdist(E[:10], E[10:]), abs=1e-6)


def test_tsne_is_the_same_again_and_copes_with_few_rows():
    E = cloud(8, 5, 0)
    one, again = (project({'a': E[:4], 'b': E[4:]}, 'tsne', seed=1) for _ in range(2))
    assert all(np.array_equal(one[name], again[name]) and one[name].shape == (4, 2) and np.isfinite(one[name]).all() for name in 'ab')


def test_projection_knows_its_bad_input():
    with pytest.raises(CannotMeasure, match='4 vectors in all'): project({'a': cloud(4, 3, 0)})
    with pytest.raises(CannotMeasure, match='0 vectors in all'): project({})
    with pytest.raises(ValueError, match="different dimensions"): project({'a': cloud(4, 3, 0), 'b': cloud(4, 4, 0)})


# What they share -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('measure', [mean_cosine, vendi_score, embedding_duplicates, row_cosine])
def test_measures_take_texts_or_vectors_and_refuse_what_is_neither(measure):
    texts = ['a cat', 'the dog', 'some bird', 'xylophone']
    assert np.allclose(measure(texts, embedder=Spelling()), measure(Spelling().encode(texts)), atol=1e-6)
    with pytest.raises(CannotMeasure): measure([])
    with pytest.raises(CannotMeasure): measure(['only one'])
    with pytest.raises(CannotMeasure): measure('a lone string')
    with pytest.raises(CannotMeasure): measure(np.zeros((0, 3)))
    with pytest.raises(ValueError, match='length'): measure(np.ones((5, 3)))


def test_sets_of_equal_size_can_be_drawn_for_a_comparison():
    real, fake = cloud(50, 5, 0), cloud(30, 5, 1)
    rows = equal_sizes({'real': real, 'fake': fake})
    assert coverage(real[rows['real']], fake[rows['fake']], times=0).settings['equal sizes']
