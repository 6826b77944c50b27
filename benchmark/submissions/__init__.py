"""Methods from outside: their folder of results, its checks, and running published cells again."""
