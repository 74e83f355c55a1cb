"""Random nights: many seeded campaigns of many nights with crashes, refusals, outages, changes of mind.

What the relay truly took, what the account server truly answered and in which order is kept in a `journal`. A `judge` that knows
nothing of the program but its promises looks at the journal, the ledger's file and the report after every run of a `life`.
"""
