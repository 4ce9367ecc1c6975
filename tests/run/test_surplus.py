"Good texts beyond the rows asked for: the same texts are written whether they are kept or not, weights give each label its share, and a run keeps to its choice."
import random
import tomllib
import warnings
from collections import Counter
from contextlib import closing
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_teacher import ScriptedTeacher
from synthlab import embeddings, generate as write_dataset
from synthlab.align.choices import MMDAlignment
from synthlab.align.importance import ImportanceWeights
from synthlab.align.weights import MMDWeights, balanced_weights
from synthlab.cli import main as cli
from synthlab.correct.choices import Evidence
from synthlab.correct.evidence import centred, decide
from synthlab.decode.choices import CorrSynth, FewGen
from synthlab.decode.loop import Completion, DecodeStats
from synthlab.measure.classifiers import row_weights
from synthlab.measure.quality import run_subject
from synthlab.measure.report import headline
from synthlab.measure.students import spread_labels
from synthlab.run import writers
from synthlab.run.engine import ThreadEngine
from synthlab.run.generate import generate
from synthlab.run.preview import preview
from synthlab.run.produce import balance_run, begin, export_run, make_config, make_teacher, produce, read_request
from synthlab.run.recipe import Recipe
from synthlab.store.runs import Run, RunError, read_counts, read_recipe, read_rows, read_status
from synthlab.tasks.task import load_task
from test_generate import PETS, Words
from test_recipe import SHORT, SST2, Letters, gold                               # noqa: F401 (gold is a fixture)

PLAIN = Recipe.corrsynth(delta=.5, repeats=2, shots=1)


@pytest.fixture(autouse=True)
def letters(monkeypatch): monkeypatch.setattr(embeddings, 'default_embedder', Letters)


@pytest.fixture(scope='module')
def pocket(): return make_teacher({'teacher': {'name': 'pocket'}})


def made(recipe, teacher, n, out, task=SST2, fork=None, watch=None, engine=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        request = make_config(recipe, task, teacher, n, sampling=SHORT, seed=3, **options)
        return produce(request, out, teacher, watch=watch or (lambda groups, *_: groups), fork=fork, engine=engine)


def fate(row): return row['id'], row['text'], row['status'], row['reason']


def counted_weights(rows):
    "The sum of the weights of each label, one by one; a row without a weight counts 1."
    sums = {}
    for row in rows: sums[row['label']] = sums.get(row['label'], 0) + row.get('weight', 1.)
    return sums


# ---- counting: a teacher that is not there, whose few texts repeat one another

def few_texts(bad, kinds):
    "A stand-in for the decode loop, whose texts are of so many kinds, and some are empty."
    class Fake:
        def __init__(self, teacher, plans, sampling, max_rows, observe): self.plans, self.stats = [plan for plan in plans if plan is not None], DecodeStats(max_rows=max_rows)
        def __iter__(self):
            for plan in self.plans:
                rng = random.Random(plan.seed)
                texts = ['' if rng.random() < bad else f'text {rng.randrange(kinds)}' for m in plan.generating]
                self.stats.rows += len(texts)
                yield plan, [Completion(text, [1], 'stop', 1, 0., 0., 0.) for text in texts]
    return Fake


def counted(monkey, decoder, bad, kinds, n, shares, keep, done=()):
    "All groups of a run on that teacher."
    monkey.setattr(writers, 'decode', few_texts(bad, kinds))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return list(generate(decoder, PETS, Words(), n, shots=1, proportions=dict(zip(PETS.label_names, shares)), budget=1000, keep_surplus=keep, done=done))


def by_hand(rows, quotas, keep):
    "How rows end: the first of each text is good; of good ones the first so many of a label are accepted, or all."
    seen, taken, ends = set(), Counter(), []
    for row in rows:
        if not row['text'] or row['text'] in seen: ends.append('no good')
        else:
            seen.add(row['text'])
            taken[row['label']] += 1
            ends.append('accepted' if keep or taken[row['label']] <= quotas[row['label']] else 'surplus')
    return ends


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 20), decoder=st.sampled_from([FewGen(), CorrSynth(delta=.5), CorrSynth(delta=.5, repeats=2)]), bad=st.sampled_from([0., .3, .6]), kinds=st.sampled_from([60, 1000]),
       shares=st.tuples(*[st.integers(1, 4)]*3))
def test_the_same_texts_are_written_and_every_row_ends_as_counted_by_hand(n, decoder, bad, kinds, shares):
    with pytest.MonkeyPatch.context() as monkey:
        groups = {keep: counted(monkey, decoder, bad, kinds, n, shares, keep) for keep in (False, True)}
        exact = {label: Fraction(share*n, sum(shares)) for label, share in zip(PETS.label_names, shares)}
        for keep, found in groups.items():
            rows = [row for group in found for row in group.rows]
            quotas = {label: sum(row['label'] == label and row['status'] == 'accepted' for group in groups[False] for row in group.rows) for label in exact}
            assert sum(quotas.values()) == n and all(abs(quotas[label] - exact[label]) < 1 for label in exact) or len(rows) > 900
            ends = [row['reason'] if row['reason'] == 'surplus' else row['status'] for row in rows]
            assert [{'rejected': 'no good'}.get(end, end) for end in ends] == by_hand(rows, quotas, keep)
        assert [[row['text'] for row in group.rows] for group in groups[True]] == [[row['text'] for row in group.rows] for group in groups[False]]


@settings(max_examples=50, deadline=None)
@given(n=st.integers(4, 20), cut=st.integers(0, 9), keep=st.booleans(), bad=st.sampled_from([0., .5]))
def test_a_run_that_goes_on_knows_the_surplus_rows_that_it_has_seen(n, cut, keep, bad):
    with pytest.MonkeyPatch.context() as monkey:
        whole = counted(monkey, CorrSynth(delta=.5, repeats=2), bad, 40, n, (3, 2, 1), keep)
        assert counted(monkey, CorrSynth(delta=.5, repeats=2), bad, 40, n, (3, 2, 1), keep, done=whole[:cut]) == whole[cut:]


# ---- whole runs

def test_a_plain_run_gives_what_was_asked_for_and_no_more_unless_somebody_asks(pocket, tmp_path):
    news = load_task('ag_news')
    exact, all_of_it = (made(PLAIN, pocket, 10, tmp_path/name, news, **options) for name, options in (('exact', {}), ('all', {'surplus': 'keep'})))
    assert exact.counts['accepted'] == {'World': 3, 'Sports': 3, 'Business': 2, 'Sci/Tech': 2} and 'surplus' not in read_recipe(tmp_path/'exact')
    assert not any('weight' in row for row in read_rows(tmp_path/'exact'))
    one, other = ([fate(row) for row in read_rows(tmp_path/name, None)] for name in ('exact', 'all'))
    assert [(*row[:2], 'accepted', '') if row[3] == 'surplus' else row for row in one] == other and any(row[3] == 'surplus' for row in one)
    # four of each label were written: they are balanced by themselves, and 3, 3, 2, 2 was rounding only
    rows = list(read_rows(tmp_path/'all'))
    assert not all_of_it.shortfall and set(all_of_it.counts['accepted'].values()) == {4} and not any('weight' in row for row in rows)


@pytest.mark.parametrize('surplus', ['keep', 'reject'])
def test_shares_that_are_asked_for_are_numbers_of_rows_or_sums_of_weights(pocket, tmp_path, surplus):
    shares = {'World': .5, 'Sports': .3, 'Business': .2, 'Sci/Tech': 0.}
    done = made(PLAIN, pocket, 10, tmp_path/'run', load_task('ag_news'), proportions=shares, surplus=surplus)
    rows, wanted = list(read_rows(tmp_path/'run')), {'World': 5, 'Sports': 3, 'Business': 2}
    sums = counted_weights(rows)
    assert sums == pytest.approx({label: shares[label]*len(rows) for label in wanted})
    if surplus == 'reject': assert done.counts['accepted'] == wanted
    else: assert all(done.counts['accepted'][label] >= number for label, number in wanted.items()) and len(rows) > 15 and sums['World'] > done.counts['accepted']['World']


def test_what_is_kept_is_in_every_file_and_told_everywhere(pocket, tmp_path, capsys):
    shares = {'negative': .8, 'positive': .2}
    made(PLAIN, pocket, 5, tmp_path/'run', surplus='keep', proportions=shares)
    rows = list(read_rows(tmp_path/'run'))
    assert len(rows) > 5 and read_recipe(tmp_path/'run')['surplus'] == 'keep'
    for form in ('csv', 'jsonl', 'parquet'):
        path, card, _ = export_run(tmp_path/'run', form, tmp_path/form)
        table = {'csv': pd.read_csv, 'jsonl': lambda path: pd.read_json(path, lines=True), 'parquet': pd.read_parquet}[form](path)
        np.testing.assert_allclose(table.weight, [row['weight'] for row in rows])
        told = card.read_text()
        assert f'Asked for 5 rows at least and got {len(rows)}.' in told and 'fell short' not in told and 'surplus = "keep"' in told
    dataset = write_dataset('sst2', 5, PLAIN, out=tmp_path/'run', teacher=pocket, sampling=SHORT, seed=3, surplus='keep', proportions=shares)
    assert repr(dataset).startswith(f'{len(rows)} rows (5 asked for) of sst2') and dataset.wanted == {'negative': 4, 'positive': 1}
    assert read_status(tmp_path/'run')['surplus'] == 'keep' and read_status(tmp_path/'run')['asked'] == 5
    assert cli.main(['status', str(tmp_path/'run')]) == 0 and 'Good texts beyond those wanted are kept' in capsys.readouterr().out
    subject = run_subject(tmp_path/'run')
    assert subject.counts['missing'] == 0 and headline({'sections': {}, 'counts': subject.counts})[0] == (f'{len(rows)}', 'rows accepted, 5 asked')
    with Run(tmp_path/'run', read_recipe(tmp_path/'run')) as run: balance_run(run)                   # once more: nothing moves
    assert [row['weight'] for row in read_rows(tmp_path/'run')] == [row['weight'] for row in rows]


def test_a_fork_pays_for_nothing_that_was_written_and_may_ask_for_more(pocket, tmp_path):
    made(PLAIN, pocket, 5, tmp_path/'run')
    kept = made(PLAIN, pocket, 5, tmp_path/'kept', surplus='keep', fork=tmp_path/'run')
    assert kept.usage.calls == 0 and len(list(read_rows(tmp_path/'kept'))) == read_counts(tmp_path/'run')['candidates'] - sum(
        number for reason, number in read_counts(tmp_path/'run')['rejected'].items() if reason != 'surplus')
    larger = made(PLAIN, pocket, 12, tmp_path/'larger', surplus='keep', fork=tmp_path/'kept')
    alone = made(PLAIN, pocket, 12, tmp_path/'alone', surplus='keep')
    assert larger.usage.calls < alone.usage.calls and list(read_rows(tmp_path/'larger', None)) == list(read_rows(tmp_path/'alone', None))


class Stop(Exception): pass


def two_groups(groups, *_):
    "Watches a run, and stops it after two groups."
    with closing(groups):
        for number, group in enumerate(groups):
            yield group
            if number == 1: raise Stop


@pytest.mark.parametrize('surplus', ['keep', 'reject'])
def test_a_stopped_run_ends_with_the_same_rows_and_weights(pocket, tmp_path, surplus):
    recipe = Recipe.corrsynth(shots=1, repeats=2, correct=Evidence(policy='weigh'))
    made(recipe, pocket, 10, tmp_path/'whole', surplus=surplus)
    with pytest.raises(Stop): made(recipe, pocket, 10, tmp_path/'run', surplus=surplus, watch=two_groups)
    made(recipe, pocket, 10, tmp_path/'run', surplus=surplus)
    assert list(read_rows(tmp_path/'run', None)) == list(read_rows(tmp_path/'whole', None))
    assert (tmp_path/'run'/'dataset.jsonl').read_bytes() == (tmp_path/'whole'/'dataset.jsonl').read_bytes()
    made(recipe, pocket, 10, tmp_path/'threads', surplus=surplus, engine=ThreadEngine(2))
    assert (tmp_path/'threads'/'dataset.jsonl').read_bytes() == (tmp_path/'whole'/'dataset.jsonl').read_bytes()


def test_combined_keeps_all_and_gives_each_label_its_share(pocket, tmp_path, gold):                       # noqa: F811
    for name in ('align', 'no-align'):
        recipe = Recipe.combined(shots=1) if name == 'align' else Recipe.combined(shots=1).without('align')
        done = made(recipe, pocket, 9, tmp_path/name, gold=gold)
        rows, counts = list(read_rows(tmp_path/name)), done.counts
        assert 'surplus' not in counts['rejected'] and len(rows) == counts['candidates'] - sum(counts['rejected'].values()) >= 10
        assert read_recipe(tmp_path/name)['surplus'] == 'keep' and min(counts['accepted'].values()) >= 4
        sums = counted_weights(rows)
        assert [sums[label] for label in ('negative', 'positive')] == pytest.approx([len(rows)/2]*2)
    exact = made(Recipe.combined(shots=1), pocket, 9, tmp_path/'exact', gold=gold, surplus='reject')
    assert exact.counts['accepted'] == {'negative': 5, 'positive': 4} and read_recipe(tmp_path/'exact')['surplus'] == 'reject'
    shares = made(Recipe.combined(shots=1), pocket, 10, tmp_path/'shares', gold=gold, proportions={'negative': .8, 'positive': .2})
    assert shares.counts['accepted'] == {'negative': 8, 'positive': 2} and 'surplus' not in read_recipe(tmp_path/'shares')


def test_rows_that_a_later_stage_chooses_are_chosen_among_more(pocket, tmp_path, gold):                   # noqa: F811
    recipe = Recipe.corrsynth(shots=1, repeats=2, align=MMDAlignment(keep='rows', candidates=1.5))
    counts = {surplus: made(recipe, pocket, 6, tmp_path/surplus, gold=gold, surplus=surplus).counts for surplus in ('keep', 'reject')}
    assert counts['keep']['accepted'] == counts['reject']['accepted'] == {'negative': 3, 'positive': 3}
    assert counts['keep']['rejected']['left out by alignment'] == counts['reject']['rejected']['left out by alignment'] + counts['reject']['rejected']['surplus']


def test_no_row_is_kept_of_a_label_that_nobody_wants(tmp_path):
    judge = ScriptedTeacher(verdict=lambda asked: 'positive', name='judge')
    done = made(Recipe.targen(), judge, 4, tmp_path/'run', surplus='keep', proportions={'negative': 0., 'positive': 1.})
    assert set(done.counts['accepted']) == {'positive'}


# ---- a choice is kept to

def test_a_run_is_not_continued_with_the_other_choice(pocket, tmp_path):
    made(PLAIN, pocket, 4, tmp_path/'run', surplus='keep')
    with pytest.raises(RunError, match="surplus: 'keep' there, None now"): made(PLAIN, pocket, 4, tmp_path/'run')
    made(PLAIN, pocket, 4, tmp_path/'plain')
    with pytest.raises(RunError, match="surplus: None there, 'keep' now"): made(PLAIN, pocket, 4, tmp_path/'plain', surplus='keep')
    with pytest.raises(ValueError, match="surplus must be 'keep'"): make_config(PLAIN, SST2, pocket, 4, surplus='all')
    with pytest.raises(ValueError, match="surplus must be 'keep'"): read_request(make_config(PLAIN, SST2, pocket, 4) | {'surplus': 'all'}, pocket)
    assert begin(make_config(PLAIN, SST2, pocket, 4, candidate_tokens=400), pocket).whole_rounds


def test_a_folder_from_before_there_was_the_choice_goes_on_as_it_began(pocket, tmp_path):
    recipe = Recipe.corrsynth(shots=1, repeats=2, correct=Evidence(policy='weigh'))
    options = dict(out=tmp_path/'run', teacher=pocket, sampling=SHORT, seed=3)
    old = {name: value for name, value in make_config(recipe, SST2, pocket, 10, sampling=SHORT, seed=3, budget=8*10).items() if name != 'surplus'}
    with pytest.raises(Stop): produce(old, tmp_path/'run', pocket, watch=two_groups)
    with pytest.raises(RunError, match="surplus: None there, 'keep' now"): write_dataset('sst2', 10, recipe, budget=80, surplus='keep', **options)
    rows = write_dataset('sst2', 10, recipe, budget=80, **options)
    assert rows.counts == {'negative': 5, 'positive': 5} and 'surplus' not in read_recipe(tmp_path/'run')
    assert write_dataset('sst2', 10, recipe, budget=80, surplus='reject', **options).counts == rows.counts


# ---- the command line, and a look ahead

def test_the_command_line_says_it_and_a_preview_foresees_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = 'sst2 --recipe corrsynth --repeats 2 --shots 1 --n 5 --max-new-tokens 10 --seed 3'.split()
    assert cli.main(['generate', *words, '--surplus', 'maybe', '--out', 'run']) == 2 and not (tmp_path/'run').exists()
    assert "'keep', 'reject'" in capsys.readouterr().err
    assert cli.main(['preview', *words, '--surplus', 'keep', '--out', 'run']) == 0
    seen = capsys.readouterr().out
    assert 'good texts beyond the 5 that are needed are kept' in ' '.join(seen.split())
    assert cli.main(['generate', *words, '--surplus', 'keep', '--out', 'run']) == 0
    out, rows = ' '.join(capsys.readouterr().out.split()), list(read_rows('run'))
    assert f'{len(rows)}, 5 asked for' in out and f'{len(rows) - 5} rows are beyond those asked for' in out
    assert cli.main(['generate', *words, '--out', 'run']) == 2 and 'surplus' in capsys.readouterr().err
    assert tomllib.loads((tmp_path/'run'/'recipe.toml').read_text())['surplus'] == 'keep'


# ---- weights within labels, wherever they are made

CODES = np.repeat([0, 1, 2], [9, 5, 3])
NAMES = 'abc'


def texts_and_pool():
    rng = np.random.default_rng(0)
    def text(k): return ' '.join(rng.choice(['owl', 'fox', 'hen', 'jay', 'kite', 'mole'][k:k + 4], 5))
    return [text(k) for k in CODES], {name: [{'text': text(k)} for _ in range(20)] for k, name in enumerate(NAMES)}


def probabilities(): return centred(np.random.default_rng(1).normal(size=(17, 3)) + 2*np.eye(3)[CODES], np.bincount(CODES)/17)


def by_evidence(policy):
    codes, weights, _ = decide(probabilities(), CODES, policy)
    return codes, weights, np.bincount(codes, minlength=3)


def by_alignment(choice, **odds):
    texts, pool = texts_and_pool()
    labels = [NAMES[k] for k in CODES]
    return CODES, choice.align(texts, labels, pool, {}, embedder=Letters(), **odds).weights, [9, 5, 3]


def by_fit(**options):
    texts, pool = texts_and_pool()
    real = np.concatenate([Letters().encode([row['text'] for row in pool[name]]) for name in NAMES])
    fitted = MMDWeights(**options).fit(real, Letters().encode(texts), np.repeat(list(NAMES), 20), [NAMES[k] for k in CODES])
    return CODES, fitted.weights_*17, [9, 5, 3] if not options else [17/3]*3


def by_soft_labels():
    "Each row stands for all labels, by their probabilities; the mass of a label is that of its rows."
    probs = probabilities()
    _, labels, weights = spread_labels(['']*17, [NAMES[k] for k in CODES], [dict(zip(NAMES, map(float, row))) for row in probs], least=0.)
    return np.array([NAMES.index(name) for name in labels]), weights, [9, 5, 3]


MAKERS = {
    **{f'evidence, {policy}': lambda policy=policy: by_evidence(policy) for policy in ('weigh', 'soft', 'relabel')},
    'MMD': lambda: by_alignment(MMDAlignment()), 'MMD with log-odds': lambda: by_alignment(MMDAlignment(tilt=.1), log_odds=np.linspace(-3, 3, 17)),
    'IMP': lambda: by_alignment(ImportanceWeights()), 'DIMP': lambda: by_alignment(ImportanceWeights('dimp')),
    'MMDWeights': by_fit, 'MMDWeights, real shares': lambda: by_fit(shares='real'),
    'shares of the rows': lambda: (CODES, balanced_weights(np.arange(1., 18), CODES), [9, 5, 3]),
    'shares asked for': lambda: (CODES, balanced_weights(np.arange(1., 18), CODES, [2, 1, 1]), [17/2, 17/4, 17/4]),
    'students, balanced': lambda: (CODES, row_weights(CODES, NAMES, None, 'balanced'), [17/3]*3),
    'students, balanced already': lambda: (CODES, row_weights(CODES, NAMES, balanced_weights(np.arange(1., 18), CODES, [1, 1, 1])), [17/3]*3),
    'students, soft labels': by_soft_labels}


@pytest.mark.parametrize('maker', MAKERS)
def test_weights_have_the_sum_of_their_label(maker):
    codes, weights, sums = MAKERS[maker]()
    found = [0.]*3
    for code, weight in zip(codes, weights, strict=True):
        assert weight >= 0
        found[code] += float(weight)
    assert found == pytest.approx(list(sums), rel=1e-5)
