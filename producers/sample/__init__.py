"""Made-up keyword tables with a known truth, for trying the product out, for its tests and for its benchmarks.

The tables have the character of real search-advertising records (160 sparse, partly redundant 0/1 attributes that stem from
a few choices; one to three devices for each keyword; most rows with one to three clicks, a few with hundreds) but every
number in them is invented here.

No value is drawn from a generator with a state. Every value is a hash of the seed, the name of the value
and the keyword (and device and week where it depends on them). So a keyword is the same in every table of a seed, the size
of a block changes nothing, a shorter table is the beginning of a longer one, and ``true_cr`` needs no table.
"""
