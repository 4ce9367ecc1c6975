"Importance weights: checkers that agree weigh all alike, ratios are cut, folds share the labels, and a recipe takes them."
import numpy as np
import pytest
from synthlab import read_rows
from synthlab.align.importance import deal_folds, importance_ratios
from synthlab.run.recipe import Recipe


def test_checkers_that_agree_weigh_all_alike():
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 50)[:, 0]
    np.testing.assert_allclose(importance_ratios(probs, probs), 1)
    np.testing.assert_allclose(importance_ratios(np.array([.8, .1]), np.array([.01, .2]), cap=10), [10, .5])


def test_every_row_is_in_one_fold_and_folds_share_the_labels():
    codes = np.repeat([0, 1], [20, 40])
    folds = deal_folds(codes, 5, np.random.default_rng(0))
    assert folds.shape == codes.shape and set(folds) == set(range(5))
    for k, each in ((0, 4), (1, 8)): assert np.bincount(folds[codes == k], minlength=5).tolist() == [each]*5


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', ['imp', 'dimp'])
def test_a_recipe_weighs_its_rows(kind, tmp_path):
    Recipe.fewgen(align='importance', kind=kind).generate('sst2', n=12, out=tmp_path/'run', seed=0)
    rows = list(read_rows(tmp_path/'run'))
    weights = {label: [row['weight'] for row in rows if row['label'] == label] for label in {row['label'] for row in rows}}
    assert len(rows) == 12 and len({round(row['weight'], 6) for row in rows}) > 2
    for values in weights.values(): assert min(values) >= 0 and np.mean(values) == pytest.approx(1)
