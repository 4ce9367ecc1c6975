"""A chat server on loopback that misbehaves on purpose, and counts what it was asked.

In a test:

    with FaultServer(script=lambda question, n: '500' if n == 0 else 'ok') as server:
        ... server.url, server.stats()

As a process of its own, for tests that kill the client:

    python tests/tools/fault_server.py --port 0 --seed 0 --faults 0.3 --delay 0.02 --log FILE

prints its address; `GET /stats` gives the counts. An answer is a function of the request's body alone, so it is the same
before and after a kill. Which calls fail depends on the seed, the body and how often it was seen.
"""
import argparse
import asyncio
import contextlib
import gzip
import hashlib
import json
import random
import re
import threading
import time
from collections import Counter, deque
from email.utils import formatdate
from functools import cached_property
from pathlib import Path

# What a fault looks like. The first group passes when asked again, the second is an answer, if not the one hoped for.
PASSING = {'429': 'too many requests, no date', '429 after': 'the same with Retry-After', '429 date': 'the same with a date', '500': '', '502': 'an HTML page', '503': '',
           '503 after': 'with Retry-After', '408': '', 'timeout': 'no answer, ever', 'drop': 'closed before a byte', 'cut': 'closed in the middle of the body',
           'malformed': 'a body that is no JSON', 'truncated': 'a body that ends in the middle of its JSON', 'envelope': 'JSON without choices', 'error 200': 'an error with status 200',
           'drip': 'a byte now and then', 'html': 'a web page with status 200', 'huge': 'a reply of many megabytes', 'bomb': 'the same, packed small', 'babble': 'no HTTP'}
ANSWERS = {'ok': '', 'schema': 'JSON of another shape', 'refusal': '', 'filter': 'finish_reason content_filter', 'filter 400': 'status 400, code content_filter', 'empty': '', 'length': '',
           'duplicate': 'the same text for all', 'twice': 'sent two times on one connection', 'no usage': '', 'echo': 'the key in the text', 'parts': 'content as a list', 'packed': 'gzip'}
REFUSALS = {'400': '', '401': '', '402': '', '403': '', '404': '', 'redirect': '', 'quota': 'status 429, code insufficient_quota'}
MIXED_PASSING = [kind for kind in PASSING if kind not in ('408', '429 date')]        # a date is a whole second away
MIXED_ANSWERS = ['schema', 'refusal', 'filter', 'filter 400', 'empty', 'length', 'duplicate', 'twice', 'no usage']
WORDS = 'owl finch heron wren crane lark stork swift raven kite plover grebe rook teal tern dove'.split()
JSON = 'application/json'


def digest(body): return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


LETTERS = 'abcdefghijklmnopqrstuvwxyz '
PRINTABLE = LETTERS + 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?_-\'"@#$%&*()+=/<>[]{}\\^~`|é'


def fitting(test): return [c for c in LETTERS if test(c)] or [c for c in PRINTABLE if test(c)]


def category(name): return re.compile({'CATEGORY_DIGIT': r'\d', 'CATEGORY_SPACE': r'\s', 'CATEGORY_WORD': r'\w', 'CATEGORY_NOT_DIGIT': r'\D', 'CATEGORY_NOT_SPACE': r'\S', 'CATEGORY_NOT_WORD': r'\W'}[str(name)])


def in_class(char, parts):
    "Whether a character stands in a class of a parsed pattern."
    def one(kind, value):
        match str(kind):
            case 'LITERAL': return ord(char) == value
            case 'RANGE': return value[0] <= ord(char) <= value[1]
            case 'CATEGORY': return bool(category(value).match(char))
    return any(one(*part) for part in parts if str(part[0]) != 'NEGATE') != any(str(kind) == 'NEGATE' for kind, _ in parts)


def some_match(parts, rng, extra, groups):
    "A text that a parsed pattern matches; open repetitions go `extra` beyond their least at most."
    text = ''
    for kind, value in parts:
        match str(kind):
            case 'LITERAL': text += chr(value)
            case 'NOT_LITERAL': text += rng.choice(fitting(lambda c: c != chr(value)))
            case 'ANY': text += rng.choice(LETTERS)
            case 'IN': text += rng.choice(fitting(lambda c: in_class(c, value)))
            case 'BRANCH': text += some_match(rng.choice([part for part in value[1] if len(part)] or value[1]), rng, extra, groups)
            case 'SUBPATTERN': groups[value[0]] = some_match(value[-1], rng, extra, groups); text += groups[value[0]]
            case 'GROUPREF': text += groups.get(value, '')
            case 'MAX_REPEAT' | 'MIN_REPEAT' | 'POSSESSIVE_REPEAT': text += some_repeat(*value, rng, extra, groups)
            case 'AT': pass
            case _: raise ValueError(f'a pattern with {kind} is not made')
    return text


def some_repeat(least, most, part, rng, extra, groups):
    "The same, often; of a class that takes letters and spaces, words."
    times = rng.randint(least, max(least, min(int(most), least + extra)))
    if len(part) == 1 and str(part[0][0]) in ('IN', 'ANY', 'NOT_LITERAL') and times > 3:
        wordy = ' '.join(rng.choice(WORDS) for _ in range(times))[:times]
        wordy = wordy[:-1] + 's' if wordy.endswith(' ') else wordy
        if all(in_part(char, part[0]) for char in wordy): return wordy
    return ''.join(some_match(part, rng, extra, groups) for _ in range(times))


def in_part(char, part):
    kind, value = part
    return str(kind) == 'ANY' or (char != chr(value) if str(kind) == 'NOT_LITERAL' else in_class(char, value))


def from_pattern(pattern, rng, least=0, most=10**6):
    "A text that a regular expression matches as a whole, with so many characters."
    parsed = re._parser.parse(pattern)
    for extra in (3, 3, 8, 8, 20, 20, 60, 60, 150, 150, 400, 400, 1000, 2000)*4:
        text = some_match(parsed, rng, extra, {})
        if least <= len(text) <= most and text.strip() == text and re.search(pattern, text): return text
    for extra in (0, 3, 20, 150, 1000)*20:
        text = some_match(parsed, rng, extra, {})
        if least <= len(text) <= most and re.search(pattern, text): return text
    raise ValueError(f'no text of {least} to {most} characters was found for the pattern {pattern!r}')


def some_string(schema, rng):
    "Two words, or what keeps the lengths and the pattern."
    least, most = schema.get('minLength', 0), schema.get('maxLength', 10**6)
    if 'pattern' in schema: return from_pattern(schema['pattern'], rng, least, most)
    text = ' '.join(rng.choices(WORDS, k=2))
    while len(text) < least: text += ' ' + rng.choice(WORDS)
    return text if len(text) <= most else text[:most].rstrip().ljust(least, 's')


def made(schema, rng, root=None):
    "Some value that a JSON schema allows."
    root = schema if root is None else root
    if '$ref' in schema: return made(root['$defs'][schema['$ref'].split('/')[-1]], rng, root)
    if 'enum' in schema: return rng.choice(schema['enum'])
    if 'const' in schema: return schema['const']
    if 'anyOf' in schema: return made(schema['anyOf'][0], rng, root)
    match schema.get('type'):
        case 'object': return {name: made(part, rng, root) for name, part in schema.get('properties', {}).items()}
        case 'array': return [made(schema['items'], rng, root) for _ in range(schema.get('minItems', 2))]
        case 'number' if 'maximum' in schema: return round(schema.get('minimum', 0) + rng.random()*(schema['maximum'] - schema.get('minimum', 0)), 2)
        case 'integer' | 'number': return schema.get('minimum', 0) + rng.randrange(3)
        case 'boolean': return rng.random() < .5
        case 'null': return None
    return some_string(schema, rng)


def wanted_schema(body):
    "The JSON schema that a request asks for, by its response format or in its words; None for plain text."
    if form := body.get('response_format'): return form['json_schema']['schema']
    text, start = body['messages'][-1]['content'], -1
    while (start := text.find('{', start + 1)) >= 0:
        with contextlib.suppress(ValueError):
            found, _ = json.JSONDecoder().raw_decode(text[start:])
            if isinstance(found, dict) and ('properties' in found or 'type' in found): return found


def good_text(body):
    "The answer to a request: the same for the same body."
    rng = random.Random(digest(body))
    if schema := wanted_schema(body): return json.dumps(made(schema, rng))
    return ' '.join(rng.choices(WORDS, k=rng.randint(5, 12))) + '.'


def tokens(text): return len(text.split())


def completion(body, text, reason='stop', model=None, usage=True, **message):
    "A chat completion as OpenAI's API gives it."
    read, written = sum(tokens(m['content']) for m in body['messages']), tokens(text or '')
    reply = {'id': f'chatcmpl-{digest(body)}', 'object': 'chat.completion', 'created': 1, 'model': model or body['model'],
             'choices': [{'index': 0, 'finish_reason': reason, 'message': {'role': 'assistant', 'content': text} | message}]}
    return reply | ({'usage': {'prompt_tokens': read, 'completion_tokens': written, 'total_tokens': read + written}} if usage else {})


def shown(found, most):
    "The part of a choice that shows first tokens with their log-probabilities, nats; a blank comes before them, as some models write it."
    if found is None: return {}
    top = [{'token': token, 'logprob': value, 'bytes': None} for token, value in sorted(found.items(), key=lambda pair: -pair[1])[:most]]
    blank = {'token': '\n', 'logprob': 0., 'bytes': None, 'top_logprobs': [{'token': '\n', 'logprob': 0., 'bytes': None}]}
    return {'logprobs': {'content': [blank, top[0] | {'top_logprobs': top}]}}


def failure(message, code=None, param=None): return {'error': {'message': message, 'type': 'made_up', 'param': param, 'code': code}}


class FaultServer:
    """Answers `POST /v1/chat/completions`, and counts.

    Parameters: `script(question, n)` names the kind of the n-th answer (from 0) to a question, the text of all its messages; without it, `faults` is the
    share of calls that go wrong, in one of `kinds`. `capacity` is how many calls it takes at once; more are answered 429, with `retry_after` if that is given.
    `refuses` names fields of the body that are answered 400. `echo` puts the caller's key into every message, after so many
    characters. `answer(body)` is the text of a good answer, `good_text` where nothing is given. `delay` is in seconds, or a function of the body.
    `logprobs(body)` maps first tokens to their log-probabilities, which are shown where the body asks for them; without it, or where it gives None, the field is left out.
    """

    def __init__(self, port=0, seed=0, faults=0., delay=0., kinds=None, script=None, capacity=None, retry_after=None, wait='0.05', refuses=(), echo=False, log=None,
                 huge=12_000_000, answer=None, logprobs=None):
        self.port, self.seed, self.faults, self.delay, self.script, self.capacity, self.retry_after = port, seed, faults, delay, script, capacity, retry_after
        self.wait, self.refuses, self.echo, self.huge = wait, set(refuses), echo, huge
        self.answer, self.logprobs = answer or good_text, logprobs
        self.passing = [k for k in MIXED_PASSING if kinds is None or k in kinds]
        self.final = [k for k in MIXED_ANSWERS if kinds is None or k in kinds]
        self.received, self.answered, self.kinds = Counter(), Counter(), Counter()
        self.in_flight, self.peak, self.aborted = 0, 0, 0
        self.bodies, self.times, self.headers = (deque(maxlen=10_000) for _ in range(3))
        self.log = Path(log).open('a', encoding='utf-8') if log else None

    @cached_property
    def blank(self): return b'{"choices": [' + b' '*self.huge

    @cached_property
    def bomb(self): return gzip.compress(self.blank)

    # -- what to do ------------------------------------------------------------------------------------------------------

    def kind(self, body, n):
        "What becomes of the n-th call with this body."
        if self.script: return self.script('\n'.join(m['content'] for m in body['messages']), n)
        if self.capacity is not None and self.in_flight > self.capacity: return '429 after' if self.retry_after else '429'
        once, again = random.Random(f'{self.seed}/{digest(body)}'), random.Random(f'{self.seed}/{digest(body)}/{n}')
        if self.passing and n < 3 and again.random() < self.faults*(2/3 if self.final else 1): return again.choice(self.passing)
        return once.choice(self.final) if self.final and once.random() < self.faults/3 else 'ok'

    def reply(self, kind, body, key):
        "Status, headers and body of an answer."
        said = f'{"."*(self.echo - 1)} key {key} says: {kind}' if self.echo else f'this is a {kind}'
        if kind[:3] in ('429', '503', '500', '408', '400', '401', '402', '403', '404'):
            wait = {'after': {'Retry-After': self.retry_after or self.wait},
                    'date': {'Date': formatdate(1e9, usegmt=True), 'Retry-After': formatdate(1e9 + 1, usegmt=True)}}.get(kind[4:], {})
            return int(kind[:3]), {'Content-Type': JSON} | wait, json.dumps(failure(said)).encode()
        page = f'<html><body>{said}</body></html>'.encode()
        whole = completion(body, f'{self.answer(body)} {key}' if self.echo or kind == 'echo' else self.answer(body), model=f'model {key}' if self.echo else None)
        if body.get('logprobs') and self.logprobs: whole['choices'][0] |= shown(self.logprobs(body), body['top_logprobs'])
        good = json.dumps(whole).encode()
        match kind:
            case '502': return 502, {'Content-Type': 'text/html'}, page
            case 'html': return 200, {'Content-Type': 'text/html; charset=utf-8'}, page
            case 'redirect': return 307, {'Location': 'http://127.0.0.1:9/v2'}, b''
            case 'quota': return 429, {'Content-Type': JSON}, json.dumps(failure(said, 'insufficient_quota')).encode()
            case 'malformed': return 200, {'Content-Type': JSON}, b'{"choices": [{"message": ' + said.encode() + b'}]'
            case 'truncated': return 200, {'Content-Type': JSON}, good[:len(good)//2]
            case 'envelope': return 200, {'Content-Type': JSON}, json.dumps({'choices': [], 'note': said}).encode()
            case 'error 200': return 200, {'Content-Type': JSON}, json.dumps(failure(said)).encode()
            case 'packed': return 200, {'Content-Type': JSON, 'Content-Encoding': 'gzip'}, gzip.compress(good)
            case 'huge': return 200, {'Content-Type': JSON}, self.blank
            case 'filter 400': return 400, {'Content-Type': JSON}, json.dumps(failure(said, 'content_filter')).encode()
            case 'schema': made_up = completion(body, '{"weather": "fine"}')
            case 'refusal': made_up = completion(body, None, refusal='I cannot help with that.')
            case 'filter': made_up = completion(body, self.answer(body)[:9], 'content_filter')
            case 'empty': made_up = completion(body, None)
            case 'length': made_up = completion(body, self.answer(body)[:9], 'length')
            case 'duplicate': made_up = completion(body, 'The same for all.')
            case 'no usage': made_up = completion(body, self.answer(body), usage=False)
            case 'parts': made_up = completion(body, None) | {'choices': [{'message': {'content': [{'type': 'text', 'text': t} for t in ('An ', 'owl.')]}, 'finish_reason': 'stop'}]}
            case _: return 200, {'Content-Type': JSON}, good
        return 200, {'Content-Type': JSON}, json.dumps(made_up).encode()

    # -- the wire --------------------------------------------------------------------------------------------------------

    @staticmethod
    def packed(status, headers, body, length=None):
        lines = [f'HTTP/1.1 {status} Whatever', *(f'{k}: {v}' for k, v in headers.items()), f'Content-Length: {len(body) if length is None else length}', '', '']
        return '\r\n'.join(lines).encode() + body

    async def send(self, kind, body, key, reader, writer):
        "Send an answer; whether it went out whole."
        if kind == 'drop': writer.transport.abort(); return False
        if kind == 'timeout':
            with contextlib.suppress(TimeoutError): await asyncio.wait_for(reader.read(1), 60)
            writer.transport.abort(); return False
        if kind == 'babble': writer.write(b'\x16\x03\x01 no such thing\r\n\r\n'); await writer.drain(); writer.close(); return False
        if kind == 'bomb': status, headers, data = 200, {'Content-Type': JSON, 'Content-Encoding': 'gzip'}, self.bomb
        else: status, headers, data = self.reply(kind, body, key)
        if kind == 'cut':
            writer.write(self.packed(status, headers, data[:len(data)//2], len(data))); await writer.drain(); writer.transport.abort(); return False
        if kind == 'drip':
            writer.write(self.packed(status, headers, b'', len(data)))
            for n in range(len(data)):
                if reader.at_eof() or writer.is_closing(): break
                writer.write(data[n:n + 1]); await asyncio.sleep(.1)
            writer.transport.abort(); return False
        self.answered[digest(body)] += kind in ANSWERS                        # counted before anyone can have read it
        writer.write(self.packed(status, headers, data)*(2 if kind == 'twice' else 1))
        await writer.drain()
        return kind in ANSWERS

    async def chat(self, body, head, reader, writer):
        name = digest(body)
        n, self.received[name] = self.received[name], self.received[name] + 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            refused = sorted(self.refuses & body.keys())
            kind = '400' if refused else self.kind(body, n)
            self.kinds[kind] += 1; self.bodies.append(body); self.times.append(time.monotonic()); self.headers.append(head)
            if self.delay and not kind.startswith('429'): await asyncio.sleep(self.delay(body) if callable(self.delay) else self.delay)
            if reader.at_eof() or writer.is_closing(): self.aborted += 1; return writer.close()
            key = head.get('authorization', '').removeprefix('Bearer ')
            if refused:
                text = f"Unsupported parameter: '{refused[0]}' is not supported with this model." + (" Use 'max_completion_tokens' instead." if refused[0] == 'max_tokens' else '')
                writer.write(self.packed(400, {'Content-Type': JSON}, json.dumps(failure(text, 'unsupported_parameter', refused[0])).encode()))
                answered = False
            else: answered = await self.send(kind, body, key, reader, writer)
            if self.log: print(json.dumps({'question': name, 'n': n, 'kind': kind, 'answered': answered}), file=self.log, flush=True)
        finally: self.in_flight -= 1

    async def other(self, method, path, head, data):
        "What is answered to any other call."
        return self.packed(404, {'Content-Type': JSON}, json.dumps(failure('no such path')).encode())

    async def connection(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                request, *lines = (await reader.readuntil(b'\r\n\r\n')).decode('latin1').split('\r\n')
                head = {k.lower(): v.strip() for k, _, v in (line.partition(':') for line in lines) if k}
                data = await reader.readexactly(int(head.get('content-length', 0)))
                if request.startswith('POST /v1/chat/completions '): await self.chat(json.loads(data), head, reader, writer)
                elif request.startswith(('GET /stats ', 'GET /v1/stats ')): writer.write(self.packed(200, {'Content-Type': JSON}, json.dumps(self.stats()).encode()))
                else: writer.write(await self.other(*request.split(' ')[:2], head, data))
                await writer.drain()
        with contextlib.suppress(Exception): writer.close()

    def stats(self):
        "Calls received, calls answered, the most answers that any one body got, and more."
        return {'received': self.received.total(), 'answered': self.answered.total(), 'questions': len(self.received), 'most_answers': max(self.answered.values(), default=0),
                'aborted': self.aborted, 'peak': self.peak, 'in_flight': self.in_flight, 'kinds': dict(self.kinds), 'answers': {k: v for k, v in self.answered.items() if v}}

    # -- life ------------------------------------------------------------------------------------------------------------

    @property
    def url(self): return f'http://127.0.0.1:{self.port}/v1'

    async def serve(self, ready=lambda: None):
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.connection, '127.0.0.1', self.port, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self.stopped.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks: task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __enter__(self):
        ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), daemon=True)
        self.thread.start()
        ready.wait()
        return self

    def __exit__(self, *error):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()


class Quick(asyncio.Protocol):
    "A connection that answers everything alike after a while, with as little work as can be: for benchmarks."
    def connection_made(self, transport): self.transport, self.seen = transport, b''

    def data_received(self, data):
        self.seen += data
        while (end := self.seen.find(b'\r\n\r\n')) >= 0:
            size = end + 4 + int(self.seen[:end].lower().split(b'content-length:')[1].split(b'\r\n')[0])
            if len(self.seen) < size: return
            self.seen = self.seen[size:]
            asyncio.get_running_loop().call_later(self.delay, self.transport.write, self.answer)


async def serve_quickly(port, delay):
    body = json.dumps(completion({'model': 'm', 'messages': []}, 'A wren is a small brown bird. '*6)).encode()
    Quick.delay, Quick.answer = delay, FaultServer.packed(200, {'Content-Type': JSON}, body)
    server = await asyncio.get_running_loop().create_server(Quick, '127.0.0.1', port, backlog=4096)
    print(f'http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1', flush=True)
    await server.serve_forever()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--port', type=int, default=0); a.add_argument('--seed', type=int, default=0); a.add_argument('--faults', type=float, default=0.)
    a.add_argument('--delay', type=float, default=0.); a.add_argument('--log'); a.add_argument('--capacity', type=int)
    a.add_argument('--kinds', type=lambda text: text.split(','), help='comma-separated; all when none is named'); a.add_argument('--retry-after')
    a.add_argument('--quick', action='store_true', help='answer everything alike, without faults or counts')
    o = a.parse_args()
    if o.quick: return asyncio.run(serve_quickly(o.port, o.delay))
    server = FaultServer(o.port, o.seed, o.faults, o.delay, o.kinds, capacity=o.capacity, retry_after=o.retry_after, log=o.log)
    with contextlib.suppress(KeyboardInterrupt): asyncio.run(server.serve(lambda: print(server.url, flush=True)))


if __name__ == '__main__': main()
