"Tasks of 77 and 150 labels: prompts are measured before the first call, and shortened before they are refused."
import warnings
from collections import Counter

import pytest
from scripted_teacher import ScriptedTeacher
from synthlab.correct.choices import Correction
from synthlab.decode.sampling import Sampling
from synthlab.run.produce import begin, calls_ahead, check, estimate, make_config, produce, prompt_sizes, replay
from synthlab.run.recipe import Recipe
from synthlab.store.runs import RunError, open_run, read_rows
from synthlab.tasks.task import Task
from synthlab.teacher.causal import CausalTeacher

WORDS = 'amber birch cedar delta ember flint grove heath inlet jetty knoll lagoon marsh north ocean prairie quarry river stone tundra'.split()
SHORT = Sampling(12, .95, .9)


def intents(n, meaning='a question about {}'):
    "A task of numbered intents, each with three short examples of its own."
    names = [f'{WORDS[k % 20]} {WORDS[k//20]} {k}' for k in range(n)]
    return Task(name=f'intents {n}', instruction='Write a question about {{ label }}.', description='Which place is asked about', max_new_tokens=12, labels=[
        {'name': name.replace(' ', '_'), 'verbalisation': name, 'description': meaning.format(name), 'demonstrations': [f'Where is {name}?', f'Is {name} open today?', f'How do I get to {name}?']}
        for name in names])


@pytest.fixture(scope='module')
def pocket(): return CausalTeacher('pocket')


class Judge(ScriptedTeacher):
    "Answers by rule, and has room for so many letters."
    def __init__(self, room, **options): super().__init__(**options); self.max_length = room
    def token_bound(self, request): return sum(len(message['content']) for message in request.messages)//4


def made(request, out, *teachers):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return produce(request, out, teachers[0], corrector=teachers[1] if len(teachers) > 1 else None, watch=lambda groups, *_: groups)


@pytest.mark.parametrize('n', [4, pytest.param(12, marks=pytest.mark.long)])
def test_corrections_of_150_labels_fit_into_the_context_of_pocket(pocket, tmp_path, n):
    writer = ScriptedTeacher(name='writer')
    request = make_config(Recipe.fewgen(shots=1, correct=Correction(policy='flag')), intents(150), writer, n, corrector=pocket)
    done = made(request, tmp_path/'run', writer, pocket)
    with open_run(tmp_path/'run') as run: rows = list(run.rows())
    assert len(rows) == n and all(row['label_corrected'] for row in rows)
    assert all(row['sc_shortened'].endswith('of 150 labels') for row in rows) and any('asked in short' in notice for notice in done.notices)


def test_meanings_go_before_labels(tmp_path):
    judge = Judge(8000)
    request = make_config(Recipe.fewgen(shots=1, correct=Correction()), intents(77, 'a question about {}, ' + 'and about much else '*20), ScriptedTeacher(name='writer'), 77, corrector=judge)
    made(request, tmp_path/'run', ScriptedTeacher(name='writer'), judge)
    with open_run(tmp_path/'run') as run: assert Counter(row['sc_shortened'] for row in run.rows()) == {'without meanings': 77}


def test_a_correction_that_can_never_fit_is_refused_before_the_first_call():
    writer, judge = ScriptedTeacher(name='writer'), Judge(150)
    request = make_config(Recipe.fewgen(shots=1, correct=Correction()), intents(77), writer, 77, corrector=judge)
    with pytest.raises(ValueError, match='corrections: a prompt of .*--corrector'): check(request, writer, judge)
    with pytest.raises(ValueError, match='corrections: a prompt of'): estimate(request, writer, corrector=judge)
    assert not writer.asked and not judge.asked


@pytest.mark.parametrize('recipe, stage', [(Recipe.targen(), 'contexts and seeds'), (Recipe.synalign(), 'attributes of examples')], ids=['targen', 'synalign'])
def test_every_stage_is_measured_before_the_first_call(recipe, stage):
    writer = Judge(150)
    request = make_config(recipe, intents(150), writer, 150)
    with pytest.raises(ValueError, match=f'{stage}: a prompt of'): check(request, writer)
    writer.max_length = None
    sizes = prompt_sizes(check(request, writer), begin(request, writer))
    assert {size.stage for size in sizes} >= {stage, 'rows'} and not writer.asked


def test_the_advice_fits_the_request(pocket):
    from pydantic import create_model
    from synthlab.teacher.requests import Request
    long = [{'role': 'user', 'content': 'word '*1100}]
    [reply] = pocket.complete([Request(long, Sampling(8), create_model('Answer', label=(str, ...)))])
    assert 'max_new_tokens' not in reply.reason and 'longer context' in reply.reason


# ---- groups of label subsets


def test_groups_larger_than_a_batch_have_parts_of_the_labels(tmp_path):
    narrow, task = CausalTeacher('pocket', max_rows=32), intents(77)
    request = make_config(Recipe.corrsynth(shots=0), task, narrow, 154, sampling=Sampling(4, .95, .9), duplicates='keep')
    done = made(request, tmp_path/'run', narrow)
    with open_run(tmp_path/'run') as run: groups = [run.groups[number] for number in run.groups]
    assert not done.shortfall and set(done.counts['accepted'].values()) == {2}
    assert {len(rows) for rows in groups} == {25, 26} and all(len({row['label'] for row in rows}) == len(rows) for rows in groups)
    for turn in range(0, len(groups) - 2, 3): assert sorted(row['label'] for rows in groups[turn:turn + 3] for row in rows) == sorted(task.label_names)
    assert [{row['label'] for row in rows} for rows in groups[:3]] != [{row['label'] for row in rows} for rows in groups[3:6]]
    assert 'each group has at most 26 of the 77 labels' in done.notices[0]
    assert replay(tmp_path/'run', groups[4][3]['id'], narrow).same


def test_a_row_of_a_later_round_is_replayed(tmp_path):
    # One token a text: most repeat another, so that round follows on round, with fewer labels each.
    pocket = CausalTeacher('pocket')
    made(make_config(Recipe.fewgen(shots=0), intents(77), pocket, 77, sampling=Sampling(1, .95, .9), budget=77*6), tmp_path/'run', pocket)
    with open_run(tmp_path/'run') as run: groups = [run.groups[number] for number in run.groups]
    whole, fewer = groups[0], min(groups, key=lambda rows: len({row['label'] for row in rows}))
    assert len(fewer) < len(whole)
    for row in (whole[5], fewer[-1]): assert replay(tmp_path/'run', row['id']).same
    assert calls_ahead(tmp_path/'run')['calls'] == 0


def test_another_batch_size_keeps_the_groups_of_a_run(tmp_path):
    narrow, task = CausalTeacher('pocket', max_rows=8), intents(24)
    def asked(max_rows, **limits):
        return make_config(Recipe.corrsynth(shots=0), task, narrow, 48, sampling=Sampling(4, .95, .9), duplicates='keep', machine={'max_rows': max_rows, 'limits': limits})
    made(asked(8), tmp_path/'whole', narrow)
    for name in ('run', 'other'): assert made(asked(8, max_calls=2), tmp_path/name, narrow).stopped
    made(asked(128), tmp_path/'run', narrow)
    texts = [[row['text'] for row in read_rows(tmp_path/name)] for name in ('whole', 'run')]
    assert texts[0] == texts[1] and len(texts[0]) == 48
    with pytest.raises(RunError, match='has 8 rows, and max_rows is 4'): made(asked(4), tmp_path/'other', narrow)
