"""Table formats: cutting tables into chunks, reading and checking rows, and writing output. Knows nothing of jobs or the queue."""

import csv
import sys

# MAX_RECORD_BYTES bounds a field; csv's own limit is process-wide and far smaller
csv.field_size_limit(sys.maxsize)
