"""Task and queue names on the wire: the only things producers know of workers."""

SCORE_PLAN = "score.plan"
SCORE_CHUNK = "score.chunk"
SCORE_FINISH = "score.finish"
TRAIN_FIT = "train.fit"
TRAIN_CANDIDATE = "train.candidate"
NOTIFY = "notify"
SWEEP = "sweep"
PROBE = "canary"
GC = "gc"

QUEUE_TRAIN = "train"
QUEUE_SCORE = "score"
QUEUE_CONTROL = "control"
QUEUES = (QUEUE_CONTROL, QUEUE_SCORE, QUEUE_TRAIN)

QUEUE_OF_TASK = {
    SCORE_PLAN: QUEUE_CONTROL,
    SCORE_CHUNK: QUEUE_SCORE,
    SCORE_FINISH: QUEUE_CONTROL,
    TRAIN_FIT: QUEUE_TRAIN,
    TRAIN_CANDIDATE: QUEUE_TRAIN,
    NOTIFY: QUEUE_CONTROL,
    SWEEP: QUEUE_CONTROL,
    GC: QUEUE_CONTROL,
    PROBE: QUEUE_CONTROL,  # or another, by name: it asks whether a queue is served
}
"""A finish must never wait behind 20,000 chunks, nor a chunk behind a training: hence three queues."""
