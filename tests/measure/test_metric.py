"Values keep how they were measured, and intervals cover what they should."
import json
import math
import pickle
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthlab.measure.lexical import self_bleu
from synthlab.util import CannotMeasure
from synthlab.measure.metric import (
    Metric, bootstrap_interval, check_texts, equal_sizes, half_sample_interval, wilson_interval)

plain = st.recursive(st.none() | st.booleans() | st.integers(-2**40, 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=10)
finite = st.floats(allow_nan=False, allow_infinity=False)


class Tags(HTMLParser):
    "Names of the tags of a page that are open and those that were seen."
    def __init__(self, page):
        super().__init__()
        self.open, self.seen = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag); self.seen.add(tag)

    def handle_endtag(self, tag): assert self.open.pop() == tag


@given(finite, st.text(), st.integers(0, 10**6), st.none() | st.tuples(finite, finite), st.dictionaries(st.text(), plain), st.dictionaries(st.text(), plain))
@settings(deadline=None, max_examples=60)
def test_metric_survives_json_and_pickle_and_shows_itself(value, name, n, interval, chosen, details):
    metric = Metric(value, name, n, interval, settings=chosen, details=details)
    assert metric == value and metric.value == value
    for twin in (Metric.from_dict(json.loads(json.dumps(metric.to_dict()))), pickle.loads(pickle.dumps(metric))):
        assert isinstance(twin, Metric) and twin.to_dict() == metric.to_dict() and twin == metric
    tags = Tags(metric._repr_html_())
    assert not tags.open and tags.seen <= {'table', 'tr', 'th', 'td', 'bdi', 'details', 'summary'}


HOSTILE = ['</table><script>alert(1)</script>', '"><img src=x onerror=1>', '\u202egnp.exe', 'x'*10_000, '\ud800', '\x00\x1b[31m']


@pytest.mark.parametrize('text', HOSTILE, ids=['script', 'quote', 'override', 'long word', 'surrogate', 'control'])
def test_model_text_breaks_no_display(text):
    metric = Metric(.5, text, 3, settings={text: text}, details={'examples': [{'text': text, 'other': [text]}]*2})
    page = metric._repr_html_()
    assert {'script', 'img'}.isdisjoint(Tags(page).seen) and len(page.encode()) < 5_000


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, np.float64('nan')])
def test_a_metric_is_a_number(value):
    with pytest.raises(CannotMeasure, match='mauve on 7 rows came out as'): Metric(value, 'mauve', 7)
    with pytest.raises(ValueError, match='the interval of mauve is'): Metric(0, 'mauve', 7, (value, 0))


def test_metric_keeps_no_reference_to_what_it_was_given():
    details = {'values': [1]}
    metric = Metric(1, 'x', 1, details=details)
    details['values'].append(2)
    assert metric.details == {'values': [1]} and Metric(1, 'y', 1).details is not Metric(1, 'z', 1).details


@pytest.mark.parametrize('texts', ['abc', b'abc', [], ['a', 3], ['a', None], ['a', math.nan], [['a']]], ids=repr)
def test_texts_are_refused(texts):
    with pytest.raises(CannotMeasure, match='rows'): check_texts(texts, what='rows')


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([.8, .95, .99]))
@settings(deadline=None)
def test_wilson_solves_its_equation(kn, level):
    "The ends are the shares p with |k/n - p| = z sqrt(p (1 - p)/n)."
    from scipy.stats import norm
    k, n = kn
    for p in wilson_interval(k, n, level): assert abs(k/n - p) == pytest.approx(norm.ppf((1 + level)/2)*math.sqrt(max(p*(1 - p), 0)/n), abs=1e-7)


def covered(interval, datasets, truth):
    "How often the interval made of a dataset holds the truth."
    return np.mean([low <= truth <= high for low, high in map(interval, datasets)])


@pytest.mark.parametrize('n', [40, 101])
def test_intervals_of_a_mean_cover_it(n):
    "95% of 200 datasets, give or take four standard errors and the shortness of intervals at small n."
    datasets = np.random.default_rng(0).normal(3, 2, (200, n))
    for interval in (lambda x: bootstrap_interval(x, times=200), lambda x: half_sample_interval(lambda rows: x[rows].mean(), n, times=100)):
        assert .87 < covered(interval, datasets, 3) < 1


def test_half_samples_cover_what_repetition_biases():
    "Share of different values among 200 draws of 500: its expectation is known."
    n, k = 200, 500
    truth = k*(1 - (1 - 1/k)**n)/n
    datasets = np.random.default_rng(0).integers(k, size=(100, n))
    def share(x): return len(np.unique(x))/len(x)
    assert covered(lambda x: half_sample_interval(lambda rows: share(x[rows]), n, times=100), datasets, truth) > .85
    assert covered(lambda x: bootstrap_interval(x, share, times=100), datasets, truth) == 0


def test_half_samples_are_halves_of_different_rows():
    seen = []
    half_sample_interval(lambda rows: seen.append(rows) or 0., 11, times=5, seed=3)
    *halves, whole = seen
    assert all(len(set(half.tolist())) == 5 and half.tolist() == sorted(half) and half.max() < 11 for half in halves)
    assert whole.tolist() == list(range(11)) and len({tuple(half) for half in halves}) > 1


def test_no_interval_where_a_half_cannot_be_measured():
    def needs_row_0(rows):
        if 0 not in rows: raise CannotMeasure('row 0')
        return 1.
    assert half_sample_interval(needs_row_0, 20) is None


@given(st.dictionaries(st.sampled_from('xyz'), st.lists(st.sampled_from('abc'), min_size=1, max_size=30), min_size=1), st.integers(0, 5))
@settings(deadline=None)
def test_equal_sizes(labels, seed):
    common = set.intersection(*map(set, labels.values()))
    if not common:
        with pytest.raises(CannotMeasure, match='no label is in all sets'): equal_sizes(labels, labels, seed)
        return
    drawn = equal_sizes(labels, labels, seed)
    least = {label: min(rows.count(label) for rows in labels.values()) for label in common}
    for name, rows in labels.items():
        assert drawn[name] == sorted(set(drawn[name]))
        taken = [rows[i] for i in drawn[name]]
        assert {label: taken.count(label) for label in set(taken)} == least
    assert equal_sizes(labels, labels, seed) == drawn


def test_smaller_draws_are_parts_of_larger():
    few, many = (equal_sizes({'a': range(100), 'b': range(size)})['a'] for size in (10, 40))
    assert set(few) < set(many)


@pytest.mark.parametrize('sets, labels, error', [({}, None, 'no sets'), ({'a': [1, 2]}, {'a': ['x']}, 'a has 2 rows and 1 labels'), ({'a': [1]}, {}, '0 labels')])
def test_equal_sizes_refuses(sets, labels, error):
    with pytest.raises(ValueError, match=error): equal_sizes(sets, labels)


def test_the_card_shows_the_number_of_rows_not_the_order_of_the_ngrams():
    card = self_bleu([f'the same {word} again and again' for word in 'one two three four five six seven eight'.split()], n=2)._repr_html_()
    assert '<th scope="row"><bdi>n</bdi></th><td><bdi>8</bdi>' in card and '<bdi>n (setting)</bdi></th><td><bdi>2</bdi>' in card


def test_the_interval_of_a_share_ends_at_0_and_1():
    assert Metric(.98, 'near_duplicates', 20, (.9, 1.06)).interval == (.9, 1.)
    assert Metric(.02, 'distinct_2', 20, (-.1, .1)).interval == (0., .1)
    assert Metric(3, 'vendi_score', 20, (-1., 7.)).interval == (-1., 7.)
