"""A server on loopback that speaks OpenAI's files and batches, and single calls too, and counts what it is ordered.

    with BatchServer(takes=.1, expires=lambda body, order: order == 1) as server: ... server.url, server.orders

Answers are those of a `FaultServer`: a function of the body alone, so that a batch and single calls agree. As a process, for a try by hand:

    python tests/tools/batch_server.py --port 8000 --takes 20
"""
import argparse
import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

from fault_server import JSON, FaultServer, digest, failure

CANCELLED = {'response': None, 'error': {'code': 'batch_cancelled', 'message': 'This request was cancelled before it was executed.'}}


def uploaded(head, data):
    "The fields of a multipart form, and its file."
    boundary = re.search(r'boundary="?([^";]+)', head['content-type'])[1].encode()
    fields = {}
    for part in data.split(b'--' + boundary)[1:-1]:
        about, _, content = part.removeprefix(b'\r\n').partition(b'\r\n\r\n')
        fields[re.search(rb'name="(\w+)"', about)[1].decode()] = content.removesuffix(b'\r\n'), about
    return fields


class BatchServer(FaultServer):
    """Takes files and batches.

    `takes` is how long a batch is under way, in seconds. `hold` delays the reply to an order, which is carried out at once; `lose` drops the replies to so many orders.
    `expires(body, order)` says which requests expire in the batch with that number, from 1; `invalid(lines)` why a batch is turned down, or None. `script` is as for single calls: what it
    names, such as "400" or "length", becomes of the line. `most_waiting` limits the requests at once, as a limit on queued tokens does. `stuck` batches stay until `finish()`.
    """

    def __init__(self, takes=0., hold=0., lose=0, expires=None, invalid=None, most_waiting=None, stuck=False, batches=True, listing=True, page=100, **options):
        super().__init__(**options)
        self.takes, self.hold, self.lose, self.expires, self.invalid = takes, hold, lose, expires or (lambda body, order: False), invalid
        self.most_waiting, self.stuck, self.has_batches, self.listing, self.page = most_waiting, stuck, batches, listing, page
        self.files, self.batches, self.orders, self.submitted, self.looks, self.paths = {}, {}, [], Counter(), Counter(), Counter()
        self.rng, self.work = random.Random(self.seed), set()

    # -- batches -----------------------------------------------------------------------------------------------------------

    def lines(self, batch): return [json.loads(line) for line in self.files[batch['input_file_id']].decode().splitlines()]

    def ordered(self, order):
        "Carry out an order; the batch."
        self.orders.append(order)
        batch = {'id': f'batch_{len(self.orders):03}', 'object': 'batch', 'status': 'validating', 'created_at': int(time.time()), 'output_file_id': None, 'error_file_id': None, 'errors': None, **order}
        self.batches[batch['id']] = batch
        for line in self.lines(batch): self.submitted[line['custom_id']] += 1
        batch['request_counts'] = {'total': len(self.lines(batch)), 'completed': 0, 'failed': 0}
        self.work.add(asyncio.get_running_loop().create_task(self.carry_out(batch, len(self.orders))))
        return batch

    def fault(self, lines):
        "Why a batch is turned down as a whole."
        if len({line['custom_id'] for line in lines}) < len(lines): return [{'code': 'duplicate_custom_id', 'message': 'The same custom_id twice', 'line': 2}]
        if len(lines) > 50_000: return [{'code': 'too_many_tasks', 'message': 'More than 50,000 requests', 'line': None}]
        if self.most_waiting and len(lines) > self.most_waiting: return [{'code': 'token_limit_exceeded', 'message': 'Enqueued token limit reached', 'line': None}]
        return self.invalid and self.invalid(lines)

    async def carry_out(self, batch, order):
        lines = self.lines(batch)
        if said := self.fault(lines): return batch.update(status='failed', errors={'object': 'list', 'data': said})
        batch['status'] = 'in_progress'
        if self.takes: await asyncio.sleep(self.takes)
        if not self.stuck: self.end(batch, order)

    def finish(self):
        "Let stuck batches come to their end."
        self.stuck = False
        for number, batch in enumerate(list(self.batches.values()), 1):
            if batch['status'] == 'in_progress': self.end(batch, number)

    def end(self, batch, order, status=None):
        "Answer what does not expire, in any order; of a cancelled batch every other line."
        good, bad, lines = [], [], self.lines(batch)
        for place, line in self.rng.sample(list(enumerate(lines)), len(lines)):
            told = CANCELLED if status == 'cancelled' and place % 2 else self.told(line, order)
            (good if told['response'] and told['response']['status_code'] == 200 else bad).append({'id': f'batch_req_{digest(line)}', 'custom_id': line['custom_id'], **told})
        for name, found in (('output_file_id', good), ('error_file_id', bad)):
            if not found: continue
            batch[name] = f"file-{batch['id']}-{name[:3]}"
            self.files[batch[name]] = ''.join(json.dumps(line) + '\n' for line in found).encode()
        batch['request_counts'] |= {'completed': len(good), 'failed': len(bad)}
        gone = any(line['error'] for line in bad)
        batch['status'] = status or ('expired' if gone else 'completed')

    def told(self, line, order):
        "What is said about a line."
        body = line['body']
        if self.expires(body, order): return {'response': None, 'error': {'code': 'batch_expired', 'message': 'This request could not be executed before the completion window expired.'}}
        if refused := sorted(self.refuses & body.keys()):
            text = f"Unsupported parameter: '{refused[0]}' is not supported with this model." + (" Use 'max_completion_tokens' instead." if refused[0] == 'max_tokens' else '')
            return {'response': {'status_code': 400, 'request_id': 'r', 'body': failure(text, 'unsupported_parameter', refused[0])}, 'error': None}
        kind, key = self.kind(body, self.submitted[line['custom_id']] - 1), self.keys.get('key', '')
        status, _, data = self.reply(kind, body, key)
        self.answered[digest(body)] += status == 200
        return {'response': {'status_code': status, 'request_id': 'r', 'body': json.loads(data)}, 'error': None}

    # -- the wire ----------------------------------------------------------------------------------------------------------

    keys = {}

    async def other(self, method, path, head, data):
        self.keys = {'key': head.get('authorization', '').removeprefix('Bearer ')}
        self.headers.append(head)
        found = urlsplit(path)
        self.paths[f"{method} {found.path.split('/')[2] if found.path.count('/') > 1 else ''}"] += 1
        if not self.has_batches: return self.said(404, failure('Not Found'))
        status, value = await self.taken(method, found.path.removeprefix('/v1/').split('/'), parse_qs(found.query), head, data)
        return value if isinstance(value, bytes) else self.said(status, value)

    def said(self, status, value): return self.packed(status, {'Content-Type': JSON}, json.dumps(value).encode())

    async def taken(self, method, parts, query, head, data):
        "Status and value of a reply."
        match method, parts:
            case 'POST', ['files']:
                fields = uploaded(head, data)
                content, about = fields['file']
                if fields['purpose'][0] != b'batch' or b'.jsonl' not in about: return 400, failure('Invalid file format for Batch API. Must be .jsonl')
                self.files[id := f'file-{len(self.files)}'] = content
                return 200, {'id': id, 'object': 'file', 'bytes': len(content), 'purpose': 'batch', 'filename': 'x.jsonl', 'created_at': 1, 'status': 'processed'}
            case 'GET', ['files', id, 'content']:
                if id not in self.files: return 404, failure(f'No such File object: {id}')
                return 200, self.packed(200, {'Content-Type': 'application/octet-stream'}, self.files[id])
            case 'POST', ['batches']:
                order = json.loads(data)
                if order.get('input_file_id') not in self.files or order.get('completion_window') != '24h' or order.get('endpoint') != '/v1/chat/completions': return 400, failure('Invalid order')
                batch = self.ordered(order)
                if self.hold: await asyncio.sleep(self.hold)
                if self.lose > 0:
                    self.lose -= 1
                    raise ConnectionError
                return 200, batch
            case 'GET', ['batches']:
                if not self.listing: return 404, failure('Not Found')
                ids, size = list(self.batches)[::-1], min(self.page, int(query.get('limit', ['20'])[0]))
                start = ids.index(query['after'][0]) + 1 if 'after' in query else 0
                return 200, {'object': 'list', 'data': [self.batches[id] for id in ids[start:start + size]], 'has_more': start + size < len(ids)}
            case 'GET', ['batches', id]:
                self.looks[id] += 1
                return (200, self.batches[id]) if id in self.batches else (404, failure(f'No batch found with id {id}'))
            case 'POST', ['batches', id, 'cancel']:
                self.end(self.batches[id], 0, 'cancelled')
                return 200, self.batches[id]
        return 404, failure('no such path')


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--port', type=int, default=0); a.add_argument('--takes', type=float, default=20.)
    o = a.parse_args()
    server = BatchServer(takes=o.takes, port=o.port)
    with contextlib.suppress(KeyboardInterrupt): asyncio.run(server.serve(lambda: print(server.url, flush=True)))


if __name__ == '__main__': main()
