"Answers of a given shape: what is read from any text, and what a grammar lets a model write."
import json
import random
import sys
from typing import Literal

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator
from synthlab.teacher import grammar as grammar_module
from synthlab.teacher import requests
from synthlab.decode.contrast import contrast_weights
from synthlab.decode.loop import DecodePlan, Sampling, decode
from synthlab.teacher.requests import (
    Answer, Request, find_json, instruct, json_schema, parse_value, read, read_reply, repair_request, request_key)
from synthlab.teacher.grammar import grammar


class Item(BaseModel):
    name: str
    count: int
    share: float | None = None
    kind: Literal['a', 'b'] = 'a'
    tags: list[str] = []


class Items(BaseModel): items: list[Item]
class Titled(BaseModel):
    title: str
    items: list[Item]
class Text(BaseModel): text: str
class Loose(BaseModel): eggs: int = 0


words = st.text(max_size=12)
items = st.builds(Item, name=words, count=st.integers(-10**9, 10**9), share=st.none() | st.floats(allow_nan=False, allow_infinity=False), kind=st.sampled_from('ab'), tags=st.lists(words, max_size=3))
values = st.one_of(items, st.builds(Items, items=st.lists(items, max_size=3)), st.builds(Titled, title=words, items=st.lists(items, max_size=2)), st.builds(Text, text=st.text(max_size=60)))


def spell(value, dice, commas=True):
    "JSON with whitespace and commas as the dice fall."
    space = lambda: dice.choice(['', ' ', '\n', '\n  '])
    if not isinstance(value, (dict, list)): return json.dumps(value, ensure_ascii=dice.random() < .5)
    parts = [f'{space()}{spell(part, dice, commas)}{space()}' for part in value] if isinstance(value, list) else \
            [f'{space()}{json.dumps(key)}{space()}:{space()}{spell(part, dice, commas)}{space()}' for key, part in value.items()]
    comma = ',' if parts and commas and dice.random() < .5 else ''
    return ('[{}{}{}]' if isinstance(value, list) else '{{{}{}{}}}').format(','.join(parts), comma, space())


@given(values, st.integers(0, 2**32), words, words, st.sampled_from(['{}', '```json\n{}\n```', '```\n{}\n```', '~~~\n{}\n~~~', '\ufeff{}', 'Sure! Here it is:\n\n```JSON\n{}\n```\nAnything else?']))
def test_a_dressed_up_value_is_read_back(value, seed, before, after, fence):
    text = spell(value.model_dump(), random.Random(seed))
    assert read(f'{before}\n' + fence.replace('{}', text) + f'\n{after}', type(value)) == (value, '')
    assert read(fence.replace('{}', text), type(value)) == (value, '')


@given(values, st.integers(0, 2**32))
def test_wrappers_and_bare_lists(value, seed):
    text = spell(value.model_dump(), random.Random(seed))
    assert read('{"answer": %s}' % text, type(value)) == (value, '')
    assert read('[%s]' % text, type(value)) == (value, '')
    if isinstance(value, Items): assert read(spell(value.model_dump()['items'], random.Random(seed)), Items) == (value, '')


@given(st.lists(items, min_size=1, max_size=4), st.integers(0, 2**32), st.floats(0, 1))
def test_a_list_that_breaks_off_keeps_its_complete_items(found, seed, share):
    "Of any prefix, exactly the items whose closing brace is in it."
    whole = json.dumps({'items': [item.model_dump() for item in found]})
    cut = round(share*(len(whole) - 1))
    ends = [len(json.dumps({'items': [item.model_dump() for item in found[:n + 1]]})) - 2 for n in range(len(found))]
    expected = found[:sum(end <= cut for end in ends)]
    value, note = read(whole[:cut], Items)
    assert ([] if value is None else value.items) == expected and note
    value, _ = read('x' + whole[:cut].removeprefix('{"items": '), Items)
    if cut >= len('{"items": '): assert ([] if value is None else value.items) == expected


@settings(max_examples=400)
@given(st.text() | st.text('[]{}",:\'\\ \n1-.etrufalsnN', max_size=80) | st.binary().map(lambda b: b.decode('utf-8', 'surrogateescape')))
def test_no_text_raises(text):
    for schema in (Item, Items, Titled, RootModel[list[int]], RootModel[dict[str, int]]):
        value, fault = read(text, schema)
        assert isinstance(value, schema) if value is not None else fault
        for part in find_json(text): assert part.end > 0
    outcome = read_reply(Request([{'role': 'user', 'content': 'x'}], schema=Item), Answer(text)).outcome
    assert outcome in ('ok', 'malformed', 'empty')
    repair_request(Request([{'role': 'user', 'content': 'x'}], schema=Item), text, text)              # always a request that can be sent


@settings(max_examples=300)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | words, lambda inner: st.lists(inner) | st.dictionaries(words, inner)), st.integers(0, 2**32))
def test_the_tolerant_parser_agrees_with_json(value, seed):
    text = spell({'value': value}, random.Random(seed), commas=False)
    found = parse_value(text + ' and more')
    assert not found.fault and found.end == len(text)
    assert json.dumps(found.value) == json.dumps(json.loads(text))                                     # NaN is not equal to itself


@pytest.mark.parametrize('text, expected', [
    ("{'name': 'it\\'s \"so\"', 'count': 1}", Item(name='it\'s "so"', count=1)),
    ("{'name': 'x', 'count': 1, 'share': None,}", Item(name='x', count=1)),
    ('{"name": "two\nlines", "count": 1}', Item(name='two\nlines', count=1)),
    ('{"name": "x", "count": "7"}', Item(name='x', count=7)),
    ('First {"name": "x"} then {"name": "y", "count": 2}', Item(name='y', count=2)),
    ('{"data": {"result": {"name": "x", "count": 1}}}', Item(name='x', count=1)),
    ('I thought [see {"name": "z", "count": 3}', Item(name='z', count=3)),
    ('He said ["{"name": "x", "count": 1}', Item(name='x', count=1)), ("it's {'{\"name\": \"x\", \"count\": 1}", Item(name='x', count=1)),
    ('Options: {} or []. {"name": "x", "count": 1}', Item(name='x', count=1)),
    ("{'name': 'it's', 'count': 1}", None), ('{name: "x", count: 1}', None), ('{"name": "x", // why\n "count": 1}', None), ('{"name": "x" "count": 1}', None),
    ('{"name": "x", "count": 12', None), ('"name": "x", "count": 1', None), ('', None), ('null', None), ('[]', None), ('{}', None)])
def test_what_is_read_and_what_is_not(text, expected):
    value, fault = read(text, Item)
    assert value == expected and bool(fault) == (expected is None)


def test_nan_is_data():
    value, _ = read('{"name": "x", "count": 1, "share": NaN}', Item)
    assert value.share != value.share
    class Finite(BaseModel): share: float = Field(allow_inf_nan=False)
    assert read('{"share": NaN}', Finite) == (None, 'share: Input should be a finite number')


def test_nothing_is_taken_for_an_empty_model():
    assert read('{"answer": {"eggs": 3}}', Loose) == (Loose(eggs=3), '')
    assert read('{}', Loose) == (Loose(), '')
    assert read('{"legs": 2, "wings": 2}', Loose)[0] is None


def test_empty_brackets_in_the_prose_are_no_answer():
    assert read('A list [] of items: [{"name": "x", "count": 1}]', Items)[0].items == [Item(name='x', count=1)]
    assert read('Here: []', Items)[0] == Items(items=[])


def test_aliases_and_other_shapes():
    class Named(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        list_of: list[int] = Field(alias='list')
    assert read('{"list": [1]}', Named)[0].list_of == read('{"list_of": [1]}', Named)[0].list_of == read('[1]', Named)[0].list_of == [1]
    assert read('[1, "x", 3]', Named)[0].list_of == [1, 3]
    assert read('```\n"wren"\n```', RootModel[str])[0].root == 'wren'
    assert read('{"answer": [1, 2]}', RootModel[list[int]])[0].root == [1, 2]
    assert read('a: [1, 2, "x", 4', RootModel[list[int]])[0].root == [1, 2]


def test_bad_items_are_left_out_and_told():
    good, bad = {'name': 'x', 'count': 1}, {'name': 'y'}
    value, note = read(json.dumps({'title': 'T', 'items': [good, bad, good]}), Titled)
    assert value == Titled(title='T', items=[good, good]) and note == '1 of 3 items left out: count: Field required'
    assert read(json.dumps([good, bad]), Titled)[0] is None                                            # its title is not there
    class Three(BaseModel): items: list[Item] = Field(min_length=3)
    assert read(json.dumps([good, bad, good]), Three)[0] is None
    draft = f'{json.dumps([good, bad])} no, better: {json.dumps([good, bad, good])}'
    assert len(read(draft, Items)[0].items) == 2                                                       # the better of two lists, and not both


def test_the_fault_is_the_validators_message():
    assert read('{"name": 5}', Item)[1] == 'name: Input should be a valid string; count: Field required'
    class Checked(BaseModel):
        n: int
        @field_validator('n')
        @classmethod
        def even(cls, n):
            if n % 2: raise ValueError(f'{n} is odd')
            return 8 // (n - 2)                                                                        # a slip of its author
    assert read('{"n": 3}', Checked)[1] == 'n: Value error, 3 is odd'
    assert read('{"n": 2}', Checked) == (None, 'ZeroDivisionError: integer division or modulo by zero')


BRACKETS = ['[', '{', '{}', '[]', '["', '{"', '{"a":', '[[],', '{"[":', "['", '[1,', '{"a":[', '}', '"', '[{"', '\\', '["\\"']


@pytest.mark.parametrize('unit', BRACKETS)
def test_a_megabyte_of_brackets(unit):
    "Work that grows with the square of the length would take hours; recursion would end Python."
    text = unit*(10**6//len(unit))
    for one in (text, 'x ' + text, text[::-1]):
        value, fault = read(one, Item)
        assert value is None and fault
        read(one, Items)
    assert read('['*100_000 + ']'*100_000, RootModel[list])[0] is None
    assert read('{"a":'*100_000 + '1' + '}'*100_000, Item)[0] is None


def test_what_nests_too_deeply_ends_the_search():
    assert parse_value('['*100 + ']'*100).fault == ''
    [found] = find_json('['*101 + ']'*101 + '{"name": "x", "count": 1}')
    assert 'nests' in found.fault


def test_tokens_that_are_read_grow_with_the_length(monkeypatch):
    "Each character is tokenised a bounded number of times, whatever the text."
    matched = 0
    class Counting:
        def match(self, *args):
            nonlocal matched
            matched += 1
            return token.match(*args)
    token = requests._TOKEN
    monkeypatch.setattr(requests, '_TOKEN', Counting())
    for unit in BRACKETS:
        matched = 0
        list(find_json(unit*20_000))
        assert matched <= 3*len(unit)*20_000 + 10


def test_schema_is_closed_at_every_level():
    def objects(node):
        if isinstance(node, dict):
            if 'properties' in node: yield node
            for part in node.values(): yield from objects(part)
        if isinstance(node, list):
            for part in node: yield from objects(part)
    class Deep(BaseModel):
        one: Item
        many: dict[str, Item]
        some: list[Titled] | None = None
    found = list(objects(json_schema(Deep)))
    assert len(found) == 3
    for node in found: assert node['additionalProperties'] is False and node['required'] == list(node['properties'])


def test_schema_agrees_with_the_strict_form_of_openai():
    "Up to the words that we leave out."
    strict = pytest.importorskip('openai.lib._pydantic').to_strict_json_schema
    def bare(node, named=False):
        if isinstance(node, list): return [bare(part) for part in node]
        if not isinstance(node, dict): return node
        return {k: bare(v, k in ('properties', '$defs')) for k, v in node.items() if named or k not in requests._NOT_SENT}
    class Described(BaseModel):
        first: Item = Field(description='the first')
        rest: list[Item]
    for schema in (Item, Items, Titled, Text, Described): assert json_schema(schema) == bare(strict(schema))


def test_a_schema_that_refers_to_itself():
    assert json_schema(Tree)['$defs']['Tree']['properties']['children']['items'] == {'$ref': '#/$defs/Tree'}
    tree = Tree(name='a', children=[Tree(name='b', children=[])])
    assert read(tree.model_dump_json(), Tree) == (tree, '')


class Tree(BaseModel):
    name: str
    children: list['Tree']


def test_repair_keeps_what_decides_the_call():
    ask = Request([{'role': 'system', 'content': 's'}, {'role': 'user', 'content': 'q'}], Sampling(9), Item, sample=3, seed=4, cue='A:', name='row')
    again = repair_request(ask, '{"name": 5}', read('{"name": 5}', Item)[1])
    assert [m['role'] for m in again.messages] == ['system', 'user', 'assistant', 'user'] and again.messages[:2] == ask.messages
    assert 'count: Field required' in again.messages[-1]['content'] and again.messages[2]['content'] == '{"name": 5}'
    assert (again.sampling, again.schema, again.sample, again.seed, again.cue, again.name) == (ask.sampling, Item, 3, 4, 'A:', 'row')
    assert request_key(again, {}) != request_key(ask, {})
    assert json.dumps(json_schema(Item)) in instruct(again).messages[-1]['content']


@pytest.mark.parametrize('answer, outcome', [(Answer('{"text": "x"}'), 'ok'), (Answer('x'), 'malformed'), (Answer('{"text": "x"}', 'length'), 'truncated'), (Answer(' '), 'empty'),
                                             (Answer(refusal='no'), 'refused'), (Answer('{"text": "x"}', 'content_filter'), 'filtered'), (Answer(error='timeout'), 'failed')])
def test_replies(answer, outcome):
    found = read_reply(Request([{'role': 'user', 'content': 'q'}], schema=Text), answer, cached=True)
    assert (found.outcome, found.value, found.text, found.cached) == (outcome, Text(text='x') if outcome == 'ok' else None, answer.text, 1)
    assert bool(found.reason) == (outcome != 'ok')
    assert read_reply(Request([{'role': 'user', 'content': 'q'}]), Answer('x')).value == 'x'


# -- grammars

class Note(BaseModel):
    kind: Literal['sport', 'trade']
    words: str = Field(min_length=3, max_length=24)
    sure: bool
    score: int | None = Field(ge=0, le=99)


notes = st.builds(Note, kind=st.sampled_from(['sport', 'trade']), words=st.text('abcdefghij xyz', min_size=3, max_size=24).filter(lambda s: '  ' not in s), sure=st.booleans(),
                  score=st.none() | st.integers(0, 99))


@pytest.fixture(scope='module')
def rules(teacher):
    pytest.importorskip('llguidance')
    return grammar(Note, teacher.tokenizer)


@settings(max_examples=30, deadline=None)
@given(note=notes, spaced=st.booleans())
def test_every_valid_text_is_allowed(teacher, rules, note, spaced):
    "What is written by json.dumps passes token by token, and may end only at its end."
    text = json.dumps(note.model_dump(), separators=None if spaced else (',', ':'))
    state = rules.start()
    ids = teacher.tokenizer(text, add_special_tokens=False)['input_ids']
    assume(teacher.decode(ids, whole=True) == text)                                                    # a tokenizer may lose spaces
    for n, token in enumerate(ids):
        assert state.allowed()[token] and not state.is_done, (text, n)
        assert not state.allowed()[teacher.end_ids].any()
        state.advance(token)
    assert state.is_done or state.allowed()[teacher.end_ids].any()


@pytest.mark.parametrize('seed', range(10))
def test_every_walk_ends_in_a_valid_text(teacher, rules, seed):
    "Tokens drawn evenly among those allowed: whatever the walk, the text validates."
    state, ids, dice = rules.start(), [], random.Random(seed)
    while not state.is_done:
        token = dice.choice(state.allowed().nonzero()[:, 0].tolist())
        if token in teacher.end_ids.tolist(): break
        ids.append(token)
        state.advance(token)
        assert len(ids) < 400
    Note.model_validate_json(teacher.decode(ids, whole=True))


def constrained(teacher, kinds, delta, alpha, seed, sampling, labels='abab'):
    weights = contrast_weights(list(labels[:len(kinds)]), delta=delta, mode='all')
    plan = DecodePlan([f'{word} news' for word in ('red', 'blue', 'old', 'new')][:len(kinds)], range(len(kinds)), weights, alpha, list(labels[:len(kinds)]), seed,
                      constraints=[kind and grammar(kind, teacher.tokenizer) for kind in kinds], stops=teacher.end_ids.tolist())
    [(_, texts)] = decode(teacher, [plan], sampling)
    return texts


class Score(BaseModel): score: int = Field(ge=0, le=99)


GUIDANCE, CUTS = [(1., 0.), (.3, 1e-3), (0., 1.)], [dict(), dict(top_p=.5), dict(top_k=3), dict(temperature=0), dict(temperature=3.)]


@pytest.mark.parametrize('delta, alpha, sampling', [pytest.param(*GUIDANCE[i], CUTS[j], id=f'{GUIDANCE[i]}-{CUTS[j]}', marks=() if (i + j) % 3 == 0 else pytest.mark.long)
                                                    for i in range(3) for j in range(5)])
def test_constrained_texts_validate_under_any_guidance(teacher, delta, alpha, sampling):
    pytest.importorskip('llguidance')
    kinds = [Note, Score, None, Note]
    texts = constrained(teacher, kinds, delta, alpha, 0, Sampling(max_new_tokens=200, **sampling))
    for kind, text in zip(kinds, texts):
        if kind and text.finish_reason == 'stop': kind.model_validate_json(text.text)
        if kind: assert text.finish_reason == 'stop' or text.steps == 200
    assert texts[1].finish_reason == 'stop'


def test_a_grammar_serves_many_rows_and_restarts(teacher, rules):
    one, two = rules.start(), rules.start()
    one.advance(one.allowed().nonzero()[0].item())
    assert torch.equal(two.allowed(), rules.first) and torch.equal(one.start().allowed(), rules.first)
    states, dice, ids = [rules.start() for _ in range(3)], random.Random(1), [[], [], []]
    while not all(state.is_done for state in states):                                                  # in turn, each on a way of its own
        for state, own in zip(states, ids):
            if state.is_done: continue
            own.append(dice.choice([i for i in state.allowed().nonzero()[:, 0].tolist() if i not in teacher.end_ids.tolist()]))
            state.advance(own[-1])
    for own in ids: Note.model_validate_json(teacher.decode(own, whole=True))
    assert grammar(Note, teacher.tokenizer) is rules


def test_a_forbidden_token_ends_the_text(teacher, rules):
    state = rules.start()
    state.advance((~state.allowed()).nonzero()[0].item())
    assert state.is_done


def test_without_the_library_the_extra_is_named(teacher, monkeypatch):
    class Fresh(BaseModel): n: int
    for name in ('llguidance', 'llguidance.hf'): monkeypatch.setitem(sys.modules, name, None)
    grammar_module._tokens.cache_clear()
    with pytest.raises(ImportError, match=r'pip install "synthlab-text\[structured\]"'): grammar(Fresh, teacher.tokenizer)
    grammar_module._tokens.cache_clear()
