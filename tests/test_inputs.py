"What people have is taken as it is: frames, Datasets, lists of dictionaries, Series, arrays; and what cannot be meant is refused with what to pass."
import importlib.util
import re
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from synthlab.correct.transitions import repair_rates, transition_matrix
from synthlab.embeddings import Embedder, as_embeddings
from synthlab.inputs import as_labels, as_texts
from synthlab.measure import labels as metrics
from synthlab.measure.entities import extractor
from synthlab.measure.evaluate import Rows
from synthlab.measure.lexical import earlier_twins, self_bleu_scores
from synthlab.measure.students import Student, accuracy, text_and_label, weight_column
from synthlab.tasks.gold import DataError, as_rows, as_table, load_gold
from synthlab.tasks.superglue import read_gold
from synthlab.tasks.task import Label, Task, load_task

POND = Task(name='pond', instruction='Write about {{ verbalisation }}.', labels=[Label(name='frogs', aliases=['0']), Label(name='herons', aliases=['1'])])
ROWS = [{'id': '007', 'text': 'They sing.\r\n', 'label': 'frogs'}, {'id': 'b', 'text': 'NA', 'label': 'herons'}, {'id': 'c', 'text': 'nan', 'label': 'frogs'}]
CLASSES = Features({'id': Value('string'), 'text': Value('string'), 'label': ClassLabel(names=['frogs', 'herons'])})
IN_MEMORY = {
    'dicts': lambda rows: list(rows), 'tuple': tuple, 'frame': pd.DataFrame, 'dataset': Dataset.from_list, 'arrow': pa.Table.from_pylist,
    'categories': lambda rows: pd.DataFrame(rows).astype({'label': 'category'}), 'strings': lambda rows: pd.DataFrame(rows).astype('string'),
    'odd index': lambda rows: pd.DataFrame(rows, index=[7, 7, 3]), 'numpy format': lambda rows: Dataset.from_list(rows).with_format('numpy'),
    'classes': lambda rows: Dataset.from_list(rows).cast_column('label', CLASSES['label']), 'parts': lambda rows: DatasetDict(test=Dataset.from_list(rows)),
    'parts in a dict': lambda rows: {'test': pd.DataFrame(rows), 'train': pd.DataFrame(rows[:1])}, 'numbers': lambda rows: pd.DataFrame(rows).assign(label=[0, 1, 0])}


# ---- gold rows

@pytest.mark.parametrize('kind', IN_MEMORY)
@pytest.mark.parametrize('read', [load_gold, read_gold])
def test_rows_in_memory_are_gold_rows(kind, read):
    assert read(IN_MEMORY[kind](ROWS), POND).to_list() == ROWS


def test_a_part_of_several_is_taken_by_name():
    parts = DatasetDict(train=Dataset.from_list(ROWS[:1]), validation=Dataset.from_list(ROWS[1:]))
    assert load_gold(parts, POND, 'train').to_list() == ROWS[:1]
    with pytest.raises(DataError, match="DatasetDict: no part 'test'; the parts are train, validation"): load_gold(parts, POND)
    with pytest.raises(DataError, match="did you mean 'validation'"): load_gold(parts, POND, 'valiadtion')


def test_columns_are_found_as_in_a_file():
    frame = pd.DataFrame({'review': ['They sing.'], 'stars': [0]})
    assert load_gold(frame, POND, text='review', label='stars').to_list() == [{'id': 'row-1', 'text': 'They sing.', 'label': 'frogs'}]
    with pytest.raises(DataError, match="DataFrame of 1 row(?s:.*)no column 'text'; the columns are 'review', 'stars'"): load_gold(frame, POND)


@pytest.mark.parametrize('made', [pd.DataFrame, list, Dataset.from_list])
def test_faults_of_rows_in_memory_name_row_and_value(made):
    rows = made([{'text': 'Hi', 'label': 'newts'}, {'text': None, 'label': 'frogs'}, {'text': ' ', 'label': None}])
    with pytest.raises(DataError) as refusal: load_gold(rows, POND)
    for part in ['of 3 rows', "row 1: label 'newts' is unknown", 'row 3: label None', 'row 2: text is empty', "row 3: text is empty: ' '"]: assert part in str(refusal.value)


def test_a_missing_label_is_missing_and_not_the_word_nan():
    for missing in (None, np.nan, pd.NA, pd.NaT):
        for rows in (pd.DataFrame({'text': ['a', 'b'], 'label': ['x', missing]}), [{'text': 'a', 'label': 'x'}, {'text': 'b', 'label': missing}]):
            with pytest.raises(DataError, match='row 2: label is empty'): load_gold(rows)


def test_a_text_that_is_a_number_is_refused():
    with pytest.raises(DataError, match='row 2: text is 3, of type int, not a string'): load_gold(pd.DataFrame({'text': ['a', 3], 'label': 0}), POND)


@pytest.mark.parametrize('rows, message', [
    (5, '5, of type int, holds no rows; give a DataFrame, a Dataset, a list of dictionaries, or the name of a file'),
    (pd.Series(['a']), 'of type Series, holds no rows'), (np.array(['a']), 'of type ndarray, holds no rows'),
    ({'text': ['a'], 'label': ['x']}, "a dict with the keys 'text', 'label' is no table; give a DataFrame"), ({}, 'no table'),
    (['a', 'b'], "row 1: 'a' is no dictionary"), ([], 'list of 0 rows: no rows'), (pd.DataFrame({'text': []}), 'no rows; its columns are text'),
    (pd.DataFrame([['a', 'b']], columns=['text', 'text']), "two columns are called 'text'"), (iter(ROWS), 'iterator, holds no rows')])
def test_what_holds_no_rows_is_refused_with_what_to_pass(rows, message):
    with pytest.raises(DataError, match=re.escape(message)): load_gold(rows, POND)


def test_a_task_with_several_fields_takes_rows_in_memory():
    rte, classes = load_task('rte'), Features({'premise': Value('string'), 'hypothesis': Value('string'), 'idx': Value('int32'), 'label': ClassLabel(names=['entailment', 'not_entailment'])})
    columns = {'premise': ['It rains.', 'It snows.'], 'hypothesis': ['It is wet.', 'It is hot.'], 'idx': [0, 1], 'label': [0, 1]}
    wanted = read_gold(pd.DataFrame(columns), rte).to_list()
    assert [row['label'] for row in wanted] == ['entailment', 'not_entailment'] and 'It rains.' in wanted[0]['text']
    assert read_gold(Dataset.from_dict(columns, features=classes), rte).to_list() == wanted
    assert read_gold(DatasetDict(validation=Dataset.from_dict(columns, features=classes)), rte).to_list() == wanted              # there is no labelled test part


def test_names_of_ids_and_places():
    table = as_table(pd.DataFrame({'text': ['a', 'b'], 3: [1, np.nan]}))
    assert (table.name, table.columns, table.place(1)) == ('DataFrame of 2 rows', {'text': ['a', 'b'], '3': [1., None]}, 'row 2')


# ---- texts and labels

FORMS = {
    'tuple': tuple, 'generator': iter, 'Series': pd.Series, 'Series with an odd index': lambda values: pd.Series(list(values), index=[9]*len(values)), 'string dtype': lambda values: pd.Series(list(values), dtype='string'),
    'categories': lambda values: pd.Series(list(values), dtype='category'), 'array': lambda values: np.array(list(values)), 'objects': lambda values: np.array(list(values), dtype=object),
    'Arrow': lambda values: pa.array(list(values)), 'chunks': lambda values: pa.chunked_array([list(values)[:5], list(values)[5:]]), 'column': lambda values: Dataset.from_dict({'v': list(values)})['v'], 'index': pd.Index}
NOUNS = 'Ann Bob Carol Dan Eve Frank'.split()
TEXTS = [f'{NOUNS[i % 6]} saw {number} of the {NOUNS[i % 5]} boats, and she went to London on day {i % 7}.' for i, number in enumerate('one two three four five six seven eight nine ten eleven twelve'.split()*2)]
LABELS = ['boats' if i % 2 else 'people' for i in range(len(TEXTS))]


class Letters:
    "Texts as counts of their three-letter pieces, hashed."
    name = 'letters'

    def encode(self, texts, progress=None):
        assert isinstance(texts, list)
        counts = np.full((len(texts), 256), 1e-6, dtype=np.float32)
        for i, text in enumerate(texts):
            for j in range(len(text)): counts[i, zlib.crc32(text[j:j + 3].encode()) % 256] += 1
        return counts/np.linalg.norm(counts, axis=1, keepdims=True)


class Judge:
    "Knows boats by their name."
    labels = ('boats', 'people')
    def predict(self, texts): return ['boats' if 'two' in text or 'Ann' in text else 'people' for text in texts]


E = Letters()
OF_TEXTS = {
    'self_bleu': metrics.self_bleu, 'self_bleu_scores': self_bleu_scores, 'distinct_n': metrics.distinct_n, 'vocabulary': metrics.vocabulary, 'targen_vocab_sum': metrics.targen_vocab_sum,
    'compression_ratio': metrics.compression_ratio, 'length_distribution': metrics.length_distribution, 'near_duplicates': metrics.near_duplicates, 'earlier_twins': earlier_twins,
    'longest_shared_ngram': lambda texts: metrics.longest_shared_ngram(texts, TEXTS[:3]), 'the others of longest_shared_ngram': lambda texts: metrics.longest_shared_ngram(TEXTS[:3], texts),
    'entity_entropy': metrics.entity_entropy, 'entity_bias': lambda texts: metrics.entity_bias(texts, TEXTS[:12], times=5), 'gold of entity_bias': lambda texts: metrics.entity_bias(TEXTS[:12], texts, times=5),
    'pronoun_ratio': metrics.pronoun_ratio, 'extractor': extractor('rules'), 'mean_cosine': lambda texts: metrics.mean_cosine(texts, E), 'row_cosine': lambda texts: metrics.row_cosine(texts, E),
    'label_cosine': lambda texts: metrics.label_cosine(texts, LABELS, E), 'vendi_score': lambda texts: metrics.vendi_score(texts, E, times=3), 'embedding_duplicates': lambda texts: metrics.embedding_duplicates(texts, embedder=E),
    'real of coverage': lambda texts: metrics.coverage(texts, TEXTS[:20], embedder=E, times=0), 'coverage': lambda texts: metrics.coverage(TEXTS[:20], texts, embedder=E, times=0),
    'real of mmd': lambda texts: metrics.mmd(texts, TEXTS[:20], embedder=E, times=5), 'mmd': lambda texts: metrics.mmd(TEXTS[:20], texts, embedder=E, times=5),
    'novelty': lambda texts: metrics.novelty(texts, {'train': TEXTS[:5]}, E), 'references of novelty': lambda texts: metrics.novelty(TEXTS[:5], {'train': texts}, E),
    'label_preservation': lambda texts: metrics.label_preservation(texts, LABELS, Judge()), 'gold of label_preservation': lambda texts: metrics.label_preservation(TEXTS, LABELS, Judge(), texts, LABELS),
    'gold_classifier': lambda texts: metrics.gold_classifier(texts, LABELS, E).predict(TEXTS[:4]), 'predict': lambda texts: metrics.gold_classifier(TEXTS, LABELS, E).predict(texts),
    'as_embeddings': lambda texts: as_embeddings(texts, E)}
if importlib.util.find_spec('mauve'): OF_TEXTS['mauve'] = lambda texts: metrics.mauve(TEXTS, texts, seeds=[0], embedder=E, times=0)
OF_LABELS = {
    'label_cosine': lambda labels: metrics.label_cosine(TEXTS, labels, E), 'label_preservation': lambda labels: metrics.label_preservation(TEXTS, labels, Judge()),
    'gold labels': lambda labels: metrics.label_preservation(TEXTS, LABELS, Judge(), TEXTS, labels), 'gold_classifier': lambda labels: metrics.gold_classifier(TEXTS, labels, E).predict(TEXTS[:4]),
    'confusion': lambda labels: metrics.confusion(LABELS, labels), 'accuracy': lambda labels: accuracy(np.tile([.4, .6], (len(TEXTS), 1)), labels, ['boats', 'people'])}


def plain(found):
    "All that was found, to compare."
    if isinstance(found, metrics.Metric): return found.to_dict()
    if isinstance(found, tuple): return [plain(part) for part in found]
    return found.tolist() if isinstance(found, np.ndarray) else found


@pytest.mark.parametrize('name', OF_TEXTS)
def test_a_measure_of_texts_takes_them_in_every_form(name):
    wanted = plain(OF_TEXTS[name](TEXTS))
    for form, make in FORMS.items(): assert plain(OF_TEXTS[name](make(TEXTS))) == wanted, form


@pytest.mark.parametrize('name', OF_LABELS)
def test_a_measure_of_labels_takes_them_in_every_form(name):
    classes = Dataset.from_dict({'v': [['boats', 'people'].index(label) for label in LABELS]}).cast_column('v', ClassLabel(names=['boats', 'people']))['v']
    wanted = plain(OF_LABELS[name](LABELS))
    for form, make in {**FORMS, 'classes': lambda _: classes}.items(): assert plain(OF_LABELS[name](make(LABELS))) == wanted, form


FRAME = pd.DataFrame({'id': range(len(TEXTS)), 'text': TEXTS, 'label': LABELS})
TABLES = {'DataFrame': (FRAME, "frame['text']"), 'Dataset': (Dataset.from_pandas(FRAME), "dataset['text']"), 'Table': (pa.Table.from_pandas(FRAME), "table['text']"), 'dict': (FRAME.to_dict('list'), "rows['text']")}


@pytest.mark.parametrize('kind', TABLES)
@pytest.mark.parametrize('name', [*OF_TEXTS])
def test_a_whole_table_is_refused_by_the_names_of_its_columns(name, kind):
    table, pass_this = TABLES[kind]
    with pytest.raises(ValueError) as refusal: OF_TEXTS[name](table)
    for part in (f'got a {kind} with the', "'id', 'text', 'label'", f'pass its column, such as {pass_this}'): assert part in str(refusal.value)


@pytest.mark.parametrize('name', OF_LABELS)
def test_a_whole_table_is_refused_for_labels_too(name):
    with pytest.raises(ValueError, match=r"labels must be one column, got a DataFrame with the columns 'id', 'text', 'label': pass its column, such as frame\['(label|text)'\]"): OF_LABELS[name](FRAME)


@pytest.mark.parametrize('name', OF_TEXTS)
def test_what_is_no_text_is_refused_with_its_place(name):
    with pytest.raises(ValueError, match='got one string: .* Put it in a list'): OF_TEXTS[name](TEXTS[0])
    for bad in (None, np.nan, 3, pd.NA):
        for make in (list, pd.Series, lambda values: np.array(values, dtype=object)):
            with pytest.raises(ValueError, match=r'\[1\] is .*, not a string'): OF_TEXTS[name](make([TEXTS[0], bad, *TEXTS[2:]]))
    with pytest.raises(ValueError, match=r"\[0\] is a row, not a string: pass \[row\['text'\] for row in rows\]"): as_texts(FRAME.to_dict('records'))
    with pytest.raises(ValueError): OF_TEXTS[name](5)


@pytest.mark.parametrize('name', OF_LABELS)
def test_a_missing_label_is_refused_with_its_place(name):
    for bad in (None, np.nan, pd.NA, pd.NaT):
        with pytest.raises(ValueError, match=r'labels\[1\] is (None|nan|<NA>|NaT), not a label'): OF_LABELS[name](pd.Series([LABELS[0], bad, *LABELS[2:]], dtype=object))


def test_numbers_are_labels_as_they_are_written():
    assert as_labels(pd.Series([1, 0])) == as_labels(np.array([1, 0])) == as_labels(['1', '0']) == ['1', '0']


def test_the_embedder_refuses_before_it_loads_anything():
    with pytest.raises(ValueError, match="such as frame\\['text'\\]"): Embedder('no such model').encode(FRAME)


# ---- rows

ROW_FORMS = {'frame': pd.DataFrame, 'Dataset': Dataset.from_list, 'Arrow': pa.Table.from_pylist, 'tuple': tuple}


@pytest.mark.parametrize('form', ROW_FORMS)
def test_what_takes_rows_takes_them_in_every_form(form):
    rows = [{'text': text, 'label': label, 'weight': 1. + i % 2} for i, (text, label) in enumerate(zip(TEXTS, LABELS))]
    made = ROW_FORMS[form](rows)
    assert text_and_label(made) == (TEXTS, LABELS) and weight_column(made) == [row['weight'] for row in rows]
    assert Rows.of(made) == Rows.of(rows) == Rows(TEXTS, LABELS, [row['weight'] for row in rows])
    assert as_rows(made) == rows
    corrected = [{'label_target': a, 'label_corrected': b} for a, b in [('x', 'x'), ('x', 'y'), ('y', None), ('y', 'y')]]
    found = transition_matrix(ROW_FORMS[form](corrected))
    assert (found.labels, found.counts.tolist()) == (transition_matrix(corrected).labels, [[1, 1], [0, 1]])
    assert repair_rates(ROW_FORMS[form](corrected), pd.Series(list('xxyy'))) == repair_rates(corrected, list('xxyy'))


def test_a_student_takes_a_frame_and_a_dataset_with_classes():
    rows = pd.DataFrame({'text': ['a joy', 'dull', 'a joy', 'dull'], 'label': ['good', 'bad', 'good', 'bad']})
    classes = Dataset.from_pandas(rows).class_encode_column('label')
    probs = [Student('minilm', recipe='quick', epochs=1, device='cpu', dtype='float32').fit(made).predict_proba(pd.Series(['a joy'])).tolist() for made in (rows.to_dict('records'), rows, classes)]
    assert probs[0] == probs[1] == probs[2]


def test_rows_without_a_text_or_label_are_refused():
    for made in (pd.DataFrame, Dataset.from_list, list):
        with pytest.raises(ValueError, match="need the columns 'text' and 'label'; there are 'review', 'stars'"): text_and_label(made([{'review': 'a', 'stars': 1}]))
    with pytest.raises(ValueError, match="has the label None, not a string"): text_and_label(pd.DataFrame({'text': ['a', 'b'], 'label': ['x', np.nan]}))
    with pytest.raises(ValueError, match='0 rows'): text_and_label(pd.DataFrame({'text': [], 'label': []}))
