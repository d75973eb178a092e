"""Room: sub-judgments of pairs, by annotators that have to agree."""
