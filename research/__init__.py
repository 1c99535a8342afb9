"""Measurements that do not ship: evaluators, comparisons, and the tables of results."""
