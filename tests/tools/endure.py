"""Kill every command at random moments, again and again, and go on: rows, measures and files as if nothing had happened?

    python tests/tools/endure.py [--kills 200] [--seed 0] [--minutes 60] [--only NAME,NAME]       (make endure)

A case is a command: `generate` by each preset (by `pocket`, or by a server on loopback that fails now and then), with all five stages at once
by both, `evaluate`, `export` and `bake-off`. Each try begins in a new folder. Its process is ended by `kill -9` at a random moment, often while
it is still starting; then the same command, or `resume`, goes on, and may be killed too. When a session ends by itself, what it has written
is compared with an uninterrupted run. The server counts: no call is made again once its answer is in the store.
"""
import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fault_server import FaultServer, digest                       # noqa: E402
from scripted_teacher import ScriptedTeacher                       # noqa: E402

KINDS = ['500', 'drop', 'malformed', 'truncated', 'refusal', 'empty', 'schema']


class CountingServer(FaultServer):
    "Writes the fingerprint of a call into its answer, as the model's name, so that a stored answer shows to which call it belongs."

    def __init__(self, **options):
        super().__init__(answer=ScriptedTeacher().serve, faults=.15, kinds=KINDS, **options)
        self.asked = []

    async def chat(self, body, *arguments):
        self.asked.append(digest(body))
        await super().chat(body, *arguments)

    def reply(self, kind, body, key):
        status, headers, data = super().reply(kind, body, key)
        with contextlib.suppress(ValueError):
            found = json.loads(data)
            if 'choices' in found: data = json.dumps(found | {'model': digest(body)}).encode()
        return status, headers, data


# ---- what is killed

SERVED = ['--teacher', 'owl', '--base-url', 'URL', '--concurrency', '8']
BY_POCKET = ['--max-new-tokens', '16', '--max-rows', '16']
FIVE = ['--correct', 'self-correction', '--shown']
GENERATE = {'fewgen': ['ag_news', '--n', '60', *SERVED], 'simprompt': ['sst2', '--n', '60', *SERVED], 'attrprompt': ['sst2', '--n', '40', *SERVED], 'verbalized': ['ag_news', '--n', '60', *SERVED],
            'synalign': ['ag_news', '--n', '40', *SERVED], 'targen': ['sst2', '--n', '40', *SERVED],
            'corrsynth': ['sst2', '--n', '24', *BY_POCKET], 'masked': ['sst2', '--n', '24', *BY_POCKET], 'cfg': ['sst2', '--n', '16', *BY_POCKET],
            'combined': ['sst2', '--n', '16', *BY_POCKET, '--corrector', 'owl', '--corrector-url', 'URL'],
            'synalign, five stages': ['ag_news', '--n', '40', *SERVED, *FIVE]}


def generate(name): return lambda out: ['generate', *GENERATE[name][:1], '--recipe', name.split(',')[0], *GENERATE[name][1:], '--out', f'{out}']
def evaluate(out): return ['evaluate', f'{out}', '--student', 'none']
def export(form): return lambda out: ['export', f'{out}', '--format', form]
def bake_off(out): return ['bake-off', 'ag_news', '--recipes', 'fewgen,simprompt', '--budget', '300', '--seeds', '2', '--student', 'none', *SERVED, '--out', f'{out}']


def rows_of(out):
    from synthlab.store.runs import read_counts, read_rows
    return list(read_rows(out, None)), read_counts(out), (out/'dataset.jsonl').read_bytes()


def lasting(found):
    "What is measured, without the time that it took, and without the calls that were in flight at a kill."
    if isinstance(found, list): return [lasting(value) for value in found]
    if not isinstance(found, dict): return found
    return {key: lasting(value) for key, value in found.items() if key not in ('seconds', 'calls_apart')}


def measured(out): return lasting(json.loads((out/'metrics.json').read_text()))
def exported(out): return {path.name: path.read_bytes() for path in (out/'export').iterdir()}
def contest(out): return lasting({key: json.loads((out/'bakeoff.json').read_text())[key] for key in ('cells', 'references', 'summary')})


@dataclass
class Case:
    "A command, what it leaves, and whether it works on a finished run; then what came of it."
    name: str
    command: object
    result: object
    on_run: bool = False
    whole: object = None
    seconds: float = 0.
    counts: Counter = field(default_factory=Counter)


CASES = [*(Case(f'generate, {name}', generate(name), rows_of) for name in GENERATE), Case('evaluate', evaluate, measured, True),
         *(Case(f'export, {form}', export(form), exported, True) for form in ('parquet', 'csv')), Case('bake-off', bake_off, contest)]


def session(command, log, begun):
    "What the killed process does: a command, with what it prints in a file."
    os.environ.setdefault('OPENAI_API_KEY', 'none')
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    from synthlab.cli.main import main
    begun.set()
    sys.exit(main(command))


# ---- killing

class Endurance:
    "The cases, and what they have in common."

    def __init__(self, folder, server, rng, fresh):
        self.folder, self.server, self.rng, self.fresh, self.tries = Path(folder), server, rng, fresh, 0
        self.cases = [replace(case, counts=Counter()) for case in CASES]

    def run(self, command, until=None):
        "Exit code of a session, killed so many seconds after it began; None where it is not."
        begun, log = self.fresh.Event(), self.folder/'log'
        process = self.fresh.Process(target=session, args=([part.replace('URL', self.server.url) for part in command], log, begun))
        process.start()
        while until != 0 and process.is_alive() and not begun.wait(.05): pass
        start = time.monotonic()
        process.join(until)
        self.seconds = time.monotonic() - start
        if until is not None:
            if process.is_alive(): os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode not in (0, -signal.SIGKILL): raise AssertionError(f'{command} ended with {process.exitcode}:\n{log.read_text()[-3000:]}')
        return process.exitcode

    def prepare(self, case):
        "The uninterrupted run of a case, and how long it takes."
        if case.whole is not None: return
        out = self.begin('whole', case)
        self.run(case.command(out))
        case.seconds, case.whole = self.seconds, case.result(out)

    def begin(self, place, case):
        "The folder of a case, with what it works on; the server has forgotten how often it was asked what."
        out = self.folder/place/case.name.replace(', ', '-')
        out.parent.mkdir(exist_ok=True)
        if case.on_run: shutil.copytree(self.finished(), out)
        self.server.received.clear()
        return out

    def finished(self):
        "A finished run to work on."
        case = next(case for case in self.cases if case.name == 'generate, fewgen')
        self.prepare(case)
        return self.folder/'whole'/'generate-fewgen'

    def stored(self, out):
        "Fingerprints of the calls whose answers are in the stores of a folder; failed ones may be made again."
        from synthlab.store.runs import open_run
        found = set()
        for db in out.rglob('run.db'):
            if (db.parent/'recipe.toml').exists():
                with open_run(db.parent) as run: found |= {call['model'] for call in run.calls.values() if call.get('model')}
        return found

    def attempt(self, case, most):
        "Sessions of a case in a new folder until one ends by itself; at most so many are killed."
        self.prepare(case)
        self.tries += 1
        out, kills = self.begin(f'try{self.tries}', case), 0
        while True:
            time.sleep(.1)                                         # what was on its way to the server arrives
            done, begun = self.stored(out), len(self.server.asked)
            moment = (0 if self.rng.random() < .1 else self.rng.uniform(0, .8*case.seconds)) if kills < most else None
            can_resume = case.command not in (evaluate, bake_off) and not case.on_run and (out/'recipe.toml').exists() and (out/'run.db').exists()
            ended = self.run(['resume', f'{out}'] if can_resume and self.rng.random() < .5 else case.command(out), moment)
            case.counts['sessions'] += 1
            case.counts['asked again'] += sum(key in done for key in self.server.asked[begun:])
            if not ended: break
            kills += 1
            case.counts['kills'] += 1
            yield
        same = case.result(out) == case.whole
        case.counts.update({'tries': 1, 'same': same})
        if same: shutil.rmtree(out.parent)
        else: print(f'{case.name}: {out} differs', file=sys.stderr)


def endure(kills, seed=0, minutes=60., only=None, delay=.05, folder=None, progress=True):
    "Kill the cases by turns until there were so many kills, or the time is over; the cases."
    from tqdm.auto import tqdm
    fresh = multiprocessing.get_context('forkserver')
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get('PYTHONPATH')]))      # where the fork server finds warm.py
    fresh.set_forkserver_preload(['warm'])
    end, rng = time.monotonic() + 60*minutes, random.Random(seed)
    with contextlib.ExitStack() as stack:
        folder = folder or stack.enter_context(tempfile.TemporaryDirectory())
        work = Endurance(folder, stack.enter_context(CountingServer(seed=seed, delay=delay)), rng, fresh)
        cases = [case for case in work.cases if not only or any(word in case.name for word in only)]
        bar = stack.enter_context(tqdm(total=kills, unit='kill', disable=not progress))
        left = kills
        while left > 0 and time.monotonic() < end:
            for case in cases:
                bar.set_postfix_str(case.name)
                for _ in work.attempt(case, min(left, 4)): bar.update()
                left = kills - sum(case.counts['kills'] for case in cases)
                if left <= 0 or time.monotonic() > end: break
    return cases


def table(cases):
    "What came of the cases, as lines."
    names = ('kills', 'sessions', 'tries', 'same', 'asked again')
    lines = [f'{"case":34}' + ''.join(f'{name:>12}' for name in names)]
    rows = [(case.name, case.counts) for case in cases] + [('all', sum((case.counts for case in cases), Counter()))]
    return lines + [f'{name:34}' + ''.join(f'{counts[column]:12}' for column in names) for name, counts in rows]


def held(cases):
    "Whether every try ended as the uninterrupted run, and no stored call was made again."
    return all(case.counts['same'] == case.counts['tries'] and not case.counts['asked again'] for case in cases)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--kills', type=int, default=200); a.add_argument('--seed', type=int, default=0); a.add_argument('--minutes', type=float, default=60.)
    a.add_argument('--only', type=lambda text: text.split(','), help='words of the names of cases, with commas'); a.add_argument('--keep', type=Path, help='a folder for the runs')
    o = a.parse_args()
    if o.keep: o.keep.mkdir(parents=True, exist_ok=True)
    cases = endure(o.kills, o.seed, o.minutes, o.only, folder=o.keep)
    print('\n'.join(table(cases)))
    sys.exit(not held(cases))


if __name__ == '__main__': main()
