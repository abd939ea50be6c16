"""Tables: cut into chunks, read, checked and written. Knows no job and no queue."""

import csv
import sys

# what bounds a field is MAX_RECORD_BYTES; csv's own limit is one for the whole process and far smaller
csv.field_size_limit(sys.maxsize)
