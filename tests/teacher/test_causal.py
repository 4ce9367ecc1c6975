"A local model as a teacher of requests: the texts of the decode loop, whatever the batch, taken lazily."
import copy
import random
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from pydantic import BaseModel, Field, RootModel
from synthlab.decode.loop import DecodePlan, Sampling, decode
from synthlab.run.produce import find_teacher, make_teacher, make_config
from synthlab.run.recipe import Recipe
from synthlab.tasks.task import Task
from synthlab.teacher import grammar as grammar_module, causal as teachers_module
from synthlab.teacher.asking import TeacherError, has_short_context
from synthlab.teacher.causal import CausalTeacher, Feed, prompt_ids, request_seed
from synthlab.teacher.grammar import StructuredError
from synthlab.teacher.requests import Request, instruct
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope='module')
def writer(teacher):
    "The model of the fixture as a teacher, in float64: a draw never falls between the roundings of two batches."
    return CausalTeacher(teacher.name, max_rows=8, dtype='float64')


def request(n=0, messages=None, **options): return Request(messages or [{'role': 'user', 'content': f'once upon a time there were {n} dogs'}], **{'sampling': Sampling(max_new_tokens=6 + n % 5), 'seed': n, 'cue': 'Story:'} | options)


def by_hand(model, request):
    "One FewGen plan with the request's seed, decoded alone."
    plan = DecodePlan([model.render(request.messages, request.cue)], [0], torch.eye(1), seed=request_seed(request))
    [(_, [text])] = decode(model, [plan], request.sampling)
    return text


def asked(writer, requests): return dict(writer.ask(iter(requests)))


def test_complete_equals_plans_by_hand(writer):
    requests = [request(n, sampling=Sampling(5 + n % 4, temperature=(1., .7, 0.)[n % 3], top_p=(1., .9)[n % 2])) for n in range(20)]
    replies = writer.complete(requests)
    assert [reply.request for reply in replies] == requests
    for reply, one in zip(replies, requests):
        text = by_hand(writer, one)
        [answer] = reply.answers
        assert (reply.text, answer.finish_reason, answer.completion_tokens) == (text.text, text.finish_reason, text.steps)
        assert answer.prompt_tokens == len(writer.encode([writer.render(one.messages, one.cue)])[0]) == writer.token_bound(one)
        assert answer.model == writer.name and reply.outcome in ('ok', 'truncated', 'empty')


def test_a_text_does_not_depend_on_its_neighbours(writer, monkeypatch):
    requests = [request(n) for n in range(12)]
    first = {n: answer.text for n, answer in asked(writer, requests).items()}
    order = random.Random(0).sample(range(12), 12)
    monkeypatch.setattr(writer, 'max_rows', 3)
    again = asked(writer, [requests[n] for n in order])
    assert {order[place]: answer.text for place, answer in again.items()} == first


def test_seeds():
    one = request(7)
    assert request_seed(one) == 7 and request_seed(replace(one, name='x')) == 7
    others = [request_seed(r) for r in (replace(one, sample=1), replace(one, sample=2), replace(one, seed=None), replace(one, seed=None, sample=1), replace(one, seed=None, cue='x'))]
    assert len({7, *others}) == 6 and all(0 <= seed < 2**63 for seed in others)
    assert 0 <= request_seed(replace(one, seed=-1)) < 2**63 and 0 <= request_seed(replace(one, seed=2**200)) < 2**63


def test_a_system_turn_is_part_of_the_prompt(writer):
    plain = request(1)
    told = replace(plain, messages=({'role': 'system', 'content': 'tell it in the rain'}, *plain.messages))
    assert writer.tokenizer.decode(prompt_ids(writer, told)).count('tell it in the rain') == 1
    assert writer.token_bound(told) > writer.token_bound(plain)
    assert writer.complete([told])[0].text == by_hand(writer, told).text


def test_requests_are_taken_as_there_is_room(writer):
    taken = 0
    def lazily():
        nonlocal taken
        for n in range(1000):
            taken += 1
            yield request(n)
    answers = writer.ask(lazily())
    for done in range(1, 30):
        next(answers)
        assert taken <= done + writer.max_rows + 1
    answers.close()
    assert taken < 40


def test_none_is_a_pause(writer):
    "After a None nothing is taken before something has been handed out; a None takes a place."
    given, handed = [], []
    def feed():
        for n in range(30):
            one = None if n % 3 == 2 else request(n)
            given.append((n, len(handed)))
            yield one
    for place, answer in writer.ask(feed()):
        handed.append(place)
        assert answer.text == by_hand(writer, request(place)).text
    assert sorted(handed) == [n for n in range(30) if n % 3 != 2]
    under_way = lambda n: sum(m % 3 != 2 for m in range(n)) - dict(given)[n]
    for n in range(2, 29, 3):
        if under_way(n) > 0: assert dict(given)[n + 1] > dict(given)[n]


def test_none_with_nothing_under_way(writer):
    "The iterable is asked again at once; one that has only pauses ends."
    assert list(writer.ask(iter([None, None, None]))) == []
    assert [place for place, _ in writer.ask(iter([None, None, request(1), None, None, request(2), None]))] == [2, 5]
    assert list(writer.ask(iter([]))) == []


def test_a_request_that_is_too_long_stops_no_other(writer):
    long = request(1, sampling=Sampling(max_new_tokens=100_000))
    requests = [long, request(2), long, long, request(3), long]
    found = asked(writer, requests)
    assert sorted(found) == list(range(6))
    assert [n for n in range(6) if found[n].error] == [0, 2, 3, 5] and 'max_new_tokens' in found[0].error
    assert [reply.outcome for reply in writer.complete([long, long])] == ['failed']*2


def test_what_is_given_up_is_handed_out_before_more_is_taken(writer):
    taken = 0
    def lazily():
        nonlocal taken
        for n in range(100):
            taken += 1
            yield request(n, sampling=Sampling(max_new_tokens=100_000))
    for done, _ in enumerate(writer.ask(lazily()), 1): assert taken == done
    assert done == 100


def test_a_broken_iterable_breaks_the_asking(writer):
    def broken():
        yield request(1)
        raise KeyError('lost')
    with pytest.raises(KeyError, match='lost'): list(writer.ask(broken()))


def test_identity(writer):
    assert writer.identity == {'name': writer.name, 'revision': writer.revision, 'dtype': 'float64'}


def test_a_schema_that_json_cannot_hold_is_told_plainly(writer):
    class Odd(BaseModel): act: Callable[[int], int]
    asked = request(schema=Odd)
    for call in (lambda: writer.complete([asked]), lambda: instruct(asked), lambda: writer.estimate([asked])):
        with pytest.raises(ValueError, match='the schema Odd cannot be asked for: .*; take types') as refusal: call()
        assert 'pydantic' not in str(refusal.value)


def copy_of(model, scale=1.):
    "A loaded model of one's own, with its tokenizer."
    network = copy.deepcopy(model.model)
    with torch.no_grad(): network.get_input_embeddings().weight.mul_(scale)
    return network, model.tokenizer


def test_a_loaded_model_answers_as_the_same_by_name(writer):
    requests = [request(n) for n in range(4)]
    mine = CausalTeacher(*copy_of(writer), name='mine', max_rows=2)
    assert [reply.text for reply in mine.complete(requests)] == [reply.text for reply in writer.complete(requests)]
    assert mine.identity == {'name': 'mine', 'revision': mine.revision, 'dtype': 'float64'}
    assert mine.revision.startswith('loaded:')


def test_a_run_of_a_loaded_model_goes_on_with_that_model_only(writer, tmp_path):
    task, mine = Task(name='spam', labels=['spam', 'ham']), CausalTeacher(*copy_of(writer), name='mine')
    recipe = make_config(Recipe.fewgen(shots=0), task, mine, 4, sampling=Sampling(max_new_tokens=4), budget=8)
    assert find_teacher(recipe, given=mine) is mine
    assert find_teacher(recipe, given=CausalTeacher(*copy_of(writer), name='mine')).identity == mine.identity
    with pytest.raises(ValueError, match='the recipe asks for the teacher'):
        find_teacher(recipe, given=CausalTeacher(*copy_of(writer, 1.01), name='mine'))
    with pytest.raises(ValueError, match=r"'mine' \(loaded:.*pass the teacher, CausalTeacher\(model, tokenizer\)"):
        find_teacher(recipe)


def test_every_way_to_a_teacher_tells_what_a_server_needs(tmp_path):
    address = 'http://localhost:8000/v1'
    for call in (lambda: CausalTeacher(address), lambda: make_teacher({'teacher': {'name': address}}),
                 lambda: Recipe.fewgen(shots=0).generate('ag_news', teacher=address, out=tmp_path/'run')):
        with pytest.raises(ValueError, match=re.escape(f'take ChatTeacher(MODEL, base_url={address!r})')): call()


class Verdict(BaseModel):
    topic: Literal['sport', 'trade']
    why: str = Field(max_length=30)


def test_a_schema_is_kept(writer):
    pytest.importorskip('llguidance')
    requests = [request(n, schema=Verdict if n % 2 else None, sampling=Sampling(max_new_tokens=150 if n % 2 else 6, top_p=.9)) for n in range(10)]
    if writer.token_bound(requests[1]) + 150 > writer.max_length: pytest.skip("the schema is too long for this model's context")
    replies = writer.complete(requests)
    for n, reply in enumerate(replies):
        if n % 2: assert reply.outcome == 'ok' and isinstance(reply.value, Verdict), reply
        else: assert reply.text == by_hand(writer, requests[n]).text
    told = requests[1] if has_short_context(writer) else instruct(requests[1])
    assert prompt_ids(writer, requests[1]) == prompt_ids(writer, replace(told, schema=None))                       # the schema is told once, and not where the context is short
    assert len(prompt_ids(writer, requests[1])) == writer.token_bound(requests[1]) == replies[1].answers[0].prompt_tokens


def test_a_long_context_is_told_the_schema(writer, monkeypatch):
    asked = request(1, schema=Verdict)
    for length, told in ((1024, asked), (1025, instruct(asked))):
        monkeypatch.setattr(writer, 'max_length', length)
        assert prompt_ids(writer, asked) == prompt_ids(writer, replace(told, schema=None))


def letters_only():
    "A tokenizer of single characters, without square brackets and spaces."
    vocab = {c: i for i, c in enumerate(['</s>', *'abcdefghijklmnopqrstuvwxyz0123456789{}":,'])}
    tok = Tokenizer(models.WordLevel(vocab, unk_token='</s>'))
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.Split('', 'isolated'), decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tok, eos_token='</s>', unk_token='</s>')


def test_a_tokenizer_that_cannot_begin_is_refused():
    pytest.importorskip('llguidance')
    class Count(BaseModel): n: int
    with pytest.raises(StructuredError, match='cannot write'): grammar_module.grammar(RootModel[list[int]], letters_only())
    assert not grammar_module.grammar(Count, letters_only()).is_done


def test_a_schema_that_cannot_be_written_stops_no_other(monkeypatch):
    pytest.importorskip('llguidance')
    class Umlaut(BaseModel): größe: int
    class Refused(BaseModel): n: int
    def picky(schema, *rest):
        if schema is Refused: raise StructuredError('the tokenizer cannot write the schema of Refused')
        return grammar_module.grammar(schema, *rest)
    monkeypatch.setattr(teachers_module, 'grammar', picky)
    writer = CausalTeacher('pocket')                                  # writes no letter beyond ASCII
    replies = writer.complete([request(1, schema=Refused, sampling=Sampling(max_new_tokens=40)), request(2),
                               request(3, schema=Umlaut, sampling=Sampling(max_new_tokens=40))], repair=False)
    assert [reply.outcome for reply in replies] == ['failed', by_hand(writer, request(2)).finish_reason.replace('length', 'truncated').replace('stop', 'ok'), 'malformed']
    assert 'cannot write the schema' in replies[0].reason and replies[2].reason


def test_without_the_library_the_extra_is_named(writer, monkeypatch):
    class Fresh(BaseModel): n: int
    for name in ('llguidance', 'llguidance.hf'): monkeypatch.setitem(sys.modules, name, None)
    grammar_module._tokens.cache_clear()
    if writer.token_bound(request(1, schema=Fresh)) > 400: pytest.skip("the schema is too long for this model's context")
    with pytest.raises(TeacherError, match=r'pip install "synthlab-text\[structured\]"'): list(writer.ask(iter([request(1, schema=Fresh)])))
    grammar_module._tokens.cache_clear()


def test_feed_gives_plans_and_pauses(writer):
    feed = Feed(writer, iter([request(1), None, request(2)]))
    assert (next(feed).name, next(feed), next(feed)) == (0, None, None)
    assert list(feed.resume()) == [] and next(feed).name == 2
    with pytest.raises(StopIteration): next(feed)
    assert feed.is_over


@pytest.mark.parametrize('schema', [None, Verdict])
def test_control_tokens_of_a_request_are_data(writer, schema):
    "They are told, and counted, as characters."
    def control(text): return [i for i in prompt_ids(writer, request(messages=[{'role': 'user', 'content': text}], schema=schema)) if i in ends]
    ends = {*writer.tokenizer.all_special_ids} - {writer.tokenizer.unk_token_id}
    tokens = [token for token in writer.tokenizer.all_special_tokens if token.strip()]
    assert control(f"a dog {' '.join(tokens)} ran") == control('a dog ran')
    one = request(messages=[{'role': 'user', 'content': f'a dog {tokens[0]*20} ran'}])
    assert writer.complete([one])[0].answers[0].prompt_tokens == writer.token_bound(one)
