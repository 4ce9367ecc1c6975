"The protocol of studies: estimates against scipy and simulation, rows that are never on both sides, stamps that are whole."
import itertools
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthlab.bakeoff.cells import split_gold
from synthlab.measure.evaluate import Rows

STUDIES = Path(__file__).parents[1]/'nbs'/'studies'
sys.path.append(str(STUDIES))
import protocol                                                            # noqa: E402
from protocol import (                                                      # noqa: E402
    check_disjoint, check_stamp, clustered, components, covariance, dataset_means, differences, divide, holm, max_t, mixed, needed, paired_difference, plain, power, row_draws,
    sign_flips, split_rows, stamp)


def test_students_are_averaged_inside_a_dataset():
    rows = [('a', 'news', seed, student, 10*seed + student) for seed in range(3) for student in range(4)]
    assert dataset_means(rows) == {'a': {'news': {seed: 10*seed + 1.5 for seed in range(3)}}}


@pytest.mark.parametrize('n', [2, 3, 8])
def test_a_paired_difference_is_scipys(n):
    rng = np.random.default_rng(n)
    one, other = rng.normal(size=(2, n))
    values = {'one': {'t': dict(enumerate(one)) | {99: 0.}}, 'other': {'t': dict(enumerate(other)) | {77: 0.}}}
    found, expected = paired_difference(differences(values, 'one', 'other')['t'], level=.9), stats.ttest_rel(one, other)
    assert [found.mean, found.low, found.high, found.p, found.df] == pytest.approx([(one - other).mean(), *expected.confidence_interval(.9), expected.pvalue, n - 1])


def test_seeds_that_are_not_shared():
    with pytest.raises(ValueError, match='1 seeds in common'): differences({'a': {'t': {0: 1., 1: 2.}}, 'b': {'t': {1: 1., 2: 2.}}}, 'a', 'b')
    with pytest.raises(ValueError, match='two at least'): paired_difference([1.])
    with pytest.raises(ValueError, match='1 task'): clustered({'a': [1., 2.]})


def test_rows_are_drawn_alike_for_all():
    rng = np.random.default_rng(0)
    right = rng.random(size=(3, 4, 200)) < .7
    draws = row_draws(lambda rows: right[..., rows].mean(-1), 200, 50, np.random.default_rng(1))
    assert draws.shape == (50, 3, 4)
    order = np.random.default_rng(1)
    for draw in draws:
        rows = order.integers(200, size=200)
        assert np.allclose(draw, [[right[k, s][rows].mean() for s in range(4)] for k in range(3)])


def test_the_variance_is_that_of_the_crossed_anova():
    "sigma²_data/S + sigma²_rows/R + sigma²_both/SR from mean squares, without a bootstrap."
    rng, S, R = np.random.default_rng(0), 8, 300
    d = rng.normal(size=(S, 1))*.05 + rng.normal(size=(1, R))*.5 + rng.normal(size=(S, R))*.8
    rest = d - d.mean(0) - d.mean(1, keepdims=True) + d.mean()
    seeds, rows = R*d.mean(1).var(ddof=1), S*d.mean(0).var(ddof=1)
    both = (rest**2).sum()/((S - 1)*(R - 1))
    found = covariance(d.mean(1), row_draws(lambda rows: d[:, rows].mean(1), R, 4000, rng)[:, None])[0, 0]
    assert found == pytest.approx((seeds + rows - both)/(S*R), rel=.06)


def test_intervals_with_test_rows_cover_the_truth_and_those_without_do_not():
    rng, held = np.random.default_rng(3), []
    for _ in range(250):
        d = rng.normal(size=(8, 1))*.02 + rng.normal(size=(1, 300))*.5 + rng.normal(size=(8, 300))*.3
        values = d.mean(1)
        both = paired_difference(values), paired_difference(values, row_draws(lambda rows: d[:, rows].mean(1), 300, 100, rng))
        held.append([e.low <= 0 <= e.high for e in both])
    without, with_rows = np.mean(held, axis=0)
    assert without < .75 and .91 <= with_rows <= .99


def test_pooling_by_task():
    rng = np.random.default_rng(0)
    by_task = {t: rng.normal(size=8) + t for t in range(5)}
    means = [v.mean() for v in by_task.values()]
    found, expected = clustered(by_task), stats.ttest_1samp(means, 0)
    assert [found.mean, found.low, found.high, found.p] == pytest.approx([np.mean(means), *expected.confidence_interval(.95), expected.pvalue])
    # equal numbers of seeds and a spread over tasks: the two-level model gives the same estimate
    assert mixed(by_task).estimate == pytest.approx(found)
    # sandwich of the grand mean, clustered by task, with the usual factor for few clusters
    everything = np.concatenate(list(by_task.values()))
    meat = sum((v - everything.mean()).sum()**2 for v in by_task.values())
    assert found.se == pytest.approx((meat*5/4)**.5/len(everything))


def test_the_two_variances_are_found_with_unequal_numbers():
    rng, found = np.random.default_rng(0), []
    for _ in range(150):
        by_task = {t: rng.normal()*3 + 1 + rng.normal(size=n)*2 for t, n in enumerate([3, 8, 8, 5, 12, 8, 8, 4]*2)}
        fit = mixed(by_task)
        found.append([fit.between**2, fit.within**2, fit.estimate.low <= 1 <= fit.estimate.high])
    between, within, held = np.mean(found, axis=0)
    assert between == pytest.approx(9, rel=.12) and within == pytest.approx(4, rel=.05) and held > .9


@pytest.mark.parametrize('tasks', [2, 5, 6])
def test_sign_flips_by_enumeration(tasks):
    rng = np.random.default_rng(tasks)
    means = rng.normal(size=tasks) + .5
    count = sum(abs(sum(s*m for s, m in zip(signs, means))) >= abs(means.sum()) - 1e-12 for signs in itertools.product((1, -1), repeat=tasks))
    assert sign_flips({t: [m] for t, m in enumerate(means)}) == count/2**tasks
    assert sign_flips({t: [abs(m)] for t, m in enumerate(means)}) == 2/2**tasks
    exact = stats.permutation_test((means,), np.mean, permutation_type='samples', n_resamples=np.inf)
    assert sign_flips({t: [m] for t, m in enumerate(means)}) == pytest.approx(exact.pvalue)


def test_holm_is_its_definition():
    assert holm({'a': .01, 'b': .04, 'c': .03, 'd': .005}) == pytest.approx({'d': .02, 'a': .03, 'c': .06, 'b': .06})
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = dict(enumerate(rng.random(6)**3))
        adjusted, order = holm(p), sorted(p, key=p.get)
        for level in (.01, .05, .2):
            stop = next((i for i, name in enumerate(order) if p[name] > level/(6 - i)), 6)
            assert {name for name in p if adjusted[name] <= level} == set(order[:stop])


def test_one_contrast_of_one_task_is_a_t_interval():
    values = np.random.default_rng(0).normal(size=8) + 1
    found, expected = max_t({'a': {'t': values}}, times=200_000)['a'], paired_difference(values)
    assert [found.mean, found.se, found.df] == pytest.approx([expected.mean, expected.se, expected.df])
    assert [found.low, found.high, found.p] == pytest.approx([expected.low, expected.high, expected.p], abs=.02)


def test_simultaneous_intervals_hold_together():
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        d = rng.normal(size=(7, 5, 8)) - rng.normal(size=(1, 5, 8))
        found = max_t({k: dict(enumerate(x)) for k, x in enumerate(d)}, times=1500, rng=rng)
        held.append(all(e.low <= 0 <= e.high for e in found.values()))
    assert .9 <= np.mean(held) <= .995
    # test rows widen them
    draws = {t: rng.normal(size=(300, 7, 1))*.5 + d[None, :, t] for t in range(5)}
    wider = max_t({k: dict(enumerate(x)) for k, x in enumerate(d)}, draws, times=1500)
    assert all(wider[k].se > found[k].se for k in found)


@pytest.mark.parametrize('delta, sd, n', [(1., 2., 8), (2., 3., 20), (.5, 1., 3)])
def test_power_by_simulation(delta, sd, n):
    d = np.random.default_rng(0).normal(delta, sd, size=(40_000, n))
    assert power(delta, sd, n) == pytest.approx((stats.ttest_1samp(d, 0, axis=1).pvalue < .05).mean(), abs=.012)


def test_how_many_are_needed():
    n = needed(2., 3.)
    assert power(2., 3., n) >= .8 > power(2., 3., n - 1) and needed(.01, 3., most=50) is None
    # the usual rule: (1.96 + .84)² sd²/delta², and a little more for few degrees of freedom
    assert 17 < n - 1 <= 17.7 + 3


def test_spreads_with_their_intervals():
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        found = components({t: rng.normal()*3 + rng.normal(size=8)*2 for t in range(6)})
        held.append([low <= truth <= high for truth, (_, low, high) in zip((2, 3), (found['seeds'], found['tasks']))])
    assert (np.mean(held, axis=0) > .9).all()


def test_divided_rows_share_no_text():
    texts = [f'Row number {i}.' for i in range(2000)]
    rows = Rows(texts + [t.upper() + '!!' for t in texts[:50]], ['a', 'b']*1025)
    split = divide(rows, used=texts[:300], barred=[t.lower() for t in texts[1990:]])
    dev, test = (set(map(plain, part.texts)) for part in split[:2])
    assert not dev & test and {plain(t) for t in texts[:300]} <= dev and not test & {plain(t) for t in texts[1990:]}
    assert len(dev) == len(split.dev) and len(test) == len(split.test) and len(dev) + len(test) + split.left_out == 2000
    assert abs(len(dev) - 300 - .2*1700) < 4*(.16*1700)**.5
    # the division of a row does not depend on the others
    again = divide(Rows(texts[::-2], ['a']*1000), used=texts[:300])
    assert set(again.test.texts) <= {*split.test.texts, *texts[1990:]}
    with pytest.raises(ValueError, match='1 texts are among'): check_disjoint(split._replace(dev=split.test.take([0])))


@pytest.mark.parametrize('one, other', [('A  b', 'a b.'), ('“It’s” fine', 'it s FINE'), ('ﬁne', 'fine')])
def test_copies_that_differ_in_form_only(one, other): assert plain(one) == plain(other)


@pytest.mark.skipif('SYNTHLAB_GOLD' not in os.environ, reason='gold data is not here')
@pytest.mark.parametrize('name', ['sst2', 'humor'])
def test_new_test_rows_were_not_scored_on_before(name):
    from protocol import GOLD, TRAIN, gold_task
    from synthlab.measure.quality import gold_parts
    folder = Path(os.environ['SYNTHLAB_GOLD'])/GOLD[name]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        split, parts = split_rows(name), gold_parts(gold_task(name), folder, folder/TRAIN[name] if name in TRAIN else None)
    test = set(map(plain, split.test.texts))
    assert len(test) > 1200 and set(split.test.labels) == set(parts[0]['label'])
    assert not test & set(map(plain, split_gold(*parts).test.texts)) and not test & set(map(plain, parts[1]['text'])) and not test & set(map(plain, split.dev.texts))


def test_a_stamp_names_weights_code_and_how_it_was_measured():
    from synthlab.decode.loop import Sampling
    from synthlab.teacher.causal import CausalTeacher
    mark = stamp(CausalTeacher('pocket'), Sampling(temperature=.5), n=10, seeds=(1, 2))
    assert check_stamp({'stamp': mark}, 'x') is mark and mark['seeds'] == [1, 2] and mark['sampling']['temperature'] == .5
    assert mark['teacher']['revision'] == CausalTeacher('pocket').identity['revision'] and len(mark['teacher']['weights']) == 12
    assert mark['code']['commit'] and stamp(None, seeds=3)['seeds'] == [0, 1, 2] and stamp(None)['teacher'] is None


def test_weights_of_a_server_are_unknown():
    class Served: identity = {'name': 'http://localhost:1/v1', 'revision': None}
    assert protocol.describe_weights(Served())['weights'] == 'unknown'


def test_a_result_without_a_stamp_is_refused(tmp_path):
    (tmp_path/'x.json').write_text('{"tasks": {}}')
    with pytest.raises(ValueError, match='x.json has no teacher, code'): protocol.read_study(tmp_path/'x.json')
    (tmp_path/'x.json').write_text('{"stamp": {"teacher": null, "code": 1, "sampling": 1, "n": 1, "seeds": 1, "date": 1}, "tasks": {}}')
    assert protocol.read_study(tmp_path/'x.json')[1] == {'tasks': {}}
