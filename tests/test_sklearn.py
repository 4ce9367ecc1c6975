"UncertaintyTracker, MMDWeights and Student keep scikit-learn's rules for parameters, copies and what is not fitted yet."
import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks as checks
from sklearn.utils.validation import check_is_fitted
from synthlab import MMDWeights, Student, UncertaintyTracker
from synthlab.measure.classifiers import TrainConfig
from synthlab.util import CannotMeasure

X = np.random.default_rng(0).normal(size=(30, 4))
MADE = {'tracker': lambda: UncertaintyTracker(scale=.7, seed=3), 'weights': lambda: MMDWeights('kernel', ridge=.1, cap=4),
        'student': lambda: Student('minilm', recipe='quick', epochs=1, max_length=32, labels=['good', 'bad'])}
# Those that look at parameters and copies. The others fit a table X with labels y of numbers: a tracker has no labels and learns nothing that could be
# predicted, weights have two tables, and a student reads texts. `check_do_not_raise_errors_in_init_or_set_params` is against a rule of ours: what is
# asked in vain is refused at once, by the constructor and, since `set_params` may come between, by `fit` again.
RULES = ['check_estimator_cloneable', 'check_estimator_repr', 'check_get_params_invariance', 'check_set_params',
         'check_parameters_default_constructible', 'check_valid_tag_types', 'check_estimator_tags_renamed', 'check_mixin_order']
# What the tracker's fit(X) can be asked beside; `check_estimators_nan_inf` wants the words NaN or inf where ours say which row holds a number that is not finite.
OF_FIT = ['check_dont_overwrite_parameters', 'check_estimators_overwrite_params', 'check_estimators_fit_returns_self', 'check_fit_check_is_fitted', 'check_dict_unchanged',
          'check_readonly_memmap_input', 'check_estimators_pickle', 'check_f_contiguous_array_estimator', 'check_fit_idempotent', 'check_fit1d']


@pytest.mark.parametrize('name', MADE)
@pytest.mark.parametrize('rule', RULES)
def test_rules_of_parameters(name, rule): getattr(checks, rule)(name, MADE[name]())


def test_students_set_nothing_else(): checks.check_no_attributes_set_in_init('student', Student('minilm', recipe='quick', max_length=32))


@pytest.mark.parametrize('rule', OF_FIT)
def test_rules_of_fit(rule): getattr(checks, rule)('tracker', MADE['tracker']())


# ---- what the rules are for

@pytest.mark.parametrize('name', MADE)
def test_a_copy_has_the_settings_and_nothing_learned(name):
    made = MADE[name]()
    copy = clone(made)
    assert isinstance(made, BaseEstimator) and type(copy) is type(made) and copy.get_params() == made.get_params()
    assert made.get_params().keys() >= set(inspect.signature(type(made)).parameters) - {'overrides'}
    with pytest.raises(NotFittedError): check_is_fitted(copy)


def test_a_fitted_copy_is_empty_and_fits_alike():
    tracker, weights = MADE['tracker']().fit(X), MADE['weights']().fit(X, X[:20] + .1)
    tracker.select(3)
    for made in (tracker, weights): check_is_fitted(made)
    assert clone(tracker).fit(X).select(3).tolist() == tracker.clusters_[:, 0].tolist() and not hasattr(clone(tracker), 'variance_')
    assert (clone(weights).fit(X, X[:20] + .1).weights_ == weights.weights_).all() and not hasattr(clone(weights), 'weights_')


@pytest.mark.parametrize('call', [lambda: UncertaintyTracker().select(1), lambda: UncertaintyTracker().observe(0), lambda: Student('minilm').predict(['x']), lambda: Student('minilm').score([{'text': 'x', 'label': 'y'}])])
def test_what_needs_fit_says_so(call):
    with pytest.raises(NotFittedError, match='call fit'): call()


@pytest.mark.parametrize('made, wrong', [(MADE['tracker'], {'noise': -1}), (MADE['tracker'], {'start': 'last'}), (MADE['student'], {'kind': 'endocer'}), (MADE['student'], {'recipe': 'nothing'}), (MADE['student'], {'epochs': 0})])
def test_settings_are_refused_when_made_and_again_before_work(made, wrong):
    "scikit-learn's set_params takes anything, so fit looks once more."
    made = made()
    with pytest.raises(ValueError): type(made)(**made.get_params() | wrong)
    with pytest.raises(ValueError): made.set_params(**wrong).fit(X)


def test_unknown_settings_are_refused():
    for name, made in MADE.items():
        with pytest.raises(ValueError, match='nonsense'): made().set_params(nonsense=1)
    with pytest.raises(ValueError, match='nonsense'): Student('minilm', nonsense=1)


def test_fields_of_a_recipe_are_parameters_once_given():
    plain, made = Student('minilm', recipe='quick'), Student('minilm', recipe='quick', epochs=7, max_length=40)
    assert 'epochs' not in plain.get_params() and plain.get_params()['max_length'] is None and plain.recipe_.max_length != 40
    assert (made.recipe, made.epochs, made.recipe_.epochs, made.recipe_.max_length, made.recipe_name) == ('quick', 7, 7, 40, 'quick')
    assert plain.set_params(epochs=7, max_length=40).recipe_ == made.recipe_ == clone(made).recipe_ == made.clone(seed=3).recipe_
    assert made.clone(recipe='targen').recipe_ == Student(recipe='targen').recipe_                  # another recipe comes whole
    own = TrainConfig(lr=1e-4, epochs=2)
    assert Student(recipe=own).recipe is own and Student(recipe=own).recipe_name == 'own' and Student(recipe=own, lr=.5).recipe_.lr == .5


def test_notebooks_show_our_table_of_weights():
    bundle = MADE['weights']().fit(X, X[:20] + .1)._repr_mimebundle_()
    assert 'rows worth' in bundle['text/plain'] and '<table>' in bundle['text/html'] and 'sk-' not in bundle['text/html']


def test_a_student_is_a_classifier_of_texts():
    from sklearn.model_selection import cross_val_score
    texts, labels = ['so good', 'a joy', 'so bad', 'a bore']*2, ['good', 'good', 'bad', 'bad']*2
    student = MADE['student']()
    assert is_classifier(student) and student.__sklearn_tags__().input_tags.string and not hasattr(student, 'classes_')
    student.fit(texts, np.array(labels))
    assert student.classes_.tolist() == ['good', 'bad'] and student.predict_proba(texts).shape == (8, 2)
    by_rows = clone(student).fit([{'text': t, 'label': y} for t, y in zip(texts, labels)])
    assert (by_rows.predict_proba(texts) == student.predict_proba(texts)).all() and student.score(texts, labels) == by_rows.score({'text': texts, 'label': labels})
    assert len(cross_val_score(student, texts, labels, cv=2)) == 2
    with pytest.raises(CannotMeasure, match='8 texts and 7 labels'): student.fit(texts, labels[1:])
