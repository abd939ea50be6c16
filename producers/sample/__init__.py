"""Made-up keyword tables with a known truth, for trials of the product, its tests and its benchmarks.

The tables resemble real search-advertising records (160 sparse, partly redundant 0/1 attributes that derive from a few choices; one to
three devices for each keyword; most rows with one to three clicks, a few with hundreds), but every number in them is invented.

No value comes from a stateful generator. Every value is a hash of the seed, the name of the value and the keyword (and of device and
week where it depends on them). So a keyword is the same in every table of a seed, the size of a block changes nothing, a shorter table is
the beginning of a longer one, and ``true_cr`` needs no table.
"""
