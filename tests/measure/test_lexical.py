"Word-level metrics equal their oracles, and their intervals cover what they should."
import json
import math
import sys
import warnings
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from synthlab.measure import lexical
from synthlab.measure.lexical import (
    DUPLICATES,
    TOKENIZERS,
    compression_ratio,
    distinct_n,
    earlier_twins,
    length_distribution,
    longest_shared_ngram,
    near_duplicates,
    self_bleu,
    self_bleu_scores,
    targen_vocab_sum,
    vocabulary,
    words,
)
from synthlab.util import CannotMeasure
from synthlab.measure.metric import Metric
from synthlab.tasks.task import load_task, task_names

few_words = st.lists(st.sampled_from('abcd'), max_size=9).map(' '.join)
METRICS = {'self_bleu': self_bleu, 'distinct_n': distinct_n, 'vocabulary': vocabulary, 'compression_ratio': compression_ratio,
           'length_distribution': length_distribution, 'targen_vocab_sum': targen_vocab_sum} | {f'{m} duplicates': partial(near_duplicates, method=m) for m in DUPLICATES}


def zipf_texts(n_texts, rng, length=15, n_words=500):
    share = 1/np.arange(1, n_words + 1)
    return [' '.join(f'w{word}' for word in row) for row in rng.choice(n_words, (n_texts, length), p=share/share.sum())]


# ---- Self-BLEU ----

def nltk_scores(tokens, n, smoothing):
    smooth = SmoothingFunction(epsilon=smoothing).method1 if smoothing else SmoothingFunction().method0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')                                            # method 0 warns of orders without a match
        return [sentence_bleu(tokens[:i] + tokens[i+1:], own, [1/n]*n, smooth) for i, own in enumerate(tokens)]


@given(st.lists(few_words, min_size=2, max_size=8), st.integers(1, 6), st.sampled_from([.1, .5, 0.]))
@settings(deadline=None, max_examples=200)
def test_self_bleu_is_nltk(texts, n, smoothing):
    tokens = [words(text) for text in texts]
    assume(any(tokens))
    np.testing.assert_allclose(self_bleu_scores(texts, n, smoothing=smoothing), nltk_scores(tokens, n, smoothing), rtol=0, atol=1e-12)


@pytest.mark.parametrize('tokenizer', [*TOKENIZERS, pytest.param(lambda text: text.split('e'), id='own')])
def test_self_bleu_is_nltk_on_real_texts(tokenizer):
    if tokenizer == 'spacy': pytest.importorskip('spacy')
    texts = [text for name in task_names() for label in load_task(name).labels for text in label.demonstrations][::5]
    tokens = [words(text, tokenizer) for text in texts]
    np.testing.assert_allclose(self_bleu_scores(texts, tokenizer=tokenizer), nltk_scores(tokens, 5, .1), rtol=0, atol=1e-12)


@given(st.lists(few_words.filter(bool), min_size=2, max_size=8), st.randoms())
@settings(deadline=None)
def test_self_bleu_follows_the_order_of_texts(texts, random):
    order = list(range(len(texts)))
    random.shuffle(order)
    np.testing.assert_allclose(self_bleu_scores([texts[i] for i in order]), self_bleu_scores(texts)[order], rtol=1e-12)


def test_self_bleu_of_copies_and_of_strangers():
    assert self_bleu(['one two three four five six']*7) == 1 and self_bleu([f'a{i} b{i}' for i in range(9)]) == 0


@pytest.mark.parametrize('options, message', [({'n': 0}, 'n = 0'), ({'smoothing': -1}, 'smoothing = -1'), ({'tokenizer': 'nltk'}, "no tokenizer 'nltk'")])
def test_self_bleu_refuses(options, message):
    with pytest.raises(ValueError, match=message): self_bleu(['a b', 'a c'], **options)


# ---- counting ----

@given(st.lists(few_words, min_size=1, max_size=8), st.integers(1, 4))
@settings(deadline=None)
def test_distinct_n_counts(texts, n):
    grams = [tuple(text.split()[i:i+n]) for text in texts for i in range(len(text.split()) - n + 1)]
    if grams: assert distinct_n(texts, n) == pytest.approx(len(set(grams))/len(grams))
    else:
        with pytest.raises(CannotMeasure): distinct_n(texts, n)


def near_mean(value, draws):
    "Within five standard errors of the mean of the draws."
    return abs(value - np.mean(draws)) < 5*np.std(draws)/math.sqrt(len(draws)) + 1e-9


def test_rarefaction_is_the_mean_over_samples():
    rng = np.random.default_rng(0)
    texts = zipf_texts(60, rng)
    pairs = [pair for text in texts for pair in pairwise(text.split())]
    def of_pairs(size): return len({pairs[i] for i in rng.permutation(len(pairs))[:size]})/size
    def of_texts(size): return len({word for i in rng.permutation(60)[:size] for word in texts[i].split()})
    for size in (1, 50, 700): assert near_mean(distinct_n(texts, tokens=size), [of_pairs(size) for _ in range(300)])
    for size in (1, 20, 59): assert near_mean(vocabulary(texts, size), [of_texts(size) for _ in range(300)])


@given(st.lists(few_words, min_size=1, max_size=8), st.integers(2, 3))
@settings(deadline=None)
def test_vocabulary_of_repeated_rows(texts, times):
    assume(any(texts))
    assert vocabulary(texts*times) == pytest.approx(vocabulary(texts)) == len(set(' '.join(texts).split()))
    assert targen_vocab_sum(texts*times) == times*targen_vocab_sum(texts)
    curve = list(vocabulary(texts).details['curve'].values())
    assert all(b >= a - 1e-9 for a, b in pairwise(curve))


def test_rarefaction_is_exact_for_a_million():
    counts = np.full(1000, 1000)
    assert lexical._expected_different(counts, 10**6, 10**6) == 1000 and lexical._expected_different(counts, 10**6, 1) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize('size', [0, 4, -1])
def test_sizes_beyond_the_data_are_refused(size):
    with pytest.raises(CannotMeasure, match=f'vocabulary of {size} texts where there are 3'): vocabulary(['a b']*3, size)
    with pytest.raises(CannotMeasure, match='have 3 2-grams'): distinct_n(['a b']*3, tokens=size)


def test_compression_knows_noise_from_repetition():
    noise = np.random.default_rng(0).integers(33, 127, (50, 200), dtype=np.uint8)
    assert 1 < compression_ratio([bytes(row).decode() for row in noise]) < 1.3 < 50 < compression_ratio(['the same again and again']*2000)


# ---- intervals ----

@pytest.mark.parametrize('metric', [self_bleu, distinct_n, partial(distinct_n, tokens=300), vocabulary, partial(vocabulary, size=20), compression_ratio, length_distribution],
                         ids=['self_bleu', 'distinct', 'distinct 300', 'vocabulary', 'vocabulary 20', 'compression', 'length'])
def test_intervals_cover_the_expected_value(metric):
    "Over 60 datasets of 60 texts 57 are expected; intervals half as wide would cover about 40."
    rng = np.random.default_rng(1)
    sets = [[' '.join(text.split()[:rng.integers(5, 15)]) for text in zipf_texts(60, rng)] for _ in range(60)]
    values = [metric(texts) for texts in sets]
    truth = np.mean(values)
    widths = [value.interval[1] - value.interval[0] for value in values]
    assert sum(value.interval[0] <= truth <= value.interval[1] for value in values) >= 49
    assert np.mean(widths) < 2*2*1.96*np.std(values)                               # and not by being twice as wide as need be


# ---- duplicates ----

def naive_twins(texts, threshold, n=3):
    sets = [lexical._shingles(text, 'words', n) for text in texts]
    return [next((j for j in range(i) if lexical._jaccard(sets[i], sets[j]) >= threshold), -1) for i in range(len(sets))]


@pytest.mark.parametrize('threshold', [.5, .8, 1.])
def test_minhash_finds_the_twins_that_all_pairs_have(threshold):
    rng = np.random.default_rng(0)
    texts = zipf_texts(150, rng)
    for _ in range(250):                                                           # copies with up to three words changed
        tokens = texts[rng.integers(len(texts))].split()
        for at in rng.integers(len(tokens), size=rng.integers(4)): tokens[at] = f'w{rng.integers(500)}'
        texts.append(' '.join(tokens))
    found, truth = earlier_twins(texts, threshold=threshold), np.array(naive_twins(texts, threshold))
    assert (truth >= 0).sum() > 50 and not ((found >= 0) & (truth < 0)).any()      # what is found is true,
    assert ((found >= 0) & (truth >= 0)).sum() >= .95*(truth >= 0).sum()           # and nearly all is found
    metric = near_duplicates(texts, threshold=threshold)
    assert metric == (found >= 0).mean() and metric.details['repeating'] == (found >= 0).sum()


@given(st.lists(st.lists(st.sampled_from(['a', 'A', 'b', '!', ' ']), max_size=4).map(''.join), min_size=1, max_size=12))
@settings(deadline=None)
def test_exact_and_normalised_twins(texts):
    def first(key): return [next((j for j in range(i) if key(texts[j]) == key(texts[i])), -1) for i in range(len(texts))]
    assert earlier_twins(texts, 'exact').tolist() == first(str)
    assert earlier_twins(texts, 'normalised').tolist() == first(lambda text: words(text.lower().replace('!', ' ')))


def test_many_copies_of_one_row_are_no_burden():
    twins = earlier_twins(['The same short story, told again.']*20_000)
    assert twins[0] == -1 and not twins[1:].any()


@pytest.mark.parametrize('options', [{'threshold': 0.}, {'threshold': 1.1}, {'n': 0}, {'method': 'fuzzy'}], ids=str)
def test_twins_refuse(options):
    with pytest.raises(ValueError, match='must be'): earlier_twins(['a'], **options)


# ---- copied runs ----

def runs(text, n): return {tuple(text.split()[i:i+n]) for i in range(len(text.split()) - n + 1)}


@given(st.lists(few_words, min_size=1, max_size=6), st.lists(few_words, min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_longest_shared_run(texts, others):
    length, which = longest_shared_ngram(texts, others)
    for text, n, j in zip(texts, length, which):
        assert (j >= 0) == (n > 0) and not any(runs(text, n + 1) & runs(other, n + 1) for other in others)
        if n: assert runs(text, n) & runs(others[j], n)


def test_rows_copied_whole_are_found_at_once():
    texts = zipf_texts(500, np.random.default_rng(0), length=400)
    length, which = longest_shared_ngram(texts, texts[::-1])
    assert (length == 400).all() and which.tolist() == list(range(500))[::-1]


# ---- hard input ----

@pytest.mark.parametrize('name', METRICS)
@pytest.mark.parametrize('texts', [[], 'text', [None, 'a'], ['a', 3.5]], ids=repr)
def test_input_that_is_no_list_of_texts_is_refused(name, texts):
    with pytest.raises(CannotMeasure, match='texts'): METRICS[name](texts)


HARD = {'one letter': ['a', 'b', 'a'], 'no word': ['!', '…', '?'], 'empty': ['', '', ''], 'one text': ['just one'], 'surrogates': ['\ud800 a', '\ud800', 'b \udfff'],
        'controls': ['\x00', '\x1b[31m red', 'a\u202eb'], 'long word': ['x'*10_000, 'y'*10_000], 'scripts': ['日本語です', 'नमस्ते दुनिया', 'שלום עולם'], 'digits': ['1 2', '3 4']}


@pytest.mark.parametrize('name', METRICS)
@pytest.mark.parametrize('texts', HARD.values(), ids=HARD)
def test_hard_texts_give_a_number_or_a_reason(name, texts):
    try: metric = METRICS[name](texts)
    except CannotMeasure as reason: assert any(sign.isdigit() for sign in str(reason))
    else:
        assert isinstance(metric, Metric) and math.isfinite(metric) and metric.n == len(texts)
        assert json.loads(json.dumps(metric.to_dict(), allow_nan=False)) == metric.to_dict()
        metric._repr_html_().encode()


def test_spacy_is_asked_for_by_its_extra(monkeypatch):
    lexical._spacy_tokenizer.cache_clear()
    monkeypatch.setitem(sys.modules, 'spacy', None)
    with pytest.raises(ImportError, match=r'pip install "synthlab-text\[ner\]"'): words('a b', 'spacy')
