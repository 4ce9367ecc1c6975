"Contexts from a tree: leaves differ and cover the product, a stopped run goes on with the same tree, and a budget is kept; by a scripted teacher and by pocket."
import json
import re
from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings, strategies as st

from scripted_teacher import ScriptedTeacher
from synthlab import Recipe, TarGEN, load_task, read_rows
from synthlab.cli.main import main
from synthlab.prompt.seeds import LONGEST_CONTEXT, SeedBank, read_contexts
from synthlab.prompt.tree import ContextTree, TreeBank, context_of, sort_values
from synthlab.tasks.strategies import find_strategy
from synthlab.teacher.asking import TeacherError
from synthlab.teacher.budget import Budget
from synthlab.teacher.requests import Answer

NEWS = load_task('ag_news')
STRATEGY = find_strategy(NEWS)
ASPECTS = {'place': 'a mill,a barn,a pier,a court,a lift', 'hour': 'dawn,noon,dusk,midnight,teatime', 'mood': 'calm,angry,weary,proud,shy', 'form': 'a letter,a talk,a poem,a list,a map'}


def wanted(asked): return asked.schema['properties']['values']['maxItems']


def depth_of(asked): return len(next((told for told in asked.told if told.keys() <= ASPECTS.keys()), {}))


def by_aspects(asked):
    "Divides by the aspects in order, into as many values as are wanted."
    if asked.step != 'tree': return None
    criterion = [*ASPECTS][depth_of(asked)]
    return {'criterion': criterion, 'values': ASPECTS[criterion].split(',')[:wanted(asked)]}


def sometimes(share):
    "The same, but some answers repeat a value, and some hold one value only."
    def script(asked):
        said, draw = by_aspects(asked), int(asked.key[:8], 16)/16**8
        if said is None or draw > share: return said
        values = said['values']
        return said | {'values': values[:1]*len(values)} if draw < share/2 else said | {'values': [*values[:-1], values[0].upper()]}
    return script


def tree_of(sizes, script=by_aspects, calls=None, budget=None, **options):
    bank = TreeBank(STRATEGY, ScriptedTeacher(script, **options), ContextTree(*sizes), seed=3)
    bank.name_contexts({} if calls is None else calls, budget)
    return bank


def plain(rows): return json.dumps(list(rows), sort_keys=True)


# ---- leaves

@given(st.integers(1, 4), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_the_leaves_of_a_full_tree_are_the_product(depth, values):
    found = tree_of((values**depth, depth, values))
    expected = product(*([(name, value) for value in said.split(',')[:values]] for name, said in [*ASPECTS.items()][:depth]))
    assert list(found.leaves) == list(expected) and found.contexts == [context_of(leaf) for leaf in found.leaves]


@given(st.integers(2, 60), st.integers(1, 4), st.integers(2, 5), st.sampled_from([0, .3, .8]))
@settings(max_examples=40, deadline=None)
def test_leaves_differ_exclude_one_another_and_keep_to_their_bound(most, depth, values, share):
    found = tree_of((most, depth, values), sometimes(share))
    assert len(set(found.contexts)) == len(found.contexts) <= ContextTree(most, depth, values).leaves
    assert share or len(found.contexts) == ContextTree(most, depth, values).leaves
    assert all(len(leaf) <= depth and len(context_of(leaf)) <= LONGEST_CONTEXT for leaf in found.leaves)
    for one, other in product(found.leaves, repeat=2):                 # where two paths part, they part by a value of one criterion
        if one != other: assert next((a[0] == b[0] and a[1] != b[1] for a, b in zip(one, other) if a != b), False)


def test_what_is_lost_is_counted():
    found = tree_of((16, 2, 4), sometimes(.8))
    step = found.steps['contexts']
    assert step.lost['there already'] > 0 and step.kept == len(found.contexts) and step.calls == len(found.teacher.asked)
    whole = [leaf for leaf in found.leaves if len(leaf) == 1]
    assert step.lost['a node without two values stays a leaf'] == len(whole)
    asked = Counter(json.dumps(one.told[0]) for one in found.teacher.asked if depth_of(one))
    assert all(asked[json.dumps(dict(leaf))] == 3 for leaf in whole)


@pytest.mark.parametrize('value, kept', [('other', False), ('Others', False), ('any other time', False), ('somewhere else', False), ('none of these', False), ('the rest', False), ('miscellaneous', False),
                                         ('a rest home', True), ('mother and child', True), ('another town', True), ('A PIER', False), ('the pier', False), ('a pier at dawn', False), ('a piercing cry', True),
                                         ('sports', False), ('a sporting goods shop', False), ('the business lounge', False), ('a busy shop', True), ('', False), ('?!', False)])
def test_which_values_are_kept(value, kept):
    assert sort_values(['a pier', value], 9, NEWS)[0] == (['a pier', value] if kept else ['a pier'])


# ---- calls, budget, resumption

@pytest.mark.parametrize('order', [None, 1, 2])
@pytest.mark.parametrize('most', range(1, 9))
def test_a_tree_that_a_budget_stopped_grows_on_to_the_same(most, order):
    whole, calls = tree_of((40, 3, 3), sometimes(.5)), {}
    stopped = tree_of((40, 3, 3), sometimes(.5), calls, Budget(max_calls=most), order=order)
    assert stopped.stopped and len(calls) == most == len(stopped.teacher.asked)
    stopped.name_contexts(calls)
    assert (stopped.leaves, len(stopped.teacher.asked)) == (whole.leaves, len(whole.teacher.asked)) and not stopped.stopped
    again = tree_of((40, 3, 3), sometimes(.5), calls)
    assert (again.leaves, again.teacher.asked, again.steps['contexts'].to_dict()) == (whole.leaves, [], whole.steps['contexts'].to_dict())


def test_an_estimate_names_the_calls_of_a_full_tree():
    for sizes in ((16, 2, 4), (10, 2, 4), (40, 3, 3), (5, 1, 5)):
        found, ahead = tree_of(sizes), TreeBank(STRATEGY, ScriptedTeacher(), ContextTree(*sizes)).ahead(25)
        divisions = [request for request in ahead if 'criterion' in request.schema.model_fields]
        assert len(divisions) == len(found.teacher.asked) and len(ahead) == len(divisions) + 3
        assert max(map(len, (request.messages[-1]['content'] for request in divisions))) >= max(len(asked.question) for asked in found.teacher.asked)


@pytest.mark.parametrize('fault', ['prose', 'fenced', 'truncated', 'refusal', 'given up', 'schema', 'empty'])
def test_faulty_answers_leave_a_sound_tree(fault):
    found = tree_of((16, 2, 4), None, faults=.4, kinds=[fault])
    assert len(set(found.contexts)) == len(found.contexts) <= 16 and all(found.contexts)
    found.grow(20, {})
    assert len(found.seeds) >= 20


def test_a_killed_run_ends_with_the_same_rows(tmp_path):
    def go(out, **teacher):
        made = ScriptedTeacher(by_aspects, **teacher)
        Recipe.targen(contexts_by='tree', contexts=9, tree_depth=2, tree_values=3, seeds_per_call=2).generate(NEWS, n=12, out=out, teacher=made, seed=1)
        return made
    whole = go(tmp_path/'whole')
    total = len(whole.asked)
    for stop in (1, 3, 6, 15):
        with pytest.raises(TeacherError): go(tmp_path/f'{stop}', dies_after=stop)
        rest = go(tmp_path/f'{stop}')
        assert len(rest.asked) == total - stop and plain(read_rows(tmp_path/f'{stop}', None)) == plain(read_rows(tmp_path/'whole', None))
    contexts = read_contexts(tmp_path/'whole'/'contexts.jsonl')
    assert whole.calls()['tree'] == 4 and 'contexts' not in whole.calls()
    assert contexts == [f'place: {place}; hour: {hour}' for place, hour in product(('a mill', 'a barn', 'a pier'), ('dawn', 'noon', 'dusk'))]
    assert {row['context'] for row in read_rows(tmp_path/'whole', None)} <= set(contexts)
    card = (tmp_path/'whole'/'README.md').read_text()
    assert '2503.17195' in card and '2310.17876' in card


def test_given_contexts_of_a_tree_are_those_of_the_run(tmp_path):
    "The file of a run's contexts, used again, gives the same bank by a list."
    tree = tree_of((9, 2, 3))
    (tmp_path/'c.txt').write_text('\n'.join(tree.contexts))
    given_bank = SeedBank(STRATEGY, ScriptedTeacher(by_aspects), read_contexts(tmp_path/'c.txt'), seed=3)
    for bank in (tree, given_bank): bank.grow(30, {})
    assert tree.seeds == given_bank.seeds


def test_the_budget_of_a_run_counts_the_calls_of_the_tree():
    store = {}
    maker = TarGEN(ScriptedTeacher(by_aspects), NEWS, correction=None, contexts=ContextTree(9, 2, 3), calls=store, budget=Budget(max_calls=3))
    assert len(maker.contexts()) == 3 + 2 + 2 and len(store) == 3 and maker.bank.stopped and not maker.seeds(2)
    more = TarGEN(ScriptedTeacher(by_aspects), NEWS, correction=None, contexts=ContextTree(9, 2, 3), calls=store, budget=Budget())
    assert len(more.contexts()) == 9 and len(more.teacher.asked) == 1
    found = more.generate(8)
    assert (len(found.accepted), found.calls['contexts'], found.steps['contexts']['kept']) == (8, 4, 9)


# ---- the choice, the command, and pocket

@pytest.mark.parametrize('task, options, said', [('ag_news', ['--contexts-by', 'forest'], "'forest' is not one of 'list', 'tree'"), ('ag_news', ['--contexts-by', 'tree', '--contexts', '1'], 'take contexts = 2 or more'),
                                                 ('ag_news', ['--contexts-by', 'tree', '--tree-depth', '5'], 'tree_depth must be a whole number from 1 to 4'),
                                                 ('axb', ['--contexts-by', 'tree'], 'lists its contexts itself'), ('ag_news', ['--contexts-by', 'tree', '--contexts-from', 'c.txt'], 'take one of the two back')])
def test_what_is_no_tree_is_refused_before_the_first_call(tmp_path, capsys, monkeypatch, task, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'c.txt').write_text('a pier\na mill\n')
    assert main(['generate', task, '--recipe', 'targen', '--n', '4', '--out', 'run', *options])
    assert said in ' '.join(re.sub(r'[│╭╮╰╯─]', ' ', capsys.readouterr().err).split())
    assert not (tmp_path/'run').exists()


def test_pocket_writes_six_rows_from_a_tree(tmp_path):
    assert not main(['generate', 'ag_news', '--recipe', 'targen', '--contexts-by', 'tree', '--contexts', '6', '--tree-values', '3', '--seeds-per-call', '2', '--n', '6', '--out', str(tmp_path/'run')])
    rows, contexts = [*read_rows(tmp_path/'run')], read_contexts(tmp_path/'run'/'contexts.jsonl')
    assert len(rows) == 6 and 3 <= len(contexts) <= 6 and {row['context'] for row in rows} <= set(contexts)
    assert all(1 <= context.count(': ') <= 4 for context in contexts) and len({row['context'] for row in rows}) > 1
