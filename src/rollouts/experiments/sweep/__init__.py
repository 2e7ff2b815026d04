"""Experiments: methods x budgets x seeds on one task, under one total budget, with records, comparison and report."""
