"""MIPRO and its peers on the same tasks, rows, model, proposals and number of calls."""
