"""How much does ChatTeacher add to the waiting? Ratios to the ideal, beside peers measured in the same run.

    python tests/benchmarks/bench_chat.py [--requests 1000] [--delay 0.05] [--repeats 3] [--json FILE]

A server in a process of its own answers every call after `--delay` seconds. The ideal is requests/concurrency x delay: all slots busy, and no
time spent on anything but waiting. Contestants take turns, each asks the same questions: ChatTeacher from a warm start (its level is at
the ceiling, as in any longer job) and from a cold one, and warm with the client that `openai` brings for aiohttp in place of its own; the bare
AsyncOpenAI client with its own transport and with aiohttp's; bare aiohttp.
The table gives the median wall time over the ideal, and the processor time of this process per request.
"""
import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import httpx2
import openai
from synthlab.decode.loop import Sampling
from synthlab.teacher import chat
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Request
from synthlab.teacher.throttle import retry_after

LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
SERVER = Path(__file__).parents[1]/'tools'/'fault_server.py'


def questions(n): return [Request([{'role': 'user', 'content': f'Say something about bird {i}.'}], Sampling(max_new_tokens=64)) for i in range(n)]


def ours(url, n, concurrency, cold=False):
    with ChatTeacher('m', url, concurrency=concurrency) as teacher:
        if not cold:
            while teacher.throttle.limit < concurrency: assert all(answer.text for _, answer in teacher.ask(questions(4*concurrency)))
        yield
        assert all(answer.text for _, answer in teacher.ask(questions(n)))
        yield


class LibraryWire(openai.DefaultAioHttpClient):
    "The library's client on aiohttp, with the throttle, the limit on a reply, and the removal of the key that ChatTeacher needs."

    def __init__(self, address, throttle, timeout, clean):
        super().__init__(follow_redirects=False, timeout=None, limits=LIMITS)
        self.throttle, self.seconds, self.clean = throttle, timeout, clean

    async def send(self, request, **options):
        call = chat._this_call.get()
        async with self.throttle(call.tokens) as slot:
            call.sent += 1
            async with asyncio.timeout(self.seconds):
                reply, body = await super().send(request, stream=True), bytearray()
                try:
                    async for piece in reply.aiter_bytes():
                        body += piece
                        if len(body) > chat.LARGEST: raise ValueError('the reply is too large')
                finally: await reply.aclose()
            if reply.status_code < 300: slot.success()
            elif reply.status_code == 429: slot.refused(retry_after(reply.headers))
        data = self.clean(body.decode('latin1')).encode('latin1')
        headers = {name: reply.headers[name] for name in chat._HEADERS if name in reply.headers}
        return httpx2.Response(reply.status_code, headers=headers, content=data, request=request)


def on_library_wire(*arguments):
    own, chat._Wire = chat._Wire, LibraryWire
    try: yield from ours(*arguments)
    finally: chat._Wire = own


def looped(program):
    "A contestant from an async generator that yields before and after its work."
    def contestant(*arguments):
        with asyncio.Runner() as runner:
            steps = program(*arguments)
            runner.run(anext(steps))
            yield
            runner.run(anext(steps))
            yield
            runner.run(anext(steps, None))
    return contestant


async def together(ask, n, concurrency):
    room = asyncio.Semaphore(concurrency)
    async def one(question):
        async with room: return await ask({'model': 'm', 'messages': question.messages, 'max_tokens': 64, 'temperature': 1., 'top_p': 1.})
    assert all(await asyncio.gather(*map(one, questions(n))))


def openai_client(transport):
    async def program(url, n, concurrency):
        async with openai.AsyncOpenAI(base_url=url, api_key='x', max_retries=0, timeout=600., http_client=transport()) as client:
            async def ask(body): return (await client.chat.completions.create(**body)).choices[0].message.content
            await together(ask, concurrency, concurrency)
            yield
            await together(ask, n, concurrency)
            yield
    return looped(program)


async def bare_aiohttp(url, n, concurrency):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async def ask(body):
            async with session.post(f'{url}/chat/completions', json=body) as reply: return (await reply.json())['choices'][0]['message']['content']
        await together(ask, concurrency, concurrency)
        yield
        await together(ask, n, concurrency)
        yield


CONTESTANTS = {'ChatTeacher': ours, 'ChatTeacher, cold': lambda *a: ours(*a, cold=True), "on DefaultAioHttpClient": on_library_wire,
               'AsyncOpenAI': openai_client(lambda: openai.DefaultAsyncHttpxClient(limits=LIMITS)),
               'AsyncOpenAI on aiohttp': openai_client(lambda: openai.DefaultAioHttpClient(limits=LIMITS)), 'aiohttp': looped(bare_aiohttp)}


def measure(contestant, url, n, concurrency):
    "Wall and processor time of one run, in seconds; the warm-up is not counted."
    steps = contestant(url, n, concurrency)
    next(steps)
    wall, cpu = time.perf_counter(), time.process_time()
    next(steps)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    for _ in steps: pass
    return wall, cpu


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--requests', type=int, default=1000); a.add_argument('--delay', type=float, default=.05); a.add_argument('--repeats', type=int, default=3)
    a.add_argument('--concurrency', default='16,32,64,1000'); a.add_argument('--json', type=Path)
    o = a.parse_args()
    results = []
    with subprocess.Popen([sys.executable, SERVER, '--quick', '--delay', str(o.delay)], stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        print(f'{o.requests} requests, {o.delay*1000:g} ms each\n{"at once":>8} {"ideal s":>8}  {"":24}{"wall s":>8}{"of ideal":>10}{"of aiohttp":>12}{"cpu ms":>8}')
        try:
            for concurrency in map(int, o.concurrency.split(',')):
                runs = {name: [] for name in CONTESTANTS}
                for _ in range(o.repeats):
                    for name, contestant in CONTESTANTS.items(): runs[name].append(measure(contestant, url, o.requests, concurrency))
                ideal, walls = o.requests/concurrency*o.delay, {name: statistics.median(w for w, _ in run) for name, run in runs.items()}
                for name, run in runs.items():
                    cpu = statistics.median(c for _, c in run)/o.requests*1000
                    results.append({'concurrency': concurrency, 'ideal': ideal, 'name': name, 'wall': walls[name], 'ratio': walls[name]/ideal, 'cpu_ms': cpu})
                    print(f'{concurrency:8} {ideal:8.2f}  {name:24}{walls[name]:8.2f}{walls[name]/ideal:10.2f}{walls[name]/walls["aiohttp"]:12.2f}{cpu:8.2f}', flush=True)
        finally: server.kill()
    if o.json: o.json.write_text(json.dumps(results, indent=1))


if __name__ == '__main__': main()
