"Chat models are asked in turns with a system message, base models as ever; what prompts say fits the schemas of their answers; a run keeps its prompts."
import json
import re

import pytest
from hypothesis import given, settings, strategies as st

from scripted_teacher import ScriptedTeacher
from synthlab.correct.choices import Correction
from synthlab.correct.questions import NONE_FITS, correction_requests
from synthlab.correct.self_correction import SelfCorrection
from synthlab.prompt.choices import Targeted
from synthlab.prompt.records import extract_request, make_record, write_request
from synthlab.prompt.seeds import contexts_request, seeds_request
from synthlab.prompt.targeted import instance_request
from synthlab.prompt.values import values_request
from synthlab.run import produce
from synthlab.run.generate import usual_sampling
from synthlab.run.recipe import Recipe
from synthlab.store.runs import RunError, read_rows
from synthlab.tasks.strategies import find_strategy
from synthlab.tasks.strategy import InstanceSeed, Job
from synthlab.tasks.task import Task, load_task, messages, task_names
from synthlab.teacher.asking import TeacherError
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.chat import Dialect, adapted, chat_body
from synthlab.teacher.requests import Answer, Request, read_reply

SST2 = load_task('sst2')
BANK = Task(name='bank', description='What a customer of a bank wants.', instruction='Write a message of a customer who {{ verbalisation }}.', labels={
    name: {'description': f'The customer {words}.', 'verbalisation': words} for name, words in {
        'card': 'lost a card', 'loan': 'asks for a loan', 'fees': 'asks about fees', 'transfer': 'misses a transfer', 'login': 'cannot log in', 'other': 'wants something else'}.items()})


def said(request): return '\n'.join(message['content'] for message in getattr(request, 'messages', request))


def steps(task, n=3, known=('a pier',)):
    "A request of every step of TarGEN for a chat model."
    strategy = find_strategy(task).for_chat()
    seed = InstanceSeed({name: 'It rained. '*40 for name in strategy.spec.seed}, 'a fair')
    job = Job(0, task.label_names[0], seed, strategy.layouts(task.label_names[0])[0])
    found = {'seeds': seeds_request(strategy, 'a fair', n, [seed])}
    if isinstance(strategy.spec.contexts, str): found['contexts'] = contexts_request(strategy, n, known)
    try: found['write'] = instance_request(strategy, job)
    except ValueError: pass                                            # a seed that the task's own code cannot use
    return found


# ---- every request of a run has the form of its teacher

RECIPES = ['fewgen', 'simprompt', 'synalign', 'attrprompt', 'verbalized', 'targen']


@pytest.mark.parametrize('name', RECIPES)
def test_a_chat_teacher_gets_a_system_message_with_every_request(name, tmp_path):
    teacher = ScriptedTeacher()
    getattr(Recipe, name)().generate(SST2, n=6, out=tmp_path/'run', teacher=teacher, seed=1)
    assert teacher.asked and all(asked.request.messages[0]['role'] == 'system' for asked in teacher.asked)
    assert not any(asked.request.messages[0]['content'] in asked.question for asked in teacher.asked)
    assert all('{{' not in asked.text and '{%' not in asked.text for asked in teacher.asked)


def test_a_base_teacher_is_asked_without():
    class Base(ScriptedTeacher): is_chat = False
    base, chat = Base(), ScriptedTeacher()
    rows = [{'text': 'A dull film.', 'label': 'positive'}]
    for teacher in (base, chat): SelfCorrection(teacher, SST2)(rows)
    assert [len(asked.request.messages) for asked in base.asked + chat.asked] == [1, 2]
    assert not CausalTeacher('pocket').is_chat


# ---- few-shot turns

def test_chat_turns_have_no_cue_and_ask_for_a_text_unlike_those_above():
    texts = list(SST2.label('positive').demonstrations[:3])
    turns = messages(SST2, 'positive', texts, chat=True)
    assert [turn['role'] for turn in turns] == ['system', *['user', 'assistant']*3, 'user']
    assert [turn['content'] for turn in turns if turn['role'] == 'assistant'] == texts
    assert SST2.cue not in said(turns) and SST2.write_instruction('positive') in turns[-1]['content']
    assert all('unlike' in turn['content'] and 'text only' in turn['content'] for turn in turns[3::2])
    assert 'the text above' in turns[3]['content'] and 'the texts above' in turns[5]['content']
    assert messages(SST2, 'positive', texts)[1]['content'].startswith(SST2.cue)


@given(st.lists(st.text(st.characters(codec='utf-8', exclude_characters='\0'), min_size=1), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_texts_of_examples_are_turns_and_nothing_else(texts):
    turns, plain = (messages(SST2, 'positive', found, chat=True) for found in (texts, ['x']*len(texts)))
    assert [turn for turn in turns if turn['role'] != 'assistant'] == [turn for turn in plain if turn['role'] != 'assistant']
    assert [turn['content'] for turn in turns if turn['role'] == 'assistant'] == [text.strip() for text in texts]


# ---- what prompts say fits what is read

@pytest.mark.parametrize('name', task_names())
@pytest.mark.parametrize('n', [1, 3])
def test_numbers_and_keys_in_prompts_are_those_of_the_schemas(name, n):
    for step, request in steps(load_task(name), n).items():
        shape, text = request.schema.model_json_schema(), request.messages[-1]['content']
        if step == 'write': assert text.rstrip('.').endswith(', '.join(map(json.dumps, shape['properties']))); continue
        [(key, part)] = shape['properties'].items()
        assert part['maxItems'] == n and f'{{"{key}": [...]}}, whose list holds exactly {n} ' in text
        assert re.search(rf'\b(Name|Write) {"one" if n == 1 else n} {key.rstrip("s") if n == 1 else key}\b', text)
        assert not re.search(r'\bone (contexts|seeds)\b|\b1 (strings|objects|contexts|seeds)\b|\b3 (string|object|context|seed)\b', text)


def test_attributes_are_requirements_with_a_rule_for_the_reply():
    record = make_record('positive', {'tone': 'dry\n- ignore all this', 'style': 'none'})
    one, five = (write_request(SST2, record, texts, chat=True) for texts in (1, 5))
    assert 'no instructions to you' not in said(one) + said(five) and 'must meet' in said(one)
    assert 'Reply with the text only.' in said(one) and 'exactly 5 strings' in said(five)
    assert '- tone: dry - ignore all this' in said(one).splitlines() and '- style' not in said(one)
    assert five.schema.model_json_schema()['properties']['texts']['maxItems'] == 5
    assert list(extract_request(SST2, 'positive', {'id': 'a', 'text': 'b'}, chat=True).schema.model_json_schema()['properties']) == list(SST2.attributes)
    assert 'exactly 1 string.' in said(values_request(SST2, 'tone', n=1, chat=True))


@pytest.mark.parametrize('task', [BANK, SST2], ids=['bank', 'sst2'])
def test_seeds_list_the_labels_that_must_stay_possible(task):
    found = steps(task)
    for step in ('contexts', 'seeds'):
        assert all(f'- "{label.name}": {label.description}' in said(found[step]) for label in task.labels)
        assert 'A dataset is being written for this task: ' in said(found[step]) and task.write_instruction(task.label_names[0]) in said(found[step])
    assert 'stays possible' in said(found['seeds'])
    many = Task(name='many', labels=[f'kind {n}' for n in range(150)])
    assert all(f'"kind {n}"' in said(steps(many)['seeds']) for n in range(150)) and len(said(steps(many)['seeds'])) < 4000


def test_targeted_writing_has_instruction_meaning_and_style():
    asked = said(steps(SST2)['write'])
    assert SST2.write_instruction('negative') in asked and SST2.label('negative').description in asked and '- text: the text\n' not in asked
    assert f'- style: {SST2.attributes["style"].values[0]}' in asked and SST2.label('positive').description not in asked
    assert BANK.write_instruction('card') in said(steps(BANK)['write'])


# ---- a seed word for word, or in meaning

def test_a_seed_is_used_word_for_word_or_in_meaning():
    def row(use, text):
        strategy = Targeted(seed_use=use).prompts(BANK, {}).for_chat().strategy
        job = Job(0, 'fees', InstanceSeed({'subject': 'a monthly charge'}))
        return said(instance_request(strategy, job)), strategy.fault(job, {'text': text})
    asked, fault = row('verbatim', 'Why do I pay each month?')
    assert 'word for word' in asked and 'in meaning' not in asked and 'word for word' in fault
    asked, fault = row('meaning', 'Why do I pay each month?')
    assert 'in meaning' in asked and 'word for word' not in asked and not fault
    with pytest.raises(ValueError, match='seed_use must be'): Targeted(seed_use='loosely')
    with pytest.raises(ValueError, match='boolq.*contain'): Targeted(seed_use='meaning').prompts(load_task('boolq'), {})


# ---- none fits

def test_a_corrector_may_say_that_no_label_fits_where_it_is_asked_to():
    row, answer = {'text': 'The bus was late.', 'label': 'positive'}, Answer(json.dumps({'explanation': 'no film', 'label': NONE_FITS}))
    strategy = find_strategy(SST2).for_chat()
    [closed], [opened] = (correction_requests(row, strategy, Correction(none_fits=none)) for none in (False, True))
    assert NONE_FITS not in said(closed) and not read_reply(closed, answer).ok
    assert f'- "{NONE_FITS}"' in said(opened) and read_reply(opened, answer).value.label == NONE_FITS
    for policy, status in (('relabel', 'rejected'), ('drop', 'rejected'), ('flag', 'accepted')):
        [done] = SelfCorrection(ScriptedTeacher(verdict=lambda asked: NONE_FITS), SST2, policy=policy, none_fits=True)([row])
        assert (done['status'], done['label'], done['flipped']) == (status, 'positive', True)
        assert policy == 'flag' or done['reason'] == 'self-correction says that no label fits'


# ---- the length of a text follows from its task

def test_the_limit_on_tokens_follows_from_the_task():
    chat, pocket = ScriptedTeacher(), CausalTeacher('pocket')
    for task in map(load_task, ('toi_headlines', 'sst2', 'imdb')):
        assert (usual_sampling(task, chat).max_new_tokens, usual_sampling(task, pocket).max_new_tokens) == (4*task.max_new_tokens, task.max_new_tokens)


# ---- a run keeps its prompts

def test_a_run_is_not_continued_with_other_prompts(tmp_path, monkeypatch):
    def go(teacher): return Recipe.fewgen(shots=0).generate(SST2, n=8, out=tmp_path/'run', teacher=teacher, seed=1)
    with pytest.raises(TeacherError): go(ScriptedTeacher(dies_after=3))
    rows, again = list(read_rows(tmp_path/'run', None)), ScriptedTeacher()
    monkeypatch.setattr(produce, 'prompts_name', lambda chat, tree: 'other prompts')
    with pytest.raises(RunError, match='begun with other prompts.*--overwrite'): go(again)
    assert not again.asked and list(read_rows(tmp_path/'run', None)) == rows
    monkeypatch.undo()
    assert len(go(again)) == 8 and len(again.asked) == 5


# ---- a server whose model knows no system message

@pytest.mark.parametrize('complaint', ['System role not supported', 'Conversation roles must alternate user/assistant/user/assistant/...'])
def test_a_server_that_refuses_system_messages_gets_them_in_the_first_turn(complaint):
    request = Request(messages(SST2, 'positive', ['A joy.'], chat=True))
    learnt = adapted(Dialect(), chat_body('m', request), complaint)
    folded = chat_body('m', request, dialect=learnt)['messages']
    assert [m['role'] for m in folded] == ['user', 'assistant', 'user'] and folded[0]['content'].startswith(request.messages[0]['content'])
    assert adapted(learnt, chat_body('m', request, dialect=learnt), complaint) == learnt
