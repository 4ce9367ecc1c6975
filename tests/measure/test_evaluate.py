"A record holds every measure or the reason why there is none, never NaN; sets are compared at equal size."
import json
import math
import sys
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import norm
from synthlab.tasks.gold import written_rows
from synthlab.embeddings import EmbedderError
from synthlab.measure.evaluate import Rows, attempt, matched, measure_rows, sample_places, side_by_side, verdicts
from synthlab.util import CannotMeasure
from synthlab.measure.metric import Metric
from synthlab.measure.students import Student
from synthlab.tasks.task import load_task

NEWS = load_task('ag_news')
TEST, TRAIN = (list(written_rows(NEWS, part)) for part in ('test', 'train'))


class Letters:
    "Texts as counts of their three-letter pieces, hashed."
    name = 'letters'
    def encode(self, texts, progress=None):
        counts = np.full((len(texts), 1024), 1e-6, dtype=np.float32)
        for i, text in enumerate(texts):
            for j in range(len(text)): counts[i, zlib.crc32(text[j:j + 3].encode()) % 1024] += 1
        return counts/np.linalg.norm(counts, axis=1, keepdims=True)


class Missing:
    "An embedder whose model is not there."
    name = 'missing'
    def encode(self, texts, progress=None): raise EmbedderError('no model: two ways out')


def record(rows=TEST[:40], test=TEST, train=TRAIN, shown=(), embedder=None, **others):
    return measure_rows(rows, NEWS, test, train, shown, embedder or Letters(), progress=False, **others)


def entries(found): return {entry['name']: entry for section in found['sections'].values() for entry in section}


def row(text, label='World'): return {'text': text, 'label': label}


CASES = {
    'everything': {},
    'no gold': dict(test=None, train=None),
    'one row': dict(rows=TEST[:1]),
    'fewer rows than neighbours': dict(rows=TEST[:4]),
    'one label': dict(rows=[r for r in TEST if r['label'] == 'World']),
    'one character': dict(rows=[row('a'), row('b', 'Sports'), row('a', 'Sports'), row('c')]*5),
    'no letters': dict(rows=[row('?'), row('!', 'Sports')]*8),
    'all the same': dict(rows=[row('the same text'), row('the same text', 'Sports')]*10),
    'gold with other labels': dict(test=[row('rain', 'Weather')]*5, train=[row('rain', 'Weather'), row('snow', 'Winter')]*5),
    'one gold row': dict(test=TEST[:1], train=TRAIN[:1]),
    'hostile': dict(rows=[row('<script>alert(1)</script> "\'&'), row('\u202egnirts\u202c', 'Sports'), row('x'*10_000), row('{{ task }} %s \\', 'Sports')]*5),
}


@pytest.mark.parametrize('case', CASES)
def test_each_measure_has_a_value_or_a_reason(case):
    found = record(**CASES[case])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name, entry in entries(found).items():
        if 'skipped' in entry: assert len(entry['skipped']) > 10, name
        else: assert math.isfinite(entry['value']) and entry['n'] >= 1, name
    assert list(found['sections']) == ['diversity', 'fidelity', 'distribution', 'memorisation', 'student']


def test_what_cannot_be_measured_is_told():
    without = entries(record(test=None, train=None))
    assert all('--gold' in without[name]['skipped'] for name in ('label_preservation', 'coverage', 'mauve'))
    assert 'neighbour' in entries(record(rows=TEST[::25]))['coverage']['skipped']
    assert 'no label is in all' in entries(record(**CASES['gold with other labels']))['coverage']['skipped']


def test_no_rows_are_refused():
    with pytest.raises(CannotMeasure, match='no rows'): record(rows=[])


def test_without_an_embedder_the_rest_is_measured():
    found = entries(record(embedder=Missing()))
    assert found['vendi_score']['skipped'] == found['label_cosine']['skipped'] == 'no model: two ways out'
    assert 'value' in found['self_bleu'] and 'value' in found['entity_bias']


def test_a_student_that_cannot_be_loaded_loses_nothing_else(tmp_path):
    found = entries(record(student=Student(tmp_path/'nothing', recipe='quick'), seeds=(0,)))
    assert 'cannot load the student' in found['student_synthetic']['skipped'] and 'value' in found['self_bleu']


def test_rows_and_their_yardstick_have_equally_many_pairs():
    entry = entries(record())['distinct_2']
    assert entry['settings'] == entry['gold']['settings']


def test_without_the_extra_mauve_is_skipped(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mauve', None)
    assert 'pip install "synthlab-text[mauve]"' in entries(record())['mauve']['skipped']


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError): attempt('broken', lambda: 1/0)


def test_same_seed_same_record():
    one, other = record(seed=3), record(seed=3)
    for found in (one, other): found['provenance'].pop('seconds')
    assert one == other


def test_copies_of_each_reference_are_kept_apart():
    found = entries(record(rows=TRAIN + TEST[:20], shown=[r['text'] for r in TRAIN]))
    assert found['novelty_demonstrations']['value'] == found['novelty_train']['value'] == found['novelty_test']['value'] == .5
    assert entries(record(rows=TEST[:20], shown=[r['text'] for r in TRAIN]))['novelty_demonstrations']['value'] == 1


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.sampled_from('abc'), min_size=1, max_size=60), most=st.integers(1, 70), seed=st.integers(0, 3))
def test_samples_keep_the_shares_and_are_nested(labels, most, seed):
    drawn = sample_places(labels, most, seed)
    assert drawn == sorted(set(drawn)) and len(drawn) == min(most, len(labels))
    assert set(sample_places(labels, max(1, most - 1), seed)) <= set(drawn)
    share, all_of, some_of = len(drawn)/len(labels), Counter(labels), Counter(labels[i] for i in drawn)
    assert all(abs(some_of[label] - share*number) <= 1.5 for label, number in all_of.items())


def test_equal_numbers_of_each_label():
    gold = Rows.of(TEST)
    ours, theirs = matched(Rows.of(TRAIN[:12]), gold)
    assert Counter(ours.labels) == Counter(theirs.labels) and len(theirs) == 12
    ours, theirs = matched(gold, gold, most=40)
    assert Counter(ours.labels) == Counter(theirs.labels) == dict.fromkeys(NEWS.label_names, 10)


@settings(max_examples=60, deadline=None)
@given(a=st.floats(0, 1), b=st.floats(0, 1), se=st.floats(.01, .2))
def test_verdicts_are_the_z_test_of_a_difference(a, b, se):
    half = norm.ppf(.975)*se
    z = abs(a - b)/(se*math.sqrt(2))
    if abs(z - norm.ppf(.975)) < 1e-6: return
    found = verdicts([Metric(v, 'accuracy', 100, (v - half, v + half), better='higher').to_dict() for v in (a, b)])
    assert sorted(found) == sorted(['best', 'worse' if z > norm.ppf(.975) else 'within noise' if a != b else 'best'])
    assert found[0 if a >= b else 1] == 'best'


def test_equal_values_share_the_mark():
    "The first of three equal values was the best, and the others within noise of it."
    equal = [Metric(.5, 'accuracy', 100, (.4, .6), better='higher').to_dict()]*3
    assert verdicts(equal) == ['best']*3
    assert verdicts([Metric(.1, 'accuracy', 100, (.05, .15), better='higher').to_dict(), *equal[:2]]) == ['worse', 'best', 'best']


def test_unequal_sizes_get_no_verdict_and_a_note():
    lines = {line['name']: line for line in side_by_side([record(), record(rows=TEST[:60])])}
    assert lines['self_bleu']['verdicts'] == ['', ''] and '40, 60' in lines['self_bleu']['note']
    assert not {line['name']: line for line in side_by_side([record(), record()])}['self_bleu']['note']
