"On a task that `pocket` was not trained for, one sentence says how far its rows can be trusted, with measured figures."
from types import SimpleNamespace
import hashlib
import json
import sys
from pathlib import Path

import pytest
from synthlab.store.export import dataset_card
from synthlab.tasks.task import Task, load_task, task_names
from synthlab.run.notices import run_notices
from synthlab.tasks.trust import is_trained_for, pocket_figures, trust_notice

ROOT = Path(__file__).parents[2]
OWN = Task(name='tickets', labels=['broken', 'question'], instruction='Write a message to a help desk: {{ label }}.')


def test_the_figures_are_those_that_were_measured():
    sys.path.insert(0, str(ROOT/'nbs'/'pocket'))
    try: import unseen
    finally: sys.path.pop(0)
    record = json.loads((ROOT/'nbs'/'pocket'/'unseen.json').read_text())
    assert pocket_figures() == unseen.summary(record)
    weights = (ROOT/'synthlab'/'resources'/'pocket'/'model.safetensors').read_bytes()
    assert record['revision'] == f'sha256:{hashlib.sha256(weights).hexdigest()[:16]}'                   # measured with the weights in the package
    assert len(record['tasks']) >= 4 and all(task['labels'] <= 8 and task['fewgen']['n'] > 100 and task['corrsynth']['n'] > 100 for task in record['tasks'].values())


@pytest.mark.parametrize('name', task_names())
def test_built_in_tasks(name):
    assert bool(trust_notice(load_task(name), 'pocket')) == (name not in ('ag_news', 'imdb', 'sst2', 'humor', 'amazon_category', 'toi_headlines'))


def test_a_copy_of_a_built_in_task_is_recognised():
    news = load_task('ag_news')
    for changes in ({'name': 'mine'}, {'instruction': 'Write a headline {{ verbalisation }}.'}, {'labels': news.labels[1:]}):
        assert is_trained_for(news.model_copy(update=changes)), changes
    assert not is_trained_for(news.model_copy(update={'name': 'mine', 'instruction': 'Write a poem {{ verbalisation }}.'}))
    assert not is_trained_for(OWN.model_copy(update={'name': 'ag_news'}))


def test_the_sentence_has_the_figures_and_only_pocket_gets_it():
    words, f = trust_notice(OWN, {'name': 'pocket', 'revision': None}), pocket_figures()
    assert all(part in words for part in ("'tickets'", f"{f['share']:.0%} had the label", f"chance is {f['chance']:.0%}", '--teacher')) and words.count('. ') == 1
    assert trust_notice(OWN, 'gpt2') == trust_notice(OWN, {'name': 'pocket', 'base_url': 'http://localhost:8000/v1'}) == ''


def test_it_is_a_notice_of_the_run_and_so_in_the_card():
    def told(task):
        recipe = {'n': 2, 'task': task.model_dump(mode='json'), 'method': {'name': 'fewgen'}, 'teacher': {'name': 'pocket'}}
        notices = run_notices(SimpleNamespace(recipe=recipe, facts={}))
        counts = {'candidates': 2, 'accepted': dict.fromkeys(task.label_names, 1), 'rejected': {}, 'failed': {}}
        return str(dataset_card(recipe, counts, facts={'notices': notices}))
    assert 'was not trained for' in told(OWN) and 'was not trained for' not in told(load_task('sst2'))
