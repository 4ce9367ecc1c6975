"Entities are spans and not substrings, extractors are exchangeable, entropy and distances equal scipy's, and what cannot be measured says so."
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from synthlab.measure import entities
from synthlab.measure.entities import (
    RuleExtractor, SpacyExtractor, TransformersExtractor, entity_bias, entity_entropy, entity_key, extractor,
    known_names, names_pattern, pronoun_ratio, read_run)
from synthlab.util import CannotMeasure
from synthlab.measure.metric import Metric

RULES = RuleExtractor()
MENTIONS = st.lists(st.lists(st.tuples(st.sampled_from('AB'), st.sampled_from('xyz')), max_size=4), min_size=1, max_size=12)


def given_mentions(rows):
    "An extractor that answers with `rows`, and texts that name their row."
    def lookup(texts): return [rows[int(text)] for text in texts]
    return [str(i) for i in range(len(rows))], lookup


@given(st.sets(st.text('ab c', min_size=1, max_size=5).map(lambda s: ' '.join(s.split())).filter(bool), min_size=1), st.text('ab c', max_size=8))
def test_names_pattern_matches_exactly_the_names(names, other):
    import re
    pattern = re.compile(names_pattern(names))
    for word in {*names, ' '.join(other.split())}: assert bool(pattern.fullmatch(word)) == (word in names)


def test_the_list_is_sound():
    names = known_names()
    for kind, lists in names.items():
        if kind == 'aliases': continue
        assert all(name == name.lower() and name.strip() == name != '' for name in lists['any'])
        assert all(name[0].isupper() for name in lists['capital'])
    assert all(key == entity_key(key) or names['aliases'][key] == entity_key(key) for key in names['aliases'])
    assert all(entity_key(usual) == usual for usual in names['aliases'].values())                # no chains


@pytest.mark.parametrize('text, expected', [
    ('They paid $3.4 billion, or 20 euros each.', [('MONEY', '$3.4 billion'), ('MONEY', '20 euros')]),
    ('up 1.3 percent to 1,200 points', [('PERCENT', '1.3 percent'), ('CARDINAL', '1,200')]),
    ('on 14 November 2004 and on July 3, 1999', [('DATE', '14 November 2004'), ('DATE', 'July 3, 1999')]),
    ('it may rain in may, march on 3 march', [('DATE', 'may'), ('DATE', '3 march')]),
    ('at 7:30 p.m. on monday', [('TIME', '7:30 p.m.'), ('DATE', 'monday')]),
    ('the 3rd of seven', [('ORDINAL', '3rd'), ('CARDINAL', 'seven')]),
    ('the world #39;s poorest', []),
    ('she told us about turkey and a polish remover', []),
    ('he left the US for Turkey', [('GPE', 'US'), ('GPE', 'Turkey')]),
    ('talks in sri  lanka and in new york city', [('GPE', 'sri  lanka'), ('GPE', 'new york city')]),
    ('shares of ford motor co. and geico inc. fell', [('ORG', 'motor co.'), ('ORG', 'geico inc.')]),
    ('and President Ana Ruiz met the Bank of England', [('PERSON', 'Ana Ruiz'), ('ORG', 'Bank of England')]),
    ("we saw Canada's lakes", [('GPE', 'Canada')]),
    ('A woman sat with a roman trolleyman', []),
    ('Chip Designers Turn to Twin Cores in France', [('GPE', 'France')]),
])
def test_rules(text, expected): assert RULES([text]) == [expected]


@given(st.lists(st.text(max_size=60), max_size=5))
def test_rules_mark_spans_of_any_text(texts):
    for text, found in zip(texts, RULES(texts), strict=True):
        assert all(surface and surface.split()[0] in text for _, surface in found)
    assert RuleExtractor(cased=False)(texts) == RuleExtractor(cased=False)([text.lower() for text in texts])


STALLING = ["'A' * 10_000", "'A' * 3 + ' A' * 5_000", "'A.' * 5_000", "'1,' * 5_000", "'Bank of ' * 2_000", '"A\'a" * 3_000', r"'\0<script>\ud800\u202e'", "'x' * 10_000"]


def test_rules_do_not_stall():
    "The text that was begun last is the one that stalls or fails."
    code = 'from synthlab.measure.entities import RuleExtractor\n' + '\n'.join(f'print({text!r}, flush=True); RuleExtractor()([{text}])' for text in STALLING)
    try: done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=30, cwd=Path(entities.__file__).parents[2])
    except subprocess.TimeoutExpired as late: pytest.fail(f'stalls: {late.stdout.splitlines()[-1]}')
    assert done.returncode == 0 and done.stdout.splitlines() == STALLING, done.stdout + done.stderr


@pytest.mark.parametrize('run, opening, expected', [('The', True, []), ('Negotiators', True, []), ('Negotiators', False, [('NAME', 'Negotiators')]),
                                                    ('NASA', False, [('ORG', 'NASA')]), ('EU', True, [('ORG', 'EU')]), ('XYZ', False, [('ORG', 'XYZ')]),
                                                    ('Mr. Orban', True, [('PERSON', 'Orban')]), ('In Friday', True, [('DATE', 'Friday')])])
def test_read_run(run, opening, expected): assert read_run(run, opening) == expected


@settings(deadline=None)
@given(MENTIONS)
def test_entropy_equals_scipy(rows):
    texts, lookup = given_mentions(rows)
    by_type = {kind: Counter(name for row in rows for k, name in row if k == kind) for kind in 'AB'}
    expected = {kind: entropy(list(counts.values()), base=2) for kind, counts in by_type.items() if counts}
    if not expected:
        with pytest.raises(CannotMeasure, match='no names'): entity_entropy(texts, lookup)
        return
    found = entity_entropy(texts, lookup)
    assert found == pytest.approx(np.mean(list(expected.values())), abs=1e-12) and found.settings['extractor'] == 'lookup' and found.n == len(rows)
    assert {kind: entry['entropy'] for kind, entry in found.details['types'].items()} == pytest.approx(expected, abs=1e-12)
    total = sum(sum(c.values()) for c in by_type.values())
    assert found.details['weighted'] == pytest.approx(sum(h * sum(by_type[kind].values()) for kind, h in expected.items()) / total, abs=1e-12)


@settings(deadline=None)
@given(MENTIONS, MENTIONS, st.integers(0, 9))
def test_bias_equals_scipy(rows, gold, seed):
    gold = (gold * len(rows))[:len(rows)]                                       # equal sizes: all rows are compared
    texts, lookup = given_mentions(rows + gold)
    counts = [Counter(e for row in part for e in row) for part in (rows, gold)]
    if not all(counts):
        with pytest.raises(CannotMeasure): entity_bias(texts[:len(rows)], texts[len(rows):], lookup, times=5, seed=seed)
        return
    keys = sorted(counts[0] | counts[1])
    p, q = (np.array([c[k] for k in keys]) / c.total() for c in counts)
    found = entity_bias(texts[:len(rows)], texts[len(rows):], lookup, times=5, seed=seed)
    assert found == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-12)
    assert found.details['jensen_shannon'] == pytest.approx(np.nan_to_num(jensenshannon(p, q, base=2)), abs=1e-7)
    again = entity_bias(texts[:len(rows)], texts[len(rows):], lookup, times=5, seed=seed)
    assert found.to_dict() == again.to_dict() and Metric.from_dict(found.to_dict()) == found


def zipf_texts(rng, n, shift=0): return [' '.join(f'e{min(k, 60) + shift}' for k in rng.zipf(1.6, 2)) for _ in range(n)]
def places(texts): return [[('GPE', word) for word in text.split()] for text in texts]


def test_the_floor_is_what_the_same_source_gives():
    rng = np.random.default_rng(0)
    gold = zipf_texts(rng, 400)
    same, other = entity_bias(zipf_texts(rng, 200), gold, places), entity_bias(zipf_texts(rng, 200, shift=1), gold, places)
    floor = same.details['noise_floor']
    assert floor['n'] == 200 and abs(floor['excess']) < .05 < .3 < other.details['noise_floor']['excess']
    assert same.interval[0] <= same <= same.interval[1] < other.interval[0]


def test_the_interval_is_as_wide_as_fresh_samples_vary():
    rng = np.random.default_rng(1)
    found = [entity_bias(zipf_texts(rng, 150), zipf_texts(rng, 150, shift=1), places, times=100) for _ in range(30)]
    spread, widths = np.std(found), np.mean([m.interval[1] - m.interval[0] for m in found])
    assert .6 < widths / (2 * 1.96 * spread) < 1.6


def test_sets_are_compared_at_equal_size():
    rng = np.random.default_rng(2)
    found = entity_bias(zipf_texts(rng, 50), zipf_texts(rng, 500), places)
    assert found.n == 50 and (found.settings['texts'], found.settings['gold_texts']) == (50, 500) and found.details['noise_floor']['n'] == 50


def test_aliases_join_and_types_select():
    texts, gold = ['the U.S. and Peru', 'on Monday'], ['America and Peru', 'on Friday']
    assert entity_bias(texts, gold, types=['GPE']) == 0 < entity_bias(texts, gold)
    assert entity_entropy(['in the US', 'in the U.S.']) == 0 < entity_entropy(['in the US', 'in the U.S.'], aliases=False)


def test_equal_case_is_not_changed():
    assert entity_bias(['in Peru'] * 3, ['in Peru'] * 3).settings['extractor'] == 'rules'
    assert entity_bias(['in peru'] * 3, ['in peru'] * 3).settings['extractor'] == 'rules'
    assert entity_bias(['in peru'] * 3, ['in Peru, said Wim Ost'] * 3) == 0


@pytest.mark.parametrize('measure', [entity_entropy, pronoun_ratio, lambda texts: entity_bias(texts, ['Peru']), lambda texts: entity_bias(['Peru'], texts)])
@pytest.mark.parametrize('bad', [[], 'one text', [None], ['a'], ['']])
def test_bad_texts_are_refused(measure, bad):
    with pytest.raises(CannotMeasure): measure(bad)


def test_few_texts_have_no_interval():
    found = entity_bias(['Peru'], ['Iran'])
    assert found == 1 and found.interval is None and found.details['noise_floor'] is None and entity_entropy(['Peru']).interval is None


def test_an_extractor_that_loses_texts_is_refused():
    with pytest.raises(ValueError, match='0 lists for 2 texts'): entity_entropy(['a', 'b'], lambda texts: [])


@given(st.lists(st.sampled_from(['she', 'He', 'her', 'HIS', 'hero', 'the', 'they', "she's"]), min_size=1, max_size=20))
def test_pronouns_are_words(words):
    she, he = sum(w in ('she', 'her', "she's") for w in words), sum(w in ('He', 'HIS') for w in words)
    if not she + he:
        with pytest.raises(CannotMeasure): pronoun_ratio([' '.join(words)])
        return
    found = pronoun_ratio(words)
    assert found == pytest.approx(she / (she + he)) and (found.details['feminine'], found.details['masculine']) == (she, he)
    assert found.interval is None or 0 <= found.interval[0] <= found.interval[1] <= 1


def test_spacy_pipelines():
    spacy = pytest.importorskip('spacy', reason='spaCy is not here: pip install "synthlab-text[ner]"')
    pipeline = spacy.blank('en')
    pipeline.add_pipe('entity_ruler').add_patterns([{'label': 'GPE', 'pattern': 'Oman'}])
    find = SpacyExtractor(pipeline)
    assert find(['the woman left Oman', '']) == [[('GPE', 'Oman')], []] and find.name.startswith('spacy:en_')
    assert entity_entropy(['Oman'], find).settings['extractor'] == find.name
    with pytest.raises(ImportError, match='spacy download en_none'): extractor('spacy:en_none')


def test_without_spacy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'spacy', None)
    with pytest.raises(ImportError, match=r'pip install "synthlab-text\[ner\]"'): extractor('spacy')


def test_token_classification_models(tmp_path):
    import torch
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'woman', 'left', 'oman']
    (tmp_path/'vocab.txt').write_text('\n'.join(words))
    BertTokenizerFast(str(tmp_path/'vocab.txt')).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, id2label={0: 'O', 1: 'B-GPE'},
                        label2id={'O': 0, 'B-GPE': 1})
    model = BertForTokenClassification(config)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[8] += 5 * torch.tensor([1., -1.] * 4)                       # 'oman' unlike the rest
        states = [model.bert(torch.tensor([[2, 5, i, 3]])).last_hidden_state[0, 2] for i in (8, 6)]
        model.classifier.weight[1] = 20 * (states[0] - states[1])
        model.classifier.weight[0] = 0
        model.classifier.bias[:] = torch.tensor([0., -model.classifier.weight[1] @ (states[0] + states[1]) / 2])
    model.save_pretrained(tmp_path)
    find = extractor(f'transformers:{tmp_path}')
    assert isinstance(find, TransformersExtractor)
    assert find(['the woman left Oman', '', '  ', 'the woman']) == [[('GPE', 'Oman')], [], [], []]
    with pytest.raises(ValueError, match='token classification'): TransformersExtractor(str(tmp_path/'missing'))


@pytest.mark.parametrize('name', ['', 'nltk', 'transformers', 'transformers:', None])
def test_unknown_extractors(name):
    with pytest.raises(ValueError, match='there is no extractor'): extractor(name)


def test_import_is_light():
    code = "import sys, synthlab.measure.entities; assert not {'torch', 'transformers', 'datasets', 'pandas', 'spacy'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, cwd=Path(entities.__file__).parents[2])
