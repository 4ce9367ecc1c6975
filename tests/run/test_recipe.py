"A recipe is a choice for each stage; what does not fit is refused; SynAlign runs end to end on both kinds of teacher, stops and goes on."
import itertools
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from fault_server import FaultServer
from synthlab import embeddings
from synthlab.run import prepare as preparation, produce as production
from synthlab.prompt.records import read_records, write_records
from synthlab.teacher.chat import ChatTeacher
from synthlab.correct.choices import Correction, NoCorrection
from synthlab.decode.choices import CorrSynth, FewGen
from synthlab.tasks.gold import demonstration_pool
from synthlab.decode.loop import Sampling
from synthlab.run.produce import begin, estimate, make_teacher, produce, replay, make_config
from synthlab.run.recipe import PRESETS, Recipe, load_recipe
from synthlab.store.runs import RunError, open_run, read_rows, read_status
from synthlab.cli.runs import state
from synthlab.align.choices import MMDAlignment, NoAlignment, draw_kept
from synthlab.choice import CHOICES
from synthlab.prompt.choices import Attributes, FewShot, Simple, Targeted, Verbalized
from synthlab.select.choices import (
    NoSelection, RandomSelection, SpreadSelection, UncertaintySelection, plan_demonstrations)
from synthlab.run.stages import misfit
from synthlab.tasks.task import load_task

SST2 = load_task('sst2')
SHORT = Sampling(10, .95, .9)


class Letters:
    "A stand-in for the sentence encoder: counts of letters, so that nothing has to be loaded."
    def encode(self, texts):
        counts = np.array([[text.lower().count(letter) + .1 for letter in 'abcdefghijklmnopqrstuvwxyz'] for text in texts], dtype=np.float32)
        return counts/np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def letters(monkeypatch): monkeypatch.setattr(embeddings, 'default_embedder', Letters)


@pytest.fixture
def gold(tmp_path):
    "Forty real rows, in two kinds for each label."
    rng, kinds = np.random.default_rng(0), {'negative': ['dull plot', 'noisy score'], 'positive': ['warm cast', 'witty lines']}
    rows = [{'text': f"{kind} {' '.join(rng.choice(['owl', 'fox', 'hen', 'jay'], 4))} {i}", 'label': label} for label, texts in kinds.items() for kind in texts for i in range(10)]
    pd.DataFrame(rows).to_csv(tmp_path/'gold.csv', index=False)
    return str(tmp_path/'gold.csv')


@pytest.fixture(scope='module')
def pocket(): return make_teacher({'teacher': {'name': 'pocket'}})


def made(request, out, teacher=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return produce(request, out, teacher, watch=lambda groups, *_: groups, **options)


# ---- choices

def every_choice():
    options = {'select': [NoSelection(), RandomSelection(), UncertaintySelection(cluster=2), SpreadSelection('kmeans++')],
               'prompt': [FewShot(2), FewShot(0), Attributes(), Attributes(source='drawn'), Attributes(texts=5), Simple(), Targeted(), Targeted(explain=True), Verbalized(), Verbalized(shots=1, take='one')],
               'decode': [FewGen(), CorrSynth(delta=.5)], 'correct': [NoCorrection(), Correction(), Correction(show_explanation=True)],
               'align': [NoAlignment(), MMDAlignment(keep='rows', candidates=1.5)]}
    return [dict(zip(options, chosen)) for chosen in itertools.product(*options.values())]


def test_every_combination_fits_or_says_what_would(tmp_path):
    fitting = 0
    for chosen in every_choice():
        try: recipe = Recipe(**chosen, name='mine')
        except ValueError as error:
            assert str(error) == misfit(chosen['select'], chosen['prompt'], chosen['decode'], chosen['correct']) and any(word in str(error) for word in ('take ', 'shots'))
            continue
        fitting += 1
        recipe.to_toml(tmp_path/'mine.toml')
        assert Recipe.from_toml(tmp_path/'mine.toml') == load_recipe(tmp_path/'mine.toml') == recipe
        assert hash(recipe) == hash(Recipe.from_table(recipe.table))
    # shown and selected: 4 ways to ask; nothing shown: 3; several texts in a call, and 2 targeted prompts, only with FewGen; each with 2 alignments;
    # verbalized, too, without examples and with them; labels stay, or are looked at again; an explanation is shown only where one is asked for
    asked = 2*3*2 + 3*1 + 3*2*2 + 2*2*1 + 2*1 + 3*1
    assert fitting == 2*(2*asked + 1*2*1)


@pytest.mark.parametrize('name', PRESETS)
def test_presets_have_every_stage_and_take_the_options_of_their_choices(name):
    table = PRESETS[name]().table
    assert table['name'] == name and set(table) == {'name', *CHOICES}
    with pytest.raises(ValueError, match="no option 'colour'"): PRESETS[name](colour='red')


BAD = {'[select]\nchoice = "uncertainty"\nnoise_ = 1.0': "no option 'noise_'", '[prompt]\nchoice = "few-shot"\nshots = -1': 'shots must',
       '[align]\nchoice = "mmd"\nkeep = "best"': 'keep must be', '[align]\nchoice = "mmd"\ncandidates = 2.0': 'keep = "rows"', '[decode]\nchoice = "correlated"\ndelta = 2.0': 'delta',
       '[select]\nchoice = "none"': 'select = "none"', '[select]\nchoice = "uncertainty"\n[prompt]\nchoice = "simple"': 'never uses', 'title = "x"': 'no stage', '[select\n': 'line 1',
       '[select]\nchoice = "uncertainty"\ncluster = 0': 'cluster must', '[select]\nchoice = "uncertainty"\nscale = -1.0': 'scale must', '[prompt]\nchoice = "attributes"\nsource = "extractd"': 'extracted', '[prompt]\nchoice = "attributes"\nper_record = 0': 'per_record must', '[correct]\nchoice = "self"': "no choice 'self'"}


@pytest.mark.parametrize('text, said', BAD.items(), ids=range(len(BAD)))
def test_a_wrong_file_is_refused_by_name(tmp_path, text, said):
    (tmp_path/'mine.toml').write_text(text)
    with pytest.raises(ValueError) as caught: Recipe.from_toml(tmp_path/'mine.toml')
    assert str(caught.value).startswith(str(tmp_path/'mine.toml')) and said in str(caught.value)


def test_plans_are_those_of_the_tracker(gold):
    from synthlab.tasks.gold import load_gold
    from synthlab.select.uncertainty import UncertaintyTracker
    pool = demonstration_pool(SST2, load_gold(gold, SST2, part='train'))
    X = {label: Letters().encode([demo['text'] for demo in demos]) for label, demos in pool.items()}
    plan = plan_demonstrations(UncertaintySelection(axes=0), pool, {'positive': 4}, shots=2)
    picks = UncertaintyTracker().fit(X['positive']).select(8)
    assert [row for entry in plan['positive'] for row in entry] == picks.tolist()
    clusters = plan_demonstrations(UncertaintySelection(cluster=3, show='cluster', axes=0), pool, {'positive': 4}, shots=3)['positive']
    for centre, *others in clusters:
        near = np.argsort(-(X['positive'] @ X['positive'][centre]), kind='stable')[:3]
        assert {centre, *others} == set(near.tolist())
    centred = X['positive'] - X['positive'].mean(0)
    flat = centred @ np.linalg.svd(centred, full_matrices=False)[2][:4].T
    assert [row for row, in plan_demonstrations(UncertaintySelection(axes=4), pool, {'positive': 6})['positive']] == UncertaintyTracker().fit(flat).select(6).tolist()
    with pytest.raises(ValueError, match='raise cluster to 3'): plan_demonstrations(UncertaintySelection(cluster=2, show='cluster'), pool, {'positive': 1}, shots=3)
    assert len(plan_demonstrations(UncertaintySelection(), pool, {'positive': 500})['positive']) == 20


def test_rows_are_kept_by_weight_and_none_twice():
    share = np.array([.5, .3, .2, 0., 0.])
    counts = sum(draw_kept(share, 2, np.random.default_rng(seed)).astype(int) for seed in range(400))
    assert counts.sum() == 800 and counts[0] > counts[2] and counts[3:].sum() <= 4
    assert draw_kept(share, 4, np.random.default_rng(0)).sum() == 4


# ---- on a model in this process

def test_selection_few_shot_and_alignment_on_the_embedded_teacher(tmp_path, gold, pocket, monkeypatch):
    recipe = Recipe.synalign(prompt='few-shot', shots=1, decode='correlated', delta=.5)
    request = make_config(recipe, SST2, pocket, 12, sampling=SHORT, gold=gold)
    done = made(request, tmp_path/'run', pocket)
    with open_run(tmp_path/'run') as run: plan, rows = run.facts['plan'], list(run.rows())
    shown = {label: [row['demos'][0] for row in rows if row['label'] == label] for label in SST2.label_names}
    texts = pd.read_csv(gold).text.tolist()
    assert all(len(set(ids)) == 6 for ids in shown.values())
    for entries in plan.values(): assert [len(entry) for entry in entries] == [1]*6
    frame = pd.read_parquet(tmp_path/'run'/'dataset.parquet')
    np.testing.assert_allclose(frame.groupby('label').weight.mean(), 1)
    assert done.aligned['mmd'] <= done.aligned['mmd_uniform'] and 1 <= done.aligned['ess'] <= 12 and done.aligned['real'] == len(texts)
    assert made(request, tmp_path/'again', pocket).aligned == done.aligned and list(read_rows(tmp_path/'again')) == rows
    assert replay(tmp_path/'run', rows[5]['id'], pocket).same
    monkeypatch.setattr(preparation, 'plan_demonstrations', None)                                 # what is kept is not chosen again
    assert made(request, tmp_path/'run', pocket).rows == 0


def test_alignment_keeps_the_rows_that_are_wanted_and_accounts_for_the_others(tmp_path, gold, pocket):
    recipe = Recipe.fewgen(shots=1, align=MMDAlignment(keep='rows', candidates=2.))
    done = made(make_config(recipe, SST2, pocket, 10, sampling=SHORT, gold=gold, proportions={'negative': .3, 'positive': .7}), tmp_path/'run', pocket)
    assert done.counts['accepted'] == {'negative': 3, 'positive': 7} and not done.shortfall
    assert done.counts['rejected']['left out by alignment'] == 10
    assert done.counts['candidates'] == sum(done.counts['accepted'].values()) + sum(done.counts['rejected'].values())
    frame = pd.read_parquet(tmp_path/'run'/'dataset.parquet')
    assert len(frame) == 10 and 'weight' not in frame and done.aligned['ess'] == pytest.approx(10) and done.aligned['mmd'] < done.aligned['mmd_uniform']
    card = (tmp_path/'run'/'README.md').read_text()
    assert '## Alignment' in card and 'pass it to your loss' not in card


def test_it_is_told_when_alignment_makes_labels_less_clear():
    from synthlab.cli.runs import aligned_in_words
    rng = np.random.default_rng(0)
    def near(*kinds):
        rows = np.concatenate([rng.normal(np.eye(4)[kind], .05, (n, 4)) for kind, n in kinds])
        return rows/np.linalg.norm(rows, axis=1, keepdims=True)
    R = [near((0, 30), (2, 70)), near((1, 30), (2, 70))]                                        # most real rows are of neither kind
    S, labels = near((0, 50), (2, 10), (1, 50), (2, 10)), ['a']*60 + ['b']*60
    class Given:
        def encode(self, texts): return np.array([json.loads(text) for text in texts], dtype=np.float32)
    pool = {name: [{'text': json.dumps(row)} for row in rows.tolist()] for name, rows in zip('ab', R)}
    found = MMDAlignment().align([json.dumps(row) for row in S.tolist()], labels, pool, {}, embedder=Given()).summary
    assert found['labels_uniform'] > .85 and found['labels'] < found['labels_uniform'] - .1 and found['mmd'] < found['mmd_uniform']
    assert found['chance'] == 1/2 and found['judge_rows'] == found['real'] and f"learnt from {found['real']:,} of the real texts" in aligned_in_words(found)
    assert 'a guess would find it in 50%' in aligned_in_words(found)
    assert 'less clear' in aligned_in_words(found) and 'less clear' not in aligned_in_words(found | {'labels': found['labels_uniform']})


def test_a_crash_between_alignment_and_the_files_changes_nothing(tmp_path, gold, pocket, monkeypatch):
    request = make_config(Recipe.fewgen(shots=1, align=MMDAlignment(keep='rows', candidates=2.)), SST2, pocket, 6, sampling=SHORT, gold=gold)
    made(request, tmp_path/'whole', pocket)
    with monkeypatch.context() as patched:
        patched.setattr(production.Run, 'finish', lambda *_, **__: [][0])
        with pytest.raises(IndexError): made(request, tmp_path/'run', pocket)
    with open_run(tmp_path/'run') as run: assert not run.finished and run.facts['aligned']
    assert made(request, tmp_path/'run', pocket).rows == 0
    assert list(read_rows(tmp_path/'run', None)) == list(read_rows(tmp_path/'whole', None))


def test_without_real_rows_it_says_so(pocket):
    with pytest.warns(UserWarning, match="examples written in the task 'sst2'"): make_config(Recipe.synalign(prompt='few-shot'), SST2, pocket, 4)


def test_synalign_with_attributes_in_this_process(tmp_path, gold, pocket):
    pytest.importorskip('llguidance')
    request = make_config(Recipe.synalign(per_record=2), SST2, pocket, 8, sampling=SHORT, gold=gold)
    done = made(request, tmp_path/'run', pocket)
    records = read_records(tmp_path/'run'/'attributes.jsonl', SST2)
    with open_run(tmp_path/'run') as run: plan, extraction, rows = run.facts['plan'], run.facts['extraction'], list(run.rows())
    assert {label: len(entries) for label, entries in plan.items()} == {'negative': 3, 'positive': 3} and extraction['demonstrations'] == 6
    assert all(set(record.attributes) == set(SST2.attributes) for record in records) and extraction['records'] == len(records)
    assert len(rows) == 8 and all(row['attributes'] in [dict(record.attributes) for record in records if record.label == row['label']] for row in rows)
    assert replay(tmp_path/'run', rows[3]['id'], pocket).same and done.aligned
    assert 'pass it to your loss' in (tmp_path/'run'/'README.md').read_text()


def records_by_label(rows):
    "Different records that the rows of each label were written from."
    found = {}
    for row in rows: found.setdefault(row['label_target'], set()).add(row['demos'][0])
    return {label: len(records) for label, records in found.items()}


@pytest.mark.long
def test_eight_records_of_a_label_however_few_rows(tmp_path, gold, pocket):
    pytest.importorskip('llguidance')
    def request(n, **options): return make_config(Recipe.synalign(select='random', align='none', **options), SST2, pocket, n, sampling=SHORT, gold=gold)
    made(request(16), tmp_path/'run', pocket)
    rows = list(read_rows(tmp_path/'run', None))
    with open_run(tmp_path/'run') as run: extraction = run.facts['extraction']
    assert extraction['demonstrations'] == 16 and records_by_label(rows[:16]) == {'negative': 8, 'positive': 8}
    # A number is still that number, and leaves a label the records that it did.
    made(request(16, per_record=10), tmp_path/'ten', pocket)
    assert records_by_label(list(read_rows(tmp_path/'ten', None))[:16]) == {'negative': 1, 'positive': 1}
    # A longer run begins with the questions of the shorter one, and asks only the others.
    done = made(request(24), tmp_path/'more', pocket, fork=tmp_path/'run')
    longer = list(read_rows(tmp_path/'more', None))
    with open_run(tmp_path/'more') as run: inherited, plan = run.facts['inherited']['calls'], run.facts['plan']
    assert [row['text'] for row in longer[:16]] == [row['text'] for row in rows[:16]] and {*map(len, plan.values())} == {8}
    groups, more = ({row['group'] for row in found} for found in (rows, longer))
    assert inherited == 16 + len(groups) and done.usage.calls == len(more) - len(groups) > 0
    made(request(24), tmp_path/'whole', pocket)
    assert longer == list(read_rows(tmp_path/'whole', None))


# ---- on a server

def synalign(server, gold, n=40, recipe=None, **machine):
    teacher = ChatTeacher('owl', server.url, pause=.005, timeout=2., concurrency=4)
    # The server's answers are short, so some are the same; what is counted here is calls.
    return make_config(recipe or Recipe.synalign(texts=5, per_record=5), SST2, teacher, n, gold=gold, sampling=Sampling(40), machine=machine, duplicates='keep'), teacher


def test_synalign_with_attributes_on_a_real_server(tmp_path, gold):
    with FaultServer() as server:
        request, teacher = synalign(server, gold)
        told = estimate(request, teacher)
        done = made(request, tmp_path/'run', teacher)
        assert server.stats()['received'] == done.usage.calls == told.calls == 8 + 8          # 4 examples of each label, 5 texts of each
        rows = list(read_rows(tmp_path/'run'))
        records = {record.source: record for record in read_records(tmp_path/'run'/'attributes.jsonl', SST2)}
        assert len(rows) == 40 and all(row['attributes'] == dict(records[row['demos'][0]].attributes) for row in rows)
        assert all(row['label'] == records[row['demos'][0]].label for row in rows)
        prompts = [replay(tmp_path/'run', row['id'], teacher).prompt for row in rows[::10]]
        assert all(value in prompt for prompt, row in zip(prompts, rows[::10]) for value in row['attributes'].values())
        assert not any(text in prompt for text in pd.read_csv(gold).text for prompt in prompts)
        assert replay(tmp_path/'run', rows[7]['id'], teacher).same
        assert made(request, tmp_path/'run', teacher).rows == 0 and server.stats()['received'] == 16
    assert abs(sum(row['weight'] for row in rows)/40 - 1) < 1e-9


@pytest.mark.parametrize('most', [3, 8, 11])
def test_a_stop_in_either_stage_goes_on_where_it_was(tmp_path, gold, most):
    with FaultServer() as server:
        request, teacher = synalign(server, gold)
        whole = made(request, tmp_path/'whole', teacher)
    with FaultServer() as server:
        request, teacher = synalign(server, gold, limits={'max_calls': most})
        part = made(request, tmp_path/'run', teacher)
        assert part.usage.calls == most and part.stopped.startswith('max_calls') and part.shortfall
        request, teacher = synalign(server, gold)
        done = made(request, tmp_path/'run', teacher)
        assert server.stats()['received'] == 16 and done.counts == whole.counts
    same = [[{k: v for k, v in row.items() if k != 'teacher'} for row in read_rows(tmp_path/name)] for name in ('run', 'whole')]
    assert same[0] == same[1]


def test_faults_are_accounted_for_row_by_row(tmp_path, gold):
    with FaultServer(faults=.3, seed=2, kinds=['500', 'drop', 'schema', 'refusal', 'empty', 'length', 'malformed'], wait='0.01') as server:
        request, teacher = synalign(server, gold, 60)
        done = made(request, tmp_path/'run', teacher)
    assert sum(done.counts['accepted'].values()) == 60
    ended = [sum(done.counts[status].values()) for status in ('accepted', 'rejected', 'failed')]
    assert sum(ended) == done.counts['candidates'] and done.counts['candidates'] % 5 == 0
    with open_run(tmp_path/'run') as run: extraction = run.facts['extraction']
    assert extraction['demonstrations'] == sum(extraction[end] for end in ('records', 'rejected', 'failed')) == 12


def test_edited_records_are_written_from_and_may_not_change(tmp_path, gold):
    with FaultServer() as server:
        request, teacher = synalign(server, gold)
        made(request, tmp_path/'run', teacher)
        records = read_records(tmp_path/'run'/'attributes.jsonl', SST2)
        write_records([record for record in records if record.label == 'negative'][:1] + [record for record in records if record.label == 'positive'][:1], tmp_path/'mine.jsonl')
        before = server.stats()['received']
        request, teacher = synalign(server, gold, 20, Recipe.synalign(select='random', texts=5, per_record=5, source=str(tmp_path/'mine.jsonl')))
        done = made(request, tmp_path/'edited', teacher)
        assert server.stats()['received'] - before == done.usage.calls == 4
        assert len({json.dumps(row['attributes']) for row in read_rows(tmp_path/'edited')}) == 2
        (tmp_path/'mine.jsonl').write_text((tmp_path/'mine.jsonl').read_text().splitlines()[0] + '\n')
        with pytest.raises(ValueError, match='are not those that the run began with'): made(request, tmp_path/'edited', teacher)


def test_attrprompt_and_simprompt_on_a_server(tmp_path):
    with FaultServer() as server:
        teacher = ChatTeacher('owl', server.url, pause=.005, timeout=2.)
        drawn = made(make_config(Recipe.attrprompt(), SST2, teacher, 6), tmp_path/'attr', teacher)
        plain = made(make_config(Recipe.simprompt(), SST2, teacher, 6), tmp_path/'simple', teacher)
        assert server.stats()['received'] == 12 and not drawn.shortfall and not plain.shortfall
    values = {key: attribute.values for key, attribute in SST2.attributes.items()}
    assert all(value in values[key] for row in read_rows(tmp_path/'attr') for key, value in row['attributes'].items())
    assert all(row['attributes'] is None and not row['demos'] for row in read_rows(tmp_path/'simple'))


@pytest.mark.parametrize('lines, said', [('', 'empty'), ('{"id": ""}\n', 'line 1'), ('no JSON\n', 'line 1'), ('{"id": "a", "label": "positive", "attributes": {"tone": "warm"}}\n', "no record for 'negative'")])
def test_records_that_will_not_do_are_refused_before_the_first_call(tmp_path, gold, lines, said):
    (tmp_path/'mine.jsonl').write_text(lines)
    with FaultServer() as server:
        request, teacher = synalign(server, gold, 20, Recipe.synalign(select='none', source=str(tmp_path/'mine.jsonl')))
        with pytest.raises(ValueError, match=said): made(request, tmp_path/'run', teacher)
        assert server.stats()['received'] == 0 and not (tmp_path/'run').exists()


def test_examples_that_give_no_attributes_are_told_with_a_way_out(tmp_path, gold):
    with FaultServer(script=lambda question, n: 'refusal') as server:
        request, teacher = synalign(server, gold)
        with pytest.raises(RunError, match='another seed'): made(request, tmp_path/'run', teacher)
        assert 'another seed' in read_status(tmp_path/'run')['trouble'] and 'could not go on' in state(read_status(tmp_path/'run'), tmp_path/'run')


def test_further_examples_are_described_while_a_label_has_no_record(tmp_path, gold):
    [chosen] = [text for text in pd.read_csv(gold).text if text.startswith('noisy') and text.endswith(' 7')]
    def script(question, n): return 'refusal' if ('dull plot' in question or 'noisy score' in question) and chosen not in question else 'ok'
    with FaultServer(script=script) as server:
        request, teacher = synalign(server, gold, 10)
        done = made(request, tmp_path/'run', teacher)
        asked = server.stats()['received']
        assert not done.shortfall and made(request, tmp_path/'run', teacher).rows == 0 and server.stats()['received'] == asked
    with open_run(tmp_path/'run') as run: extraction, rows = run.facts['extraction'], list(run.rows())
    assert extraction['rejected'] >= 3 and extraction['demonstrations'] == extraction['records'] + extraction['rejected'] > 6
    assert len({row['demos'][0] for row in rows if row['label'] == 'negative'}) == 1


def test_rows_of_a_label_that_are_all_alike_are_told_by_label(tmp_path, gold, pocket):
    rows = pd.read_csv(gold)
    rows.loc[rows.label == 'positive', 'text'] = 'A warm cast.'
    rows.to_csv(tmp_path/'alike.csv', index=False)
    request = make_config(Recipe.synalign(prompt='few-shot', shots=1), SST2, pocket, 8, sampling=SHORT, gold=str(tmp_path/'alike.csv'))
    with pytest.raises((ValueError, RunError), match="no examples of 'positive' can be selected"): made(request, tmp_path/'run', pocket)


def test_few_real_rows_are_told(tmp_path, gold, pocket):
    pd.read_csv(gold).groupby('label').head(5).to_csv(tmp_path/'few.csv', index=False)
    with pytest.warns(UserWarning, match='few real rows'): make_config(Recipe.synalign(prompt='few-shot'), SST2, pocket, 4, gold=str(tmp_path/'few.csv'))


def test_without_a_grammar_attributes_are_refused_at_once(gold, pocket, monkeypatch):
    monkeypatch.setattr(preparation, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "synthlab-text\[structured\]"'): begin(make_config(Recipe.synalign(), SST2, pocket, 4, gold=gold), pocket)


def test_what_a_server_cannot_do_is_refused_before_the_first_call(gold):
    with FaultServer() as server:
        request, teacher = synalign(server, gold)
        with pytest.raises(ValueError, match='answers in text'): made(request | {'method': Recipe.synalign(decode='correlated').table}, 'nowhere', teacher)
        with pytest.raises(ValueError, match='answers in text'): synalign(server, gold, recipe=Recipe.synalign(decode='correlated'))
        assert server.stats()['received'] == 0


def test_a_label_without_gold_rows_is_refused(tmp_path, gold, pocket):
    pd.read_csv(gold).query("label == 'positive'").to_csv(tmp_path/'half.csv', index=False)
    with pytest.raises(ValueError, match="no demonstrations for 'negative'"): make_config(Recipe.synalign(prompt='few-shot'), SST2, pocket, 4, gold=str(tmp_path/'half.csv'))
