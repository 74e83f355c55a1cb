"""What the program costs, each figure beside a yardstick of the same run: `python -m tests.benchmarks`.

Servers and clients are processes of their own on loopback, under TLS. Only ratios say anything about another machine.
"""
