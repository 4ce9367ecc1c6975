"""The same run in one process and by actors of Ray on two local nodes: rows, what survives a kill -9, and how long it takes.

    python tests/benchmarks/bench_engine.py [--rows 400] [--kill-rows 160] [--repeats 1] [--only kills,speed] [--recipe WORD] [--json FILE]

Each node of the cluster has one processor, and is a set of processes of its own (`ray.cluster_utils`). The driver is the command line, in a process of its own: `synthlab generate ... --ray ADDRESS --actors K`.
Kills: the process of an actor, all processes of a node, or the driver, when a third of the rows are there; a killed driver is started again by `synthlab resume`. CorrSynth is written by `pocket`; the chat recipe
asks a server on loopback that answers after 0.1 s and counts. "again" are calls that the server had already answered and whose answers were kept, in the store or an outbox, when they were asked again: there may be none.
"lost" are calls that were handed to whoever was killed and never answered; they count for the limits.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]/'tools'))
from fault_server import FaultServer, digest                       # noqa: E402

OPTIONS = {'corrsynth': ['sst2', '--recipe', 'corrsynth', '--delta', '0.5', '--repeats', '2', '--shots', '1', '--max-new-tokens', '32', '--max-rows', '32'],
           'fewgen by a server': ['ag_news', '--recipe', 'fewgen', '--teacher', 'owl', '--base-url', 'URL', '--concurrency', '8']}


class Server(FaultServer):
    "Notes the calls in the order in which they come, and writes the fingerprint of a call into its answer as the model's name."

    def __init__(self, **options): super().__init__(**options); self.asked = []

    async def chat(self, body, *arguments):
        self.asked.append(digest(body))
        await super().chat(body, *arguments)

    def reply(self, kind, body, key):
        status, headers, data = super().reply(kind, body, key)
        return status, headers, json.dumps(json.loads(data) | {'model': digest(body)}).encode()


def command(name, rows, out, url, *more):
    return ['generate', *[word.replace('URL', url) for word in OPTIONS[name]], '--n', str(rows), '--out', str(out), *more]


def program(*words):
    "Start the command line; what it says goes to a file beside."
    log = open(Path(tempfile.gettempdir())/'bench_engine.log', 'a')
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-m', 'synthlab.cli.start', *words], stdout=log, stderr=log)


def finish(process):
    if process.wait(): raise SystemExit(f'the command ended with {process.returncode}: see {tempfile.gettempdir()}/bench_engine.log')


def rows_of(out):
    from synthlab.store.runs import read_rows
    return list(read_rows(out, None)), (out/'dataset.jsonl').read_bytes()


def kept(out):
    "Fingerprints of the calls whose answers are in the store or in an outbox."
    from synthlab.store.calls import outbox_entries
    from synthlab.store.runs import OUTBOX, open_run
    with open_run(out) as run: found = [call.get('model') for call in run.calls.values()]
    return {*found, *(call.get('model') for path in (out/OUTBOX).glob('*.jsonl') for call in outbox_entries(path).values())} - {'', None}


def calls_kept(out):
    "Number of calls in the store of a run; 0 before there is one."
    from synthlab.store.runs import RunError, open_run
    with suppress(RunError, FileNotFoundError), open_run(out) as run: return len(run.calls)
    return 0


# ---- what is killed

def processes():
    "Number, parent and command of the processes here."
    for path in Path('/proc').glob('[0-9]*'):
        with suppress(OSError, IndexError):
            yield int(path.name), int((path/'stat').read_text().rsplit(')', 1)[1].split()[1]), (path/'cmdline').read_bytes().replace(b'\0', b' ').decode(errors='replace')


def actors_of(node):
    "Processes of the actors on a node."
    raylet = node.all_processes['raylet'][0].process.pid
    return [number for number, parent, words in processes() if parent == raylet and words.startswith('ray::Worker')]


def kill_actor(nodes, driver): os.kill(next(number for node in nodes for number in actors_of(node)), signal.SIGKILL)


def kill_node(nodes, driver):
    "Kill all processes of a node that has an actor and is not the head."
    node = next(node for node in nodes[1:] if actors_of(node))
    for number in [*actors_of(node), *(info.process.pid for infos in node.all_processes.values() for info in infos)]:
        with suppress(ProcessLookupError): os.kill(number, signal.SIGKILL)


def kill_driver(nodes, driver): driver.kill()


# A node comes last: its cluster is of no use afterwards.
KILLS = {'nobody': None, 'an actor': kill_actor, 'the driver': kill_driver, 'a node': kill_node}


class Nodes:
    "A cluster of two nodes with a processor each."

    def __enter__(self):
        os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
        from ray.cluster_utils import Cluster
        own = {'num_cpus': 1, 'object_store_memory': 100*2**20}
        self.cluster = Cluster(initialize_head=True, head_node_args={**own, 'include_dashboard': False})
        self.nodes = [self.cluster.head_node, self.cluster.add_node(**own)]
        return self

    def __exit__(self, *error): self.cluster.shutdown()


# ---- trials

def trial(name, victim, rows, whole, folder, server, there):
    "A run by two actors with a kill; a line of the table."
    out, begun, again = folder/f'{name}-{victim}'.replace(' ', '-'), len(server.asked), 0
    driver = program(*command(name, rows, out, server.url, '--ray', there.cluster.address, '--actors', '2'))
    if KILLS[victim]:
        third = len(whole[0])//(12 if name == 'corrsynth' else 3)
        while calls_kept(out) < third and driver.poll() is None: time.sleep(.05)
        if driver.poll() is not None: raise SystemExit('the run ended before the kill: more --kill-rows')
        KILLS[victim](there.nodes, driver)
    if victim == 'the driver': driver, again = None, resumed(out, driver, server, there)
    if driver: finish(driver)
    return described(name, victim, out, whole, server.asked[begun:], again)


def resumed(out, driver, server, there):
    "Go on with a run whose driver was killed; the calls that were asked again though their answers were kept."
    driver.wait()
    time.sleep(1)
    before, place = kept(out), len(server.asked)
    finish(program('resume', str(out), '--ray', there.cluster.address, '--actors', '2'))
    return sum(key in before for key in server.asked[place:])


def described(name, victim, out, whole, asked, again):
    "What came of a run."
    from synthlab.store.runs import read_status
    told, (rows, data) = read_status(out), rows_of(out)
    twice = len(asked) - len(set(asked))
    # A call that came twice was lost with somebody the first time, or its answer was kept and should not have been asked for again.
    again += max(0, twice - told['lost']['calls'])
    return {'recipe': name, 'killed': victim, 'rows': len(rows), 'same rows': rows == whole[0], 'same file': data == whole[1], 'asked': len(asked), 'twice': twice, 'lost': told['lost']['calls'], 'again': again}


def kills(rows, folder, recipe):
    "Every victim for the recipes with a word in their names."
    with Server(seed=1, delay=.1) as server:
        for name in OPTIONS:
            if recipe not in name: continue
            whole = folder/f'{name}-whole'.replace(' ', '-')
            finish(program(*command(name, rows, whole, server.url)))
            with Nodes() as there:
                for victim in KILLS: yield trial(name, victim, rows, rows_of(whole), folder, server, there)


def speed(rows, repeats, folder):
    "Seconds of a whole command in one process, and by one and two actors: start, imports and shutdown included."
    whole, told = None, {None: 'one process', 1: '1 actor', 2: '2 actors'}
    with Nodes() as there:
        for engine in told:
            seconds = []
            for turn in range(repeats):
                out, more = folder/f'speed-{engine}-{turn}', ['--ray', there.cluster.address, '--actors', str(engine)] if engine else []
                start = time.perf_counter()
                finish(program(*command('corrsynth', rows, out, '', *more)))
                seconds.append(time.perf_counter() - start)
            whole = whole or rows_of(out)
            yield {'engine': told[engine], 'rows': rows, 'seconds': statistics.median(seconds), 'same rows': rows_of(out) == whole}


def show(line, first):
    if first: print(''.join(f'{name:>{max(12, len(name) + 2)}}' for name in line), flush=True)
    print(''.join(f'{(f"{value:.1f}" if isinstance(value, float) else str(value)):>{max(12, len(name) + 2)}}' for name, value in line.items()), flush=True)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--rows', type=int, default=400); a.add_argument('--kill-rows', type=int, default=160); a.add_argument('--repeats', type=int, default=1)
    a.add_argument('--only', default='kills,speed'); a.add_argument('--recipe', default='', help='a word of the recipe whose kills are tried'); a.add_argument('--json', type=Path)
    asked, found = a.parse_args(), {}
    try: import ray
    except ImportError: return print('Ray is not installed: pip install "ray[data]>=2.50"')
    os.environ['OMP_NUM_THREADS'] = '1'
    print(f'Ray {ray.__version__}, {os.cpu_count()} processors, {time.strftime("%Y-%m-%d")}')
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in {'kills': kills(asked.kill_rows, Path(folder), asked.recipe), 'speed': speed(asked.rows, asked.repeats, Path(folder))}.items():
            if name not in asked.only.split(','): continue
            found[name] = []
            for line in lines:
                show(line, not found[name])
                found[name].append(line)
    if asked.json: asked.json.write_text(json.dumps(found, indent=1))
    bad = [line for line in found.get('kills', ()) if not line['same rows'] or line['again']]
    sys.exit(bool(bad))


if __name__ == '__main__': main()
