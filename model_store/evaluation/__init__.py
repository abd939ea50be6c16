"""How good a release is: figures, comparison with others, and whether it may become champion."""
