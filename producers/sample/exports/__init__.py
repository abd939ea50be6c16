"""Made-up exports of advertising platforms with a known truth, in the shapes that the platforms write."""
