"Limits hold over sessions, also where a server tells no tokens; a run that has nothing yet takes another recipe."
import re
import time
import warnings
from types import SimpleNamespace

import pytest
from fault_server import FaultServer
from synthlab.run.produce import estimate, make_config, make_teacher, produce, show_progress
from synthlab.run.recipe import Recipe
from synthlab.store.runs import open_run, read_recipe, read_rows
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TeacherError


def recipe_for(url, n=40, **machine):
    machine = {'chat': {'concurrency': 4, 'attempts': 1}} | machine
    teacher = make_teacher({'teacher': {'kind': 'chat', 'name': 'owl', 'base_url': url}, 'machine': machine})
    return make_config(Recipe.fewgen(shots=1), load_task('ag_news'), teacher, n, machine=machine)


def made(recipe, out, **options):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return produce(recipe, out, watch=lambda groups, *_: groups, **options)


@pytest.mark.parametrize('limits', [{'max_calls': 7}, {'max_tokens': 3000}, {'max_cost': .004}], ids=lambda limits: next(iter(limits)))
@pytest.mark.parametrize('kinds', [['no usage'], ['refusal']], ids=['nothing told', 'all told'])
def test_a_limit_is_one_of_all_sessions_together(tmp_path, limits, kinds):
    with FaultServer(faults=1., kinds=kinds) as server:
        recipe = recipe_for(server.url, limits=limits, prices={'owl': {'prompt': 1., 'completion': 2.}})
        first = made(recipe, tmp_path/'run')
        asked = server.stats()['received']
        assert asked and first.stopped.startswith(next(iter(limits)))
        for _ in range(2):
            again = made(recipe, tmp_path/'run')
            assert again.usage.prompt_tokens == first.usage.prompt_tokens and again.usage.cost == pytest.approx(first.usage.cost)
        assert server.stats()['received'] == asked == first.usage.calls
        assert made(recipe | {'machine': {'chat': {'concurrency': 4}}}, tmp_path/'run').counts['accepted']


def test_a_fork_pays_for_its_own_calls_only(tmp_path):
    with FaultServer() as server:
        made(recipe_for(server.url, 12), tmp_path/'run')
        forked = made(recipe_for(server.url, 16, limits={'max_calls': 4}), tmp_path/'more', fork=tmp_path/'run')
        assert forked.usage.calls == 4 and not forked.shortfall and server.stats()['received'] == 16
        assert list(read_rows(tmp_path/'more'))[:12] == list(read_rows(tmp_path/'run'))


def test_an_estimate_is_a_bound(tmp_path):
    with FaultServer() as server:
        recipe = recipe_for(server.url, 12, prices={'owl': {'prompt': 1., 'completion': 2.}})
        told = estimate(recipe)
        assert server.stats()['received'] == 0 and told.calls == 12 and told.prompt_tokens <= told.prompt_bound
        used = made(recipe, tmp_path/'run').usage
        assert used.prompt_tokens <= told.prompt_bound and used.completion_tokens <= told.completion_tokens and used.cost <= told.cost
        assert (estimate(recipe, out=tmp_path/'run').calls, estimate(recipe, out=tmp_path/'run').cached) == (0, 12)


def test_a_wrong_address_does_not_spoil_the_folder(tmp_path):
    with FaultServer() as server: gone = server.url
    with pytest.raises(TeacherError, match='does not answer'): made(recipe_for(gone), tmp_path/'run')
    with FaultServer() as server:
        done = made(recipe_for(server.url, 8), tmp_path/'run')
        assert sum(done.counts['accepted'].values()) == 8 and read_recipe(tmp_path/'run')['teacher']['base_url'] == server.url
    with open_run(tmp_path/'run') as run: assert run.finished


def test_a_server_that_has_moved_is_not_paid_again(tmp_path):
    with FaultServer() as server:
        recipe = recipe_for(server.url, 12)
        first = made(recipe | {'machine': recipe['machine'] | {'limits': {'max_calls': 5}}}, tmp_path/'run')
        assert first.usage.calls == 5
    with FaultServer() as server:
        moved = recipe | {'machine': {'chat': {'concurrency': 4, 'attempts': 1, 'address': server.url}}}
        done = made(moved, tmp_path/'run')
        assert not done.shortfall and server.stats()['received'] == 7 and done.usage.calls == 12
    assert read_recipe(tmp_path/'run')['teacher']['base_url'] == recipe['teacher']['base_url']


def test_a_bar_of_accepted_rows_is_shown_after_two_seconds(capsys):
    def groups(pause):
        time.sleep(pause)
        for status in ('accepted', 'rejected', 'accepted'): yield SimpleNamespace(rows=[{'status': status, 'tokens': 5}])
    assert len(list(show_progress(groups(0), 6, 4))) == 3 and capsys.readouterr().err == ''
    list(show_progress(groups(2.1), 6, 4))
    assert re.search(r'6/6 \[[^]]*row, \d+ tokens/s\]', capsys.readouterr().err)


def test_the_time_that_is_left_is_told_once_it_is_known(capsys):
    "Of texts that are written side by side the first took as long as all: a minute's work was said to take ten."
    def groups():
        for k in range(12):
            time.sleep(.25 if not k else .03)
            yield SimpleNamespace(rows=[{'status': 'accepted', 'tokens': 5}])
    list(show_progress(groups(), 60, 0, progress=True))
    shown = [line for line in capsys.readouterr().err.split('\r') if '/60' in line]
    assert '0/60 [00:00, estimating]' in shown[0] and 'estimating' in shown[1] and '<' not in shown[1]
    left = [line for line in shown if '<' in line]
    assert left and all(int(line.split('<')[1][3:5]) < 6 for line in left) and '12/60' in shown[-1]
