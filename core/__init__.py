"""The vocabulary: model, dataset, metric, run, protocol, cell, row, published value."""
