"""Tables and pictures: pure functions of records, scores and saved pictures. Nothing stored is recomputed."""
