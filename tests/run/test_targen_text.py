"Rows that a base model writes as plain text, going on from the seed."
import json
import warnings

import pytest
from synthlab.decode.model import CausalModel
from synthlab.run.targen import TarGEN
from synthlab.store.runs import read_rows
from synthlab.run.recipe import Recipe
from synthlab.tasks.strategy import InstanceSeed
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher
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
        maker = TarGEN(teacher, 'ag_news', correction=None, calls=calls, **({'seeds': SEEDS} | options))
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
        again = TarGEN(pocket, 'ag_news', correction=None, calls=kept, seeds=SEEDS).generate(8, candidates=8)
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


def test_form_json_keeps_json_and_so_do_chat_teachers_and_tables(pocket):
    _, calls = write(pocket, 2, form='json', seeds=SEEDS[:2])
    assert all(entry['text'].startswith('{') for entry in calls.values())
    scripted = ScriptedTeacher()
    _, calls = write(scripted, 2, seeds=SEEDS[:2])
    assert calls and all(entry['text'].startswith('{') for entry in calls.values())
    with pytest.raises(ValueError, match='form = "text" has a local base model'): write(scripted, 2, form='text')
    with pytest.raises(ValueError, match='form must be json, text or empty'): write(pocket, 2, form='txt')
    with pytest.raises(ValueError, match='form = "text"'): write(pocket, 2, form='text', explain=True)


def test_a_recipe_has_the_form(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for form in ('json', 'text', ''):
            Recipe.targen(contexts=2, correct='none', form=form).generate('sst2', n=4, out=tmp_path/f'x{form}', teacher='pocket', seed=3)
    rows = {form: [row['text'] for row in read_rows(tmp_path/f'x{form}', None)] for form in ('json', 'text', '')}
    assert rows['text'] == rows[''] != rows['json']


def test_a_beginning_is_data_and_part_of_the_key(pocket):
    asked = Request([{'role': 'user', 'content': 'Write.'}], cue='Text:')
    begun = [Request(asked.messages, cue='Text:', begin=words) for words in ('a [SEP] b', 'a b')]
    assert len({request_key(request, {}) for request in (asked, *begun)}) == 3
    from synthlab.teacher.causal import prompt_ids
    assert pocket.tokenizer.sep_token_id not in prompt_ids(pocket, begun[0])
    with pytest.raises(ValueError, match='begin = .* goes with no schema'): Request(asked.messages, schema=load_task('boolq').__class__, begin='a')
    with ChatTeacher('birds', 'http://localhost:9/v1') as teacher, pytest.raises(ValueError, match='cannot be made to begin with'):
        teacher.complete([begun[1]])


def test_word_starts_are_those_that_leave_a_word_whole(pocket):
    model, [word] = CausalModel('pocket'), pocket.tokenizer('plan', add_special_tokens=False)['input_ids']
    whole = [pocket.tokenizer.decode([word, token]) for token in model.word_starts.nonzero().flatten().tolist()]
    assert len(whole) > 5000 and all(text.startswith('plan') and not text[4:5].isalnum() and text != 'plan' for text in whole)
