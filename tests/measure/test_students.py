"Students: three kinds of network, weights, epochs, scores, seeds, datamaps and V-information, on tiny random models."
import math
import random
import shutil
from importlib.resources import files

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score
from synthlab.measure.classifiers import (
    Decoder, Encoder, Seq2Seq, TrainConfig, length_batches, load_network, load_reader, row_weights)
from synthlab.util import CannotMeasure
from synthlab.measure.students import (
    PVI, Cartography, Student, accuracy, calibration, calibration_error, cartography, label_order, pvi, pvi_bits,
    score_seeds, t_interval, text_and_label, train_on, ByRows, Probe)
from synthlab.tasks.task import load_task
from transformers import (AutoTokenizer, BertConfig, BertForSequenceClassification, DistilBertConfig, DistilBertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig,
                          LlamaForCausalLM, T5Config, T5ForConditionalGeneration)

TOKENIZER = AutoTokenizer.from_pretrained(str(files('synthlab')/'resources'/'pocket'))
SIZE = len(TOKENIZER)
BERT = dict(vocab_size=SIZE, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=128)
BUILD = {
    'bert': lambda: BertForSequenceClassification(BertConfig(**BERT)),
    'distilbert': lambda: DistilBertModel(DistilBertConfig(vocab_size=SIZE, dim=32, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=128)),
    't5': lambda: T5ForConditionalGeneration(T5Config(vocab_size=SIZE, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0)),
    'llama': lambda: LlamaForCausalLM(LlamaConfig(**BERT)),
    'gpt2': lambda: GPT2LMHeadModel(GPT2Config(vocab_size=SIZE, n_embd=32, n_layer=2, n_head=2, n_positions=128)),
}
KINDS = {'bert': Encoder, 'distilbert': Encoder, 't5': Seq2Seq, 'llama': Decoder, 'gpt2': Decoder}
ABLE = dict(lr=3e-3, epochs=8, batch_size=16, max_length=64, pooling='mean')
LONGER = {name: dict(lr=5e-3, epochs=16, batch_size=8) for name in ('t5', 'llama')}        # words are learned more slowly than labels


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    "Folders with tiny models of random weights, by architecture."
    root = tmp_path_factory.mktemp('models')
    for name, build in BUILD.items():
        torch.manual_seed(0)
        build().save_pretrained(root/name)
        TOKENIZER.save_pretrained(root/name)
    return root


def made(n=64, seed=0, labels=('bad', 'good'), words=('rain', 'sun')):
    "Rows whose label is told by one word."
    rng = np.random.default_rng(seed)
    filler = ['the', 'house', 'by', 'a', 'river', 'was', 'old', 'and', 'green']
    def text(k): return ' '.join(rng.permutation([*rng.choice(filler, rng.integers(2, 12)), words[k]]))
    return [{'text': text(i % len(labels)), 'label': labels[i % len(labels)]} for i in range(n)]


def student(folder, **changes): return Student(folder, **{'recipe': TrainConfig(**ABLE), **changes})


# ---- the three kinds

@pytest.mark.parametrize('name', ['bert', 'distilbert', 't5', 'llama'])
def test_each_kind_learns_and_gives_probabilities(models, name):
    found = student(models/name, **LONGER.get(name, {})).fit(made())
    fresh = made(40, seed=1)
    probs = found.predict_proba([row['text'] for row in fresh])
    assert type(found.reader_) is KINDS[name]
    assert probs.shape == (40, 2) and (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-9)
    assert found.score(fresh) >= .9


@pytest.mark.parametrize('name', BUILD)
def test_a_prediction_does_not_depend_on_its_neighbours(models, name):
    "Batches are padded and sorted by length; the answer is that of the text alone, at its own place."
    found = student(models/name, epochs=1, dtype='float32').fit(made(32))
    texts = ['sun', *(row['text'] for row in made(30, seed=2)), '', ' ', 'rain ' * 200]
    alone = np.vstack([found.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(found.predict_proba(texts), alone, atol=2e-5)


@pytest.mark.parametrize('name', ['t5', 'llama', 'gpt2'])
@torch.inference_mode()
def test_label_scores_are_sequence_log_probabilities(models, name):
    "One token at a time, one row at a time, no padding."
    reader, config = load_reader(models/name, ['not so good', 'good'], max_length=100, task=load_task('sst2'))
    model = load_network(models/name, config, reader, TrainConfig(lr=1, epochs=1)).eval()
    prompts = reader.tokens(['Dull.', 'The plot is clever, and the actors have fun with it.'])
    def naive(prompt, answer):
        total = 0.
        for t, token in enumerate(answer):
            given = {'decoder_input_ids': torch.tensor([[0, *answer[:t]]]), 'input_ids': torch.tensor([prompt])} if name == 't5' else {'input_ids': torch.tensor([[*prompt, *answer[:t]]])}
            total += model(**given).logits[0, -1].log_softmax(-1)[token].item()
        return total
    expected = [[naive(p, a) for a in reader.answers] for p in prompts]
    np.testing.assert_allclose(reader.scores(model, prompts).numpy(), expected, atol=1e-3)
    lengths = np.array([len(reader.answers[1])]*2)
    np.testing.assert_allclose(reader.losses(model, prompts, [1, 1]).numpy(), -np.array(expected)[:, 1]/lengths, atol=1e-3)


def test_kinds_can_be_forced_and_dropout_has_many_names(models):
    for name in ('bert', 'distilbert'):
        reader, config = load_reader(models/name, ['a', 'b', 'c'])
        network = load_network(models/name, config, reader, TrainConfig(lr=1, epochs=1, dropout=0.))
        dropouts = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
        assert dropouts and set(dropouts) == {0.}
    assert type(load_reader(models/'llama', ['a', 'b'], kind='encoder')[0]) is Encoder


@pytest.mark.parametrize('pooling', ['mean', 'model'])
@pytest.mark.parametrize('name', ['bert', 'distilbert'])
def test_frozen_layers_stay_and_the_others_move(models, name, pooling):
    reader, config = load_reader(models/name, ['bad', 'good'])
    start = load_network(models/name, config, reader, TrainConfig(lr=1, epochs=1, pooling=pooling)).state_dict()
    found = student(models/name, epochs=1, frozen=1, pooling=pooling).fit(made(32)).model_.state_dict()
    moved = {key for key in start if 'classifier' not in key and not torch.equal(start[key], found[key])}
    assert any('layer.1.' in key for key in moved)
    assert not [key for key in moved if 'layer.0.' in key or 'word_embeddings' in key]


# ---- seeds and what is left behind

def test_the_same_seed_is_the_same_student_and_the_caller_keeps_its_randomness(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [row['text'] for row in made(10, seed=3)]
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    one = student(models/'bert', epochs=2, seed=7).fit(made()).predict_proba(texts)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected
    np.testing.assert_array_equal(one, student(models/'bert', epochs=2, seed=7).fit(made()).predict_proba(texts))
    assert (one != student(models/'bert', epochs=2, seed=8).fit(made()).predict_proba(texts)).any()
    assert not list(tmp_path.iterdir())                            # no checkpoints, no logs


def test_a_large_seed_will_do(models): student(models/'bert', epochs=1, seed=2**63 - 1).fit(made(8))


def test_fit_starts_anew(models):
    found, texts = student(models/'bert', epochs=2), ['sun', 'rain']
    first = found.fit(made()).predict_proba(texts)
    np.testing.assert_array_equal(found.fit(made()).predict_proba(texts), first)


def test_rows_come_in_many_forms(models, tmp_path):
    rows = made(16)
    Dataset.from_list(rows).to_parquet(tmp_path/'dataset.parquet')
    expected = student(models/'bert', epochs=1).fit(rows).predict_proba(['sun'])
    for form in (Dataset.from_list(rows), Dataset.from_list(rows).to_pandas(), tmp_path, tmp_path/'dataset.parquet'):
        np.testing.assert_array_equal(student(models/'bert', epochs=1).fit(form).predict_proba(['sun']), expected)


# ---- weights

@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1).filter(lambda rows: sum(w for _, w in rows) > 0))
def test_weights_have_mean_one_and_balance_labels(rows):
    targets, weights = zip(*rows)
    found = row_weights(targets, 'abc', weights)
    assert found.mean() == pytest.approx(1)
    np.testing.assert_allclose(found*np.sum(weights), np.array(weights)*len(weights), rtol=1e-6, atol=1e-6)
    totals = [row_weights(targets, 'abc', class_weights='balanced')[np.array(targets) == k].sum() for k in set(targets)]
    np.testing.assert_allclose(totals, len(targets)/len(totals))


def test_rows_of_weight_zero_are_not_learned(models):
    "Two thirds of the rows are mislabelled; their weight decides what is learned."
    right, wrong = made(32), made(64, seed=1, labels=('good', 'bad'))
    fresh = made(40, seed=4)
    assert student(models/'bert').fit(right + wrong, weights=[1]*32 + [0]*64).score(fresh) >= .9
    assert student(models/'bert').fit(right + wrong).score(fresh) <= .4


# ---- epochs

def test_the_best_epoch_is_kept(models):
    "Validation rows with the labels exchanged: every epoch is worse than the one before, so the first is the best."
    against = made(40, seed=5, labels=('good', 'bad'))
    found = student(models/'bert', epochs=5).fit(made(), validation=against)
    assert len(found.validation_) == 5 and found.validation_[0] > found.validation_[-1]
    assert found.score(against) == max(found.validation_)
    assert len(student(models/'bert', epochs=8, patience=1).fit(made(), validation=against).validation_) < 8


def test_dynamics_are_what_the_student_believes(models):
    rows = made(30)
    found = student(models/'bert', epochs=3, record=True).fit(rows)
    probs = found.predict_proba([row['text'] for row in rows])
    targets = [found.labels_.index(row['label']) for row in rows]
    assert found.dynamics_.shape == found.correct_.shape == (3, 30)
    np.testing.assert_allclose(found.dynamics_[-1], probs[np.arange(30), targets], atol=1e-12)
    np.testing.assert_array_equal(found.correct_[-1], probs.argmax(1) == targets)
    unrecorded = student(models/'bert', epochs=3).fit(rows)                     # looking does not change the training
    np.testing.assert_array_equal(unrecorded.predict_proba(['sun']), found.predict_proba(['sun']))


# ---- scores

@settings(deadline=None, max_examples=40)
@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 10**6))
def test_accuracy_f1_and_calibration_against_oracles(k, n, seed):
    rng = np.random.default_rng(seed)
    labels = [f'label {i}' for i in range(k)]
    probs, gold = rng.dirichlet(np.ones(k), n), rng.choice([*labels, 'never seen'], n).tolist()
    found, predicted = accuracy(probs, gold, labels), [labels[i] for i in probs.argmax(1)]
    assert found == pytest.approx(accuracy_score(gold, predicted))
    assert found.details['macro_f1'] == pytest.approx(f1_score(gold, predicted, labels=sorted(set(gold)), average='macro', zero_division=0))
    assert found.details['unknown'] == (['never seen'] if 'never seen' in gold else [])
    assert sum(sum(row.values()) for row in found.details['confusion'].values()) == n
    edges, hits, naive = np.linspace(0, 1, 16), np.array(gold) == predicted, 0.
    for low, high in zip(edges, edges[1:]):
        inside = (probs.max(1) > low) & (probs.max(1) <= high)
        if inside.any(): naive += inside.mean()*abs(hits[inside].mean() - probs.max(1)[inside].mean())
    assert found.details['ece'] == pytest.approx(naive)


def test_a_calibrated_student_has_no_calibration_error():
    confidence = np.random.default_rng(0).uniform(.5, 1, 40_000)
    hits = np.random.default_rng(1).random(40_000) < confidence
    assert calibration_error(calibration(confidence, hits)) < .01
    assert calibration_error(calibration(np.ones(10), np.zeros(10, dtype=bool))) == 1
    assert calibration([0., 1.], [False, True]) == [{'confidence': 0., 'accuracy': 0., 'n': 1}, {'confidence': 1., 'accuracy': 1., 'n': 1}]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=8), st.sampled_from([.8, .95]))
def test_t_interval_against_scipy(values, level):
    if np.std(values) < 1e-9: return
    expected = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
    np.testing.assert_allclose(t_interval(values, level), expected)


def test_two_seeds_get_no_interval_and_a_share_stays_a_share():
    assert t_interval([.2, .3]) is None
    assert t_interval([.9, .95, 1.], low=0, high=1) == (pytest.approx(.8258, abs=1e-4), 1.)


def test_a_probe_is_trained_once_and_its_interval_is_that_of_the_test_rows():
    "Three seeds of what is not random would give an interval without width."
    found = score_seeds(Probe(), made(), made(20, seed=1), seeds=(0, 1, 2))
    assert found.settings['seeds'] == [0] and list(found.interval) == found.details['test_interval'] and found.interval[0] < found.interval[1]
    assert found.settings['trained_on'] == len(made()) and 'Probe' in found.settings['model']


def test_the_number_of_rows_chooses_the_student():
    chosen = ByRows(Probe(), 'MiniLM')
    assert isinstance(chosen.choose(299)[0], Probe) and chosen.choose(300) == ('MiniLM', 'because 300 rows are at least 300')


def test_seeds_are_averaged_and_labels_never_seen_are_named(models):
    test = made(20, seed=1) + [{'text': 'snow', 'label': 'mixed'}]*5
    found = score_seeds(student(models/'bert'), made(), test, seeds=(0, 1))
    single = [student(models/'bert', seed=seed).fit(made()).score(test).value for seed in (0, 1)]
    assert found.details['scores'] == single and found == pytest.approx(np.mean(single)) and found <= .8
    assert found.details['unknown'] == ['mixed'] and found.details['per_class']['mixed']['recall'] == 0
    assert found.interval is None or found.interval[0] <= found <= found.interval[1]
    assert found.settings['seeds'] == [0, 1] and found.n == 25
    assert found.to_dict()['details']['scores'] == single


def test_synthetic_gold_and_both_have_equal_parts(models):
    found = train_on(student(models/'bert', epochs=1), made(40), made(20, seed=1), made(10, seed=2), seeds=[0])
    assert {name: metric.settings['trained_on'] for name, metric in found.items()} == {'synthetic': 20, 'gold': 20, 'both': 40}


# ---- cartography

def test_cartography_is_the_definition():
    rng = np.random.default_rng(0)
    p, right = rng.random((6, 50)), rng.random((6, 50)) < .5
    found = cartography(p, correct=right)
    for i in range(50):
        mean = sum(p[:, i])/6
        assert found.confidence[i] == pytest.approx(mean)
        assert found.variability[i] == pytest.approx(math.sqrt(sum((x - mean)**2 for x in p[:, i])/6))
        assert found.correctness[i] == pytest.approx(sum(right[:, i])/6)
    assert np.ptp(cartography(np.full((4, 9), .37)).variability) == pytest.approx(0)
    assert sum(found.shares.values()) == pytest.approx(1)
    regions = found.regions()
    assert {len(rows) for rows in regions.values()} == {17}
    assert found.confidence[regions['easy']].min() >= found.confidence[regions['hard']].max()
    assert found.metric == pytest.approx(p.mean()) and len(found.metric.details['variability']) == 50


def test_mislabelled_rows_are_hard(models):
    rows, wrong = made(160), [3, 20, 41]
    for i in wrong: rows[i]['label'] = {'good': 'bad', 'bad': 'good'}[rows[i]['label']]
    found = cartography(student(models/'bert'), rows=rows)
    assert set(wrong) <= set(found.regions(share=.1)['hard'].tolist())
    assert isinstance(found, Cartography)


# ---- V-information

@pytest.mark.long
def test_pvi_is_entropy_less_conditional_entropy(models):
    train, rows = made(160), made(40, seed=1)
    form = student(models/'bert')
    found = pvi(rows, train, form)
    fitted, null = form.clone(labels=['bad', 'good']).fit(train), form.clone(labels=['bad', 'good']).fit([row | {'text': ' '} for row in train])
    def bits(model, texts): return np.mean([-np.log2(p[model.labels_.index(row['label'])]) for p, row in zip(model.predict_proba(texts), rows)])
    assert found.mean == pytest.approx(bits(null, [' ']*40) - bits(fitted, [row['text'] for row in rows]), abs=1e-6)
    assert .7 < found.mean < 1.2                                   # two equally frequent labels, told by one word: 1 bit
    assert found.metric.interval[0] <= found.mean <= found.metric.interval[1]
    shuffled = pvi(rows[::-1], train, form)
    np.testing.assert_allclose(shuffled.bits[::-1], found.bits, atol=.05)


def test_texts_that_tell_nothing_have_no_information(models):
    rng = np.random.default_rng(0)
    rows = [row | {'label': str(rng.choice(['bad', 'good']))} for row in made(80)]
    assert pvi(rows, student=student(models/'bert', epochs=2, lr=3e-4)).mean == pytest.approx(0, abs=.15)
    assert pvi_bits(np.full(3, .2), np.full(3, .2)).tolist() == [0, 0, 0]


def test_halves_are_scored_by_the_other_half_and_find_what_is_mislabelled(models):
    rows = made(241)
    rows[10]['label'] = 'good'
    found = pvi(rows, student=student(models/'bert'))
    assert isinstance(found, PVI) and len(found.bits) == 241 and found.labels == [row['label'] for row in rows]
    assert found.hardest(1).tolist() == [10]
    assert set(found.per_label) == {'bad', 'good'}


# ---- batches

@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_batches_hold_every_text_once_within_the_budget(lengths, tokens):
    found = length_batches(lengths, tokens)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found: assert len(batch) == 1 or len(batch)*max(lengths[i] for i in batch) <= tokens


# ---- refusals

@pytest.mark.parametrize('rows, words', [
    ([], '0 training rows'),
    ([{'text': 'sun', 'label': 'good'}]*3, 'at least two labels'),
    ([{'text': 'sun'}], "'text' and 'label'"),
    ([{'text': None, 'label': 'good'}], 'training rows[0]'),
    ([{'text': 'sun', 'label': 3}], 'give labels by name'),
], ids=['empty', 'one label', 'no label', 'no text', 'number'])
def test_rows_that_cannot_be_learned_are_refused_before_anything_is_loaded(rows, words):
    with pytest.raises(CannotMeasure) as error: Student('/nowhere').fit(rows)
    assert words in str(error.value)


@pytest.mark.parametrize('change, words', [
    (dict(kind='rnn'), "'rnn'"), (dict(dtype='int8'), "'int8'"), (dict(recipe='corsynth'), "did you mean 'corrsynth'"), (dict(epoch=3), "did you mean 'epochs'"),
    (dict(epochs=0), 'epochs too small'), (dict(dropout=1.5), '1.5'), (dict(pooling='max'), "'max'"),
], ids=str)
def test_settings_that_do_not_exist_are_refused(change, words):
    with pytest.raises(ValueError) as error: Student('minilm', **change)
    assert words in str(error.value)


def test_models_that_cannot_be_loaded_are_named(models, tmp_path):
    with pytest.raises(ValueError, match='cannot load the student'): Student('/nowhere/at/all').fit(made(8))
    shutil.copytree(models/'bert', tmp_path/'pickled')
    (tmp_path/'pickled'/'model.safetensors').rename(tmp_path/'pickled'/'pytorch_model.bin')
    with pytest.raises(ValueError, match='cannot load the student'): Student(tmp_path/'pickled').fit(made(8))
    with pytest.raises(ValueError, match='3 frozen layers'): student(models/'bert', frozen=3).fit(made(8))
    with pytest.raises(ValueError, match='raise max_length'): student(models/'gpt2', max_length=12).fit(made(8))
    with pytest.raises(ValueError, match='not trained'): student(models/'bert').predict(['sun'])


def test_labels_and_weights_that_do_not_fit_are_named(models):
    with pytest.raises(CannotMeasure, match="did you mean 'good'"): student(models/'bert', labels=['good', 'evil']).fit(made(8, labels=('evil', 'god')))
    with pytest.raises(CannotMeasure, match='mixed'): student(models/'bert').fit(made(8), validation=[{'text': 'snow', 'label': 'mixed'}])
    with pytest.raises(ValueError, match='3 weights for 8 rows'): student(models/'bert').fit(made(8), weights=[1, 1, 1])
    with pytest.raises(ValueError, match='not negative'): student(models/'bert').fit(made(8), weights=[-1]*8)
    with pytest.raises(ValueError, match="did you mean 'good'"): student(models/'bert', class_weights={'god': 2}).fit(made(8))
    with pytest.raises(CannotMeasure, match='mixed'): pvi([{'text': 'snow', 'label': 'mixed'}], made(8), student(models/'bert', epochs=1))
    with pytest.raises(CannotMeasure, match='at least 2'): pvi([*made(8), {'text': 'snow', 'label': 'mixed'}], student=student(models/'bert', epochs=1))
    with pytest.raises(ValueError, match='at least one'): score_seeds(student(models/'bert'), made(8), made(8), seeds=[])


def test_labels_are_in_order():
    assert label_order(['b', 'a', 'c', 'a']) == ('a', 'b', 'c')
    assert label_order(['b', 'a'], ['c', 'b', 'a']) == ('c', 'b', 'a')
    assert text_and_label({'text': ['x'], 'label': ['a']}) == (['x'], ['a'])
