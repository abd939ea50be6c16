"""Task and queue names on the wire; producers know nothing else of workers."""

SCORE_PLAN = "score.plan"
SCORE_CHUNK = "score.chunk"
SCORE_FINISH = "score.finish"
TRAIN_FIT = "train.fit"
TRAIN_CANDIDATE = "train.candidate"
NOTIFY = "notify"
SWEEP = "sweep"
PROBE = "canary"
GC = "gc"
EXPLAIN = "explain"

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
    EXPLAIN: QUEUE_SCORE,  # whose processes have the definitions in memory; if they are busy, also the queue control
    PROBE: QUEUE_CONTROL,  # or any other queue, by name: it checks that the queue is served
}
"""Three queues, so that a finish never waits for 20,000 chunks, nor a chunk for a training."""
