def test_texts_are_near_to_the_demonstration_that_they_follow(pocket):
    "Nearer than to those of other texts of the label; the packaged weights reach about .1, ones that do not look at demonstrations .02."
    task, embedder = load_task('ag_news'), default_embedder()
    shown = list(written_rows(task, 'test'))[::2]
    requests = [Request(messages(task, row['label'], (row['text'],)), Sampling(task.max_new_tokens, .95, .9), cue=task.cue, seed=n) for n, row in enumerate(shown)]
    written = [reply.text or '-' for reply in pocket.complete(requests, repair=False, progress=False)]
    cosines = np.asarray(embedder.encode(written)) @ np.asarray(embedder.encode([row['text'] for row in shown])).T
    labels = np.array([row['label'] for row in shown])
    others = np.equal.outer(labels, labels) & ~np.eye(len(labels), dtype=bool)
    assert np.diag(cosines).mean() > cosines[others].mean() + .05
