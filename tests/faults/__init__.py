"""The promises of the whole: no write made twice, no answer lost or crossed, no hang, no leak, nobody let in.

A test bears the number of the goal that it proves: ``test_g05_...``.
"""
