"""Measure: how good are the rows, and what do they teach a student?"""
# Below the docstring, written by tests/tools/folder_faces.py.
import lazy_loader

_HOMES = {
    'classifiers': ['TrainConfig'],
    'dataset': ['LabelledDataset'],
    'entities': ['RuleExtractor', 'SpacyExtractor', 'TransformersExtractor', 'entity_bias', 'entity_entropy',
        'pronoun_ratio'],
    'evaluate': ['Material'],
    'fidelity': ['coverage', 'mauve', 'mmd'],
    'gradients': ['g_vendi', 'gradient_features', 'linear_layers', 'sketch'],
    'labels': ['label_preservation'],
    'lexical': ['ShingleIndex', 'compression_ratio', 'distinct_n', 'length_distribution', 'near_duplicates',
        'self_bleu', 'self_bleu_scores', 'targen_vocab_sum', 'vocabulary'],
    'metric': ['Measure', 'Metric', 'add_measure', 'bootstrap_interval', 'equal_sizes', 'half_sample_interval',
        'wilson_interval'],
    'parts': ['validation_rows'],
    'quality': ['Subject', 'compare'],
    'report': ['Comparison', 'RunView', 'report_html', 'show_run', 'write_report'],
    'review': ['Applied', 'Sheet', 'apply_review', 'read_export', 'write_review'],
    'semantic': ['embedding_duplicates', 'label_cosine', 'mean_cosine', 'novelty', 'vendi_score'],
    'students': ['ByRows', 'Cartography', 'PVI', 'Probe', 'Student', 'accuracy', 'cartography', 'pvi',
        'score_seeds', 'spread_labels', 'train_on'],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
