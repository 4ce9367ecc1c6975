"""Whatever happens to the process, the disk or the clock: nothing finished is lost, nothing is called twice, and the same command goes on.

Processes are killed for real, disks are full or read-only for real (a small tmpfs, or a read-only mount, in a mount namespace of the child's own)."""
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import synthlab.store.calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthlab.store.runs import Run, RunError, open_run, read_counts, read_rows, read_status
from test_runs import RECIPE, call, files, fill, group, in_process

GROUPS = 4


def work(out, ask=lambda number: None):
    "The command that is given again and again: calls what is missing, derives the rows, finishes."
    with Run(out, RECIPE, derivation='v1') as run:
        if run.finished: return
        for number in range(GROUPS):
            if number in run.groups: continue
            if str(number) not in run.calls:
                ask(number)
                run.calls[str(number)] = call(number)
            run.add(number, [row | {'text': text} for row, text in zip(group(number), run.calls[str(number)]['completions'])])
        run.finish()


# ---- killed

def steps(count):
    "Calls `count` at every step that our code takes into C: each statement of SQLite, each file that is opened, renamed or removed."
    ours = str(Path(synthlab.__file__).parent)
    def see(frame, event, what):
        if event == 'c_call' and frame.f_code.co_filename.startswith((ours, contextlib.__file__)): count()
    return see


def child(action):
    "Run in a forked process; what it wrote to the pipe and how it ended."
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        try: action(lambda text: os.write(write, f'{text}\n'.encode()))
        except BaseException: os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe: said = pipe.read().splitlines()
    return said, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(step, out):
    "The command, killed before its n-th step; the calls that it made and whether it got so far."
    def action(say):
        left = [step]
        def count():
            left[0] -= 1
            if not left[0]: os.kill(os.getpid(), signal.SIGKILL)
        sys.setprofile(steps(count))
        work(out, say)
        sys.setprofile(None)
    said, status = child(action)
    assert status in (0, -signal.SIGKILL)
    return said, status != 0


def total_steps(folder):
    "How many steps the command takes, once everything is imported."
    total = [0]
    def count(): total[0] += 1
    folder.mkdir()
    work(folder/'warm')
    sys.setprofile(steps(count))
    try: work(folder/'counted')
    finally: sys.setprofile(None)
    return total[0]


def test_killed_at_any_step_and_again(tmp_path):
    "At 40 places of the way, from the first file to the last: one kill, the same command again, and the same files."
    total = total_steps(tmp_path/'count')
    work(tmp_path/'whole')
    places = sorted(random.Random(0).sample(range(1, total), min(40, total - 1)))
    for place in places:
        out = tmp_path/str(place)
        first, was_killed = killed_at(place, out)
        second, _ = killed_at(0, out)
        assert was_killed, place
        calls = Counter(first + second)
        assert set(calls) == set(map(str, range(GROUPS))) and sum(calls.values()) <= GROUPS + 1, (place, calls)     # but for the one under way
        assert files(out) == files(tmp_path/'whole'), place
        assert {p.name for p in out.iterdir()} == {p.name for p in (tmp_path/'whole').iterdir()}, place


def test_killed_again_and_again(tmp_path):
    "One run, killed twenty times: each time it comes a little further."
    total, rng, said, kills = total_steps(tmp_path/'count'), random.Random(1), [], 0
    out = tmp_path/'run'
    while kills < 20:
        heard, was_killed = killed_at(rng.randrange(1, total//4), out)
        said, kills = said + heard, kills + was_killed
        if not was_killed: break
    said += killed_at(0, out)[0]
    work(tmp_path/'whole')
    assert files(out) == files(tmp_path/'whole')
    assert set(said) == set(map(str, range(GROUPS))) and len(said) <= GROUPS + kills


def test_killed_at_a_moment_that_nobody_chose(tmp_path):
    rng = random.Random(2)
    for attempt in range(10):
        out = tmp_path/str(attempt)
        pid = os.fork()
        if not pid:
            try:
                with Run(out, RECIPE) as run:
                    for number in range(10**6):
                        run.calls[str(number)] = call(number)
                        run.add(number, group(number))
            finally: os._exit(1)
        time.sleep(rng.uniform(.005, .15))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with Run(out, RECIPE) as run:
            done = len(run.groups)
            assert list(run.groups) == list(range(done)) and len(run.calls) in (done, done + 1)
            assert run.counts()['candidates'] == 2*done and list(run.rows()) == [row for number in range(done) for row in group(number)]
            assert run._db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


STEPS = st.lists(st.tuples(st.sampled_from(['add', 'add_many', 'calls', 'reopen', 'finish']), st.lists(st.integers(0, 30), max_size=4, unique=True), st.integers(1, 400)), min_size=1, max_size=6)


@pytest.mark.long
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.randoms(use_true_random=False))
def test_a_run_is_a_dictionary_that_survives(tmp_path_factory, steps_taken, rng):
    "Random work, killed at a random step of each part: what is there is what was finished, and at most the part under way, whole."
    out, model = tmp_path_factory.mktemp('model')/'run', ({}, {})
    for kind, numbers, kill in steps_taken:
        groups, calls = model
        new = {number: group(number) for number in numbers if number not in groups}
        news = {str(number): call(number) for number in numbers if str(number) not in calls}
        after = {'add_many': (groups | new, calls), 'calls': (groups, calls | news), 'add': (groups | dict(list(new.items())[:1]), calls)}.get(kind, model)

        def action(say, kind=kind, new=new, news=news, kill=kill):
            left = [kill if rng.random() < .7 else 0]
            def count():
                left[0] -= 1
                if not left[0]: os.kill(os.getpid(), signal.SIGKILL)
            sys.setprofile(steps(count))
            with Run(out, RECIPE) as run:
                if run.finished: return
                if kind == 'add' and new: run.add(*next(iter(new.items())))
                elif kind == 'add_many': run.add_many(new)
                elif kind == 'calls': run.calls.update(news)
                elif kind == 'finish': run.finish()

        _, status = child(action)
        if not (out/'run.db').exists(): continue
        with Run(out, RECIPE) as run:
            there = dict(run.groups), dict(run.calls)
            assert there == after or there == model, (kind, status)
            assert status or run.finished or there == after
            assert run.counts()['candidates'] == 2*len(there[0])
        model = there


@pytest.mark.parametrize('name', ['write_parquet', 'write_jsonl', 'dataset_card', '_write_text', '_agree_on_recipe', '_open', '_set_facts', '_clear'])
def test_killed_where_a_file_would_be_written(tmp_path, name):
    import synthlab.store.runs as runs
    work(tmp_path/'whole')
    def action(say):
        setattr(runs, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        if name == '_clear': fill(tmp_path/'run', overwrite=True)
        else: work(tmp_path/'run')
    assert child(action)[1] == -signal.SIGKILL
    work(tmp_path/'run')
    assert files(tmp_path/'run') == files(tmp_path/'whole')


@pytest.mark.parametrize('end', ['', '-wal', '-shm', '-journal'])
def test_what_a_beginning_left_behind_is_in_nobodys_way(tmp_path, end):
    fill(tmp_path/'whole')
    (tmp_path/'run').mkdir()
    shutil.copy(tmp_path/'whole'/'recipe.toml', tmp_path/'run')
    (tmp_path/'run'/f'run.db.part{end}').write_bytes(random.Random(0).randbytes(9000))
    fill(tmp_path/'run')
    assert files(tmp_path/'run') == files(tmp_path/'whole')


@pytest.mark.parametrize('left', range(1, 9))
def test_killed_while_an_old_run_is_cleared(tmp_path, left, monkeypatch):
    "Overwriting dies between two files: the same command clears the rest, and nothing is taken for a run that is none."
    fill(tmp_path/'run')
    crashed(tmp_path/'other', [0])
    for name in ('run.db-wal', 'run.db-shm'): shutil.copy(tmp_path/'other'/name, tmp_path/'run'/name)
    def action(say):
        unlink, count = Path.unlink, [left]
        def stop(self, missing_ok=False):
            count[0] -= self.exists()
            if not count[0]: os.kill(os.getpid(), signal.SIGKILL)
            unlink(self, missing_ok)
        Path.unlink = stop
        fill(tmp_path/'run', overwrite=True)
    child(action)
    fill(tmp_path/'run', [0], overwrite=True)
    assert len(list(read_rows(tmp_path/'run'))) == 2


# ---- two processes

def test_status_is_told_while_another_process_writes(tmp_path):
    out = tmp_path/'run'
    with Run(out, RECIPE): pass
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException), Run(out, RECIPE) as run:
            for number in range(200):
                run.calls[str(number)] = call(number)
                run.add(number, group(number))
        os._exit(0)
    seen = []
    while not os.waitpid(pid, os.WNOHANG)[0]:
        status = read_status(out)
        assert status['candidates'] == 2*status['groups'] == sum(status['accepted'].values()) and status['calls']['calls'] - status['groups'] in (0, 1)
        seen.append(status['groups'])
    assert seen == sorted(seen) and read_status(out)['groups'] == 200 and not read_status(out)['holder']


def test_a_look_at_the_lock_keeps_nobody_out(tmp_path):
    "Someone asks without pause who holds the run, while it is opened and closed."
    with Run(tmp_path/'run', RECIPE): pass
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            while True: read_status(tmp_path/'run')
        os._exit(0)
    try:
        for number in range(40):
            with Run(tmp_path/'run', RECIPE) as run: run.add(number, group(number))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert read_counts(tmp_path/'run')['candidates'] == 80


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    import fcntl
    def no_locks(*_): raise OSError(38, 'Function not implemented')
    monkeypatch.setattr(fcntl, 'flock', no_locks)
    with pytest.raises(RunError, match='the file system knows no locks.*write to a local folder'), Run(tmp_path/'run', RECIPE): pass


# ---- disks

def namespace(*mounts):
    "Words of a command line that run what follows in a mount namespace of its own, after these mounts; skips the test where that is not allowed."
    before = ['unshare', *(['--mount'] if not os.getuid() else ['--map-root-user', '--mount']), 'sh', '-c', ' && '.join([*mounts, 'exec "$@"']), 'sh']
    if shutil.which('unshare') is None or subprocess.run([*before, 'true'], capture_output=True).returncode:
        pytest.skip('this machine allows no mount namespaces (unshare --mount)')
    return before


SMALL_DISK = """
from pathlib import Path
from test_durability import *
out, ballast = Path(sys.argv[1])/'run', Path(sys.argv[1])/'ballast'
ballast.write_bytes(bytes(6_000_000))
def endless():
    with Run(out, RECIPE) as run:
        for number in range(len(run.groups), 100_000): run.calls[str(number)] = call(number); run.add(number, group(number))
for attempt in range(3):
    try: endless()
    except RunError as error: print(error)
print(os.statvfs(sys.argv[1]).f_bavail*os.statvfs(sys.argv[1]).f_frsize)
print(read_status(out)['groups'], not read_status(out)['holder'])
ballast.unlink()
with Run(out, RECIPE) as run:
    done = len(run.groups)
    assert list(run.groups) == list(range(done)) and len(run.calls) in (done, done + 1), (done, len(run.calls))
    assert list(run.rows()) == [row for number in range(done) for row in group(number)]
    assert run._db.execute('PRAGMA integrity_check').fetchone() == ('ok',)
    assert run.finish()['candidates'] == 2*done
print('intact', sorted(p.name for p in out.iterdir()))
"""


def test_a_full_disk_leaves_an_intact_run(tmp_path):
    done = in_process(SMALL_DISK, tmp_path, before=namespace(f'mount -t tmpfs -o size=12m none {tmp_path}'))
    lines = done.stdout.splitlines()
    assert len(lines) == 6, done.stderr + done.stdout
    for line in lines[:3]: assert f'{tmp_path}/run' in line and 'cannot be read or written' in line and 'What was finished before is kept' in line
    assert 'full' in lines[0] or 'No space left' in lines[0]
    assert lines[5] == "intact ['README.md', 'dataset.jsonl', 'dataset.parquet', 'recipe.toml', 'run.db']"


FULL_AT_THE_END = """
from pathlib import Path
from test_durability import *
disk = Path(sys.argv[1])
out = disk/'run'
with Run(out, RECIPE) as run:
    for number in range(300): run.add(number, group(number))
(disk/'ballast').write_bytes(bytes(os.statvfs(disk).f_bavail*os.statvfs(disk).f_frsize - 150_000))
try:
    with Run(out, RECIPE) as run: run.finish()
except RunError as error: print(error)
print(sorted(p.name for p in out.iterdir()))
(disk/'ballast').unlink()
with Run(out, RECIPE) as run: print(run.finish()['candidates'])
"""


def test_a_disk_that_fills_at_the_end_leaves_no_half_dataset(tmp_path):
    done = in_process(FULL_AT_THE_END, tmp_path, before=namespace(f'mount -t tmpfs -o size=8m none {tmp_path}'))
    said, names, candidates = done.stdout.splitlines()
    assert 'cannot be read or written' in said and 'No space left' in said, done.stderr
    assert not any('.part' in name or name == 'dataset.jsonl' for name in json.loads(names.replace("'", '"'))) and candidates == '600'


def limited(code, tmp_path, size):
    "Run code in a process whose files may not grow beyond `size` bytes: what a quota looks like."
    def limit(): resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return in_process(code, tmp_path/'run', preexec_fn=limit)


FILL_UP = """
try:
    with Run(sys.argv[1], RECIPE) as run:
        for number in range(10_000): run.add(number, group(number))
except RunError as error: print(error)
"""


@pytest.mark.parametrize('size', [20_000, 60_000, 80_000, 100_000, 300_000])
def test_files_that_may_not_grow_leave_an_intact_run(tmp_path, size):
    done = limited(FILL_UP, tmp_path, size)
    assert done.returncode == 0 and 'cannot be read or written' in done.stdout and 'is kept' in done.stdout, done.stderr
    with Run(tmp_path/'run', RECIPE) as run:
        numbers = list(run.groups)
        assert numbers == list(range(len(numbers))) and len(numbers) >= {20_000: 0, 60_000: 0, 80_000: 1, 100_000: 3, 300_000: 10}[size]
        run.add(len(numbers), group(len(numbers)))
        run.finish()


READ_ONLY = """
from test_durability import *
for out in sys.argv[1:]:
    try:
        with Run(out, RECIPE): print('taken')
    except RunError as error: print(error)
    if os.path.exists(out): print(len(list(read_rows(out))), read_status(out)['finished'])
"""


def test_a_read_only_disk_is_refused_and_readable(tmp_path):
    fill(tmp_path/'done')
    assert in_process("with Run(sys.argv[1], RECIPE) as run:\n    run.add(0, group(0))\n    os.kill(os.getpid(), 9)", tmp_path/'crashed').returncode == -signal.SIGKILL
    before = {folder: {p.name: p.read_bytes() for p in (tmp_path/folder).iterdir()} for folder in ('done', 'crashed')}
    done = in_process(READ_ONLY, tmp_path/'done', tmp_path/'crashed', tmp_path/'new', before=namespace(f'mount --bind {tmp_path} {tmp_path}', f'mount -o remount,ro,bind {tmp_path}'))
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stderr
    assert all('cannot be read or written' in line and 'Read-only file system' in line for line in lines[::2]) and lines[1::2] == ['8 True', '2 False']
    assert before == {folder: {p.name: p.read_bytes() for p in (tmp_path/folder).iterdir()} for folder in ('done', 'crashed')}
    with Run(tmp_path/'crashed', RECIPE) as run: assert list(run.groups) == [0]


NOT_OURS = "if not os.getuid(): os.setuid(65534)\n"


def test_a_folder_of_somebody_else_is_refused_and_readable(tmp_path):
    for parent in (tmp_path, *list(tmp_path.parents)[:3]): parent.chmod(0o755)
    fill(tmp_path/'run')
    (tmp_path/'run').chmod(0o555)
    tmp_path.chmod(0o555)
    code = READ_ONLY.replace('from test_durability import *\n', NOT_OURS)
    done = in_process(code, tmp_path/'run', tmp_path/'new')
    tmp_path.chmod(0o755)
    (tmp_path/'run').chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert 'cannot be read or written' in lines[0] and 'Permission denied' in lines[0] and lines[1] == '8 True' and 'cannot be read or written' in lines[2]


# ---- damage

def damaged(path, offset, size, seed=0):
    "Random bytes in the middle of a file."
    content = bytearray(path.read_bytes())
    content[offset:offset + size] = random.Random(seed).randbytes(min(size, len(content) - offset))
    path.write_bytes(content)


def pages(path, table):
    "Numbers of the pages that hold a table's lines, from 0."
    with contextlib.closing(sqlite3.connect(path)) as db:
        try: return [page - 1 for page, in db.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", [table])]
        except sqlite3.OperationalError: pytest.skip("this Python's SQLite was built without dbstat, which tells where the pages are")


DAMAGE = {
    'empty': lambda path: path.write_bytes(b''),
    'no database': lambda path: path.write_bytes(b'no database at all' * 1000),
    'a picture': lambda path: path.write_bytes(b'\x89PNG\r\n' + random.Random(0).randbytes(50_000)),
    'its head': lambda path: damaged(path, 0, 4096),
    'the first table': lambda path: damaged(path, 100, 2000),
    'the middle': lambda path: damaged(path, path.stat().st_size//2//4096*4096, 4096),
    'cut in the middle': lambda path: os.truncate(path, path.stat().st_size//2),
    'cut in a page': lambda path: os.truncate(path, path.stat().st_size - 1000),
    'cut to its head': lambda path: os.truncate(path, 100),
}


@pytest.mark.parametrize('what', DAMAGE)
def test_a_damaged_database_is_refused_and_left_alone(tmp_path, what):
    out = tmp_path/'run'
    fill(out, range(200))
    DAMAGE[what](out/'run.db')
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(RunError, match='run.db is damaged.*left as it is.*--fork.*move it away'): fill(out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before and {'dataset.parquet', 'dataset.jsonl', 'README.md'} <= before.keys()
    if what != 'empty':                                               # an empty file has nothing to tell but that it has no tables
        with pytest.raises(RunError, match='run.db is damaged'): list(read_rows(out)), read_status(out)
    fill(out, overwrite=True)
    assert len(list(read_rows(out))) == 8


@pytest.mark.parametrize('seed', range(12))
def test_garbage_anywhere_is_found_or_harmless(tmp_path, seed):
    out, rng = tmp_path/'run', random.Random(seed)
    with Run(out, RECIPE) as run: run.add_many({number: group(number) for number in range(300)})
    damaged(out/'run.db', rng.randrange(0, (out/'run.db').stat().st_size - 600), 600, seed)
    try:
        with Run(out, RECIPE) as run:
            run.finish()
            assert list(run.rows()) == [row for number in range(300) for row in group(number)]
    except RunError as error:
        assert 'is damaged' in str(error)
        assert not (out/'dataset.jsonl').exists()


def test_a_large_database_is_looked_through_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(synthlab.store.calls, '_CHECKED_BYTES', 0)
    out = tmp_path/'run'
    with Run(out, RECIPE) as run:
        run.calls.update({str(number): call(number) for number in range(500)})
        run.add(0, group(0))
    damaged(out/'run.db', pages(out/'run.db', 'calls')[-1]*4096, 4096)
    with pytest.raises(RunError, match='run.db is damaged'), Run(out, RECIPE) as run: run.finish()
    assert not (out/'dataset.parquet').exists()


def crashed(out, numbers):
    "A run whose process was killed: its newest work is in the log."
    def action(say):
        run = Run(out, RECIPE).__enter__()
        for number in numbers: run.add(number, group(number))
        os.kill(os.getpid(), signal.SIGKILL)
    assert child(action)[1] == -signal.SIGKILL


@pytest.mark.parametrize('also', [[], ['run.db-shm'], ['run.db-shm', 'run.lock']])
def test_a_log_that_was_tidied_away_is_missed(tmp_path, also):
    out = tmp_path/'run'
    crashed(out, range(3))
    shutil.copytree(out, tmp_path/'kept')
    for name in ['run.db-wal', *also]: (out/name).unlink()
    for use in (lambda: fill(out), lambda: read_status(out)):
        with pytest.raises(RunError, match='run.db-wal is gone, and the newest work was in it: put it back'): use()
    shutil.copy(tmp_path/'kept'/'run.db-wal', out)
    with Run(out, RECIPE) as run: assert list(run.groups) == [0, 1, 2]


def test_the_database_alone_is_no_copy_of_a_run(tmp_path):
    out = tmp_path/'run'
    crashed(out, range(3))
    (tmp_path/'copy').mkdir()
    for name in ('recipe.toml', 'run.db'): shutil.copy(out/name, tmp_path/'copy')
    with pytest.raises(RunError, match='run.db-wal is gone'): fill(tmp_path/'copy')
    (out/'run.db').unlink()
    with pytest.raises(RunError, match='run.db is gone, and run.db-wal is still there'): fill(out)
    fill(out, [0], overwrite=True)
    assert len(list(read_rows(out))) == 2


@pytest.mark.parametrize('seed', range(4))
def test_a_fork_saves_the_calls_that_can_be_read(tmp_path, seed):
    out = tmp_path/'run'
    with Run(out, RECIPE) as run: run.calls.update({str(number): call(number) for number in range(2000)})
    damaged(out/'run.db', random.Random(seed).choice(pages(out/'run.db', 'calls'))*4096, 4096, seed)
    with pytest.raises(RunError, match='is damaged'), Run(out, RECIPE): pass
    with pytest.warns(UserWarning, match='those that cannot be read are made again'), Run(tmp_path/'new', RECIPE | {'n': 9}, fork=out) as new:
        assert 1900 < len(new.calls) < 2000 and all(entry == call(int(key)) for key, entry in new.calls.items())
        assert new.calls.totals()['calls'] == len(new.calls)


# ---- the clock

def test_a_clock_set_back_changes_nothing(tmp_path, monkeypatch):
    work(tmp_path/'whole')
    real, back = time.time, [0]
    monkeypatch.setattr(time, 'time', lambda: real() - back[0])
    monkeypatch.setattr(time, 'time_ns', lambda: int((real() - back[0])*1e9))
    out = tmp_path/'run'
    for session in range(GROUPS):
        def ask(number, session=session):
            back[0] += 3600                                           # an hour back, in the middle of a session
            if number > session: raise InterruptedError
        with contextlib.suppress(InterruptedError): work(out, ask)
        back[0] += 3600                                               # and between two
        status = read_status(out)
        numbers = [*status['calls'].values(), status['groups'], status['candidates'], *status['shortfall'].values(), *status['accepted'].values()]
        assert min(numbers) >= 0 and status['groups'] == min(session + 1, GROUPS)
    assert back[0] > 7*3600 and files(out) == files(tmp_path/'whole')
    with sqlite3.connect(out/'run.db') as db: assert [key for key, in db.execute('SELECT key FROM calls ORDER BY rowid')] == list(map(str, range(GROUPS)))
    db.close()


# ---- secrets

def test_what_a_run_writes_holds_no_key(tmp_path, monkeypatch):
    "Keys are in the environment of the process, and in nothing that a run writes."
    for name in ('OPENAI_API_KEY', 'HF_TOKEN', 'SYNTHLAB_API_KEY'): monkeypatch.setenv(name, 'sk-planted-7d1f')
    with Run(tmp_path/'run', RECIPE) as run:
        run.calls['a'] = call(0)
        run.add(0, group(0))
        assert not any(b'sk-planted' in p.read_bytes() for p in (tmp_path/'run').iterdir())
        run.finish()
    assert not any(b'sk-planted' in p.read_bytes() for p in (tmp_path/'run').iterdir())


# ---- files that are taken away while a run is written

@pytest.mark.parametrize('names, said', [(['run.db'], 'run.db was removed while it was in use. It was written again'), (['run.db', 'run.db-wal', 'run.db-shm'], 'written again'),
                                         (['run.db-wal'], 'Nothing is lost')])
def test_a_database_taken_away_is_missed_at_once_and_written_again(tmp_path, names, said):
    out, asked = tmp_path/'run', []
    def ask(number):
        asked.append(number)
        if number == 2:
            for name in names: (out/name).unlink(missing_ok=True)
    with pytest.raises(RunError, match=said): work(out, ask)
    assert not {'dataset.parquet', 'dataset.jsonl'} & {p.name for p in out.iterdir()}
    work(out, asked.append)
    work(tmp_path/'whole')
    assert asked == [0, 1, 2, 2, 3] and files(out) == files(tmp_path/'whole')


def test_a_database_that_goes_at_the_very_end_is_missed(tmp_path):
    with pytest.raises(RunError, match='written again'), Run(tmp_path/'run', RECIPE) as run:
        run.add(0, group(0))
        (tmp_path/'run'/'run.db').unlink()
    assert len(list(read_rows(tmp_path/'run'))) == 2


def test_a_folder_taken_away_is_told(tmp_path):
    with pytest.raises(RunError, match='run was removed while it was written'), Run(tmp_path/'run', RECIPE) as run:
        run.add(0, group(0))
        shutil.rmtree(tmp_path/'run')
        run.add(1, group(1))


@pytest.mark.parametrize('change', [lambda path: path.unlink(), lambda path: path.write_text('n = 3'), lambda path: os.replace(path, path.with_name('elsewhere'))])
def test_a_recipe_taken_away_is_written_again(tmp_path, change):
    out = tmp_path/'run'
    with pytest.warns(UserWarning, match='recipe.toml was removed or changed while the run was written: it was written again'), Run(out, RECIPE) as run:
        run.add(0, group(0))
        before = (out/'recipe.toml').read_bytes()
        change(out/'recipe.toml')
        run.add(1, group(1))
        run.finish()
    assert (out/'recipe.toml').read_bytes() == before and read_status(out)['finished']


# ---- damage that SQLite does not see

@pytest.mark.parametrize('table, letters', [('rows', b'story 2'), ('calls', b'story 2')])
def test_a_changed_letter_is_found_when_it_is_read(tmp_path, table, letters):
    out = tmp_path/'run'
    with Run(out, RECIPE) as run:
        if table == 'calls': run.calls.update({str(number): call(number) for number in range(4)})
        else: run.add_many({number: group(number) for number in range(4)})
    content = (out/'run.db').read_bytes()
    assert letters in content
    (out/'run.db').write_bytes(content.replace(letters, b'story 7', 1))
    with pytest.raises(RunError, match='run.db is damaged.*is not as it was written'), Run(out, RECIPE) as run:
        [run.calls[key] for key in run.calls], list(run.rows()), list(map(run.groups.get, run.groups)), run.samples()
        raise AssertionError('the changed line was read')


def test_weights_keep_the_hashes_right(tmp_path):
    with Run(tmp_path/'run', RECIPE) as run:
        for number in range(3): run.add(number, group(number))
        run.weigh({(0, 0): .5, (0, 1): 1.5}, left_out=iter([(1, 0)]))
        assert [row.get('weight') for row in run.rows()] == [.5, 1.5, None, None, None]


def older(out):
    "The run as synthlab wrote it before lines had hashes."
    with contextlib.closing(sqlite3.connect(out/'run.db')) as db:
        for table in ('rows', 'calls'): db.execute(f'ALTER TABLE {table} DROP COLUMN hash')
        db.execute('DROP TABLE lost')
        db.execute('PRAGMA user_version = 2')
        db.commit()


def test_a_run_of_an_older_synthlab_is_read_and_gone_on_with(tmp_path):
    out = tmp_path/'run'
    with Run(out, RECIPE) as run:
        run.calls['0'] = call(0)
        run.add(0, group(0))
    older(out)
    assert list(read_rows(out)) == group(0) and read_status(out)['calls']['calls'] == 1 and read_status(out)['lost']['calls'] == 0
    with Run(tmp_path/'fork', RECIPE | {'n': 4}, fork=out) as run: assert dict(run.calls) == {'0': call(0)}
    work(out)
    work(tmp_path/'whole')
    assert files(out) == files(tmp_path/'whole')


@pytest.mark.parametrize('share', [.9, .6, .3])
def test_a_fork_of_a_truncated_run_takes_what_is_there(tmp_path, share):
    out = tmp_path/'run'
    with Run(out, RECIPE) as run: run.calls.update({str(number): call(number) for number in range(2000)})
    os.truncate(out/'run.db', int((out/'run.db').stat().st_size*share))
    with pytest.raises(RunError, match='fork the run into another folder'), Run(out, RECIPE): pass
    with pytest.warns(UserWarning, match='those that cannot be read are made again'), Run(tmp_path/'new', RECIPE | {'n': 9}, fork=out) as new:
        assert len(new.calls) > 1500*share - 200 and all(entry == call(int(key)) for key, entry in new.calls.items())


@pytest.mark.parametrize('what', ['no database', 'its head'])
def test_a_fork_of_which_nothing_can_be_read_says_what_works(tmp_path, what):
    fill(tmp_path/'run')
    DAMAGE[what](tmp_path/'run'/'run.db')
    with pytest.raises(RunError, match='no call can be read in .*start without --fork') as error, Run(tmp_path/'new', RECIPE | {'n': 9}, fork=tmp_path/'run'): pass
    assert 'fork the run into' not in str(error.value)


# ---- calls on their way

def test_calls_in_flight_at_a_kill_are_booked(tmp_path):
    out = tmp_path/'run'
    def action(say):
        run = Run(out, RECIPE).__enter__()
        for number in range(5): run.calls.send(str(number), (100, 8))
        run.calls.update({str(number): call(number) for number in range(2)})
        os.kill(os.getpid(), signal.SIGKILL)
    for kills in (1, 2):
        child(action if kills == 1 else lambda say: (Run(out, RECIPE).__enter__().calls.send('2', (100, 8)), os.kill(os.getpid(), signal.SIGKILL)))
        assert read_status(out)['lost'] == {'calls': 2 + kills, 'prompt_tokens': 100*(2 + kills), 'completion_tokens': 8*(2 + kills)}
    with Run(out, RECIPE) as run:
        assert run.lost()['calls'] == 4
        run.calls.send('2', (100, 8))
        run.calls['2'] = call(2)
    assert read_status(out)['lost']['calls'] == 4 and not (out/'run.sent').exists()


def test_a_changed_byte_anywhere_gives_no_wrong_row(tmp_path):
    "Sixty copies, each with one byte changed: what is read is right, or refused."
    out, rng, refused = tmp_path/'run', random.Random(0), 0
    with Run(out, RECIPE) as run:
        run.add_many({number: group(number) for number in range(40)})
        run.calls.update({str(number): call(number) for number in range(40)})
    content, right = (out/'run.db').read_bytes(), [row for number in range(40) for row in group(number)]
    for _ in range(60):
        changed = bytearray(content)
        changed[rng.randrange(4096, len(content))] ^= 1 << rng.randrange(8)
        (out/'run.db').write_bytes(changed)
        try:
            assert list(read_rows(out, None)) == right
            with open_run(out) as run: assert {key: run.calls[key] for key in run.calls} == {str(number): call(number) for number in range(40)}
        except RunError as error: refused += 'is damaged' in str(error)
    assert refused > 10
