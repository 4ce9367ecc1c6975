"Label evidence: the calibration against other libraries, the policies, and the evidence of whole runs."
import json
from collections import Counter

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from scripted_teacher import ScriptedTeacher
from synthlab import embeddings
from synthlab.align.weights import MMDWeights, balanced_weights
from synthlab.correct.choices import Evidence
from synthlab.correct.evidence import (
    calibration_gap, centred, channel_scores, decide, fit_scales, label_evidence, label_weights, log_odds, name_scores,
    reliability, scored, some_of_each, vote_scores)
from synthlab.decode.sampling import Sampling
from synthlab.measure.evaluate import Rows
from synthlab.measure.quality import _open_subjects, run_subject
from synthlab.measure.students import Probe
from synthlab.run import produce as producing
from synthlab.run.produce import export_run, make_config, produce, replay
from synthlab.run.recipe import Recipe
from synthlab.store.runs import open_run, read_rows
from synthlab.tasks.gold import DataError
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher
from test_recipe import Letters

SHORT = Sampling(16, .95, .9)


@pytest.fixture(scope='module')
def pocket(): return CausalTeacher('pocket')


@pytest.fixture(scope='module')
def sst2(): return load_task('sst2')


# ---- probabilities

@pytest.mark.parametrize('n, K', [(7, 2), (40, 3), (200, 13)])
def test_the_mean_probability_is_the_share(n, K):
    rng = np.random.default_rng(n)
    scores, share = rng.normal(size=(n, K))*4, rng.dirichlet(np.ones(K)*3)
    probs = centred(scores, share)
    np.testing.assert_allclose(probs.sum(1), 1)
    np.testing.assert_allclose(probs.mean(0), share, atol=1e-7)
    best = minimize(lambda c: logsumexp(scores + c, 1).sum() - n*share @ c, np.zeros(K), tol=1e-12).x
    np.testing.assert_allclose(probs, softmax(scores + best, 1), atol=1e-4)


def test_what_all_texts_have_in_common_and_what_a_label_is_worth_to_itself_does_not_count():
    rng = np.random.default_rng(0)
    scores, share = rng.normal(size=(50, 4)), np.full(4, .25)
    shifted = scores + rng.normal(size=(50, 1))*9 + np.array([[5., -3, 0, 1]])
    np.testing.assert_allclose(centred(scores, share), centred(shifted, share), atol=1e-7)


def test_a_label_without_rows_gets_nothing():
    probs = centred(np.zeros((4, 3)), np.array([.5, .5, 0.]))
    assert not probs[:, 2].any() and np.isfinite(probs).all()


def test_scales_are_those_of_a_penalised_logistic_regression():
    rng = np.random.default_rng(1)
    truth = rng.integers(2, size=400)
    scores = rng.normal(size=(400, 2))*3 + np.eye(2)[truth]
    from sklearn.linear_model import LogisticRegression
    model = LogisticRegression(C=1., fit_intercept=True).fit(scores[:, :1] - scores[:, 1:], truth == 0)
    # both offsets are fitted; scikit-learn's penalty falls on the same factor
    assert abs(fit_scales([scores], truth)[0] - model.coef_[0, 0]) < .02


def test_useless_scores_are_left_out_and_sure_ones_never_exceed_what_they_say():
    rng = np.random.default_rng(2)
    truth = rng.integers(3, size=200)
    sure = 3*np.eye(3)[truth] + .1*rng.normal(size=(200, 3))
    assert fit_scales([sure], truth)[0] <= 1
    assert fit_scales([8*rng.normal(size=(200, 3))], truth)[0] < .05


def test_weights_keep_the_share_of_each_label_and_ignore_what_is_no_better_than_a_guess():
    rng = np.random.default_rng(3)
    probs, codes = rng.dirichlet(np.ones(3), 60), rng.integers(3, size=60)
    weights = label_weights(probs, codes)
    np.testing.assert_allclose(np.bincount(codes, weights), np.bincount(codes), rtol=1e-9)
    assert (weights[reliability(probs, codes) == 0] == 0).all() and (weights >= 0).all()
    asked = label_weights(probs, codes, np.array([.5, .3, .2]))
    np.testing.assert_allclose(np.bincount(codes, asked)/60, [.5, .3, .2])
    np.testing.assert_allclose(label_weights(np.full((6, 3), 1/3), np.array([0, 0, 1, 1, 2, 2])), 1)


def test_no_weights_carry_more_certain_rows_than_reliabilities():
    rng = np.random.default_rng(4)
    r = rng.random(30)
    def worth(w): return (w @ r)**2/(w @ w)
    found = minimize(lambda w: -worth(np.abs(w)), np.ones(30), tol=1e-12).x
    assert abs(worth(np.abs(found)) - r @ r) < 1e-6 and abs(worth(r) - r @ r) < 1e-12


def test_log_odds_are_finite_for_certain_labels():
    assert log_odds(np.array([[1., 0.], [.5, .5]]), np.array([0, 1])).tolist() == [4., 0.]
    assert log_odds(np.array([[1., 0.]]), np.array([1])).tolist() == [-4.]


def test_the_surest_rows_of_each_label_are_kept():
    probs = np.array([[.9, .1], [.6, .4], [.8, .2], [.3, .7], [.45, .55]])
    codes, weights, kept = decide(probs, np.array([0, 0, 0, 1, 1]), 'drop', {0: 2, 1: 1})
    assert kept.tolist() == [True, False, True, True, False] and (weights == 1).all()


def test_calibration_gap_by_hand():
    # two bins: sure .9 and right in one of two; sure .6 and right
    assert abs(calibration_gap(np.array([[.9, .1], [.9, .1], [.4, .6]]), np.array([0, 1, 1])) - (2/3*.4 + 1/3*.4)) < 1e-12


def test_equal_votes_say_nothing():
    probs, _ = label_evidence([vote_scores([{'a': 2, 'b': 2}, None, {'a': 4}, {'b': 4}], 'ab')], np.array([0, 0, 1, 1]), 'ab')
    np.testing.assert_allclose(probs[:, 0], [.5, .5, .9, .1], atol=1e-6)


# ---- scores

def test_scores_are_sums_of_log_probabilities(pocket, sst2):
    texts = ['a dull film .', 'one of the best films of the year , by far .']
    names, ask = sst2.label_names, '{}\n{} {}\n{}'
    asks = [ask.format(sst2.ask_instruction(), sst2.cue, text, sst2.answer_cue) for text in texts]
    np.testing.assert_allclose(name_scores(pocket, sst2, texts), [pocket.logprob([one]*2, names).tolist() for one in asks], atol=2e-3)
    writes = [f'{sst2.write_instruction(name)}\n{sst2.cue}' for name in names]
    np.testing.assert_allclose(channel_scores(pocket, sst2, texts), [pocket.logprob(writes, [text]*2).tolist() for text in texts], atol=2e-3)


def test_scores_in_the_store_are_not_computed_again(pocket, sst2, monkeypatch):
    calls, texts = {}, ['a dull film .', 'a joy .']
    first = scored(pocket, sst2, texts, 'both', calls)
    assert len(calls) == 2 and json.dumps(calls)
    monkeypatch.setattr(type(pocket), 'logprob_table', None)
    for one, same in zip(first, scored(pocket, sst2, texts, 'both', calls)): np.testing.assert_array_equal(one, same)


def test_a_later_run_of_the_same_process_stores_what_an_earlier_one_computed(pocket, sst2, monkeypatch):
    first, second = {}, {}
    tables = scored(pocket, sst2, ['a warm film', 'a dull and endless film'], calls=first, progress=False)
    monkeypatch.setattr(CausalTeacher, 'logprob_table', lambda *a: pytest.fail('computed again'))
    np.testing.assert_array_equal(scored(pocket, sst2, ['a warm film', 'a dull and endless film'], calls=second, progress=False), tables)
    assert second == first and len(second) == 2


@pytest.mark.parametrize('order', [[0, 1, 2], [2, 0, 1]])
def test_the_table_has_the_order_of_the_texts_whatever_their_length(pocket, order):
    texts = [['a much longer text about a film', 'short', 'a middling one'][i] for i in order]
    alone = [[pocket.logprob([prompt], [text]).item() for text in texts] for prompt in ('Review:', 'News:')]
    np.testing.assert_allclose(pocket.logprob_table(['Review:', 'News:'], texts), alone, atol=1e-3)


def test_demonstrations_are_drawn_equally():
    pool = {'a': [{'text': f'a{i}'} for i in range(50)], 'b': [{'text': 'b0'}]}
    texts, codes = some_of_each(pool, ['a', 'b', 'c'], most=30)
    assert Counter(codes.tolist()) == {0: 10, 1: 1} and len(set(texts)) == 11


# ---- runs

def run(tmp_path, pocket, recipe=None, n=8, **options):
    recipe = recipe or Recipe.corrsynth(shots=1, correct=Evidence(**options))
    produce(make_config(recipe, load_task('sst2'), pocket, n, sampling=SHORT), tmp_path/'run', pocket)
    with open_run(tmp_path/'run') as found: return list(found.rows()), found.facts, found.counts()


def test_soft_labels_are_the_probabilities(pocket, tmp_path):
    rows, facts, _ = run(tmp_path, pocket)
    assert all(row['soft_label'] == row['label_probs'] and abs(sum(row['label_probs'].values()) - 1) < 1e-5 for row in rows)
    assert facts['evidence']['agreed'] == np.mean([max(row['label_probs'], key=row['label_probs'].get) == row['label'] for row in rows])
    np.testing.assert_allclose(np.mean([row['label_probs']['positive'] for row in rows]), .5, atol=1e-5)
    assert 'Label evidence' in (tmp_path/'run'/'README.md').read_text() and replay(tmp_path/'run', rows[0]['id'], pocket).same


def test_weights_are_those_of_the_probabilities(pocket, tmp_path):
    rows, _, _ = run(tmp_path, pocket, policy='weigh')
    probs = np.array([[row['label_probs'][name] for name in ('negative', 'positive')] for row in rows])
    codes = np.array([row['label'] == 'positive' for row in rows], int)
    np.testing.assert_allclose([row['weight'] for row in rows], label_weights(probs, codes), atol=1e-4)
    assert 'soft_label' not in rows[0]


def test_relabelled_rows_keep_what_they_were_written_for(pocket, tmp_path):
    rows, _, _ = run(tmp_path, pocket, policy='relabel', n=16)
    assert all(row['label'] == max(row['label_probs'], key=row['label_probs'].get) for row in rows)
    assert Counter(row['label_target'] for row in rows) == {'negative': 8, 'positive': 8}


def test_the_surest_of_more_texts_are_kept(pocket, tmp_path):
    rows, _, counts = run(tmp_path, pocket, policy='drop', candidates=1.5)
    assert counts['accepted'] == {'negative': 4, 'positive': 4} and counts['rejected']['others of its label are surer'] == 4
    left = [row for row in read_rows(tmp_path/'run', 'rejected') if row['reason'] == 'others of its label are surer']
    for row in left:
        assert row['label_probs'][row['label']] <= min(one['label_probs'][one['label']] for one in rows if one['label'] == row['label']) + 1e-9


def test_a_run_that_ended_between_evidence_and_alignment_goes_on_there(pocket, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, 'default_embedder', Letters)
    recipe = Recipe.combined(shots=1, policy='relabel')
    whole, facts, _ = run(tmp_path/'whole', pocket, recipe, 12)
    def stop(*_): raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(producing, 'align_run', stop)
        run(tmp_path/'cut', pocket, recipe, 12)
    rows, again, _ = run(tmp_path/'cut', pocket, recipe, 12)
    assert rows == whole and again['evidence'] == facts['evidence'] and again['aligned'] == facts['aligned']


def test_a_teacher_that_answers_in_text_votes(pocket, tmp_path):
    judge = ScriptedTeacher(verdict=lambda asked: ('negative', 'positive')[(len(asked.instance['text']) + asked.sample) % 2], name='judge')
    recipe = Recipe.fewgen(shots=1, correct=Evidence(votes=3, policy='weigh'))
    produce(make_config(recipe, load_task('sst2'), pocket, 6, sampling=SHORT, corrector=judge), tmp_path/'run', pocket, corrector=judge)
    rows = list(read_rows(tmp_path/'run'))
    assert len(rows) == 6 and all(sum(vote['votes'] for vote in row['sc_votes']) == 3 for row in rows)
    table = vote_scores([{vote['answer']: vote['votes'] for vote in row['sc_votes']} for row in rows], ['negative', 'positive'])
    probs = centred(table, np.array([.5, .5]))
    np.testing.assert_allclose([row['label_probs']['positive'] for row in rows], probs[:, 1], atol=1e-5)


def test_alignment_takes_doubt_into_account(pocket, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, 'default_embedder', Letters)
    rows, facts, _ = run(tmp_path, pocket, Recipe.corrsynth(shots=1, correct=Evidence(policy='weigh'), align='mmd', tilt=.05), 12)
    weights, labels = np.array([row['weight'] for row in rows]), [row['label'] for row in rows]
    np.testing.assert_allclose([weights[[one == label for one in labels]].sum() for label in ('negative', 'positive')], 6, atol=1e-4)
    assert facts['aligned']['ess'] < 12


def test_tilt_agrees_with_a_general_solver():
    rng = np.random.default_rng(0)
    real, synthetic, odds = rng.normal(size=(60, 3)), rng.normal(size=(25, 3)), rng.normal(size=25)
    fitted = MMDWeights('kernel', bandwidth=1.5, ridge=.01, tilt=.02, tol=1e-8).fit(real, synthetic, log_odds=odds)
    from synthlab.align.mmd import gaussian_kernel
    K, kappa = gaussian_kernel(synthetic, synthetic, 1.5), gaussian_kernel(synthetic, real, 1.5).mean(1)
    def F(w): return w @ K @ w - 2*kappa @ w + .01*((w - 1/25)**2).sum() - .02*odds @ w
    found = minimize(F, np.full(25, 1/25), method='SLSQP', bounds=[(0, 1)]*25, constraints={'type': 'eq', 'fun': lambda w: w.sum() - 1}, options={'ftol': 1e-14, 'maxiter': 1000}).x
    assert F(fitted.weights_) <= F(found) + 1e-8 and fitted.converged_
    assert odds @ fitted.weights_ > odds @ MMDWeights('kernel', bandwidth=1.5, ridge=.01).fit(real, synthetic).weights_


def test_balanced_weights_refuse_a_label_that_would_vanish():
    with pytest.raises(ValueError, match=r'labels \[1\] weigh nothing'): balanced_weights([1., 0.], [0, 1])


def test_a_student_of_soft_labels_undoes_planted_errors():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(200, 8))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    place = {f'{i}': row for i, row in enumerate(X.astype(np.float32))}
    class Places: encode, name = staticmethod(lambda texts: np.stack([place[text] for text in texts])), 'places'
    right = np.where(X[:, 0] > 0, 'a', 'b')
    wrong = np.where(rng.random(200) < .4, np.where(right == 'a', 'b', 'a'), right)
    certain = {'a': {'a': .95, 'b': .05}, 'b': {'a': .05, 'b': .95}}
    rows = [{'text': f'{i}', 'label': str(label)} for i, label in enumerate(wrong)]
    soft = [row | {'soft_label': certain[str(label)]} for row, label in zip(rows, right)]
    test = [{'text': f'{i}', 'label': str(label)} for i, label in enumerate(right)]
    assert Probe(Places).fit(soft).score(test) > .95 > Probe(Places).fit(rows).score(test)


def test_rows_of_several_fields_are_refused_before_anything_is_asked(pocket):
    with pytest.raises(ValueError, match='"evidence" knows labels of single texts.*premise'):
        make_config(Recipe.targen(correct='evidence'), load_task('cb'), pocket, 4)


def test_what_is_measured_of_a_run_or_a_file_has_the_soft_labels(pocket, tmp_path):
    rows, _, _ = run(tmp_path, pocket)
    soft = [row['soft_label'] for row in rows]
    assert [row['soft_label'] for row in run_subject(tmp_path/'run').rows] == soft
    export_run(tmp_path/'run', 'csv', tmp_path)
    for path in (tmp_path/'run'/'dataset.parquet', tmp_path/'run'/'dataset.jsonl', tmp_path/'dataset.csv'):
        assert [row['soft_label'] for row in _open_subjects([str(path)], 'sst2')[0].rows] == soft, path
    assert Rows.of(run_subject(tmp_path/'run').rows).soft == soft


def test_soft_labels_that_are_none_are_refused(tmp_path):
    (tmp_path/'rows.jsonl').write_text('{"text": "a joy .", "label": "positive", "soft_label": "no"}\n' * 2)
    with pytest.raises(DataError, match="soft_label is 'no', and must be a table"): _open_subjects([str(tmp_path/'rows.jsonl')], 'sst2')


def test_tokens_that_evidence_reads_are_counted(pocket, sst2):
    calls, texts = {}, ['a dull film .', 'one of the best films of the year , by far .']
    scored(pocket, sst2, texts, 'both', calls)
    def size(text): return len(pocket.encode([text])[0])
    asks = [f'{sst2.ask_instruction()}\n{sst2.cue} {text}\n{sst2.answer_cue}' for text in texts]
    writes = [f'{sst2.write_instruction(name)}\n{sst2.cue}' for name in sst2.label_names]
    name, channel = (entry['prompt_tokens'] for entry in calls.values())
    assert name == sum(map(size, asks)) + 2*sum(map(size, sst2.label_names)) and channel == sum(map(size, writes)) + 2*sum(map(size, texts))


def test_a_text_that_does_not_fit_into_the_context_is_refused(pocket, sst2):
    with pytest.raises(ValueError, match=r"tokens together, and 'pocket' takes 1024: shorten"): name_scores(pocket, sst2, ['dull ' * 1100])
