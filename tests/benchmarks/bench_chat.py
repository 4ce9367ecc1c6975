"""How much does ChatTeacher add to the waiting? Ratios to the ideal, beside peers measured in the same run.

    python tests/benchmarks/bench_chat.py [--requests 1000] [--delay 0.05] [--repeats 5] [--concurrency 64,1000] [--only 'NAME;NAME'] [--json FILE]

A server in a process of its own answers every call after `--delay` seconds. The ideal is requests/concurrency x delay: all slots busy, and no
time spent on anything but waiting. The goal adds 0.5 ms a request, since one processor has to do the work, and may be exceeded by three tenths.
Contestants take turns, each asks the same questions: ChatTeacher from a warm start (its level is at the ceiling, as in any longer job), from a
cold one, and warm with a budget and a store on disk; the AsyncOpenAI client with its own transport and with aiohttp's; bare httpx2; bare aiohttp.
The table gives the median wall time, over the ideal and over the goal's time, and the processor time of this process per request.
"""
import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import httpx2
import openai
from synthlab.decode.loop import Sampling
from synthlab.store.calls import CallStore
from synthlab.teacher.asking import answers
from synthlab.teacher.budget import Budget
from synthlab.teacher.chat import ChatTeacher
from synthlab.teacher.requests import Request

LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
SERVER = Path(__file__).parents[1]/'tools'/'fault_server.py'


def questions(n): return [Request([{'role': 'user', 'content': f'Say something about bird {i}.'}], Sampling(max_new_tokens=64)) for i in range(n)]


def ours(url, n, concurrency, cold=False, ask=lambda teacher, requests: teacher.ask(requests)):
    with ChatTeacher('m', url, concurrency=concurrency) as teacher:
        if not cold:
            while teacher.throttle.limit < concurrency: assert all(answer.text for _, answer in teacher.ask(questions(4*concurrency)))
        yield
        assert sum(bool(found[1].text) for found in ask(teacher, questions(n))) == n
        yield


def stored(url, n, concurrency):
    with tempfile.TemporaryDirectory() as folder, CallStore(f'{folder}/calls.db') as calls:
        yield from ours(url, n, concurrency, ask=lambda teacher, requests: answers(teacher, requests, calls, Budget(max_calls=n)))


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


async def bare_httpx(url, n, concurrency):
    async with httpx2.AsyncClient(limits=LIMITS, timeout=600.) as client:
        async def ask(body): return (await client.post(f'{url}/chat/completions', json=body)).json()['choices'][0]['message']['content']
        await together(ask, concurrency, concurrency)
        yield
        await together(ask, n, concurrency)
        yield


CONTESTANTS = {'ChatTeacher': ours, 'ChatTeacher, cold': lambda *a: ours(*a, cold=True), 'ChatTeacher, stored': stored,
               'AsyncOpenAI': openai_client(lambda: openai.DefaultAsyncHttpxClient(limits=LIMITS)),
               'AsyncOpenAI on aiohttp': openai_client(lambda: openai.DefaultAioHttpClient(limits=LIMITS)), 'httpx2': looped(bare_httpx), 'aiohttp': looped(bare_aiohttp)}


def measure(contestant, url, n, concurrency):
    "Wall and processor time of one run, in seconds; the warm-up is not counted."
    steps = contestant(url, n, concurrency)
    next(steps)
    wall, cpu = time.perf_counter(), time.process_time()
    next(steps)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    for _ in steps: pass
    return wall, cpu


def table(url, names, n, concurrency, delay, repeats):
    "A line of results for each contestant; they take turns."
    runs = {name: [] for name in names}
    for _ in range(repeats):
        for name in names: runs[name].append(measure(CONTESTANTS[name], url, n, concurrency))
    ideal = n/concurrency*delay
    for name, run in runs.items():
        wall, cpu = (statistics.median(part) for part in zip(*run))
        yield {'concurrency': concurrency, 'ideal': ideal, 'name': name, 'wall': wall, 'ratio': wall/ideal, 'of_goal': wall/(ideal + 5e-4*n), 'cpu_ms': cpu/n*1000}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--requests', type=int, default=1000); a.add_argument('--delay', type=float, default=.05); a.add_argument('--repeats', type=int, default=5)
    a.add_argument('--concurrency', default='64,1000'); a.add_argument('--json', type=Path)
    a.add_argument('--only', type=lambda text: text.split(';'), default=list(CONTESTANTS), help='names of contestants, with semicolons between them')
    o = a.parse_args()
    results = []
    with subprocess.Popen([sys.executable, SERVER, '--quick', '--delay', str(o.delay)], stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        print(f'{o.requests} requests, {o.delay*1000:g} ms each; medians of {o.repeats}\n{"at once":>8} {"ideal s":>8}  {"":24}{"wall s":>8}{"of ideal":>10}{"of goal":>9}{"cpu ms":>8}')
        try:
            for concurrency in map(int, o.concurrency.split(',')):
                for r in table(url, o.only, o.requests, concurrency, o.delay, o.repeats):
                    results.append(r)
                    print(f'{concurrency:8} {r["ideal"]:8.2f}  {r["name"]:24}{r["wall"]:8.2f}{r["ratio"]:10.2f}{r["of_goal"]:9.2f}{r["cpu_ms"]:8.2f}', flush=True)
        finally: server.kill()
    if o.json: o.json.write_text(json.dumps(results, indent=1))


if __name__ == '__main__': main()
