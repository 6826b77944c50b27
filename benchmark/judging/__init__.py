"""Judged win rate: a language model compares students' replies with the data set's chosen responses."""
