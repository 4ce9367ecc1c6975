"The judge of labels, and the table of measures: what it promises of each measure holds."
import ast
import inspect
import textwrap
import tomllib
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from synthlab.measure import fidelity, labels as metrics, semantic
from synthlab.util import CannotMeasure
from synthlab.measure.labels import METRICS, confusion, gold_classifier, label_preservation

DESIGN = 'self_bleu distinct_n compression_ratio entity_entropy label_cosine vendi_score mauve novelty label_preservation'


def check(*strategies):
    "Test on random examples: always the same ones, without a time limit."
    return lambda test: settings(deadline=None, derandomize=True, max_examples=60)(given(*strategies)(test))


def clouds(n, seed, labels='abc'):
    "Unit vectors around a direction of their own for each label."
    rng, names = np.random.default_rng(seed), np.array(list(labels))
    given = names[rng.integers(len(names), size=n)]
    E = np.eye(8)[np.searchsorted(names, given)] + .45*rng.normal(size=(n, 8))
    return E/np.linalg.norm(E, axis=1, keepdims=True), given.tolist()


class Scripted:
    "A judge that reads its verdict from the text."

    def predict(self, texts): return [text.split()[0] for text in texts]


# The judge --------------------------------------------------------------------------------------------------------------

def test_the_judge_is_logistic_regression_on_the_vectors():
    (E, labels), (F, _) = clouds(120, 0), clouds(50, 1)
    judge, oracle = gold_classifier(E, labels, C=3.), LogisticRegression(C=3., max_iter=2000).fit(E.astype(np.float32), labels)
    assert judge.predict(F) == oracle.predict(F).tolist() and judge.labels == ['a', 'b', 'c']
    assert judge.predict_proba(F) == pytest.approx(oracle.predict_proba(F), abs=1e-4)


def test_the_judge_learns_and_sees_spoiled_labels():
    (E, labels), (F, true) = clouds(300, 0), clouds(300, 1)
    judge = gold_classifier(E, labels)
    spoiled = ['cab'['abc'.index(label)] if i % 5 == 0 else label for i, label in enumerate(true)]
    honest, wrong = label_preservation(F, true, judge, F, true), label_preservation(F, spoiled, judge, F, true)
    assert honest > .85 and honest.details['judge']['accuracy'] == honest == wrong.details['judge']['accuracy']
    assert wrong == pytest.approx(.8*honest, abs=.05)


def test_the_judge_needs_two_labels_and_a_label_for_each_text():
    E, labels = clouds(10, 0)
    with pytest.raises(CannotMeasure, match='at least two'): gold_classifier(E, ['a']*10)
    with pytest.raises(CannotMeasure, match='gold texts have 0 label'): gold_classifier([], [])
    with pytest.raises(ValueError, match='10 gold texts and 9 labels'): gold_classifier(E, labels[1:])


# Label preservation -----------------------------------------------------------------------------------------------------

@pytest.mark.filterwarnings('ignore:A single label')
@check(st.lists(st.tuples(st.sampled_from('abcd'), st.sampled_from('abcd')), min_size=1, max_size=60))
def test_confusion_and_share_are_those_of_scikit_learn(pairs):
    predicted, asked = zip(*pairs)
    names = sorted({*predicted, *asked})
    table = confusion(predicted, asked)
    assert [list(row.values()) for row in table.values()] == confusion_matrix(asked, predicted, labels=names).tolist() and list(table) == names
    metric = label_preservation([f'{label} ...' for label in predicted], asked, Scripted())
    share = accuracy_score(asked, predicted)
    ends = binomtest(round(share*len(pairs)), len(pairs)).proportion_ci(.95, 'wilson')
    assert metric == pytest.approx(share) and metric.interval == pytest.approx((ends.low, ends.high)) and metric.n == len(pairs)
    assert {name: row['n'] for name, row in metric.details['per label'].items()} == {name: asked.count(name) for name in names if name in asked}
    assert sum(row['share']*row['n'] for row in metric.details['per label'].values()) == pytest.approx(share*len(pairs))


def test_any_object_with_predict_can_judge():
    E, labels = clouds(40, 0)
    model = LogisticRegression().fit(E, labels)
    assert label_preservation(E, labels, model) == pytest.approx(model.score(E, labels))
    assert label_preservation(E, labels, model).settings == {'judge': 'LogisticRegression', 'by_chance': round(1/len(set(labels)), 4)}


def test_labels_need_not_be_strings():
    E, labels = clouds(40, 0)
    numbers = ['abc'.index(label) for label in labels]
    assert label_preservation(E, numbers, gold_classifier(E, numbers)) == label_preservation(E, labels, gold_classifier(E, labels))
    assert label_preservation(E, numbers, LogisticRegression().fit(E, numbers), E, numbers).details['judge']['accuracy'] > .9


def test_labels_the_judge_does_not_know_are_named():
    E, labels = clouds(40, 0)
    judge = gold_classifier(E, labels)
    metric = label_preservation(E, ['z', *labels[1:]], judge)
    assert metric.details['unknown to the judge'] == ['z'] and metric.details['per label']['z']['share'] == 0
    with pytest.raises(CannotMeasure, match='the judge knows a, b, c, and the texts have x, y: train it'): label_preservation(E, ['x', 'y']*20, judge)


def test_label_preservation_knows_its_bad_input():
    with pytest.raises(CannotMeasure, match='0 texts'): label_preservation([], [], Scripted())
    with pytest.raises(ValueError, match='2 texts and 1 labels'): label_preservation(['a', 'b'], ['a'], Scripted())
    with pytest.raises(ValueError, match='1 gold texts and 0 gold labels'): label_preservation(['a'], ['a'], Scripted(), ['a'])
    class Short:
        def predict(self, texts): return ['a']
    with pytest.raises(ValueError, match='1 judgements of 2 texts'): label_preservation(['a', 'b'], ['a', 'b'], Short())


# The table --------------------------------------------------------------------------------------------------------------

def test_the_names_of_the_design_are_here():
    assert [name for name in DESIGN.split() if not callable(getattr(metrics, name, None))] == []
    assert set(DESIGN.split()) <= METRICS.keys() and set(metrics.__all__) >= {*DESIGN.split(), 'coverage', 'entity_bias', 'near_duplicates', 'project'}


def test_every_measure_of_the_modules_below_is_in_the_table():
    "A function that returns a `Metric` is a measure."
    def measures(module): return {name for name in module.__all__ if inspect.isfunction(f := getattr(module, name)) and f.__annotations__.get('return') is metrics.Metric}
    from synthlab.measure import entities, lexical
    assert set.union(*map(measures, (entities, fidelity, lexical, semantic, metrics))) == METRICS.keys()


@pytest.mark.parametrize('name', METRICS)
def test_the_report_has_words_for_every_measure(name):
    "The report looks a name up by its longest beginning: `novelty_train` is found as `novelty`."
    words = tomllib.loads(files('synthlab').joinpath('resources', 'report', 'measures.toml').read_text(encoding='utf-8'))
    assert any(f'{name}_'.startswith(f'{key}_') and entry['title'] and entry['meaning'] for key, entry in words.items())


HELPERS = {'mauve': (fidelity._mauve_metric,)}                                       # where a measure leaves the last step to another function


def better_given(function):
    "What the function's own code says is better: the word 'higher' or 'lower' among what it hands to `Metric`."
    found = set()
    for helper in (function, *HELPERS.get(function.__name__, ())):
        calls = [node for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(helper)))) if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'Metric']
        found |= {c.value for call in calls for c in [*call.args, *(k.value for k in call.keywords)] if isinstance(c, ast.Constant) and c.value in ('higher', 'lower')}
    return found


@pytest.mark.parametrize('name', METRICS)
def test_the_table_and_the_measure_agree_on_what_is_better(name):
    assert better_given(getattr(metrics, name)) == ({METRICS[name].better} - {''})


@pytest.mark.parametrize('name', ['mean_cosine', 'vendi_score', 'embedding_duplicates', 'label_cosine'])
def test_the_table_knows_which_measures_of_vectors_drift_with_the_number_of_rows(name):
    "Sixty rows, twenty times over, against 1,920 of the same source."
    def source(n, seed):
        E = np.random.default_rng(seed).normal(size=(n, 12)) + 2*np.eye(12)[0]
        E[::2, 1] += 1
        return E/np.linalg.norm(E, axis=1, keepdims=True)
    extra = {'label_cosine': lambda n: (['a', 'b']*(n//2),)}.get(name, lambda n: ())
    few = [float(getattr(metrics, name)(source(60, seed), *extra(60))) for seed in range(20)]
    many = float(getattr(metrics, name)(source(1920, 99), *extra(1920)))
    error = np.std(few, ddof=1)/np.sqrt(20)
    assert (abs(np.mean(few) - many) > 5*error + 1e-9) == METRICS[name].drifts
