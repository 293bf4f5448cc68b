"""Traffic: a seeded synthetic stream, the replay of real invoices, the player that sends both, and the demo.

Nothing here knows what the worker will answer. Events carry a *kind*, which says what a producer
meant by sending them, never what should become of them.
"""
