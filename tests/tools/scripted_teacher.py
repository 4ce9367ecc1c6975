"""A teacher without a model: every answer is a function of the request, by rules that a test can read.

    teacher = ScriptedTeacher()                                    valid JSON for any schema
    teacher = ScriptedTeacher(faults=.3, order=1)                  three answers in ten go wrong; they come in another order
    teacher = ScriptedTeacher(script=lambda asked: 'no JSON' if asked.step == 'write' and asked.sample == 0 else None)

What is asked for is known by the schema: a criterion with values divides a tree of contexts, lists of strings are contexts, lists of objects are seeds, one answer of a closed list with an explanation is a correction,
anything else is an instance. Strings keep their lengths and patterns, and hold what the prompt's JSON says about the seed.
"""
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fault_server import digest, from_pattern, wanted_schema
from synthlab.teacher.asking import TeacherError, TextTeacher
from synthlab.teacher.requests import Answer, Request, find_json, json_schema, request_key

START, END = 'b br ch d dr f fl g gr h k l m n p pl qu r s st t tr v w z'.split(), 'ab al an ap ark eck el em en erd ett ic ill im ind ock ol on ort um un url'.split()
FAULTS = ('truncated', 'prose', 'fenced', 'schema', 'empty', 'refusal', 'wrong label', 'given up', 'filtered')
READABLE = ('prose', 'fenced')                                     # faults that a tolerant reader mends


def some_word(rng): return ''.join(rng.choice(START) + rng.choice(END) for _ in range(rng.choice((1, 2, 2))))


def some_text(rng, least, most, opening=''):
    "Words that nobody knows, one sentence, within these numbers of characters."
    text, wanted = opening, min(most, max(least, len(opening) + rng.randint(12, 40)))
    while len(text) < wanted: text = f'{text} {some_word(rng)}'.strip()
    if len(text) <= most: return text
    text = text[:most].rstrip()
    return text + 'x'*(least - len(text))


@dataclass(frozen=True)
class Asked:
    """A request as a script sees it.

    Parameters: `step` is tree, contexts, seeds, write, correct or text; `request` the request; `schema` its JSON schema; `told` the JSON objects in the last message, in order;
    `number` how many requests of this step came before, in order of arrival; `given` the label that the prompt shows the corrector, if any.
    """
    step: str
    request: Request
    schema: Mapping[str, Any]
    number: int
    key: str
    told: tuple = field(default=())

    @property
    def text(self): return '\n'.join(message['content'] for message in self.request.messages)
    @property
    def question(self):
        "The first message of the user, as it was before anything was answered."
        return next(message['content'] for message in self.request.messages if message['role'] == 'user')
    @property
    def sample(self): return self.request.sample
    @property
    def repair(self): return self.request.messages[-1]['content'].startswith('That answer cannot be used')

    @property
    def answers(self):
        "The closed list of answers that a corrector may give."
        return next((tuple(resolved(part, self.schema).get('enum', ())) for name, part in self.schema['properties'].items() if name in ('label', 'answer')), ())

    @property
    def given(self):
        "The label that the prompt shows as the current one; None if it shows none."
        return next((told['label'] for told in self.told if told.get('label') in self.answers and not told.keys() - {'label', 'reason'}), None)

    @property
    def label(self):
        "The label that a row is to be written for."
        found = re.search(r'^The label: ("(?:[^"\\\\]|\\\\.)*")', self.question, re.M)
        return json.loads(found[1]) if found else None

    @property
    def instance(self):
        "What the corrector is to label, or what the seed of a row says: the first JSON object of the prompt."
        return next((told for told in self.told if 'properties' not in told), {})


def resolved(part, root):
    "A part of a schema, without references."
    while '$ref' in part or 'allOf' in part: part = root['$defs'][part['$ref'].split('/')[-1]] if '$ref' in part else part['allOf'][0]
    return part | {'enum': [part['const']]} if 'const' in part else part


def step_of(schema):
    "Which step asks for such a shape."
    parts = {name: resolved(part, schema) for name, part in schema.get('properties', {}).items()}
    if len(parts) == 1:
        [(name, part)] = parts.items()
        if name in ('contexts', 'seeds'): return name
        if part.get('type') == 'array': return 'seeds' if resolved(part['items'], schema).get('type') == 'object' else 'contexts'
    if 'criterion' in parts and 'values' in parts: return 'tree'
    if any('enum' in part for name, part in parts.items() if name in ('label', 'answer')): return 'correct'
    return 'write' if parts else 'text'


class ScriptedTeacher(TextTeacher):
    """Answers by rule.

    Parameters
    ----------
    script : callable or None
        Takes an `Asked`; what it returns is the answer: an `Answer`, a text, or a value that becomes JSON; None leaves the answer to the rules.
    verdict : callable or None
        Takes an `Asked` of step "correct" and returns the answer; None takes the label that the prompt shows, else the first of the list.
    faults : float
        Share of requests whose answer goes wrong; which and how depends on the request alone.
    kinds : sequence of str
        Of `FAULTS`; what goes wrong.
    order : int or None
        Seed of the order in which answers come back; None keeps that of the requests.
    window : int
        Requests that are under way at once, where there is an order.
    delay : float
        Seconds for each answer.
    dies_after : int or None
        Answers after which the teacher is gone.
    name : str
        Its name, part of its identity.
    """

    def __init__(self, script: Callable | None = None, verdict: Callable | None = None, faults: float = 0., kinds=FAULTS, order: int | None = None, window: int = 8,
                 delay: float = 0., dies_after: int | None = None, name: str = 'scripted'):
        self.script, self.verdict, self.faults, self.kinds, self.order, self.window, self.delay, self.dies_after = script, verdict, faults, tuple(kinds), order, window, delay, dies_after
        self.name, self.asked, self.given, self.counts = name, [], [], Counter()

    @property
    def identity(self): return {'name': self.name, 'revision': '1'}

    def token_bound(self, request): return sum(len(m['content']) for m in request.messages)

    # -- what was asked --------------------------------------------------------------------------------------------------

    def prompts(self, step): return [asked for asked in self.asked if asked.step == step]

    def calls(self, repairs=False): return Counter(asked.step for asked in self.asked if repairs or not asked.repair)

    # -- answers ---------------------------------------------------------------------------------------------------------

    def ask(self, requests):
        rng, waiting = random.Random(self.order), []
        for place, request in enumerate(requests):
            if request is not None: waiting.append((place, self.answered(request)))
            while waiting and (request is None or self.order is None or len(waiting) >= self.window):
                yield waiting.pop(rng.randrange(len(waiting)) if self.order is not None else 0)
                if request is None: break
        while waiting: yield waiting.pop(rng.randrange(len(waiting)) if self.order is not None else 0)

    def answered(self, request):
        if self.dies_after is not None and len(self.asked) >= self.dies_after: raise TeacherError('the scripted teacher is gone')
        if self.delay: time.sleep(self.delay)
        answer = self.answer(self.look(request, json_schema(request.schema, portable=False) if request.schema else {}, request_key(request, self.identity)))
        self.given.append(answer)
        return answer

    def serve(self, body):
        "The text of a good answer to a chat completion, for a `FaultServer`."
        return self.answer(self.look(Request(body['messages']), wanted_schema(body) or {}, digest(body))).text

    def look(self, request, schema, key):
        "What is asked for; kept among what was asked."
        step = step_of(schema)
        told = tuple(part.value for message in request.messages if message['role'] == 'user' for part in find_json(message['content']) if not part.fault
                     and isinstance(part.value, dict))
        asked = Asked(step, request, schema, self.counts[step], key, told)
        self.asked.append(asked)
        self.counts[step] += 1
        return asked

    def answer(self, asked):
        "The whole answer to a request."
        said = self.script(asked) if self.script else None
        if isinstance(said, Answer): return said
        if said is not None: return self.packed(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), asked)
        good, rng = json.dumps(self.value(asked), ensure_ascii=False) if asked.schema else some_text(random.Random(asked.key), 1, 80), random.Random(f'{asked.key} fault')
        return self.fault(rng.choice(self.kinds), good, asked) if rng.random() < self.faults else self.packed(good, asked)

    def packed(self, text, asked, **more): return Answer(text, prompt_tokens=len(asked.text.split()), completion_tokens=len(text.split()), model=self.name, **more)

    def fault(self, kind, good, asked):
        match kind:
            case 'truncated': return self.packed(good[:len(good)//2], asked, finish_reason='length')
            case 'prose': return self.packed(f'Sure, here it is:\n\n{good}\n\nShall I go on?', asked)
            case 'fenced': return self.packed(f'```json\n{good}\n```', asked)
            case 'schema': return self.packed('{"weather": "fine"}', asked)
            case 'empty': return self.packed(' ', asked)
            case 'refusal': return self.packed('', asked, refusal='I cannot help with that.')
            case 'filtered': return self.packed('', asked, finish_reason='content_filter')
            case 'given up': return Answer(error='timed out', attempts=5)
            case 'wrong label': return self.packed(json.dumps({'label': 'Choice 7', 'answer': 'Choice 7', 'explanation': 'It is so.'}), asked)
        raise ValueError(f'no such fault: {kind!r}')

    def value(self, asked):
        "A value that the schema allows."
        rng, names = random.Random(asked.key), ('label', 'answer')
        found = self.made(asked.schema, rng, asked)
        if asked.step == 'correct':
            said = self.verdict(asked) if self.verdict else asked.given or asked.answers[0]
            found |= {name: said for name in names if name in found}
        return found

    def made(self, part, rng, asked, name=''):
        "Some value that a part of the schema allows."
        part = resolved(part, asked.schema)
        if 'enum' in part: return rng.choice(part['enum'])
        if 'anyOf' in part: return self.made(part['anyOf'][0], rng, asked, name)
        match part.get('type'):
            case 'object': return {name: self.made(inner, rng, asked, name) for name, inner in part.get('properties', {}).items()}
            case 'array':
                least = part.get('minItems', 0)
                return distinct((lambda: self.made(part['items'], rng, asked, name)), part.get('maxItems', max(least, 3)), least)
            case 'number' if 'maximum' in part: return round(part.get('minimum', 0) + rng.random()*(part['maximum'] - part.get('minimum', 0)), 2)
            case 'integer' | 'number': return part.get('minimum', 0) + rng.randrange(3)
            case 'boolean': return rng.random() < .5
            case 'null': return None
        least, most = part.get('minLength', 1), part.get('maxLength', 400)
        if 'pattern' in part: return from_pattern(part['pattern'], rng, least, most)
        return some_text(rng, least, most, self.seed_text(asked, name) if asked.step == 'write' else '')

    def seed_text(self, asked, name):
        "What a written text has to hold: the parts of the seed that the prompt shows as JSON."
        return ' '.join(dict.fromkeys(value for value in asked.instance.values() if isinstance(value, str)))


def distinct(make, most, least=0):
    "Up to `most` values, none twice."
    found = []
    for _ in range(most*20):
        value = make()
        if value not in found: found.append(value)
        if len(found) == most: break
    return found


__all__ = ['Asked', 'FAULTS', 'READABLE', 'ScriptedTeacher', 'digest']
