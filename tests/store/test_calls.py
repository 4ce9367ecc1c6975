"A store of calls is a dictionary that survives the process, sets a key once, and sums without reading texts."
import json
import math
import os
import random
import signal
import sqlite3
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthlab.store.calls import (
    CALLS_SCHEMA, CallStore, StoreError, log_is_lost, open_database, readable_calls, reading, to_json)

KEYS = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=4)
TOKENS = st.none() | st.integers(0, 10**6)
ENTRIES = st.fixed_dictionaries({'text': st.text(st.characters(), max_size=9), 'error': st.sampled_from(['', 'timed out']), 'prompt_tokens': TOKENS, 'completion_tokens': TOKENS})


def summed(entries):
    "The totals of a plain dictionary."
    told = ('prompt_tokens', 'completion_tokens')
    fine = [e for e in entries.values() if not e['error']]
    return {'calls': len(fine), 'failed': len(entries) - len(fine)} | {t: sum(e[t] or 0 for e in entries.values()) for t in told} | {'unknown_tokens': sum(None in [e[t] for t in told] for e in fine)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(['set', 'update', 'delete', 'forget', 'reopen']), st.dictionaries(KEYS, ENTRIES, max_size=3)), max_size=12))
def test_it_is_a_dictionary_that_sets_a_key_once(tmp_path_factory, steps):
    path, model = tmp_path_factory.mktemp('calls')/'calls.db', {}
    store = CallStore(path)
    for step, entries in steps:
        if step == 'reopen':
            store.close()
            store = CallStore(path)
        elif step == 'forget':
            failed = [key for key, entry in model.items() if entry['error']]
            assert store.forget_failed() == len(failed)
            for key in failed: del model[key]
        elif step == 'delete':
            for key in entries:
                if key in model: del store[key], model[key]
                else: pytest.raises(KeyError, store.__delitem__, key)
        elif entries.keys() & model.keys():
            with pytest.raises(ValueError, match='is in the store already'): store.update(entries)
        elif step == 'update': store.update(entries); model |= entries
        else:
            for key, entry in entries.items(): store[key] = entry; model[key] = entry
        assert list(store.items()) == list(model.items()) and len(store) == len(model) and store.totals() == summed(model)
    assert all(key in store and store.get(key) == entry for key, entry in model.items()) and 'not there' not in store
    store.close()


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path):
    with CallStore(tmp_path/'calls.db') as calls:
        calls['a'] = {'text': 'one'}
        for wrong, said in (({'b': {}, 'a': {}}, 'the call a is in the store already'), ({'b': {}, 'c': {'when': object()}}, 'JSON cannot hold this'), ({'b': {}, 5: {}}, 'a key must be a text, got 5')):
            with pytest.raises(ValueError, match=said): calls.update(wrong)
            assert dict(calls) == {'a': {'text': 'one'}}
        calls.update([('b', {}), ('c', {})], d={})
        calls.update({})
        assert list(calls) == ['a', 'b', 'c', 'd']


def test_an_entry_comes_back_as_it_was(tmp_path):
    import numpy as np
    entry = {'text': 'naïve 猫 \ud83d \x00 \u2028 \U0001f980', 'nested': {'list': [1, 2.5, None, True]}}
    with CallStore(tmp_path/'calls.db') as calls: calls['a'], calls['b'] = entry, {'kl': math.nan, 'n': np.int64(3), 'x': np.float32(0.5), 'top': (1, math.inf)}
    with CallStore(tmp_path/'calls.db') as calls: assert dict(calls) == {'a': entry, 'b': {'kl': None, 'n': 3, 'x': 0.5, 'top': [1, None]}}


def test_json_is_strict():
    assert to_json({'a': [math.nan, -math.inf]}) == '{"a": [null, null]}' and json.loads(to_json('\udc00', ascii=False)) == '\udc00'


def test_sums_and_keys_are_read_without_texts(tmp_path):
    with CallStore(tmp_path/'calls.db') as calls:
        asked = []
        calls._db.set_trace_callback(asked.append)
        calls.totals(), len(calls), 'a' in calls
        calls._db.set_trace_callback(None)
        for sql in asked:
            plan = ' '.join(line[-1] for line in calls._db.execute(f'EXPLAIN QUERY PLAN {sql}'))
            assert 'COVERING INDEX' in plan, (sql, plan)


# ---- the log

def killed(work, *arguments):
    "Do some work in a process that is then killed."
    pid = os.fork()
    if not pid:
        try: work(*arguments)
        finally: os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def fill(path, numbers, size=100):
    store = CallStore(path)
    for number in numbers: store[str(number)] = {'text': 'x' * size}
    return store


@pytest.mark.parametrize('looked_into', [False, True])
def test_a_log_taken_away_is_missed_and_a_log_folded_by_others_is_not(tmp_path, looked_into):
    path = tmp_path/'calls.db'
    killed(fill, path, range(5))
    if looked_into:                                       # as the program sqlite3 does: it folds the log when it closes
        with sqlite3.connect(path) as db: assert db.execute('SELECT count(*) FROM calls').fetchone() == (5,)
        db.close()
        assert not (tmp_path/'calls.db-wal').exists()
    else: (tmp_path/'calls.db-wal').unlink()
    assert log_is_lost(path) is not looked_into
    if looked_into: assert len(CallStore(path)) == 5
    else:
        for use in (lambda: CallStore(path), lambda: reading(path).__enter__()):
            with pytest.raises(StoreError, match='calls.db-wal is gone, and the newest work was in it: put it back'): use()


def test_a_lost_log_can_be_accepted(tmp_path):
    path = tmp_path/'calls.db'
    fill(path, range(3)).close()
    killed(fill, path, range(3, 6))
    (tmp_path/'calls.db-wal').unlink()
    with pytest.raises(StoreError) as error: CallStore(path)
    statement = str(error.value).split('"')[1]
    with sqlite3.connect(path) as db: db.execute(statement)
    db.close()
    with CallStore(path) as calls: assert list(calls) == ['0', '1', '2']


def test_the_log_is_folded_as_it_grows_and_missed_after_that_too(tmp_path, monkeypatch):
    import synthlab.store.calls as module
    monkeypatch.setattr(module, '_LOG_BYTES', 100_000)
    monkeypatch.setattr(module.Database, '_fold_at', 100_000)
    path, log = tmp_path/'calls.db', tmp_path/'calls.db-wal'
    killed(fill, path, range(300), 2000)
    assert log.stat().st_size < 200_000 and path.stat().st_size > 300_000
    kept = log.read_bytes()
    log.unlink()
    assert log_is_lost(path)
    log.write_bytes(kept)
    with CallStore(path) as calls: assert len(calls) == 300
    assert not log.exists() and not log_is_lost(path)


def test_a_reader_holds_the_old_state_and_nobody_up(tmp_path, monkeypatch):
    import synthlab.store.calls as module
    monkeypatch.setattr(module, '_LOG_BYTES', 50_000)
    monkeypatch.setattr(module.Database, '_fold_at', 50_000)
    path = tmp_path/'calls.db'
    with fill(path, range(3)) as calls, reading(path) as db:
        assert len(CallStore(db)) == 3
        for number in range(3, 100): calls[str(number)] = {'text': 'x' * 2000}
        assert len(CallStore(db)) == 3 and len(calls) == 100
        with pytest.raises((StoreError, AttributeError)): CallStore(db)['new'] = {}
    with CallStore(path) as calls: assert len(calls) == 100


def test_own_cursors_do_not_stop_the_log_from_being_folded_later(tmp_path, monkeypatch):
    import synthlab.store.calls as module
    monkeypatch.setattr(module, '_LOG_BYTES', 50_000)
    monkeypatch.setattr(module.Database, '_fold_at', 50_000)
    with fill(tmp_path/'calls.db', range(50)) as calls:
        cursor = calls._db.execute('SELECT key FROM calls')
        cursor.fetchone()
        for number in range(50, 150): calls[str(number)] = {'text': 'x' * 2000}
        cursor.close()
        assert sorted(map(int, calls)) == list(range(150))


def test_two_processes_take_turns(tmp_path):
    path = tmp_path/'calls.db'
    CallStore(path).close()
    pid = os.fork()
    if not pid:
        try:
            with CallStore(path) as calls:
                for number in range(100): calls[f'child {number}'] = {}
        finally: os._exit(0)
    with CallStore(path) as calls:
        for number in range(100): calls[f'parent {number}'] = {}
        os.waitpid(pid, 0)
        assert len(calls) == 200
    assert not log_is_lost(path)


def test_reading_leaves_nothing_behind(tmp_path):
    path = tmp_path/'calls.db'
    fill(path, range(3)).close()
    with reading(path) as db: assert len(CallStore(db)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ['calls.db']


# ---- what is refused

def test_a_killed_process_leaves_whole_transactions(tmp_path):
    "Killed by another at a moment that nobody chose."
    for attempt in range(8):
        path = tmp_path/f'{attempt}.db'
        CallStore(path).close()
        pid = os.fork()
        if not pid:
            try:
                calls = CallStore(path)
                for batch in range(10**6): calls.update({f'{batch}/{i}': {'text': 'x' * 500} for i in range(5)})
            finally: os._exit(1)
        time.sleep(random.Random(attempt).uniform(.02, .15))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with CallStore(path) as calls:
            assert list(calls) == [f'{batch}/{i}' for batch in range(len(calls)//5) for i in range(5)]
            assert calls._db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


@pytest.mark.parametrize('version, said', [(3, 'newer synthlab'), (2, None)])
def test_a_newer_form_is_left_alone(tmp_path, version, said):
    path = tmp_path/'calls.db'
    open_database(path, CALLS_SCHEMA, version).close()
    before = path.read_bytes()
    if said:
        with pytest.raises(StoreError, match=said): CallStore(path)
        assert path.read_bytes() == before
    else: CallStore(path).close()


def test_what_is_not_there_and_what_is_no_place(tmp_path):
    with pytest.raises(StoreError, match='cannot be read or written'): CallStore(tmp_path/'no folder'/'calls.db')
    with pytest.raises(StoreError, match='No such file'), reading(tmp_path/'calls.db'): pass
    with pytest.raises(StoreError, match='cannot be read or written'): CallStore(tmp_path)


def test_a_mistake_in_the_code_is_not_called_damage(tmp_path):
    calls = fill(tmp_path/'calls.db', range(2))
    found = []
    def elsewhere():
        try: calls['x'] = {}
        except Exception as error: found.append(error)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert isinstance(found[0], sqlite3.ProgrammingError)
    calls.close()
    with pytest.raises(sqlite3.ProgrammingError): len(calls)


def test_an_entry_that_is_no_json_is_damage(tmp_path):
    with fill(tmp_path/'calls.db', range(2)) as calls:
        with calls._db: calls._db.execute("UPDATE calls SET entry = '{\"text\": \"ha' WHERE key = '1'")
        assert calls['0'] == {'text': 'x' * 100}
        with pytest.raises(StoreError, match=r'calls.db is damaged \(the line .* is not as it was written.*\.recover.*move it away'): calls['1']
        with calls._db: calls._db.execute("UPDATE calls SET hash = line_hash(key, entry, failed, prompt_tokens, completion_tokens)")
        with pytest.raises(StoreError, match=r'calls.db is damaged \(Unterminated string'): calls['1']


# ---- figures that no server can mean

HUGE = [2**62, 2**63, 10**30, -1, True, 1.5, '12']


@pytest.mark.parametrize('value', HUGE)
def test_a_figure_out_of_range_is_unknown(tmp_path, value):
    with CallStore(tmp_path/'calls.db') as calls:
        for key in 'abc': calls[key] = {'text': '', 'error': '', 'prompt_tokens': value, 'completion_tokens': 7, 'bound': [100, 9]}
        assert calls.totals() == {'calls': 3, 'failed': 0, 'prompt_tokens': 0, 'completion_tokens': 21, 'unknown_tokens': 3}
        assert calls.unknown_bounds() == (300, 0)


OLD_SCHEMA = """
CREATE TABLE calls (key TEXT PRIMARY KEY, entry TEXT NOT NULL, failed INTEGER NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER);
CREATE INDEX calls_usage ON calls (failed, prompt_tokens, completion_tokens);
CREATE TABLE note (state TEXT NOT NULL);
INSERT INTO note VALUES ('complete');
PRAGMA user_version = 1;
"""


def old_store(path, tokens):
    "A store as synthlab wrote it before lines had hashes."
    with sqlite3.connect(path) as db:
        db.executescript(OLD_SCHEMA)
        db.executemany('INSERT INTO calls VALUES (?, ?, 0, ?, ?)', [(key, json.dumps({'text': key, 'error': ''}), *tokens) for key in 'ab'])
    db.close()


def test_an_old_store_with_huge_figures_is_read_and_gone_on_with(tmp_path):
    path = tmp_path/'calls.db'
    old_store(path, (2**62, 3))
    before = path.read_bytes()
    with reading(path) as db:
        calls = CallStore(db)
        assert dict(calls) == {key: {'text': key, 'error': ''} for key in 'ab'} and calls.unknown_bounds() == (0, 0)
        assert calls.totals() == {'calls': 2, 'failed': 0, 'prompt_tokens': 0, 'completion_tokens': 6, 'unknown_tokens': 2}
    assert path.read_bytes() == before
    with CallStore(path) as calls: calls['c'] = {'text': 'c', 'error': ''}
    with CallStore(path) as calls: assert [calls[key]['text'] for key in 'abc'] == [*'abc']


# ---- changed letters, and files that are taken away

def test_a_changed_letter_is_damage_and_left_out_of_a_fork(tmp_path):
    path = tmp_path/'calls.db'
    fill(path, range(5)).close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'x' * 100, b'x' * 99 + b'y', 1))
    with CallStore(path) as calls:
        wrong = []
        for key in calls:
            try: assert calls[key] == {'text': 'x' * 100}
            except StoreError as error: wrong.append((key, str(error)))
        assert len(wrong) == 1 and 'is not as it was written' in wrong[0][1]
        assert [key for key, *_ in readable_calls(calls._db)] == [key for key in calls if key != wrong[0][0]]


def test_calls_between_damaged_pages_are_read(tmp_path):
    path = tmp_path/'calls.db'
    fill(path, range(300), 2000).close()
    content = bytearray(path.read_bytes())
    for page in (20, 21, len(content)//4096 - 20): content[page*4096:page*4096 + 4096] = bytes(4096)
    path.write_bytes(content)
    with reading(path) as db, pytest.warns(UserWarning, match='those that cannot be read are made again'):
        assert len(list(readable_calls(db))) > 280


@pytest.mark.parametrize('name, said', [('calls.db', 'was removed while it was in use. It was written again'), ('calls.db-wal', 'Nothing is lost')])
def test_a_file_taken_away_is_missed_at_once_and_nothing_is_lost(tmp_path, name, said):
    path = tmp_path/'calls.db'
    with pytest.raises(StoreError, match=said), fill(path, range(3)) as calls:
        (tmp_path/name).unlink()
        calls['late'] = {'text': ''}
    with CallStore(path) as calls: assert list(calls) == ['0', '1', '2']


def test_a_file_put_in_its_place_is_left_alone(tmp_path):
    path = tmp_path/'calls.db'
    fill(tmp_path/'other.db', range(9)).close()
    with pytest.raises(StoreError, match='was replaced by another file.*All that was finished is in .*calls.db.saved'), fill(path, range(3)) as calls:
        os.replace(tmp_path/'other.db', path)
        calls['late'] = {'text': ''}
    with CallStore(path) as calls: assert len(calls) == 9
    with CallStore(tmp_path/'calls.db.saved') as calls: assert list(calls) == ['0', '1', '2']
