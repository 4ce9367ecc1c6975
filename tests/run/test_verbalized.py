"Verbalized sampling: texts and rows add up, what a teacher calls a probability cannot hurt a run, and one seed gives one result."
import json
import warnings
from collections import Counter

import numpy as np
import pytest
from scripted_teacher import ScriptedTeacher
from synthlab.decode.loop import Sampling
from synthlab.prompt.attributes import AttributePrompts
from synthlab.prompt.prompts import FewShotPrompts, RowPlace
from synthlab.prompt.records import make_record
from synthlab.prompt.verbalized import WRAPPING, VerbalizedPrompts, draw_weights, read_probability, verbalized_schema
from synthlab.run import prepare
from synthlab.run.produce import replay
from synthlab.run.recipe import Recipe
from synthlab.run.rows import Judged
from synthlab.store.runs import open_run, read_counts, read_rows
from synthlab.tasks.task import load_task
from synthlab.teacher.asking import TeacherError
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.requests import Answer, json_schema, read

NEWS = load_task('ag_news')
KEPT = ('label', 'text', 'status', 'reason', 'group', 'member', 'probability', 'probability_fault', 'tokens')


def run_of(out, teacher=None, n=22, seed=1, **options):
    "All rows of a run, and what was asked of its teacher."
    teacher = teacher or ScriptedTeacher()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        Recipe.verbalized(**options).generate(NEWS, n=n, out=out, teacher=teacher, seed=seed, sampling=Sampling(64, .95, .9))
    return list(read_rows(out, None)), teacher, [str(one.message) for one in told]


def kept(rows): return [tuple(row[key] for key in KEPT) for row in rows]


def listed(*items): return json.dumps({'texts': [dict(zip(('text', 'probability'), item)) for item in items]})


# ---- counts

@pytest.mark.parametrize('take, texts, per_call', [('all', 5, 5), ('all', 3, 3), ('all', 1, 1), ('one', 5, 1), ('one', 1, 1)])
def test_calls_rows_and_tokens_add_up(take, texts, per_call, tmp_path):
    rows, teacher, _ = run_of(tmp_path/'run', take=take, texts=texts)
    accepted = [row for row in rows if row['status'] == 'accepted']
    assert len(accepted) == 22 and Counter(row['label'] for row in accepted).keys() == set(NEWS.label_names)
    assert len(rows) == per_call*len(teacher.asked) and set(Counter(row['group'] for row in rows).values()) == {per_call}
    assert {asked.schema['properties']['texts']['maxItems'] for asked in teacher.asked} == {texts}
    assert {asked.request.sampling.max_new_tokens for asked in teacher.asked} == {texts*(64 + WRAPPING)}
    with open_run(tmp_path/'run') as run: assert sum(row['tokens'] for row in rows) == run.calls.totals()['completion_tokens']
    assert all(0 <= row['probability'] <= 1 and row['probability_fault'] is None for row in accepted)


def test_all_takes_the_texts_in_their_order_and_one_takes_one_of_them(tmp_path):
    by_call = {}
    rows, teacher, _ = run_of(tmp_path/'all')
    for row in rows: by_call.setdefault(row['group'], []).append(row['text'])
    given = {asked.request.sample: [item['text'] for item in json.loads(answer.text)['texts']] for asked, answer in zip(teacher.asked, teacher.given)}
    assert by_call == given
    rows, teacher, _ = run_of(tmp_path/'one', take='one')
    places = []
    for asked, answer in zip(teacher.asked, teacher.given):
        items, [row] = json.loads(answer.text)['texts'], [row for row in rows if row['group'] == asked.request.sample]
        places.append([item['text'] for item in items].index(row['text']))
        assert row['probability'] == items[places[-1]]['probability']
    assert len(set(places)) > 1                                                       # the draw is not the first every time


def test_a_zero_probability_is_never_drawn_where_others_are_stated():
    found = [Judged('a', told={'probability': 0.}), Judged('b', told={'probability': .01}), Judged('c', 'empty text')]
    prompts = VerbalizedPrompts(take='one')
    assert {prompts.pick(found, seed)[0].text for seed in range(200)} == {'b'}
    assert {VerbalizedPrompts(take='one').pick(found[:1], seed)[0].text for seed in (None, 1)} == {'a'}
    assert np.allclose(draw_weights([.2, None, .4]), np.array([2, 3, 4])/9)


# ---- one seed, one result

@pytest.mark.parametrize('take', ['all', 'one'])
def test_the_same_seed_gives_the_same_rows_in_whatever_order_answers_come(take, tmp_path):
    one, other, third = (kept(run_of(tmp_path/name, ScriptedTeacher(order=order), take=take, seed=seed)[0]) for name, order, seed in (('a', None, 1), ('b', 5, 1), ('c', None, 2)))
    assert one == other and one != third


@pytest.mark.parametrize('take', ['all', 'one'])
def test_a_run_that_was_stopped_goes_on_with_the_same_rows(take, tmp_path):
    whole = kept(run_of(tmp_path/'whole', take=take)[0])
    with pytest.raises(TeacherError): run_of(tmp_path/'run', ScriptedTeacher(dies_after=3), take=take)
    rows, teacher, _ = run_of(tmp_path/'run', take=take)
    assert kept(rows) == whole and len(teacher.asked) == len({row['group'] for row in rows}) - 3
    row = rows[-1]
    assert replay(tmp_path/'run', row['id'], ScriptedTeacher()).stored == row['text']


# ---- hostile answers

FAULTS = {'missing': '{"text": "%s"}', 'null': '{"text": "%s", "probability": null}', 'word': '{"text": "%s", "probability": "often"}', 'nan': '{"text": "%s", "probability": NaN}',
          'infinite': '{"text": "%s", "probability": -Infinity}', 'huge': '{"text": "%s", "probability": 1e999}', 'many digits': '{"text": "%s", "probability": ' + '9'*400 + '}', 'negative': '{"text": "%s", "probability": -0.2}',
          'percent': '{"text": "%s", "probability": "12%%"}', 'list': '{"text": "%s", "probability": [0.1]}', 'table': '{"text": "%s", "probability": {"p": 0.1}}', 'true': '{"text": "%s", "probability": true}',
          'bare': '"%s"', 'above': '{"text": "%s", "probability": 7}'}


@pytest.mark.parametrize('take', ['all', 'one'])
@pytest.mark.parametrize('kind', FAULTS)
def test_a_bad_probability_costs_no_row(kind, take, tmp_path):
    def script(asked): return '{"texts": [' + ', '.join(FAULTS[kind] % f'News {asked.sample} of item {place}.' for place in range(5)) + ']}'
    rows, _, told = run_of(tmp_path/'run', ScriptedTeacher(script), n=12, take=take)
    assert sum(row['status'] == 'accepted' for row in rows) == 12
    assert all(row['probability'] is None and row['probability_fault'] in ('missing', 'not a number', 'out of range') for row in rows)
    assert any(f"in 12 of 12 rows ({rows[0]['probability_fault']}: 12)" in sentence for sentence in told)


def test_items_that_are_no_texts_are_rejected_and_the_rest_are_rows(tmp_path):
    junk = ['', None, 7, ['a'], {'no': 'text'}]
    def script(asked): return listed(*((item, .1) for item in junk[:3])) if asked.sample == 0 else listed(*((f'News {asked.sample} {place}.', .1) for place in range(5)))
    rows, *_ = run_of(tmp_path/'run', ScriptedTeacher(script), n=20)
    assert sum(row['status'] == 'accepted' for row in rows) == 20
    first = [row for row in rows if row['group'] == 0]
    assert len(first) == 5 and all(row['status'] == 'rejected' and row['probability'] is None for row in first)


@pytest.mark.parametrize('take', ['all', 'one'])
def test_an_answer_that_broke_off_is_used_up_to_there(take, tmp_path):
    def script(asked):
        text = listed(*((f'News {asked.sample} {place}.', .1) for place in range(5)))
        return Answer(text[:text.index(f'{asked.sample} 2')], 'length', prompt_tokens=9, completion_tokens=40)
    rows, *_ = run_of(tmp_path/'run', ScriptedTeacher(script), n=8, take=take)
    assert sum(row['status'] == 'accepted' for row in rows) == 8
    if take == 'one': assert {row['text'].split()[-1] for row in rows} <= {'0.', '1.'}
    else: assert Counter(row['reason'] for row in rows)['cut off by the token limit'] == 3*len({row['group'] for row in rows})


@pytest.mark.parametrize('take', ['all', 'one'])
def test_faulty_answers_leave_whole_accounts(take, tmp_path):
    rows, teacher, _ = run_of(tmp_path/'run', ScriptedTeacher(faults=.4, order=3), take=take)
    counts = read_counts(tmp_path/'run')
    assert sum(row['status'] == 'accepted' for row in rows) == 22
    assert all(row['reason'] for row in rows if row['status'] != 'accepted') and all(0 <= row['probability'] <= 1 for row in rows if row['probability'] is not None)
    assert set(Counter(row['group'] for row in rows).values()) == {5 if take == 'all' else 1}
    assert counts['candidates'] == len(rows) and sum(counts['accepted'].values()) == 22


def test_the_tail_version_keeps_and_marks_what_is_not_below_its_threshold(tmp_path):
    def script(asked): return listed(*((f'News {asked.sample} {place}.', place/20) for place in range(5)))
    rows, teacher, told = run_of(tmp_path/'run', ScriptedTeacher(script), n=20, below=.1)
    assert [row['probability_fault'] for row in rows[:5]] == [None, None, *['not below the threshold']*3]
    assert all('below 0.1' in asked.text and 'tails' in asked.text for asked in teacher.asked)
    assert any('in 12 of 20 rows' in sentence for sentence in told)


@pytest.mark.parametrize('value, found', [(.5, .5), ('0.5', .5), (' 1 ', 1.), (0, 0.), ('1e-3', .001), ('', None), ('nan', None), (float('nan'), None), (1.0000001, None), (-0.0, 0.), (b'1', None), (10**400, None), (False, None)])
def test_a_probability_is_a_number_from_0_to_1_or_none(value, found):
    number, fault = read_probability(value)
    assert number == found and bool(fault) == (found is None)


# ---- what others see

def test_rows_of_other_recipes_have_no_such_columns(tmp_path):
    Recipe.simprompt().generate(NEWS, n=4, out=tmp_path/'run', teacher=ScriptedTeacher(), seed=1)
    assert not {'probability', 'probability_fault'} & set(next(read_rows(tmp_path/'run')))


def test_room_is_that_of_the_texts_where_no_prompt_says_otherwise():
    records = {label: [make_record(label, {'tone': 'dry'})] for label in NEWS.label_names}
    assert FewShotPrompts({}, 0).room(64) == 64 and AttributePrompts(records, 10, 5).room(64) == 320
    assert VerbalizedPrompts(take='one').room(64) == VerbalizedPrompts().room(64) == 5*(64 + WRAPPING)


def test_a_server_is_sent_no_rule_that_it_may_refuse():
    assert 'multipleOf' not in json.dumps(json_schema(verbalized_schema())) and 'multipleOf' in json.dumps(json_schema(verbalized_schema(), portable=False))


def test_an_answer_in_other_shapes_is_read():
    prompts = VerbalizedPrompts(asked=2)
    for said in ('[{"text": "Oil fell.", "probability": 0.2}, {"text": "Oil rose.", "probability": 0.1}]', '{"responses": [{"text": "Oil fell.", "probability": "0.2"}, {"text": "Oil rose.", "probability": 0.1}]}',
                 'Sure:\n```json\n{"texts": [{"text": "Oil fell.", "probability": 0.2}, {"text": "Oil rose.", "probability": 0.1}]}\n```'):
        value, _ = read(said, prompts.schema)
        assert [(text, reason, told['probability']) for text, reason, told in prompts.read(value, NEWS, 'World')] == [('Oil fell.', '', .2), ('Oil rose.', '', .1)]


def test_examples_are_shown_as_data_and_copies_are_no_rows(tmp_path):
    demos = NEWS.label('World').demonstrations
    def script(asked):
        shown = next(text for text in demos if text in json.loads(asked.text.split('repeated:\n')[1].split('\n')[0])) if demos[0] and any(text in asked.text for text in demos) else None
        return listed(*([(shown, .1)] if shown else []), *((f'News {asked.sample} {place}.', .1) for place in range(4 if shown else 5)))
    rows, teacher, _ = run_of(tmp_path/'run', ScriptedTeacher(script), n=8, shots=2, select='random')
    assert all(len(row['demos']) == 2 for row in rows)
    assert 'copy of a demonstration' in {row['reason'] for row in rows if row['label_target'] == 'World'}


def test_the_longest_brief_is_as_long_as_any():
    pool = {label: [{'id': f'{label}/{n}', 'text': text} for n, text in enumerate(NEWS.label(label).demonstrations)] for label in NEWS.label_names}
    for prompts in (VerbalizedPrompts(pool, 2), VerbalizedPrompts(pool, 2).for_chat()):
        size = len(str(prompts.longest(NEWS, 'World').messages))
        assert max(len(str(prompts.row_prompt(NEWS, RowPlace('World', group)).messages)) for group in range(40)) <= size


def test_a_local_model_without_a_grammar_is_refused(monkeypatch):
    monkeypatch.setattr(prepare, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='to texts with probabilities by llguidance'): prepare.check_grammar(Recipe.verbalized(), CausalTeacher('pocket'))
    prepare.check_grammar(Recipe.simprompt(), CausalTeacher('pocket'))


@pytest.mark.parametrize('options, told', [({'decode': 'correlated'}, 'take decode = "independent"'), ({'decode': 'cfg'}, 'take decode = "independent"'), ({'select': 'uncertainty'}, 'shots = 1 or more'),
                                           ({'shots': 1}, 'shots = 0'), ({'take': 'two'}, 'take must be'), ({'below': 2}, 'below must be'), ({'texts': 0}, 'texts must be')])
def test_what_does_not_fit_is_refused_with_what_would(options, told):
    with pytest.raises(ValueError, match=told): Recipe.verbalized(**options)


# ---- a model in this process

@pytest.mark.parametrize('take', ['all', pytest.param('one', marks=pytest.mark.long)])
def test_pocket_writes_rows_with_probabilities(take, tmp_path):
    pocket, made = CausalTeacher('pocket', dtype='float64'), []
    for name in 'ab':
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            Recipe.verbalized(take=take, texts=2).generate(NEWS, n=4, out=tmp_path/name, teacher=pocket, seed=3, sampling=Sampling(40, .95, .9), budget=64)
        made.append(list(read_rows(tmp_path/name, None)))
    assert kept(made[0]) == kept(made[1])
    accepted = [row for row in made[0] if row['status'] == 'accepted']
    assert len(accepted) == 4 and all(row['probability'] in [n/100 for n in range(101)] for row in accepted)
    assert set(Counter(row['group'] for row in made[0]).values()) == {2 if take == 'all' else 1}
