"Rows that a base model writes as plain text, going on from the seed."
import json
import os
import warnings
from dataclasses import replace

import pytest
import torch
from synthlab.decode.model import CausalModel
from synthlab.decode.sampling import Sampling
from synthlab.run.targen import TarGEN
from synthlab.store.runs import read_rows
from synthlab.run.recipe import Recipe
from synthlab.tasks.strategy import InstanceSeed
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher, prompt_ids
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Answer, Request, request_key
from scripted_teacher import ScriptedTeacher

SEEDS = [InstanceSeed({'subject': words}) for words in ('Mad cows', 'a plan', 'the </s> [SEP] mark', 'oil,\nor gas', 'a kite', 'week', 'the strike', 'AT&T')]


@pytest.fixture(scope='module')
def pocket(): return CausalTeacher('pocket')


def write(teacher, n=8, **options):
    "Rows, and the entries of all calls, by their keys."
    calls = {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        maker = TarGEN(teacher, 'ag_news', correction=None, calls=calls, **({'seeds': SEEDS, 'form': 'text'} | options))
        return maker.generate(n, candidates=n), calls


@pytest.fixture(scope='module')
def written(pocket): return write(pocket)


def test_every_row_begins_with_its_seed_as_it_was_given(written):
    rows = written[0].accepted
    assert len(rows) >= 6
    for row in rows:
        begin = ' '.join(json.loads(row['seed_text'])['subject'].split())
        assert row['text'].startswith(begin) and len(row['text']) > len(begin) and not row['text'][len(begin)].isalnum()
        assert row['fields'] == {'text': row['text']} and '{' not in row['text']


def test_only_what_the_model_wrote_is_counted(pocket, written):
    result, calls = written
    assert sum(row['tokens'] for row in result.rows) == sum(entry['completion_tokens'] for entry in calls.values())
    assert sum(row['attempts'] for row in result.rows) == len(calls)
    for row in (row for row in result.accepted if row['attempts'] == 1 and not row['cleaned'] and row['finish_reason'] == 'stop'):
        rest = row['text'][len(' '.join(json.loads(row['seed_text'])['subject'].split())):]
        # one token ends the text; the seed is not among them, and a tokenizer may spell a text anew
        assert abs(row['tokens'] - 1 - len(pocket.tokenizer(rest, add_special_tokens=False)['input_ids'])) <= 2


@pytest.mark.parametrize('stop', [1, 5])
def test_a_resumed_run_writes_the_same_rows(pocket, written, stop):
    result, calls = written
    kept = dict(list(calls.items())[:stop])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        again = TarGEN(pocket, 'ag_news', correction=None, calls=kept, seeds=SEEDS, form='text').generate(8, candidates=8)
    assert again.rows == result.rows and kept == calls


class Dull(CausalTeacher):
    "Answers with the seed alone until it is asked for the third time."

    def ask(self, requests):
        for place, request in enumerate(requests):
            if request is None: continue
            self.asked.append(request)
            text = request.begin if len(self.asked) % 3 else f'{request.begin} is told of in text {len(self.asked)}.'
            yield place, Answer(text, prompt_tokens=9, completion_tokens=4)


def test_a_fault_is_drawn_again_and_every_try_is_counted():
    teacher = Dull('pocket')
    teacher.asked = []
    result, _ = write(teacher, 2, seeds=SEEDS[:2], retries=2)
    assert [(row['status'], row['attempts'], row['tokens']) for row in result.rows] == [('accepted', 3, 12)]*2
    assert len({request.seed for request in teacher.asked}) == 6 and len({request.messages for request in map(hashable, teacher.asked)}) <= 2
    teacher.asked = []
    result, _ = write(teacher, 2, seeds=SEEDS[:2], retries=0)
    assert {(row['status'], row['reason'], row['attempts']) for row in result.rows} == {('rejected', 'copy of a demonstration', 1)}


def hashable(request):
    "A request whose messages can be members of a set."
    class Shown: messages = json.dumps([dict(message) for message in request.messages])
    return Shown


def test_json_is_the_default(pocket):
    _, calls = write(pocket, 2, form='json', seeds=SEEDS[:2])
    assert all(entry['text'].startswith('{') for entry in calls.values())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        kept = dict(calls)
        TarGEN(pocket, 'ag_news', correction=None, calls=kept, seeds=SEEDS[:2]).generate(2, candidates=2)
    assert kept == calls                                                        # the same requests: nothing was asked anew


@pytest.mark.parametrize('task, options, words', [
    ('ag_news', {'explain': True}, 'explanation .* needs JSON'), ('rte', {}, "the task 'rte' says itself"), ('wic', {}, "the task 'wic' says itself"),
    ('ag_news', {'form': 'txt'}, 'form must be json or text')])
def test_what_cannot_be_text_is_refused_before_a_call(pocket, task, options, words):
    calls = {}
    with pytest.raises(ValueError, match=words): TarGEN(pocket, task, correction=None, calls=calls, **({'form': 'text'} | options)).generate(2)
    assert not calls


def test_a_teacher_behind_a_server_is_refused_before_a_call():
    scripted = ScriptedTeacher()
    with pytest.raises(ValueError, match='asked from outside this process.* or take form = "json"'): write(scripted, 2)
    assert not scripted.asked


@pytest.mark.long
def test_a_recipe_has_the_form(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for form, options in (('json', {'form': 'json'}), ('text', {'form': 'text'}), ('default', {})):
            Recipe.targen(contexts=2, correct='none', **options).generate('sst2', n=4, out=tmp_path/form, teacher='pocket', seed=3)
        with pytest.raises(ValueError, match='take seed_use = "verbatim"; or take form = "json"'):
            Recipe.targen(correct='none', form='text', seed_use='meaning').generate('sst2', n=4, out=tmp_path/'meaning', teacher='pocket')
    rows = {form: [row['text'] for row in read_rows(tmp_path/form, None)] for form in ('json', 'text', 'default')}
    assert rows['json'] == rows['default'] != rows['text']
    assert all(row['text'].startswith(json.loads(row['seed_text'])['subject']) for row in read_rows(tmp_path/'text', None) if row['status'] == 'accepted')


@pytest.mark.parametrize('name', ['pocket', 'stories260K'])
@pytest.mark.parametrize('begin', ['Mad cows', 'a week,', 'oil'])
def test_a_continuation_is_that_of_transformers(name, begin):
    folder = name if name == 'pocket' else f"{os.environ.get('SYNTHLAB_MODELS', '')}/{name}"
    if name != 'pocket' and not os.path.isdir(folder): pytest.skip('this model is not here')
    teacher = CausalTeacher(folder)
    asked = Request([{'role': 'user', 'content': 'Write a news summary.'}], Sampling(16, temperature=0), cue='Summary:', begin=begin)
    [reply] = teacher.complete([asked])
    ids, ends = torch.tensor([prompt_ids(teacher, asked)]), teacher.stop_ids.tolist()
    made = teacher.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, eos_token_id=ends, pad_token_id=ends[0],
                                  begin_suppress_tokens=(~teacher.word_starts).nonzero().flatten().tolist())
    before = len(prompt_ids(teacher, replace(asked, begin='')))
    whole = teacher.tokenizer.decode(made[0, before:], skip_special_tokens=True).strip()
    assert reply.text.lower() == whole.lower() and reply.text.startswith(begin)


def test_a_beginning_is_data_and_part_of_the_key(pocket):
    asked = Request([{'role': 'user', 'content': 'Write.'}], cue='Text:')
    begun = [Request(asked.messages, cue='Text:', begin=words) for words in ('a [SEP] b', 'a b')]
    assert len({request_key(request, {}) for request in (asked, *begun)}) == 3
    assert pocket.tokenizer.sep_token_id not in prompt_ids(pocket, begun[0])
    with pytest.raises(ValueError, match='begin = .* goes with no schema'): Request(asked.messages, schema=load_task('boolq').__class__, begin='a')
    with ChatTeacher('birds', 'http://localhost:9/v1') as teacher, pytest.raises(ValueError, match='cannot be made to begin with'):
        teacher.complete([begun[1]])


def test_word_starts_are_those_that_leave_a_word_whole(pocket):
    model, [word] = CausalModel('pocket'), pocket.tokenizer('plan', add_special_tokens=False)['input_ids']
    whole = [pocket.tokenizer.decode([word, token]) for token in model.word_starts.nonzero().flatten().tolist()]
    assert len(whole) > 5000 and all(text.startswith('plan') and not text[4:5].isalnum() and text != 'plan' for text in whole)
