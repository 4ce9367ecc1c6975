"""How long does a chat run wait for itself? Wall time over the ideal, in which every slot is busy from the first call to the last.

    python tests/benchmarks/bench_overlap.py [--rows 200] [--concurrency 32] [--delay 0.4] [--spread 0.5] [--faults 0,0.3] [--json FILE]

A server in a process of its own answers each call after a time that depends on the call alone: lognormal, with the median `--delay` and the
spread `--spread`. The ideal is the sum of these times over the concurrency; it leaves out that a row of TarGEN takes four calls, one after the
other (contexts, seeds, row, correction), and a corrected row of the few-shot recipe two.
"""
import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

TOOLS = Path(__file__).parents[1]/'tools'
sys.path.insert(0, str(TOOLS))
RECIPES = {'fewgen': {}, 'fewgen, corrected': {'correct': 'self-correction'}, 'targen': {}}
# Faults of one call; none that says the server is busy, and none that takes a time-out to notice.
KINDS = ['500', 'drop', 'malformed', 'truncated', 'envelope', 'schema', 'empty', 'length']


def serve(delay, spread, faults):
    "Serve until the process is killed; print the address, and answer `GET /stats` with the seconds of all answers too."
    import asyncio
    from fault_server import FaultServer, digest
    from scripted_teacher import ScriptedTeacher
    busy = [0.]
    def pause(body):
        seconds = delay*math.exp(random.Random(digest(body)).gauss(0, spread))
        busy[0] += seconds
        return seconds
    class Timed(FaultServer):
        def stats(self): return super().stats() | {'busy': busy[0]}
    server = Timed(answer=ScriptedTeacher().serve, delay=pause, faults=faults, kinds=KINDS, seed=1)
    asyncio.run(server.serve(lambda: print(server.url, flush=True)))


def measure(name, options, faults, asked, rows):
    "Wall time of one run, the ideal, and the calls."
    from synthlab.run.produce import make_config, produce
    from synthlab.run.recipe import PRESETS
    from synthlab.tasks.task import load_task
    from synthlab.teacher.chat import ChatTeacher
    command = [sys.executable, __file__, '--serve', '--delay', str(asked.delay), '--spread', str(asked.spread), '--faults', str(faults)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, tempfile.TemporaryDirectory() as folder:
        try:
            url = server.stdout.readline().strip()
            machine = {'chat': {'concurrency': asked.concurrency, 'pause': .02}}
            teacher = ChatTeacher('owl', url, **machine['chat'])
            recipe = PRESETS[name.split(',')[0]](**options)
            request, start = make_config(recipe, load_task('ag_news'), teacher, rows, machine=machine), time.perf_counter()
            done = produce(request, Path(folder)/'run', teacher, watch=lambda groups, *_: groups)
            wall = time.perf_counter() - start
            stats = json.loads(urllib.request.urlopen(f'{url}/stats').read())
        finally: server.kill()
    assert sum(done.counts['accepted'].values()) == rows and stats['most_answers'] == 1
    ideal = stats['busy']/asked.concurrency
    return {'recipe': name, 'faults': faults, 'calls': stats['received'], 'ideal': ideal, 'wall': wall, 'ratio': wall/ideal, 'peak': stats['peak']}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--rows', type=int, default=200); a.add_argument('--concurrency', type=int, default=32)
    a.add_argument('--delay', type=float, default=.4); a.add_argument('--spread', type=float, default=.5)
    a.add_argument('--faults', default='0,0.3'); a.add_argument('--json', type=Path); a.add_argument('--serve', action='store_true')
    asked = a.parse_args()
    if asked.serve: return serve(asked.delay, asked.spread, float(asked.faults))
    os.environ.setdefault('OPENAI_API_KEY', 'none')
    results = []
    print(f'{asked.rows} rows, {asked.concurrency} calls at once, median {asked.delay*1000:g} ms')
    print(f'{"recipe":20}{"faults":>8}{"calls":>8}{"ideal s":>9}{"wall s":>8}{"ratio":>7}{"peak":>6}')
    measure('fewgen', {}, 0, asked, 4)                            # loads what the first run of a process loads
    for faults in map(float, asked.faults.split(',')):
        for name, options in RECIPES.items():
            results.append(found := measure(name, options, faults, asked, asked.rows))
            print(f'{name:20}{faults:8.0%}{found["calls"]:8}{found["ideal"]:9.2f}{found["wall"]:8.2f}{found["ratio"]:7.2f}{found["peak"]:6}', flush=True)
    if asked.json: asked.json.write_text(json.dumps(results, indent=1))


if __name__ == '__main__': main()
